"""What an audit hands back: single cases, and checks of the shares that were asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from tslens.types import HeadScore, Position, Status

Part = Literal["planted", "decoys", "hand-set", "random", "shifted"]
Sense = Literal["at least", "at most"]
POSITIVE = ("candidate", "role")
IDLE = "idle"
"""The hand-set head that does nothing."""
LEAST_ASKED = 0.1  # strength of planted attention


@dataclass(frozen=True)
class Case:
    """One head and what the scan said of it.

    ``truth``: what the head is: the relation planted in it, the decoy, the random model. ``base``, ``strength``: of
    planted attention, None elsewhere. ``labels``: which labels the probes read. The rest is the row that counts: the
    probe's own where something is to be found, else the most suspicious one. ``null``: its largest null;
    ``n_stories``: stories in which the row has a query. ``unmeasured``: the row was never there, or one of its nulls
    met no query, so that it cannot be a candidate.
    """

    part: Part
    truth: str
    probe: str
    position: Position
    status: Status
    value: float
    excess: float
    excess_low: float
    null: str
    n_stories: int
    base: str | None = None
    strength: float | None = None
    labels: Literal["gold", "annotated", "shifted", "none"] = "gold"
    unmeasured: bool = False

    @property
    def is_positive(self) -> bool:
        """Whether the scan said that there is something."""
        return self.status in POSITIVE

    @property
    def is_true(self) -> bool:
        """Whether there is something to be found."""
        return self.part in ("planted", "hand-set") and self.truth != IDLE

    @property
    def is_faint(self) -> bool:
        """Whether it is planted so weakly that nobody asks for it."""
        return self.strength is not None and self.is_true and self.strength < LEAST_ASKED

    def to_json(self) -> dict[str, Any]:
        """The case as plain JSON types."""
        return asdict(self)


def case_of(part: Part, truth: str, score: HeadScore, *, family_nulls: int = 0, **more: Any) -> Case:
    """The case that one row of a scan makes. ``family_nulls``: nulls that the row should have, the twins included."""
    return Case(
        part=part,
        truth=truth,
        probe=score.probe,
        position=score.position,
        status=score.status,
        value=score.value,
        excess=score.excess,
        excess_low=score.excess_low,
        null=max(score.nulls, key=score.nulls.__getitem__),
        n_stories=score.n_stories,
        unmeasured=len(score.nulls) < family_nulls,
        **more,
    )


def most_suspicious(scores: Iterable[HeadScore]) -> HeadScore:
    """The row of highest status, then of highest lower end. Raises ValueError for no rows."""
    rank = ("no", "unclear", "candidate", "role")
    return max(scores, key=lambda s: (rank.index(s.status), s.excess_low))


@dataclass(frozen=True)
class Check:
    """A share of cases against what was asked for.

    ``found``: None where there was no case. ``n_cases``: that the share is of. ``note``: what a reader should know.
    """

    part: Part
    name: str
    sense: Sense
    asked: float
    found: float | None
    n_cases: int
    note: str = ""

    @property
    def passed(self) -> bool:
        """A share of nothing passes nothing."""
        if self.found is None:
            return False
        return self.found >= self.asked if self.sense == "at least" else self.found <= self.asked

    def to_json(self) -> dict[str, Any]:
        """The check and its outcome as plain JSON types."""
        return {**asdict(self), "passed": self.passed}


def share(hits: Sequence[bool]) -> float | None:
    """Share of cases that are true, None of none."""
    return sum(hits) / len(hits) if hits else None


@dataclass(frozen=True)
class Findings:
    """What one part of an audit found. ``missing``: what could not be run, and why."""

    cases: tuple[Case, ...]
    checks: tuple[Check, ...]
    missing: tuple[str, ...] = ()


class Told(Protocol):
    """A case of any audit."""

    def to_json(self) -> dict[str, Any]:
        """The case as plain JSON types."""


AnyCase = TypeVar("AnyCase", bound=Told)


@dataclass(frozen=True)
class Audit(Generic[AnyCase]):
    """All parts of an audit together. ``stories``: the source of the stories."""

    cases: tuple[AnyCase, ...]
    checks: tuple[Check, ...]
    seed: int
    stories: str

    @property
    def passed(self) -> bool:
        """Whether every check that was run holds."""
        return all(check.passed for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Checks, and every case."""
        return {
            "seed": self.seed,
            "stories": self.stories,
            "passed": self.passed,
            "checks": [check.to_json() for check in self.checks],
            "cases": [case.to_json() for case in self.cases],
        }


@dataclass(frozen=True)
class AuditReport:
    """All parts together. ``stories``: the source of the stories."""

    cases: tuple[Case, ...]
    checks: tuple[Check, ...]
    missing: tuple[str, ...]
    seed: int
    stories: str

    @property
    def passed(self) -> bool:
        """Whether every check that was run holds."""
        return all(check.passed for check in self.checks)

    @property
    def precision(self) -> float | None:
        """Of the heads of which the scan said that there is something, the share of which it is so; None of none."""
        return share([case.is_true for case in self.cases if case.is_positive])

    @property
    def recall(self) -> float | None:
        """Of the heads that have something to be found, the share that was found; the faintest are not asked about."""
        return share([case.is_positive for case in self.cases if case.is_true and not case.is_faint])

    def surprises(self) -> list[Case]:
        """Cases that went another way than they should: planted and not found, or found where nothing was."""
        return [case for case in self.cases if case.is_positive != case.is_true and not case.is_faint]

    def to_json(self) -> dict[str, Any]:
        """Checks, what is missing, and every case."""
        return {
            "seed": self.seed,
            "stories": self.stories,
            "passed": self.passed,
            "precision": self.precision,
            "recall": self.recall,
            "checks": [check.to_json() for check in self.checks],
            "missing": list(self.missing),
            "cases": [case.to_json() for case in self.cases],
        }
