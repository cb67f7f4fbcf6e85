"""The sparse measures and the nulls made of them, on patterns small enough to work out by hand."""

import numpy as np
import pytest
import torch

from tslens.model.spec import WINDOW
from tslens.probes.base import Calibration, Null, Row
from tslens.probes.batch import batch_of_stories, batch_of_tokens
from tslens.probes.pairs import averaged, distance_profile, matched_difference, octave, shifted, uniform
from tslens.probes.plan import make_plan


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


@pytest.mark.parametrize("by_position", [False, True])
@pytest.mark.parametrize("distance", [1, 2, 5])
def test_a_head_of_fixed_distance_has_no_excess_over_its_profile(by_position, distance):
    """Whatever the targets, such a head gives them just what its distance profile gives."""
    batch = batch_of_tokens([list(range(40)), list(range(33))], [7, 8])
    rng = np.random.default_rng(1)
    row = np.repeat([0, 1], 30)
    query = rng.integers(10, 33, 60)
    pairs = averaged(row, query, query - rng.integers(1, 8, 60))
    pattern = offset_pattern(2, 40, distance)
    profile = distance_profile(pairs, batch, by_position=by_position)
    np.testing.assert_allclose(read(profile, pattern), read(pairs, pattern), atol=1e-12)
    assert (profile.query < batch.length[profile.row]).all()
    assert (profile.key >= 0).all()


def test_the_profile_of_a_distance_is_the_mean_over_its_queries():
    batch = batch_of_tokens([list(range(10))], [3])
    pattern = random_pattern(1, 10)
    profile = distance_profile(averaged([0], [9], [6]), batch, by_position=False)
    assert read(profile, pattern)[0] == pytest.approx(np.mean([pattern[0, q, q - 3] for q in range(3, 10)]))


def test_octaves():
    assert octave(np.array([1, 2, 3, 4, 7, 8, 255, 256])).tolist() == [0, 1, 1, 2, 2, 3, 7, 8]


def test_matched_difference_compares_with_the_mean_of_like_keys():
    batch = batch_of_tokens([list(range(12))], [3])
    candidate = np.zeros((1, 12, 12), dtype=bool)
    candidate[0, 10, [6, 5]] = True  # distances 4 and 5: the octave of the target at distance 6
    candidate[0, 10, 9] = True  # distance 1: no match
    pairs = averaged([0, 0], [10, 11], [4, 2])  # query 11 has no candidate at all
    pattern = random_pattern(1, 12)
    expected = pattern[0, 10, 4] - (pattern[0, 10, 6] + pattern[0, 10, 5]) / 2
    assert read(matched_difference(pairs, batch, candidate), pattern)[0] == pytest.approx(expected)


def test_a_head_that_treats_candidates_alike_has_no_matched_excess():
    rng = np.random.default_rng(4)
    batch = batch_of_tokens([list(range(64))], [3])
    query = np.arange(20, 64)
    key = query - rng.integers(1, 15, len(query))
    candidate = np.zeros((1, 64, 64), dtype=bool)
    candidate[0] = np.tri(64, k=-1, dtype=bool) & (rng.random((64, 64)) < 0.5)
    candidate[0, query, key] = False
    pattern = np.tri(64)[None] / np.arange(1, 65)[:, None]
    difference = matched_difference(averaged(np.zeros(44, dtype=int), query, key), batch, candidate)
    assert abs(read(difference, pattern)[0]) < 1e-12


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
        }
        return [Row("word", value, nulls, has_mul=True, value_all=other)]


def test_a_plan_reads_what_the_pairs_say():
    batch = batch_of_tokens([list(range(6)), list(range(5))], [1, 2])
    plan = make_plan(batch, [_TwoNulls()], Calibration(np.ones(9, dtype=int)))
    pattern = torch.rand(2, 3, 6, 6, dtype=torch.float32)
    value, other = pattern[:, :, 3, 1], pattern[:, :, 4, 2]
    for local, number in ((False, 0.25), (True, 0.5)):
        found = plan.read(pattern, local=local)
        expected = [value, other, value / torch.tensor([[6.0], [5.0]]), value - other, value - number, other]
        for column, values in enumerate(expected):
            torch.testing.assert_close(found[:, column], values)
    only = plan.values_only()
    torch.testing.assert_close(only.read(pattern, local=False)[:, 0], value)
    assert [measure.kind for measure in only.measures] == ["value"]


def test_padding_and_company_do_not_change_a_story(stories, tokenizer):
    """Every probe gives a story the same measures alone and beside longer ones."""
    from tslens.probes.base import find_probes

    probes = [p for p in find_probes().values() if p.name != "induction"]
    calibration = Calibration(np.arange(tokenizer.vocab_size), {("sentence_end", "word"): [1, 2]})
    alone = make_plan(batch_of_stories(stories[:1], tokenizer, n_ctx=512), probes, calibration)
    together = make_plan(batch_of_stories(stories[:4], tokenizer, n_ctx=512), probes, calibration)
    n_pos, n_all = alone.tokens.shape[1], together.tokens.shape[1]
    pattern = torch.from_numpy(random_pattern(4, n_all)).float()[:, None]
    first = alone.read(pattern[:1, :, :n_pos, :n_pos], local=False)
    torch.testing.assert_close(first[0], together.read(pattern, local=False)[0], atol=1e-6, rtol=1e-5)
    assert torch.equal(alone.present[0], together.present[0])
