"""How grades and readouts grow with loss, FLOPs, parameters, width and depth over the cells of a table.

Of each: the slope on the logarithm of the size (of loss: on bits per byte), with an interval over clusters and seeds
(``contrasts``), and the saturating curve where there are four sizes (``curves``). Cells of width and depth are those of
the usual number of heads; the slope on one is at equal values of the other, the curve is through all cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from tslens.errors import ProbeInputError
from tslens.grading.rubric import CRITERIA
from tslens.link.sizes.contrasts import Cells, Quantity, cells_of, linear, slope_coefficients
from tslens.link.sizes.curves import LEAST_SIZES, Curve, fit_curve
from tslens.link.sizes.foreign import PERSON
from tslens.link.sizes.grid import Grid
from tslens.link.sizes.measured import SizeRow

TOPS = {PERSON: 1.0}  # of the scale of a source; 10 of the others
LOSS, SIZES = "loss", ("FLOPs", "parameters", "width", "depth")


@dataclass(frozen=True)
class Growth:
    """``tenfold``, ``low``, ``high``: change of the measure for ten times the size; of loss, for one bit per byte less.

    ``conditional``: whether a cell has fewer than three seeds. ``curve``: None with fewer than four sizes, or of loss.
    """

    measure: str
    source: str
    by: str
    tenfold: float
    low: float
    high: float
    n_cells: int
    conditional: bool
    curve: Curve | None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)


def growths(rows: Sequence[SizeRow], *, seed: int) -> list[Growth]:
    """Of the four grades by each source that has them. ``seed``: of the draws of curves."""
    found: list[Growth] = []
    for source in dict.fromkeys(row.source for row in rows):
        mine = [row for row in rows if row.source == source and row.n_layers is not None and not row.instruct]
        for measure in CRITERIA:
            for by in (LOSS, *SIZES):
                found += _growth(mine, source, measure, by, seed)
    return found


def _growth(rows: Sequence[SizeRow], source: str, measure: str, by: str, seed: int) -> Iterator[Growth]:
    """Nothing where the cells do not tell."""
    grid = Grid(rows)
    cells = grid.grid(measure) if by in ("width", "depth") and source == "ours" else cells_of(rows, measure)
    cells = {name: of for name, of in cells.items() if _size(of, by) is not None}
    if len(cells) < LEAST_SIZES:
        return
    sizes = np.array([_size(of, by) for of in cells.values()], dtype=float)
    predictors = -sizes[:, None] if by == LOSS else np.log10(sizes)[:, None]
    if by in ("width", "depth"):
        other = "depth" if by == "width" else "width"
        beside = np.array([_size(of, other) for of in cells.values()], dtype=float)
        predictors = np.column_stack([predictors, np.log10(beside)])
    quantities = [Quantity(of, measure) for of in cells.values()]
    try:
        slope = linear(quantities, slope_coefficients(predictors, 0), grid.seeded(measure))
    except ProbeInputError:
        return
    curve = (
        None
        if by == LOSS
        else _curve(quantities, sizes, grid.seeded(measure), by, TOPS.get(source, 10.0), seed)
    )
    yield Growth(
        measure, source, by, slope.value, slope.low, slope.high, len(cells), slope.conditional, curve
    )


def _curve(
    quantities: Sequence[Quantity],
    sizes: Float[np.ndarray, " cell"],
    seeded: Cells,
    by: str,
    most: float,
    seed: int,
) -> Curve | None:
    try:
        return fit_curve(quantities, sizes.tolist(), seeded, by=by, most=most, seed=seed)
    except ProbeInputError:
        return None


def _size(rows: Sequence[SizeRow], by: str) -> float | None:
    first = rows[0]
    found: float | int | None = {
        LOSS: None,
        "FLOPs": first.flops,
        "parameters": first.n_parameters,
        "width": first.d_model,
        "depth": first.n_layers,
    }[by]
    if by == LOSS and all("bits" in row.measured for row in rows):
        found = float(np.mean([row.measured["bits"].mean for row in rows]))
    return None if found is None else float(found)
