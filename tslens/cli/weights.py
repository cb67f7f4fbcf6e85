"""``tslens weights``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tslens.cli import options
from tslens.cli.console import progress_bar, say, show, show_json, show_table
from tslens.files import check_writable
from tslens.provenance import command_line

if TYPE_CHECKING:
    from tslens.probes.weights.report import Agreement, WeightScore, WeightsReport

WEIGHTS_SCHEMA = "tslens.weights/1"
N_STORIES = 200
N_EXPLAIN = 40
FIRST_ROWS = 24  # of the table on a terminal
COLUMNS = (("qk", "value"), ("nats", "value"), ("stream_nats", "value"))
CAUSES = (("qk", "edge"), ("qk", "mean"))


def weights(
    model: options.Model = options.NEWEST,
    stories: options.Stories = None,
    n_stories: Annotated[int, typer.Option("--n-stories", help="Stories to read.")] = N_STORIES,
    probe: Annotated[
        list[str] | None,
        typer.Option("--probe", help="One relation; may be repeated. All that are about tokens if absent."),
    ] = None,
    heads: Annotated[
        Path | None,
        typer.Option("--heads", help="Attention scores of this model that tslens heads wrote; else scanned."),
    ] = None,
    n_explain: Annotated[
        int,
        typer.Option(
            "--n-explain",
            help="First stories, in whole batches, on which causes of every head are tested; 0: none.",
        ),
    ] = N_EXPLAIN,
    out: Annotated[
        Path | None, typer.Option("--out", help="Results folder; RUN/results/weights if absent.")
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Say what the weights of every head tell of its job, and where attention and intervention disagree.

    Example: tslens weights --model l1_h256 --heads runs/l1_h256/seed0/results/heads/SCORES.jsonl
    """
    say(f"tslens weights: loading {model} (seed {seed})")
    from tslens.cli.opening import file_name, open_for_scan, say_loss, say_stories
    from tslens.cli.weights_scan import read_attention, scan_weights
    from tslens.errors import UsageError
    from tslens.model.load import find_model
    from tslens.probes.base import choose_probes

    if n_stories < 1:
        raise UsageError(f"{n_stories} stories are none.", "Give --n-stories 1 or more.")
    if n_explain < 0:
        raise UsageError(f"--n-explain {n_explain} is below 0.", "Give 0 or more.")
    choose_probes(probe)  # names that no probe has are told before anything is read
    source = find_model(model)
    say(source.note)
    attention = None if heads is None else read_attention(heads, source)
    folder = out or source.home.results("weights")
    check_writable(folder)
    opened = open_for_scan(source, stories, n_stories, device=options.resolve_device(device))
    say_loss(opened)
    with progress_bar("reading", None) as (bar, task):
        scan = scan_weights(
            opened,
            probes=probe,
            attention=attention,
            n_explain=n_explain,
            seed=seed,
            command=command_line(),
            progress=lambda part, n, total: bar.update(task, description=part, total=total, completed=n),
        )
    report = scan.report
    say_stories(opened, report.n_stories)
    if report.left_out:
        say(
            f"left out, as the stories have no labels and no parser is installed: {', '.join(report.left_out)}"
        )
    asked = "_" + "+".join(probe) if probe else ""
    asked += f"_explain{n_explain}" if n_explain != N_EXPLAIN else ""
    path = folder / file_name(opened, report.n_stories, seed, asked, named=out is not None)
    scan.save(path)
    if as_json:
        rows = [score.to_json() for score in report.scores]
        agreements = [row.to_json() for row in report.agreements]
        show_json(
            {
                "schema": WEIGHTS_SCHEMA,
                "model": source.label,
                "n_stories": report.n_stories,
                "weights": rows,
                "agreements": agreements,
            }
        )
    else:
        show_weights(report)
        show(f"wrote {path}")
    if report.left_out:
        raise typer.Exit(3)  # partly done: what is missing was said


# Results -------------------------------------------------------------------------------------------------


