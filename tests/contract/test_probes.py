"""One battery for every probe: what scikit-learn's estimator checks are for estimators."""

import numpy as np
import pytest
import torch

from tslens.probes.base import ATTENTION_FLOOR, Calibration, find_probes
from tslens.probes.batch import batch_of_stories
from tslens.probes.plan import make_plan

PROBES = find_probes()
NULLS = {
    "positional": {"uniform"},
    "identity": {"distance", "frequency"},
    "relational": {"distance", "offset", "shifted"},  # and one of words that are like the target
}


@pytest.fixture(params=PROBES, scope="module")
def probe(request):
    return PROBES[request.param]


@pytest.fixture(scope="module")
def batch(probe, stories, tokenizer):
    own = probe.own_batches(
        d_vocab=tokenizer.vocab_size, start_id=tokenizer.start_id, n_ctx=512, seed=0, batch_tokens=2048
    )
    return next(own) if own is not None else batch_of_stories(stories[:6], tokenizer, n_ctx=512)


@pytest.fixture(scope="module")
def calibration(probe, batch, tokenizer):
    offsets = {(probe.name, position): [1, 2, 3] for position in probe.calibrate(batch)}
    return Calibration(np.bincount(batch.tokens[batch.is_query], minlength=tokenizer.vocab_size), offsets)


def planted(row, batch, strength):
    """A pattern that puts ``strength`` on the targets of each query, evenly, the rest evenly everywhere."""
    n_rows, n_pos = batch.tokens.shape
    rest = np.tri(n_pos)[None].repeat(n_rows, 0)
    pattern = rest / rest.sum(-1, keepdims=True)
    target = np.zeros_like(pattern)
    everywhere = row.value_all or row.value
    target[everywhere.row, everywhere.query, everywhere.key] = 1.0
    has = target.sum(-1, keepdims=True)
    mixed = (1 - strength) * pattern + strength * target / np.maximum(has, 1)
    return torch.from_numpy(np.where(has > 0, mixed, pattern)).float()[:, None]


def measures(probe, batch, calibration, pattern):
    """Mean over stories of every measure of one head."""
    plan = make_plan(batch, [probe], calibration)
    read = plan.read(pattern, local=False)[:, :, 0]
    means = [float(read[plan.present[:, i], i].mean()) for i in range(len(plan.measures))]
    return dict(zip(plan.measures, means, strict=True))


def test_it_says_what_it_is(probe):
    assert probe.name == probe.name.lower()
    assert len(probe.description) > 10
    assert probe.family in NULLS
    assert probe.served, "every probe declares where the model needs what the role gives"
    assert probe.floor == ATTENTION_FLOOR
    assert (probe.basis == "positional") == (probe.family == "positional")


def test_it_has_the_nulls_of_its_family(probe, batch, calibration):
    for row in probe.rows(batch, calibration):
        assert set(row.nulls) >= NULLS[probe.family]


def test_planted_attention_is_found_at_its_strength(probe, batch, calibration):
    for row_index, row in enumerate(probe.rows(batch, calibration)):
        for strength in (0.3, 1.0):
            found = measures(probe, batch, calibration, planted(row, batch, strength))
            mine = {m: v for m, v in found.items() if m.position == row.position}
            value = next(v for m, v in mine.items() if m.kind == "value")
            assert strength - 1e-4 <= value <= 1 + 1e-4, row_index
            excess = min(v for m, v in mine.items() if m.kind == "null")
            assert excess > 0.5 * strength, (row_index, strength)


def test_uniform_attention_has_no_excess(probe, batch, calibration):
    for row in probe.rows(batch, calibration):
        found = measures(probe, batch, calibration, planted(row, batch, 0.0))
        assert min(v for m, v in found.items() if m.kind == "null" and m.position == row.position) < 0.02


def test_values_stay_between_zero_and_one(probe, batch, calibration):
    raw = torch.rand(len(batch.length), 5, *batch.tokens.shape[1:] * 2).tril()
    plan = make_plan(batch, [probe], calibration)
    read = plan.read(raw / raw.sum(-1, keepdim=True), local=False)
    for column, measure in enumerate(plan.measures):
        if measure.kind != "null":
            assert read[:, column].min() >= 0
            assert read[:, column].max() <= 1 + 1e-5


def test_inputs_are_untouched(probe, batch, calibration):
    tokens, length = batch.tokens.copy(), batch.length.copy()
    raw = torch.rand(len(batch.length), 2, *batch.tokens.shape[1:] * 2).tril()
    kept = raw.clone()
    make_plan(batch, [probe], calibration).read(raw, local=False)
    probe.score(raw, batch)
    assert torch.equal(raw, kept)
    assert np.array_equal(batch.tokens, tokens)
    assert np.array_equal(batch.length, length)


def test_position_zero_never_asks_and_no_key_lies_ahead(probe, batch, calibration):
    for row in probe.rows(batch, calibration):
        for pairs in (row.value, *(null.pairs or null.difference for null in row.nulls.values())):
            if pairs is not None:
                assert (pairs.query >= 1).all()
                assert (pairs.key < pairs.query).all()
                assert (pairs.query < batch.length[pairs.row]).all()


def test_the_pure_measure_agrees_with_the_plan(probe, batch, calibration):
    row = probe.rows(batch, calibration)[0]
    pattern = planted(row, batch, 0.4)
    found = measures(probe, batch, calibration, pattern)
    kind = "all" if row.value_all is not None else "value"
    value = next(v for m, v in found.items() if m.kind == kind and m.position == row.position)
    assert float(probe.score(pattern, batch)[0]) == pytest.approx(value, abs=1e-5)


def test_it_is_named_in_the_methods(probe):
    from pathlib import Path

    assert f"`{probe.name}`" in (Path(__file__).parents[2] / "docs" / "methods.md").read_text(
        encoding="utf-8"
    )
