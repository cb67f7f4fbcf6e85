"""Other scores of a row, by hand on a few stories."""

from dataclasses import replace
from types import SimpleNamespace

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
from tslens.types import HeadId, HeadScore
from tslens.viz.heads_words import next_noun

HEAD = HeadId(1, 2)


@pytest.fixture(scope="module")
def model():
    return tslens.load_model("shipped:l2_h64")


@pytest.fixture(scope="module")
def texts(model):
    stories = list(tslens.write_stories(6, seed=12))
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


def mean_over_stories(per_query):
    """Of a dict (row, query) -> value: mean over a story's queries, then over stories."""
    stories = {row for row, _ in per_query}
    return np.mean([np.mean([per_query[at] for at in per_query if at[0] == row]) for row in stories])


def hits_at(batch, relation, place):
    """Of each offset, (row, query unit) -> whether a target is there; ``place``: where a unit lies on the axis."""
    pairs = batch.relations[relation]
    asking = {}
    for row, query, key in zip(pairs.row, pairs.query, pairs.key, strict=True):
        asking.setdefault((row, query), set()).add(place[row, query] - place[row, key])
    offsets = set.union(*asking.values())
    return [{at: offset in targets for at, targets in asking.items()} for offset in offsets]


@pytest.mark.parametrize("relation", ["name", "topic_determiner"])
def test_the_best_offset_is_in_words_and_a_mean_over_stories(texts, found, relation):
    (batch,) = texts.batches
    number = np.broadcast_to(np.arange(batch.units.kind.shape[1]), batch.units.kind.shape)
    mine = found[HEAD, relation, "word"]["best_offset"]
    in_words = hits_at(batch, relation, number)
    assert mine == pytest.approx(max(map(mean_over_stories, in_words)))
    in_tokens = hits_at(batch, relation, batch.units.last)
    assert mine != pytest.approx(max(map(mean_over_stories, in_tokens)), rel=1e-3)
    pooled = max(np.mean(list(hits.values())) for hits in in_words)
    assert mine != pytest.approx(pooled, rel=1e-3)


def test_the_nearest_noun_or_name_is_often_no_name(texts, found):
    (batch,) = texts.batches
    pairs, units = batch.relations["name"], batch.units
    hits = {}
    for row, query_unit, key_unit in zip(pairs.row, pairs.query, pairs.key, strict=True):
        query = units.last[row, query_unit]
        if units.last[row, key_unit] < query:
            could = [u for u in range(query_unit) if KINDS[units.kind[row, u]] == "NOUN" or u == key_unit]
            hits[row, query_unit] = max(u for u in could if units.last[row, u] < query) == key_unit
    expected = mean_over_stories(hits)
    assert 0.1 < expected < 0.9
    assert expected != pytest.approx(np.mean(list(hits.values())), rel=1e-3)  # not a mean over all queries
    assert found[HEAD, "name", "word"]["nearest"] == pytest.approx(expected)


class MadeHeads:
    """A model of one layer with given patterns [story head query_pos key_pos]."""

    def __init__(self, pattern, window=None):
        self.attention, self._window, self.device = pattern, window, torch.device("cpu")
        self.cfg = SimpleNamespace(n_layers=1, n_heads=pattern.shape[1])

    def window(self, layer):
        return self._window

    def prefix(self, tokens):
        return self

    def pattern(self, layer):
        return self.attention

    def values(self, layer):
        return torch.ones(*self.attention.shape[:3], 1)

    def output(self, layer):
        return torch.ones(self.attention.shape[1], 1, 1)


def choices(batch, window=512):
    """(row, query unit) -> mentions of the next noun, all mentions: where there are others too."""
    topics, following, units = batch.relations["topic_determiner"], batch.relations["topic_next"], batch.units
    ahead = set(zip(following.row, following.query, following.key, strict=True))
    mentions = {}
    for row, query, key in zip(topics.row, topics.query, topics.key, strict=True):
        if units.last[row, query] - units.last[row, key] < window:
            of_next, every = mentions.setdefault((row, query), ([], []))
            every.append(key)
            if (row, query, key) in ahead:
                of_next.append(key)
    return {at: found for at, found in mentions.items() if 0 < len(found[0]) < len(found[1])}


def made_pattern(batch, *, at_next, before_next):
    """Attention 0.001 to each earlier unit; ``at_next`` times that to mentions of the next noun, and everything
    ``before_next`` times that where the next word is an earlier topic noun."""
    units, size = batch.units, batch.tokens.shape[1]
    pattern = np.zeros((len(units.kind), 1, size, size), dtype=np.float32)
    for row, unit in np.argwhere(units.kind >= 0):
        first, last = units.first[row, unit], units.last[row, unit]
        pattern[row, 0, last + 1 :, first : last + 1] = 0.001 / (last + 1 - first)
    following = batch.relations["topic_next"]
    for row, query, key in zip(following.row, following.query, following.key, strict=True):
        first, last = units.first[row, key], units.last[row, key]
        pattern[row, 0, units.last[row, query], first : last + 1] *= at_next
    for row, query in set(zip(following.row, following.query, strict=True)):
        pattern[row, 0, units.last[row, query]] *= before_next
    return torch.from_numpy(pattern)


