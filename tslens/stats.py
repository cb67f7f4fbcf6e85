"""Intervals and tests over stories, in one pass and constant memory.

**Poisson bootstrap.** Each story gets, in each of B replicates, a weight drawn from Poisson(1) by a generator
seeded with (seed, story): the online form of resampling stories with replacement (Hanley and MacGibbon 2006;
Chamandy et al. 2012). Only weighted sums are kept, so memory does not grow with the number of stories, and the
order of the stories does not matter.

**Interval of a mean**: studentised bootstrap, ``mean - t * se`` with the quantiles of ``(mean_b - mean) / se_b``.

**Many tests at once**: the 95th percentile over replicates of the largest ``(mean_b - mean) / se`` of all of them
(Chernozhukov, Chetverikov and Kato 2013) widens every interval alike, so that with 95% probability not one
of them misses; where what is measured is skew, with each replicate's own error (``ends_together``). Stories are the
clusters: tokens of a story are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.stats import beta, norm, t

N_REPLICATES = 1000
LEVEL = 0.95
MIN_CLUSTERS = 30
MIN_HALF = 5  # stories of either half, below which nothing is confirmed
_POISSON = np.searchsorted(  # quantiles of Poisson(1) at 65,536 even steps: a draw is one look-up
    np.cumsum([np.exp(-1.0) / math.factorial(k) for k in range(12)]), (np.arange(2**16) + 0.5) / 2**16
).astype(np.int8)
GROUP = 128  # stories added to the sums together
NO_SPREAD = 1e-4  # of the largest error of a replicate: below it is rounding


def poisson_weights(seed: int, clusters: Sequence[int], n_replicates: int = N_REPLICATES) -> np.ndarray:
    """Weights [1 + replicate, cluster]; row 0 is all ones, the sample itself.

    ``clusters``: a 64-bit key of each story, for instance its digest.
    """
    weights = np.ones((1 + n_replicates, len(clusters)))
    for column, key in enumerate(clusters):
        generator = np.random.Generator(np.random.Philox(key=np.array([seed, key], dtype=np.uint64)))
        weights[1:, column] = _POISSON[generator.integers(2**16, size=n_replicates, dtype=np.uint16)]
    return weights


def second_half(cluster: int) -> bool:
    """Which half of the stories one belongs to: the top bit of its key, mixed (Knuth 1973), as sides use low bits."""
    return bool(cluster * 0x9E3779B97F4A7C15 >> 63 & 1)


@dataclass(frozen=True)
class Means:
    """``mean``, ``se``: [1 + replicate, column, head], row 0 the sample; ``n``: [column] stories with a query."""

    mean: Float[np.ndarray, "replicate column head"]
    se: Float[np.ndarray, "replicate column head"]
    n: Float[np.ndarray, " column"]

    def interval(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends [column, head] of the studentised bootstrap interval of each mean."""
        scaled = scaled_deviations(self.mean[1:], self.mean[0], self.se[1:])
        tail = (1 - level) / 2
        low_t, high_t = np.quantile(scaled, tail, axis=0), np.quantile(scaled, 1 - tail, axis=0)
        return self.mean[0] - high_t * self.se[0], self.mean[0] - low_t * self.se[0]


class BootstrapSums:
    """Running weighted sums of per-story measurements, for either half of the stories.

    A measurement is ``x[story, column, head]``; ``present[story, column]`` is False where the story has no query.
    Stories wait until there are ``GROUP`` of them, because each pass over the sums costs more than the products.
    """

    def __init__(self, n_columns: int, n_heads: int, n_replicates: int = N_REPLICATES) -> None:
        rows = 1 + n_replicates
        self.weight = torch.zeros(2, rows, n_columns, dtype=torch.float64)
        self.first = torch.zeros(2, rows, n_columns, n_heads, dtype=torch.float64)
        self.second = torch.zeros(2, rows, n_columns, n_heads, dtype=torch.float64)
        self._waiting: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]] = []
        self._n_waiting = 0

    def add(
        self,
        x: Float[torch.Tensor, "story column head"],
        present: Bool[torch.Tensor, "story column"],
        weights: Float[torch.Tensor, "replicate story"],
        half: Bool[torch.Tensor, " story"],
    ) -> None:
        """Add a batch of stories. ``half``: which half of the stories each belongs to."""
        self._waiting.append((x, present, weights.T, half))
        self._n_waiting += len(x)
        if self._n_waiting >= GROUP:
            self.flush()

    def flush(self) -> None:
        """Add the stories that wait."""
        if not self._waiting:
            return
        x, present, weights, half = (torch.cat(parts) for parts in zip(*self._waiting, strict=True))
        self._waiting, self._n_waiting = [], 0
        x = torch.where(present[:, :, None], x.double(), 0.0).flatten(1)
        for side in (0, 1):
            chosen = half == bool(side)
            if not chosen.any():
                continue
            w, part = weights[chosen].T, x[chosen]
            self.weight[side].addmm_(w, present[chosen].double())
            self.first[side].flatten(1).addmm_(w, part)
            self.second[side].flatten(1).addmm_(w, part.square())

    def means(self, side: int | None = None) -> Means:
        """Means and standard errors over all stories, or over one half."""
        self.flush()
        pick = slice(None) if side is None else slice(side, side + 1)
        n = self.weight[pick].sum(0)[:, :, None].numpy()
        first, second = self.first[pick].sum(0).numpy(), self.second[pick].sum(0).numpy()
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = first / n
            variance = np.maximum(second / n - mean**2, 0.0)
            se = np.sqrt(variance / np.maximum(n - 1, 1))
        return Means(mean, se, self.weight[pick].sum(0)[0].numpy())


