"""Weighted (query, key) pairs: the sparse linear measure of a pattern that every probe and null comes down to.

A measure of one story is ``sum of weight x pattern[query, key]`` over its pairs. Text decides the pairs, so
they are made once per batch and read off the patterns of every layer, head and random twin.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Int

from tslens.probes.batch import TokenBatch
from tslens.probes.profile import octave
from tslens.probes.units import KINDS, Asked, UnitPairs, numbers
from tslens.types import Position

N_SHIFTS = 2
N_OCTAVES = 16


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

    def __len__(self) -> int:
        return len(self.row)

    @property
    def distance(self) -> Int[np.ndarray, " pair"]:
        """Positions from key to query."""
        return self.query - self.key

    def select(self, chosen: Bool[np.ndarray, " pair"]) -> Pairs:
        """Some of the pairs, their weights as they are."""
        chosen = np.flatnonzero(chosen)
        return Pairs(
            *(array[chosen] for array in (self.cluster, self.row, self.query, self.key, self.weight))
        )

    def __add__(self, other: Pairs) -> Pairs:
        row, query, key, weight = (
            np.concatenate([getattr(self, name), getattr(other, name)])
            for name in ("row", "query", "key", "weight")
        )
        if self.cluster is self.row and other.cluster is other.row:
            return Pairs(row, row, query, key, weight)
        return Pairs(np.concatenate([self.cluster, other.cluster]), row, query, key, weight)

    def sums(self, per_pair: Float[np.ndarray, " pair"], n_clusters: int) -> Float[np.ndarray, " cluster"]:
        """Sum over each story's pairs of weight times a number."""
        return np.bincount(self.cluster, weights=self.weight * per_pair, minlength=n_clusters)


def averaged(row: np.ndarray, query: np.ndarray, key: np.ndarray) -> Pairs:
    """Pairs weighted so that a story's measure is the mean over its queries of the mass on their keys."""
    row, query, key = (np.asarray(array, dtype=np.int64) for array in (row, query, key))
    if not len(row):
        return Pairs(row, row, query, key, np.zeros(0))
    asks = np.zeros((int(row.max()) + 1, int(query.max()) + 1), dtype=bool)
    asks[row, query] = True
    return Pairs(row, row, query, key, 1.0 / asks.sum(1)[row])


def uniform(pairs: Pairs, n_clusters: int, window: int | None) -> Float[np.ndarray, " cluster"]:
    """Measure of attention spread evenly over all positions that the layer may look at."""
    visible = pairs.query + 1 if window is None else np.minimum(pairs.query + 1, window)
    inside = np.ones_like(visible) if window is None else pairs.distance < window
    return pairs.sums(inside / visible, n_clusters)


# From units to tokens ---------------------------------------------------------------------------------------


def asked_at(pairs: UnitPairs, batch: TokenBatch, position: Position) -> Asked:
    """Where a relation is read: at the query's last piece, or at the token ``before`` its first piece.

    Before it, where the model predicts it, pairs whose key is that very token are left out.
    """
    units = batch.units
    begin = pairs.row * units.kind.shape[1]
    query = units.asks_at(position).reshape(-1)[begin + pairs.query]
    last = units.last.reshape(-1)[begin + pairs.key]
    return Asked(pairs.row, query, pairs.query, pairs.key, query - last).select(last < query)


def on_tokens(asked: Asked, batch: TokenBatch) -> Pairs:
    """Attention to a unit is the sum over its pieces; a piece that two keys of a query share counts once."""
    return _each_once(*pieces(asked, batch)[:3], batch)


def both_on_tokens(
    related: Asked, chosen: Bool[np.ndarray, " pair"], batch: TokenBatch
) -> tuple[Pairs, Pairs]:
    """The same of the chosen pairs and of all."""
    row, query, key, pair = pieces(related, batch)
    every = _each_once(row, query, key, batch)
    if chosen.all():
        return every, every
    kept = np.flatnonzero(chosen[pair])
    return _each_once(row[kept], query[kept], key[kept], batch), every


def _each_once(row: np.ndarray, query: np.ndarray, key: np.ndarray, batch: TokenBatch) -> Pairs:
    size = batch.tokens.shape[1]
    code = (row * size + query) * size + key
    found = distinct(code)
    if found is not code:
        row, query, key = found // size**2, found // size % size, found % size
    return averaged(row, query, key)


