"""The table of all measurements as HTML; scripts only sort and filter in it."""

from __future__ import annotations

from collections.abc import Sequence

from tslens.types import HeadScore
from tslens.viz.heads_words import STATUSES, by_strength, largest_null, words
from tslens.viz.heat_map import head_link
from tslens.viz.page import escape, number, signed
from tslens.viz.sorted_table import Column, choice, search, sorted_table

_ABSENT = "\N{EN DASH}"
_TABLE_COLUMNS = (
    Column("head", "", "ascending", "component"),
    Column("probe", "", "ascending", "words"),
    Column("position", "", "ascending", "words"),
    Column("value", "and 95% interval", "descending", "figure"),
    Column("largest null", "", "descending", "figure"),
    Column("excess", "≥ corrected lower end", "descending", "figure"),
    Column("p", "", "ascending", "figure"),
    Column("mul", "", "descending", "figure"),
    Column("status", "", "ascending", "status"),
    Column("basis", "", "ascending", "words"),
    Column("edge", "nats, ≥ corrected lower end", "descending", "figure"),
)


def score_table(rows: Sequence[HeadScore]) -> str:
    """Every row, best first, with filters above it."""
    ordered = sorted(rows, key=by_strength)
    there = {row.status for row in rows}
    fields = (
        choice("probe", sorted({words(row.probe) for row in rows}), 1, "exact"),
        choice("status", (status for status in STATUSES if status in there), 8, "status"),
        search("head", "L0H3", 0, "component"),
    )
    return sorted_table(
        _TABLE_COLUMNS,
        [_table_row(row) for row in ordered],
        fields,
        hint="The bar is the value from 0 to 1 with its interval, the orange line the largest null. Open a null to "
        "see the others.",
        label="Table of all measurements",
    )


def _table_row(row: HeadScore) -> str:
    null_name, null = largest_null(row)
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
        f"<td>{_edge(row)}</td>",
    )
    return f"<tr>{''.join(cells)}</tr>\n"


def _edge(row: HeadScore) -> str:
    """The effect of taking the role's attention away, beyond like attention, where it was tested."""
    effects = row.cause or {}
    if "edge" not in effects:
        return _ABSENT
    low = f" <small>≥ {signed(effects['edge_low'], 3)}</small>" if "edge_low" in effects else ""
    return f"{signed(effects['edge'], 3)}{low}"


_BESIDE = {
    "most_attended": "most attended word is a target",
    "best_offset": "the best fixed number of words back hits",
    "nearest": "the nearest like word is a target",
    "next_noun": "where one of several such nouns comes next, of this attention on it",
    "next_noun_even": "the same if every mention got as much",
}


def _more(row: HeadScore) -> str:
    nulls = sorted(row.nulls.items(), key=lambda item: -item[1])[1:]
    lines = [f"{number(value, 3)} {escape(words(name))}" for name, value in nulls]
    first, second = ("not known" if value is None else signed(value) for value in row.excess_halves)
    lines.append(f"excess on either half {first}, {second}")
    if row.value_all is not None:
        lines.append(f"value on all queries {number(row.value_all, 3)}")
    lines += [
        f"{_BESIDE.get(name, words(name))} {number(value, 3)}" for name, value in (row.beside or {}).items()
    ]
    lines.append(f"{row.n_stories} stories")
    return "<br>".join(lines)
