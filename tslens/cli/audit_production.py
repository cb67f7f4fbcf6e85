"""``tslens audit production``."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tslens.cli import options
from tslens.cli.audit_write import show_checks, write_audit
from tslens.cli.console import progress_bar, say, show, show_json, show_table

if TYPE_CHECKING:
    from tslens.audit.production import ProductionAudit
    from tslens.audit.production_report import ProductionCase
    from tslens.audit.report import Part

SCHEMA = "tslens.audit_production/2"
CASE_SCHEMA = "tslens.audit_production_case/2"
OUT = Path("runs/audit/production.jsonl")
FAILED_CODE = 1


class ProductionPartName(StrEnum):
    """Parts of the audit of production; the decoys are among the hand-set."""

    HAND_SET = "hand-set"
    RANDOM = "random"


def production(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer stories, draws and models.")] = False,
    only: Annotated[
        list[ProductionPartName] | None,
        typer.Option("--only", help="One part; may be repeated. All if absent."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="File of all cases.")] = OUT,
    seed: options.Seed = 0,
    as_json: options.Json = False,
) -> None:
    """Audit what heads are said to produce: heads set by hand to produce a class or to copy, decoys, random models.

    All are read in both ways: what heads add by themselves, and what logits lose without them.

    Exit code 0 if every check holds, 1 if one fails.

    Example: tslens audit production --quick --only hand-set
    """
    say(f"tslens audit production: writing stories and loading a shipped model (seed {seed})")
    from tslens.audit.production import FULL, PARTS, QUICK, audit_production, n_steps
    from tslens.files import check_writable
    from tslens.provenance import utc_now

    started, clock = utc_now(), time.monotonic()
    size = QUICK if quick else FULL
    asked = {name.value for name in only or ProductionPartName}
    parts = [part for part in PARTS if part in asked]
    check_writable(out.parent)
    before = {part: sum(n_steps(other, size) for other in parts[:i]) for i, part in enumerate(parts)}
    with progress_bar("auditing", sum(n_steps(part, size) for part in parts)) as (bar, task):

        def progress(part: Part, n_done: int) -> None:
            bar.update(task, completed=before[part] + n_done, note=part)

        report = audit_production(seed=seed, parts=parts, size=size, progress=progress)
    write_audit(report, out, CASE_SCHEMA, {}, started, time.monotonic() - clock)
    if as_json:
        show_json({"schema": SCHEMA, **report.to_json()})
    else:
        show_production_audit(report)
        show(f"wrote {out}")
    if not report.passed:
        raise typer.Exit(FAILED_CODE)


def show_production_audit(report: ProductionAudit) -> None:
    """The checks, then what was set and went another way than it should."""
    show_checks(report.checks)
    surprises = [case for case in report.cases if case.is_positive != case.is_true]
    if surprises:
        show_table(
            ["<way>", "<truth>", "<set>", "back", "<head>", "<class>", "value", "low", "<said>"],
            [_surprise(case) for case in surprises],
        )


def _surprise(case: ProductionCase) -> list[str]:
    job, said = case.job, case.said
    planted = [job.name, str(job.back)] if job is not None else ["", ""]
    if said is None:
        return [case.way, case.truth, *planted, "", "", "", "", "no such row"]
    numbers = [f"{said.value:+.2f}", f"{said.excess_low:+.2f}"]
    return [case.way, case.truth, *planted, str(said.head), said.name, *numbers, said.status]
