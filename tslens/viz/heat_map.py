"""The heat map of head scores: a row a head, a column a probe and position, in groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from tslens.types import HeadId, HeadScore, Position
from tslens.viz.heads_words import STATUSES, words
from tslens.viz.page import escape, signed

Column = tuple[str, Position]
GROUPS: Mapping[str, tuple[str, ...]] = {
    "position": (
        "previous_token", "previous_word", "distance_2", "distance_3_4", "distance_5_8", "distance_9_16",
        "distance_17_32", "distance_33_64", "distance_65_128", "first_token", "sentence_start",
    ),
    "words and marks": ("duplicate_token", "induction", "rare_word", "punctuation", "sentence_end", "quote"),
    "clause": ("subject", "action", "object"),
    "people and topic": ("antecedent", "name", "protagonist", "topic", "topic_determiner"),
}  # fmt: skip
"""What probes ask about, and their order on the page; a probe that is not named stands under "others"."""
_OTHERS = "others"
_POSITIONS: Mapping[Position, str] = {"word": "at word", "before": "before"}
_ORDER = {probe: place for place, probe in enumerate(p for probes in GROUPS.values() for p in probes)}


def group_of(probe: str) -> str:
    """The heading that a probe stands under."""
    return next((group for group, probes in GROUPS.items() if probe in probes), _OTHERS)


def columns_of(rows: Sequence[HeadScore], probes: Mapping[str, str]) -> list[Column]:
    """Probe and position of each column: by group, then as in ``probes``, the word before "before"."""
    given = {name: len(_ORDER) + place for place, name in enumerate(probes)}
    return sorted(
        {(row.probe, row.position) for row in rows},
        key=lambda column: (
            _ORDER.get(column[0], given.get(column[0], len(_ORDER) + len(given))),
            column[0],
            column[1] == "before",
        ),
    )


def heat_map(rows: Sequence[HeadScore], probes: Mapping[str, str], floor: float) -> str:
    """Heads by probes, coloured by the excess over the largest null."""
    columns = columns_of(rows, probes)
    cells = {(row.head, row.probe, row.position): row for row in rows}
    heads = sorted({row.head for row in rows})
    starts = {next(iter(group)) for _, group in groupby(columns, key=lambda column: group_of(column[0]))}
    body = "".join(
        f"<tr{_layer_line(head, heads)}><th scope=row>{head_link(head)}</th>"
        + "".join(_cell(cells.get((head, *column)), column in starts) for column in columns)
        + "</tr>\n"
        for head in heads
    )
    return (
        f'<div class="box map" tabindex=0 role=region aria-label="Heat map of heads by probes">\n'
        f'<table id="map" style="--n:{len(columns)}"><caption class="unseen">Excess of attention over the largest '
        f"null, a row for each head. The table below holds the same figures.</caption>\n"
        f"<thead>{_top(columns, probes)}</thead>\n<tbody>\n{body}</tbody></table></div>\n"
        f"{_legend(floor, {row.status for row in rows})}"
    )


def head_link(head: HeadId) -> str:
    """A link that selects a head."""
    return f'<a href="#{head}">{head}</a>'


def _top(columns: Sequence[Column], probes: Mapping[str, str]) -> str:
    """Three lines: groups, probes, and positions where a probe has two."""
    groups, names, places = [], [], []
    for group, in_group in groupby(columns, key=lambda column: group_of(column[0])):
        listed = list(in_group)
        groups.append(f"<th scope=colgroup class=group colspan={len(listed)}>{escape(group)}</th>")
        for first, (probe, own) in enumerate(groupby(listed, key=lambda column: column[0])):
            positions = [position for _, position in own]
            line = " class=group" if first == 0 else ""
            span = f" colspan={len(positions)}" if len(positions) > 1 else " rowspan=2"
            title = f'title="{escape(probes.get(probe, ""))}"'
            names.append(f"<th scope=col{span}{line} {title}><span>{escape(words(probe))}</span></th>")
            if len(positions) > 1:
                places += [
                    f"<th scope=col{'' if i else line}><span>{_POSITIONS[position]}</span></th>"
                    for i, position in enumerate(positions)
                ]
    return (
        f"<tr><th scope=col rowspan=3>head</th>{''.join(groups)}</tr>\n"
        f"<tr>{''.join(names)}</tr>\n<tr>{''.join(places)}</tr>"
    )


def _layer_line(head: HeadId, heads: Sequence[HeadId]) -> str:
    first = min(other.index for other in heads if other.layer == head.layer)
    return " class=layer" if head.index == first and head.layer > heads[0].layer else ""


def _cell(row: HeadScore | None, starts_group: bool) -> str:
    line = " group" if starts_group else ""
    if row is None:
        return f'<td class="{line.strip()}"></td>' if line else "<td></td>"
    tint = _tint(row.excess)
    before = ", before" if row.position == "before" else ""
    title = f"{row.head}, {words(row.probe)}{before}: {signed(row.excess)}, {row.status}"
    side, mark = "n" if tint < 0 else "p", STATUSES[row.status][0]
    return f'<td class="{side}{line}" style="--x:{abs(tint):.2f}" title="{escape(title)}">{mark}</td>'


def _tint(excess: float) -> float:
    """Depth of colour, -1 to 1: a signed power, so that the floor is visible and 1 still darker than 0.5.

    Below zero half as deep: how far a head stays under a null says little of it.
    """
    depth = min(1.0, abs(excess)) ** 0.7
    return depth if excess >= 0 else -0.5 * depth


def _legend(floor: float, found: set[str]) -> str:
    steps = sorted({-0.5, -floor, 0.0, floor, 0.25, 0.5, 1.0})
    swatches = "".join(
        f'<span class="{"n" if step < 0 else "p"}" style="--x:{abs(_tint(step)):.2f}">'
        f"{signed(step) if step else '0'}</span>"
        for step in steps
    )
    marks = "".join(
        f"<span>{mark} {status}</span>" for status, (mark, _) in STATUSES.items() if mark and status in found
    )
    return (
        '<p class="legend"><span>excess over the largest null</span> '
        f'<span class="swatches">{swatches}</span> {marks}</p>\n'
    )
