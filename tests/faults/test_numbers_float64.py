"""The model in float64 against an independent float64 implementation, and float32 against float64.

What is stated here holds for weights far from zero (attention that is not uniform, logits up to some tens): largest
differences between float32 and float64 of 3e-6 of a logit's scale, 2e-5 of a probability, 3e-5 nats.
"""

import copy

import numpy as np
import pytest
import torch

from tslens.model.loss import loss_per_target, summed_loss
from tslens.probes.base import Calibration, find_probes
from tslens.probes.batch import batch_of_stories, batch_of_tokens
from tslens.probes.plan import make_plan

EXACT = 1e-11  # of the largest number: float64 sums in another order
LOGITS, PATTERNS, LOSSES = 3e-6, 2e-5, 3e-5  # float32: of the largest logit; of a probability; nats


def layer_norm(x, w, b, eps=1e-5):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * w + b


def gelu_new(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def by_hand(model, tokens):
    """Logits and patterns of a model in numpy, float64, from its state dict alone; GPT-Neo as the papers have it."""
    state = {name: value.detach().double().numpy() for name, value in model.state_dict().items()}
    n_pos = tokens.shape[1]
    distance = np.arange(n_pos)[:, None] - np.arange(n_pos)[None]
    x = state["embed.W_E"][tokens] + state["pos_embed.W_pos"][:n_pos]
    patterns = []
    for layer in range(model.cfg.n_layers):
        of = {name.split(".", 2)[2]: v for name, v in state.items() if name.startswith(f"blocks.{layer}.")}
        normed = layer_norm(x, of["ln1.w"], of["ln1.b"])
        q, k, v = (np.einsum("spd,hde->sphe", normed, of[f"attn.W_{part}"]) for part in "QKV")
        scores = np.einsum("sqhe,skhe->shqk", q, k)  # not divided by the root of the width
        allowed = (distance >= 0) & ((distance < 256) | (layer % 2 == 0))
        patterns.append(softmax(np.where(allowed, scores, -np.inf)))
        z = np.einsum("shqk,skhe->sqhe", patterns[-1], v)
        x = x + np.einsum("sqhe,hed->sqd", z, of["attn.W_O"]) + of["attn.b_O"]
        post = gelu_new(layer_norm(x, of["ln2.w"], of["ln2.b"]) @ of["mlp.W_in"] + of["mlp.b_in"])
        x = x + post @ of["mlp.W_out"] + of["mlp.b_out"]
    return layer_norm(x, state["ln_final.w"], state["ln_final.b"]) @ state["embed.W_E"].T, patterns


def losses_by_hand(logits, tokens):
    """Of each target, ``tokens[:, 1:]``."""
    top = logits[:, :-1].max(-1, keepdims=True)
    log_sum = (top + np.log(np.exp(logits[:, :-1] - top).sum(-1, keepdims=True)))[..., 0]
    return log_sum - np.take_along_axis(logits[:, :-1], tokens[:, 1:, None], 2)[..., 0]


@pytest.fixture(scope="module", params=["l3_h64", "l1_h64", "l2_h64"])
def told(request, random_model, how_many):
    """A model in both precisions, tokens beyond the window of 256, and the truth."""
    if request.param_index >= how_many(1, 3):
        pytest.skip("in the full suite")
    model = random_model(request.param)
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, model.cfg.d_vocab, (how_many(1, 6), how_many(300, 512)))
    logits, patterns = by_hand(model, tokens)
    return model, copy.deepcopy(model).double(), tokens, logits, patterns


def test_logits(told):
    model, precise, tokens, logits, _ = told
    with torch.no_grad():
        fast, slow = (one(torch.from_numpy(tokens)).double().numpy() for one in (model, precise))
    scale = np.abs(logits).max()
    assert scale > 2
    print(f"float32 logits: {np.abs(fast - logits).max():.1e}, of a scale of {scale:.1f}")
    assert np.abs(slow - logits).max() < EXACT * scale
    assert 0 < np.abs(fast - logits).max() < LOGITS * scale


def test_patterns(told):
    model, precise, tokens, _, patterns = told
    for one, bound in ((model, PATTERNS), (precise, EXACT)):
        for found, truth in zip(one.attention_patterns(torch.from_numpy(tokens)), patterns, strict=True):
            assert np.abs(found.double().numpy() - truth).max() < bound
            assert not np.any(found.numpy()[truth == 0])


def test_neurons_and_a_run_from_the_middle(told):
    """A change of what layer 0 writes: the run again from there is the model by hand with other weights."""
    _, precise, tokens, _, _ = told
    changed = copy.deepcopy(precise)
    with torch.no_grad():
        changed.blocks[0].mlp.W_out[3] *= 2
    truth, _ = by_hand(changed, tokens)
    ids = torch.from_numpy(tokens)
    activation = next(iter(precise.neuron_activations(ids)))[..., 3]
    extra = torch.einsum("rp,d->rpd", activation, precise.mlp_output(0)[3])[None]
    with torch.no_grad():
        found = precise.unembed(precise.prefix(ids).rerun(0, extra, part="mlp")[0]).numpy()
    assert np.abs(found - truth).max() < EXACT * np.abs(truth).max()


def test_losses(told):
    """Of stories of several lengths, by what evaluates and by what trains; padding says nothing."""
    model, precise, tokens, logits, _ = told
    truth = losses_by_hand(logits, tokens)
    lengths = [tokens.shape[1] - 37 * i for i in range(len(tokens))]
    stories = [row[:n] for row, n in zip(tokens, lengths, strict=True)]
    for one, bound in ((model, LOSSES), (precise, EXACT * 100)):
        for found, right, n in zip(loss_per_target(one, stories), truth, lengths, strict=True):
            assert np.abs(found - right[: n - 1]).max() < bound
    final = precise.final_residual(torch.from_numpy(tokens))
    total = summed_loss(final[:, :-1], precise.embed.W_E, torch.from_numpy(tokens[:, 1:]))
    assert total.item() == pytest.approx(truth.sum(), rel=1e-12)