def one_sided(n: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Student's quantile for the lower end of a one-sided 95% interval of a mean over ``n`` stories."""
    quantile: np.ndarray = t.ppf(0.95, np.maximum(np.asarray(n) - 1, 1))
    return quantile


def percentile_ends(
    replicates: Float[np.ndarray, "replicate *test"], n_clusters: int
) -> tuple[Float[np.ndarray, "*test"], Float[np.ndarray, "*test"]]:
    """Ends of the 95% percentile interval of each estimate; row 0, the sample itself, is left out.

    Replicates of ``n`` clusters have the spread of ``n - 1`` and a normal law's tails: the percentiles are moved out to
    what Student's law asks. Source: Hesterberg 2015, The American Statistician 69, section 4.4.
    """
    n = max(n_clusters, 2)
    tail = norm.sf(t.ppf((1 + LEVEL) / 2, n - 1) * (n / (n - 1)) ** 0.5)
    low, high = np.quantile(replicates[1:], [tail, 1 - tail], axis=0)
    return low, high


def scaled_deviations(
    replicate: Float[np.ndarray, "replicate *test"],
    estimate: Float[np.ndarray, "*test"],
    se: Float[np.ndarray, "*of_each_or_of_all"],
) -> Float[np.ndarray, "replicate *test"]:
    """``(estimate_b - estimate) / se``; zero where nothing varies or nothing was measured.

    With an ``se`` of each replicate: one that drew clusters which are all alike has none but rounding, by which nothing
    can be divided. If it lies off the estimate, it counts as the farthest of the others.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = (replicate - estimate) / se
    scaled = np.where(np.isfinite(scaled), scaled, 0.0)
    if np.ndim(se) < replicate.ndim:
        return scaled
    rounding = NO_SPREAD * np.fmax.reduce(se, axis=0)
    is_flat = se <= rounding
    if is_flat.any():
        off = np.where(np.abs(replicate - estimate) > rounding, np.sign(replicate - estimate), 0.0)
        scaled = np.where(is_flat, 0.0, scaled)
        scaled = np.where(is_flat, off * np.abs(scaled).max(0), scaled)
    return scaled


def ends_together(
    mean: Float[np.ndarray, "replicate test"],
    se: Float[np.ndarray, "replicate test"],
    n: Float[np.ndarray, " test"],
) -> tuple[Float[np.ndarray, " test"], Float[np.ndarray, " test"]]:
    """Lower ends that hold for all tests with 95% probability, and upper ends that do; row 0 is the sample.

    From the largest studentised deviation: what few stories say much of is skew, and by the sample's errors alone one
    side would miss its truth. Deviations are held against each other on the scale of Student's law for the ``n``
    stories of each test, so that no test of few stories decides for all. Source: Beran 1988, JASA 83 (balanced
    simultaneous sets); Hall 1992, The Bootstrap and Edgeworth Expansion, section 3.10.
    """
    df = np.maximum(np.asarray(n) - 1, 1)
    scaled = scaled_deviations(mean[1:], mean[0], se[1:])
    z = np.sign(scaled) * norm.isf(np.maximum(t.sf(np.abs(scaled), df), 1e-300))
    below, above = (t.isf(norm.sf(np.quantile(each.max(1), LEVEL)), df) for each in (z, -z))
    return mean[0] - below * se[0], mean[0] + above * se[0]


@dataclass(frozen=True)
class Interval:
    """Lower and upper end."""

    low: float
    high: float


def share_interval(share: float, se: float, n_clusters: int, n: int) -> Interval:
    """95% interval of a share of ``n`` values of ``n_clusters`` clusters, within 0 and 1.

    Clopper and Pearson's for as many independent values as know the share as well as these do; as many as clusters
    where all values are alike. Source: Korn and Graubard 1998, Survey Methodology 24.
    """
    if n_clusters < 2:
        return Interval(0.0, 1.0)
    upper = (1 + LEVEL) / 2
    if share in (0.0, 1.0):
        n_effective = float(n_clusters)
    else:
        few = float(t.ppf(upper, n - 1) / t.ppf(upper, n_clusters - 1)) ** 2
        n_effective = min(share * (1 - share) / se**2 * few, float(n)) if se else float(n)
    hits = share * n_effective
    low = float(beta.ppf(1 - upper, hits, n_effective - hits + 1)) if hits > 0 else 0.0
    high = float(beta.ppf(upper, hits + 1, n_effective - hits)) if hits < n_effective else 1.0
    return Interval(low, high)
