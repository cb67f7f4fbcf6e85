"""``tslens heads``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tslens.cli import options
from tslens.cli.console import progress_bar, say, show, show_json, show_table
from tslens.files import check_page, check_writable
from tslens.provenance import command_line

if TYPE_CHECKING:
    from tslens.probes.verdict import HeadsReport
    from tslens.types import HeadScore

HEADS_SCHEMA = "tslens.heads/1"
N_STORIES = 500
N_EXPLAIN = 200
FIRST_ROWS = 24  # of the table on a terminal


def heads(
    model: options.Model = options.NEWEST,
    stories: options.Stories = None,
    n_stories: Annotated[int, typer.Option("--n-stories", help="Stories to read.")] = N_STORIES,
    probe: Annotated[
        list[str] | None, typer.Option("--probe", help="One probe; may be repeated. All if absent.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", help="A list in the lines of the stories, probed as well; may be repeated."),
    ] = None,
    n_explain: Annotated[
        int,
        typer.Option(
            "--n-explain",
            help="First stories, in whole batches, on which basis and cause of candidates are tested; 0: no.",
        ),
    ] = N_EXPLAIN,
    html: options.Html = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Results folder; RUN/results/heads if absent.")
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Say what every attention head looks at, with intervals, nulls and a verdict.

    Example: tslens heads --model l1_h256 --html heads.html
    """
    say(f"tslens heads: loading {model} (seed {seed})")
    scan_model(
        model, stories, n_stories, probe, html, out, seed, device, as_json, labels=label, n_explain=n_explain
    )


def scan_model(
    model: str,
    stories: str | None,
    n_stories: int,
    probes: list[str] | None,
    html: Path | None,
    out: Path | None,
    seed: int,
    device: str,
    as_json: bool,
    labels: list[str] | None = None,
    n_explain: int = N_EXPLAIN,
) -> None:
    """The command, for ``tslens demo`` as well."""
    from tslens.cli.heads_scan import scan_heads, write_page
    from tslens.cli.opening import file_name, open_for_scan, say_loss, say_stories
    from tslens.errors import UsageError
    from tslens.model.load import find_model
    from tslens.probes.base import choose_probes

    if n_stories < 1:
        raise UsageError(f"{n_stories} stories are none.", "Give --n-stories 1 or more.")
    if n_explain < 0:
        raise UsageError(f"--n-explain {n_explain} is below 0.", "Give 0 or more.")
    if labels and stories is None:
        raise UsageError(
            "The default stories have no labels of yours.", "Give stories that have, with --stories."
        )
    chosen = choose_probes(probes, labels or ())
    source = find_model(model)
    say(source.note)
    folder = out or source.home.results("heads")
    check_page(html, stories)
    check_writable(folder)
    opened = open_for_scan(source, stories, n_stories, device=options.resolve_device(device))
    say_loss(opened)
    with progress_bar("scanning", n_stories) as (bar, task):

        def explaining(n: int) -> None:
            bar.update(task, description="explaining", total=min(n_explain, n_stories), completed=n)

        scan = scan_heads(
            opened,
            probes=chosen,
            asked=bool(probes or labels),
            n_explain=n_explain,
            seed=seed,
            command=command_line(),
            progress=lambda n: bar.update(task, completed=n, note=f"{n} stories"),
            explaining=explaining,
        )
    report = scan.report
    say_stories(opened, report.n_stories, report.n_cut)
    if report.left_out:
        say(
            f"left out, as the stories have no labels and no parser is installed: {', '.join(report.left_out)}"
        )
    asked = "_" + "+".join(probe.name for probe in chosen) if probes or labels else ""
    if n_explain != N_EXPLAIN:
        asked += f"_explain{n_explain}"
    path = folder / file_name(opened, report.n_stories, seed, asked, named=out is not None)
    scan.save(path)
    if html is not None:
        write_page(html, scan)
    if as_json:
        rows = [score.to_json() for score in report.scores]
        show_json(
            {"schema": HEADS_SCHEMA, "model": source.label, "n_stories": report.n_stories, "heads": rows}
        )
    else:
        show_report(report, probes_asked=probes is not None)
        show(f"wrote {path}" + (f"\nwrote {html}" if html else ""))
    if report.left_out:
        raise typer.Exit(3)  # partly done: what is missing was said


# Results -------------------------------------------------------------------------------------------------


def show_report(report: HeadsReport, *, probes_asked: bool) -> None:
    """The best rows, then how many there are of each status."""
    rows = report.best_first()
    shown = rows if probes_asked else rows[:FIRST_ROWS]
    show_table(
        ["<head>", "<probe>", "<at>", "value", "null", "<largest>", "low", "<basis>", "edge", "<status>"],
        [[*_cells(score)] for score in shown],
    )
    found = {score.head for score in rows}
    counts = Counter(report.status_of(head) for head in found)
    more = f" ({len(rows) - len(shown)} more rows in the file)" if len(shown) < len(rows) else ""
    at = report.counts_at_floors
    show(
        f"{len(found)} heads: {counts['role']} role, {counts['candidate']} candidate, {counts['unclear']} unclear, "
        f"{counts['no']} no{more}.\n"
        f"null: the largest; low: lower end of value minus null, corrected for {len(rows)} rows (few: under five\n"
        f"stories of a half, so it is not told). Candidate: low is {report.floor:g} or more, on both halves too.\n"
        f"At half that floor {at['half']} heads reach it, at double {at['double']}.\n"
        + (
            f"edge: loss in nats that it costs to take the role's attention away, beyond like attention, on "
            f"{report.n_explained} stories.\nRole: a candidate whose edge effect is above zero, corrected, on both "
            "halves."
            if report.n_explained
            else "Causes were not tested (--n-explain 0), so no row is a role."
        )
    )


def _cells(score: HeadScore) -> list[str]:
    name, null = max(score.nulls.items(), key=lambda item: item[1])
    edge = "" if score.cause is None else f"{score.cause['edge']:+.3f}"
    low = f"{score.excess_low:+.3f}" if score.excess_low > -1 else "few"
    numbers = [f"{score.value:.3f}", f"{null:.3f}", name, low]
    return [str(score.head), score.probe, score.position, *numbers, score.basis or "", edge, score.status]
