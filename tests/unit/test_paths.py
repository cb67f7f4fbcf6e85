"""Path patching is the model itself where all is kept, the reference where all is cut, hooks by hand in between."""

import numpy as np
import pytest
import torch

from tslens.causal.ablator import Ablator, Intervention
from tslens.causal.means import read_means
from tslens.causal.path_graph import Logits, PathGraph, TokenAt
from tslens.causal.paths import PathPatcher, mean_written, written_on
from tslens.errors import ModelError, UsageError
from tslens.model.batches import IGNORED
from tslens.model.spec import ModelSpec
from tslens.model.transformer import TinyTransformer
from tslens.types import HeadId

N_POS, D_VOCAB, HEADS = 11, 60, 4


@pytest.fixture(scope="module")
def model(random_model):
    """Three layers, so that an edge skips one; float64, so that no difference hides in rounding."""
    return random_model("l3_h64").to(torch.float64)


@pytest.fixture(scope="module")
def token_rows():
    """Rows of tokens, some shorter than the prompt."""
    generator = np.random.default_rng(3)
    return [generator.integers(1, D_VOCAB, length) for length in (30, 14, 12, 9, 7)]


def draw_tokens(seed, n_pos=N_POS):
    return torch.randint(1, D_VOCAB, (n_pos,), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def tokens():
    return draw_tokens(1)


@pytest.fixture(scope="module")
def by_prompt(model, tokens):
    return PathPatcher(model, tokens, written_on(model, draw_tokens(2)))


@pytest.fixture(scope="module")
def by_mean(model, tokens, token_rows):
    return PathPatcher(model, tokens, mean_written(model, token_rows, n_pos=N_POS))


def last_logits(model, tokens):
    with torch.no_grad():
        return model(tokens[None])[0, -1]


def number_of(graph, sender, receiver):
    """Numbers of a sender and a receiver by their names."""
    return [*map(str, graph.senders)].index(sender), [*map(str, graph.receivers)].index(receiver)


def test_all_kept_is_the_model_and_all_cut_the_other_prompt(model, tokens, by_prompt, by_mean):
    for patcher in (by_prompt, by_mean):
        (kept,) = patcher.logits([patcher.graph.whole])
        torch.testing.assert_close(kept, last_logits(model, tokens), atol=1e-9, rtol=0)
    (cut,) = by_prompt.logits([np.zeros_like(by_prompt.graph.whole)])
    torch.testing.assert_close(cut, last_logits(model, draw_tokens(2)), atol=1e-9, rtol=0)


def test_the_means_alone_are_their_sum(model, token_rows, by_mean):
    means = read_means(
        model,
        [(torch.tensor(row[None, :-1]), torch.tensor([len(row) - 1])) for row in token_rows],
        n_pos=N_POS,
    )
    at = N_POS - 1
    reach = [row for row in token_rows if len(row) - 1 > at]
    resid = model.W_E[[int(row[at]) for row in reach]].mean(0) + model.W_pos[at]
    for layer, block in enumerate(model.blocks):
        resid = resid + block.attn.write(means.z[layer][None, at : at + 1])[0, 0]
        resid = resid + block.mlp.write(means.post[layer][at])
    (cut,) = by_mean.logits([np.zeros_like(by_mean.graph.whole)])
    torch.testing.assert_close(cut, model.unembed(model.ln_final(resid)), atol=1e-9, rtol=0)


@pytest.mark.parametrize("head", [HeadId(0, 2), HeadId(1, 0), HeadId(2, 3)])
def test_a_head_without_edges_out_is_ablated_by_its_mean(model, tokens, token_rows, by_mean, head):
    batch = [(torch.tensor(row[None, :-1]), torch.tensor([len(row) - 1])) for row in token_rows]
    ablator = Ablator(model, read_means(model, batch, n_pos=N_POS))
    targets = torch.full((1, N_POS), IGNORED)
    targets[0, -1] = 7

    class Rows:
        length, other = torch.tensor([N_POS]), None
        at = targets != IGNORED

    Rows.tokens, Rows.targets = tokens[None], targets
    losses = ablator.losses_of(Rows, [Intervention((head,), "mean")])
    keep = by_mean.graph.whole.copy()
    keep[number_of(by_mean.graph, str(head), "logits")[0]] = False
    (logits,) = by_mean.logits([keep])
    assert -logits.log_softmax(-1)[7] == pytest.approx(float(losses.under[0, 0]), abs=1e-9)
    assert abs(losses.delta[0, 0]) > 1e-4


EDGES = [
    ("L0H1", "L2H2"),
    ("L0H1", "L0.mlp"),
    ("L0.mlp", "L1H3"),
    ("L1H0", "L2.mlp"),
    ("L0H3", "logits"),
    ("T4", "L1H2"),
    (f"T{N_POS - 1}", "logits"),
    ("T3", "L0.mlp"),
]


@pytest.mark.parametrize(("sender", "receiver"), EDGES)
def test_one_edge_is_cut_as_hooks_by_hand_would(model, tokens, by_prompt, sender, receiver):
    """The receiver's normalised input is made anew from the residual stream with the sender's part exchanged."""
    other = draw_tokens(2)
    _, clean = model.run_with_cache(tokens[None])
    _, stand_in = model.run_with_cache(other[None])

    def wrote(cache):
        if sender[0] == "T":
            part = torch.zeros_like(cache["hook_embed"])
            part[:, int(sender[1:])] = cache["hook_embed"][:, int(sender[1:])]
            return part
        layer = int(sender[1])
        if sender.endswith("mlp"):
            return cache[f"blocks.{layer}.hook_mlp_out"]
        head = int(sender[3:])
        return cache[f"blocks.{layer}.attn.hook_z"][:, :, head] @ model.blocks[layer].attn.W_O[head]

    change = wrote(stand_in) - wrote(clean)
    assert change.abs().max() > 1e-3
    if receiver == "logits":
        expected = model.unembed(model.ln_final(clean["blocks.2.hook_resid_post"] + change))[0, -1]
    else:
        block = model.blocks[int(receiver[1])]
        name = f"blocks.{receiver[1]}"
        if receiver.endswith("mlp"):
            new = block.mlp(block.ln2(clean[f"{name}.hook_resid_mid"] + change))
            hooks = [(f"{name}.hook_mlp_out", lambda given, hook: new)]
        else:
            head = int(receiver[3:])
            read = block.ln1(clean[f"{name}.hook_resid_pre"] + change)

            def replace(weight):
                def hook_of(given, hook):
                    given = given.clone()
                    given[:, :, head] = read @ weight[head]
                    return given

                return hook_of

            attn = block.attn
            weights = zip("qkv", (attn.W_Q, attn.W_K, attn.W_V), strict=True)
            hooks = [(f"{name}.attn.hook_{part}", replace(weight)) for part, weight in weights]
        with torch.no_grad():
            expected = model.run_with_hooks(tokens[None], fwd_hooks=hooks)[0, -1]
    keep = by_prompt.graph.whole.copy()
    keep[number_of(by_prompt.graph, sender, receiver)] = False
    assert keep.sum() == by_prompt.graph.whole.sum() - 1
    (logits,) = by_prompt.logits([keep])
    torch.testing.assert_close(logits, expected, atol=1e-9, rtol=0)


def test_rows_do_not_know_each_other(by_mean):
    graph, generator = by_mean.graph, np.random.default_rng(0)
    keeps = [graph.whole & (generator.random(graph.whole.shape) < 0.7) for _ in range(20)]
    keeps.insert(3, graph.whole)
    together = by_mean.logits(keeps)
    alone = torch.cat([by_mean.logits([keep]) for keep in keeps])
    torch.testing.assert_close(together, alone, atol=1e-9, rtol=0)


def test_the_window_of_a_local_layer_holds(random_model):
    """A prompt longer than the window of layer 1: its first token reaches the last position by layer 0 only."""
    model = random_model("l2_h32").to(torch.float64)
    tokens, n_pos = draw_tokens(4, 262), 262
    patcher = PathPatcher(model, tokens, written_on(model, draw_tokens(5, 262)))
    (kept,) = patcher.logits([patcher.graph.whole])
    torch.testing.assert_close(kept, last_logits(model, tokens), atol=1e-9, rtol=0)
    keep = patcher.graph.whole.copy()
    second = [
        i for i, one in enumerate(patcher.graph.receivers) if isinstance(one, HeadId) and one.layer == 1
    ]
    keep[np.ix_(range(n_pos - 256), second)] = False
    torch.testing.assert_close(patcher.logits([keep])[0], kept, atol=1e-9, rtol=0)
    keep[n_pos - 256, second] = False
    assert (patcher.logits([keep])[0] - kept).abs().max() > 1e-9


def test_the_edges_of_a_small_graph_by_hand():
    graph = PathGraph(2, 1, 3, sources=[1, 2])
    named = {(str(graph.senders[s]), str(graph.receivers[r])) for s, r in graph.edges.tolist()}
    heads = {
        ("T1", "L0H0"),
        ("T2", "L0H0"),
        ("T1", "L0.mlp"),
        ("T2", "L0.mlp"),
        ("T1", "L1H0"),
        ("T2", "L1H0"),
    }
    ends = {("T2", "L1.mlp"), ("T2", "logits")}
    from_units = {
        *(("L0H0", one) for one in ("L0.mlp", "L1H0", "L1.mlp", "logits")),
        *(("L0.mlp", one) for one in ("L1H0", "L1.mlp", "logits")),
        *(("L1H0", one) for one in ("L1.mlp", "logits")),
        ("L1.mlp", "logits"),
    }
    assert named == heads | ends | from_units and len(graph.edges) == len(named)
    assert graph.senders[0] == TokenAt(0) and graph.receivers[-1] == Logits()


def test_tokens_that_both_prompts_share_are_no_senders(model, tokens):
    other = tokens.clone()
    other[[2, 5]] = torch.tensor([3, 4])
    graph = PathPatcher(model, tokens, written_on(model, other)).graph
    differ = {i for i in (2, 5) if tokens[i] != other[i]}
    assert {str(graph.senders[s]) for s, _ in graph.edges if s < N_POS} == {f"T{i}" for i in differ}


def is_on_paths(graph, keep):
    """Whether each kept edge lies on a path, by walking from every token to every end."""
    following = {}
    for s, r in graph.edges.tolist():
        if keep[s, r]:
            following.setdefault(s, []).append(r)
    on_path = set()

    def walk(sender, path):
        for receiver in following.get(sender, []):
            if receiver == graph.n_units:
                on_path.update([*path, (sender, receiver)])
            else:
                walk(graph.n_pos + receiver, [*path, (sender, receiver)])

    for token in range(graph.n_pos):
        walk(token, [])
    return on_path


def test_dead_ends_and_random_sets():
    graph, generator = PathGraph(2, 2, 4, sources=range(1, 4)), np.random.default_rng(0)
    for share in (0.1, 0.3, 0.6):
        for _ in range(10):
            keep = graph.whole & (generator.random(graph.whole.shape) < share)
            found = graph.on_paths(keep)
            assert {(s, r) for s, r in zip(*map(list, found.nonzero()), strict=True)} == is_on_paths(
                graph, keep
            )
    for n_edges in (1, 2, 3, 9, len(graph.edges)):
        drawn = [graph.draw(n_edges, generator) for _ in range(8)]
        assert all(one.sum() == n_edges and (graph.on_paths(one) == one).all() for one in drawn)
    many = np.mean([graph.draw(6, generator) for _ in range(300)], axis=0)
    assert (many[graph.whole] > 0).all()  # every edge is drawn at some time


def test_what_cannot_be_patched_is_refused(model, tokens, random_model):
    with pytest.raises(ModelError, match="our own models"):
        written_on(random_model("gpt2"), tokens)
    with pytest.raises(UsageError, match="11 tokens, what stands in for them 9"):
        PathPatcher(model, tokens, written_on(model, draw_tokens(2, 9)))
    hooked = TinyTransformer(ModelSpec.from_name("l1_h32"), D_VOCAB, seed=0)
    hooked.add_hook("blocks.0.attn.hook_z", lambda given, hook: given)
    with pytest.raises(ModelError, match="hooks"):
        written_on(hooked, tokens)
    with pytest.raises(ValueError, match="no set of 1 edges"):
        PathGraph(1, 1, 3, sources=[1]).draw(1, np.random.default_rng(0))
