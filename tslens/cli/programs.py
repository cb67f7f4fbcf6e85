"""``tslens programs``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tslens.cli import options
from tslens.cli.console import progress_bar, say, show, show_json, show_table
from tslens.files import check_writable
from tslens.provenance import command_line

if TYPE_CHECKING:
    from tslens.probes.programs.report import Estimate, HeadPrograms, ProgramsReport

PROGRAMS_SCHEMA = "tslens.programs/1"
N_STORIES = 200
N_SWAP = 50
N_TOKENS = 50
FIRST_ROWS = 32  # of the table on a terminal
WIDEST = 28  # of a program in the table


def programs(
    model: options.Model = options.NEWEST,
    stories: options.Stories = None,
    n_stories: Annotated[
        int, typer.Option("--n-stories", help="Stories: half for the fit, half to read.")
    ] = N_STORIES,
    scores: Annotated[
        Path | None,
        typer.Option(
            "--scores", help="File of tslens heads for this model. If absent, its heads are scanned first."
        ),
    ] = None,
    n_swap: Annotated[
        int, typer.Option("--n-swap", min=0, help="Stories that are run with swapped heads; 0: none.")
    ] = N_SWAP,
    n_tokens: Annotated[
        int,
        typer.Option(
            "--n-tokens", min=0, help="Stories that the predictor from tokens alone is fitted on; 0: none."
        ),
    ] = N_TOKENS,
    out: Annotated[
        Path | None, typer.Option("--out", help="Results folder; RUN/results/programs if absent.")
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Say how much of every head is a program that reads text only, and swap heads for their programs.

    Example: tslens programs --model l1_h256
    """
    say(f"tslens programs: loading {model} (seed {seed})")
    from dataclasses import asdict

    from tslens.cli.opening import file_name, open_for_scan, say_loss, say_stories
    from tslens.cli.programs_scan import saved_scores, scan_programs, scan_scores
    from tslens.errors import UsageError
    from tslens.model.load import find_model

    if n_stories < 1:
        raise UsageError(f"{n_stories} stories are none.", "Give --n-stories 1 or more.")
    source = find_model(model)
    say(source.note)
    folder = out or source.home.results("programs")
    check_writable(folder)
    opened = open_for_scan(source, stories, n_stories, device=options.resolve_device(device))
    say_loss(opened)
    with progress_bar("scanning heads", None) as (bar, task):

        def progress(what: str, n: int) -> None:
            bar.update(task, description=what, completed=n, note=f"{n} stories")

        known = saved_scores(scores, opened) if scores else scan_scores(opened, seed=seed, progress=progress)
        scan = scan_programs(
            opened,
            scores=known,
            n_tokens=n_tokens,
            n_swap=n_swap,
            seed=seed,
            command=command_line(),
            progress=progress,
        )
    report = scan.report
    say_stories(opened, report.n_stories)
    if report.left_out:
        say(
            f"left out, as the stories have no labels and no parser is installed: {', '.join(report.left_out)}"
        )
    asked = "".join(
        f"_{name}{n}"
        for name, n, usual in (("swap", n_swap, N_SWAP), ("tokens", n_tokens, N_TOKENS))
        if n != usual
    )
    path = folder / file_name(opened, report.n_stories, seed, asked, named=out is not None)
    scan.save(path)
    if as_json:
        show_json(
            {
                "schema": PROGRAMS_SCHEMA,
                "model": source.label,
                "n_stories": report.n_stories,
                "heads": [head.to_json() for head in report.heads],
                "groups": [asdict(row) for row in report.groups],
                "explained": [asdict(row) for row in report.explained],
                "clean": dict(report.clean),
            }
        )
    else:
        show_programs(report)
        show(f"wrote {path}")
    if report.left_out:
        raise typer.Exit(3)  # partly done: what is missing was said


# Results -------------------------------------------------------------------------------------------------


