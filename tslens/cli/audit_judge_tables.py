"""Tables of an audit of a judge: a row of what was measured, a column for each strength, criterion or place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tslens.audit.judge_bias import PLACES
from tslens.cli.console import show, show_table
from tslens.cli.judging import LOCAL, NOT_GPT4
from tslens.grading.expected import EXPECTED
from tslens.grading.planted import DOSES
from tslens.grading.rubric import CRITERIA

if TYPE_CHECKING:
    from tslens.audit.judge_report import JudgeAudit, Measure

NONE, PLUS_MINUS = "\N{EN DASH}", "\N{PLUS-MINUS SIGN}"
MARKS = {"should": "*", "may": "+"}
FEW = 12  # failed checks that are named
NOTE = 60  # characters of a note that are shown
LATE_LESS_EARLY = f"{PLACES[-1]} less {PLACES[0]}"


def show_audit(report: JudgeAudit) -> None:
    """All tables that have rows, then notes, what is missing, and failed checks."""
    show(f"judge: {report.judge} ({report.version})" + (f"\n{NOT_GPT4}" if report.judge == LOCAL else ""))
    _show_sensitivity(report)
    _show_pivot(
        report.of("dose"),
        f"Dose: points that a fault costs, a story against its own twin; {PLUS_MINUS} half of the 95% interval",
        ("<stories>", "<fault>", "<by>"),
        lambda m: (m.source, m.name.split(" ", 1)[0], m.criterion),
        DOSES,
        lambda m: m.name.split(" ", 1)[1],
        _plus_minus,
    )
    _show_pivot(
        report.of("cross-talk"),
        "Cross-talk: what a medium fault costs by each criterion, in standard deviations of clean grades;\n"
        "* should drop, + may",
        ("<stories>", "<fault>"),
        lambda m: (m.source, m.name),
        CRITERIA,
        lambda m: m.criterion,
        lambda m: f"{_value(m)}{MARKS.get(m.note, ' ')}",
    )
    _show_pivot(
        report.of("length"),
        f"Length: points per 100 words more, of clean stories; {PLUS_MINUS} half of the 95% interval",
        ("<stories>", "<among>"),
        lambda m: (m.source, m.name),
        CRITERIA,
        lambda m: m.criterion,
        _plus_minus,
    )
    _show_pivot(
        report.of("position"),
        "Position: points that a single fault costs where it stands",
        ("<stories>", "<fault>", "<by>"),
        lambda m: (m.source, m.name.split(" ", 1)[0], m.criterion),
        (*PLACES, LATE_LESS_EARLY),
        lambda m: m.name.split(" ", 1)[1],
        _plus_minus,
    )
    _show_pivot(
        report.of("itself"),
        "Itself: the same texts graded again; 95% interval",
        ("<figure>",),
        lambda m: (m.name,),
        CRITERIA,
        lambda m: m.criterion,
        _with_ends,
    )
    _show_pivot(
        report.of("people"),
        "People: Spearman's correlation with one person's scores; 95% interval",
        ("<among>",),
        lambda m: (m.name,),
        CRITERIA,
        lambda m: m.criterion,
        _with_ends,
    )
    rows = [[m.name, m.criterion, _with_ends(m), m.unit, str(m.n), _asked(m)] for m in report.of("injection")]
    if rows:
        show("\nInjection: words to the judge inside a text")
        show_table(["<figure>", "<by>", "value", "<>", "n", "<asked>"], rows)
    _show_end(report)


def _show_sensitivity(report: JudgeAudit) -> None:
    """Areas by the criterion that is asked; those by criteria that may drop too are in the file."""
    main = [m for m in report.of("sensitivity") if m.criterion == EXPECTED[m.name.split(" ")[0]].criterion]
    outcome: dict[tuple[str, str], list[Measure]] = {}
    for m in main:
        if m.asked is not None:
            outcome.setdefault((m.source, m.name.split(" ")[0]), []).append(m)

    def row(m: Measure) -> tuple[str, ...]:
        asked = outcome.get((m.source, m.name.split(" ")[0]), [])
        said = "" if not asked else "holds" if all(one.passed for one in asked) else "FAILS"
        told = " ".join(f"{one.asked:.2f}"[1:] for one in asked)
        return m.source, m.name.split(" ")[0], m.criterion, told, said

    _show_pivot(
        main,
        "Sensitivity: area under the curve, clean stories against those of others with a fault; 95% interval;\n"
        "asked: at medium, at high strength",
        ("<stories>", "<fault>", "<by>", "<asked>", "<>"),
        row,
        DOSES,
        lambda m: m.name.split(" ")[1],
        _with_ends,
    )


def _show_pivot(
    measures: Sequence[Measure],
    title: str,
    heads: Sequence[str],
    row: Callable[[Measure], tuple[str, ...]],
    columns: Sequence[str],
    column: Callable[[Measure], str],
    cell: Callable[[Measure], str],
) -> None:
    """A table with a row for each different ``row`` and a cell in the column that each measure belongs to."""
    if not measures:
        return
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for m in measures:
        found.setdefault(row(m), {})[column(m)] = cell(m)
    show(f"\n{title}")
    rows = [[*first, *(cells.get(name, "") for name in columns)] for first, cells in found.items()]
    show_table([*heads, *columns], rows)


def _show_end(report: JudgeAudit) -> None:
    show("")
    for line in report.notes:
        show(line)
    for line in report.missing:
        show(f"not run: {line}")
    for reason, number in report.failures.items():
        show(f"no grade: {number} of {len(report.texts)} texts ({reason})")
    failed = [check for check in report.checks if not check.passed]
    for check in failed[:FEW]:
        by = f" by {check.criterion}" if check.criterion else ""
        note = f" ({check.note[:NOTE]})" if check.note else ""
        found = NONE if check.value is None else f"{check.value:.3f}"
        show(f"FAILS: {check.name}, {check.source}{by}: {found}, asked {_asked(check)}{note}")
    if len(failed) > FEW:
        show(f"... and {len(failed) - FEW} more in the file.")
    show(f"{len(report.checks) - len(failed)} of {len(report.checks)} checks hold.")


# Cells ------------------------------------------------------------------------------------------------------


def _value(m: Measure) -> str:
    return NONE if m.value is None else f"{m.value:.2f}"


def _with_ends(m: Measure) -> str:
    """A value and its interval; of areas the ends without the zero before the point, as these are many."""
    if m.value is None or m.low is None or m.high is None:
        return _value(m)
    if m.unit == "AUC":
        return f"{m.value:.2f} ({_short(m.low)} {_short(m.high)})"
    return f"{m.value:.2f} ({m.low:.2f} {m.high:.2f})"


def _short(value: float) -> str:
    return f"{value:.2f}".removeprefix("0")


def _plus_minus(m: Measure) -> str:
    """A value and half of its interval, which is the same to either side."""
    if m.low is None or m.high is None:
        return _value(m)
    return f"{_value(m)} {PLUS_MINUS}{(m.high - m.low) / 2:.2f}"


def _asked(m: Measure) -> str:
    if m.asked is None:
        return ""
    return f"{'>=' if m.sense == 'at least' else '<='} {m.asked:g}"