def next_noun_of(texts, pattern, window=None):
    mine = score_beside(MadeHeads(pattern, window), texts)[HeadId(0, 0), "topic_determiner", "word"]
    return mine["next_noun"], mine["next_noun_even"]


def test_is_the_noun_that_is_looked_at_the_next_word(model, texts, found):
    (batch,) = texts.batches
    pattern, units = model.prefix(torch.from_numpy(batch.tokens)).pattern(1)[:, 2].numpy(), batch.units
    share, even = {}, {}
    for (row, query), (of_next, every) in choices(batch).items():
        attention = pattern[row, units.last[row, query]]
        on, of = (sum(target_mass(attention, units, row, u) for u in keys) for keys in (of_next, every))
        share[row, query], even[row, query] = on / of, len(of_next) / len(every)
    asked = batch.relations["topic_next"]
    assert 0 < len(share) < len(set(zip(asked.row, asked.query, strict=True)))  # some have no other noun
    mine = found[HEAD, "topic_determiner", "word"]
    assert mine["next_noun"] == pytest.approx(mean_over_stories(share), rel=1e-4)
    assert mine["next_noun_even"] == pytest.approx(mean_over_stories(even))


def test_a_head_that_looks_more_where_a_topic_follows_but_chooses_none_is_even(texts):
    (batch,) = texts.batches
    share, even = next_noun_of(texts, made_pattern(batch, at_next=1, before_next=30))
    assert share == pytest.approx(even)


def test_a_head_that_pays_the_next_noun_double_is_above_even(texts):
    (batch,) = texts.batches
    share, even = next_noun_of(texts, made_pattern(batch, at_next=2, before_next=1))
    double = {at: 2 * len(on) / (len(on) + len(of)) for at, (on, of) in choices(batch).items()}
    assert share == pytest.approx(mean_over_stories(double))
    assert share > even + 0.05


def test_a_head_that_pays_no_noun_at_all_is_even(texts):
    (batch,) = texts.batches
    share, even = next_noun_of(texts, made_pattern(batch, at_next=2, before_next=0))
    assert share == pytest.approx(even)


def test_mentions_out_of_the_window_are_no_choice(texts):
    (batch,) = texts.batches
    window = 60
    near = {at: len(on) / len(of) for at, (on, of) in choices(batch, window).items()}
    assert set(near) < set(choices(batch))
    pattern = made_pattern(batch, at_next=1, before_next=1)
    place = torch.arange(pattern.shape[2])
    pattern[..., place[:, None] - place >= window] = 0
    share, even = next_noun_of(texts, pattern, window)
    assert even == pytest.approx(mean_over_stories(near))
    assert share == pytest.approx(even, rel=0.01)  # the window may cut a word


def test_without_a_choice_between_nouns_the_scores_are_absent(texts):
    (batch,) = texts.batches
    relations = {**batch.relations, "topic_determiner": batch.relations["topic_next"]}
    mine = score_beside(
        MadeHeads(made_pattern(batch, at_next=1, before_next=1)),
        replace(texts, batches=[replace(batch, relations=relations)]),
    )[HeadId(0, 0), "topic_determiner", "word"]
    assert "best_offset" in mine
    assert not {"next_noun", "next_noun_even"} & set(mine)


def test_batches_make_no_difference(model, texts, found):
    stories = list(tslens.write_stories(6, seed=12))
    batches = [
        batch_of_stories([story], model.tokenizer, n_ctx=512, labels=LabelNeeds(scheme=True))
        for story in stories
    ]
    apart = score_beside(model, replace(texts, batches=batches))
    for row in (("name", "word"), ("topic_determiner", "word")):
        assert apart[HEAD, *row] == pytest.approx(found[HEAD, *row], rel=1e-4)


def test_the_card_tells_the_next_noun_in_words():
    row = HeadScore(
        HEAD, "topic_determiner", "word", 0.3, 0.2, 0.4, None, {"distance": 0.1}, 0.2, 0.1, 0.01, "role",
        None, None, 0.3, (0.2, 0.2), 3, beside={"next_noun": 0.451, "next_noun_even": 0.38},
    )  # fmt: skip
    assert next_noun(row) == (
        "Where the next word is one of several such nouns, 45% of this attention is on that very noun; "
        "if every mention got as much, it would be 38%."
    )
    assert next_noun(replace(row, beside={"nearest": 0.5})) == ""


def test_rows_of_tokens_have_no_word_scores(found):
    assert set(found[HEAD, "previous_token", "word"]) == {"value_weighted", "without_sink"}
    assert set(found[HEAD, "name", "before"]) == {
        "value_weighted",
        "without_sink",
        "most_attended",
        "best_offset",
        "nearest",
    }
