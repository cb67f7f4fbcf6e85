"""What the audit of production hands back: a case for each head or random model, and checks of them.

Checks are made for each way to read contributions by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tslens.audit.hand_set_production import Job
from tslens.audit.report import POSITIVE, Check, Part, Sense, share
from tslens.probes.production.report import Produced, Way
from tslens.probes.production.verdict import FLOOR

RECALL, CONFIRMED, TOLD, RIGHT, REFUSED = 0.95, 0.95, 0.95, 0.95, 1.0
WITH_CANDIDATE, WITH_ROLE = 0.05, 0.0  # most, as shares of random models
TO_FIND = ("produces", "faint", "copies")


@dataclass(frozen=True)
class ProductionCase:
    """One head, or one random model, and the row that counts.

    ``truth``: what the head does (``hand_set_production.Job``), or the random model. ``said``: the row of what was
    planted, None where it is not even there; where nothing was, the most suspicious row. Of heads set to produce a
    class: ``roles``: how many it has for this class and those that share its tokens; ``wrong``: classes that share none
    of them, for which it has a role, largest value first; ``largest_is_wrong``: whether its largest role is one of
    these. ``largest_value``: of random models, over all rows, in nats.
    """

    part: Part
    way: Way
    truth: str
    job: Job | None
    said: Produced | None
    roles: int = 0
    wrong: tuple[str, ...] = ()
    largest_is_wrong: bool = False
    largest_value: float | None = None

    @property
    def is_positive(self) -> bool:
        """Whether it was said to produce something."""
        return self.said is not None and self.said.status in POSITIVE

    @property
    def is_true(self) -> bool:
        """Whether there is something to be found."""
        return self.truth in TO_FIND

    def to_json(self) -> dict[str, Any]:
        """The case as plain JSON types."""
        planted = None
        if self.job is not None:
            planted = {"kind": self.job.kind, "class": self.job.name, "back": self.job.back}
        said = None if self.said is None else self.said.to_json()
        return {
            "part": self.part,
            "way": self.way,
            "truth": self.truth,
            "planted": planted,
            "said": said,
            "roles": self.roles,
            "wrong": list(self.wrong),
            "largest_is_wrong": self.largest_is_wrong,
            "largest_value": self.largest_value,
        }


def hand_set_checks(cases: Sequence[ProductionCase], way: Way) -> list[Check]:
    """Of all draws together."""
    asked = [case for case in cases if case.way == way]
    planted, faint, below, copies, forbids = (
        [case for case in asked if case.truth == truth]
        for truth in ("produces", "faint", "below", "copies", "forbids")
    )
    decoys = [case for case in asked if case.truth in ("even", "idle")]
    said = [case for case in planted if case.is_positive]
    with_role = [case for case in (*planted, *faint) if case.roles or case.wrong]
    n_right, n_wrong = sum(case.roles for case in with_role), sum(len(case.wrong) for case in with_role)
    wrong = [
        f"{name} by {case.job.name}" for case in with_role if case.job is not None for name in case.wrong
    ]
    check = _checks_of("hand-set", way)
    return [
        check("classes found", "at least", RECALL, [case.is_positive for case in planted], _missed(planted)),
        check("of these a role", "at least", CONFIRMED, [_is_role(case) for case in said]),
        check("basis as it was set", "at least", TOLD, [_is_told(case) for case in said]),
        check(
            "roles for what was set",
            "at least",
            RIGHT,
            [True] * n_right + [False] * n_wrong,
            f"not set: {', '.join(wrong)}" if wrong else "",
        ),
        check(
            "largest role as it was set",
            "at least",
            RIGHT,
            [not case.largest_is_wrong for case in with_role],
        ),
        check("faint classes found", "at least", RECALL, [case.is_positive for case in faint], _levels(faint)),
        check(
            "below the floor refused",
            "at least",
            REFUSED,
            [not case.is_positive for case in below],
            _levels(below),
        ),
        check("copying found", "at least", RECALL, [case.is_positive for case in copies], _levels(copies)),
        check(
            "forbidding refused", "at least", REFUSED, [not case.is_positive for case in forbids], _levels(forbids)
        ),
        check("even and idle refused", "at least", REFUSED, [not case.is_positive for case in decoys]),
    ]  # fmt: skip


def random_checks(cases: Sequence[ProductionCase], way: Way) -> list[Check]:
    """Shares of models in which any head is a candidate for anything, or has a role."""
    asked = [case for case in cases if case.way == way]
    check = _checks_of("random", way)
    return [
        check(
            "models with a candidate",
            "at most",
            WITH_CANDIDATE,
            [case.is_positive for case in asked],
            _worst(asked),
        ),
        check("models with a role", "at most", WITH_ROLE, [_is_role(case) for case in asked]),
    ]


def _checks_of(part: Part, way: Way) -> Callable[..., Check]:
    """Makes the checks of a part and a way."""

    def check(name: str, sense: Sense, asked: float, hits: Sequence[bool], note: str = "") -> Check:
        return Check(part, f"{name} ({way})", sense, asked, share(hits), len(hits), note)

    return check


def _is_role(case: ProductionCase) -> bool:
    return case.said is not None and case.said.status == "role"


def _is_told(case: ProductionCase) -> bool:
    """Whether the basis is that of the job; an open one is not."""
    assert case.said is not None and case.job is not None  # asked of what was found
    return case.said.basis == ("contextual" if case.job.back else "lexical")


def _missed(cases: Sequence[ProductionCase]) -> str:
    names = sorted({case.job.name for case in cases if case.job is not None and not case.is_positive})
    return f"not found: {', '.join(names)}" if names else ""


def _levels(cases: Sequence[ProductionCase]) -> str:
    """Every value and what was said of it."""
    said = sorted((case.said for case in cases if case.said is not None), key=lambda row: row.value)
    return ", ".join(f"{row.value:+.2f} {row.status}" for row in said)


def _worst(cases: Sequence[ProductionCase]) -> str:
    """The largest value and the largest lower end of each kind of model, beside the floor."""
    told = []
    for kind in dict.fromkeys(case.truth.split()[0] for case in cases):
        mine = [case for case in cases if case.truth.startswith(kind)]
        value = max(case.largest_value for case in mine if case.largest_value is not None)
        low = max(case.said.excess_low for case in mine if case.said is not None)
        told.append(f"{len(mine)} {kind}: largest value {value:+.3f}, largest lower end {low:+.3f}")
    return f"{'; '.join(told)}; floor {FLOOR:g}" if told else ""
