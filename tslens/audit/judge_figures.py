"""Figures of a judge with intervals over stories: areas, means, slopes, rank correlations.

A story (or a prompt) is what is drawn, with all that belongs to it. Means, areas and slopes have intervals of
Student's t over stories; rank correlations have the quantiles of a bootstrap over them (``stats.poisson_weights``).
How often each holds the truth: ``docs/methods.md``, *Do the intervals hold?*

Axes: story, row, replicate, group.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from scipy.special import expit, logit
from scipy.stats import t

from tslens.stats import poisson_weights, share_interval

FEWEST = 10  # stories, below which no figure is given
TAIL = 0.025
Column = Float[np.ndarray, " story"]


@dataclass(frozen=True, slots=True)
class Figure:
    """A value with its 95% interval; all None where it cannot be taken. ``n``: stories."""

    value: float | None
    low: float | None
    high: float | None
    n: int


def area(clean: Column, twin: Column) -> Figure:
    """Probability that a clean story has a higher grade than the twin of another story; ties count half.

    The area under the ROC curve, unpaired: no story is held against its own twin. ``clean[s]`` and ``twin[s]`` are of
    one story. Range 0 to 1; 0.5 for a judge that sees nothing. The interval is on the logit scale, with the error of
    DeLong et al. (1988) over stories; where each wins or loses alike it is that of a share of as many stories.
    """
    n = len(clean)
    if n < FEWEST:
        return Figure(None, None, None, n)
    wins = np.where(clean[:, None] > twin[None, :], 1.0, 0.5 * (clean[:, None] == twin[None, :]))
    np.fill_diagonal(wins, 0.0)
    value = float(wins.sum() / (n * (n - 1)))
    influence = (wins.sum(0) + wins.sum(1)) / (
        n - 1
    ) - 2 * value  # of a story, by its grade and by that of its twin
    error = math.sqrt(float((influence**2).sum()) / (n * (n - 1)))
    if error == 0 or not 0 < value < 1:
        ends = share_interval(value, 0.0, n, n)
        return Figure(value, ends.low, ends.high, n)
    reach = float(t.ppf(1 - TAIL, n - 1)) * error / (value * (1 - value))
    low, high = expit(logit(value) + np.array([-reach, reach]))
    return Figure(value, float(low), float(high), n)


def mean(values: Column, *, tail: float = TAIL) -> Figure:
    """Mean over stories. ``tail``: share of the law that lies beyond either end."""
    n = len(values)
    if n < FEWEST:
        return Figure(None, None, None, n)
    value = float(values.mean())
    reach = float(t.ppf(1 - tail, n - 1) * values.std(ddof=1) / math.sqrt(n))
    return Figure(value, value - reach, value + reach, n)


def slope(x: Column, y: Column, groups: Sequence[str]) -> Figure:
    """Slope of y on x within groups: each group has a level of its own. Spread may differ from story to story.

    The interval is that of Bell and McCaffrey (2002; HC2 errors, degrees of freedom by Satterthwaite). Stories that are
    alone in their group say nothing and are left out; a single group is an ordinary regression.
    """
    names, group = np.unique(np.array(groups, dtype=str), return_inverse=True)
    sizes = np.bincount(group, minlength=len(names))
    kept = sizes[group] > 1
    n, n_groups = int(kept.sum()), int((sizes > 1).sum())
    if n - n_groups - 1 < FEWEST:
        return Figure(None, None, None, n)
    member = (group[kept, None] == np.flatnonzero(sizes > 1)).astype(float)
    level = member / member.sum(0) @ member.T  # the mean of a story's group
    largest = float(np.abs(x[kept]).max())
    x, y = (values[kept] - level @ values[kept] for values in (x, y))
    square = float((x**2).sum())
    if square <= n * (1e-12 * largest) ** 2:
        return Figure(None, None, None, n)
    left = np.eye(n) - level - np.outer(x, x) / square  # residuals are left @ y
    if (left.diagonal() < 1e-9).any():  # some story decides the slope alone
        return Figure(None, None, None, n)
    value = float((x * y).sum()) / square
    share = x / square / np.sqrt(left.diagonal())
    error = math.sqrt(float((share**2 * (y - value * x) ** 2).sum()))
    variance = np.outer(share, share) * left
    freedom = float((x / square) @ (x / square)) ** 2 / float((variance**2).sum())
    reach = float(t.ppf(1 - TAIL, freedom)) * error
    return Figure(value, value - reach, value + reach, n)


def rank_correlation(
    x: Float[np.ndarray, " row"],
    y: Float[np.ndarray, " row"],
    keys: Sequence[int],
    strata: Sequence[str],
    *,
    seed: int,
) -> Figure:
    """Spearman's correlation within each stratum, averaged over strata; a single stratum is the pooled one.

    ``keys``: cluster of each row. A stratum in which one side does not vary has none and is left out of the average.
    ``n``: clusters.
    """
    clusters, cluster = np.unique(np.array(keys, dtype=np.uint64), return_inverse=True)
    n = len(clusters)
    if n < FEWEST:
        return Figure(None, None, None, n)
    weights = _weights(seed, tuple(map(int, clusters)))[:, cluster]
    names = np.array(strata, dtype=str)
    each = np.stack(
        [
            _spearman(weights[:, names == name], x[names == name], y[names == name])
            for name in np.unique(names)
        ]
    )
    is_known = np.isfinite(each)
    n_known = is_known.sum(0)
    found = np.where(is_known, each, 0.0).sum(0)[n_known > 0] / n_known[n_known > 0]
    return _with_quantiles(found, n) if n_known[0] else Figure(None, None, None, n)


def _spearman(
    weights: Float[np.ndarray, "replicate row"], x: Float[np.ndarray, " row"], y: Float[np.ndarray, " row"]
) -> Float[np.ndarray, " replicate"]:
    """Correlation of the ranks of rows that stand there ``weights`` times; NaN where one side does not vary."""
    total = np.maximum(weights.sum(1, keepdims=True), 1)
    sides = []
    for values in (x, y):
        below, equal = (compare(values[:, None], values[None, :]) for compare in (np.less, np.equal))
        ranks = weights @ (below + equal / 2)
        sides.append(ranks - (weights * ranks).sum(1, keepdims=True) / total)
    a, b = sides
    scale = np.sqrt((weights * a**2).sum(1) * (weights * b**2).sum(1))
    together = (weights * a * b).sum(1)
    correlation: np.ndarray = np.divide(
        together, scale, out=np.full(len(weights), np.nan), where=scale > 1e-9 * total[:, 0]
    )
    return correlation


@lru_cache(maxsize=16)
def _weights(seed: int, keys: tuple[int, ...]) -> Float[np.ndarray, "replicate story"]:
    """The same stories come again with each criterion and strength."""
    return poisson_weights(seed, keys)


def _with_quantiles(replicates: Float[np.ndarray, " replicate"], n: int) -> Figure:
    """The first is the sample itself, the rest are its replicates."""
    low, high = np.quantile(replicates[1:], (TAIL, 1 - TAIL))
    return Figure(float(replicates[0]), float(low), float(high), n)
