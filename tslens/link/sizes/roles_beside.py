"""Does a role go with a grade beyond what the loss explains? Partial rank correlations over shapes, seeds averaged.

Grade, strength of the role's best unit, and bits per byte are ranked; loss is taken out of the first two by least
squares, and what is left correlated. The null draws the residuals of the strength anew (Freedman and Lane 1983).
Shapes are what is drawn: with a dozen only strong relations show. The best of more heads is higher by chance alone, and
larger models have more heads: a relation may be one with their number.

Axes: shape, draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.stats import false_discovery_control, rankdata

from tslens.grading.rubric import CRITERIA
from tslens.link.sizes.contrasts import cells_of
from tslens.link.sizes.measured import SizeRow

N_DRAWS = 5000
LEAST_SHAPES = 6


@dataclass(frozen=True)
class Beside:
    """``correlation``: of role and measure over models, loss taken out; ``plain``: with loss left in.

    ``p``: of none beyond loss; ``q``: corrected for all roles and measures (false discovery rate).
    """

    component: str
    role: str
    measure: str
    correlation: float
    plain: float
    p: float
    q: float
    n_shapes: int

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)


def roles_beside_loss(
    rows: Sequence[SizeRow], *, seed: int, measures: Sequence[str] = CRITERIA, n_draws: int = N_DRAWS
) -> list[Beside]:
    """Of each role that is scanned in at least six shapes that have the measure and a loss, smallest p first."""
    rng = np.random.default_rng(seed)
    told: list[tuple[str, str, str, float, float, float, int]] = []
    for component, role in sorted({(one.component, one.role) for row in rows for one in row.roles}):
        best = {
            row.label: one.best
            for row in rows
            for one in row.roles
            if (one.component, one.role) == (component, role)
        }
        for measure in measures:
            cells = cells_of([row for row in rows if row.label in best], measure, "bits")
            if len(cells) < LEAST_SHAPES:
                continue
            grade, loss, strength = (
                rankdata([np.mean([value(row) for row in of]) for of in cells.values()])
                for value in (
                    lambda row, measure=measure: row.measured[measure].mean,
                    lambda row: row.measured["bits"].mean,
                    lambda row, best=best: best[row.label],
                )
            )
            if np.ptp(strength) == 0:
                continue
            found = partial_correlation(grade, strength, loss, rng, n_draws)
            plain = float(np.corrcoef(grade, strength)[0, 1])
            told.append((component, role, measure, found[0], plain, found[1], len(cells)))
    if not told:
        return []
    corrected = false_discovery_control([row[5] for row in told])
    return sorted(
        (Beside(*row[:6], float(q), row[6]) for row, q in zip(told, corrected, strict=True)),
        key=lambda one: (one.p, -abs(one.correlation)),
    )


def partial_correlation(
    y: Float[np.ndarray, " shape"],
    x: Float[np.ndarray, " shape"],
    given: Float[np.ndarray, " shape"],
    rng: np.random.Generator,
    n_draws: int,
) -> tuple[float, float]:
    """Correlation of ``y`` and ``x`` with ``given`` taken out of both, and the two-sided p of none."""
    design = np.column_stack([np.ones(len(y)), given])
    hat = design @ np.linalg.pinv(design)
    left_y, left_x = y - hat @ y, x - hat @ x
    value = _cosine(left_y, left_x[None])[0]
    drawn = np.stack([rng.permutation(left_x) for _ in range(n_draws)])
    drawn -= drawn @ hat
    reached = np.abs(_cosine(left_y, drawn)) >= abs(value) - 1e-12
    return float(value), float((1 + reached.sum()) / (1 + n_draws))


def _cosine(
    y: Float[np.ndarray, " shape"], drawn: Float[np.ndarray, "draw shape"]
) -> Float[np.ndarray, " draw"]:
    scale = np.linalg.norm(y) * np.linalg.norm(drawn, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        found: np.ndarray = np.where(scale > 1e-12, drawn @ y / scale, 0.0)
    return found
