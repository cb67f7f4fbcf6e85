"""For ``paper_figures.py``: figures 3, 4 and 24, of models beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from tslens.grading.rubric import CRITERIA
from tslens.link.emergence.results import AtStep
from tslens.link.sizes.contrasts import Quantity, cells_of, linear
from tslens.link.sizes.grid import Grid
from tslens.link.sizes.measured import SizeRow
from tslens.viz.print_head_counts import MEASURES, by_heads, draw_by_heads
from tslens.viz.print_tables import draw_model_table, half_width, model_lines
from tslens.viz.print_training import draw_grades_over_training, grades_over_training

HEAD_COUNTS, HEADS_LAYERS, HEADS_WIDTH = (2, 4, 8, 16), 1, 256
MOSTLY = 0.9  # of a rise

Found = dict[str, Any]


def draw_training(runs: Mapping[str, Sequence[AtStep]], stem: Path) -> Found | None:
    """Grades over training; None where no run has grades. ``runs``: readings by label."""
    found = grades_over_training(runs)
    if not found:
        return None
    draw_grades_over_training(found, stem)
    grades: Found = {}
    for grade, of in found.items():
        n = min(
            len(one.values) for one in of.values()
        )  # the last readings of each run, which stop at like tokens
        if n < 2:
            continue
        shared = [round(tokens) for tokens in np.mean([one.tokens[-n:] for one in of.values()], axis=0)]
        mean = np.mean([one.values[-n:] for one in of.values()], axis=0)
        rise = mean[-1] - mean[0]
        reached = np.flatnonzero((mean - mean[0]) * np.sign(rise) >= MOSTLY * abs(rise))
        grades[grade] = {
            "first": float(mean[0]),
            "last": float(mean[-1]),
            "tokens_first": shared[0],
            "tokens_last": shared[-1],
            "tokens_of_most": shared[int(reached[0])],
        }
    return {"runs": list(runs), "grades": grades}


def draw_table(rows: Sequence[SizeRow], stem: Path) -> Found:
    """Shapes with loss and grades."""
    lines = model_lines(rows)
    draw_model_table(lines, stem)
    models = [one for one in lines if one.shape and "loss" in one.measured]
    correlations: Found = {}
    for grade in CRITERIA:
        graded = [one for one in models if grade in one.measured]
        if len(graded) > 2:
            losses = [one.measured["loss"].value for one in graded]
            correlations[grade] = float(spearmanr(losses, [one.measured[grade].value for one in graded])[0])
    best = min(models, key=lambda one: one.measured["loss"].value)
    return {
        "n_shapes": len(models),
        "n_models": sum(one.n_seeds for one in models),
        "best": best.cell,
        "rank_correlation_with_loss": correlations,
        "lines": [
            {
                "cell": one.cell,
                **{name: [found.value, half_width(found)] for name, found in one.measured.items()},
            }
            for one in lines
        ],
    }


def draw_head_counts(rows: Sequence[SizeRow], stem: Path) -> Found:
    """Models that differ in their number of heads alone."""
    found = by_heads(rows, n_layers=HEADS_LAYERS, d_model=HEADS_WIDTH)
    layers = f"{HEADS_LAYERS} layer{'s' * (HEADS_LAYERS > 1)}"
    draw_by_heads(found, HEAD_COUNTS, stem, title=f"{layers}, width {HEADS_WIDTH}")
    measured = {
        name: {str(n): [one.value, half_width(one)] for n, one in of.items()} for name, of in found.items()
    }
    there = {n for of in found.values() for n in of}
    return {
        "layers": HEADS_LAYERS,
        "width": HEADS_WIDTH,
        "there": sorted(there),
        "missing": sorted({*HEAD_COUNTS} - there),
        "measured": measured,
        "most_less_fewest": _most_less_fewest(rows),
    }


def _most_less_fewest(rows: Sequence[SizeRow]) -> Found:
    """Of each measure the shape with most heads less that with fewest, paired on what both were measured on."""
    ours = [row for row in rows if row.source == "ours" and not row.instruct]
    mine = [row for row in ours if (row.n_layers, row.d_model) == (HEADS_LAYERS, HEADS_WIDTH)]
    found: Found = {}
    for name in MEASURES:
        cells = sorted(cells_of(mine, name).values(), key=lambda of: of[0].n_heads or 0)
        if len(cells) > 1:
            both = [Quantity(cells[-1], name), Quantity(cells[0], name)]
            one = linear(both, [1.0, -1.0], Grid(ours).seeded(name))
            found[name] = {
                "heads": [cells[0][0].n_heads, cells[-1][0].n_heads],
                "value": one.value, "low": one.low, "high": one.high, "conditional": one.conditional,
            }  # fmt: skip
    return found
