"""Which of two sets of stories is more diverse? Differences, their intervals, and what swapped labels would give.

Equally many stories of both, each compared with the others of its own set only. For every measure:

- *per-story measures*: the mean of each set; the difference with a 95% interval, studentised Poisson bootstrap over
  the stories of both sets (the mean over all pairs of stories: of twice the deviations);
- *distinct-k*: different k-grams of the set over all its k-grams. Resampling would count a story twice and so miss
  its point; the interval comes from halves drawn without repetition (delete-half jackknife, normal quantile);
- *null*: stories are dealt anew to two sets of the same size, everything within the sets is measured again: the middle
  95% of the differences, and p, two-sided, the observed deal counted.

A story's largest R_2 depends on the others of its set, which the bootstrap holds fixed: where the interval and the
permutation disagree, believe the permutation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from tslens.corpus.diversity.estimates import Estimate, estimate, estimate_difference
from tslens.corpus.diversity.grams import grams, words_of
from tslens.errors import DataError, UsageError
from tslens.types import Story

DISTINCT = (1, 2, 3, 4)
NEW = (2, 3, 4)
N_HALVES = 200
MOST_STORIES = 5_000  # of either set: every story is compared with every other
MEAN_OVERLAP = "mean R_2 with all other stories"
_BLOCK = 4096


@dataclass(frozen=True)
class Difference:
    """One measure in both sets. ``difference``: first minus second; ``null_low``, ``null_high``, ``p``: swapped labels.

    ``more``: whether higher is more diverse, None for what is no measure of diversity.
    """

    name: str
    first: Estimate
    second: Estimate
    difference: Estimate
    null_low: float
    null_high: float
    p: float
    more: bool | None

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON types."""
        return asdict(self)


