"""When a component counts as one that a capability depends on.

Floors were written before any shipped model's map was made (``docs/methods.md``, Capability map).
"""

from __future__ import annotations

from tslens.link.drops import Drop
from tslens.link.map_report import Evidence, MapStatus

FLOOR = 0.05
"""Share of what there is that must be lost for sure: the lower end of the corrected interval."""


def status_of(
    share: Drop,
    beyond: Drop | None,
    others: tuple[Drop, ...] | None,
    evidence: Evidence,
    *,
    floor: float = FLOOR,
) -> MapStatus:
    """Status of a component on one measure, by the mean.

    ``share``: lost of what there is. ``beyond``: what is lost beyond random components that cost as much loss in all.
    ``others``: the drops by zero and by resampling, None where they were not read.

    - ``no``: the corrected interval of the drop includes zero, or lies below it;
    - ``unclear``: it lies above zero, but does not reach the floor, or a half of the items does not confirm it;
    - ``general``: floor and halves hold, but it is not surely more than random components of like cost take;
    - ``candidate``: it is; of a readout, another way of ablating does not say so, or was not asked;
    - ``carries``: all of it. Text is generated in one way only, so a grade needs no other.
    """
    if share.low_corrected <= 0:
        return "no"
    if share.low_corrected < floor or not share.is_confirmed:
        return "unclear"
    if beyond is None or beyond.low_corrected <= 0:
        return "general"
    if evidence == "grade":
        return "carries"
    return "carries" if others and all(one.low > 0 for one in others) else "candidate"
