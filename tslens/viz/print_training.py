"""Grades of a model over its training, drawn for print: the paper's figure 3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tslens.grading.rubric import CRITERIA
from tslens.link.emergence.results import AtStep, Series, series_of
from tslens.link.emergence.trace import Z
from tslens.viz.figures import COLOURS, MARKS, drawing

_STYLES = ("-", "--", ":", "-.")


def grades_over_training(runs: Mapping[str, Sequence[AtStep]]) -> dict[str, dict[str, Series]]:
    """Of each criterion its series in each run that has one; ``runs``: readings by label."""
    found: dict[str, dict[str, Series]] = {}
    for label, steps in runs.items():
        series = series_of(steps)
        for grade in CRITERIA:
            if grade in series and series[grade].kind == "grade":
                found.setdefault(grade, {})[label] = series[grade]
    return found


def draw_grades_over_training(found: Mapping[str, Mapping[str, Series]], stem: Path) -> None:
    """A panel for each grade, a line for each run with 95% intervals over prompts; runs a little apart, to be seen."""
    data: list[list[Any]] = [
        [grade, label, tokens, value, "" if error is None else error]
        for grade, of in found.items()
        for label, one in of.items()
        for tokens, value, error in zip(one.tokens, one.values, one.errors, strict=True)
    ]
    labels = list(dict.fromkeys(label for of in found.values() for label in of))
    with drawing(7.2, 2.6, stem, ["grade", "run", "tokens", "value", "se"], data) as figure:
        panels = np.atleast_1d(figure.subplots(1, len(found), sharex=True)).tolist()
        for (grade, of), panel in zip(found.items(), panels, strict=True):
            apart = 0.008 * max(one.tokens[-1] for one in of.values())
            for label, one in of.items():
                place = labels.index(label)
                panel.errorbar(
                    (np.array(one.tokens) + apart * (place - (len(labels) - 1) / 2)) / 1e6,
                    one.values,
                    [0.0 if error is None else Z * error for error in one.errors],
                    linestyle=_STYLES[place % len(_STYLES)],
                    marker=MARKS[place % len(MARKS)],
                    color=COLOURS[place % len(COLOURS)],
                    markersize=2.8,
                    linewidth=0.9,
                    elinewidth=0.5,
                    label=label,
                )
            panel.set_title(grade)
            panel.set_xlabel("million tokens")
        panels[0].set_ylabel("grade, 0 to 10")
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, fontsize=6.5, loc="outside lower center", ncols=min(len(names), 4))
