"""``tslens heads``."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tslens.cli import options
from tslens.cli.console import progress_bar, say, show, show_json, show_table
from tslens.files import check_writable

if TYPE_CHECKING:
    from tslens.model.load import ModelSource
    from tslens.model.loss import LossReport
    from tslens.probes.verdict import HeadsReport
    from tslens.types import HeadScore

HEADS_SCHEMA = "tslens.heads/1"
N_STORIES = 500
N_EXPLAIN = 200
FIRST_ROWS = 24  # of the table on a terminal
MUCH_WORSE = 1.5  # times the validation bits per byte: the stories are not what the model learned


def heads(
    model: options.Model,
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
            "--n-explain", help="First stories, on which basis and cause of candidates are tested; 0: no."
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
    from tslens.cli.heads_scan import open_for_scan, scan_heads, write_page
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
    for target in (folder, *([html.parent] if html is not None else [])):
        check_writable(target)
    opened = open_for_scan(source, stories, n_stories, device=options.resolve_device(device))
    say_loss(opened.loss, len(opened.held_out.first), source)
    with progress_bar("scanning", n_stories) as (bar, task):

        def explaining(n: int) -> None:
            bar.update(task, description="explaining", total=min(n_explain, n_stories), completed=n)

        scan = scan_heads(
            opened,
            probes=chosen,
            asked=bool(probes or labels),
            n_explain=n_explain,
            seed=seed,
            command=shlex.join(["tslens", *sys.argv[1:]]),
            progress=lambda n: bar.update(task, completed=n, note=f"{n} stories"),
            explaining=explaining,
        )
    report = scan.report
    n_excluded = opened.held_out.n_excluded
    left_out = f", {n_excluded} training stories left out" if n_excluded else ""
    if not opened.model.train_digests:
        left_out = "; what it was trained on is not known, so nothing was left out"
    cut = f", {report.n_cut} cut at {opened.model.cfg.n_ctx} tokens" if report.n_cut else ""
    say(f"stories: {report.n_stories} of {scan.record.data}{cut}{left_out}")
    if report.left_out:
        say(
            f"left out, as the stories have no labels and no parser is installed: {', '.join(report.left_out)}"
        )
    asked = "_" + "+".join(probe.name for probe in chosen) if probes or labels else ""
    stem = scan.record.data.replace(":", "-").replace("/", "-")
    for ending in (".gz", ".jsonl", ".txt", ".parquet"):
        stem = stem.removesuffix(ending)
    path = folder / f"{stem}_{source.path.stem}_n{report.n_stories}_seed{seed}{asked}.jsonl"
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


def say_loss(loss: LossReport, n_stories: int, source: ModelSource) -> None:
    """Bits per byte on the stories; a warning where the model does much worse than on its own kind."""
    from tslens.cli.heads_scan import validation_beside

    beside = validation_beside(source)
    beside = f" ({beside})" if beside else ""
    say(f"bits per byte on the first {n_stories} stories: {loss.bits_per_byte:.3f}{beside}")
    known = source.validation_bits()
    if known is not None and loss.bits_per_byte > MUCH_WORSE * known:
        say(
            f"warning: that is over {MUCH_WORSE} times the validation figure. The model never learned such stories; "
            "give the kind it was trained on with --stories."
        )


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
        f"null: the largest; low: lower end of value minus null, corrected for {len(rows)} rows. Candidate: low is\n"
        f"{report.floor:g} or more, on both halves too. At half that floor {at['half']} heads reach it, at double "
        f"{at['double']}.\n"
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
    numbers = [f"{score.value:.3f}", f"{null:.3f}", name, f"{score.excess_low:+.3f}"]
    return [str(score.head), score.probe, score.position, *numbers, score.basis or "", edge, score.status]
