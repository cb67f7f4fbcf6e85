"""``tslens audit``: what the measures find where the truth is known."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tslens.cli import audit_judge, audit_production, options
from tslens.cli.audit_write import show_checks, write_audit
from tslens.cli.console import progress_bar, say, show, show_json, show_table

if TYPE_CHECKING:
    from tslens.audit.report import AuditReport, Case, Part

SCHEMA = "tslens.audit_heads/1"
CASE_SCHEMA = "tslens.audit_heads_case/1"
NEURONS_SCHEMA = "tslens.audit_neurons/1"
NEURON_CASE_SCHEMA = "tslens.audit_neurons_case/1"
OUT, NEURONS_OUT = Path("runs/audit/heads.jsonl"), Path("runs/audit/neurons.jsonl")
FEW_CASES = 20  # surprises shown on a terminal
MISSING_CODE, FAILED_CODE = 3, 1

app = typer.Typer(help="Check the measures where the truth is known.", no_args_is_help=True)
app.command()(audit_judge.judge)
app.command()(audit_production.production)


class PartName(StrEnum):
    """Parts of the audit of heads."""

    PLANTED = "planted"
    DECOYS = "decoys"
    HAND_SET = "hand-set"
    RANDOM = "random"
    SHIFTED = "shifted"


class NeuronPartName(StrEnum):
    """Parts of the audit of neurons; the decoys are among the planted."""

    PLANTED = "planted"
    HAND_SET = "hand-set"
    RANDOM = "random"
    SHIFTED = "shifted"


@app.command()
def heads(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer stories, strengths and models.")] = False,
    only: Annotated[
        list[PartName] | None, typer.Option("--only", help="One part; may be repeated. All if absent.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="File of all cases.")] = OUT,
    seed: options.Seed = 0,
    as_json: options.Json = False,
) -> None:
    """Audit the scan of attention heads: planted heads, hand-set weights, decoys, random models, shifted labels.

    Exit code 0 if every check holds, 1 if one fails, 3 if none fails but a part could not be run.

    Example: tslens audit heads --quick --only hand-set
    """
    say(f"tslens audit heads: writing stories and loading shipped models (seed {seed})")
    from tslens.audit.heads import FULL, PARTS, QUICK, audit_heads, n_scans
    from tslens.files import check_writable
    from tslens.provenance import utc_now

    started, clock = utc_now(), time.monotonic()
    size = QUICK if quick else FULL
    asked = {name.value for name in only or PartName}
    parts = [part for part in PARTS if part in asked]
    check_writable(out.parent)
    before = {part: sum(n_scans(other, size) for other in parts[:i]) for i, part in enumerate(parts)}
    with progress_bar("auditing", sum(n_scans(part, size) for part in parts)) as (bar, task):

        def progress(part: Part, n_done: int) -> None:
            bar.update(task, completed=before[part] + n_done, note=part)

        report = audit_heads(seed=seed, parts=parts, size=size, progress=progress)
    told = {"precision": report.precision, "recall": report.recall, "missing": list(report.missing)}
    write_audit(report, out, CASE_SCHEMA, told, started, time.monotonic() - clock)
    if as_json:
        show_json({"schema": SCHEMA, **report.to_json()})
    else:
        show_report(report)
        show(f"wrote {out}")
    if not report.passed:
        raise typer.Exit(FAILED_CODE)
    if report.missing:
        raise typer.Exit(MISSING_CODE)


@app.command()
def neurons(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer stories, models and shifts.")] = False,
    only: Annotated[
        list[NeuronPartName] | None, typer.Option("--only", help="One part; may be repeated. All if absent.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="File of all cases.")] = NEURONS_OUT,
    seed: options.Seed = 0,
    as_json: options.Json = False,
) -> None:
    """Audit the reading of neurons: planted activations and decoys, hand-set weights, random models, shifted labels.

    Exit code 0 if every check holds, 1 if one fails.

    Example: tslens audit neurons --quick --only hand-set
    """
    say(f"tslens audit neurons: writing stories and loading shipped models (seed {seed})")
    from tslens.audit.neurons import FULL, PARTS, QUICK, audit_neurons, n_steps
    from tslens.files import check_writable
    from tslens.provenance import utc_now

    started, clock = utc_now(), time.monotonic()
    size = QUICK if quick else FULL
    asked = {name.value for name in only or NeuronPartName}
    parts = [part for part in PARTS if part in asked]
    check_writable(out.parent)
    before = {part: sum(n_steps(other, size) for other in parts[:i]) for i, part in enumerate(parts)}
    with progress_bar("auditing", sum(n_steps(part, size) for part in parts)) as (bar, task):

        def progress(part: Part, n_done: int) -> None:
            bar.update(task, completed=before[part] + n_done, note=part)

        report = audit_neurons(seed=seed, parts=parts, size=size, progress=progress)
    write_audit(report, out, NEURON_CASE_SCHEMA, {}, started, time.monotonic() - clock)
    if as_json:
        show_json({"schema": NEURONS_SCHEMA, **report.to_json()})
    else:
        show_checks(report.checks)
        show(f"wrote {out}")
    if not report.passed:
        raise typer.Exit(FAILED_CODE)


def show_report(report: AuditReport) -> None:
    """The checks, then what went another way than it should."""
    show_checks(report.checks)
    for line in report.missing:
        show(f"not run: {line}")
    surprises = report.surprises()
    if surprises:
        show("")
        show_table(
            ["<truth>", "<base>", "at", "<labels>", "<row>", "value", "low", "<largest null>", "<said>"],
            [_surprise(case) for case in surprises[:FEW_CASES]],
        )
        if len(surprises) > FEW_CASES:
            show(f"... and {len(surprises) - FEW_CASES} more in the file.")
    if report.precision is not None and report.recall is not None:
        show(
            f"Precision {report.precision:.3f} (heads called something that are so), recall {report.recall:.3f} "
            "(heads that are something, found)."
        )


def _surprise(case: Case) -> list[str]:
    row = case.position if case.truth == case.probe else f"{case.probe} {case.position}"
    strength = "" if case.strength is None else f"{case.strength:g}"
    said = f"{case.status}, unmeasured" if case.unmeasured else case.status
    numbers = [f"{case.value:.2f}", f"{case.excess_low:+.2f}"]
    return [case.truth, case.base or "", strength, case.labels, row, *numbers, case.null, said]
