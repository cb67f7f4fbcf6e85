"""Does a role go with a grade beyond what the loss explains? Partial rank correlations over models.

Grade, strength of the role's best unit, and bits per byte are ranked; loss is taken out of the first two by least
squares, and what is left correlated. The null draws the residuals of the strength anew (Freedman and Lane 1983).
Models, not units, are what is drawn: with a dozen models only strong relations show.

Axes: model, draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.stats import false_discovery_control, rankdata

from tslens.link.sizes.measured import SizeRow

N_DRAWS = 5000
LEAST_MODELS = 6
GRADES = ("grammar", "creativity", "consistency", "plot")


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
    n_models: int

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)


def roles_beside_loss(
    rows: Sequence[SizeRow], *, seed: int, measures: Sequence[str] = GRADES, n_draws: int = N_DRAWS
) -> list[Beside]:
    """Of each role that is scanned in at least six models that have the measure and a loss, smallest p first."""
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
            mine = [row for row in rows if row.label in best and {measure, "bits"} <= row.measured.keys()]
            if len(mine) < LEAST_MODELS:
                continue
            grade, loss, strength = (
                rankdata(values)
                for values in (
                    [row.measured[measure].mean for row in mine],
                    [row.measured["bits"].mean for row in mine],
                    [best[row.label] for row in mine],
                )
            )
            if np.ptp(strength) == 0:
                continue
            found = partial_correlation(grade, strength, loss, rng, n_draws)
            plain = float(np.corrcoef(grade, strength)[0, 1])
            told.append((component, role, measure, found[0], plain, found[1], len(mine)))
    if not told:
        return []
    corrected = false_discovery_control([row[5] for row in told])
    return sorted(
        (Beside(*row[:6], float(q), row[6]) for row, q in zip(told, corrected, strict=True)),
        key=lambda one: (one.p, -abs(one.correlation)),
    )


def partial_correlation(
    y: Float[np.ndarray, " model"],
    x: Float[np.ndarray, " model"],
    given: Float[np.ndarray, " model"],
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
    y: Float[np.ndarray, " model"], drawn: Float[np.ndarray, "draw model"]
) -> Float[np.ndarray, " draw"]:
    scale = np.linalg.norm(y) * np.linalg.norm(drawn, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        found: np.ndarray = np.where(scale > 1e-12, drawn @ y / scale, 0.0)
    return found
