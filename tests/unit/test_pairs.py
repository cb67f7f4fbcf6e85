"""The sparse measures and the nulls made of them, on patterns small enough to work out by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tslens.model.spec import WINDOW
from tslens.probes.base import Calibration, Null, Row
from tslens.probes.batch import batch_of_tokens
from tslens.probes.pairs import (
    StandIns,
    asked_at,
    averaged,
    like_keys_difference,
    match,
    matched_difference,
    on_tokens,
    shifted,
    uniform,
)
from tslens.probes.plan import make_plan
from tslens.probes.units import KIND, KINDS, UnitPairs, Units


def read(pairs, pattern):
    """[row] measure of one pattern [row query key]."""
    per_pair = pattern[pairs.row, pairs.query, pairs.key]
    return pairs.sums(per_pair, len(pattern))


def offset_pattern(n_rows, n_pos, distance):
    """All attention at a fixed distance back, none where there is no such place."""
    return np.eye(n_pos, k=-distance)[None].repeat(n_rows, 0)


def random_pattern(n_rows, n_pos, seed=0):
    raw = np.tril(np.random.default_rng(seed).random((n_rows, n_pos, n_pos)))
    return raw / raw.sum(-1, keepdims=True)


def test_a_measure_is_the_mean_over_queries_of_the_mass_on_all_their_keys():
    pairs = averaged([0, 0, 0, 1], [3, 3, 4, 2], [1, 2, 0, 1])
    pattern = random_pattern(2, 5)
    expected = [(pattern[0, 3, 1] + pattern[0, 3, 2] + pattern[0, 4, 0]) / 2, pattern[1, 2, 1]]
    np.testing.assert_allclose(read(pairs, pattern), expected)


def test_uniform_is_the_measure_of_the_uniform_pattern_with_and_without_a_window():
    n = 300
    row, query = np.ones((1, n)).nonzero()
    pairs = averaged(row[1:], query[1:], np.zeros(n - 1, dtype=int))
    positions = np.arange(n)
    causal = positions[:, None] >= positions
    for window, allowed in ((None, causal), (WINDOW, causal & (positions[:, None] - positions < WINDOW))):
        pattern = (allowed / allowed.sum(-1, keepdims=True))[None]
        np.testing.assert_allclose(uniform(pairs, 1, window), read(pairs, pattern))


def unit_batch(rows):
    """Rows of (first token, last token, kind) a unit, in order; a position more than the last unit needs."""
    n_units = max(map(len, rows))
    table = np.full((3, len(rows), n_units), -1)
    for index, row in enumerate(rows):
        table[:, index, : len(row)] = np.array([(first, last, KIND[kind]) for first, last, kind in row]).T
    batch = batch_of_tokens([list(range(row[-1][1] + 2)) for row in rows], [*range(len(rows))])
    return replace(batch, units=Units(*table, np.full_like(table[0], -1)))


def unit_pairs(*pairs):
    """Pairs of units: (row, query, key)."""
    return UnitPairs(*np.array(pairs).reshape(-1, 3).T)


OWN = StandIns(*[np.arange(len(KINDS))] * 3)
"""Each kind stands for itself."""


def any_of(*kinds):
    """These kinds stand for every target."""
    of = np.full(len(KINDS), -1)
    of[[KIND[kind] for kind in kinds]] = 0
    return StandIns(of, np.zeros(len(KINDS), dtype=int), np.arange(len(KINDS)))


def difference(pairs, batch, position, stand_ins, *, asked=None):
    """The contrast of a relation with units like its targets; ``asked``: a part of its pairs."""
    related = asked_at(pairs, batch, position)
    chosen = related if asked is None else asked_at(asked, batch, position)
    return matched_difference(match(chosen, related, batch, position, stand_ins), batch)


# From units to tokens ---------------------------------------------------------------------------------------


def test_a_pair_of_words_is_all_pieces_of_the_key_seen_from_the_last_piece_of_the_query():
    batch = unit_batch([[(1, 2, "NOUN"), (3, 3, "VERB"), (4, 6, "NOUN")]])
    pairs = on_tokens(asked_at(unit_pairs((0, 2, 0)), batch, "word"), batch)
    assert pairs.query.tolist() == [6, 6]
    assert pairs.key.tolist() == [1, 2]
    before = on_tokens(asked_at(unit_pairs((0, 2, 0)), batch, "before"), batch)
    assert before.query.tolist() == [3, 3]
    assert before.key.tolist() == [1, 2]
    pattern = random_pattern(1, 8)
    assert read(pairs, pattern)[0] == pytest.approx(pattern[0, 6, 1] + pattern[0, 6, 2])


def test_before_the_word_a_key_that_is_that_very_token_is_left_out():
    batch = unit_batch([[(1, 1, "NOUN"), (2, 3, "PROPN"), (4, 4, "VERB")]])
    asked = asked_at(unit_pairs((0, 2, 1), (0, 2, 0), (0, 1, 0)), batch, "before")
    assert list(zip(asked.query, asked.unit, strict=True)) == [(3, 0)]  # 1 asks where key 0 stands
    assert asked.distance.tolist() == [2]


def test_the_first_word_of_a_story_asks_nowhere_before():
    batch = unit_batch([[(1, 1, "NOUN"), (2, 2, "VERB")]])
    assert len(asked_at(unit_pairs((0, 1, 0)), batch, "before").row) == 0


def test_a_token_that_two_keys_share_counts_once():
    batch = unit_batch([[(1, 1, "PUNCT"), (1, 1, "PUNCT"), (2, 2, "NOUN"), (3, 3, "NOUN")]])
    pairs = on_tokens(asked_at(unit_pairs((0, 3, 0), (0, 3, 1)), batch, "word"), batch)
    assert (pairs.query.tolist(), pairs.key.tolist(), pairs.weight.tolist()) == ([3], [1], [1.0])


# Words that are like the target -----------------------------------------------------------------------------

STORY = [
    (1, 1, "NOUN"),  # 0
    (2, 2, "NOUN"),  # 1
    (3, 4, "NOUN"),  # 2, two pieces
    (5, 5, "VERB"),  # 3
    (6, 6, "PUNCT"),  # 4
    (7, 7, "NOUN"),  # 5
    (8, 8, "ADV"),  # 6: asks; distances to the nouns 7, 6, 4 (last piece), 1
]


def test_a_target_stands_against_the_mean_of_like_words_of_the_same_query():
    """Same kind, same octave of distance: units 1 and 2 for unit 0; not the verb, not the noun one token back."""
    found = difference(unit_pairs((0, 6, 0)), unit_batch([STORY]), "word", OWN)
    pattern = random_pattern(1, 10)
    expected = pattern[0, 8, 1] - (pattern[0, 8, 2] + pattern[0, 8, 3] + pattern[0, 8, 4]) / 2
    assert read(found, pattern)[0] == pytest.approx(expected)


def test_other_kinds_may_stand_for_the_target():
    found = difference(unit_pairs((0, 6, 0)), unit_batch([STORY]), "word", any_of("VERB", "PUNCT"))
    assert not len(found)  # the verb is at distance 3, the mark at 2: another octave
    found = difference(unit_pairs((0, 6, 3)), unit_batch([STORY]), "word", any_of("VERB", "PUNCT"))
    pattern = random_pattern(1, 10)
    assert read(found, pattern)[0] == pytest.approx(pattern[0, 8, 5] - pattern[0, 8, 6])


def test_no_target_of_the_query_stands_for_another():
    """Not even one that is not asked about because it lies at the most frequent distance."""
    both = unit_pairs((0, 6, 0), (0, 6, 1))
    pattern = random_pattern(1, 10)
    unit_2 = pattern[0, 8, 3] + pattern[0, 8, 4]
    found = difference(both, unit_batch([STORY]), "word", OWN)
    assert read(found, pattern)[0] == pytest.approx(pattern[0, 8, 1] + pattern[0, 8, 2] - 2 * unit_2)
    found = difference(both, unit_batch([STORY]), "word", OWN, asked=unit_pairs((0, 6, 0)))
    assert read(found, pattern)[0] == pytest.approx(pattern[0, 8, 1] - unit_2)


TWO_VERBS = [
    (1, 1, "NOUN"),  # 0: of verb 2
    (2, 2, "ADV"),  # 1
    (3, 3, "VERB"),  # 2
    (4, 4, "NOUN"),  # 3: of verb 5
    (5, 5, "NOUN"),  # 4: of no verb
    (6, 6, "VERB"),  # 5
    (7, 7, "VERB"),  # 6: of nothing; its nouns lie at 3, 2 and 6
    (8, 8, "ADV"),  # 7
]


def test_without_a_like_word_of_its_own_a_target_stands_against_pairs_of_other_words_of_its_kind():
    """Verb 2 has no second noun two tokens back; verbs 5 and 6 have nouns there that are not theirs."""
    relation = unit_pairs((0, 2, 0), (0, 5, 3))
    found = difference(relation, unit_batch([TWO_VERBS]), "word", OWN, asked=unit_pairs((0, 2, 0)))
    pattern = random_pattern(1, 10)
    # Distance 2 or 3: verb 6 to noun 3 and 4. Verb 5 to noun 3 is a pair of the relation, to noun 4 adjacent.
    # The adverb 7 asks too, but is no verb.
    expected = pattern[0, 3, 1] - (pattern[0, 7, 4] + pattern[0, 7, 5]) / 2
    assert read(found, pattern)[0] == pytest.approx(expected)


def test_a_target_without_any_match_is_left_out_on_both_sides():
    batch = unit_batch([TWO_VERBS, STORY])
    # The second row has no other verb, and no noun in the octave of unit 0 seen from it.
    relation = unit_pairs((0, 2, 0), (1, 3, 0), (1, 6, 0))
    pattern = random_pattern(2, 10)
    found = difference(relation, batch, "word", OWN)
    expected = pattern[1, 8, 1] - (pattern[1, 8, 2] + pattern[1, 8, 3] + pattern[1, 8, 4]) / 2
    assert read(found, pattern)[1] == pytest.approx(expected)
    assert set(found.query[found.row == 1]) == {8}
    assert not len(difference(relation, batch, "word", any_of("PROPN")))


@pytest.mark.parametrize("position", ["word", "before"])
def test_a_head_that_looks_at_kinds_and_distances_alone_has_no_matched_excess(position):
    """What a key gets depends on its kind and its octave, so targets get what their matches get."""
    rng = np.random.default_rng(2)
    kinds = rng.choice(["NOUN", "VERB", "PROPN"], 60)
    batch = unit_batch([[(i + 1, i + 1, kind) for i, kind in enumerate(kinds)]])
    query = rng.integers(10, 60, 40)
    relation = unit_pairs(*sorted({(0, int(q), int(q - rng.integers(2, 9))) for q in query}))
    n_pos = 62
    pattern = np.zeros((1, n_pos, n_pos))
    for i in range(1, n_pos):
        for j in range(1, min(i, 61)):
            pattern[0, i, j] = 0.01 * (1 + list(KIND).index(kinds[j - 1])) * (i - j).bit_length()
    found = difference(relation, batch, position, OWN)
    assert len(found) > 40
    assert abs(read(found, pattern)[0]) < 1e-12
    value = on_tokens(asked_at(relation, batch, position), batch)
    assert read(value, pattern)[0] > 0.1


# Tokens that are like the target ----------------------------------------------------------------------------


def test_like_keys_compare_with_the_mean_of_candidates():
    batch = batch_of_tokens([list(range(12))], [3])
    candidate = np.zeros((1, 12, 12), dtype=bool)
    candidate[0, 10, [6, 5]] = True  # distances 4 and 5: the octave of the target at distance 6
    candidate[0, 10, 9] = True  # distance 1: no match
    pairs = averaged([0, 0], [10, 11], [4, 2])  # query 11 has no candidate at all
    pattern = random_pattern(1, 12)
    expected = pattern[0, 10, 4] - (pattern[0, 10, 6] + pattern[0, 10, 5]) / 2
    assert read(like_keys_difference(pairs, batch, candidate), pattern)[0] == pytest.approx(expected)


def test_a_head_that_treats_candidates_alike_has_no_excess_over_them():
    rng = np.random.default_rng(4)
    batch = batch_of_tokens([list(range(64))], [3])
    query = np.arange(20, 64)
    key = query - rng.integers(1, 15, len(query))
    candidate = np.zeros((1, 64, 64), dtype=bool)
    candidate[0] = np.tri(64, k=-1, dtype=bool) & (rng.random((64, 64)) < 0.5)
    candidate[0, query, key] = False
    pattern = np.tri(64)[None] / np.arange(1, 65)[:, None]
    found = like_keys_difference(averaged(np.zeros(44, dtype=int), query, key), batch, candidate)
    assert abs(read(found, pattern)[0]) < 1e-12


# Shifted labels, and the plan -----------------------------------------------------------------------------------


def test_shifted_labels_keep_distances_and_stay_in_the_story():
    batch = batch_of_tokens([list(range(30)), list(range(6))], [11, 12])
    query = np.arange(5, 30)
    pairs = averaged(np.zeros(25, dtype=int), query, query - 3) + averaged([1], [4], [2])
    moved = shifted(pairs, batch)
    assert set(moved.row) == {0}  # a story of six positions is too short to shift
    assert (moved.distance == 3).all()
    assert moved.key.min() >= 1
    assert moved.query.max() < 30
    assert moved.weight.sum() == pytest.approx(1.0)
    assert np.array_equal(moved.query, shifted(pairs, batch).query)


def test_shifted_pairs_that_wrap_are_dropped_and_the_mean_is_over_the_queries_that_are_left():
    """Two keys a query: uniform mass 0.1 on each key gives 0.2 wherever a query keeps both."""
    batch = batch_of_tokens([list(range(41))], [5])
    query = np.arange(10, 41).repeat(2)
    pairs = averaged(np.zeros(62, dtype=int), query, query - np.tile([1, 4], 31))
    moved = shifted(pairs, batch)
    whole = np.bincount(moved.query)
    found = {(int(q), int(d)) for q, d in zip(moved.query, moved.distance, strict=True)}
    assert {d for _, d in found} == {1, 4}
    assert len(moved) < 2 * len(pairs)  # some wrapped
    pattern = np.full((1, 41, 41), 0.1)
    assert 0.1 <= read(moved, pattern)[0] <= 0.2
    assert read(moved, pattern)[0] == pytest.approx(moved.weight.sum() * 0.1)
    assert whole.max() <= 4


def test_a_story_that_keeps_pairs_in_one_shift_only_has_the_mean_of_that_one():
    for seed in range(40):
        batch = batch_of_tokens([list(range(12))], [seed])
        moved = shifted(averaged([0], [11], [1]), batch)  # so long a pair wraps at any shift
        assert not len(moved)
        moved = shifted(averaged([0], [6], [2]), batch)
        assert len(moved) == 0 or moved.weight.sum() == pytest.approx(1.0)


def test_distances_alone_are_a_null_read_off_the_profile():
    """A head of fixed distance has no excess over it, whatever the targets; one that looks at the target has."""
    batch = batch_of_tokens([list(range(40)), list(range(33))], [7, 8])
    rng = np.random.default_rng(1)
    query = rng.integers(16, 33, 60)
    pairs = averaged(np.repeat([0, 1], 30), query, query - rng.integers(1, 8, 60))
    plan = make_plan(batch, [_One(pairs)], Calibration(np.ones(41, dtype=int)))
    assert plan.needs_profile
    assert [m.null for m in plan.measures] == ["", "distance"]
    for distance in (1, 2, 5):
        pattern = torch.from_numpy(offset_pattern(2, 40, distance)).float()[:, None]
        excess = plan.read(pattern, local=False)[:, 1, 0]
        np.testing.assert_allclose(excess, 0, atol=1e-6)
    target = np.zeros((2, 40, 40))
    target[pairs.row, pairs.query, pairs.key] = 1.0
    target /= np.maximum(target.sum(-1, keepdims=True), 1)
    assert plan.read(torch.from_numpy(target).float()[:, None], local=False)[:, 1, 0].min() > 0.5


def test_the_distance_null_is_the_mean_over_the_band_of_the_query():
    batch = batch_of_tokens([list(range(10))], [3])
    plan = make_plan(batch, [_One(averaged([0], [9], [6]))], Calibration(np.ones(11, dtype=int)))
    pattern = random_pattern(1, 10)
    null = np.mean([pattern[0, q, q - 3] for q in (8, 9)])  # positions 8 to 15
    found = plan.read(torch.from_numpy(pattern).float()[:, None], local=False)[0, :, 0]
    np.testing.assert_allclose(found, [pattern[0, 9, 6], pattern[0, 9, 6] - null], atol=1e-6)


class _One:
    """A probe with one row and the distance null."""

    name = "one"

    def __init__(self, value):
        self.value = value

    def rows(self, batch, calibration):
        return [Row("word", self.value, {"distance": Null(profile=self.value)})]


class _TwoNulls:
    """A probe with every kind of null, for the plan."""

    name = "two"

    def rows(self, batch, calibration):
        n = len(batch.length)
        value = averaged(np.arange(n), np.full(n, 3), np.full(n, 1))
        other = averaged(np.arange(n), np.full(n, 4), np.full(n, 2))
        nulls = {
            "pairs": Null(pairs=other),
            "number": Null(number=(np.full(n, 0.25), np.full(n, 0.5))),
            "difference": Null(difference=other),
            "profile": Null(profile=other),
        }
        return [Row("word", value, nulls, has_mul=True, value_all=other)]


def test_a_plan_reads_what_the_pairs_say():
    batch = batch_of_tokens([list(range(6)), list(range(5))], [1, 2])
    plan = make_plan(batch, [_TwoNulls()], Calibration(np.ones(9, dtype=int)))
    pattern = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0)).tril()
    value, other = pattern[:, :, 3, 1], pattern[:, :, 4, 2]
    for local, number in ((False, 0.25), (True, 0.5)):
        found = plan.read(pattern, local=local)
        mul = value / torch.tensor([[6.0], [5.0]])
        # Positions 4 to 7 that are real: 4 and 5 of the first row, 4 of the second.
        at_two = torch.stack([pattern[0, :, [4, 5], [2, 3]].mean(-1), pattern[1, :, 4, 2]])
        expected = [value, other, mul, value - other, value - number, other, value - at_two]
        for column, values in enumerate(expected):
            torch.testing.assert_close(found[:, column], values)
    only = plan.values_only()
    assert not only.needs_profile
    torch.testing.assert_close(only.read(pattern, local=False)[:, 0], value)
    assert [measure.kind for measure in only.measures] == ["value"]


def test_some_measures_of_a_plan_are_read_as_in_the_whole():
    batch = batch_of_tokens([list(range(6)), list(range(5))], [1, 2])
    plan = make_plan(batch, [_TwoNulls()], Calibration(np.ones(9, dtype=int)))
    pattern = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(1)).tril()
    everything = plan.read(pattern, local=True)
    for chosen in ([0, 3], [6], [2, 5, 6], [4]):
        part = plan.select([i in chosen for i in range(len(plan.measures))])
        assert part.measures == tuple(plan.measures[i] for i in chosen)
        assert torch.equal(part.present, plan.present[:, chosen])
        torch.testing.assert_close(part.read(pattern, local=True), everything[:, chosen])


def test_a_story_without_a_query_is_not_present():
    batch = batch_of_tokens([list(range(9)), list(range(9))], [1, 2])
    plan = make_plan(batch, [_One(averaged([1], [8], [3]))], Calibration(np.ones(9, dtype=int)))
    assert plan.present.tolist() == [[False, False], [True, True]]
    assert not plan.read(torch.ones(2, 2, 9, 9).tril(), local=False)[0].any()
