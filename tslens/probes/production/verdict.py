"""From sums over stories to rows: value and interval, nulls, corrected excess, confirmation, status.

The rules are those of ``probes.verdict``, with three contrasts for each head and class: value minus 0, minus the value
where what comes next is moved, and minus the threshold of the random twins. ``excess_low`` is the least of their lower
ends, corrected by the largest scaled deviation over all heads, classes and contrasts.

Axes: replicate, null, column (class, copying last), head.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from tslens.probes.production.classes import COPYING, Classes
from tslens.probes.production.report import Produced
from tslens.stats import MIN_CLUSTERS, MIN_HALF, BootstrapSums, Means, one_sided, scaled_deviations
from tslens.types import HeadId, Status

FLOOR = 0.1  # nats: least excess of a candidate, written down before any model was read
NULLS = ("none", "moved", "twins")


def threshold(of_twins: Float[np.ndarray, "story column head"]) -> Float[np.ndarray, " column"]:
    """The null of the twins: the largest one-sided lower end over all their heads.

    NaN where a story has no place. On fewer than five stories it is the largest value itself, on none 0: then the value
    has no more.
    """
    present = np.isfinite(of_twins[:, :, 0])
    n = present.sum(0)[:, None]
    known = np.where(present[:, :, None], of_twins, 0.0)
    mean = known.sum(0) / np.maximum(n, 1)
    squares = np.where(present[:, :, None], (of_twins - mean) ** 2, 0.0).sum(0)
    error = np.sqrt(squares / np.maximum(n - 1, 1) / np.maximum(n, 1))
    low: np.ndarray = np.where(n >= MIN_HALF, mean - one_sided(n) * error, mean).max(1)
    return low


@dataclass(frozen=True)
class Verdict:
    """Rows in the order of the heads, and what holds for all: see ``ProductionReport``."""

    rows: list[Produced]
    critical: float
    counts_at_floors: dict[str, int]


def judge(
    heads: Sequence[HeadId], classes: Classes, sums: BootstrapSums, twins: Float[np.ndarray, " column"]
) -> Verdict:
    """Of every head and column. ``sums``: columns of values, then as many of values less those where moved.

    Warns below 30 stories, where intervals are not to be trusted.
    """
    whole, halves = sums.means(), [sums.means(0), sums.means(1)]
    n_columns = len(classes) + 1
    if whole.n.max() < MIN_CLUSTERS:
        warnings.warn(
            f"There are only {int(whole.n.max())} stories; below {MIN_CLUSTERS} intervals are too narrow, and without "
            f"{MIN_HALF} on either half nothing is a candidate.",
            stacklevel=3,
        )
    contrast, se = _contrasts(whole, twins)
    deviations = scaled_deviations(contrast[1:], contrast[0], se)
    largest = deviations.reshape(len(deviations), -1).max(1)
    critical = float(np.quantile(largest, 0.95))
    lows = (contrast[0] - critical * se).min(0)
    of_halves = [_contrasts(half, twins) for half in halves]
    n_half = np.min([half.n for half in halves], 0).reshape(2, n_columns).min(0)
    enough = (n_half >= MIN_HALF)[:, None]
    low_halves = [
        (each[0] - _quantiles(half) * error).min(0)
        for half, (each, error) in zip(halves, of_halves, strict=True)
    ]
    support = np.where(enough, np.nan_to_num(np.min([lows, *low_halves], 0), nan=-np.inf), -np.inf)
    lows = np.where(enough, lows, -1.0)
    ends = whole.interval()
    n_any = whole.n.reshape(2, n_columns).min(0)
    rows = []
    for i, head in enumerate(heads):
        for column in np.flatnonzero(n_any > 0).tolist():
            one = classes.all[column] if column < len(classes) else None
            if support[column, i] >= FLOOR:
                status: Status = "candidate"
            else:
                status = "unclear" if lows[column, i] > 0 else "no"
            apart = contrast[0, :, column, i]
            value = float(whole.mean[0, column, i])
            rows.append(
                Produced(
                    head=head,
                    kind="copying" if one is None else one.kind,
                    name=COPYING if one is None else one.name,
                    value=value,
                    low=float(ends[0][column, i]),
                    high=float(ends[1][column, i]),
                    nulls={name: value - float(c) for name, c in zip(NULLS, apart, strict=True)},
                    excess=float(apart.min()),
                    excess_low=float(lows[column, i]),
                    p=_p(apart, se[:, column, i], largest) if enough[column, 0] else 1.0,
                    status=status,
                    value_halves=_both([half.mean[0, column, i] for half in halves]),
                    excess_halves=_both([each[0, :, column, i].min() for each, _ in of_halves]),
                    n_stories=int(whole.n[column]),
                )
            )
    factors = {"half": 0.5, "floor": 1.0, "double": 2.0}
    counts = {name: int((support >= factor * FLOOR).any(0).sum()) for name, factor in factors.items()}
    return Verdict(rows, critical, counts)


def _contrasts(
    means: Means, twins: Float[np.ndarray, " column"]
) -> tuple[Float[np.ndarray, "replicate null column head"], Float[np.ndarray, "null column head"]]:
    """Value minus each of ``NULLS``, and standard errors."""
    value, less_moved = np.split(means.mean, 2, axis=1)
    se_value, se_less_moved = np.split(means.se[0], 2, axis=0)
    contrast = np.stack([value, less_moved, value - twins[:, None]], 1)
    return contrast, np.stack([se_value, se_less_moved, se_value])


def _quantiles(half: Means) -> Float[np.ndarray, "null column 1"]:
    """Student's, for the one-sided lower end of each contrast."""
    of_value, of_difference = np.split(one_sided(half.n), 2)
    return np.stack([of_value, of_difference, of_value])[:, :, None]


def _p(
    contrast: Float[np.ndarray, " null"],
    se: Float[np.ndarray, " null"],
    largest: Float[np.ndarray, " replicate"],
) -> float:
    """Largest over the nulls of the share of replicates whose largest deviation reaches the contrast's."""
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(se > 0, contrast / se, np.where(contrast > 0, np.inf, -np.inf))
    return max(float((1 + (largest >= one).sum()) / (1 + len(largest))) for one in t)


def _both(values: Sequence[float]) -> tuple[float | None, float | None]:
    first, second = (float(value) if np.isfinite(value) else None for value in values)
    return first, second
