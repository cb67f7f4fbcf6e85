"""What a verdict on basis and cause rests on: the allowance from layer 0, the 4-gram, equal arms."""

from types import SimpleNamespace

import numpy as np
import pytest

import tslens
from tslens.probes import beyond
from tslens.probes.base import choose_probes
from tslens.probes.batch import batch_of_stories
from tslens.probes.cause import COLUMNS, METHODS, _Measured, _Story
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


def key(row):
    return row.head, row.probe, row.position


@pytest.fixture(scope="module")
def report(model, stories):
    return score_heads(model, stories, probes=["name", "topic"], seed=0, n_explain=0)


# Basis ------------------------------------------------------------------------------------------------------


def test_contextual_is_what_lies_beyond_the_limit_too(model, texts, report, monkeypatch):
    """The lower end is that of the value beyond the predictor, and beyond what endless stories would teach it."""
    (row,) = [row for row in report.scores if row.head.layer == 1 and row.probe == "name"][:1]
    for low, basis in ((0.051, "contextual"), (0.049, "lexical")):
        rest = beyond.Beyond(low, predicted=0.2, limit=0.25)
        monkeypatch.setattr(
            beyond, "beyond_tokens", lambda *_, found=rest, **__: dict.fromkeys([key(row)], found)
        )
        assert beyond.bases(model, texts, {}, [row], seed=0) == [beyond.Explained(basis, 0.2, 0.25)]


def test_the_value_of_heads_of_layer_0_does_not_lie_beyond_the_limit(model, texts, report):
    """The truth of layer 0 is known: tokens and positions decide all of it. The predictor alone falls short."""
    rows = [
        row for row in report.scores if row.head.layer == 0 and row.probe == "topic" and row.value >= 0.05
    ][:1]
    rest = beyond.beyond_tokens(model, texts, {}, rows, seed=0)
    assert rows
    for row in rows:
        found = rest[key(row)]
        assert found.predicted < 0.9 * row.value, "few stories do not teach all tokens"
        assert found.predicted <= found.limit
        assert found.low < 0.05 < row.value
        assert row.value - found.limit < 0.7 * (row.value - found.predicted)


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
