"""Other scores of a row, by hand on one small story."""

import numpy as np
import pytest
import torch

import tslens
from tslens.probes.base import choose_probes
from tslens.probes.batch import batch_of_stories
from tslens.probes.beside import score_beside
from tslens.probes.scan import calibrate
from tslens.probes.strata import Texts
from tslens.probes.units import KINDS, LabelNeeds
from tslens.types import HeadId

HEAD = HeadId(1, 2)


@pytest.fixture(scope="module")
def model():
    return tslens.load_model("shipped:l2_h64")


@pytest.fixture(scope="module")
def texts(model):
    stories = list(tslens.write_stories(3, seed=5))
    batch = batch_of_stories(stories, model.tokenizer, n_ctx=512, labels=LabelNeeds(scheme=True))
    probes = choose_probes(["name", "previous_token", "topic_determiner"])
    return Texts([batch], probes, calibrate([batch], probes, 4096, window=256), has_ends=True)


@pytest.fixture(scope="module")
def found(model, texts):
    return score_beside(model, texts)


def by_hand(model, texts, score):
    """Mean over stories of the mean over queries of ``score(pattern of the head, norms, row, query, targets)``."""
    (batch,) = texts.batches
    prefix = model.prefix(torch.from_numpy(batch.tokens))
    pattern = prefix.pattern(1)[:, 2]
    norms = (prefix.values(1)[:, 2] @ prefix.output(1)[2]).norm(dim=-1)
    pairs, units = batch.relations["name"], batch.units
    per_story = []
    for row in range(len(batch.length)):
        values = []
        for query_unit, key_unit in zip(
            pairs.query[pairs.row == row], pairs.key[pairs.row == row], strict=True
        ):
            query = units.last[row, query_unit]
            if units.last[row, key_unit] < query:
                values.append(score(pattern[row, query], norms[row], row, query, units, key_unit))
        per_story.append(np.mean(values))
    return float(np.mean(per_story))


def target_mass(weights, units, row, key_unit):
    return float(weights[units.first[row, key_unit] : units.last[row, key_unit] + 1].sum())


def test_the_most_attended_word_is_counted_over_all_pieces(model, texts, found):
    def is_hit(attention, _norms, row, query, units, key_unit):
        earlier = [
            u for u in range(units.kind.shape[1]) if units.kind[row, u] >= 0 and units.last[row, u] < query
        ]
        return max(earlier, key=lambda u: target_mass(attention, units, row, u)) == key_unit

    assert found[HEAD, "name", "word"]["most_attended"] == pytest.approx(by_hand(model, texts, is_hit))


def test_value_weighted_and_without_sink(model, texts, found):
    def weighted(attention, norms, row, _query, units, key_unit):
        weights = attention * norms
        return target_mass(weights / weights.sum(), units, row, key_unit)

    def without_sink(attention, _norms, row, _query, units, key_unit):
        return target_mass(attention / attention[1:].sum(), units, row, key_unit)

    mine = found[HEAD, "name", "word"]
    assert mine["value_weighted"] == pytest.approx(by_hand(model, texts, weighted), rel=1e-4)
    assert mine["without_sink"] == pytest.approx(by_hand(model, texts, without_sink), rel=1e-4)


def test_the_best_offset_is_a_share_of_queries(texts, found):
    (batch,) = texts.batches
    pairs, units = batch.relations["name"], batch.units
    distance = units.last[pairs.row, pairs.query] - units.last[pairs.row, pairs.key]
    asked = distance > 0
    expected = np.bincount(distance[asked]).max() / asked.sum()
    assert found[HEAD, "name", "word"]["best_offset"] == pytest.approx(expected)


def test_the_nearest_noun_or_name_is_often_no_name(texts, found):
    (batch,) = texts.batches
    pairs, units = batch.relations["name"], batch.units
    hits = []
    for row, query_unit, key_unit in zip(pairs.row, pairs.query, pairs.key, strict=True):
        query = units.last[row, query_unit]
        if units.last[row, key_unit] < query:
            could = [u for u in range(query_unit) if KINDS[units.kind[row, u]] == "NOUN" or u == key_unit]
            hits.append(max(u for u in could if units.last[row, u] < query) == key_unit)
    assert 0.1 < np.mean(hits) < 0.9
    assert found[HEAD, "name", "word"]["nearest"] == pytest.approx(np.mean(hits))


def test_is_the_noun_that_is_looked_at_the_next_word(model, texts, found):
    (batch,) = texts.batches
    pattern, units = model.prefix(torch.from_numpy(batch.tokens)).pattern(1)[:, 2].numpy(), batch.units
    rows = batch.tokens.shape[0]
    on, of, n_on, n_of = (np.zeros(rows) for _ in range(4))
    topics, following = batch.relations["topic_determiner"], batch.relations["topic_next"]
    ahead = set(zip(following.row, following.query, following.key, strict=True))
    for row, query, key in zip(topics.row, topics.query, topics.key, strict=True):
        mass = target_mass(pattern[row, units.last[row, query]], units, row, key)
        of[row], n_of[row] = of[row] + mass, n_of[row] + 1
        if (row, query, key) in ahead:
            on[row], n_on[row] = on[row] + mass, n_on[row] + 1
    assert 0 < n_on.sum() < n_of.sum()
    mine = found[HEAD, "topic_determiner", "word"]
    assert mine["next_noun"] == pytest.approx(np.mean(on / of), rel=1e-4)
    assert mine["next_noun_even"] == pytest.approx(np.mean(n_on / n_of))


def test_rows_of_tokens_have_no_word_scores(found):
    assert set(found[HEAD, "previous_token", "word"]) == {"value_weighted", "without_sink"}
    assert set(found[HEAD, "name", "before"]) == {
        "value_weighted",
        "without_sink",
        "most_attended",
        "best_offset",
        "nearest",
    }
