"""How commands speak: results on standard output, progress and warnings on standard error.

Of several processes that torchrun started, only the first speaks.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress

LINE_SECONDS = 60.0  # between two lines of progress where there is no terminal


def _is_silent() -> bool:
    return os.environ.get("RANK", "0") != "0"


def say(line: str) -> None:
    """One line of progress or explanation, on standard error."""
    if _is_silent():
        return
    print(printable(line), file=sys.stderr, flush=True)


def show_json(value: Any) -> None:
    """One JSON object on standard output; not-a-number has no place in it."""
    if _is_silent():
        return
    print(json.dumps(value, ensure_ascii=False, allow_nan=False))


def show(text: str) -> None:
    """Plain text on standard output."""
    if _is_silent():
        return
    print(printable(text))


def printable(text: str) -> str:
    """A text without control characters: those of stories, models and servers never reach the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def counted(n: int, noun: str) -> str:
    """A number and its noun, as in "1 text" and "2,000 texts"."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def duration(seconds: float) -> str:
    """A time in two units at most: ``8 s``, ``4 min 10 s``, ``3 h 5 min``, ``12 d 4 h``."""
    whole = round(seconds)
    for big, small, size in (("d", "h", 86_400), ("h", "min", 3_600), ("min", "s", 60)):
        if whole >= size:
            rest = whole % size // {"h": 3_600, "min": 60, "s": 1}[small]
            return f"{whole // size} {big} {rest} {small}" if rest else f"{whole // size} {big}"
    return f"{whole} s" if whole >= 1 or seconds == 0 else f"{seconds:.1f} s"


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table that fits the terminal; columns named ``<name>`` are text, others are set flush right."""
    if _is_silent():
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        is_text = column.startswith("<")
        table.add_column(column.strip("<>"), justify="left" if is_text else "right", overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=100)
    console.print(table)


@contextmanager
def progress_bar(description: str, total: float | None) -> Iterator[tuple[Progress, Any]]:
    """A bar with time left on standard error; a line a minute where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if _is_silent() or not console.is_terminal:
        from tslens.cli.progress_lines import ProgressLines

        lines = ProgressLines()
        yield lines, lines.add_task(description, total=total, note="")
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield progress, progress.add_task(description, total=total, note="")
