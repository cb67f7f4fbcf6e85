"""``tslens train --plan``: what the training would take; nothing is started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tslens.cli.console import counted, duration, say, show, show_json, show_table
from tslens.cli.train_speed import short

if TYPE_CHECKING:
    from tslens.config import Precision
    from tslens.corpus.shards import Corpus
    from tslens.train.cells import Cell
    from tslens.train.plan import Plan

PLAN_SCHEMA = "tslens.plan/1"


def show_plan(cells: Sequence[Cell], corpus: Corpus, *, device: str, gpu: str | None, as_json: bool) -> None:
    """A row a cell and the total, or one JSON object."""
    from tslens.train.plan import ASSUMED_MFU, LAYER_LAUNCH, STEP_LAUNCH, plan_cells

    say(
        f"planning {counted(len(cells), 'cell')}; nothing is trained"
        + ("" if gpu else f", a few steps are timed on {device}")
    )
    plans = plan_cells(cells, corpus, device=device, gpu=gpu)
    total = _total(plans)
    if as_json:
        assumed = {"assumed_mfu": ASSUMED_MFU, "assumed_launch_seconds": [STEP_LAUNCH, LAYER_LAUNCH]}
        where = {"gpu": gpu, **assumed} if gpu else {"device": device}
        rows = [asdict(plan) for plan in plans]
        show_json({"schema": PLAN_SCHEMA, **where, "cells": rows, "total": total})
        return
    time_column = "GPU hours" if gpu else "time"
    show_table(
        [
            "<cell>",
            "parameters",
            "embedding",
            "FLOPs/token",
            "tokens",
            "FLOPs",
            "memory",
            "disk",
            "tokens/s",
            time_column,
        ],
        [*(_row(plan, gpu) for plan in plans), *([_total_row(total, gpu)] if len(plans) > 1 else [])],
    )
    show(_explanation(plans, device, gpu, cells[0].config.precision))


def _total(plans: Sequence[Plan]) -> dict[str, Any]:
    flops = [plan.flops for plan in plans if plan.flops is not None]
    return {
        "flops": sum(flops) if len(flops) == len(plans) else None,
        "disk_bytes": sum(plan.disk_bytes for plan in plans),
        "seconds": sum(plan.seconds for plan in plans),
    }


def _row(plan: Plan, gpu: str | None) -> list[str]:
    return [
        f"{plan.model}@seed{plan.seed}",
        short(plan.n_params),
        short(plan.n_embedding),
        short(plan.flops_per_token),
        "" if plan.tokens is None else short(plan.tokens),
        "" if plan.flops is None else short(plan.flops),
        f"{short(plan.memory_bytes)}B",
        f"{short(plan.disk_bytes)}B",
        short(plan.tokens_per_second) + ("" if plan.basis != "estimated" else "*"),
        _time(plan.seconds, gpu),
    ]


def _total_row(total: dict[str, Any], gpu: str | None) -> list[str]:
    flops = "" if total["flops"] is None else short(total["flops"])
    return ["total", *[""] * 4, flops, "", f"{short(total['disk_bytes'])}B", "", _time(total["seconds"], gpu)]


def _time(seconds: float, gpu: str | None) -> str:
    return f"{seconds / 3600:,.3g}" if gpu else duration(seconds)


def _explanation(plans: Sequence[Plan], device: str, gpu: str | None, precision: Precision) -> str:
    from tslens.train.loop import EVEN_STEPS
    from tslens.train.plan import ASSUMED_MFU, GPUS, LAYER_LAUNCH, STEP_LAUNCH, gpu_peak

    lines = ["FLOPs/token: 6 x weights in products + 12 x width x keys attended to, over the layers."]
    lines.append(
        "Memory: weights, gradients, optimizer and activations; Python and its libraries come on top."
    )
    lines.append(
        f"Disk: a checkpoint at steps 1, 2, 4 ... 512, then every {EVEN_STEPS:,} steps, all kept. A larger "
        "--batch-tokens takes fewer steps; of a finished run, all checkpoints but the last may be deleted."
    )
    if gpu:
        flops, taken = gpu_peak(gpu, precision)
        peak = f"{flops / 1e12:,.3g} TFLOP/s, the peak of {GPUS[gpu]} in {taken} by its data sheet"
        lines.append(
            f"GPU hours: at {ASSUMED_MFU:.0%} of {peak}, and {1000 * STEP_LAUNCH:g} ms a step and "
            f"{1000 * LAYER_LAUNCH:g} ms a layer of it to launch its kernels, all assumed; a larger --batch-tokens "
            "takes fewer steps."
        )
    else:
        lines.append(f"Time: from steps timed on {device}; the evaluations come on top.")
    if any(plan.basis == "estimated" for plan in plans):
        lines.append(
            "* not timed: taken to reach the share of plain matrix products that the largest timed one did."
        )
    return "\n".join(lines)
