"""When a component counts as one that a capability depends on.

Floors were written before any shipped model's map was made (``docs/methods.md``, Capability map).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tslens.causal.replacement import Replacement
from tslens.link.drops import Drop
from tslens.link.effects import METHODS
from tslens.link.map_report import MapRow, MapStatus

DECIDES: Replacement = "mean"
OTHER_METHODS: tuple[Replacement, ...] = tuple(one for one in METHODS if one != DECIDES)
FLOOR = 0.05
"""Share of what there is that must be lost for sure: the lower end of the corrected interval."""


def status_of(row: MapRow, others: tuple[Drop, ...] | None, *, floor: float = FLOOR) -> MapStatus:
    """Status of a component on one measure, by the mean.

    ``row``: its drop, and what random sets take beside it. ``others``: the drops by zero and by resampling, None where
    they were not read.

    - ``hinders``: the corrected interval of the drop lies below zero: the model does better without;
    - ``no``: it includes zero;
    - ``unclear``: it lies above zero, but does not reach the floor, or a half of the items does not confirm it, or no
      random sets cost as much;
    - ``general``: floor and halves hold, but it is not shown to take more than random sets of like cost;
    - ``candidate``: it is, but of a readout the drop by zero or by resampling is not above zero, or was not read;
    - ``carries``: all of it. Text is generated in one way only, so a grade needs no other.
    """
    share = row.share
    if share.high_corrected < 0:
        return "hinders"
    if share.low_corrected <= 0:
        return "no"
    if share.low_corrected < floor or not share.is_confirmed or row.beyond is None:
        return "unclear"
    if not takes_more(row):
        return "general"
    if row.evidence == "grade":
        return "carries"
    return "carries" if others and all(one.low > 0 for one in others) else "candidate"


def with_statuses(rows: Sequence[MapRow], *, floor: float = FLOOR) -> list[MapRow]:
    """Rows of a map with the status of each that has one: of readouts by the mean, and of grades that had one."""
    ways: dict[tuple[str, str], dict[Replacement, Drop]] = {}
    for row in rows:
        if row.evidence == "readout" and row.method != DECIDES:
            ways.setdefault((row.component, row.measure), {})[row.method] = row.drop
    found = []
    for row in rows:
        if row.method != DECIDES or (row.evidence == "grade" and row.status is None):
            found.append(row)
            continue
        read = ways.get((row.component, row.measure), {})
        others = tuple(read[way] for way in OTHER_METHODS) if read.keys() >= set(OTHER_METHODS) else None
        found.append(replace(row, status=status_of(row, others, floor=floor)))
    return found


def takes_more(row: MapRow) -> bool:
    """Whether it surely takes more than random sets of like cost do on average, and more than 95% of them would."""
    if row.beyond is None or row.reach is None:
        return False
    return row.beyond.low_corrected > 0 and row.beyond.value > row.reach
