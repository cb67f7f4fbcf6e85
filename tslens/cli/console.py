"""How commands speak: results on standard output, progress and warnings on standard error.

Of several processes that torchrun started, only the first speaks. With ``--quiet`` nothing is said but warnings and
errors. At a terminal, tables and lines fit its width.
"""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

from tslens.errors import RunError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

LINE_SECONDS = 60.0  # between two lines of progress where there is no terminal
_voice = {"quiet": False}


def set_quiet(quiet: bool) -> None:
    """Whether progress and explanations are left out, for the command that runs now."""
    _voice["quiet"] = quiet


def _is_silent() -> bool:
    return os.environ.get("RANK", "0") != "0"


def say(line: str) -> None:
    """One line of progress or explanation, on standard error; with ``--quiet`` only a warning is said."""
    if _is_silent() or (_voice["quiet"] and not line.startswith("warning:")):
        return
    with suppress(OSError):  # a log that is full stops no work
        print(_fitted(printable(line), sys.stderr), file=sys.stderr, flush=True)


def show_json(value: Any) -> None:
    """One JSON object on standard output; not-a-number has no place in it."""
    if _is_silent():
        return
    with to_output():
        print(json.dumps(value, ensure_ascii=False, allow_nan=False))


def show(text: str) -> None:
    """Plain text on standard output."""
    if _is_silent():
        return
    with to_output():
        print(_fitted(printable(text), sys.stdout))


def output_error(error: OSError) -> RunError:
    """What to say where standard output takes no more, as on a full disk."""
    return RunError(
        f"Cannot write to standard output: {error.strerror or error}.",
        "Send it to a place that has space. Files that were written stay.",
    )


@contextmanager
def to_output() -> Iterator[None]:
    """Something is printed: raises RunError where it cannot be, but BrokenPipeError where nobody reads on."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise output_error(error) from error


def _fitted(text: str, stream: TextIO) -> str:
    """A text whose long lines are broken between words, where it goes to a terminal; unchanged elsewhere."""
    if not stream.isatty():
        return text
    told = os.environ.get("COLUMNS", "")
    width = int(told) if told.isdecimal() and int(told) else os.get_terminal_size(stream.fileno()).columns
    lines: list[str] = []
    for line in text.split("\n"):
        if len(line) <= max(width, 1):
            lines.append(line)
            continue
        indent = line[: min(len(line) - len(line.lstrip()), width // 2)]
        lines += textwrap.wrap(
            line,
            max(width, 1),
            subsequent_indent=indent,
            replace_whitespace=False,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(lines)


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
    """A table that fits the terminal; columns named ``<name>`` are text, others are figures, set flush right.

    Text is broken between words where the room is small, headings too; a figure never is. What still does not fit
    stands in a further table below, its first column again.
    """
    if _is_silent():
        return
    from rich.console import Console

    from tslens.cli.table_widths import parts_that_fit

    console = Console()
    if not console.is_terminal:
        console = Console(width=100)
    with to_output():
        for number, (chosen, widths) in enumerate(parts_that_fit(columns, rows, console.width)):
            if number:
                console.print()
            _print_table(
                console, [columns[i] for i in chosen], [[row[i] for i in chosen] for row in rows], widths
            )


def _print_table(
    console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int]
) -> None:
    from rich.markup import escape
    from rich.table import Table

    from tslens.cli.table_widths import broken

    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for column, width in zip(columns, widths, strict=True):
        justify: Any = "left" if column.startswith("<") else "right"
        table.add_column(column.strip("<>"), justify=justify, overflow="fold", width=width)
    for row in rows:
        table.add_row(*(escape(broken(cell, width)) for cell, width in zip(row, widths, strict=True)))
    console.print(table)


def moving_console() -> Console | None:
    """Standard error, where things may move on it; None where it is no terminal, or a dumb one, or with ``--quiet``."""
    from rich.console import Console

    console = Console(stderr=True)
    if _is_silent() or _voice["quiet"] or not console.is_terminal or console.is_dumb_terminal:
        return None
    return console


@contextmanager
def progress_bar(description: str, total: float | None) -> Iterator[tuple[Progress, Any]]:
    """A bar with time left on standard error; a line a minute where nothing can move there."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = moving_console()
    if console is None:
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
