"""Models by their shape, loss and grades as a printed table, each number with the half-width of its interval.

The paper's figure 4 (Eldan and Li 2023). Seeds of a shape are one row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from tslens.grading.rubric import CRITERIA
from tslens.link.sizes.contrasts import Estimate, Quantity, cells_of, linear
from tslens.link.sizes.grid import Grid
from tslens.link.sizes.measured import SizeRow
from tslens.viz.figures import GREY, drawing

LOSS, BITS = "loss", "bits"
COLUMNS: Mapping[str, str] = {
    LOSS: "loss,\nnats a token",
    BITS: "bits\na byte",
    **{name: name for name in CRITERIA},
}
_DIGITS = {LOSS: 3, BITS: 3}
_WIDTHS = (1.25, 1.5, 0.75, 0.55, 1.35, 1.35, *([1.1] * len(CRITERIA)))  # relative


@dataclass(frozen=True)
class ModelLine:
    """A row of the table: a shape and what was measured of it. ``shape``: None for what is no model of ours."""

    cell: str
    shape: tuple[int, int, int] | None
    n_parameters: int | None
    n_seeds: int
    measured: Mapping[str, Estimate]


def model_lines(rows: Sequence[SizeRow]) -> list[ModelLine]:
    """Shapes by size, then what stands beside them; models for instructions and other people's are left out.

    A mean is over the seeds of a shape; the interval is over prompts or stories and over seeds, as in every contrast.
    """
    ours = [row for row in rows if row.source == "ours" and not row.instruct]
    grid = Grid(ours)
    lines = []
    for cell, of in cells_of(ours).items():
        first = of[0]
        shape = None if first.n_layers is None else (first.n_layers, first.d_model or 0, first.n_heads or 0)
        measured = {
            name: linear([Quantity(tuple(having), name)], [1.0], grid.seeded(name))
            for name in COLUMNS
            if (having := [row for row in of if name in row.measured])
        }
        lines.append(ModelLine(cell, shape, first.n_parameters, len(of), measured))
    return sorted(lines, key=lambda one: (one.shape is None, one.shape or (), one.cell))


def draw_model_table(lines: Sequence[ModelLine], stem: Path) -> None:
    """The table, ruled as in print; the best of each column among models is bold."""
    data: list[list[Any]] = [
        [
            one.cell,
            *(one.shape or ("", "", "")),
            "" if one.n_parameters is None else one.n_parameters,
            one.n_seeds if one.shape else "",
            *(part for name in COLUMNS for part in _pair(one.measured.get(name))),
        ]
        for one in lines
    ]
    columns = ["model", "layers", "width", "heads", "parameters", "seeds"]
    columns += [part for name in COLUMNS for part in (name, f"{name} half-width")]
    height = 0.62 + 0.19 * len(lines)
    with drawing(7.2, height, stem, columns, data) as figure:
        panel = figure.subplots()
        panel.set_axis_off()
        panel.set_xlim(0, sum(_WIDTHS))
        panel.set_ylim(len(lines) + 0.2, -1.7)
        heads = ["model", "layers × width\n× heads", "para-\nmeters", "seeds", *COLUMNS.values()]
        for place, head in enumerate(heads):
            _write(panel, place, -0.25, head, bottom=True)
        best = {name: _best(lines, name) for name in COLUMNS}
        for row, one in enumerate(lines):
            cells = [
                one.cell,
                "–" if one.shape is None else " × ".join(map(str, one.shape)),
                _short(one.n_parameters),
                str(one.n_seeds) if one.shape else "–",
            ]
            for place, text in enumerate(cells):
                _write(panel, place, row + 0.5, text)
            for place, name in enumerate(COLUMNS, start=len(cells)):
                text = _with_reach(one.measured.get(name), _DIGITS.get(name, 2))
                _write(panel, place, row + 0.5, text, bold=best[name] == one.cell)
        n_models = sum(one.shape is not None for one in lines)
        for at, weight in ((-1.68, 1.0), (0.0, 0.6), (n_models, 0.4), (len(lines), 1.0)):
            panel.axhline(at, color="black" if weight > 0.5 else GREY, linewidth=weight)


def half_width(one: Estimate) -> float:
    """Half of the interval."""
    return (one.high - one.low) / 2


def _best(lines: Sequence[ModelLine], name: str) -> str | None:
    found = {one.cell: one.measured[name].value for one in lines if one.shape and name in one.measured}
    choose = min if name in (LOSS, BITS) else max
    return choose(found, key=lambda cell: found[cell]) if found else None


def _write(
    panel: Axes, place: int, row: float, text: str, *, bold: bool = False, bottom: bool = False
) -> None:
    left, right = sum(_WIDTHS[:place]), sum(_WIDTHS[: place + 1])
    is_name = place == 0
    panel.text(
        left + 0.05 if is_name else right - 0.05,
        row,
        text,
        horizontalalignment="left" if is_name else "right",
        verticalalignment="bottom" if bottom else "center",
        fontsize=6.8,
        fontweight="bold" if bold else "normal",
        parse_math=False,
    )


def _pair(one: Estimate | None) -> tuple[float | str, float | str]:
    return ("", "") if one is None else (one.value, half_width(one))


def _with_reach(one: Estimate | None, digits: int) -> str:
    return "–" if one is None else f"{one.value:.{digits}f} ± {half_width(one):.{digits}f}"


def _short(n: int | None) -> str:
    return "–" if n is None else f"{n / 1e6:.2f}M"
