"""Paired differences between graded models, with intervals, and which of them are real."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from tslens.grading.results import GradedModel
from tslens.grading.rubric import CRITERIA, Criterion
from tslens.grading.summary import Mean, paired
from tslens.stats import LEVEL
from tslens.types import Grade
from tslens.viz.grades_table import ABSENT, REFERENCES, draw_difference
from tslens.viz.page import escape, number, signed
from tslens.viz.sorted_table import Column, search, sorted_table

_MOST_DIGITS = 6
_REACHES = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0)
_COLUMNS = (
    Column("difference", "first minus second", "ascending", "words"),
    *(Column(name, "and 95% interval", "descending", "figure") for name in CRITERIA),
    Column("prompts", "", "descending", "figure"),
    Column("texts", "of the side with fewer", "descending", "figure"),
)


@dataclass(frozen=True)
class Difference:
    """The first model's grades minus the second's, on the same prompts."""

    first: str
    second: str
    means: Mapping[Criterion, Mean]


def differences(models: Sequence[GradedModel]) -> list[Difference]:
    """Of all pairs of models that compare: same judge, each with a mean, some of their texts on the same prompts."""
    found = []
    for mine, theirs in combinations([model for model in models if model.summary.means], 2):
        if judge_of(mine) != judge_of(theirs):
            continue
        prompts = {one.graded.prompt_id: _asked(one) for one in mine.grades}
        same = [one for one in theirs.grades if prompts.get(one.graded.prompt_id) == _asked(one)]
        means = paired(mine.grades, same)
        if means:
            found.append(Difference(mine.label, theirs.label, means))
    return found


def judge_of(model: GradedModel) -> tuple[str, str]:
    """Name and version of who graded."""
    return str(model.header.get("judge", "")), str(model.header.get("judge_version", ""))


def is_real(mean: Mean) -> bool:
    """Whether the 95% interval of a difference leaves 0 out."""
    return mean.low is not None and mean.high is not None and (mean.low > 0 or mean.high < 0)


def real_side(found: Sequence[Difference], label: str, other: str, criterion: Criterion) -> int:
    """1 where a model's grades are really higher than another's, -1 where really lower, 0 where neither is known."""
    for one in found:
        if {one.first, one.second} == {label, other} and is_real(one.means[criterion]):
            return 1 if (one.means[criterion].mean > 0) == (one.first == label) else -1
    return 0


def between_models(found: Sequence[Difference]) -> list[Difference]:
    """Differences of two models, not of a model and what models are held against."""
    return [one for one in found if not {one.first, one.second} & REFERENCES.keys()]


def real_told(found: Sequence[Difference]) -> str:
    """How many differences are real, over all criteria, as "3 of 4"."""
    n_real = sum(is_real(mean) for one in found for mean in one.means.values())
    return f"{n_real} of {len(found) * len(CRITERIA)}"


def pairs_section(found: Sequence[Difference]) -> str:
    """All differences in a table; empty where nothing compares."""
    if not found:
        return ""
    ends = [
        abs(end)
        for one in found
        for mean in one.means.values()
        for end in (mean.low, mean.mean, mean.high)
        if end is not None
    ]
    reach = next((step for step in _REACHES if max(ends) <= step), _REACHES[-1])
    n = len(found) * len(CRITERIA)
    table = sorted_table(
        _COLUMNS,
        [_row(one, reach) for one in found],
        (search("model", "l4_h128", 0, "contains"),),
        hint=f"Axis from {number(-reach, 1)} to {signed(reach, 1)} points. Bold with ●: real, its interval leaves 0 "
        f"out: {_counts(found)}. If nothing differed, about {_chance(n)} of all {n} would seem real by chance.",
        label="Table of differences",
    )
    return f'<section id="pairs">\n<h2>Differences</h2>\n{table}</section>\n'


def _counts(found: Sequence[Difference]) -> str:
    """How many are real, those with what models are held against apart."""
    between = between_models(found)
    rest = [one for one in found if one not in between]
    names = " or the ".join(
        label for label in REFERENCES if any(label in (one.first, one.second) for one in rest)
    )
    told = [f"{real_told(between)} between models"] if between else []
    told += [f"{real_told(rest)} with the {names}"] if rest else []
    return " and ".join(told)


def _chance(n: int) -> str:
    expected = (1 - LEVEL) * n
    return f"{expected:.0f}" if expected >= 1 else f"{expected:.1f}"


def _row(one: Difference, reach: float) -> str:
    cells = "".join(_cell(one.means[name], reach) for name in CRITERIA)
    some = next(iter(one.means.values()))
    name = f"{escape(one.first)} \N{MINUS SIGN} {escape(one.second)}"
    return f"<tr><th scope=row>{name}</th>{cells}<td>{some.n_prompts}</td><td>{some.n}</td></tr>\n"


def _cell(mean: Mean, reach: float) -> str:
    if mean.low is None or mean.high is None:
        return f"<td>{_points(mean.mean)} <small>{ABSENT}</small>{draw_difference(mean, reach, 'open')}</td>"
    real = is_real(mean)
    interval = f"<small>{_points(mean.low, real)} to {_points(mean.high, real)}</small>"
    if real:
        drawing = draw_difference(mean, reach, "above" if mean.mean > 0 else "below")
        return f"<td><b>{_points(mean.mean, real)} ●</b> {interval}{drawing}</td>"
    return f"<td>{_points(mean.mean)} {interval}{draw_difference(mean, reach, 'open')}</td>"


def _points(value: float, real: bool = False) -> str:
    """A difference or an end of it; zero has no sign. ``real``: with as many digits as show its side of 0."""
    digits = 2
    while real and round(value, digits) == 0 and digits < _MOST_DIGITS:
        digits += 1
    return signed(value, digits) if round(value, digits) else number(0.0, digits)


def _asked(one: Grade) -> tuple[str, Mapping[str, Any] | None]:
    return one.graded.prompt, one.graded.instructions
