"""Which cells of a table a claim is about, and contrasts between them.

Axes: cell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tslens.errors import ProbeInputError, UsageError
from tslens.link.sizes.contrasts import Cells, Estimate, Quantity, cells_of, linear, slope_coefficients
from tslens.link.sizes.measured import SizeRow
from tslens.model.spec import ModelSpec, default_heads

WIDTHS = (64, 128, 256)


@dataclass(frozen=True)
class Grid:
    """Cells of one source that have some measures, and contrasts between them."""

    rows: Sequence[SizeRow]

    def cells(self, *measures: str, instruct: bool = False) -> dict[str, tuple[SizeRow, ...]]:
        """Cells with a shape that have all the measures."""
        kept = [row for row in self.rows if row.instruct == instruct and row.n_layers is not None]
        return cells_of(kept, *measures)

    def seeded(self, *measures: str) -> Cells:
        """Cells with several seeds."""
        return [rows for rows in cells_of(self.rows, *measures).values() if len(rows) > 1]

    def of(self, cell: str, measure: str) -> Quantity:
        """A measure of a cell. Raises ProbeInputError where it was not measured."""
        rows = cells_of(self.rows, measure).get(cell)
        if rows is None:
            raise ProbeInputError(
                f"{measure} of {cell} was not measured.", "Grade it, and make the table again."
            )
        return Quantity(rows, measure)

    def difference(self, first: str, second: str, measure: str) -> Estimate:
        """First cell less second."""
        return linear([self.of(first, measure), self.of(second, measure)], [1, -1], self.seeded(measure))

    def slopes(self, measure: str, weights: Sequence[float], *, instruct: bool = False) -> Estimate:
        """Sum of the slopes on log2 of depth and of width, each times its weight, over the grid."""
        cells = self.grid(measure, instruct=instruct)
        quantities, coefficients = slope_terms([measure], cells, weights)
        return linear(quantities, coefficients, self.seeded(measure))

    def grid(self, *measures: str, instruct: bool = False) -> dict[str, tuple[SizeRow, ...]]:
        """Cells of the usual number of heads and of widths 64 to 256: those that differ in depth and width alone."""
        return {
            name: rows
            for name, rows in self.cells(*measures, instruct=instruct).items()
            if rows[0].d_model in WIDTHS and _has_usual_heads(name)
        }


def _has_usual_heads(cell: str) -> bool:
    """Whether the name is one of ours, with the number of heads that it has by default."""
    try:
        spec = ModelSpec.from_name(cell)
    except UsageError:
        return False
    return spec.n_heads == default_heads(spec.d_model)


def slope_terms(
    measures: Sequence[str], cells: Mapping[str, tuple[SizeRow, ...]], weights: Sequence[float]
) -> tuple[list[Quantity], list[float]]:
    """Quantities of each measure in turn, and their coefficients in a sum of slopes on log2 of depth and of width.

    Raises ProbeInputError where the cells do not tell the two apart.
    """
    shapes = np.log2([(rows[0].n_layers or 1, rows[0].d_model or 1) for rows in cells.values()]).reshape(
        -1, 2
    )
    combined = sum(
        (weight * slope_coefficients(shapes, i) for i, weight in enumerate(weights)), np.zeros(len(shapes))
    )
    quantities = [Quantity(rows, measure) for measure in measures for rows in cells.values()]
    return quantities, combined.tolist() * len(measures)
