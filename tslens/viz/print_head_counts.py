"""Loss and grades of models that differ in their number of heads alone, drawn for print: the paper's figure 24."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tslens.grading.rubric import CRITERIA
from tslens.link.sizes.contrasts import Estimate, Quantity, cells_of, linear
from tslens.link.sizes.grid import Grid
from tslens.link.sizes.measured import SizeRow
from tslens.viz.figures import COLOURS, GREY, MARKS, drawing

MEASURES: Mapping[str, str] = {"loss": "loss, nats a token", **{name: name for name in CRITERIA}}


def by_heads(rows: Sequence[SizeRow], *, n_layers: int, d_model: int) -> dict[str, dict[int, Estimate]]:
    """Of each measure its mean by number of heads, for our models of one depth and width; no models, no entry."""
    ours = [row for row in rows if row.source == "ours" and not row.instruct]
    grid = Grid(ours)
    mine = [row for row in ours if (row.n_layers, row.d_model) == (n_layers, d_model)]
    found: dict[str, dict[int, Estimate]] = {}
    for name in MEASURES:
        of = {cell[0].n_heads or 0: cell for cell in cells_of(mine, name).values()}
        for n_heads in sorted(of):
            one = linear([Quantity(of[n_heads], name)], [1.0], grid.seeded(name))
            found.setdefault(name, {})[n_heads] = one
    return found


def draw_by_heads(
    found: Mapping[str, Mapping[int, Estimate]], asked: Sequence[int], stem: Path, *, title: str
) -> None:
    """A panel for each measure, with 95% intervals; where a model with one of the ``asked`` numbers is not there, so
    it says."""
    data: list[list[Any]] = [
        [name, n_heads, one.value, one.low, one.high, one.conditional]
        for name, of in found.items()
        for n_heads, one in of.items()
    ]
    columns = ["measure", "heads", "mean", "low", "high", "conditional"]
    with drawing(7.2, 2.2, stem, columns, data) as figure:
        panels = figure.subplots(1, len(MEASURES))
        for place, ((name, words), panel) in enumerate(zip(MEASURES.items(), panels, strict=True)):
            of = found.get(name, {})
            x, values = list(of), [one.value for one in of.values()]
            reach = [
                [one.value - one.low for one in of.values()],
                [one.high - one.value for one in of.values()],
            ]
            panel.errorbar(
                x, values, reach, fmt=f"-{MARKS[place]}", color=COLOURS[place], markersize=4, linewidth=0.9
            )
            panel.set_xscale("log", base=2)
            panel.set_xticks(list(asked), [str(n) for n in asked])
            panel.minorticks_off()
            panel.set_xlim(min(asked) / 1.5, max(asked) * 1.5)
            panel.set_title(words)
            panel.set_xlabel("heads")
            for n_heads in sorted({*asked} - {*of}):
                panel.annotate(
                    "not measured",
                    (n_heads, 0.5),
                    xycoords=("data", "axes fraction"),
                    rotation=90,
                    ha="center",
                    va="center",
                    color=GREY,
                    fontsize=6.5,
                )
        figure.suptitle(title, fontsize=8)
