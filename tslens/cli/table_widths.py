"""How wide the columns of a table are, so that it fits a terminal and no figure is cut in two."""

from __future__ import annotations

import re
from collections.abc import Sequence

LONGEST = 32  # characters of a name or of a part of it that are kept together whatever the room
_PART = re.compile(r"[^_/]*[_/]|[^_/]+")


def parts_that_fit(
    columns: Sequence[str], rows: Sequence[Sequence[str]], width: int
) -> list[tuple[list[int], list[int]]]:
    """The tables that show all columns within ``width``: of each its columns and their widths, in characters.

    Columns named ``<name>`` are text, which may be broken between words and, but for the first, behind ``_`` and ``/``
    (see :func:`broken`); figures may not, only their headings. One table where that suffices. Else further columns
    stand in further tables, each with the first column again.
    """
    wished = [max(map(_length, (name.strip("<>"), *_cells(rows, i)))) for i, name in enumerate(columns)]
    least = [_least_width(name, _cells(rows, i), is_first=not i) for i, name in enumerate(columns)]
    parts: list[list[int]] = [[]]
    for i in range(len(columns)):
        if sum(least[j] + 1 for j in parts[-1]) + least[i] > width and len(parts[-1]) > (i > 0):
            parts.append([0] if i else [])
        parts[-1].append(i)
    is_figure = [not name.startswith("<") for name in columns]
    return [
        (
            part,
            _widths([wished[i] for i in part], [least[i] for i in part], [is_figure[i] for i in part], width),
        )
        for part in parts
    ]


def _cells(rows: Sequence[Sequence[str]], column: int) -> list[str]:
    return [row[column] for row in rows]


def broken(cell: str, width: int) -> str:
    """A cell of text whose words that are longer than ``width`` are broken behind ``_`` and ``/``."""
    return re.sub(r"\S+", lambda word: _broken_word(word[0], width), cell)


def _broken_word(word: str, width: int) -> str:
    if _length(word) <= width:
        return word
    lines = [""]
    for part in _PART.findall(word):
        if lines[-1] and _length(lines[-1] + part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _least_width(name: str, cells: Sequence[str], *, is_first: bool) -> int:
    """The narrowest that a column can be: its longest word or part of one, or its longest figure."""
    heading = max(map(_length, name.strip("<>").split()), default=0)
    if not name.startswith("<"):
        return max([heading, *map(_length, cells)])
    words = [word for cell in cells for word in cell.split()]
    kept = words if is_first else [part for word in words for part in _PART.findall(word)]
    return max([heading, *(min(LONGEST, _length(one)) for one in kept)])


def _widths(wished: list[int], least: list[int], is_figure: list[bool], width: int) -> list[int]:
    """The wished widths; until all fit, a gap of one between them, the widest that can gives up a character.

    Headings of figures are broken first: that takes a line, whereas broken text takes one in every row.
    """
    found, over = list(wished), sum(wished) + len(wished) - 1 - width
    while over > 0:
        can = [i for i, one in enumerate(found) if one > least[i]]
        if not can:
            break
        found[max(can, key=lambda i: (is_figure[i], found[i]))] -= 1
        over -= 1
    return found


def _length(text: str) -> int:
    from rich.cells import cell_len

    return max(map(cell_len, text.split("\n")))
