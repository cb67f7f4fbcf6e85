"""What a verdict on basis and cause rests on: the allowance from layer 0, the 4-gram, equal arms."""

from types import SimpleNamespace

import numpy as np
import pytest

import tslens
from tslens.probes import explain
from tslens.probes.base import choose_probes
from tslens.probes.batch import batch_of_stories
from tslens.probes.cause import COLUMNS, METHODS, _Measured, _Story
from tslens.probes.explain import bases
from tslens.probes.scan import calibrate, score_heads
from tslens.probes.strata import LEAST_COUNTED, Strata, Texts
from tslens.probes.units import LabelNeeds

VOCABULARY = 4096  # of the shipped tokenizer


@pytest.fixture(scope="module")
def model():
    return tslens.load_model("shipped:l2_h64")


@pytest.fixture(scope="module")
def stories():
    return sorted(tslens.write_stories(90, seed=31), key=lambda story: len(story.text))[:34]


@pytest.fixture(scope="module")
def texts(model, stories):
    batch = batch_of_stories(stories, model.tokenizer, n_ctx=512, labels=LabelNeeds(scheme=True))
    probes = choose_probes(["name", "topic"])
    return Texts([batch], probes, calibrate([batch], probes, VOCABULARY, window=256), has_ends=True)


@pytest.fixture(scope="module")
def report(model, stories):
    return score_heads(model, stories, probes=["name", "topic"], seed=0, n_explain=0)


# Basis ------------------------------------------------------------------------------------------------------


def test_what_the_predictor_misses_in_layer_0_is_allowed_for_above(model, texts, report, monkeypatch):
    """Of the same probe and position only: what it misses of topics says nothing of names."""
    above = [row for row in report.scores if row.head.layer == 1 and row.probe == "name"][:1]
    missing = [0.0]

    def beyond(model, stories, own, asked, calibrating, *, seed):
        assert {(row.head.layer, row.probe, row.position) for row in calibrating} == {(0, "name", "word")}
        found = {explain._key(row): explain._Beyond(mean=0.12, low=0.1, predicted=0.28) for row in asked}
        share = missing[0]
        for row in calibrating:
            found[explain._key(row)] = explain._Beyond(mean=share, low=share, predicted=1 - share)
        return found

    monkeypatch.setattr(explain, "_beyond_tokens", beyond)
    for share, basis in ((0.0, "contextual"), (0.1, "contextual"), (0.2, "lexical")):
        missing[0] = share
        (found,) = bases(model, texts, {}, above, report.scores, seed=0)
        assert found.basis == basis, share
        assert found.missed == pytest.approx(share)


def test_rows_of_layer_0_calibrate_and_would_not_be_contextual_themselves(model, texts, report, monkeypatch):
    """The truth of layer 0 is known: tokens and positions decide all of it."""
    rows = [row for row in report.scores if row.head.layer == 1 and row.probe == "topic"][:2]
    below = [row for row in report.scores if row.head.layer == 0 and row.probe == "topic"]
    honest, rest = explain._beyond_tokens, {}
    monkeypatch.setattr(explain, "_beyond_tokens", lambda *a, **k: rest.update(honest(*a, **k)) or rest)
    found = bases(model, texts, {}, rows, report.scores, seed=0)
    assert max(one.missed for one in found) > 0.02, "few stories are too few to know all tokens"
    for row, one in zip(rows, found, strict=True):
        same = [other for other in below if other.position == row.position]
        shares = [rest[explain._key(other)].share for other in same if other.value >= 0.05]
        assert one.missed == pytest.approx(max(shares))
        for other in (other for other in same if explain._key(other) in rest):
            read = rest[explain._key(other)]
            assert read.mean + read.predicted == pytest.approx(other.value, rel=0.02)
            assert read.low < 0.05 + one.missed * (read.mean + read.predicted)


# The 4-gram -------------------------------------------------------------------------------------------------


def test_the_4_gram_is_counted_on_other_texts_where_there_are_enough(model, stories, texts):
    (batch,) = texts.batches
    halves = np.nanmean(Strata.of(texts, VOCABULARY, 512).losses[0])
    same = [model.tokenizer.encode_story(story.text).astype(np.int64) for story in stories]
    few = Texts([batch], texts.probes, texts.calibration, has_ends=True, others=same)
    assert few.n_counted == 17
    assert np.nanmean(Strata.of(few, VOCABULARY, 512).losses[0]) == halves
    many = Texts([batch], texts.probes, texts.calibration, has_ends=True, others=same * 30)
    assert many.n_counted == 1020 >= LEAST_COUNTED
    assert np.nanmean(Strata.of(many, VOCABULARY, 512).losses[0]) < 0.2 * halves


# Equal arms -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("per_mass", "holds"), [(0.5, True), (-0.5, False), (None, True)])
def test_no_role_where_equal_amounts_have_no_effect(per_mass, holds):
    """Stories whose role's edges are worth something, but not more than like edges wherever these get as much."""
    measured = object.__new__(_Measured)
    measured.columns, measured.seed = COLUMNS, 0
    rng = np.random.default_rng(0)
    measured.stories = [[]]
    for key in range(40):
        means = dict.fromkeys((*COLUMNS[:5], *METHODS), 0.1) | {"edge": 0.1 + 0.01 * rng.normal()}
        moved = 0.0 if per_mass is None else 1.0
        measured.stories[0].append(
            _Story(key * 7919, means, moved=moved, by_mass=per_mass or 0.0, served=np.zeros(3, dtype=int))
        )
    measured.outside = [SimpleNamespace(means=lambda: np.zeros((len(METHODS), 1)))]
    cause = measured._cause(0, measured._bootstrap(0), critical=3.0)
    assert cause.effects["edge_low"] > 0
    assert cause.holds == holds
    assert cause.effects.get("edge_per_mass") == per_mass
