"""Tables that ``table.js`` sorts and filters; their rows stand in the page without it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from tslens.viz.page import escape


@dataclass(frozen=True)
class Column:
    """A column: its name, a note below it, the order of its first click, and what its cells are sorted by."""

    name: str
    note: str
    first: Literal["ascending", "descending"]
    kind: Literal["component", "words", "figure", "status"]

    def head(self) -> str:
        """Its head cell, a button."""
        note = f"<small>{self.note}</small>" if self.note else ""
        return (
            f'<th scope=col aria-sort="none" data-first="{self.first}" data-kind="{self.kind}">'
            f"<button type=button>{self.name}</button>{note}</th>"
        )


def choice(name: str, options: Iterable[str], column: int, match: Literal["exact", "status"]) -> str:
    """A field that keeps the rows whose cell is one of a list."""
    listed = "".join(f"<option>{escape(option)}</option>" for option in options)
    return (
        f'<label>{name} <select name="{name}" data-column={column} data-match={match}>'
        f'<option value="">all</option>{listed}</select></label>'
    )


def search(name: str, example: str, column: int, match: Literal["component", "contains"]) -> str:
    """A field that keeps the rows whose cell has what is typed."""
    return (
        f'<label>{name} <input name="{name}" type="search" placeholder="{escape(example)}" size="7" '
        f"data-column={column} data-match={match}></label>"
    )


def sorted_table(
    columns: Sequence[Column], rows: Sequence[str], fields: Sequence[str], *, hint: str, label: str
) -> str:
    """The table with its fields above it. ``rows``: as HTML, cells in the order of the columns."""
    top = "".join(column.head() for column in columns)
    return (
        f'<form id="filters" hidden>{"".join(fields)}<output id="shown">{len(rows)} rows</output></form>\n'
        f'<p class="hint">{hint}</p>\n'
        f'<div class="box" tabindex=0 role=region aria-label="{label}">\n'
        f'<table id="scores"><thead><tr>{top}</tr></thead>\n<tbody>\n{"".join(rows)}</tbody></table></div>\n'
    )
