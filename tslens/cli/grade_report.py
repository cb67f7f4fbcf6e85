"""What ``tslens grade`` says and writes: files of rows, the table, compliance with instructions, the exit code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tslens.cli.console import counted, say, show, show_json, show_table
from tslens.cli.grade_rows import GradedRows
from tslens.cli.grade_tables import grades_row, share_cell, show_agreement, show_grades, side_rows
from tslens.cli.grade_texts import Work
from tslens.cli.judging import LOCAL, NOT_GPT4
from tslens.grading.results import SCHEMA, TEACHER, TRUE_ENDING, GradedModel, save_grades, side_file
from tslens.grading.short import NO_JUDGE
from tslens.grading.summary import MOST_FAILURES, Mean, summarise
from tslens.llm.calls import FINAL
from tslens.types import GradeFailure, Provenance

if TYPE_CHECKING:
    from tslens.grading.agreement import Agreement
    from tslens.grading.instructed import ComplianceRow, Followed
    from tslens.grading.rubric import Criterion
    from tslens.types import Labels


def report_grades(
    rows: GradedRows,
    work: Work,
    record: Provenance,
    *,
    spent: float | None,
    html: Path | None,
    as_json: bool,
) -> None:
    """Write rows and page, print, and end with code 3 where something is missing."""
    files = [save_rows(rows, work.path, record)]
    followed = _followed(rows.model)
    agreement = _agreement(rows.model)
    if html is not None:
        from tslens.viz.grades_page import write_grades_page

        write_grades_page(html, rows.all, header={"version": record.version, "command": record.command})
        files.append(html)
    header = {"judge": None, **rows.model.header}
    if as_json:
        show_json(
            {
                **_rows_json(rows, header),
                "given_again": {name: one.to_json() for name, one in agreement.items()},
                "instructions": _compliance_json(followed),
                "instructions_of_next_prompt": _compliance_json(_by_chance(rows.model) if followed else []),
                "spent_usd": spent,
                "files": [str(path) for path in files],
            }
        )
    else:
        show_grades(_table(rows, followed), header)
        show_agreement(agreement)
        _show_compliance(followed, rows.model)
        show("\n".join(f"wrote {path}" for path in files))
    tell_missing([failure for one in rows.all for failure in one.failures], rows.all)


def _agreement(model: GradedModel) -> Mapping[Criterion, Agreement]:
    """Of the judge with itself; nothing where no text was given again."""
    if not model.repeats:
        return {}
    from tslens.grading.agreement import self_agreement

    return self_agreement(model.outcomes)


def save_rows(rows: GradedRows, path: Path, record: Provenance) -> Path:
    """Write the rows of the model, and those of the other two beside them; older ones of a side that is absent go."""
    save_grades(rows.model, path, record)
    for label, one in ((TRUE_ENDING, rows.ending), (TEACHER, rows.teacher)):
        if one is None:
            remove_side(path, label)
        else:
            save_grades(one, side_file(path, label), record)
    return path


def remove_side(path: Path, label: str) -> None:
    """Remove what an earlier run wrote beside a model, as it does not belong to this one."""
    file = side_file(path, label)
    if file.exists():
        say(f"{file} is of an earlier run and is removed; what was paid for stays in the ledger.")
        file.unlink()
        file.with_suffix(".provenance.json").unlink(missing_ok=True)


def _table(rows: GradedRows, followed: Sequence[Followed]) -> list[list[str]]:
    """The model, its held-out combinations, and what stands in every table."""
    found = [grades_row(rows.model.label, rows.model.summary)]
    for name, part in _held_out(followed, rows.model).items():
        found.append(grades_row(f"  {name}", summarise(part)))
    return found + side_rows(rows.all)


def _held_out(followed: Sequence[Followed], model: GradedModel) -> dict[str, list[Any]]:
    """Outcomes of texts that were asked for a combination that training never asked for, by its name."""
    name_of = {one.graded.prompt_id: one.held_out for one in followed if one.held_out is not None}
    found: dict[str, list[Any]] = {}
    for one in model.outcomes:
        if (name := name_of.get(one.graded.prompt_id)) is not None:
            found.setdefault(f"held out: {name}", []).append(one)
    return found


def _rows_json(rows: GradedRows, header: Mapping[str, Any]) -> dict[str, Any]:
    model = rows.model
    return {
        "schema": SCHEMA,
        **header,
        "model": model.label,
        **({"note": NOT_GPT4} if header["judge"] == LOCAL else {}),
        "grades": [one.to_json() for one in model.grades],
        "failures": [one.to_json() for one in model.failures],
        **_summary_json(model),
        "true_ending": "not known" if rows.ending is None else _summary_json(rows.ending),
        "teacher": "not asked" if rows.teacher is None else _summary_json(rows.teacher),
    }


def _summary_json(one: GradedModel) -> dict[str, Any]:
    found = one.summary.to_json()
    return {"failures_by_reason": found.pop("failures"), **found}


# Instructions -------------------------------------------------------------------------------------------------


def _followed(model: GradedModel) -> list[Followed]:
    """How each text follows its instructions, by rule; nothing where no text has any."""
    from tslens.grading.instructed import check_texts

    texts = [one.graded for one in model.outcomes]
    if all(one.instructions is None for one in texts):
        return []
    return check_texts(texts, label=_labels)


def _labels(texts: Sequence[str]) -> Sequence[Labels]:
    from tslens.errors import DataError
    from tslens.grading.instructed import parsed_labels

    try:
        return parsed_labels(texts)
    except DataError as error:
        say(f"warning: {error.message} Whether summaries are followed cannot be told.")
        nothing: Any = [None] * len(texts)
        return nothing  # without labels a verdict is "cannot tell"


def _by_chance(model: GradedModel) -> list[Followed]:
    from tslens.grading.instructed import check_texts, exchanged

    first = [one.graded for one in model.outcomes if not one.graded.repeat]
    return check_texts(exchanged(first), label=_labels)


def _compliance_json(followed: Sequence[Followed]) -> dict[str, Any] | None:
    from tslens.grading.instructed import summarise_compliance

    if not followed:
        return None
    return {name: row.to_json() for name, row in summarise_compliance(followed).items()}


def _show_compliance(followed: Sequence[Followed], model: GradedModel) -> None:
    """A line for each kind that was asked for, held-out combinations apart; beside it what chance follows."""
    from tslens.grading.instructed import summarise_compliance

    if not followed:
        return
    chance = summarise_compliance(_by_chance(model))
    rows = []
    for name, row in summarise_compliance(followed).items():
        by_chance = _shares(chance[name]) if name in chance else {}
        for asked, share in _shares(row).items():
            rows.append(
                [
                    name,
                    asked,
                    share_cell(share),
                    share_cell(by_chance.get(asked)),
                    str(share.n if share else 0),
                ]
            )
    show("\nHow the stories follow their instructions, by rule:")
    show_table(["<combinations>", "<asked for>", "share followed", "next prompt's", "stories"], rows)
    show(
        "share followed: of what was asked for, with 95% intervals over prompts; all: of stories that follow\n"
        "everything. next prompt's: the same of stories held against the instructions of the next prompt,\n"
        "which is what chance follows. stories: of which it can be told."
    )


def _shares(row: ComplianceRow) -> dict[str, Mean | None]:
    kinds: dict[str, Mean | None] = {str(kind): share for kind, share in row.kinds.items()}
    return {**kinds, "all": row.followed}


# What is missing ----------------------------------------------------------------------------------------------


def tell_missing(failures: Sequence[GradeFailure], models: Iterable[GradedModel] = ()) -> None:
    """Say what has no grade and why, and end with code 3; nothing where all have one."""
    if not failures:
        return
    reasons = Counter(one.reason for one in failures)
    lines = [f"warning: {counted(len(failures), 'text')} without a grade{_named(failures, reasons)}."]
    for one in models:
        if one.failures and not one.summary.means:
            rate = one.summary.failure_rate
            lines.append(
                f"{one.label}: {rate:.0%} of the texts have no grade, above {MOST_FAILURES:.0%}: no mean."
            )
    if "budget" in reasons:
        lines.append("Go on with a higher --budget.")
    elif "unreachable" in reasons:
        lines.append("The same command asks again for what did not come.")
    if NO_JUDGE in reasons:
        lines.append("A large model tells these: --judge openai:MODEL.")
    if FINAL & set(reasons):
        lines.append("--retry-failed asks again for what was refused or could not be read.")
    say(" ".join(lines))
    raise typer.Exit(3)


def _named(failures: Sequence[GradeFailure], reasons: Mapping[str, int]) -> str:
    """By reason, and what was seen of the first."""
    first = failures[0]
    seen = f"{first.graded.key}: {first.detail}"
    if len(failures) == 1:
        return f", {first.reason}; {seen}"
    return f" ({', '.join(f'{n} {reason}' for reason, n in sorted(reasons.items()))}); as {seen}"
