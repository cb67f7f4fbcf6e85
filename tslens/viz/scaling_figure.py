"""Loss over operations of training, the lower envelope, and the best size for a budget, drawn for print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import NullFormatter

from tslens.link.scaling.envelope import Envelope
from tslens.link.scaling.points import ScalingRun
from tslens.link.scaling.surface import Scaling
from tslens.viz.figures import GREY, drawing


def draw_scaling(runs: Sequence[ScalingRun], found: Scaling, envelope: Envelope, stem: Path) -> None:
    """Left: each run's loss, from small (pale) to large (dark), the envelope below. Right: best size by budget."""
    ordered = sorted(runs, key=lambda run: run.n_params)
    data: list[list[Any]] = [
        ["run", run.label, run.n_params, flops, tokens, loss]
        for run in ordered
        for flops, tokens, loss in zip(
            run.flops.tolist(), run.tokens.tolist(), run.loss.tolist(), strict=True
        )
    ]
    data += [
        ["envelope", one.label, one.best or "", one.flops, "", one.loss_nats] for one in envelope.budgets
    ]
    data += [
        ["surface", "", size, flops, "", ""] for flops, size in zip(found.budgets, found.best, strict=True)
    ]
    with drawing(7.2, 3.0, stem, ["what", "run", "size", "flops", "tokens", "loss_nats"], data) as figure:
        left, right = figure.subplots(1, 2)
        shades = np.linspace(0.15, 0.95, len(ordered))
        colours = _viridis(1 - shades)
        for run, colour in zip(ordered, colours, strict=True):
            left.plot(run.flops, run.loss, "o-", color=colour, markersize=2.2, linewidth=0.8, label=run.model)
        left.plot(
            [one.flops for one in envelope.budgets],
            [one.loss_nats for one in envelope.budgets],
            "--",
            color="black",
            linewidth=1.0,
            label="lower envelope",
        )
        left.set_xscale("log")
        left.set_xlabel("FLOPs of training")
        left.set_ylabel("nats per token, validation")
        left.legend(fontsize=5.5, ncols=2)
        right.plot(found.budgets, found.best, "-", color="black", linewidth=1.2, label="surface")
        known = [(one.flops, one.best) for one in envelope.budgets if one.best is not None]
        if known:
            right.plot(*zip(*known, strict=True), "s", color=colours[-1], markersize=3.5, label="parabolas")
        sizes = sorted({float(run.n_params if found.count == "all" else run.n_blocks) for run in ordered})
        for size in (sizes[0], sizes[-1]):
            right.axhline(size, color=GREY, linewidth=0.7, linestyle=":")
        right.annotate(
            "smallest and largest trained",
            (0.02, sizes[-1]),
            xycoords=("axes fraction", "data"),
            fontsize=6,
            color=GREY,
            va="bottom",
        )
        right.set_xscale("log")
        right.set_yscale("log")
        for axis in (left.xaxis, right.xaxis):  # labels at decades alone: others overlap
            axis.set_minor_formatter(NullFormatter())
        right.set_xlabel("FLOPs of training")
        right.set_ylabel("best size, parameters" + (" of blocks" if found.count == "blocks" else ""))
        ends = found.interval
        right.set_title(f"exponent {found.exponent:.2f} [{ends.low:.2f}, {ends.high:.2f}]")
        right.legend(fontsize=6.5, loc="lower right")


def _viridis(places: np.ndarray) -> list[Any]:
    from matplotlib import colormaps

    return [colormaps["viridis"](place) for place in places.tolist()]
