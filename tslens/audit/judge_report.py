"""What an audit of a judge hands back: the texts with what the judge gave them, and measures of all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from tslens.audit.report import Sense
from tslens.grading.judge import Outcome
from tslens.types import Grade, Graded, GradeFailure

JudgePart = Literal["planted", "length", "position", "itself", "people", "injection"]
Outcomes = Mapping[str, Outcome]
"""What the judge gave, by ``Graded.key``."""


@dataclass(frozen=True, slots=True)
class AuditText:
    """One text that is put to the judge.

    ``source``: "author", "real" or "people". ``truth``: what is known of it: "clean", a kind of fault, "injected", or
    the model that wrote it. ``facts``: what else is known, as strength and places of the fault.
    """

    graded: Graded
    source: str
    truth: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self, outcome: Outcome) -> dict[str, Any]:
        """The text, what is known of it, and what the judge gave: grades, or a reason why not."""
        return {"source": self.source, "truth": self.truth, "facts": dict(self.facts), **outcome.to_json()}


@dataclass(frozen=True)
class Measure:
    """One figure of a judge, with its 95% interval where it has one.

    ``group``: what it belongs to, as "sensitivity" or "dose". ``name``: of what, as "tense medium". ``value``: None
    where it could not be taken. ``n``: stories (or prompts, where people judged) that it is of. ``unit``: as "AUC",
    "points", "sd", "share". ``asked``, ``sense``: what was asked for beforehand, None where the figure is only
    reported. ``note``: what a reader should know.
    """

    part: JudgePart
    group: str
    name: str
    source: str
    criterion: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    unit: str
    asked: float | None = None
    sense: Sense = "at least"
    note: str = ""

    @property
    def passed(self) -> bool | None:
        """Whether the figure is as asked, None where nothing was; one that could not be taken passes nothing."""
        if self.asked is None:
            return None
        if self.value is None:
            return False
        return self.value >= self.asked if self.sense == "at least" else self.value <= self.asked

    def to_json(self) -> dict[str, Any]:
        """The figure and its outcome as plain JSON types."""
        return {**asdict(self), "passed": self.passed}


@dataclass(frozen=True)
class JudgeAudit:
    """All parts together. ``judge``, ``version``: as it names itself. ``missing``: what could not be run, and why.

    ``notes``: what is not measured on purpose. ``sources``: of the stories. ``seed``: of what was planted.
    """

    judge: str
    version: str
    texts: tuple[AuditText, ...]
    outcomes: Outcomes
    measures: tuple[Measure, ...]
    missing: tuple[str, ...]
    notes: tuple[str, ...]
    sources: tuple[str, ...]
    seed: int

    @property
    def checks(self) -> list[Measure]:
        """The figures of which something was asked."""
        return [measure for measure in self.measures if measure.asked is not None]

    @property
    def passed(self) -> bool:
        """Whether every figure is as asked."""
        return all(check.passed for check in self.checks)

    @property
    def failures(self) -> dict[str, int]:
        """Texts without a grade, by reason."""
        return dict(Counter(one.reason for one in self.outcomes.values() if isinstance(one, GradeFailure)))

    def of(self, group: str) -> list[Measure]:
        """The figures of one group, in order."""
        return [measure for measure in self.measures if measure.group == group]

    def rows(self) -> Iterable[dict[str, Any]]:
        """Every text with what it got."""
        return (text.to_json(self.outcomes[text.graded.key]) for text in self.texts)

    def header(self) -> dict[str, Any]:
        """All but the texts."""
        return {
            "judge": self.judge,
            "judge_version": self.version,
            "seed": self.seed,
            "sources": list(self.sources),
            "passed": self.passed,
            "n_texts": len(self.texts),
            "failures": self.failures,
            "missing": list(self.missing),
            "notes": list(self.notes),
            "measures": [measure.to_json() for measure in self.measures],
        }


def distinct(texts: Iterable[AuditText]) -> tuple[AuditText, ...]:
    """Each text once, by its key. Raises ValueError where two different texts have one key."""
    found: dict[str, AuditText] = {}
    for text in texts:
        first = found.setdefault(text.graded.key, text)
        if first.graded != text.graded:
            raise ValueError(f"Two texts are called {text.graded.key}.")
    return tuple(found.values())


def grades_of(texts: Sequence[Graded], outcomes: Outcomes) -> list[Grade] | None:
    """The grades of some texts, None if one of them has none."""
    found = [outcomes[text.key] for text in texts]
    grades = [one for one in found if isinstance(one, Grade)]
    return grades if len(grades) == len(found) else None
