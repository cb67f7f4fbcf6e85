"""How a measure grows with size: a saturating curve, its end and its steepness, with intervals.

``m(x) = top - gap * (x / x_min) ** -rate``, x being FLOPs of training, parameters, width or depth, ``gap >= 0``, and
``top`` no more than the scale has. For each of 200 rates the other two are least squares (a line), and the best is
taken. Intervals: the same for 500 draws, percentiles with Student's tails (``stats.percentile_ends``). A draw takes the
clusters with replacement (Poisson weights, one draw for all models, so that prompts are paired) and adds to each cell
an error with the spread between seeds, pooled over the cells that have several. That spread is itself drawn, as far as
so few seeds know it, so that the errors are Student's.

A curve that the models cannot tell from a straight line in log x has no end that anyone has seen. ``told``: the gap is
above zero and the top below that of the scale for sure, and in 97.5% of the draws the curve predicts a cell that is
left out better than that line does. Without a cell of several seeds nothing is told.

Axes: replicate (row 0: the sample itself), cell, rate.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from tslens.errors import ProbeInputError
from tslens.link.sizes.contrasts import Cells, Quantity, pooled_variance
from tslens.stats import LEVEL, Interval, percentile_ends, poisson_weights

RATES = np.geomspace(0.05, 8.0, 200)
N_REPLICATES = 500
LEAST_SIZES = 4  # different, below which three numbers fit anything


@dataclass(frozen=True)
class Curve:
    """``top``: where it ends; ``gap``: what the smallest is below it; ``rate``: per factor e of size, of the gap.

    ``explained``: share of the variance between cells. ``error``, ``error_of_line``: root mean square of predicting a
    cell that was left out, by the curve and by a line in log x.
    """

    measure: str
    by: str
    top: float
    top_interval: Interval
    gap: float
    rate: float
    rate_interval: Interval
    explained: float
    error: float
    error_of_line: float
    n_cells: int
    told: bool

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)

    def at(self, ratio: Float[np.ndarray, " size"]) -> Float[np.ndarray, " size"]:
        """Values at multiples of the smallest size."""
        found: np.ndarray = self.top - self.gap * ratio**-self.rate
        return found


def fit_curve(
    quantities: Sequence[Quantity],
    sizes: Sequence[float],
    seeded: Cells,
    *,
    by: str,
    most: float,
    seed: int,
) -> Curve:
    """The curve of one measure through cells of these sizes. ``seeded``: cells by whose seeds the spread is known.

    ``most``: the top of the scale. ``seed``: of the draws.

    Raises ProbeInputError with fewer than four different sizes.
    """
    x = np.array(sizes, dtype=float)
    if len(set(x.tolist())) < LEAST_SIZES:
        raise ProbeInputError(
            f"A curve needs {LEAST_SIZES} sizes; there are {len(set(sizes))}.", "Add models."
        )
    ratio = x / x.min()
    spread_of_seeds = pooled_variance({quantities[0].measure: 1.0}, seeded)
    means = _draws(quantities, spread_of_seeds, seed)
    tops, gaps, rates = _fit(ratio, means, most)
    fitted = tops[0] - gaps[0] * ratio ** -rates[0]
    spread = float(((means[0] - means[0].mean()) ** 2).sum())
    errors, of_line = _left_out(ratio, means, most)
    fewest = min(len(row.measured[one.measure].clusters) for one in quantities for row in one.rows)
    top, rate, gap = (percentile_ends(part, fewest) for part in (tops, rates, gaps))
    is_better = float((errors < of_line)[1:].mean()) >= (1 + LEVEL) / 2
    return Curve(
        measure=quantities[0].measure,
        by=by,
        top=float(tops[0]),
        top_interval=Interval(*map(float, top)),
        gap=float(gaps[0]),
        rate=float(rates[0]),
        rate_interval=Interval(*map(float, rate)),
        explained=1 - float(((means[0] - fitted) ** 2).sum()) / spread if spread else 0.0,
        error=float(errors[0]),
        error_of_line=float(of_line[0]),
        n_cells=len(x),
        told=spread_of_seeds is not None and is_better and float(gap[0]) > 0 and float(top[1]) < most,
    )


def _draws(
    quantities: Sequence[Quantity], of_seeds: tuple[float, int] | None, seed: int
) -> Float[np.ndarray, "replicate cell"]:
    """Means of the cells, seeds averaged; row 0 the sample. ``of_seeds``: variance, degrees of freedom."""
    names = sorted(
        {name for one in quantities for row in one.rows for name in row.measured[one.measure].clusters}
    )
    weights = poisson_weights(seed, [_key(name) for name in names], N_REPLICATES)
    place = {name: i for i, name in enumerate(names)}
    found = []
    for one in quantities:
        by_seed = []
        for row in one.rows:
            measured = row.measured[one.measure]
            mine = weights[:, [place[name] for name in measured.clusters]]
            by_seed.append((mine @ measured.sums) / (mine @ measured.counts))
        found.append(np.mean(by_seed, axis=0))
    means = np.stack(found, 1)
    if of_seeds is None:
        return means
    variance, df = of_seeds
    n_seeds = np.array([len(one.rows) for one in quantities])
    rng = np.random.default_rng([seed, len(names)])
    spread = np.sqrt(variance * df / rng.chisquare(df, (N_REPLICATES, 1)))
    means[1:] += rng.standard_normal(means[1:].shape) * spread / np.sqrt(n_seeds)
    return means


def _key(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def _fit(
    ratio: Float[np.ndarray, " cell"], means: Float[np.ndarray, "replicate cell"], most: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Top, gap and rate of each replicate."""
    shape = ratio[None] ** -RATES[:, None]  # [rate, cell]
    centred = shape - shape.mean(1, keepdims=True)
    gaps = -(means @ centred.T) / (centred**2).sum(1)  # [replicate, rate]
    tops = means.mean(1)[:, None] + gaps * shape.mean(1)
    over = tops > most
    bounded = ((most - means) @ shape.T) / (shape**2).sum(1)
    gaps, tops = np.where(over, bounded, gaps), np.where(over, most, tops)
    flat = gaps < 0
    gaps, tops = np.where(flat, 0.0, gaps), np.where(flat, means.mean(1)[:, None], tops)
    errors = ((means[:, None] - (tops[:, :, None] - gaps[:, :, None] * shape[None])) ** 2).sum(2)
    best = errors.argmin(1)
    rows = np.arange(len(means))
    return tops[rows, best], gaps[rows, best], RATES[best]


def _left_out(
    ratio: Float[np.ndarray, " cell"], means: Float[np.ndarray, "replicate cell"], most: float
) -> tuple[Float[np.ndarray, " replicate"], Float[np.ndarray, " replicate"]]:
    """Root mean square error of predicting each cell from the others, by the curve and by a line in log x."""
    of_curve, of_line = [], []
    for i in range(len(ratio)):
        rest = np.arange(len(ratio)) != i
        if len(set(ratio[rest].tolist())) < 2:
            continue
        tops, gaps, rates = _fit(ratio[rest], means[:, rest], most)
        of_curve.append(tops - gaps * ratio[i] ** -rates - means[:, i])
        slope, level = np.polyfit(np.log(ratio[rest]), means[:, rest].T, 1)
        of_line.append(level + slope * np.log(ratio[i]) - means[:, i])
    curve, line = (np.sqrt(np.mean(np.square(part), axis=0)) for part in (of_curve, of_line))
    return curve, line