def show_programs(report: ProgramsReport) -> None:
    """The heads, best explained first; how much all programs explain; what swaps cost."""
    rows = report.best_first()
    show_table(
        [
            "<head>",
            "<composed program>",
            "IoU",
            "null",
            "share",
            "low",
            "swap",
            "mean",
            "random",
            "uniform",
            "<status>",
        ],
        [_cells(head) for head in rows[:FIRST_ROWS]],
    )
    n, at = report.statuses, report.counts_at_floors
    more = f" ({len(rows) - FIRST_ROWS} more rows in the file)" if len(rows) > FIRST_ROWS else ""
    swapped = f"on {report.n_swapped} stories" if report.n_swapped else "not done (--n-swap 0)"
    show(
        f"{len(rows)} heads: {n['role']} role, {n['candidate']} candidate, {n['unclear']} unclear, {n['no']} no"
        f"{more}.\n"
        f"Fitted on {report.n_fitted} stories, read on {report.n_read} others. IoU: weighted intersection over\n"
        "union of head and program; null: the largest. share: of what there is to explain, the divergence\n"
        f"from uniform attention; low: corrected over heads (random twins reach {report.twins:.2f}). Candidate: low\n"
        f"is {report.floor:g} or more. At 0.25 {at['0.25']} heads reach it, at 0.75 {at['0.75']}.\n"
        "swap, mean, random, uniform: nats that the program, the mean pattern, the cheaper of another story's\n"
        "pattern and its own weights shuffled, even attention cost in its place;\n"
        f"{swapped}. Role: the program costs less than each of these and than distance alone, which a\n"
        f"program without steps is: {_bare(report)} candidates are."
    )
    show_table(
        ["<heads>", "<program>", "heads", "IoU", "distance", "share", "<95%>"],
        [
            [
                row.group, row.program, str(row.n_heads), f"{row.iou.value:.3f}",
                f"{row.distance.value:.3f}", f"{row.share.value:.3f}",
                f"[{row.share.low:.3f}, {row.share.high:.3f}]",
            ]
            for row in report.explained
        ],
    )  # fmt: skip
    if report.groups:
        show_table(
            ["<swapped at once>", "<pattern>", "loss", "<95%>", "perplexity", "names", "pronouns", "closing"],
            group_cells(report),
        )


def _bare(report: ProgramsReport) -> int:
    """Candidates whose program has no steps."""
    composed = (head.score("composed") for head in report.heads if head.status == "candidate")
    return sum(score is not None and score.program == "profile" for score in composed)


def group_cells(report: ProgramsReport) -> list[list[str]]:
    """A line for each group and method: what it costs at all targets, and at some."""
    from tslens.probes.programs.report import perplexity

    lines = []
    groups = {row.group: row.n_heads for row in report.groups}
    for group, n_heads in groups.items():
        for method in dict.fromkeys(row.swap.method for row in report.groups if row.group == group):
            found = report.swap(group, method)
            effect = found["all"]
            rise = "" if " - " in method else f"{perplexity(effect.value):+.0%}"
            others = [_signed(found.get(name)) for name in ("names", "pronouns", "closing marks")]
            ends = f"[{effect.low:+.3f}, {effect.high:+.3f}]"
            lines.append([f"{group} ({n_heads})", method, f"{effect.value:+.3f}", ends, rise, *others])
    return lines


def _signed(effect: Estimate | None) -> str:
    return "" if effect is None else f"{effect.value:+.3f}"


def _cells(head: HeadPrograms) -> list[str]:
    composed = head.score("composed")
    assert composed is not None
    null = max((value for name, value in composed.nulls.items() if name != "other"), default=0.0)
    share = "" if composed.share is None else f"{composed.share.value:.2f}"
    low = "even" if head.support is None else f"{head.support:.2f}"
    program, mean, other, shuffled, uniform = (
        head.effect(method) for method in ("program", "mean", "other", "shuffled", "uniform")
    )
    random = min(
        (one for one in (other, shuffled) if one is not None), key=lambda one: one.value, default=None
    )
    effects = [_signed(effect) for effect in (program, mean, random, uniform)]
    words = composed.program
    shown = words if len(words) <= WIDEST else words[: WIDEST - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return [
        str(head.head),
        shown,
        f"{composed.iou.value:.2f}",
        f"{null:.2f}",
        share,
        low,
        *effects,
        head.status,
    ]
