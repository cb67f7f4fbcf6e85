"""Grades and roles of models of many sizes, drawn: by loss, by width and depth."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tslens.grading.rubric import CRITERIA
from tslens.link.sizes.contrasts import Quantity, cells_of, linear
from tslens.link.sizes.grid import Grid
from tslens.link.sizes.measured import SizeRow
from tslens.viz.figures import COLOURS, GREY, MARKS, drawing

LEAST_MODELS = 2
_HELD = ("n", "of")


def draw_grades_by_loss(rows: Sequence[SizeRow], stem: Path) -> None:
    """A panel for each grade: models by bits per byte, better to the right; n-gram and true endings as lines."""
    ours = [row for row in rows if row.source == "ours"]
    models = [row for row in ours if row.n_layers is not None and not row.instruct and "bits" in row.measured]
    beside = [row for row in ours if row.n_layers is None]
    depths = sorted({row.n_layers for row in models if row.n_layers is not None})
    data = [
        [row.label, grade, row.measured["bits"].mean if "bits" in row.measured else "", *_ends(row, grade)]
        for row in (*models, *beside)
        for grade in CRITERIA
        if grade in row.measured
    ]
    with drawing(7.2, 5.0, stem, ["model", "grade", "bits_per_byte", "mean", "low", "high"], data) as figure:
        panels = figure.subplots(2, 2, sharex=True).flat
        for grade, panel in zip(CRITERIA, panels, strict=True):
            for row in models:
                if grade not in row.measured:
                    continue
                place = depths.index(row.n_layers or 0)
                mean, low, high = _ends(row, grade)
                panel.errorbar(
                    row.measured["bits"].mean,
                    mean,
                    [[mean - low], [high - mean]],
                    fmt=MARKS[place],
                    color=COLOURS[place],
                    markersize=4,
                    linewidth=0.8,
                )
            for row, style in zip(beside, ("--", ":", "-."), strict=False):
                if grade in row.measured:
                    panel.axhline(row.measured[grade].mean, linestyle=style, color=GREY, linewidth=0.9)
                    panel.annotate(
                        row.label,
                        (0.01, row.measured[grade].mean),
                        xycoords=("axes fraction", "data"),
                        va="bottom",
                        fontsize=6.5,
                        color=GREY,
                    )
            panel.set_title(grade)
        first, _, third, fourth = figure.axes[:4]
        first.invert_xaxis()
        for panel in (third, fourth):
            panel.set_xlabel("bits per byte of held-out stories (better to the right)")
        for panel in (first, third):
            panel.set_ylabel("grade, 0 to 10")
        for i, depth in enumerate(depths):
            fourth.plot(
                [], [], MARKS[i], color=COLOURS[i], markersize=4, label=f"{depth} layer{'s' * (depth > 1)}"
            )
        fourth.legend(loc="lower right", fontsize=6.5)


def draw_grades_by_shape(rows: Sequence[SizeRow], stem: Path) -> None:
    """A panel for each grade: cells by width, a line for each depth; intervals over prompts and, where known, seeds."""
    ours = [row for row in rows if row.source == "ours"]
    grid = Grid(ours)
    data: list[list[Any]] = []
    for grade in CRITERIA:
        for of in grid.grid(grade).values():
            found = linear([Quantity(of, grade)], [1.0], grid.seeded(grade))
            data.append([grade, of[0].n_layers, of[0].d_model, len(of), found.value, found.low, found.high])
    columns = ["grade", "layers", "width", "seeds", "mean", "low", "high"]
    with drawing(7.2, 2.6, stem, columns, data) as figure:
        panels = figure.subplots(1, 4)
        for grade, panel in zip(CRITERIA, panels, strict=True):
            mine = [row for row in data if row[0] == grade]
            for i, depth in enumerate(sorted({row[1] for row in mine})):
                line = sorted(row[2:] for row in mine if row[1] == depth)
                x = [one[0] * 1.04 ** (i - 1) for one in line]
                mean, low, high = (np.array([one[j] for one in line]) for j in (2, 3, 4))
                panel.errorbar(
                    x,
                    mean,
                    [mean - low, high - mean],
                    fmt=f"-{MARKS[i]}",
                    color=COLOURS[i],
                    markersize=4,
                    linewidth=0.9,
                    label=f"{depth} layer{'s' * (depth > 1)}",
                )
            panel.set_xscale("log", base=2)
            widths = sorted({row[2] for row in mine})
            panel.set_xticks(widths, [str(width) for width in widths])
            panel.minorticks_off()
            panel.set_title(grade)
            panel.set_xlabel("width")
        panels[0].set_ylabel("grade, 0 to 10")
        panels[0].legend(fontsize=6.5, loc="upper left")


def draw_roles_by_shape(rows: Sequence[SizeRow], stem: Path) -> None:
    """Share of the heads of each cell that hold each role, seeds averaged: a row a role, a column a shape."""
    models = [row for row in rows if row.source == "ours" and not row.instruct and row.roles]
    cells = cells_of(models)
    held: dict[str, dict[str, tuple[int, int]]] = {}
    for cell, of in cells.items():
        for row in of:
            for one in row.roles:
                if one.component == "head":
                    n, total = held.setdefault(one.role, {}).get(cell, (0, 0))
                    held[one.role][cell] = n + len(one.holders), total + one.n_units
    roles = [
        role for role, of_role in held.items() if sum(n > 0 for n, _ in of_role.values()) >= LEAST_MODELS
    ]
    if not roles:
        return
    share = np.array([[_ratio(held[role].get(cell)) for cell in cells] for role in roles])
    order = np.argsort(-np.nanmean(share, axis=1), kind="stable")
    roles, share = [roles[i] for i in order], share[order]
    data = [
        [role, cell, *held[role].get(cell, ("", "")), share[i, j]]
        for i, role in enumerate(roles)
        for j, cell in enumerate(cells)
    ]
    height = 1.1 + 0.19 * len(roles)
    with drawing(
        2.0 + 0.42 * len(cells),
        height,
        stem,
        ["role", "cell", *(f"heads_{one}" for one in _HELD), "share"],
        data,
    ) as figure:
        panel = figure.subplots()
        picture = panel.imshow(share, cmap="viridis", vmin=0, aspect="auto")
        panel.set_xticks(range(len(cells)), list(cells), rotation=60, ha="right", fontsize=7)
        panel.set_yticks(range(len(roles)), [_words(role) for role in roles], fontsize=7)
        panel.grid(visible=False)
        middle = np.nanmax(share) / 2
        for i, of_role in enumerate(share.tolist()):
            for j, value in enumerate(of_role):
                if value > 0:
                    ink = "black" if value > middle else "white"
                    panel.text(j, i, f"{100 * value:.0f}", ha="center", va="center", fontsize=5.5, color=ink)
        figure.colorbar(picture, ax=panel, label="share of the heads", shrink=0.5)


def _words(role: str) -> str:
    return re.sub(r"(\d+)_(\d+)", r"\1 to \2", role).replace("_", " ")


def _ratio(found: tuple[int, int] | None) -> float:
    return float("nan") if not found or not found[1] else found[0] / found[1]


def _ends(row: SizeRow, grade: str) -> tuple[float, float, float]:
    one = row.measured[grade]
    ends = one.interval()
    return (one.mean, one.mean, one.mean) if ends is None else (one.mean, ends.low, ends.high)
