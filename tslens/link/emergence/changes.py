"""When a series rises, whether it falls again, and which of two comes first.

**Half-rise**: the number of tokens at which a series has half of its whole rise, from its value before training to its
highest value, interpolated in the logarithm of tokens between the two checkpoints around it. A series that does not
rise for sure has none: its highest value less its first must be above what the highest of as many readings of noise
would be in 97.5% of draws. Its interval: the same for 1,000 draws of every reading from a normal
distribution about it, with its standard error (errors of neighbouring checkpoints are taken as independent, though they
read the same stories, which makes the interval wide).

**Fall**: what is lost from the highest value to the end, as a share of the rise; *vanishes* where the share is above
one half for sure. Noise has a say in which checkpoint is the highest, so its interval is over all that may be it, that
is, within three errors of a difference: the largest of their lower ends, corrected for how many they are (Bonferroni),
and the largest of their upper ends.

**Lag** of a capability behind a role: log2 of the ratio of their half-rises, in each seed; mean over seeds with
Student's t over seeds. With three seeds the interval is wide, and an order is stated only where it leaves out zero,
corrected for all pairs that were asked (Bonferroni).

Axes: draw, checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.stats import t

from tslens.stats import LEVEL

N_DRAWS = 1000
VANISHES = 0.5
NEAR = 3.0  # errors of a difference
LEAST_SEEDS = 2
SHIFT = 1000.0  # tokens added before the logarithm, so that the start has one


@dataclass(frozen=True)
class Change:
    """A series of one run. ``tokens``: at its half-rise, with interval; None where it does not rise for sure.

    ``start``, ``peak``, ``end``: values; ``lost``: share of the rise that is gone at the end, with interval.
    """

    run: str
    series: str
    start: float
    peak: float
    end: float
    tokens: float | None
    low: float | None
    high: float | None
    lost: float
    lost_low: float
    lost_high: float

    @property
    def vanishes(self) -> bool:
        """Whether more than half of the rise is gone at the end, for sure."""
        return self.tokens is not None and self.lost_low > VANISHES

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {**asdict(self), "vanishes": self.vanishes}


@dataclass(frozen=True)
class Lag:
    """How long after ``first`` is ``second``, in doublings of tokens: mean over seeds. ``sure``: not 0, corrected."""

    first: str
    second: str
    doublings: float
    low: float
    high: float
    n_seeds: int
    sure: bool

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)


def find_change(
    run: str,
    series: str,
    tokens: Sequence[float],
    values: Sequence[float],
    errors: Sequence[float],
    *,
    seed: int,
    falls: bool = False,
) -> Change:
    """The change of a series. ``falls``: of one that is better the lower it is, as loss; values stay as they are.

    ``seed``: of the draws. Checkpoints in the order of training, the first before it.
    """
    sign = -1.0 if falls else 1.0
    y, se = sign * np.array(values, dtype=float), np.array(errors, dtype=float)
    x = np.log2(np.array(tokens, dtype=float) + SHIFT)
    rng = np.random.default_rng(seed)
    drawn = y + se * rng.standard_normal((N_DRAWS, len(y)))
    top = int(y.argmax())
    ends = (1 - LEVEL) / 2, (1 + LEVEL) / 2
    lost = float((y[top] - y[-1]) / (y[top] - y[0])) if y[top] > y[0] else 0.0
    lost_low, lost_high = _lost_ends(y, se, drawn)
    place = low = high = None
    noise = se * rng.standard_normal((N_DRAWS, len(y)))
    if y[top] - y[0] > np.quantile((noise - noise[:, :1]).max(1), ends[1]):
        place = _tokens(_half_rise(x, y[None])[0])
        low, high = (_tokens(one) for one in np.quantile(_half_rise(x, drawn), ends).tolist())
    return Change(
        run,
        series,
        float(sign * y[0]),
        float(sign * y[top]),
        float(sign * y[-1]),
        place,
        low,
        high,
        lost,
        lost_low,
        lost_high,
    )


def _lost_ends(
    y: Float[np.ndarray, " checkpoint"],
    se: Float[np.ndarray, " checkpoint"],
    drawn: Float[np.ndarray, "draw checkpoint"],
) -> tuple[float, float]:
    """Ends of the share of the rise that is lost.

    Of a series that ends below its start the highest checkpoint alone is asked: there a higher one would mean less.
    """
    top = int(y.argmax())
    may_be = y[top] - y <= NEAR * np.hypot(se[top], se) if y[-1] >= y[0] else np.arange(len(y)) == top
    rises = drawn - drawn[:, :1]
    may_be &= (rises > 0).any(0)
    if not may_be.any():
        return 0.0, 0.0
    rises = np.where(rises > 0, rises, np.nan)[:, may_be]
    losses = (drawn[:, may_be] - drawn[:, -1:]) / rises
    tail = (1 - LEVEL) / 2
    low = np.nanquantile(losses, tail / int(may_be.sum()), axis=0).max()
    return float(low), float(np.nanquantile(losses, 1 - tail, axis=0).max())


def _tokens(place: float) -> float:
    return float(max(2.0**place - SHIFT, 0.0))


def _half_rise(
    x: Float[np.ndarray, " checkpoint"], y: Float[np.ndarray, "draw checkpoint"]
) -> Float[np.ndarray, " draw"]:
    """Where each draw first passes the middle between its first and its highest value."""
    middle = (y[:, :1] + y.max(1, keepdims=True)) / 2
    over = y >= middle
    over[:, 0] = False
    after = over.argmax(1)
    rows = np.arange(len(y))
    before = np.maximum(after - 1, 0)
    gap = y[rows, after] - y[rows, before]
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.where(gap > 0, (middle[:, 0] - y[rows, before]) / gap, 1.0)
    found: np.ndarray = x[before] + np.clip(part, 0.0, 1.0) * (x[after] - x[before])
    return found


def find_lags(changes: Mapping[str, Sequence[Change]], pairs: Sequence[tuple[str, str]]) -> list[Lag]:
    """Lags of pairs of series over the runs that have both. ``changes``: by series, a change of each run.

    Pairs that fewer than two runs have are left out; the correction is for those that are left.
    """
    told: list[tuple[str, str, Float[np.ndarray, " run"]]] = []
    for first, second in pairs:
        earlier = {one.run: one.tokens for one in changes.get(first, ()) if one.tokens is not None}
        later = {one.run: one.tokens for one in changes.get(second, ()) if one.tokens is not None}
        runs = sorted(earlier.keys() & later.keys())
        if len(runs) >= LEAST_SEEDS:
            ratios = [(later[run] + SHIFT) / (earlier[run] + SHIFT) for run in runs]
            told.append((first, second, np.log2(np.array(ratios))))
    found = []
    for first, second, lags in told:
        n, mean = len(lags), float(lags.mean())
        se = float(lags.std(ddof=1)) / n**0.5
        reach = float(t.ppf((1 + LEVEL) / 2, n - 1)) * se
        corrected = float(t.ppf(1 - (1 - LEVEL) / 2 / len(told), n - 1)) * se
        found.append(Lag(first, second, mean, mean - reach, mean + reach, n, abs(mean) > corrected))
    return sorted(found, key=lambda one: (not one.sure, -abs(one.doublings)))
