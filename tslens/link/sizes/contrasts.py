"""Differences between models of several sizes, with intervals: over what they were measured on, and over seeds.

A quantity is a measure of a cell (all seeds of one shape). A contrast is a function of quantities, linear or smooth;
its error has two parts.

- **Clusters**: stories, prompts, pairs. What a cluster adds to the error of each quantity is added up with the
  gradient of the contrast (delta method), so that models measured on the same prompts are paired.
- **Seeds**: the spread of the same combination of measures between seeds, pooled over the cells that have several,
  divided by the number of seeds of each cell in the contrast. It holds the chance of drawing completions too, which
  clusters hold as well: the interval is wide rather than narrow.

The interval is Student's t with Satterthwaite's degrees of freedom. A contrast with a cell of fewer than three seeds is
**conditional**: it takes the spread of other shapes' seeds for its own.

Axes: quantity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.stats import t

from tslens.errors import ProbeInputError
from tslens.link.sizes.measured import SizeRow
from tslens.stats import LEVEL

SEEDS = 3  # of every cell, below which a contrast is conditional
STEP = 1e-4  # of the numerical gradient, relative


@dataclass(frozen=True)
class Quantity:
    """A measure of a cell: the mean over its seeds."""

    rows: tuple[SizeRow, ...]
    measure: str

    @property
    def cell(self) -> str:
        """Its name."""
        return self.rows[0].cell

    @property
    def has_seeds(self) -> bool:
        """Whether it is of a model: true endings, a teacher and an n-gram have no other seed."""
        return self.rows[0].n_layers is not None

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return float(np.mean([row.measured[self.measure].mean for row in self.rows]))


@dataclass(frozen=True)
class Estimate:
    """A contrast. ``se_clusters``, ``se_seeds``: the two parts of its error; ``se_seeds`` is None where no cell has
    seeds to tell. ``df``: degrees of freedom. ``conditional``: on these runs. ``n_clusters``: the fewest of a measure.
    """

    value: float
    low: float
    high: float
    se_clusters: float
    se_seeds: float | None
    df: float
    conditional: bool
    n_clusters: int

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Ends at another level."""
        se = float(np.hypot(self.se_clusters, self.se_seeds or 0.0))
        reach = float(t.ppf((1 + level) / 2, self.df)) * se
        return self.value - reach, self.value + reach

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)


Cells = Sequence[tuple[SizeRow, ...]]
"""Cells with several seeds each."""


def linear(
    quantities: Sequence[Quantity], coefficients: Sequence[float] | np.ndarray, seeded: Cells = ()
) -> Estimate:
    """A sum of quantities, each times its coefficient. ``seeded``: cells by whose seeds the spread is known."""
    weights = np.array(coefficients, dtype=float)
    return _estimate(quantities, float(weights @ _means(quantities)), weights, seeded)


def smooth(
    quantities: Sequence[Quantity],
    value_of: Callable[[Float[np.ndarray, " quantity"]], float],
    seeded: Cells = (),
) -> Estimate:
    """A smooth function of quantities, by its numerical gradient."""
    means = _means(quantities)
    gradient = np.empty(len(means))
    for i, mean in enumerate(means):
        step = np.zeros(len(means))
        step[i] = STEP * max(abs(mean), 1.0)
        gradient[i] = (value_of(means + step) - value_of(means - step)) / (2 * step[i])
    return _estimate(quantities, value_of(means), gradient, seeded)


def cells_of(rows: Sequence[SizeRow], *measures: str) -> dict[str, tuple[SizeRow, ...]]:
    """Rows that have all the measures by cell, in their order."""
    found: dict[str, tuple[SizeRow, ...]] = {}
    for row in rows:
        if all(name in row.measured for name in measures):
            found[row.cell] = (*found.get(row.cell, ()), row)
    return found


