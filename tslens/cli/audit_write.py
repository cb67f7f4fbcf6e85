"""What all audits end with: cases on disk with their provenance, and the checks as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tslens.cli.console import show, show_table
from tslens.provenance import command_line, provenance

if TYPE_CHECKING:
    from tslens.audit.report import Audit, AuditReport, Check


def write_audit(
    report: AuditReport | Audit[Any],
    out: Path,
    schema: str,
    told: Mapping[str, Any],
    started: str,
    seconds: float,
) -> None:
    """Write the cases, and their provenance beside them. ``told``: more for the header."""
    from tslens.corpus.stories import describe_source
    from tslens.files import write_results

    source, sha256 = describe_source(report.stories)
    record = provenance(
        command=command_line(),
        seed=report.seed,
        data=source,
        data_sha256=sha256,
        started=started,
        seconds=seconds,
    )
    header = {
        "seed": report.seed,
        "stories": source,
        "passed": report.passed,
        **told,
        "checks": [check.to_json() for check in report.checks],
    }
    write_results(out, schema, header, (case.to_json() for case in report.cases), record)


def show_checks(checks: Sequence[Check]) -> None:
    """A table of the checks, their notes, and how many hold."""
    show_table(["<part>", "<check>", "asked", "found", "cases", "<>"], [_cells(check) for check in checks])
    for check in checks:
        if check.note:
            show(f"{check.name}: {check.note}")
    failed = [check for check in checks if not check.passed]
    show(f"{len(checks) - len(failed)} of {len(checks)} checks hold.")


def _cells(check: Check) -> list[str]:
    sign = ">=" if check.sense == "at least" else "<="
    found = "none" if check.found is None else f"{check.found:.3f}"
    outcome = "holds" if check.passed else "FAILS"
    return [check.part, check.name, f"{sign} {check.asked:g}", found, str(check.n_cases), outcome]
