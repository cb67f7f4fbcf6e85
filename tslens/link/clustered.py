"""Means over items whose errors know of clusters: items of one story are alike, so stories are what is resampled.

A mean over items is a ratio of two sums over clusters, of the values and of the numbers of items; its standard error is
that of the linearised ratio (Cochran 1977, Sampling Techniques, section 6.4). Replicates give every cluster a
Poisson(1) weight (``stats.poisson_weights``), the same in all columns, so that what shares a story varies together.

Axes: replicate (row 0: the sample itself), cluster, column.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import norm, t

from tslens.stats import LEVEL, Interval, scaled_deviations


@dataclass(frozen=True, eq=False)
class ClusteredMeans:
    """``mean``, ``se``: of the sample and of each replicate. ``n_clusters``: that have a value."""

    mean: Float[np.ndarray, "replicate column"]
    se: Float[np.ndarray, "replicate column"]
    n_clusters: Int[np.ndarray, " column"]

    @classmethod
    def of(
        cls,
        weights: Float[np.ndarray, "replicate cluster"],
        sums: Float[np.ndarray, "cluster column"],
        counts: Float[np.ndarray, "cluster column"],
    ) -> ClusteredMeans:
        """``weights``: of ``stats.poisson_weights``. ``sums``: of the values of each cluster; ``counts``: how many."""
        with np.errstate(divide="ignore", invalid="ignore"):
            total = weights @ counts
            mean = (weights @ sums) / total
            squares = (
                (weights @ sums**2) - 2 * mean * (weights @ (sums * counts)) + mean**2 * (weights @ counts**2)
            )
            n = weights @ (counts > 0)
            se = np.sqrt(np.maximum(squares, 0.0) * n / np.maximum(n - 1, 1)) / total
        return cls(mean, se, (counts > 0).sum(0))

    def interval(self, column: int) -> Interval:
        """95%, by studentised bootstrap."""
        mean, se = self.mean[:, column], self.se[:, column]
        scaled = scaled_deviations(mean[1:], mean[0], se[1:])
        low_t, high_t = np.quantile(scaled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Interval(float(mean[0] - high_t * se[0]), float(mean[0] - low_t * se[0]))

    def lower_ends(self) -> Float[np.ndarray, " column"]:
        """Lower ends that hold together with 95% probability: from the largest deviation of all columns (``stats``).

        It is a number of standard errors; a column takes Student's quantile of its probability for its clusters.
        """
        mean, se = self.mean[0], self.se[0]
        largest = np.quantile(scaled_deviations(self.mean[1:], mean, se).max(1), LEVEL)
        ends: np.ndarray = mean - t.ppf(norm.cdf(largest), np.maximum(self.n_clusters - 1, 1)) * se
        return ends
