"""``tslens kinds``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tslens.cli import options
from tslens.cli.console import progress_bar, say, show, show_json, show_table
from tslens.files import check_writable, refuse_replacing
from tslens.provenance import command_line

if TYPE_CHECKING:
    from tslens.probes.kinds.report import HeadKind, Interval, KindsReport

KINDS_SCHEMA = "tslens.kinds/1"
N_STORIES = 160


def kinds(
    model: options.Model = options.NEWEST,
    stories: options.Stories = None,
    n_stories: Annotated[int, typer.Option("--n-stories", help="Stories to read.")] = N_STORIES,
    figure: Annotated[
        Path | None, typer.Option("--figure", help="Where to draw the heads, a file that ends in .svg.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Results folder; RUN/results/kinds if absent.")
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Say of every attention head whether it follows distance, words or parts of speech, or neither.

    Predictors of its attention are fitted on half of the stories and read on the other half.

    Example: tslens kinds --model l1_h256 --figure kinds.svg
    """
    say(f"tslens kinds: loading {model} (seed {seed})")
    from tslens.cli.opening import file_name, open_for_scan, record_of, say_loss, say_stories
    from tslens.errors import UsageError
    from tslens.model.load import find_model
    from tslens.probes.kinds.measure import head_kinds
    from tslens.probes.kinds.report import save_head_kinds
    from tslens.viz.kinds_figure import write_kinds_figure

    if n_stories < 1:
        raise UsageError(f"{n_stories} stories are none.", "Give --n-stories 1 or more.")
    source = find_model(model)
    say(source.note)
    folder = out or source.home.results("kinds")
    if figure is not None:
        refuse_replacing(figure, stories)
        if figure.suffix.lower() != ".svg" or figure.is_dir():
            raise UsageError(f"{figure} is no name of a drawing.", "Give --figure a file that ends in .svg.")
        check_writable(figure.parent)
    check_writable(folder)
    opened = open_for_scan(source, stories, n_stories, device=options.resolve_device(device))
    say_loss(opened)
    with progress_bar("fitting", opened.model.cfg.n_layers) as (bar, task):
        report = head_kinds(
            opened.model,
            opened.held_out,
            seed=seed,
            fitting=lambda n: bar.update(task, completed=n, note=f"{n} layers"),
        )
    say_stories(opened, report.n_stories, report.n_cut)
    path = folder / file_name(opened, report.n_stories, seed, named=out is not None)
    record = record_of(opened, command=command_line(), seed=seed)
    save_head_kinds(report, path, model=source.label, checkpoint=source.path.name, record=record)
    if figure is not None:
        write_kinds_figure(figure, {source.label.removeprefix("shipped:"): report.heads})
    if as_json:
        rows = [one.to_json() for one in report.heads]
        show_json(
            {
                "schema": KINDS_SCHEMA,
                "model": source.label,
                "n_stories": report.n_stories,
                "twins": report.twins,
                "heads": rows,
            }
        )
    else:
        show_kinds(report)
        show(f"wrote {path}" + (f"\nwrote {figure}" if figure else ""))


# Results -------------------------------------------------------------------------------------------------


def show_kinds(report: KindsReport) -> None:
    """A row for each head, then how many there are of each kind, and of those beyond the random twins."""
    columns = [
        "nats",
        "beyond twins",
        "distance alone",
        "tokens alone",
        "of which parts",
        "shared",
        "unexplained",
    ]
    show_table(["<head>", "<kind>", *columns], [_cells(one) for one in report.heads])
    beyond = [one for one in report.heads if one.beyond_twins]
    first, second = report.n_fitted
    show(
        f"{len(report.heads)} heads: {_counted(report.heads)}.\n"
        f"{len(beyond)} of them beyond the random twins: {_counted(beyond)}.\n"
        "nats: how far the head's attention is from even attention, per query. beyond twins: its lower end is\n"
        f"above {report.twins:.2f}, the largest total of a head of five random twins. The kind of a head that is not\n"
        "beyond them may be that of a head that learned nothing.\n"
        "The rest are shares of the nats: what only distance tells, what only tokens tell (and of that what\n"
        "parts of speech tell), what either tells, what neither does. ±: longer side of the 95% interval.\n"
        f"Predictors were fitted on {first} and {second} stories, each half read by those of the other. A kind\n"
        "leads by a share of 0.1 and twice the other; unclear: the stories leave it open."
    )


def _counted(heads: Sequence[HeadKind]) -> str:
    """How many there are of each kind, the most frequent first."""
    count = Counter(one.kind for one in heads)
    return ", ".join(f"{n} {kind}" for kind, n in count.most_common()) or "none"


def _cells(one: HeadKind) -> list[str]:
    shares = one.shares
    return [
        str(one.head),
        one.kind,
        f"{one.total.value:.2f}",
        "yes" if one.beyond_twins else "no",
        _interval(shares["unique_distance"]),
        _interval(shares["unique_tokens"]),
        _interval(shares["parts_of_speech"]),
        f"{shares['shared'].value:.2f}",
        f"{shares['unexplained'].value:.2f}",
    ]


def _interval(one: Interval) -> str:
    """With the longer side of its interval."""
    return f"{one.value:.2f} ±{max(one.high - one.value, one.value - one.low):.2f}"
