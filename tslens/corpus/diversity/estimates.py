"""Means over stories with their 95% intervals, differences of means, histograms.

A story's value (its nearest neighbour's score, its share of new k-grams) is taken as it is; the bootstrap resamples
stories, not their neighbours. Story by story: a story's digest seeds its weights (``tslens.stats``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from tslens.stats import Means, poisson_weights


@dataclass(frozen=True)
class Estimate:
    """A mean over ``n`` stories with its 95% interval; None where no story has the measure or only one has it."""

    name: str
    mean: float | None
    low: float | None
    high: float | None
    n: int

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON types."""
        return {"name": self.name, "mean": self.mean, "low": self.low, "high": self.high, "n": self.n}


@dataclass(frozen=True)
class Histogram:
    """Counts of values between edges; the last bin holds its upper edge. ``never``: values that have no place."""

    name: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    never: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON types."""
        return {
            "name": self.name,
            "edges": list(self.edges),
            "counts": list(self.counts),
            "never": self.never,
        }


def estimate(name: str, values: Sequence[float | None], keys: Sequence[int], *, seed: int) -> Estimate:
    """Mean of one value a story, studentised Poisson bootstrap over stories. None: the story has no value.

    ``keys``: a 64-bit key of each story. The generator is seeded with (seed, story), whatever their order.
    """
    x, weights = _present(values, keys, seed)
    if len(x) < 2:
        return Estimate(name, float(x[0]) if len(x) else None, None, None, len(x))
    low, high = _means(x, weights).interval()
    return Estimate(name, float(x.mean()), float(low[0, 0]), float(high[0, 0]), len(x))


def estimate_difference(
    name: str,
    values: tuple[Sequence[float | None], Sequence[float | None]],
    keys: tuple[Sequence[int], Sequence[int]],
    *,
    seed: int,
) -> Estimate:
    """Mean of the first stories minus mean of the second, each resampled by itself; ``n`` is the smaller number."""
    sides = [_present(x, key, seed + side) for side, (x, key) in enumerate(zip(values, keys, strict=True))]
    n = min(len(x) for x, _ in sides)
    if n < 2:
        return Estimate(name, None, None, None, n)
    first, second = (_means(x, weights) for x, weights in sides)
    both = Means(first.mean - second.mean, np.hypot(first.se, second.se), np.array([n]))
    low, high = both.interval()
    return Estimate(name, float(both.mean[0, 0, 0]), float(low[0, 0]), float(high[0, 0]), n)


def histogram(
    name: str, values: Sequence[float], edges: Sequence[float], *, never: int | None = None
) -> Histogram:
    """Count values; one outside the edges is counted in the nearest bin."""
    x = np.clip(np.asarray(values, dtype=float), edges[0], edges[-1])
    counts, _ = np.histogram(x, bins=np.asarray(edges))
    return Histogram(name, tuple(map(float, edges)), tuple(counts.tolist()), never)


SHARE_EDGES = tuple(round(0.05 * i, 2) for i in range(21))
FREQUENCY_EDGES = tuple(round(-9 + 0.5 * i, 1) for i in range(19))  # log10 of relative frequencies


def _present(
    values: Sequence[float | None], keys: Sequence[int], seed: int
) -> tuple[Float[np.ndarray, " story"], Float[np.ndarray, "replicate story"]]:
    known = [(value, key) for value, key in zip(values, keys, strict=True) if value is not None]
    x = np.array([value for value, _ in known], dtype=float)
    return x, poisson_weights(seed, [key for _, key in known])


def _means(x: Float[np.ndarray, " story"], weights: Float[np.ndarray, "replicate story"]) -> Means:
    n = weights.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = weights @ x / n
        variance = np.maximum(weights @ x**2 / n - mean**2, 0.0)
        se = np.sqrt(variance / np.maximum(n - 1, 1))
    return Means(mean[:, None, None], se[:, None, None], np.array([len(x)]))
