"""What the page of the capability map says of one component when its row is opened, as data for the script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tslens.link.map_report import MapReport, MapRow
from tslens.viz.map_words import ABSENT, Amounts, kind_of, spoken, told_p
from tslens.viz.page import number, signed, visible


def details(report: MapReport) -> dict[str, Any]:
    """What the script shows of an opened row: of each measure its figures, and what they say.

    By component, spelled as in the page (``page.visible``).
    """
    amounts = Amounts.of(report)
    ways: dict[tuple[str, str], list[MapRow]] = {}
    for row in report.rows:
        if row.status is None:
            ways.setdefault((row.component, row.measure), []).append(row)
    found: dict[str, Any] = {}
    for row in report.rows:
        if row.status is None:
            continue
        share, other = row.share, ways.get((row.component, row.measure), [])
        of_component = found.setdefault(
            visible(row.component), {"kind": kind_of(row.component), "measures": []}
        )
        of_component["n"] = row.n_components
        of_component["measures"].append(
            {
                "name": spoken(row.measure),
                "of": row.capability,
                "evidence": row.evidence,
                "unit": "points" if amounts.is_points(row) else "share",
                "status": row.status,
                "share": [round(one, 4) for one in (share.value, share.low_corrected, share.high_corrected)],
                "expected": None if row.expected is None else round(row.expected / row.whole, 4),
                "says": says(row, other if row.evidence == "readout" else [], amounts),
            }
        )
    return found


def says(row: MapRow, other: Sequence[MapRow], amounts: Amounts) -> str:
    """What is known of one cell, in a sentence. ``other``: rows of the same cell by other ways of ablating."""
    share, drop = row.share, row.drop
    unit = "nats" if row.evidence == "readout" else "points"
    first, second = (ABSENT if half is None else amounts.amount(row, half) for half in share.halves)
    parts = [
        f"{amounts.amount(row, share.value)} {amounts.unit(row)}, corrected 95% interval "
        f"{amounts.amount(row, share.low_corrected)} to {amounts.amount(row, share.high_corrected)} "
        f"({told_p(drop.p)}; {signed(drop.value)} {unit} of {number(row.whole)})",
        f"on either half {first}, {second}",
    ]
    if row.expected is None or row.beyond is None:
        parts.append("no random set costs as much")
    else:
        beyond = row.beyond.scaled(1 / row.whole)
        parts.append(
            f"beyond random components of like cost {amounts.amount(row, beyond.value)}, at least "
            f"{amounts.amount(row, beyond.low_corrected)}"
        )
    parts += [
        f"by {one.method} {amounts.amount(one, one.share.value)} [{amounts.amount(one, one.share.low)}, "
        f"{amounts.amount(one, one.share.high)}]"
        for one in other
    ]
    return "; ".join(parts)
