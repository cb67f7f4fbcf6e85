"""What is lost on average over items, with intervals that know of clusters and of how much was tested.

An item is a pair of a readout, or a text that was graded; its cluster is the story, template or prompt that it is of.
Means are ratios of sums over clusters (``clustered``). 95% intervals by studentised Poisson bootstrap; corrected ones
from the largest deviation, in standard errors, over all columns of all tables that are given together, so that with 95%
probability not one of them misses (``stats``); a column takes Student's quantile of that probability for its clusters.

Axes: item, cluster, column (what was ablated), replicate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import norm, t

from tslens.link.clustered import ClusteredMeans
from tslens.stats import LEVEL, MIN_HALF, poisson_weights, scaled_deviations, second_half

ROUNDING = 1e-6  # of the unit: a drop that is smaller is none


@dataclass(frozen=True)
class Drop:
    """A mean with its 95% interval, the same corrected for all that was tested with it, and ``p`` of none.

    ``halves``: the mean on either half of the clusters, None where a half has fewer than ``stats.MIN_HALF``.
    """

    value: float
    low: float
    high: float
    low_corrected: float
    high_corrected: float
    p: float
    halves: tuple[float | None, float | None]

    @property
    def is_confirmed(self) -> bool:
        """Whether it is above zero on either half."""
        return all(half is not None and half > 0 for half in self.halves)

    def scaled(self, factor: float) -> Drop:
        """In another unit; ``factor`` above zero."""
        first, second = (None if half is None else half * factor for half in self.halves)
        return Drop(
            self.value * factor,
            self.low * factor,
            self.high * factor,
            self.low_corrected * factor,
            self.high_corrected * factor,
            self.p,
            (first, second),
        )

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {**asdict(self), "halves": list(self.halves)}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Drop:
        """Inverse of :meth:`to_json`. Raises KeyError or TypeError for another record."""
        return cls(**{**row, "halves": (row["halves"][0], row["halves"][1])})


@dataclass(frozen=True, eq=False)
class ItemTable:
    """What each item says of each column, NaN where it says nothing. ``cluster``: key of each item's cluster."""

    cluster: Sequence[int]
    values: Float[np.ndarray, "item column"]


def drops_of(tables: Sequence[ItemTable], *, seed: int) -> list[list[Drop | None]]:
    """Of each table the mean of each column, all of them one family; None of a column with fewer than two clusters."""
    read = [_Read.of(table, seed) for table in tables]
    largest = _largest([one.means for one in read])
    return [one.drops(largest) for one in read]


@dataclass(frozen=True, eq=False)
class _Read:
    """A table summed by cluster."""

    keys: Sequence[int]
    sums: Float[np.ndarray, "cluster column"]
    counts: Int[np.ndarray, "cluster column"]
    means: ClusteredMeans

    @classmethod
    def of(cls, table: ItemTable, seed: int) -> _Read:
        keys, index = np.unique(np.array(table.cluster, dtype=object), return_inverse=True)
        belongs = np.zeros((len(keys), len(index)))
        belongs[index, np.arange(len(index))] = 1
        present = ~np.isnan(table.values)
        sums = belongs @ np.where(present, table.values, 0.0)
        counts = (belongs @ present).round().astype(np.int64)
        weights = poisson_weights(seed, list(keys))
        return cls(list(keys), sums, counts, ClusteredMeans.of(weights, sums, counts.astype(float)))

    def drops(self, largest: Float[np.ndarray, " replicate"]) -> list[Drop | None]:
        return [
            self._drop(column, largest) if self.means.n_clusters[column] > 1 else None
            for column in range(self.sums.shape[1])
        ]

    def _drop(self, column: int, largest: Float[np.ndarray, " replicate"]) -> Drop:
        mean, se = float(self.means.mean[0, column]), float(self.means.se[0, column])
        ends, freedom = self.means.interval(column), max(int(self.means.n_clusters[column]) - 1, 1)
        reach = float(t.ppf(norm.cdf(np.quantile(largest, LEVEL)), freedom)) * se
        if abs(mean) < ROUNDING:
            n_beyond = len(largest)
        else:
            deviation = float(norm.isf(t.sf(abs(mean) / se, freedom))) if se else float("inf")
            n_beyond = int((largest >= deviation).sum())
        p = (1 + n_beyond) / (1 + len(largest))
        return Drop(mean, ends.low, ends.high, mean - reach, mean + reach, p, self._halves(column))

    def _halves(self, column: int) -> tuple[float | None, float | None]:
        is_second = np.array([second_half(key) for key in self.keys])
        first, second = (self._mean_of(side, column) for side in (~is_second, is_second))
        return first, second

    def _mean_of(self, side: np.ndarray, column: int) -> float | None:
        counts = self.counts[side, column]
        if (counts > 0).sum() < MIN_HALF:
            return None
        return float(self.sums[side, column].sum() / counts.sum())


def _largest(means: Sequence[ClusteredMeans]) -> Float[np.ndarray, " replicate"]:
    """Of each replicate the largest deviation of all columns."""
    found = [
        np.abs(scaled_deviations(one.mean[1:], one.mean[0], one.se[0])).max(1, initial=0.0) for one in means
    ]
    largest: np.ndarray = np.max(found, axis=0)
    return largest