def show_weights(report: WeightsReport) -> None:
    """Disagreements first, then rank correlations, then how many rows there are of each status."""
    rows = report.disagreements()
    show_table(
        [
            "<head>", "<relation>", "<at>", "qk", "rank", "value", "rank", "edge", "<weights>", "<attention>",
            "<nearer with>",
        ],
        [_cells(score) for score in rows[:FIRST_ROWS]],
    )  # fmt: skip
    more = f" {len(rows) - FIRST_ROWS} more rows in the file." if len(rows) > FIRST_ROWS else ""
    show(
        "Heads whose rank by weights and by attention differ most; 1 is first. qk: how far the relation's\n"
        "key tokens stand out in the head's scores, embeddings alone, in spreads over all keys; value:\n"
        "attention on its keys; then the status by each. nearer with: the change of measure that at least\n"
        f"halves the difference.{more}\n"
    )
    show_agreement(report)
    status = Counter(score.qk.status for score in report.scores)
    at = report.counts_at_floors
    both = Counter(
        (score.qk.status == "candidate", score.measured.status in ("role", "candidate"))
        for score in report.scores
        if score.measured is not None
    )
    show(
        f"{len(report.scores)} rows of {report.n_tokens} tokens: {status['candidate']} candidate by weights alone, "
        f"{status['unclear']} unclear, {status['no']} no.\n"
        f"Of the {both[True, True] + both[False, True]} rows that attention calls candidate or role, weights find "
        f"{both[True, True]}; {both[True, False]} more only weights find.\n"
        f"Candidate: an excess of {report.floor:g} spreads over random twins, on both halves, and half a nat.\n"
        f"At half that floor {at['half']} rows reach it, at double {at['double']}."
    )
    if report.unmatched:
        show(f"Not scored, for want of like tokens: {', '.join(report.unmatched)}.")


def show_agreement(report: WeightsReport) -> None:
    """Rank correlations: of each relation, and the mean over relations, within layers too."""
    asked = COLUMNS + (CAUSES if report.n_explained else ())
    table: dict[tuple[str, str], dict[tuple[str, str], Agreement]] = {}
    for row in report.agreements:
        where = f"layer {row.layer}" if row.layer is not None else "all heads"
        name = (row.probe, str(row.position)) if row.probe is not None else ("mean", where)
        table.setdefault(name, {})[row.score, row.measure] = row
    if not table:
        show("Too few heads for rank correlations.")
        return
    names = {"stream_nats": "stream"}
    show_table(
        ["<relation>", "<at>", *(f"{names.get(a, a)}, {b}" for a, b in asked)],
        [
            [*name, *(_rho(found.get(pair), interval=pair == asked[0]) for pair in asked)]
            for name, found in table.items()
        ],
    )
    causes = (
        f"edge, mean: nats of loss, on {report.n_explained} stories: so few that noise lowers the correlation."
        if report.n_explained
        else "Causes were not measured (--n-explain 0)."
    )
    show(
        "Spearman's correlation over heads of a score from weights with what was measured. nats: not divided\n"
        "by the head's spread; stream: nats, with the mean residual stream of each token; *: p below 0.05,\n"
        "of a relation corrected for all relations, of a mean over relations (rows named mean) by itself.\n"
        f"{causes}\n"
    )


def _rho(row: Agreement | None, *, interval: bool) -> str:
    if row is None:
        return ""
    ends = f" [{row.low:+.2f}, {row.high:+.2f}]" if interval else ""
    return f"{row.spearman:+.2f}{ends}{'*' if row.p < 0.05 else ''}"


def _cells(score: WeightScore) -> list[str]:
    measured = score.measured
    assert measured is not None  # of disagreements
    edge = "" if measured.edge is None else f"{measured.edge:+.3f}"
    return [
        str(score.head), score.probe, score.position, f"{score.qk.value:+.2f}", f"{measured.rank_by_weights:g}",
        f"{measured.value:.3f}", f"{measured.rank:g}", edge, score.qk.status, measured.status,
        measured.explained_by or "",
    ]  # fmt: skip
