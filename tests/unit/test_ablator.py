"""Losses under interventions are those of the whole model with the same replacement made by hooks, by hand."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tslens.causal.ablation import LayerId, ablated, parse_component
from tslens.causal.ablator import Ablator, Intervention
from tslens.causal.means import PositionMean, read_means
from tslens.errors import ModelError, ProbeInputError, UsageError
from tslens.model.batches import IGNORED
from tslens.types import HeadId

BOUND = 1e-5
N_POS = 24
LENGTHS = torch.tensor([24, 17, 9])
D_VOCAB = 60
SETS = {
    "a head": ["L0H1"],
    "two heads": ["L1H0", "L1H3"],
    "heads of two layers": ["L0H2", "L1H2"],
    "a neuron": ["L1N7"],
    "neurons of a layer": ["L0N3", "L0N9", "L0N30"],
    "neurons of two layers": ["L0N3", "L1N4", "L1N5"],
    "an attention": ["L0.attn"],
    "an MLP": ["L1.mlp"],
    "a layer": ["L1"],
    "a head and a neuron": ["L1H1", "L1N2"],
    "a head of a layer that goes": ["L0", "L0H1", "L1H1"],
}


@pytest.fixture(scope="module", params=["l2_h64", "gpt2", "llama"])
def model(request, random_model):
    return random_model(request.param)


@pytest.fixture(scope="module")
def tiny(random_model):
    return random_model("l2_h64")


@dataclass(frozen=True, eq=False)
class Rows:
    tokens: torch.Tensor
    targets: torch.Tensor
    at: torch.Tensor
    length: torch.Tensor = LENGTHS
    other: torch.Tensor | None = None


@pytest.fixture(scope="module")
def rows():
    tokens = torch.randint(1, D_VOCAB, (3, N_POS), generator=torch.Generator().manual_seed(1))
    targets = torch.cat([tokens[:, 1:], torch.zeros(3, 1, dtype=torch.long)], 1)
    targets[torch.arange(N_POS) >= LENGTHS[:, None]] = IGNORED
    at = (targets != IGNORED) & (torch.arange(N_POS) % 3 != 1)
    return Rows(tokens, targets, at, other=torch.tensor([2, 0, 1]))


@pytest.fixture(scope="module")
def means(model, rows):
    return read_means(model, [(rows.tokens[:2], LENGTHS[:2]), (rows.tokens[2:], LENGTHS[2:])], n_pos=N_POS)


def by_hand(model, rows, names, method):
    """Losses when each component's own hook point is replaced: a layer's at what its attention and MLP write.

    A head or neuron of a half that goes as a whole goes with it.
    """
    hooked = getattr(model, "bridge", model)
    _, cache = hooked.run_with_cache(rows.tokens)
    real = torch.arange(N_POS) < LENGTHS[:, None]

    def new_of(point):
        clean = cache[point]
        clean = clean.reshape(3, N_POS, -1)
        if method == "zero":
            return torch.zeros_like(clean)
        weight = real[..., None].float()
        mean = ((clean * weight).sum(0) / weight.sum(0)).expand_as(clean)
        return mean if method == "mean" else torch.where(real[rows.other][..., None], clean[rows.other], mean)

    chosen = {}
    for component in map(parse_component, names):
        block = f"blocks.{component.layer}"
        if isinstance(component, LayerId):
            for part in [component.part] if component.part else ["attn", "mlp"]:
                chosen[f"{block}.hook_{part}_out"] = None
        else:
            is_head = isinstance(component, HeadId)
            point = f"{block}.attn.hook_z" if is_head else f"{block}.mlp.hook_post"
            chosen.setdefault(point, []).append(component.index)

    def hook_of(point, units):
        new = new_of(point)

        def hook_fn(given, hook):
            if units is None:
                return new.reshape(given.shape)
            n_units = model.cfg.n_heads if point.endswith("hook_z") else model.cfg.d_mlp
            changed = given.clone().reshape(3, N_POS, n_units, -1)
            changed[:, :, units] = new.reshape(3, N_POS, n_units, -1)[:, :, units]
            return changed.reshape(given.shape)

        return hook_fn

    with torch.no_grad(), hooked.hooks(fwd_hooks=[(name, hook_of(name, of)) for name, of in chosen.items()]):
        logits = model(rows.tokens)
    return F.cross_entropy(logits[rows.at], rows.targets[rows.at], reduction="none").double().numpy()


@pytest.mark.parametrize("method", ["zero", "mean", "resample"])
def test_every_set_is_the_hooked_model(model, rows, means, method):
    interventions = [Intervention(tuple(map(parse_component, names)), method) for names in SETS.values()]
    found = Ablator(model, means).losses_of(rows, interventions)
    assert found.under.shape == (len(SETS), int(rows.at.sum()))
    with torch.no_grad():
        logits = model(rows.tokens)
    clean = F.cross_entropy(logits[rows.at], rows.targets[rows.at], reduction="none").double().numpy()
    np.testing.assert_allclose(found.clean, clean, atol=BOUND, rtol=BOUND)
    np.testing.assert_array_equal(found.delta, found.under - found.clean)
    for label, names, losses in zip(SETS, SETS.values(), found.under, strict=True):
        expected = by_hand(model, rows, names, method)
        np.testing.assert_allclose(losses, expected, atol=3 * BOUND, rtol=BOUND, err_msg=label)
        assert np.abs(losses - clean).max() > 1e-4, label


def test_zero_is_the_ablated_model(model, rows):
    """Also for a windowed and a global layer together; no means are needed."""
    sets = [tuple(map(parse_component, names)) for names in SETS.values()]
    found = Ablator(model).losses_of(rows, [Intervention(one, "zero") for one in sets])
    for components, losses in zip(sets, found.under, strict=True):
        with torch.no_grad(), ablated(model, components):
            logits = model(rows.tokens)
        expected = F.cross_entropy(logits[rows.at], rows.targets[rows.at], reduction="none").double()
        np.testing.assert_allclose(losses, expected, atol=3 * BOUND, rtol=BOUND)


def test_what_runs_together_changes_nothing(tiny, rows):
    means = read_means(tiny, [(rows.tokens, LENGTHS)], n_pos=N_POS)
    heads = [Intervention((HeadId(layer, i),), "resample") for i in range(4) for layer in (1, 0)]
    heads.insert(3, Intervention((LayerId(0),), "mean"))
    together = Ablator(tiny, means, max_variants=100).losses_of(rows, heads)
    alone = [Ablator(tiny, means, max_variants=1).losses_of(rows, [one]).under[0] for one in heads]
    np.testing.assert_allclose(together.under, np.stack(alone), atol=BOUND, rtol=BOUND)
    twice = replace(heads[0], components=heads[0].components * 2)
    assert np.array_equal(Ablator(tiny, means).losses_of(rows, [twice]).under[0], alone[0])


@pytest.mark.parametrize("method", ["zero", "mean"])
def test_padding_and_other_rows_change_nothing(tiny, rows, method):
    means = read_means(tiny, [(rows.tokens, LENGTHS)], n_pos=N_POS)
    interventions = [Intervention(tuple(map(parse_component, names)), method) for names in SETS.values()]
    together = Ablator(tiny, means).losses_of(rows, interventions).under
    row_of = torch.arange(3)[:, None].expand(3, N_POS)[rows.at].numpy()
    for row, length in enumerate(LENGTHS.tolist()):
        of_row = (rows.tokens, rows.targets, rows.at)
        alone = Rows(*(x[row : row + 1, :length] for x in of_row), length=LENGTHS[row : row + 1])
        found = Ablator(tiny, means).losses_of(alone, interventions).under
        np.testing.assert_allclose(found, together[:, row_of == row], atol=BOUND, rtol=BOUND)


def test_without_another_row_the_mean_stands_in(tiny, rows):
    means = read_means(tiny, [(rows.tokens, LENGTHS)], n_pos=N_POS)
    both = [Intervention((HeadId(0, 1), HeadId(1, 0)), method) for method in ("mean", "resample")]
    found = Ablator(tiny, means).losses_of(replace(rows, other=None), both).under
    assert np.array_equal(found[0], found[1])


def test_the_model_is_left_as_it_is(tiny, rows):
    means = read_means(tiny, [(rows.tokens, LENGTHS)], n_pos=N_POS)
    before, kept = tiny(rows.tokens), (means.z.clone(), means.post.clone())
    for method in ("zero", "mean", "resample"):
        interventions = [Intervention(tuple(map(parse_component, names)), method) for names in SETS.values()]
        Ablator(tiny, means).losses_of(rows, interventions)
    assert torch.equal(tiny(rows.tokens), before)
    assert torch.equal(means.z, kept[0]) and torch.equal(means.post, kept[1])
    assert not any(tiny.list_hooks())


def test_what_cannot_be_replaced_is_refused(tiny, rows):
    means = read_means(tiny, [(rows.tokens[:, :20], LENGTHS.clamp(max=20))], n_pos=20)
    head, nowhere = Intervention((HeadId(0, 0),), "mean"), Intervention((HeadId(0, 9),), "zero")
    for ablator, one, of_rows, kind, word in (
        (Ablator(tiny), head, rows, UsageError, "the mean of each of 24"),
        (Ablator(tiny, means), head, rows, UsageError, "the mean of each of 24"),
        (Ablator(tiny), nowhere, rows, UsageError, "no L0H9"),
        (Ablator(tiny), replace(head, method="zero"), replace(rows, at=rows.targets > -1000),
         ProbeInputError, "no next token"),
    ):  # fmt: skip
        with pytest.raises(kind, match=word):
            ablator.losses_of(of_rows, [one])
    with ablated(tiny, [HeadId(0, 1)]), pytest.raises(ModelError, match="has hooks"):
        Ablator(tiny).losses_of(rows, [replace(head, method="zero")])


# Means ----------------------------------------------------------------------------------------------------


def test_the_mean_counts_real_positions_once():
    generator = torch.Generator().manual_seed(0)
    given = torch.randn(2, 3, N_POS, 4, 5, generator=generator)
    mean = PositionMean()
    mean.add(list(given[:, 2:, :12]), LENGTHS[2:])
    mean.add(list(given[:, :2]), LENGTHS[:2])
    found = mean.mean(30)
    real = torch.arange(N_POS) < LENGTHS[:, None]
    assert found.shape == (2, 30, 4, 5)
    for pos in (0, 8, 9, 16, 17, 23):
        torch.testing.assert_close(found[:, pos], given[:, real[:, pos], pos].double().mean(1))
    for pos in (24, 29):
        torch.testing.assert_close(found[:, pos], given[:, real].double().mean(1))
    assert torch.equal(mean.mean(7), found[:, :7])
    with pytest.raises(ValueError, match="no story"):
        PositionMean().mean(3)


def test_means_are_of_what_heads_mix_and_neurons_give(model, rows, means):
    _, cache = getattr(model, "bridge", model).run_with_cache(rows.tokens)
    for layer in range(2):
        for found, name in ((means.z[layer], "attn.hook_z"), (means.post[layer], "mlp.hook_post")):
            clean = cache[f"blocks.{layer}.{name}"].reshape(3, N_POS, *found.shape[1:])
            torch.testing.assert_close(found[3], clean[:, 3].double().mean(0), atol=1e-6, rtol=1e-5)
            torch.testing.assert_close(found[20], clean[0, 20].double(), atol=1e-6, rtol=1e-5)
