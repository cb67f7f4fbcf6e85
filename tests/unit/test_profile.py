"""The distance profile of a head, against plain loops over queries and keys."""

import numpy as np
import pytest
import torch

from tslens.probes.pairs import averaged
from tslens.probes.profile import (
    bands,
    distances_of_slots,
    n_slots,
    octave,
    read_profile,
    slot_of,
    slot_queries,
)


def causal(n_rows, n_heads, n_pos, seed=0):
    """Random attention: each row of a query sums to 1 and is zero ahead of it."""
    raw = torch.rand(n_rows, n_heads, n_pos, n_pos, generator=torch.Generator().manual_seed(seed)).tril()
    return raw / raw.sum(-1, keepdim=True)


def by_loops(pattern, length):
    """The definition, query by query: [row head slot] and how many queries each slot had."""
    n_rows, n_heads, n_pos, _ = pattern.shape
    profile = np.zeros((n_rows, n_heads, n_slots(n_pos)))
    asking = np.zeros((n_rows, n_slots(n_pos)), dtype=int)
    for row in range(n_rows):
        for query in range(1, length[row]):
            band = int(np.floor(np.log2(query)))
            before = sum(2 * 2**b for b in range(band))
            for distance in range(query):  # position 0 is no key
                profile[row, :, before + distance] += pattern[row, :, query, query - distance].numpy()
                asking[row, before + distance] += 1
    return profile / np.maximum(asking, 1)[:, None], asking


def test_octaves():
    assert octave(np.array([1, 2, 3, 4, 7, 8, 255, 256])).tolist() == [0, 1, 1, 2, 2, 3, 7, 8]


# A band that is whole, one of a single position, one cut in its first and one in its second half.
@pytest.mark.parametrize("n_pos", [2, 3, 4, 8, 9, 11, 15, 16, 17, 40])
def test_the_profile_is_the_mean_over_queries_of_a_band(n_pos):
    pattern = causal(2, 3, n_pos, seed=n_pos)
    kept = pattern.clone()
    length = np.array([n_pos, n_pos])
    expected, asking = by_loops(pattern, length)
    found = read_profile(pattern, torch.from_numpy(length))
    assert found.shape == (2, 3, n_slots(n_pos))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)
    np.testing.assert_array_equal(slot_queries(length, n_pos), asking)
    assert torch.equal(pattern, kept)


def test_padding_does_not_ask():
    """Shorter rows have the profile that they have alone, whatever the pattern says behind their end."""
    pattern, length = causal(4, 2, 21), np.array([21, 20, 9, 2])
    expected, asking = by_loops(pattern, length)
    found = read_profile(pattern, torch.from_numpy(length)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_array_equal(slot_queries(length, 21), asking)
    for row, n in enumerate(length):
        alone = read_profile(pattern[row : row + 1, :, :n, :n], torch.tensor([n])).numpy()[0]
        there = distances_of_slots(int(n)) < n  # slots of a cut band that no query of the short row reaches
        np.testing.assert_allclose(alone[:, there], found[row][:, : len(there)][:, there], atol=1e-6)
        assert not found[row][:, len(there) :].any()


def test_a_pattern_that_is_a_part_of_a_larger_one():
    """Patterns come as slices of larger tensors too."""
    whole = causal(3, 4, 12)
    part, length = whole[1:, 2:], torch.tensor([12, 10])
    expected, _ = by_loops(part, length.numpy())
    np.testing.assert_allclose(read_profile(part, length).numpy(), expected, atol=1e-6)
    turned = part.transpose(2, 3).contiguous().transpose(2, 3)  # other strides, equal numbers
    assert torch.equal(read_profile(turned, length), read_profile(part, length))


def test_a_row_of_one_token_has_no_profile():
    pattern = torch.ones(2, 3, 1, 1)
    assert read_profile(pattern, torch.tensor([1, 1])).shape == (2, 3, 0)
    assert slot_queries(np.array([1, 1]), 1).shape == (2, 0)
    assert len(distances_of_slots(1)) == n_slots(1) == 0
    beside = causal(2, 3, 5)  # the same row beside a longer one
    assert not read_profile(beside, torch.tensor([5, 1]))[1].any()


def test_slots_are_numbered_band_by_band():
    assert bands(12) == [(1, 1), (2, 3), (4, 7), (8, 11)]
    query, distance = map(np.array, zip(*[(q, d) for q in range(1, 40) for d in range(q + 1)], strict=True))
    slot = slot_of(query, distance)
    assert slot.min() == 0
    assert slot.max() < n_slots(40)
    np.testing.assert_array_equal(distances_of_slots(40)[slot], distance)
    # One slot is one pair of band and distance.
    pairs = set(zip((octave(query)).tolist(), distance.tolist(), strict=True))
    assert len(set(slot.tolist())) == len(pairs)


def test_profiles_of_heads_that_know_distances_only():
    """Such a head gives every pair just what its profile says of its slot."""
    n_pos, length = 30, np.array([30, 23])
    score = np.random.default_rng(0).random(n_pos)
    pattern = np.zeros((2, 1, n_pos, n_pos))
    for query in range(n_pos):
        for distance in range(query + 1):
            pattern[:, 0, query, query - distance] = score[distance] / n_pos
    profile = read_profile(torch.from_numpy(pattern), torch.from_numpy(length)).numpy()
    pairs = averaged([0, 0, 1, 1], [29, 7, 22, 9], [3, 2, 21, 0])
    read = profile[pairs.row, 0, slot_of(pairs.query, pairs.distance)]
    np.testing.assert_allclose(read, pattern[pairs.row, 0, pairs.query, pairs.key])
