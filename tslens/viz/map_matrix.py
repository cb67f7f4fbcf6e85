"""The matrix of the capability map as HTML: a row for each component, columns for capabilities and their readouts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tslens.link.map_report import Cell, MapReport, MapRow
from tslens.viz.map_words import ABSENT, KINDS, STATUSES, Amounts, in_order, kind_of, percent, sorter, spoken
from tslens.viz.page import escape, number, signed

DIFFERS = "≠"
_HALF = 0.5  # of the depth of colour, below zero
_LEGEND = (-0.2, 0.05, 0.2, 0.5, 1.0)
_DIFFERS_TOLD = "readout and grade disagree"


@dataclass(frozen=True)
class Column:
    """A column of the matrix: the strongest readout of a capability, its grade, or one readout, passed or not.

    ``measure``: name of the one readout, None for the strongest of several. ``asks``: what it asks, in words.
    ``accuracy``: of a readout that is not passed.
    """

    capability: str
    kind: Literal["readout", "grade", "one", "closed"]
    measure: str | None = None
    asks: str = ""
    accuracy: float | None = None


def columns_of(report: MapReport) -> list[Column]:
    """Capability by capability: the strongest readout and the grade, single readouts, those not passed."""
    asks = {str(one["readout"]): str(one["asks"]) for one in report.readouts}
    read = list(
        dict.fromkeys((row.capability, row.measure) for row in report.rows if row.evidence == "readout")
    )
    graded = {row.capability for row in report.rows if row.evidence == "grade"}
    found: list[Column] = []
    for capability in capabilities_of(report):
        passed = [measure for name, measure in read if name == capability]
        if len(passed) == 1:
            found.append(Column(capability, "readout", passed[0], asks.get(passed[0], "")))
        elif passed:
            found.append(Column(capability, "readout"))
        if capability in graded:
            found.append(Column(capability, "grade"))
        if len(passed) > 1:
            found += [Column(capability, "one", measure, asks.get(measure, "")) for measure in passed]
        found += [
            Column(capability, "closed", str(one["readout"]), str(one["asks"]), float(one["accuracy"]))
            for one in report.readouts
            if one["capability"] == capability and (capability, one["readout"]) not in read
        ]
    return found


def capabilities_of(report: MapReport) -> list[str]:
    """Those that readouts ask for, passed or not, then those that only the judge grades."""
    asked = (str(one["capability"]) for one in report.readouts)
    return list(dict.fromkeys([*asked, *report.capabilities]))


def matrix_section(report: MapReport) -> str:
    """The matrix with its fields above it and its legend below."""
    columns, amounts = columns_of(report), Amounts.of(report)
    cells = {(cell.component, cell.capability): cell for cell in report.matrix()}
    single = {
        (row.component, row.measure): row for row in report.rows if row.status and row.evidence == "readout"
    }
    costs = _costs(report)
    rows = []
    for place, component in enumerate(in_order(report.components)):
        own = [cells[component, one] for one in report.capabilities]
        inside = "".join(_cell(column, component, cells, single, amounts) for column in columns)
        rows.append(_row(place, component, costs.get(component), own, inside))
    has_grades = any(column.kind == "grade" for column in columns)
    return (
        '<section id="capabilities">\n<h2>What is lost without each component</h2>\n'
        f"{_fields(report, has_grades)}{_hint(has_grades)}"
        '<div class="box" tabindex=0 role=region aria-label="Matrix of components by capabilities">\n'
        f'<table id="matrix" class="sorts"><thead>{_top(columns, amounts)}</thead>\n'
        f"<tbody>\n{''.join(rows)}</tbody></table></div>\n{_legend(has_grades)}</section>\n"
    )


# Cells ----------------------------------------------------------------------------------------------------


def _costs(report: MapReport) -> dict[str, float]:
    """Total loss by component, as the readouts' ablation has it; as the grades' has, where there is no other."""
    found: dict[str, float] = {}
    for evidence in ("grade", "readout"):
        found |= {
            row.component: row.delta_loss_nats
            for row in report.rows
            if row.status and row.evidence == evidence
        }
    return found


def _row(place: int, component: str, cost: float | None, cells: Sequence[Cell], inside: str) -> str:
    read = [row for cell in cells for row in (cell.readout, cell.grade) if row is not None]
    there = [status for status in STATUSES if any(row.status == status for row in read)]
    differs = " data-differs" if any(cell.disagrees for cell in cells) else ""
    return (
        f'<tr data-name="{escape(component)}" data-kind="{kind_of(component)}" data-status="{" ".join(there)}"'
        f"{differs}><th scope=row data-v={place}><button type=button aria-expanded=false>"
        f"{escape(spoken(component))}</button></th>"
        f"<td>{ABSENT if cost is None else signed(cost, 3)}</td>{inside}</tr>\n"
    )


def _cell(
    column: Column,
    component: str,
    cells: Mapping[tuple[str, str], Cell],
    single: Mapping[tuple[str, str], MapRow],
    amounts: Amounts,
) -> str:
    if column.kind == "closed":
        return "<td class=closed></td>"
    cell = cells.get((component, column.capability))
    if column.kind == "one":
        assert column.measure is not None
        return _amount(single.get((component, column.measure)), amounts, kind="one", differs=False)
    row = None if cell is None else cell.readout if column.kind == "readout" else cell.grade
    return _amount(row, amounts, kind=column.kind, differs=cell is not None and cell.disagrees)


def _amount(row: MapRow | None, amounts: Amounts, *, kind: str, differs: bool) -> str:
    """One cell: coloured where surely something is lost, or won, without the component."""
    if row is None or row.status is None:
        return f'<td class="{kind}" title="not {"graded" if kind == "grade" else "read"}">{ABSENT}</td>'
    share = row.share
    is_sure = share.low_corrected > 0 or share.high_corrected < 0
    side = ("p " if share.value > 0 else "n ") if is_sure else "unsure "
    style = f' style="--x:{_depth(share.value):.2f}"' if is_sure else ""
    title = (
        f"{spoken(row.component)}, {spoken(row.measure)}{' graded' if row.evidence == 'grade' else ''}: "
        f"{amounts.amount(row, share.value)} lost, {amounts.amount(row, share.low_corrected)} to "
        f"{amounts.amount(row, share.high_corrected)}, {row.status}{f'; {_DIFFERS_TOLD}' if differs else ''}"
    )
    mark = STATUSES[row.status][0] + (DIFFERS if differs else "")
    return (
        f'<td class="{side}{kind}{" differs" if differs else ""}"{style} data-v={share.value:.4f} '
        f'title="{escape(title)}">{amounts.amount(row, share.value)}<b>{mark}</b></td>'
    )


def _depth(share: float) -> float:
    """Depth of colour, 0 to 1: a power, so that small shares are seen; below zero half as deep."""
    return min(1.0, abs(share)) ** 0.7 * (1.0 if share > 0 else _HALF)


# Around it ------------------------------------------------------------------------------------------------


def _top(columns: Sequence[Column], amounts: Amounts) -> str:
    """Two lines: capabilities with a button that opens their readouts; columns with a button that sorts."""
    groups, names = [], []
    for place, capability in enumerate(dict.fromkeys(column.capability for column in columns)):
        own = [column for column in columns if column.capability == capability]
        n_single = sum(column.kind == "one" for column in own)
        opens = (
            f" <button type=button class=opens hidden aria-expanded=true>{n_single} readouts</button>"
            if n_single
            else ""
        )
        groups.append(
            f'<th scope=colgroup class=group colspan={len(own)} data-of="{place}">{escape(spoken(capability))}'
            f"{opens}</th>"
        )
        names += [_name(column, place, amounts) for column in own]
    return (
        f"<tr>{sorter('component', order='ascending', more='rowspan=2')}"
        f"{sorter('loss', 'nats', more='rowspan=2')}{''.join(groups)}</tr>\n<tr>{''.join(names)}</tr>"
    )


def _name(column: Column, place: int, amounts: Amounts) -> str:
    """The head of one column."""
    more = f'data-of="{place}"{" data-single" if column.kind == "one" else ""}'
    if column.kind == "closed":
        assert column.measure is not None and column.accuracy is not None
        said = f"not passed: nothing is said, accuracy {number(column.accuracy)}"
        return (
            f'<th scope=col class=closed {more} title="{escape(f"{column.asks}; {said}")}"><span>'
            f"{escape(spoken(column.measure))}<br><small>{said}</small></span></th>"
        )
    if column.kind == "grade":
        return sorter("graded", "points" if column.capability in amounts.in_points else "faults", more=more)
    if column.measure is None:
        return sorter("readouts", "the strongest", more=more)
    return sorter(spoken(column.measure), "readout", more=f'{more} title="{escape(column.asks)}"')


def _fields(report: MapReport, has_grades: bool) -> str:
    there = {kind_of(component) for component in report.components}
    kinds = "".join(f"<option>{kind}</option>" for kind in KINDS if kind in there)
    statuses = "".join(
        f'<option value="{status}">{f"{mark} " if mark else "only "}{status}</option>'
        for status, (mark, _) in STATUSES.items()
    )
    differs = (
        '<label><input type="checkbox" name="differs"> only where they disagree</label>' if has_grades else ""
    )
    return (
        '<form id="asked" class="fields" hidden>'
        f'<label>kind <select name="kind"><option value="">all</option>{kinds}</select></label>'
        f'<label>status <select name="status"><option value="">all</option>{statuses}</select></label>'
        '<label>name <input name="name" type="search" placeholder="L0H3" size="9"></label>'
        f'{differs}<output id="found">{len(report.components)} rows</output></form>\n'
    )


def _hint(has_grades: bool) -> str:
    graded = (
        " Graded: points lost in texts that are written without the component, in units of what one planted fault "
        f"costs with the same judge. {DIFFERS} readout and grade contradict each other: one "
        "says that it matters here, the other that surely less than the floor is lost; a grade may not see what a "
        "readout does."
        if has_grades
        else ""
    )
    return (
        "<p class=hint>Share of a readout's difference that is lost without a component, by its mean in its place; of "
        "several readouts that which says most. Choose a component to see all that was measured, with intervals; "
        f"choose a heading to sort.{graded} "
        "<b id=sideways hidden>The table goes on to the right: scroll it sideways.</b></p>\n"
    )


def _legend(has_grades: bool) -> str:
    swatches = "".join(
        f'<span class="{"p" if share > 0 else "n"}" style="--x:{_depth(share):.2f}">{percent(share)}</span>'
        for share in _LEGEND
    )
    marks = "".join(f"<span>{mark} {status}</span>" for status, (mark, _) in STATUSES.items() if mark)
    differs = f"<span>{DIFFERS} {_DIFFERS_TOLD}</span> <span>{ABSENT} not graded</span>" if has_grades else ""
    return (
        f'<p class="legend"><span>lost</span> <span class="swatches">{swatches}</span> '
        f"<span>no colour: nothing for sure</span> {marks} {differs}</p>\n"
    )
