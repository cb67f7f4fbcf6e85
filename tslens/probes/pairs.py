"""Weighted (query, key) pairs: the sparse linear measure of a pattern that every probe and null comes down to.

A measure of one story is ``sum of weight x pattern[query, key]`` over its pairs. Text decides the pairs, so
they are made once per batch and read off the patterns of every layer, head and random twin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from tslens.probes.batch import TokenBatch

PROFILE_QUERIES = 8  # queries that stand for a distance in a distance profile


@dataclass(frozen=True)
class Pairs:
    """Pairs of the rows of a batch.

    ``cluster``: the story (or sequence) whose measure a pair counts in. ``row``: row of the pattern it is read
    from, the same but for measures that compare two rows. ``weight``: usually 1 / queries of the story.
    """

    cluster: Int[np.ndarray, " pair"]
    row: Int[np.ndarray, " pair"]
    query: Int[np.ndarray, " pair"]
    key: Int[np.ndarray, " pair"]
    weight: Float[np.ndarray, " pair"]

    @property
    def distance(self) -> Int[np.ndarray, " pair"]:
        """Positions from key to query."""
        return self.query - self.key

    def select(self, chosen: Bool[np.ndarray, " pair"]) -> Pairs:
        """Some of the pairs, their weights as they are."""
        return Pairs(
            *(array[chosen] for array in (self.cluster, self.row, self.query, self.key, self.weight))
        )

    def __add__(self, other: Pairs) -> Pairs:
        mine = (self.cluster, self.row, self.query, self.key, self.weight)
        theirs = (other.cluster, other.row, other.query, other.key, other.weight)
        return Pairs(*(np.concatenate(both) for both in zip(mine, theirs, strict=True)))

    def sums(self, per_pair: Float[np.ndarray, " pair"], n_clusters: int) -> Float[np.ndarray, " cluster"]:
        """Sum over each story's pairs of weight times a number."""
        return np.bincount(self.cluster, weights=self.weight * per_pair, minlength=n_clusters)


def averaged(row: np.ndarray, query: np.ndarray, key: np.ndarray) -> Pairs:
    """Pairs weighted so that a story's measure is the mean over its queries of the mass on their keys."""
    row, query, key = (np.asarray(array, dtype=np.int64) for array in (row, query, key))
    if not len(row):
        return Pairs(row, row, query, key, np.zeros(0))
    ids = np.unique(np.stack([row, query]), axis=1)[0]
    return Pairs(row, row, query, key, 1.0 / np.bincount(ids, minlength=row.max() + 1)[row])


def octave(distance: np.ndarray) -> np.ndarray:
    """Bin of like distance: 1, 2-3, 4-7, 8-15, ..."""
    return np.frexp(np.maximum(distance, 1))[1] - 1


def uniform(pairs: Pairs, n_clusters: int, window: int | None) -> Float[np.ndarray, " cluster"]:
    """Measure of attention spread evenly over all positions that the layer may look at."""
    visible = pairs.query + 1 if window is None else np.minimum(pairs.query + 1, window)
    inside = np.ones_like(visible) if window is None else pairs.distance < window
    return pairs.sums(inside / visible, n_clusters)


def distance_profile(pairs: Pairs, batch: TokenBatch, *, by_position: bool) -> Pairs:
    """The same measure of the head's own distance profile in the same story.

    A pair at distance d is replaced by up to 8 evenly spaced queries of its story at the same distance
    (``by_position``: whose position is in the same octave as the query's).
    """
    first = np.maximum(pairs.distance, 1)
    last = batch.length[pairs.row] - 1
    if by_position:
        low = 1 << octave(pairs.query)
        first, last = np.maximum(first, low), np.minimum(last, 2 * low - 1)
    size = int(batch.tokens.shape[1]) + 1
    code = ((pairs.cluster * len(batch.length) + pairs.row) * size + pairs.distance) * size + first
    _, at, group = np.unique(code, return_index=True, return_inverse=True)
    weight = np.bincount(group, weights=pairs.weight)
    cluster, row, distance = pairs.cluster[at], pairs.row[at], pairs.distance[at]
    first, n_queries = first[at], (last - first + 1)[at]
    n_drawn = np.minimum(n_queries, PROFILE_QUERIES)
    member = np.repeat(np.arange(len(at)), n_drawn)
    place = np.arange(len(member)) - np.repeat(np.cumsum(n_drawn) - n_drawn, n_drawn)
    query = first[member] + ((place + 0.5) * n_queries[member] / n_drawn[member]).astype(np.int64)
    key = query - distance[member]
    return Pairs(cluster[member], row[member], query, key, (weight / n_drawn)[member])


def matched_difference(
    pairs: Pairs, batch: TokenBatch, candidate: Bool[np.ndarray, "row query key"]
) -> Pairs:
    """Mass on the targets minus mass on matched keys: other keys of the same query in the same octave of distance.

    ``candidate``: keys that may stand for a target. Targets without a match are left out on both sides, and the
    story's mean is over the queries that are left.
    """
    n_bins = 16

    def cell(row: np.ndarray, query: np.ndarray, distance: np.ndarray) -> np.ndarray:
        return (row * batch.tokens.shape[1] + query) * n_bins + octave(distance)

    target = cell(pairs.row, pairs.query, pairs.distance)
    row, query, key = candidate.nonzero()
    other = cell(row, query, query - key)
    n_cells = int(max(target.max(initial=0), other.max(initial=0))) + 1
    n_other, n_target = np.bincount(other, minlength=n_cells), np.bincount(target, minlength=n_cells)
    kept = pairs.select(n_other[target] > 0)
    kept = averaged(kept.row, kept.query, kept.key)
    used = n_target[other] > 0
    row, query, key, other = row[used], query[used], key[used], other[used]
    weight_of_row = np.zeros(len(batch.length))
    weight_of_row[kept.row] = kept.weight
    weight = weight_of_row[row] * n_target[other] / n_other[other]
    return kept + Pairs(row, row, query, key, -weight)


def shifted(pairs: Pairs, batch: TokenBatch, *, n_shifts: int = 2) -> Pairs:
    """Mass on the same pairs after the labels are shifted circularly within the story; wrapped pairs are dropped.

    Shifts are drawn per story from its cluster key, at least 3 tokens either way, and averaged over. Stories of fewer
    than 8 tokens have none.
    """
    n_pos = batch.length - 1  # position 0 is no part of the text
    parts = []
    for index in range(n_shifts):
        shift = np.zeros_like(n_pos)
        for at, (seed, n) in enumerate(zip(batch.cluster, n_pos, strict=True)):
            if n >= 8:
                shift[at] = 3 + int(np.random.default_rng([seed, index]).integers(n - 6))
        chosen = shift[pairs.row] > 0
        row, by, size = pairs.row[chosen], shift[pairs.row[chosen]], n_pos[pairs.row[chosen]]
        query = (pairs.query[chosen] - 1 + by) % size + 1
        key = (pairs.key[chosen] - 1 + by) % size + 1
        whole = key < query
        parts.append((row[whole], query[whole], key[whole]))
    row, query, key = (np.concatenate(column) for column in zip(*parts, strict=True))
    n_pairs = np.bincount(row, minlength=len(batch.length))
    return Pairs(row, row, query, key, 1.0 / np.maximum(n_pairs, 1)[row])
