"""Means over stories of what interventions cost, their intervals, and the same for many at once (``stats``).

Column 0 is on all tokens, and is one family of tests; the other columns, classes of tokens, are another. The largest
deviation of a family is a number of standard errors; an effect takes Student's quantile of its probability for its
stories, as in ``drops``.

Axes: story, column, row (of a report); replicate of the bootstrap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import norm, rankdata, t

from tslens.link.ablation_report import Effect
from tslens.stats import BootstrapSums, poisson_weights, scaled_deviations, second_half

CHUNK = 2000  # columns x rows whose replicates are in memory at once: 64 MB
LEVEL = 0.95
ROUNDING = 1e-6  # nats: an effect that is smaller is none


@dataclass(frozen=True, eq=False)
class EffectSizes:
    """Means over the stories that have a column, standard errors, ends of 95% intervals.

    ``n``: stories of each column. ``largest``: of each replicate the largest deviation in standard errors, of column 0
    and of the others. ``of_halves``: means of column 0 on either half, NaN where it has none. ``replicates``: of column
    0, for rank correlations.
    """

    mean: Float[np.ndarray, "column row"]
    se: Float[np.ndarray, "column row"]
    low: Float[np.ndarray, "column row"]
    high: Float[np.ndarray, "column row"]
    n: Int[np.ndarray, " column"]
    largest: Float[np.ndarray, "2 replicate"]
    of_halves: Float[np.ndarray, "2 row"]
    replicates: Float[np.ndarray, "replicate row"]

    @classmethod
    def of(
        cls,
        table: Float[np.ndarray, "story column row"],
        present: Bool[np.ndarray, "story column"],
        clusters: Sequence[int],
        *,
        seed: int,
    ) -> EffectSizes:
        """From what each story says; ``present``: which columns it has. ``clusters``: its key."""
        weights = torch.from_numpy(poisson_weights(seed, clusters))
        half = torch.tensor([second_half(key) for key in clusters])
        n_columns = table.shape[1]
        largest = np.zeros((2, len(weights) - 1))
        parts: list[list[np.ndarray]] = []
        step = max(1, CHUNK // n_columns)
        for first in range(0, table.shape[2], step):
            part = table[:, :, first : first + step]
            sums = BootstrapSums(n_columns, part.shape[2])
            sums.add(torch.from_numpy(part), torch.from_numpy(present), weights, half)
            means = sums.means()
            deviations = np.abs(scaled_deviations(means.mean[1:], means.mean[0], means.se[0]))
            for family, columns in enumerate((slice(0, 1), slice(1, None))):
                of_family = deviations[:, columns].max(axis=(1, 2), initial=0.0)
                largest[family] = np.maximum(largest[family], of_family)
            of_halves = np.stack([sums.means(side).mean[0, 0] for side in (0, 1)])
            parts.append([means.mean[0], means.se[0], *means.interval(LEVEL), of_halves, means.mean[1:, 0]])
        mean, se, low, high, of_halves, replicates = (
            np.concatenate(arrays, axis=-1) for arrays in zip(*parts, strict=True)
        )
        return cls(mean, se, low, high, present.sum(0), largest, of_halves, replicates)

    def effect(self, column: int, row: int) -> Effect:
        """One mean, which at least one story has, with its intervals where two have it."""
        mean, n = float(self.mean[column, row]), int(self.n[column])
        if n < 2:
            return Effect(mean, None, None, None, None, None, n)
        se, largest = float(self.se[column, row]), self.largest[0 if column == 0 else 1]
        reach = float(t.isf(norm.sf(np.quantile(largest, LEVEL)), n - 1)) * se
        if abs(mean) < ROUNDING:
            n_beyond = len(largest)
        else:
            deviation = float(norm.isf(t.sf(abs(mean) / se, n - 1))) if se else float("inf")
            n_beyond = int((largest >= deviation).sum())
        return Effect(
            mean,
            float(self.low[column, row]),
            float(self.high[column, row]),
            mean - reach,
            mean + reach,
            (1 + n_beyond) / (1 + len(largest)),
            n,
        )

    def halves(self, row: int) -> tuple[float | None, float | None]:
        """The mean of column 0 on either half."""
        first, second = (None if np.isnan(x) else float(x) for x in self.of_halves[:, row])
        return first, second

    def spearman(self, rows: Sequence[int], others: Sequence[int]) -> tuple[float, float, float]:
        """Rank correlation of column 0 of some rows with that of as many others; 95% percentiles over replicates.

        Noise of the means lowers it, in the replicates twice.
        """
        found = _rank_correlation(self.mean[:1, rows], self.mean[:1, others])
        drawn = _rank_correlation(self.replicates[:, rows], self.replicates[:, others])
        low, high = np.nanquantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return float(found[0]), float(low), float(high)


def _rank_correlation(
    one: Float[np.ndarray, "replicate row"], other: Float[np.ndarray, "replicate row"]
) -> Float[np.ndarray, " replicate"]:
    """Spearman's coefficient of each replicate, 0 where all are equal."""
    ranks = [rankdata(x, axis=1) for x in (one, other)]
    centred = [x - x.mean(1, keepdims=True) for x in ranks]
    scale = np.sqrt((centred[0] ** 2).sum(1) * (centred[1] ** 2).sum(1))
    found: np.ndarray = (centred[0] * centred[1]).sum(1) / np.where(scale > 0, scale, 1.0)
    return found
