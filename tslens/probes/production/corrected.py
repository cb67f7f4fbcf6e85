"""Means over stories of many tests at once, with ends that hold for all of them together (``stats.ends_together``).

Axes: story, test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from tslens.stats import MIN_HALF, BootstrapSums, ends_together, one_sided, poisson_weights, second_half


@dataclass(frozen=True)
class Corrected:
    """Means over stories of many tests.

    ``low``, ``high``: lower and upper ends, each one-sided and corrected for all tests; infinite where a half has fewer
    than five stories. ``low_half``: the lower of both halves' one-sided 95% ends, by itself. ``n``: stories.
    """

    mean: Float[np.ndarray, " test"]
    low: Float[np.ndarray, " test"]
    high: Float[np.ndarray, " test"]
    low_half: Float[np.ndarray, " test"]
    n: Int[np.ndarray, " test"]

    @classmethod
    def of(cls, table: Float[np.ndarray, "story test"], clusters: Sequence[int], seed: int) -> Corrected:
        """NaN where a story has nothing to say."""
        values = torch.from_numpy(table)[:, :, None]
        half = torch.tensor([second_half(key) for key in clusters])
        sums = BootstrapSums(table.shape[1], 1)
        weights = torch.from_numpy(poisson_weights(seed, clusters))
        sums.add(values, torch.isfinite(values[:, :, 0]), weights, half)
        whole, halves = sums.means(), [sums.means(0), sums.means(1)]
        mean = whole.mean[0, :, 0]
        low, high = ends_together(whole.mean[:, :, 0], whole.se[:, :, 0], whole.n)
        enough = np.min([each.n for each in halves], 0) >= MIN_HALF
        of_halves = [each.mean[0, :, 0] - one_sided(each.n) * each.se[0, :, 0] for each in halves]
        low_half = np.nan_to_num(np.min(of_halves, 0), nan=-np.inf)
        return cls(
            mean,
            np.where(enough, low, -np.inf),
            np.where(enough, high, np.inf),
            low_half,
            whole.n.astype(int),
        )