def test_the_gradient_in_float64_is_that_of_differences(told):
    """Of the loss that is never held whole: against central differences, at the largest gradients."""
    _, precise, tokens, _, _ = told
    model = copy.deepcopy(precise).train()
    ids, weight = torch.from_numpy(tokens[:1, :40]), model.blocks[0].attn.W_Q

    def loss():
        return summed_loss(model.final_residual(ids)[:, :-1], model.embed.W_E, ids[:, 1:])

    loss().backward()
    gradient = weight.grad.clone()
    for place in gradient.abs().flatten().topk(5).indices.tolist():
        flat = weight.data.view(-1)
        before, ends = flat[place].item(), []
        for step in (1e-5, -1e-5):
            flat[place] = before + step
            with torch.no_grad():
                ends.append(loss().item())
        flat[place] = before
        assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(gradient.view(-1)[place].item(), rel=1e-5)


# Probes -----------------------------------------------------------------------------------------------------


def mean_over_stories(batch, targets_of):
    """Mean over queries with targets of the attention to these, then over stories; plain loops."""

    def read(pattern):
        of_stories = []
        for row in range(len(batch.length)):
            found = []
            for query in range(1, batch.length[row]):
                keys = targets_of(row, query)
                if keys:
                    found.append(sum(pattern[row, :, query, key] for key in keys))
            if found:
                of_stories.append(np.mean(found, axis=0))
        return np.mean(of_stories, axis=0)

    return read


def targets(name, batch):
    """The keys of a query, from the definition in words."""
    tokens = batch.tokens
    return {
        "previous_token": lambda row, query: [query - 1],
        "first_token": lambda row, query: [0],
        "duplicate_token": lambda row, query: [
            key for key in range(1, query) if tokens[row, key] == tokens[row, query]
        ],
    }[name]


@pytest.mark.parametrize("name", ["previous_token", "first_token", "duplicate_token"])
def test_scores_of_probes(name, told, stories, tokenizer):
    _, precise, _, _, _ = told
    batch = batch_of_stories(stories[:12], tokenizer, n_ctx=precise.cfg.n_ctx)
    _, patterns = by_hand(precise, batch.tokens)
    slow = mean_over_stories(batch, targets(name, batch))
    for pattern in patterns:
        found = find_probes()[name].score(torch.from_numpy(pattern), batch).numpy()
        assert np.abs(found - slow(pattern)).max() < 1e-13


def test_the_score_of_induction():
    rng = np.random.default_rng(3)
    rows = [[0, *r, *r] for r in (rng.permutation(np.arange(1, 90))[:n].tolist() for n in (6, 11, 20))]
    rows += [[0, *rng.permutation(np.arange(1, 90))[: len(row) - 1].tolist()] for row in rows]
    batch = batch_of_tokens(rows, range(3))
    pattern = np.tril(rng.random((6, 2, batch.tokens.shape[1], batch.tokens.shape[1])))
    pattern /= pattern.sum(-1, keepdims=True)
    slow = np.mean(
        [
            np.mean([pattern[i, :, q, q - n + 1] for q in range(n + 1, 2 * n + 1)], axis=0)
            for i, n in enumerate((6, 11, 20))
        ],
        axis=0,
    )
    found = find_probes()["induction"].score(torch.from_numpy(pattern), batch).numpy()
    assert np.abs(found - slow).max() < 1e-13


def summed(pairs, pattern):
    """Weighted attention of the pairs of each story, pair by pair: [cluster, head]."""
    found = np.zeros((len(pattern), pattern.shape[1]))
    for at, r, q, k, w in zip(pairs.cluster, pairs.row, pairs.query, pairs.key, pairs.weight, strict=True):
        found[at] += w * pattern[r, :, q, k]
    return found


def test_what_a_scan_reads_off_a_pattern_is_what_the_pairs_say(told, stories, tokenizer):
    """All probes that need no labels, nulls by pairs among them: float32 reading against float64 loops over pairs."""
    model, _, _, _, _ = told
    probes = [probe for probe in find_probes().values() if not probe.labels.scheme]
    batch = batch_of_stories(stories[:6], tokenizer, n_ctx=model.cfg.n_ctx)
    calibration = Calibration(np.bincount(batch.tokens[batch.is_query], minlength=model.cfg.d_vocab))
    plan = make_plan(batch, probes, calibration)
    _, patterns = by_hand(model, batch.tokens)
    read = plan.read(torch.from_numpy(patterns[0]).float(), local=False).double().numpy()
    column = {(m.probe, m.position, m.kind, m.null): i for i, m in enumerate(plan.measures)}
    n_compared = 0
    for probe in probes:
        if probe.name == "induction":  # reads sequences of its own
            continue
        for row in probe.rows(batch, calibration):
            value = summed(row.value, patterns[0])
            nulls = {"": 0.0} | {
                name: summed(null.pairs, patterns[0]) if null.pairs else null.number[0][:, None]
                for name, null in row.nulls.items()
                if null.pairs or null.number
            }
            for null, slow in nulls.items():
                kind = "null" if null else "value"
                found = read[:, column[probe.name, row.position, kind, null]]
                assert np.abs(found - (value - slow)).max() < 1e-6, (probe.name, row.position, null)
                n_compared += 1
    assert n_compared >= 8
