"""Graded texts on disk: ``results/grades/JUDGE/*.jsonl``, one row a text, a failure with its reason in its place.

Rows stand in the order of the texts, those that were given again after the others, and hold no time: equal runs give
equal bytes. Where they come from stands beside them in ``*.provenance.json``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tslens.errors import DataError
from tslens.files import read_jsonl, write_results
from tslens.grading.judge import Outcome
from tslens.grading.rubric import AGE_GROUPS, CRITERIA
from tslens.grading.summary import Summary, summarise
from tslens.reading import BROKEN
from tslens.types import Grade, Graded, GradeFailure, Provenance

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = "tslens.grades/1"
TRUE_ENDING, TEACHER = "true ending", "teacher"
SIDES: Mapping[str, str] = {TRUE_ENDING: "true_ending", TEACHER: "teacher"}  # how their files are named

SAME = ("judge", "judge_version", "prompts", "prompts_sha256")
"""Entries of headers that are equal wherever grades compare."""

_NAMED = ("model", "judge", "judge_version", "prompts")  # what a header says at least
_AGAIN = "Grade again."
_SHOWN = ("prompt_id", "sample", "completion", *CRITERIA, "age_group", "reason")  # columns in a notebook


@dataclass(frozen=True)
class GradedModel:
    """What a judge gave the texts of one model; shows as a table in a notebook.

    ``label``: the model's name, or what stands in its place.
    ``header``: model, checkpoint, judge and its version, prompts and their hash, how the texts were drawn.
    """

    label: str
    header: Mapping[str, Any]
    outcomes: Sequence[Outcome]

    @cached_property
    def summary(self) -> Summary:
        """Means with intervals, ages, failures by reason."""
        return summarise(self.outcomes)

    @property
    def grades(self) -> list[Grade]:
        """The grades of texts that were given for the first time."""
        return [one for one in self.outcomes if isinstance(one, Grade) and not one.graded.repeat]

    @property
    def failures(self) -> list[GradeFailure]:
        """Texts without a grade, of those that were given for the first time."""
        return [one for one in self.outcomes if isinstance(one, GradeFailure) and not one.graded.repeat]

    @property
    def repeats(self) -> list[Outcome]:
        """What came of texts that were given again."""
        return [one for one in self.outcomes if one.graded.repeat]

    def to_pandas(self) -> pd.DataFrame:
        """One row per text, with its grades or the reason why there is none."""
        import pandas as pd

        return pd.DataFrame([one.to_json() for one in self.outcomes])

    def _repr_html_(self) -> str:
        frame = self.to_pandas().reindex(columns=[*_SHOWN])
        html: str = frame.to_html(index=False, float_format="{:.1f}".format, escape=True, na_rep="")
        return html


def save_grades(found: GradedModel, path: Path, record: Provenance) -> None:
    """Write the rows, and their provenance beside them."""
    header = {**found.header, "model": found.label}
    write_results(path, SCHEMA, header, (one.to_json() for one in found.outcomes), record)


def load_grades(path: Path) -> GradedModel:
    """Inverse of :func:`save_grades`. Raises DataError for a file that is absent or none of grades: a header without a
    judge or prompts, a number that is not from 0 to 10, an age that is no letter from A to F."""
    header, rows = read_jsonl(path, SCHEMA)
    absent = [name for name in _NAMED if not isinstance(header.get(name), str)]
    if absent:
        raise DataError(f"The header of {path} does not say {', '.join(absent)}.", _AGAIN)
    found = []
    for number, row in enumerate(rows, 2):
        try:
            found.append(_outcome(row))
        except BROKEN as error:
            what = f"{type(error).__name__} {error}"
            raise DataError(f"Line {number} of {path} is no grade: {what}.", _AGAIN) from error
    return GradedModel(header["model"], header, tuple(found))


def side_file(path: Path, side: str) -> Path:
    """Where the grades of the true endings, or of the teacher's texts, stand beside those of a model."""
    return path.with_name(f"{path.name.removesuffix('.jsonl')}.{SIDES[side]}.jsonl")


def load_sides(path: Path) -> list[GradedModel]:
    """Grades that stand beside those of a model."""
    return [load_grades(file) for side in SIDES if (file := side_file(path, side)).exists()]


def distinct(models: Iterable[GradedModel]) -> list[GradedModel]:
    """Models of one label numbered, as in "x" and "x (2)"; the names of the rows beside models are taken."""
    taken, found = set(SIDES), []
    for one in models:
        label, number = one.label, 1
        while label in taken:
            number += 1
            label = f"{one.label} ({number})"
        taken.add(label)
        found.append(replace(one, label=label))
    return found


def _outcome(row: Mapping[str, Any]) -> Outcome:
    """A row as what it says. Raises KeyError, TypeError, ValueError or AttributeError for one that is not sound."""
    if "reason" not in row:
        return _checked(Grade.from_json(row))
    fields = {name: row[name] for name in Graded.__dataclass_fields__ if name in row}
    failure = GradeFailure(Graded(**fields), row["reason"], row["detail"])
    _check_text(failure.graded)
    for name in ("reason", "detail"):
        if not isinstance(row[name], str):
            raise TypeError(f"{name} is a text")
    return failure


def _checked(one: Grade) -> Grade:
    _check_text(one.graded)
    for name in CRITERIA:
        _check_points(getattr(one, name), name)
    if one.age_group not in AGE_GROUPS:
        raise ValueError(f"the age is {one.age_group!r}, none of {', '.join(AGE_GROUPS)}")
    for criterion, ends in (one.intervals or {}).items():
        if len(ends) != 2:
            raise ValueError(f"the interval of {criterion} has {len(ends)} ends")
        for end in ends:
            _check_points(end, f"an end of the interval of {criterion}")
    if not isinstance(one.assessment, str | None) or not all(isinstance(flag, str) for flag in one.flags):
        raise TypeError("assessment and flags are texts")
    return one


def _check_points(value: Any, name: str) -> None:
    """NaN is refused as well: it lies nowhere."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 10:
        raise ValueError(f"{name} is {value!r}, no number from 0 to 10")


def _check_text(graded: Graded) -> None:
    if not all(isinstance(one, str) for one in (graded.prompt, graded.completion, graded.prompt_id)):
        raise TypeError("prompt, completion and prompt_id are texts")
    if any(not isinstance(one, int) or isinstance(one, bool) for one in (graded.sample, graded.repeat)):
        raise TypeError("sample and repeat are whole numbers")
    if not isinstance(graded.instructions, dict | None):
        raise TypeError("instructions are an object")
