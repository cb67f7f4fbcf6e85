"""A path is cut as a hook by hand cuts it: effects, changed outputs, losses; controls change as much."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tslens.causal.means import read_means
from tslens.link.composition.asked import Path, PathText, Receiver, Sender
from tslens.link.composition.effects import read_all, read_chosen, read_losses
from tslens.link.composition.heads import UntouchedHead
from tslens.link.composition.paths import Controls, PathRun, Places, random_rotations
from tslens.probes.batch import batch_of_tokens
from tslens.probes.programs.roles import Role, RoleText
from tslens.types import HeadId, NeuronId

N_POS = 14
LENGTHS = (14, 9, 14)
WINDOW = 6
ROLE = Role("name", "word")
RECEIVER = HeadId(2, 1)
SENDERS = {
    "neuron": (NeuronId(0, 7),),
    "head": (HeadId(1, 2),),
    "neurons of two layers": (NeuronId(0, 7), NeuronId(0, 9), NeuronId(1, 3)),
}


@pytest.fixture(scope="module")
def model(random_model):
    model = random_model("l3_h64").double()
    for block in model.blocks:  # scores of a random model without 1/sqrt(d_head) leave one key all the mass
        block.attn.W_Q.data.mul_(0.1)
    model.blocks[2].attn.window = WINDOW
    return model


@pytest.fixture(scope="module")
def text(tokenizer):
    rng = np.random.default_rng(3)
    batch = batch_of_tokens(
        [rng.integers(1, tokenizer.vocab_size, n).tolist() for n in LENGTHS], clusters=(11, 12, 13)
    )
    related = rng.random((3, N_POS, N_POS)) < 0.4
    related &= np.tri(N_POS, k=-1, dtype=bool) & batch.is_query[:, :, None]
    related[1] = False  # a story without such pairs
    served = rng.random((3, N_POS)) < 0.5
    served &= batch.is_query & (np.arange(N_POS) < batch.length[:, None] - 1)
    code = torch.from_numpy(np.flatnonzero(related))
    label = torch.from_numpy(rng.random((3, N_POS)) < 0.4)
    label[:, 0] = False
    label[0] = False
    label[0, [2, 5, 6]] = True
    return PathText(RoleText(batch, {ROLE: code}, {"name": served}), {"label": label})


@pytest.fixture(scope="module")
def means(model, text):
    batch = text.text.batch
    rows = [(torch.from_numpy(batch.tokens), torch.from_numpy(batch.length))]
    return read_means(model, rows, n_pos=N_POS)


def cache_of(model, tokens):
    with torch.no_grad():
        return model.run_with_cache(tokens)[1]


def written_change(model, cache, units, means):
    """How what the units write changes, at every position, from a cache."""
    total = 0
    for unit in units:
        if isinstance(unit, NeuronId):
            given = cache[f"blocks.{unit.layer}.mlp.hook_post"][:, :, unit.index]
            missing = means.post[unit.layer, :, unit.index] - given
            total = total + missing[:, :, None] * model.blocks[unit.layer].mlp.W_out[unit.index]
        else:
            given = cache[f"blocks.{unit.layer}.attn.hook_z"][:, :, unit.index]
            missing = means.z[unit.layer, :, unit.index] - given
            total = total + missing @ model.blocks[unit.layer].attn.W_O[unit.index]
    return total


def cut_by_hand(model, text, units, name, means):
    """Pattern and z of the receiver, and losses, with one input replaced by a hook; and the same untouched."""
    tokens = text.text.tokens
    cache = cache_of(model, tokens)
    change = written_change(model, cache, units, means) * text.labels["label"][:, :, None]
    block = model.blocks[RECEIVER.layer]
    resid = cache[f"blocks.{RECEIVER.layer}.hook_resid_pre"] + change
    centred = resid - resid.mean(-1, keepdim=True)
    read = centred / (centred.square().mean(-1, keepdim=True) + block.ln1.eps).sqrt()
    read = read * block.ln1.w + block.ln1.b
    new = read @ getattr(block.attn, f"W_{name.upper()}")[RECEIVER.index]
    seen = {}

    def put(given, hook):
        given[:, :, RECEIVER.index] = new
        return given

    def keep(given, hook):
        seen[hook.name.rsplit("_", 1)[1]] = given[..., RECEIVER.index, :, :].clone()

    def keep_z(given, hook):
        seen["z"] = given[:, :, RECEIVER.index].clone()

    found = []
    prefix = f"blocks.{RECEIVER.layer}.attn.hook_"
    watch = [(prefix + "pattern", keep), (prefix + "z", keep_z)]
    for hooks in (watch, [(prefix + name, put), *watch]):
        with torch.no_grad():
            logits = model.run_with_hooks(tokens, fwd_hooks=hooks)
        loss = F.cross_entropy(logits[:, :-1].transpose(1, 2), tokens[:, 1:], reduction="none")
        found.append((seen["pattern"].clone(), seen["z"].clone(), loss))
    return found


def measure_by_hand(model, text, name, pattern, values):
    """The measure of each row by loops over its pairs."""
    label, pairs = text.labels["label"], text.pairs(ROLE).T.tolist()
    found = []
    for row in range(len(label)):
        of_query = {}
        for query, key in ((query, key) for mine, query, key in pairs if mine == row):
            place = query if name == "q" else key
            if label[row, place] and query - key < WINDOW:
                of_query.setdefault(query, []).append(key)
        if not of_query:
            found.append(None)
        elif name != "v":
            masses = [sum(float(pattern[row, q, k]) for k in keys) for q, keys in of_query.items()]
            found.append(sum(masses) / len(masses))
        else:
            found.append(
                {q: sum(pattern[row, q, k] * values[row, k] for k in keys) for q, keys in of_query.items()}
            )
    return found


@pytest.mark.parametrize("name", ["q", "k", "v"])
@pytest.mark.parametrize("units", SENDERS.values(), ids=SENDERS)
def test_a_path_is_cut_as_by_a_hook(model, text, means, units, name):
    (clean, clean_z, clean_loss), (cut, cut_z, cut_loss) = cut_by_hand(model, text, units, name, means)
    path = Path(Sender(units, "label"), Receiver(RECEIVER, ROLE), name)
    none = {path: Controls((), torch.zeros(0, 64, 64))}

    run = PathRun(model, text.text.tokens)
    places = Places.of(text.labels["label"])
    read = run.read(2, places, run.changes([units], means, places))
    change = UntouchedHead(run, RECEIVER).mixed_change(name, read, places)[0]
    real = torch.from_numpy(text.text.batch.is_token)
    torch.testing.assert_close(change[real], (cut_z - clean_z)[real], atol=1e-10, rtol=1e-8)
    assert change.abs().max() > 1e-5, "the path must matter"

    values = cache_of(model, text.text.tokens)["blocks.2.attn.hook_v"][:, :, RECEIVER.index]
    before = measure_by_hand(model, text, name, clean, values)
    if name == "v":
        block, cache = model.blocks[2], cache_of(model, text.text.tokens)
        with torch.no_grad():
            whole = written_change(model, cache, units, means) * text.labels["label"][:, :, None]
            new_values = block.ln1(cache["blocks.2.hook_resid_pre"] + whole) @ block.attn.W_V[RECEIVER.index]
        after = measure_by_hand(model, text, name, clean, new_values)
        expected = [
            np.nan
            if old is None
            else 1 - sum(float(new[q] @ old[q]) for q in old) / sum(float(old[q] @ old[q]) for q in old)
            for old, new in zip(before, after, strict=True)
        ]
    else:
        after = measure_by_hand(model, text, name, cut, values)
        expected = [np.nan if a is None else a - b for a, b in zip(before, after, strict=True)]
    effects = read_chosen(model, [text], none, means)[path]
    np.testing.assert_allclose(effects.sender, expected, atol=1e-10)
    assert np.isfinite(expected).sum() == 2 and np.nanmax(np.abs(expected)) > 1e-6
    if name != "v":
        np.testing.assert_allclose(effects.clean, np.array(before, dtype=float), atol=1e-10)
    of_all = read_all(model, [text], [path.sender], [path.receiver], means)[path]
    assert of_all.n_stories == 2 and abs(of_all.effect - np.nanmean(expected)) < 1e-10

    lost = read_losses(model, [text], none, means)[path][0]
    served = torch.from_numpy(text.text.serves["name"])[:, :-1]
    for row in range(3):
        by_hand = (cut_loss - clean_loss)[row][served[row]].mean()
        assert abs(lost[row] - float(by_hand)) < 1e-8


def test_only_later_layers_read(model, text, means):
    senders = [Sender((NeuronId(layer, 1),), "label") for layer in range(3)]
    senders += [Sender((HeadId(1, 0),), "label"), Sender((NeuronId(0, 1), NeuronId(1, 1)), "label", before=2)]
    receivers = [Receiver(HeadId(layer, 0), ROLE) for layer in range(3)]
    found = read_all(model, [text], senders, receivers, means)
    there = {(path.sender.units, path.receiver.head.layer) for path in found}
    neuron = {(senders[0].units, 1), (senders[0].units, 2), (senders[1].units, 2)}
    assert there == neuron | {(senders[3].units, 2), (senders[4].units, 2)}


def test_controls_change_as_much_at_every_token(model, text, means):
    run = PathRun(model, text.text.tokens)
    places = Places.of(text.labels["label"])
    own = run.changes([(NeuronId(0, 7),)], means, places)[0]
    pool = Controls(((NeuronId(0, 1),), (NeuronId(0, 2),)), torch.empty(0))
    turned = Controls((), random_rotations(3, 64, seed=1))
    for controls, kind in ((pool, "neurons"), (turned, "directions")):
        changes = controls.changes(run, own, means, places)
        torch.testing.assert_close(changes.norm(dim=-1), own.norm(dim=-1).expand(changes.shape[:-1]))
        assert controls.kind == kind
        assert (F.cosine_similarity(changes, own[None], dim=-1)[:, places.is_there] < 0.9).all()
    along = pool.changes(run, own, means, places)[0]
    weight = model.blocks[0].mlp.W_out[1]
    assert torch.allclose(
        F.cosine_similarity(along, weight, dim=-1)[places.is_there].abs(), weight.new_ones(())
    )
