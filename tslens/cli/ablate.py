"""``tslens ablate``."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tslens.cli import options
from tslens.cli.console import progress_bar, say, show, show_json, show_table
from tslens.files import check_writable
from tslens.provenance import command_line

if TYPE_CHECKING:
    from tslens.link.ablation_report import AblationReport, AblationRow

JSON_SCHEMA = "tslens.ablate/1"
FIRST_ROWS = 24  # of the table on a terminal
Method = Literal["zero", "mean", "resample"]


class MethodName(StrEnum):
    """What stands in place of a component."""

    ZERO = "zero"
    MEAN = "mean"
    RESAMPLE = "resample"


def ablate(
    model: options.Model = options.NEWEST,
    stories: options.Stories = None,
    n_stories: Annotated[
        int | None,
        typer.Option(
            "--n-stories", min=1, help="Stories to read. Default: 500; roles of neurons 100, each neuron 50."
        ),
    ] = None,
    components: Annotated[
        Literal["heads", "mlps", "neurons"] | None,
        typer.Option(
            "--components",
            help="heads: each, and all of a role where tslens heads has found any; mlps: each attention, MLP and "
            "layer; neurons: all of a role (tslens neurons), or each of a --layer. Default: heads; with --layer the "
            "whole layer.",
        ),
    ] = None,
    layer: Annotated[list[int] | None, typer.Option("--layer", help="One layer; may be repeated.")] = None,
    neuron_fraction: Annotated[
        float | None,
        typer.Option("--neuron-fraction", help="A random share of the neurons of every layer (or --layer)."),
    ] = None,
    draws: Annotated[int, typer.Option("--draws", min=2, help="Random draws of the share.")] = 5,
    method: Annotated[
        list[MethodName] | None,
        typer.Option("--method", help="zero, mean or resample; may be repeated. All three if absent."),
    ] = None,
    roles: Annotated[
        Path | None,
        typer.Option("--roles", help="Results of tslens heads or neurons. Default: the newest of the model."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Results folder; RUN/results/ablate if absent.")
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Say what a model loses without a head, a layer, a role or a share of its neurons, with intervals.

    Example: tslens ablate --model l4_h128

    Example: tslens ablate --model l1_h256 --neuron-fraction 0.25 --method mean
    """
    say(f"tslens ablate: loading {model} (seed {seed})")
    from tslens.cli.ablate_groups import Asked, choose_groups
    from tslens.cli.opening import file_name, open_for_scan, record_of, say_loss, say_stories
    from tslens.link.ablation_report import save_ablations
    from tslens.link.effects import METHODS
    from tslens.link.effects import ablate as measure
    from tslens.model.load import find_model

    asked = Asked(components, layer or (), neuron_fraction, draws, roles)
    n_asked = n_stories or asked.n_stories
    methods = [one for one in METHODS if not method or one in method]
    source = find_model(model)
    say(source.note)
    folder = out or source.home.results("ablate")
    check_writable(folder)
    opened = open_for_scan(source, stories, n_asked, device=options.resolve_device(device))
    groups = choose_groups(asked, opened.model, source, seed=seed)
    say_loss(opened)
    with progress_bar("ablating", n_asked) as (bar, task):
        report = measure(
            opened.model,
            opened.held_out,
            groups,
            seed=seed,
            methods=methods,
            progress=lambda n: bar.update(task, completed=n, note=f"{n} stories"),
        )
    say_stories(opened, report.n_stories, report.n_cut)
    if report.left_out:
        say("parts of speech are left out, as the stories have no labels and no parser is installed")
    by_method = "" if len(methods) == len(METHODS) else "_" + "+".join(methods)
    path = folder / file_name(opened, report.n_stories, seed, asked.name + by_method, named=out is not None)
    record = record_of(opened, command=command_line(), seed=seed)
    save_ablations(report, path, model=source.label, checkpoint=source.path.name, record=record)
    if as_json:
        rows = [row.to_json() for row in report.rows]
        header = {"schema": JSON_SCHEMA, "model": source.label, **report.header()}
        show_json({**header, "components": rows})
    else:
        show_ablations(report, methods)
        show(f"wrote {path}")


# Results -------------------------------------------------------------------------------------------------


def show_ablations(report: AblationReport, methods: Sequence[Method]) -> None:
    """The groups that cost most, then what the columns say and how far the methods agree."""
    decides: Method = "mean" if "mean" in methods else methods[0]
    of_name = {row.component: row for row in report.rows if row.method == decides}
    rows = sorted(of_name.values(), key=lambda row: -row.effect.delta_loss_nats)
    has_random = any(row.beyond_random for row in rows)
    has_draws = any(row.spread is not None for row in rows)
    columns = ["<without>", "n", *methods, f"low, {decides}", "high", "p"]
    beside = [*(["beyond", "low"] if has_random else []), *(["sd"] if has_draws else [])]
    show_table(
        [*columns, *beside, "<most at>"],
        [_cells(report, row, methods, len(beside)) for row in rows[:FIRST_ROWS]],
    )
    more = f" {len(rows) - FIRST_ROWS} more are in the file." if len(rows) > FIRST_ROWS else ""
    show(
        f"Nats per token beyond the whole model's {report.loss_nats:.3f}, over {report.n_stories} stories.{more}\n"
        f"low, high: 95% interval by {decides}, corrected for all that was ablated, as is p (of no effect).\n"
        "zero takes away what is written, mean puts its mean at the position there, resample what is written\n"
        "there in another story. most at: classes of next tokens at which it surely costs most."
        + (
            "\nbeyond: what a role costs more than as many random components of its layers, and the lower end,\n"
            "corrected for all roles."
            if has_random
            else ""
        )
        + ("\nsd: standard deviation over the random draws of the share." if has_draws else "")
    )
    for one in report.agreement:
        show(
            f"{one.methods[0]} and {one.methods[1]}: rank correlation {one.spearman:.2f} "
            f"({one.low:.2f} to {one.high:.2f}) over {one.n_components} components"
        )


def _cells(report: AblationReport, row: AblationRow, methods: Sequence[Method], n_beside: int) -> list[str]:
    by_method = [f"{report.of(row.component, one).effect.delta_loss_nats:+.4f}" for one in methods]
    effect, beyond = row.effect, row.beyond_random
    ends = [_number(effect.low_corrected), _number(effect.high_corrected)]
    p = "" if effect.p is None else f"{effect.p:.3f}"
    beside = [""] * n_beside
    if beyond is not None:
        beside[:2] = [_number(beyond.delta_loss_nats), _number(beyond.low_corrected)]
    if row.spread is not None:
        beside[-1] = f"{row.spread:.4f}"
    sure = [(one.low_corrected, name) for name, one in row.by_class.items() if (one.low_corrected or 0) > 0]
    most = sorted(sure, reverse=True)[: 1 if n_beside else 2]
    told = ", ".join(f"{name} {row.by_class[name].delta_loss_nats:+.2f}" for _, name in most)
    return [row.component, str(row.n_components), *by_method, *ends, p, *beside, told]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:+.4f}"