def slope_coefficients(x: Float[np.ndarray, "cell predictor"], which: int) -> Float[np.ndarray, " cell"]:
    """What each cell's mean counts for in the least-squares slope on one predictor, an intercept and the others beside.

    Raises ProbeInputError where the cells do not tell the predictors apart.
    """
    x = x.reshape(len(x), x.shape[-1] if x.ndim > 1 else 1)
    design = np.column_stack([np.ones(len(x)), x])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise ProbeInputError(
            f"{len(x)} cells cannot tell {design.shape[1] - 1} predictors apart.",
            "Add models of other shapes.",
        )
    found: np.ndarray = np.linalg.pinv(design)[1 + which]
    return found


# Errors -----------------------------------------------------------------------------------------------------


def _means(quantities: Sequence[Quantity]) -> Float[np.ndarray, " quantity"]:
    return np.array([one.mean for one in quantities])


def _estimate(
    quantities: Sequence[Quantity], value: float, gradient: Float[np.ndarray, " quantity"], seeded: Cells
) -> Estimate:
    se_clusters, n_clusters = _of_clusters(quantities, gradient)
    of_seeds = _of_seeds(quantities, gradient, seeded)
    variances = [(se_clusters**2, n_clusters - 1)]
    if of_seeds is not None:
        variances.append(of_seeds)
    total = sum(variance for variance, _ in variances)
    spread = sum(variance**2 / df for variance, df in variances if df > 0)
    df = total**2 / spread if spread else float(max(n_clusters - 1, 1))
    reach = float(t.ppf((1 + LEVEL) / 2, df)) * total**0.5
    return Estimate(
        value=value,
        low=value - reach,
        high=value + reach,
        se_clusters=se_clusters,
        se_seeds=None if of_seeds is None else of_seeds[0] ** 0.5,
        df=df,
        conditional=any(len(one.rows) < SEEDS for one in quantities if one.has_seeds),
        n_clusters=n_clusters,
    )


def _of_clusters(
    quantities: Sequence[Quantity], gradient: Float[np.ndarray, " quantity"]
) -> tuple[float, int]:
    """Standard error over clusters, and the fewest clusters of a measure."""
    added: dict[str, float] = {}
    fewest = 10**9
    for one, weight in zip(quantities, gradient.tolist(), strict=True):
        for row in one.rows:
            measured = row.measured[one.measure]
            fewest = min(fewest, len(measured.clusters))
            for name, part in zip(measured.clusters, measured.influence.tolist(), strict=True):
                added[name] = added.get(name, 0.0) + weight * part / len(one.rows)
    n = len(added)
    if fewest < 2:
        raise ProbeInputError(
            "A measure with one cluster has no interval.", "Measure on more prompts or stories."
        )
    return float(np.sqrt(sum(part**2 for part in added.values()) * n / (n - 1))), fewest


def _of_seeds(
    quantities: Sequence[Quantity], gradient: Float[np.ndarray, " quantity"], seeded: Cells
) -> tuple[float, int] | None:
    """Variance by seeds and its degrees of freedom; None where no cell has seeds.

    The measures of a cell vary together, so that a cell's combination is what is pooled.
    """
    by_cell: dict[str, list[tuple[Quantity, float]]] = {}
    for one, weight in zip(quantities, gradient.tolist(), strict=True):
        if one.has_seeds:
            by_cell.setdefault(one.cell, []).append((one, weight))
    variance, df = 0.0, 0
    for parts in by_cell.values():
        weights: dict[str, float] = {}
        for one, weight in parts:
            weights[one.measure] = weights.get(one.measure, 0.0) + weight
        pooled = pooled_variance(weights, seeded)
        if pooled is None:
            return None
        variance += pooled[0] / len(parts[0][0].rows)
        df = max(df, pooled[1])
    return variance, df


def pooled_variance(weights: Mapping[str, float], seeded: Cells) -> tuple[float, int] | None:
    """Variance of a combination of measures between seeds of one shape, and its degrees of freedom."""
    squares, df = 0.0, 0
    for rows in seeded:
        if len(rows) < 2 or not all(name in row.measured for name in weights for row in rows):
            continue
        values = np.array(
            [sum(weight * row.measured[name].mean for name, weight in weights.items()) for row in rows]
        )
        squares += float(((values - values.mean()) ** 2).sum())
        df += len(values) - 1
    return (squares / df, df) if df else None