def distinct(code: Int[np.ndarray, " member"]) -> Int[np.ndarray, " distinct"]:
    """Each number once, in order; the array itself if it is so. ``numpy.unique``, which hashes, three times as fast."""
    if np.all(code[1:] > code[:-1]):
        return code
    code = np.sort(code)
    return code[np.concatenate([[True], code[1:] != code[:-1]])]


def pieces(asked: Asked, batch: TokenBatch) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Row, query, key of every piece, and which pair it is of."""
    units = batch.units
    unit = asked.row * units.first.shape[1] + asked.unit
    first = units.first.reshape(-1)[unit]
    size = units.last.reshape(-1)[unit] - first + 1
    pair = np.repeat(np.arange(len(size)), size)
    key = np.arange(len(pair)) + np.repeat(first - (np.cumsum(size) - size), size)
    return asked.row[pair], asked.query[pair], key, pair


# Nulls ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Matched:
    """Targets that have a match, and their matches: ``cell`` of equal number marks what stands for what."""

    targets: Asked
    target_cell: Int[np.ndarray, " target"]
    others: Asked
    other_cell: Int[np.ndarray, " other"]


@dataclass(frozen=True)
class StandIns:
    """Which kinds of units may stand for which: kind j for kind k where ``of[j] == wanted[k]``; -1: for none.

    ``asker``: class of each kind that asks; those of one class stand for each other.
    """

    of: Int[np.ndarray, " kind"]
    wanted: Int[np.ndarray, " kind"]
    asker: Int[np.ndarray, " kind"]


def match(
    asked: Asked, related: Asked, batch: TokenBatch, position: Position, stand_ins: StandIns
) -> Matched:
    """Units that are like a target but are none (``related``: all pairs), in the same octave of distance.

    First of the same query. A target that has none there is matched by pairs of other words of the story: an asking
    word of the asker's kind, and a unit that may stand for the target, in the same octave, that are no pair of the
    relation. So is seen whether a head looks at *the* subject of a verb or at any noun that lies as far before a verb.
    """
    units, kind = batch.units, batch.units.kind
    n_rows, n_units = kind.shape
    askers = np.where(kind >= 0, stand_ins.asker[kind], -1)
    begin = asked.row * n_units
    asker_of_target = begin + asked.asker
    target_wants = stand_ins.wanted[kind.reshape(-1)[begin + asked.unit]]
    is_wanted = _marks(target_wants, len(KINDS) + 1)  # the last place is of -1, here and below
    is_wanted[-1] = False
    number = np.where(is_wanted, np.cumsum(is_wanted) - 1, -1)  # of each class that is wanted, counted from 0
    classes = np.where(kind >= 0, number[stand_ins.of[kind]], -1)
    target_class, has_class = number[target_wants], target_wants >= 0
    n_classes = max(int(is_wanted.sum()), 1)

    # Of all pairs of units, those that could stand for any target, and their bins: octave of distance, class.
    asks = _marks(askers.reshape(-1)[asker_of_target], len(KINDS) + 1)
    could = (units.lag(position) > 0) & asks[askers][:, :, None] & (classes >= 0)[:, None, :]
    asker, other = numbers(could & ~units.flags(related))
    n_bins = N_OCTAVES * n_classes
    bins = units.octave(position) * n_classes + classes[:, None, :].astype(np.int16)
    other_bin = bins.reshape(-1)[other]
    target_bin = asked.octave * n_classes + target_class

    def stand(target: np.ndarray, other: np.ndarray, allowed: np.ndarray, n: int) -> tuple[np.ndarray, ...]:
        """Of cells of allowed targets and of others: those that have a match, and those that are one."""
        met = np.flatnonzero(allowed & _marks(other, n)[target])
        return met, np.flatnonzero(_marks(target[met], n)[other])

    near_target, near_other = asker_of_target * n_bins + target_bin, asker * n_bins + other_bin
    n_near = n_rows * n_units * n_bins
    met, used = stand(near_target, near_other, has_class, n_near)
    target_cell, other_cell = near_target[met], near_other[used]
    if len(met) < np.count_nonzero(has_class):
        like = (np.arange(n_rows)[:, None] * len(KINDS) + askers).reshape(
            -1
        )  # askers that stand for each other
        far_target, far_other = like[asker_of_target] * n_bins + target_bin, like[asker] * n_bins + other_bin
        has_class[met] = False
        met_far, used_far = stand(far_target, far_other, has_class, n_rows * len(KINDS) * n_bins)
        met, used = np.concatenate([met, met_far]), np.concatenate([used, used_far])
        target_cell = np.concatenate([target_cell, n_near + far_target[met_far]])
        other_cell = np.concatenate([other_cell, n_near + far_other[used_far]])
    others = units.asked_at(asker[used], other[used], position)
    return Matched(asked.select(met), target_cell, others, other_cell)


def _marks(cells: np.ndarray, n_cells: int) -> Bool[np.ndarray, " cell"]:
    """Which cells are there."""
    found = np.zeros(n_cells, dtype=bool)
    found[cells] = True
    return found


def matched_difference(matched: Matched, batch: TokenBatch) -> Pairs:
    """Mass on the targets minus mass on their matches, target for target the mean of its matches.

    Targets without a match are left out on both sides; the story's mean is over the queries that are left.
    """
    if not len(matched.target_cell):
        return averaged(*np.zeros((3, 0)))
    kept = on_tokens(matched.targets, batch)
    weight_of_row = np.zeros(len(batch.length))
    weight_of_row[kept.row] = kept.weight
    target, other = matched.target_cell, matched.other_cell
    n_cells = int(target.max()) + 1
    share = np.bincount(target, minlength=n_cells)[other] / np.bincount(other, minlength=n_cells)[other]
    row, query, key, pair = pieces(matched.others, batch)
    return kept + Pairs(row, row, query, key, -weight_of_row[row] * share[pair])


def like_keys_difference(
    pairs: Pairs, batch: TokenBatch, candidate: Bool[np.ndarray, "row query key"]
) -> Pairs:
    """The same for tokens: mass on the targets minus mass on other keys of the query in the same octave of distance.

    ``candidate``: keys that may stand for a target.
    """

    def cell(row: np.ndarray, query: np.ndarray, distance: np.ndarray) -> np.ndarray:
        return (row * batch.tokens.shape[1] + query) * N_OCTAVES + octave(distance)

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


def fixed_offset(pairs: Pairs, batch: TokenBatch, distance: int) -> Pairs:
    """What a head that looks a fixed distance back would catch of the targets.

    That is what the same queries pay to that distance, whatever stands there, times the share of queries that have a
    target there. Position 0 is no key.
    """
    share = pairs.sums(pairs.distance == distance, len(batch.length))
    asks = np.zeros(batch.tokens.shape, dtype=bool)
    asks[pairs.row, pairs.query] = True
    row, query = asks.nonzero()
    reaches = query > distance
    paid = averaged(row[reaches], query[reaches], query[reaches] - distance)
    return Pairs(paid.cluster, paid.row, paid.query, paid.key, paid.weight * share[paid.row])


def shifted(pairs: Pairs, batch: TokenBatch) -> Pairs:
    """The same measure after the labels are shifted circularly within the story; wrapped pairs are dropped.

    Two shifts are drawn per story from its cluster key, at least 3 tokens either way, and averaged over. Stories of
    fewer than 8 tokens have none.
    """
    n_pos = batch.length - 1  # position 0 is no part of the text
    parts = []
    for index in range(N_SHIFTS):
        shift = np.zeros_like(n_pos)
        for at, (seed, n) in enumerate(zip(batch.cluster, n_pos, strict=True)):
            if n >= 8:
                shift[at] = _drawn_shift(seed, index, int(n))
        by, size = shift[pairs.row], n_pos[pairs.row]
        query, key = pairs.query + by, pairs.key + by  # at most once around
        query, key = np.where(query > size, query - size, query), np.where(key > size, key - size, key)
        row, whole = pairs.row, np.flatnonzero((key < query) & (by > 0))
        parts.append(averaged(row[whole], query[whole], key[whole]))
    both = parts[0] + parts[1]
    n_parts = sum((np.bincount(part.row, minlength=len(n_pos)) > 0).astype(int) for part in parts)
    return Pairs(both.cluster, both.row, both.query, both.key, both.weight / np.maximum(n_parts, 1)[both.row])


@lru_cache(maxsize=1 << 12)
def _drawn_shift(cluster: int, index: int, n_pos: int) -> int:
    return 3 + int(np.random.default_rng([cluster, index]).integers(n_pos - 6))
