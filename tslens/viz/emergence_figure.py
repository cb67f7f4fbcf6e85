"""What a model can do, and what its heads do, over training, drawn for print: a panel for each kind of series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tslens.link.emergence.changes import SHIFT
from tslens.link.emergence.results import AtStep, Series, Timeline, series_of
from tslens.viz.figures import COLOURS, GREY, drawing

MOST_LINES = 7  # of a panel: colours that are told apart
TITLES = {
    "loss": "loss, nats per token",
    "ngram": "distance to n-grams (total variation)",
    "readout": "readouts, share of their highest",
    "role": "roles, best head's excess, share of its highest",
    "grade": "grades, local judge",
}


def draw_emergence(runs: Mapping[str, Sequence[AtStep]], timeline: Timeline, stem: Path) -> None:
    """Means over runs with the range of the runs; of a kind with many series those that rise most."""
    by_run = {label: series_of(steps) for label, steps in runs.items()}
    data: list[list[Any]] = [
        [label, one.kind, name, tokens, value, "" if error is None else error, unit or ""]
        for label, series in by_run.items()
        for name, one in series.items()
        for tokens, value, error, unit in zip(one.tokens, one.values, one.errors, one.units, strict=True)
    ]
    kinds = [kind for kind in TITLES if any(one == kind for one in timeline.kinds.values())]
    columns = ["run", "kind", "series", "tokens", "value", "se", "unit"]
    with drawing(7.2, 1.9 * ((len(kinds) + 1) // 2) + 0.5, stem, columns, data) as figure:
        panels = np.atleast_1d(figure.subplots((len(kinds) + 1) // 2, 2, sharex=True)).flat
        for kind, panel in zip(kinds, panels, strict=False):
            names = [name for name, of in timeline.kinds.items() if of == kind]
            for place, name in enumerate(_chosen(names, timeline)[:MOST_LINES]):
                _line(
                    panel, [series[name] for series in by_run.values() if name in series], name, place, kind
                )
            panel.set_xscale("log")
            panel.set_title(TITLES[kind])
            panel.legend(fontsize=5.5, loc="best", ncols=2 if kind in ("readout", "role") else 1)
        for panel in figure.axes[len(kinds) :]:
            panel.set_visible(False)
        for panel in figure.axes[max(0, len(kinds) - 2) : len(kinds)]:
            panel.set_xlabel(f"tokens of training + {SHIFT:,.0f}")
            panel.tick_params(labelbottom=True)


def _chosen(names: Sequence[str], timeline: Timeline) -> list[str]:
    """Series by how much they rise, those that rise for sure in some run first."""

    def size(name: str) -> tuple[int, float]:
        of = timeline.changes.get(name, ())
        if not of:
            return 0, 0.0
        return -sum(one.tokens is not None for one in of), -float(
            np.mean([abs(one.peak - one.start) for one in of])
        )

    return list(names) if names[0].endswith("-gram") else sorted(names, key=size)


def _line(panel: Any, of_runs: Sequence[Series], name: str, place: int, kind: str) -> None:
    colour = COLOURS[place % len(COLOURS)]
    x = np.array(of_runs[0].tokens, dtype=float) + SHIFT
    values = np.array([one.values for one in of_runs if len(one.values) == len(x)])
    if kind in ("readout", "role"):  # of very different sizes
        values = values / max(float(np.abs(values.mean(0)).max()), 1e-9)
    style = ("-", "--", ":", "-.")[place // 2 % 4]
    panel.plot(x, values.mean(0), style, color=colour, linewidth=1.0, label=_short(name))
    panel.fill_between(x, values.min(0), values.max(0), color=colour, alpha=0.18, linewidth=0)
    panel.axhline(0, color=GREY, linewidth=0.4) if values.min() < 0 else None


def _short(name: str) -> str:
    return name.removeprefix("role ").removeprefix("near ").replace("_", " ")
