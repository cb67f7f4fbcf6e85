"""Tables of grades: one row a model, the mean of each criterion with its interval, ages, failures by reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tslens.cli.console import show, show_table
from tslens.cli.judging import LOCAL, NOT_GPT4
from tslens.grading.local.trust import SEES_FAULTS
from tslens.grading.results import TEACHER, TRUE_ENDING, GradedModel
from tslens.grading.rubric import AGE_GROUPS, CRITERIA
from tslens.grading.summary import MOST_FAILURES, Mean, Summary

if TYPE_CHECKING:
    from tslens.grading.agreement import Agreement
    from tslens.grading.rubric import Criterion

COLUMNS = ["<texts of>", *CRITERIA, "<age>", "texts", "<failures>"]


def show_grades(
    rows: Iterable[Sequence[str]], header: Mapping[str, Any], answered: Mapping[str, str] | None = None
) -> None:
    """The table, the judge's name and version above it, what its columns are below it.

    ``answered``: who answered for each model, where that is not the same for all (:func:`answered_by`).
    """
    if answered and len(set(answered.values())) > 1:
        header = {name: value for name, value in header.items() if name != "answered_by"}
    else:
        answered = {}
    show(judge_line(header))
    for label, names in answered.items():
        show(f"{label}: answered by {names or 'nobody'}")
    show_table(COLUMNS, list(rows))
    ages = ", ".join(f"{letter} {years}" for letter, years in AGE_GROUPS.items())
    show(
        "Grades from 0 to 10, means over prompts; \N{PLUS-MINUS SIGN}: half of the 95% interval over prompts.\n"
        f"age: the most frequent guess ({ages}) and its share.\n"
        f"A text without one is a failure and never a zero; above {MOST_FAILURES:.0%} failures there is no mean."
    )


def judge_line(header: Mapping[str, Any]) -> str:
    """Who graded, in which version."""
    line = f"judge: {header['judge']} ({header['judge_version']})"
    answered = ", ".join(header.get("answered_by") or ())
    line += f", answered by {answered}" if answered else ""
    return f"{line}\n{NOT_GPT4}\n{SEES_FAULTS}" if header["judge"] == LOCAL else line


def answered_by(models: Iterable[GradedModel]) -> dict[str, str]:
    """The names under which a server answered for each model; none for a judge that is not asked."""
    return {one.label: ", ".join(one.header.get("answered_by") or ()) for one in models}


def grades_row(label: str, summary: Summary) -> list[str]:
    """One model."""
    means = [mean_cell(summary.means.get(name)) for name in CRITERIA]
    return [label, *means, _age(summary), str(summary.n), failures_cell(summary.failures)]


def side_rows(sides: Sequence[GradedModel]) -> list[list[str]]:
    """The rows that stand in every table: true endings, and the large model's own texts."""
    there = {one.label: one for one in sides}
    found = []
    for label, absent in ((TRUE_ENDING, "not known"), (TEACHER, "not asked")):
        if label in there:
            found.append(grades_row(label, there[label].summary))
        else:
            found.append([label, absent, *[""] * (len(COLUMNS) - 2)])
    return found


def mean_cell(mean: Mean | None) -> str:
    """A mean and half of its interval."""
    if mean is None:
        return "\N{EN DASH}"
    if mean.low is None or mean.high is None:
        return f"{mean.mean:.2f}"
    return f"{mean.mean:.2f} \N{PLUS-MINUS SIGN}{(mean.high - mean.low) / 2:.2f}"


def share_cell(share: Mean | None) -> str:
    """A share and its interval, which need not lie evenly about it."""
    if share is None:
        return "\N{EN DASH}"
    if share.low is None or share.high is None:
        return f"{share.mean:.2f}"
    return f"{share.mean:.2f} ({share.low:.2f}-{share.high:.2f})"


def failures_cell(failures: Mapping[str, int]) -> str:
    """How many, by reason."""
    return ", ".join(f"{n} {reason}" for reason, n in sorted(failures.items()))


def _age(summary: Summary) -> str:
    if not summary.means:
        return ""
    letter = max(summary.ages, key=lambda one: summary.ages[one])
    return f"{letter} {summary.ages[letter]:.0%}"


def show_agreement(found: Mapping[Criterion, Agreement]) -> None:
    """How far the judge agrees with itself."""
    if not found:
        return
    n = max(one.n for one in found.values())
    show(f"\n{n} texts were given a second time:")
    show_table(
        ["<criterion>", "alpha, ordinal", "alpha, interval", "AC2", "mean difference"],
        [
            [name, *map(_estimate, (one.alpha_ordinal, one.alpha_interval, one.ac2, one.difference))]
            for name, one in found.items()
        ],
    )
    show("alpha: Krippendorff's; AC2: Gwet's, quadratic weights; with 95% intervals over prompts.")


def _estimate(one: Any) -> str:
    if one.value is None:
        return "\N{EN DASH}"
    return f"{one.value:.2f}" + ("" if one.low is None else f" ({one.low:.2f} to {one.high:.2f})")
