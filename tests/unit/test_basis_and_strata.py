"""What a verdict on basis and cause rests on: the allowance from layer 0, the 4-gram, equal arms."""

from types import SimpleNamespace

import numpy as np
import pytest

import tslens
from tslens.probes import explain
from tslens.probes.base import choose_probes
from tslens.probes.batch import batch_of_stories
from tslens.probes.cause import COLUMNS, METHODS, _Measured, _Story
from tslens.probes.explain import bases, in_layer_0
from tslens.probes.scan import calibrate, score_heads
from tslens.probes.strata import LEAST_COUNTED, Strata, Texts
from tslens.probes.units import LabelNeeds

VOCABULARY = 4096  # of the shipped tokenizer


@pytest.fixture(scope="module")
def model():
    return tslens.load_model("shipped:l2_h64")


@pytest.fixture(scope="module")
def stories():
    return list(tslens.write_stories(40, seed=31))


@pytest.fixture(scope="module")
def texts(model, stories):
    batch = batch_of_stories(stories, model.tokenizer, n_ctx=512, labels=LabelNeeds(scheme=True))
    probes = choose_probes(["name", "subject"])
    return Texts([batch], probes, calibrate([batch], probes, VOCABULARY, window=256), has_ends=True)


@pytest.fixture(scope="module")
def report(model, stories):
    return score_heads(model, stories, probes=["name", "subject"], seed=0, n_explain=0)


# Basis ------------------------------------------------------------------------------------------------------


def test_what_the_predictor_misses_in_layer_0_is_allowed_for_above(model, texts, report, monkeypatch):
    above = [row for row in report.scores if row.head.layer == 1][:1]
    below = in_layer_0(report, texts)[:1]
    missing = [0.0]

    def beyond(model, stories, own, asked, calibrating, *, seed):
        found = {explain._key(row): explain._Beyond(mean=0.12, low=0.1, predicted=0.28) for row in asked}
        share = missing[0]
        for row in calibrating:
            found[explain._key(row)] = explain._Beyond(mean=share, low=share, predicted=1 - share)
        return found

    monkeypatch.setattr(explain, "_beyond_tokens", beyond)
    for share, basis in ((0.0, "contextual"), (0.1, "contextual"), (0.2, "lexical")):
        missing[0] = share
        found, missed = bases(model, texts, {}, above, below, seed=0)
        assert [one.basis for one in found] == [basis], share
        assert missed == pytest.approx(share)


def test_rows_of_layer_0_calibrate_and_are_never_contextual(model, texts, report):
    """The truth of layer 0 is known: tokens and positions decide all of it."""
    rows = [row for row in report.scores if row.head.layer == 1 and row.probe == "name"][:2]
    below = in_layer_0(report, texts)
    assert below and {row.head.layer for row in below} == {0}
    rest = explain._beyond_tokens(model, texts, {}, rows, below, seed=0)
    found, missed = bases(model, texts, {}, rows, below, seed=0)
    assert missed == pytest.approx(max(0.0, *(rest[explain._key(row)].share for row in below)))
    assert missed > 0.02, "forty stories are too few to know all tokens"
    for row in below:
        one = rest[explain._key(row)]
        assert one.mean + one.predicted == pytest.approx(row.value, rel=0.02)
        assert one.low < 0.05 + missed * (one.mean + one.predicted)
    assert all(one.basis in ("lexical", "contextual") for one in found)


# The 4-gram -------------------------------------------------------------------------------------------------


def test_the_4_gram_is_counted_on_other_texts_where_there_are_enough(model, stories, texts):
    (batch,) = texts.batches
    halves = np.nanmean(Strata.of(texts, VOCABULARY, 512).losses[0])
    same = [model.tokenizer.encode_story(story.text).astype(np.int64) for story in stories]
    few = Texts([batch], texts.probes, texts.calibration, has_ends=True, others=same)
    assert few.n_counted == 20
    assert np.nanmean(Strata.of(few, VOCABULARY, 512).losses[0]) == halves
    many = Texts([batch], texts.probes, texts.calibration, has_ends=True, others=same * 25)
    assert many.n_counted == LEAST_COUNTED
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