def compare_stories(
    first: Sequence[str],
    second: Sequence[str],
    *,
    seed: int,
    n_permutations: int = 1000,
    progress: Callable[[int], None] = lambda n: None,
) -> list[Difference]:
    """Compare two sets of equally many texts; ``progress`` gets the number of permutations done.

    Raises UsageError for sets of different sizes, under two stories or above 5,000; DataError where half of a set or
    more has fewer than four words.
    """
    n = len(first)
    if len(second) != n or not 2 <= n <= MOST_STORIES:
        raise UsageError(
            f"Cannot compare {n} with {len(second)} stories.",
            f"Give equally many of both, 2 to {MOST_STORIES:,}.",
        )
    texts = [*first, *second]
    pool = _Pool(texts)
    n_short = max(
        np.count_nonzero(pool.n_words[side] < max(DISTINCT)) for side in (slice(n), slice(n, 2 * n))
    )
    if n_short >= max(n // 2, 1):  # else every half of a set has words to count
        raise DataError(
            f"{n_short} of the {n} stories of one corpus have fewer than {max(DISTINCT)} words.",
            "Give longer stories.",
        )
    keys = [Story(text).digest for text in texts]
    members = np.arange(2 * n) < n
    sides = [pool.measure(members), pool.measure(~members)]
    observed = {name: _mean(sides[0][name]) - _mean(sides[1][name]) for name in sides[0]}
    generator = np.random.default_rng([seed, 1])
    null: dict[str, list[float]] = {name: [] for name in observed}
    for done in range(1, n_permutations + 1):
        dealt = np.zeros(2 * n, dtype=bool)
        dealt[generator.permutation(2 * n)[:n]] = True
        a, b = pool.measure(dealt), pool.measure(~dealt)
        for name in null:
            null[name].append(_mean(a[name]) - _mean(b[name]))
        progress(done)
    spread = [_half_spread(pool, side, generator) for side in (members, ~members)]
    rows = []
    for name, value in observed.items():
        if name in spread[0]:
            parts = [
                _normal(name, _mean(side[name]), sd[name], n) for side, sd in zip(sides, spread, strict=True)
            ]
            difference = _normal(name, value, float(np.hypot(spread[0][name], spread[1][name])), n)
        else:
            found = [side[name] for side in sides]
            if name == MEAN_OVERLAP:
                found = [_twice_spread(values) for values in found]
            values = ([*map(_known, found[0])], [*map(_known, found[1])])
            parts = [
                estimate(name, side, key, seed=seed)
                for side, key in zip(values, (keys[:n], keys[n:]), strict=True)
            ]
            difference = estimate_difference(name, values, (keys[:n], keys[n:]), seed=seed)
        dealt_ = np.array(null[name])
        extreme = int((np.abs(dealt_) >= abs(value) - 1e-12).sum())
        low, high = np.quantile(dealt_, [0.025, 0.975])
        p = (1 + extreme) / (1 + n_permutations)
        rows.append(
            Difference(name, parts[0], parts[1], difference, float(low), float(high), p, _is_more(name))
        )
    return rows


def _is_more(name: str) -> bool | None:
    return None if name.startswith("words") else not name.startswith(("largest", "mean"))


class _Pool:
    """All stories of both sets: R_2 of every two, and the different k-grams of each."""

    def __init__(self, texts: Sequence[str]) -> None:
        words = [words_of(text) for text in texts]
        self.n_words = np.array([len(row) for row in words], dtype=float)
        self.story: dict[int, np.ndarray] = {}
        self.gram: dict[int, np.ndarray] = {}
        for k in sorted({2, *DISTINCT, *NEW}):
            self.story[k], self.gram[k] = _gram_table(words, k)
        self.n_distinct = {k: np.bincount(self.story[k], minlength=len(texts)) for k in self.story}
        self.overlap = _overlaps(self.story[2], self.gram[2], len(texts))

    def measure(self, members: Bool[np.ndarray, " story"]) -> dict[str, np.ndarray]:
        """Each measure within one set: a value a member, or one for the set (distinct-k); NaN where undefined."""
        inside = np.flatnonzero(members)
        block = self.overlap[np.ix_(inside, inside)]
        found = {
            "largest R_2 with another story": block.max(1).astype(float),
            MEAN_OVERLAP: block.sum(1, dtype=float) / max(len(inside) - 1, 1),
        }
        for k in NEW:
            mine = members[self.story[k]]
            holders = np.bincount(self.gram[k][mine])
            new = np.bincount(
                self.story[k][mine], weights=holders[self.gram[k][mine]] == 1, minlength=len(members)
            )
            with np.errstate(invalid="ignore"):
                found[f"{k}-grams that no other story has"] = (new / self.n_distinct[k])[inside]
        for k in DISTINCT:
            found[f"distinct-{k}"] = np.array([self.distinct(members, k)])
        found["words of a story"] = self.n_words[inside]
        return found

    def distinct(self, members: Bool[np.ndarray, " story"], k: int) -> float:
        """Different k-grams over all k-grams of a set."""
        n_different = np.count_nonzero(np.bincount(self.gram[k][members[self.story[k]]]))
        n_all = np.maximum(self.n_words[members] - k + 1, 0).sum()
        return float(n_different / n_all) if n_all else np.nan


def _gram_table(
    words: Sequence[Sequence[str]], k: int
) -> tuple[Int[np.ndarray, " entry"], Int[np.ndarray, " entry"]]:
    """Story and k-gram, both as numbers, of every different k-gram of every story."""
    ids: dict[tuple[str, ...], int] = {}
    rows = [[ids.setdefault(gram, len(ids)) for gram in sorted(grams(row, k))] for row in words]
    story = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    return story, np.array([number for row in rows for number in row], dtype=np.int64)


def _overlaps(
    story: Int[np.ndarray, " entry"], gram: Int[np.ndarray, " entry"], n_stories: int
) -> Float[np.ndarray, "story story"]:
    """R_2 of every two stories, 0 on the diagonal."""
    shared = np.zeros((n_stories, n_stories), dtype=np.float32)
    for entries in _common_blocks(gram):
        table = np.zeros((n_stories, _BLOCK), dtype=np.float32)
        _, column = np.unique(gram[entries], return_inverse=True)
        table[story[entries], column] = 1
        shared += table @ table.T
    size = np.bincount(story, minlength=n_stories).astype(np.float32)
    overlap = 2 * shared / np.maximum(size[:, None] + size[None, :], 1)
    np.fill_diagonal(overlap, 0)
    return overlap


def _common_blocks(gram: Int[np.ndarray, " entry"]) -> Iterator[np.ndarray]:
    """Entries of the k-grams that several stories have, ``_BLOCK`` k-grams at a time."""
    common = np.flatnonzero(np.bincount(gram) > 1)
    place = np.full(int(gram.max(initial=0)) + 1, -1)
    place[common] = np.arange(len(common))
    of_entry = place[gram]
    for first in range(0, len(common), _BLOCK):
        yield np.flatnonzero((of_entry >= first) & (of_entry < first + _BLOCK))


def _half_spread(
    pool: _Pool, members: Bool[np.ndarray, " story"], generator: np.random.Generator
) -> dict[str, float]:
    """Standard error of each distinct-k: its deviation over halves of the set drawn without repetition."""
    inside = np.flatnonzero(members)
    found: dict[str, list[float]] = {f"distinct-{k}": [] for k in DISTINCT}
    for _ in range(N_HALVES):
        half = np.zeros(len(members), dtype=bool)
        half[generator.permutation(inside)[: max(len(inside) // 2, 1)]] = True
        for k in DISTINCT:
            found[f"distinct-{k}"].append(pool.distinct(half, k))
    return {name: float(np.std(values)) for name, values in found.items()}


def _twice_spread(values: Float[np.ndarray, " story"]) -> Float[np.ndarray, " story"]:
    """Values about their mean, twice as far: a mean over all pairs varies twice as much as one over stories.

    Each pair has two stories, and both are drawn (a U-statistic of order 2; Hoeffding 1948).
    """
    return 2 * values - values.mean()


def _normal(name: str, value: float, deviation: float, n: int) -> Estimate:
    return Estimate(name, value, value - 1.96 * deviation, value + 1.96 * deviation, n)


def _mean(values: Float[np.ndarray, " story"]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else 0.0


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
