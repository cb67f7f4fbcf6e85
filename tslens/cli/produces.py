"""``tslens produces``."""

from __future__ import annotations

import textwrap
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tslens.cli import options
from tslens.cli.console import progress_bar, say, show, show_json, show_table
from tslens.files import check_writable
from tslens.provenance import command_line

if TYPE_CHECKING:
    from tslens.probes.production.report import Produced, ProductionReport

PRODUCES_SCHEMA = "tslens.produces/1"
N_STORIES = 500
N_EXPLAIN = 100
FIRST_ROWS = 24  # of the table on a terminal


def produces(
    model: options.Model = options.NEWEST,
    stories: options.Stories = None,
    n_stories: Annotated[int, typer.Option("--n-stories", help="Stories to read.")] = N_STORIES,
    n_explain: Annotated[
        int,
        typer.Option(
            "--n-explain",
            help="First stories, in whole batches, on which heads of candidates are ablated; 0: none.",
        ),
    ] = N_EXPLAIN,
    total: Annotated[
        bool,
        typer.Option(
            "--total", help="Count all that logits lose without the head, not what it adds by itself."
        ),
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Results folder; RUN/results/production if absent.")
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Say what every attention head produces: parts of speech, frequent words, copies of what it attends to.

    Direct logit attribution with a frozen LayerNorm (or, with --total, all that logits lose without the head), against
    like places, random twins and moved labels; confirmed by ablation where the head says so.

    Example: tslens produces --model l2_h128
    """
    say(f"tslens produces: loading {model} (seed {seed})")
    from tslens.cli.opening import file_name, open_for_scan, record_of, say_loss, say_stories
    from tslens.errors import UsageError
    from tslens.model.load import find_model
    from tslens.probes.production.produce import score_production
    from tslens.probes.production.results import save_production

    if n_stories < 1:
        raise UsageError(f"{n_stories} stories are none.", "Give --n-stories 1 or more.")
    if n_explain < 0:
        raise UsageError(f"--n-explain {n_explain} is below 0.", "Give 0 or more.")
    source = find_model(model)
    say(source.note)
    folder = out or source.home.results("production")
    check_writable(folder)
    opened = open_for_scan(source, stories, n_stories, device=options.resolve_device(device))
    say_loss(opened)
    with progress_bar("reading", n_stories) as (bar, task):

        def explaining(n: int) -> None:
            total = min(n_explain, n_stories)
            bar.update(task, description="explaining", total=total, completed=n, note=f"{n} stories")

        report = score_production(
            opened.model,
            opened.held_out,
            seed=seed,
            way="total" if total else "direct",
            n_explain=n_explain,
            others=opened.held_out.others,
            progress=lambda n: bar.update(task, completed=n, note=f"{n} stories"),
            explaining=explaining,
        )
    say_stories(opened, report.n_stories, report.n_cut)
    asked = "_total" if total else ""
    asked += f"_explain{n_explain}" if n_explain != N_EXPLAIN else ""
    path = folder / file_name(opened, report.n_stories, seed, asked, named=out is not None)
    record = record_of(opened, command=command_line(), seed=seed)
    save_production(report, path, model=source.label, checkpoint=source.path.name, record=record)
    if as_json:
        rows = [row.to_json() for row in report.rows]
        show_json(
            {
                "schema": PRODUCES_SCHEMA,
                "model": source.label,
                "way": report.way,
                "n_stories": report.n_stories,
                "heads": rows,
            }
        )
    else:
        show_production(report)
        show(f"wrote {path}")


# Results -------------------------------------------------------------------------------------------------


def show_production(report: ProductionReport) -> None:
    """The best rows, then how many heads there are of each status."""
    rows = report.best_first()
    show_table(
        ["<head>", "<produces>", "value", "low", "null", "token", "says", "<basis>", "loss", "<status>"],
        [_cells(row) for row in rows[:FIRST_ROWS]],
    )
    heads = {row.head for row in rows}
    status = Counter(report.status_of(head) for head in heads)
    of_rows = Counter(row.status for row in rows)
    at = report.counts_at_floors
    counted = [
        f"{len(all_of)} {what}: {of['role']} role, {of['candidate']} candidate, {of['unclear']} unclear, {of['no']} no."
        for what, all_of, of in (("heads", heads, status), ("rows", rows, of_rows))
    ]
    terms = (
        f"value: nats of logit ({report.way}) by which the head raises the class where it comes, beyond like places of "
        "the story (attended tokens: by which it raises what it attends to); low: its corrected lower end beyond the "
        f"largest null. Candidate: low is {report.floor:g} or more. At half that floor {at['half']} heads reach it, at "
        f"double {at['double']}. token: the value that the current token alone gives. says: share of the class's "
        "places at which the head says so; 0.05 by chance. "
    )
    if report.n_explained:
        terms += (
            "loss: nats that its mean in place of the head costs there, beyond places of the class where it does not "
            f"say so, on {report.n_explained} stories. Role: a candidate where that is above zero, corrected."
        )
    else:
        terms += "Causes were not tested (--n-explain 0), so no row is a role."
    show("\n".join([*counted, textwrap.fill(terms, 98)]))
    if report.left_out:
        names = ", ".join(f'"{name}"' for name in report.left_out)
        show(textwrap.fill(f"Left out, as too few stories have them with a match: {names}.", 98))


def shown_class(row: Produced) -> str:
    """The name of a class, a word in quotes as its blank belongs to it."""
    return f'"{row.name}"' if row.kind == "word" else row.name


def _cells(row: Produced) -> list[str]:
    lexical = "" if row.lexical is None else f"{row.lexical:+.2f}"
    says = "" if row.says is None else f"{row.says:.2f}"
    loss = "" if row.cause is None else f"{row.cause['beyond']:+.3f}"
    numbers = [f"{row.value:+.2f}", f"{row.excess_low:+.2f}", f"{max(row.nulls.values()):+.2f}"]
    return [str(row.head), shown_class(row), *numbers, lexical, says, row.basis or "", loss, row.status]
