"""Names, kinds, marks and amounts of the capability map, as its page says them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tslens.link.map_report import MapReport, MapRow, MapStatus
from tslens.viz.page import escape, number, signed

ABSENT = "\N{EN DASH}"
KINDS = ("head", "attention", "MLP", "layer", "neuron", "role of heads", "role of neurons", "other")
"""Kinds of components, in the order of the page; the parts of a layer stand together."""

STATUSES: Mapping[MapStatus, tuple[str, str]] = {
    "carries": (
        "◆",
        "By the mean surely more is lost than random components of like cost take, above the floor, on both halves; of "
        "a readout, something is also lost for sure by zero and by resampling.",
    ),
    "candidate": (
        "●",
        "The same, by the mean only: another way of ablating does not say so, or was not asked.",
    ),
    "general": (
        "≈",
        "Surely something is lost, above the floor, but it is not shown to be more than random components of like cost "
        "take.",
    ),
    "unclear": (
        "○",
        "Surely something is lost, but not surely as much as the floor, or one half does not confirm it, or no random "
        "sets cost as much.",
    ),
    "no": ("", "The corrected interval of what is lost includes zero."),
    "hinders": ("\N{MINUS SIGN}", "The corrected interval lies below zero: the model does better without."),
}
"""Mark and meaning of each status; the words of ``link.map_status``."""

_PATTERNS = (
    (re.compile(r"L(\d+)H(\d+)"), "head"),
    (re.compile(r"L(\d+)\.attn"), "attention"),
    (re.compile(r"L(\d+)\.mlp"), "MLP"),
    (re.compile(r"L(\d+)"), "layer"),
    (re.compile(r"L(\d+)N(\d+)"), "neuron"),
    (re.compile(r"heads:.*", re.DOTALL), "role of heads"),
    (re.compile(r"neurons:.*", re.DOTALL), "role of neurons"),
)
_GROUPS = (("head",), ("attention", "MLP", "layer"), ("neuron",), KINDS[5:])


def kind_of(component: str) -> str:
    """One of ``KINDS``."""
    return next((kind for pattern, kind in _PATTERNS if pattern.fullmatch(component)), "other")


def in_order(components: Sequence[str]) -> list[str]:
    """Heads by layer, then layers and their halves, then the rest; within a group as given."""

    def place(component: str) -> tuple[int, list[int]]:
        kind = kind_of(component)
        group = next(i for i, kinds in enumerate(_GROUPS) if kind in kinds)
        return group, [int(digits) for digits in re.findall(r"\d+", component)] if group == 0 else []

    return sorted(components, key=place)


def spoken(name: str) -> str:
    """A name of a measure or a role, with blanks where a line may break."""
    return name.replace("_", " ").replace(":", ": ").replace("+", " + ")


def percent(value: float) -> str:
    """A share as a signed percentage, a true minus before what is below zero."""
    rounded = round(100 * value)
    return f"{rounded:+d}%".replace("-", "\N{MINUS SIGN}") if rounded else "0%"


def told(value: float | None, digits: int = 2) -> str:
    """A figure, a dash where there is none."""
    return ABSENT if value is None or math.isnan(value) else number(value, digits)


def told_p(p: float) -> str:
    """A probability."""
    return "p < 0.001" if p < 0.001 else f"p {p:.3f}"


def sorter(
    name: str, note: str = "", *, order: Literal["ascending", "descending"] = "descending", more: str = ""
) -> str:
    """A head cell that sorts its column, in ``order`` at the first click. ``more``: attributes, as HTML."""
    below = f"<small>{escape(note)}</small>" if note else ""
    return (
        f'<th scope=col aria-sort="none" data-first="{order}" {more}><button type=button>{escape(name)}</button>'
        f"{below}</th>"
    )


@dataclass(frozen=True)
class Amounts:
    """How amounts are said: percent, or points of a grade where no planted fault gives a unit.

    ``in_points``: the criteria without such a unit.
    """

    in_points: frozenset[str]

    @classmethod
    def of(cls, report: MapReport) -> Amounts:
        """Criteria of a report that the judge's planted faults say nothing of."""
        doses: Mapping[str, Any] = report.header.get("doses", {})
        graded = {row.measure for row in report.rows if row.evidence == "grade"}
        return cls(frozenset(graded - set(doses)))

    def is_points(self, row: MapRow) -> bool:
        """Whether what a row loses is said in points."""
        return row.evidence == "grade" and row.measure in self.in_points

    def amount(self, row: MapRow, value: float) -> str:
        """An amount in the unit of a row's share."""
        return signed(round(value, 2) + 0.0) if self.is_points(row) else percent(value)

    def unit(self, row: MapRow) -> str:
        """The unit in words."""
        if row.evidence == "readout":
            return "of the difference"
        return "points" if self.is_points(row) else "of one planted fault"
