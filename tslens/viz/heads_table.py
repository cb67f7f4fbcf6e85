"""The heat map and the table of head scores as HTML; scripts only sort, filter and select in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tslens.types import HeadId, HeadScore, Position, Status
from tslens.viz.page import escape, number, signed

STATUSES: Mapping[Status, tuple[str, str]] = {
    "role": (
        "◆",
        "All of a candidate, and a cause: removing what the head reads costs the loss where it should.",
    ),
    "candidate": (
        "●",
        "The corrected lower end of the excess reaches the floor, and the other half of the stories "
        "confirms it. No intervention has tested it yet.",
    ),
    "unclear": ("○", "Above every null, but below the floor or not confirmed on the other half."),
    "no": ("", "The corrected interval of the excess includes zero."),
}
_RANK = {status: rank for rank, status in enumerate(STATUSES)}
_ABSENT = "\N{EN DASH}"
Column = tuple[str, Position]


def by_strength(row: HeadScore) -> tuple[int, float, HeadId, str, str]:
    """Sort key: best status first, then largest excess."""
    return _RANK[row.status], -row.excess, row.head, row.probe, row.position


def words(name: str) -> str:
    """A probe's or a null's name as words."""
    return name.replace("_", " ")


def largest_null(row: HeadScore) -> tuple[str, float]:
    """Name and value of the largest null."""
    return max(row.nulls.items(), key=lambda item: item[1], default=("none", 0.0))


def columns_of(rows: Sequence[HeadScore], probes: Mapping[str, str]) -> list[Column]:
    """Probe and position of each column, in the order of ``probes``, the word before "before"."""
    order = {name: place for place, name in enumerate(probes)}
    return sorted(
        {(row.probe, row.position) for row in rows},
        key=lambda column: (order.get(column[0], len(order)), column[0], column[1] == "before"),
    )


def heat_map(rows: Sequence[HeadScore], probes: Mapping[str, str], floor: float) -> str:
    """Heads by probes, coloured by the excess over the largest null."""
    columns = columns_of(rows, probes)
    cells = {(row.head, row.probe, row.position): row for row in rows}
    heads = sorted({row.head for row in rows})
    top = "".join(_column_head(column, columns, probes) for column in columns)
    body = "".join(
        f"<tr{_layer_line(head, heads)}><th scope=row>{head_link(head)}</th>"
        + "".join(_cell(cells.get((head, *column))) for column in columns)
        + "</tr>\n"
        for head in heads
    )
    return (
        f'<div class="box map" tabindex=0 role=region aria-label="Heat map of heads by probes">\n'
        f'<table id="map"><caption class="unseen">Excess of attention over the largest null, a row for each '
        f"head. The table below holds the same figures.</caption>\n"
        f"<thead><tr><th scope=col>head</th>{top}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n"
        f"{_legend(floor, {row.status for row in rows})}"
    )


def head_link(head: HeadId) -> str:
    """A link that selects a head."""
    return f'<a href="#{head}">{head}</a>'


def _column_head(column: Column, columns: Sequence[Column], probes: Mapping[str, str]) -> str:
    probe, position = column
    both = {(probe, "word"), (probe, "before")} <= set(columns)
    place = f"<small>{'before' if position == 'before' else 'at word'}</small>" if both else ""
    return f'<th scope=col title="{escape(probes.get(probe, ""))}">{escape(words(probe))}{place}</th>'


def _layer_line(head: HeadId, heads: Sequence[HeadId]) -> str:
    first = min(other.index for other in heads if other.layer == head.layer)
    return " class=layer" if head.index == first and head.layer > heads[0].layer else ""


def _cell(row: HeadScore | None) -> str:
    if row is None:
        return "<td></td>"
    tint = _tint(row.excess)
    mark = STATUSES[row.status][0]
    text = f"{mark} {_short(row.excess)}" if mark else ""
    title = f"{row.head}, {words(row.probe)}: {signed(row.excess)}, {row.status}"
    side = "n" if tint < 0 else "p"
    return f'<td class="{side}" style="--x:{abs(tint):.2f}" title="{escape(title)}">{text}</td>'


def _tint(excess: float) -> float:
    """Depth of colour, -1 to 1: a signed power, so that the floor is visible and 1 still darker than 0.5."""
    excess = max(-1.0, min(1.0, excess))
    return (abs(excess) ** 0.7) * (1 if excess >= 0 else -1)


def _short(excess: float) -> str:
    return signed(excess).replace("0.", ".", 1).replace("+", "")


def _legend(floor: float, found: set[Status]) -> str:
    steps = sorted({-0.2, -floor, 0.0, floor, 0.2, 0.5, 1.0})
    swatches = "".join(
        f'<span class="{"n" if step < 0 else "p"}" style="--x:{abs(_tint(step)):.2f}">'
        f"{signed(step) if step else '0'}</span>"
        for step in steps
    )
    marks = " ".join(
        f"<span>{mark} {status}</span>" for status, (mark, _) in STATUSES.items() if mark and status in found
    )
    return (
        '<p class="legend"><span>excess over the largest null</span> '
        f'<span class="swatches">{swatches}</span> {marks}</p>\n'
    )


_TABLE_COLUMNS = (
    ("head", "", "ascending"),
    ("probe", "", "ascending"),
    ("position", "", "ascending"),
    ("value", "and 95% interval", "descending"),
    ("largest null", "", "descending"),
    ("excess", "≥ corrected lower end", "descending"),
    ("p", "", "ascending"),
    ("mul", "", "descending"),
    ("status", "", "ascending"),
    ("basis", "", "ascending"),
)


def score_table(rows: Sequence[HeadScore]) -> str:
    """Every row, best first, with filters above it."""
    ordered = sorted(rows, key=by_strength)
    top = "".join(
        f'<th scope=col aria-sort="none" data-first="{first}"><button type=button>{name}</button>'
        f"{f'<small>{note}</small>' if note else ''}</th>"
        for name, note, first in _TABLE_COLUMNS
    )
    body = "".join(_table_row(row) for row in ordered)
    probes = "".join(
        f"<option>{escape(words(name))}</option>" for name in sorted({row.probe for row in rows})
    )
    statuses = "".join(
        f"<option>{status}</option>" for status in STATUSES if status in {row.status for row in rows}
    )
    return (
        f'<form id="filters" hidden>'
        f'<label>probe <select name="probe"><option value="">all</option>{probes}</select></label>'
        f'<label>status <select name="status"><option value="">all</option>{statuses}</select></label>'
        f'<label>head <input name="head" type="search" placeholder="L0H3" size="7"></label>'
        f'<output id="shown">{len(ordered)} rows</output></form>\n'
        '<p class="hint">The bar is the value from 0 to 1 with its interval, the orange line the largest '
        "null. Open a null to see the others.</p>\n"
        f'<div class="box" tabindex=0 role=region aria-label="Table of all measurements">\n'
        f'<table id="scores"><thead><tr>{top}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n'
    )


def _table_row(row: HeadScore) -> str:
    null_name, null = largest_null(row)
    head = row.head.layer * 1000 + row.head.index
    mul = "" if row.mul is None else f"{row.mul:.5f}"
    figures = (f"{value:.5f}" for value in (row.value, null, row.excess, row.p))
    keys = (head, row.probe, row.position, *figures, mul, _RANK[row.status], row.basis or "")
    percent = {"v": row.value, "l": row.low, "h": row.high, "n": null}
    style = ";".join(f"--{name}:{100 * max(0.0, min(1.0, value)):.1f}" for name, value in percent.items())
    mark = STATUSES[row.status][0]
    cells = (
        f"<th scope=row>{head_link(row.head)}</th>",
        f"<td>{escape(words(row.probe))}</td>",
        f"<td>{row.position}</td>",
        f'<td><i style="{style}"></i>{number(row.value, 3)} '
        f"<small>[{number(row.low, 3)}, {number(row.high, 3)}]</small></td>",
        f"<td><details><summary>{number(null, 3)} <small>{escape(words(null_name))}</small></summary>"
        f"{_more(row)}</details></td>",
        f"<td>{signed(row.excess, 3)} <small>≥ {signed(row.excess_low, 3)}</small></td>",
        f"<td>{'&lt;0.001' if row.p < 0.001 else number(row.p, 3)}</td>",
        f"<td>{_ABSENT if row.mul is None else number(row.mul, 3)}</td>",
        f'<td><b class="{row.status}">{mark} {row.status}</b></td>',
        f"<td>{row.basis or _ABSENT}</td>",
    )
    return f'<tr data-k="{escape("|".join(map(str, keys)))}">{"".join(cells)}</tr>\n'


def _more(row: HeadScore) -> str:
    nulls = sorted(row.nulls.items(), key=lambda item: -item[1])[1:]
    lines = [f"{number(value, 3)} {escape(words(name))}" for name, value in nulls]
    first, second = ("not known" if value is None else signed(value) for value in row.excess_halves)
    lines.append(f"excess on either half {first}, {second}")
    if row.value_all is not None:
        lines.append(f"value on all queries {number(row.value_all, 3)}")
    lines.append(f"{row.n_stories} stories")
    return "<br>".join(lines)
