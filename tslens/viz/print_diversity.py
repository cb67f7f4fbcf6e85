"""How much a model's completions repeat, drawn for print: histograms of word pairs shared, and of k-gram frequencies.

The paper's figures 14 to 17 (Eldan and Li 2023). Every histogram is drawn as shares of what it counts, so that sets of
different size compare; the first of a figure is filled, those beside it are outlines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from tslens.corpus.diversity.estimates import Estimate, Histogram
from tslens.viz.figures import COLOURS, drawing

_STYLES = ("-", "--", ":")
_INKS = (COLOURS[4], "black", COLOURS[2])
NEVER_WIDTH = 0.8  # of the bar of what the corpus never has, in powers of ten
_COLUMNS = ("set", "low", "high", "count", "share")


@dataclass(frozen=True)
class Counted:
    """One set of values in a figure. ``estimate``: their mean with its interval, where there is one."""

    name: str
    histogram: Histogram
    estimate: Estimate | None = None

    @property
    def shares(self) -> Float[np.ndarray, " bin"]:
        """Of all its values, those that have no place included."""
        return np.array(self.histogram.counts) / max(self.total, 1)

    @property
    def never(self) -> float:
        """Share of the values that have no place."""
        return (self.histogram.never or 0) / max(self.total, 1)

    @property
    def total(self) -> int:
        """How many values."""
        return sum(self.histogram.counts) + (self.histogram.never or 0)

    @property
    def label(self) -> str:
        """Its name, with the mean."""
        one = self.estimate
        if one is None or one.mean is None:
            return f"{self.name} (n = {self.total})"
        reach = "" if one.low is None or one.high is None else f" [{one.low:.2f}, {one.high:.2f}]"
        return f"{self.name}: mean {one.mean:.2f}{reach}"


def draw_shares(counted: Sequence[Counted], stem: Path, *, title: str, axis: str, of: str) -> None:
    """One panel of values from 0 to 1. ``axis``: what they are; ``of``: whose shares the bars are."""
    with drawing(4.6, 2.7, stem, _COLUMNS, [row for one in counted for row in _rows(one)]) as figure:
        panel = figure.subplots()
        for place, one in enumerate(counted):
            _bars(panel, one, place)
        panel.set_xlim(0, 1)
        panel.set_ylim(0, 1.08 * max(float(one.shares.max()) for one in counted))
        panel.set_xlabel(axis)
        panel.set_ylabel(f"share of {of}")
        panel.set_title(title)
        handles, labels = _legend(panel, counted)
        panel.legend(handles, labels, fontsize=6.5, loc="upper right" if _is_low(counted) else "upper left")


def draw_frequencies(by_k: Mapping[int, Sequence[Counted]], stem: Path, *, title: str) -> None:
    """A panel for each k: how frequent the k-grams are in the corpus, powers of ten; those it never has to the left."""
    data: list[list[Any]] = [
        [k, *row] for k, counted in by_k.items() for one in counted for row in _rows(one)
    ]
    used = [
        low
        for counted in by_k.values()
        for one in counted
        for low, n in zip(one.histogram.edges[:-1], one.histogram.counts, strict=True)
        if n
    ]
    least, most = min(used, default=-9.0), max(used, default=-1.0) + 0.5
    n_rows = (len(by_k) + 2) // 3
    with drawing(7.2, 0.6 + 1.75 * n_rows, stem, ("k", *_COLUMNS), data) as figure:
        panels = list(np.atleast_1d(figure.subplots(n_rows, 3, sharey=True)).flat)
        place_of_never = least - 0.5 - NEVER_WIDTH
        for (k, counted), panel in zip(by_k.items(), panels, strict=False):
            for place, one in enumerate(counted):
                _bars(panel, one, place)
                _never(panel, one, place, place_of_never)
            panel.set_title(f"k = {k}")
            panel.set_xlim(place_of_never - 0.3, most + 0.2)
            powers = [int(x) for x in np.arange(np.ceil(least + 0.5), most + 0.1, 2)]
            panel.set_xticks(
                [place_of_never + NEVER_WIDTH / 2, *powers], ["never", *(f"$10^{{{x}}}$" for x in powers)]
            )
        for panel in panels[len(by_k) :]:
            panel.set_axis_off()
        for panel in panels[: len(by_k)]:
            panel.set_xlabel("relative frequency in the corpus")
        for panel in panels[: len(by_k) : 3]:
            panel.set_ylabel("share of different k-grams")
        handles, _ = _legend(panels[0], next(iter(by_k.values())))
        figure.legend(
            handles,
            [one.name for one in next(iter(by_k.values()))],
            loc="lower right",
            bbox_to_anchor=(0.97, 0.2),
            title=title,
        )


def _bars(panel: Axes, one: Counted, place: int) -> None:
    edges = np.array(one.histogram.edges)
    if place == 0:
        panel.bar(
            edges[:-1], one.shares, np.diff(edges), align="edge", color=COLOURS[5], edgecolor="white",
            linewidth=0.4, label=one.label,
        )  # fmt: skip
        return
    used = np.flatnonzero(one.shares)
    first, last = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
    panel.stairs(
        one.shares[first:last], edges[first : last + 1], color=_INKS[place - 1],
        linestyle=_STYLES[place - 1], linewidth=1.3, label=one.label,
    )  # fmt: skip


def _never(panel: Axes, one: Counted, place: int, left: float) -> None:
    if place == 0:
        panel.bar(left, one.never, NEVER_WIDTH, align="edge", color=COLOURS[0], edgecolor="white")
    else:
        ends = [left, left + NEVER_WIDTH]
        panel.stairs([one.never], ends, color=_INKS[place - 1], linestyle=_STYLES[place - 1], linewidth=1.3)


def _legend(panel: Axes, counted: Sequence[Counted]) -> tuple[list[Any], list[str]]:
    """Handles and labels in the order of the sets."""
    known = dict(zip(*reversed(panel.get_legend_handles_labels()), strict=True))
    labels = [one.label for one in counted]
    return [known[label] for label in labels], labels


def _is_low(counted: Sequence[Counted]) -> bool:
    """Whether most of what is drawn lies in the left half."""
    return float(np.mean([one.shares[: len(one.shares) // 2].sum() for one in counted])) > 0.5


def _rows(one: Counted) -> list[list[Any]]:
    edges = one.histogram.edges
    rows: list[list[Any]] = [
        [one.name, low, high, count, share]
        for low, high, count, share in zip(
            edges[:-1], edges[1:], one.histogram.counts, one.shares.tolist(), strict=True
        )
    ]
    if one.histogram.never is not None:
        rows.append([one.name, "never", "never", one.histogram.never, one.never])
    return rows
