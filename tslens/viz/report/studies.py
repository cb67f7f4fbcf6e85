"""Studies in a report: drawings that stand in a folder of results, what they found, and their data as a table."""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tslens.reading import read_bytes
from tslens.viz.page import escape

MOST_ROWS = 60  # of a drawing's data that stand below it
MOST_BYTES = 400_000  # of a drawing
TEXT_BYTES = 4_000_000  # of a report, and of a drawing's data
_FIGURE = re.compile(r"^figure0*(\d+)$")
_LONG = re.compile(r"\d+\.\d{3,}")  # places of a drawing, in points: two digits behind the point are enough


@dataclass(frozen=True)
class Study:
    """A folder of results with drawings. ``title``, ``found``: first heading and first paragraph of its report."""

    name: str
    title: str
    found: str
    drawings: tuple[Path, ...]


def find_studies(folders: Sequence[Path]) -> list[Study]:
    """Every folder, itself or below, that holds drawings (``.svg``) and a ``report.md``, by name."""
    found: dict[Path, Study] = {}
    for folder in folders:
        for report in sorted(folder.rglob("report.md")):
            place = report.parent
            drawings = tuple(path for path in sorted(place.glob("*.svg")) if _read(path, MOST_BYTES))
            if drawings and place.resolve() not in found:
                title, text = _opening(_read(report, TEXT_BYTES))
                found[place.resolve()] = Study(place.name, title or place.name, text, drawings)
    return list(found.values())


def _read(path: Path, at_most: int) -> str:
    """The text of a file; none of one that is too long, or that cannot be read."""
    try:
        return read_bytes(path, at_most=at_most).decode(errors="replace")
    except (OSError, ValueError):
        return ""


def _opening(markdown: str) -> tuple[str, str]:
    """First heading, and the first paragraph below it that is no table, list or code."""
    title = ""
    for block in markdown.split("\n\n"):
        text = " ".join(block.split())
        if text.startswith("# ") and not title:
            title = text.removeprefix("# ")
        elif text and text[0] not in "#|-*`<!":
            return title, text.replace("`", "").replace("*", "")
    return title, ""


def studies_section(studies: Sequence[Study]) -> str:
    """Each study with its drawings, below each its data."""
    if not studies:
        return ""
    parts = [
        f"<article>\n<h3>{escape(study.title)}</h3>\n<p>{escape(study.found)}</p>\n"
        f"{''.join(map(_drawing, study.drawings))}</article>\n"
        for study in studies
    ]
    hint = (
        '<p class="hint">Studies that stand in the folders of results, of these models and of others.</p>\n'
    )
    return f'<section id="studies">\n<h2>Size and time</h2>\n{hint}{"".join(parts)}</section>\n'


def _drawing(path: Path) -> str:
    text = _LONG.sub(lambda found: f"{float(found[0]):.2f}", _read(path, MOST_BYTES))
    held = base64.b64encode(text.encode()).decode()
    name = _FIGURE.sub(r"Figure \1 of the paper", path.stem.replace("_", " "))
    name = f"{path.parent.name}: {name}" if name == path.stem and path.stem != path.parent.name else name
    return (
        f'<figure><img class="print" loading="lazy" alt="{escape(name)}; its data stands below" '
        f'src="data:image/svg+xml;base64,{held}"><figcaption>{escape(name)}</figcaption>\n'
        f"{_table(path.with_suffix('.csv'))}</figure>\n"
    )


def _table(path: Path) -> str:
    """The data of a drawing, folded; nothing where it has none that can be read."""
    try:
        with io.StringIO(_read(path, TEXT_BYTES), newline="") as file:
            rows = list(csv.reader(file))
    except csv.Error:  # a cell of 131,072 characters
        rows = []
    if not rows:
        return ""
    heads = "".join(f"<th scope=col>{escape(cell.replace('_', ' '))}</th>" for cell in rows[0])
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(_short(cell))}</td>' for cell in row)}</tr>\n"
        for row in rows[1 : MOST_ROWS + 1]
    )
    n_left = len(rows) - 1 - MOST_ROWS
    more = f'<p class="hint">{n_left:,} rows more in {escape(path.name)}.</p>\n' if n_left > 0 else ""
    return (
        f"<details><summary>As numbers ({len(rows) - 1:,} rows)</summary>\n"
        f'<div class="box fit"><table class="plain"><thead><tr>{heads}</tr></thead>\n<tbody>\n'
        f"{body}</tbody></table></div>\n"
        f"{more}</details>\n"
    )


def _short(cell: str) -> str:
    """A figure with four digits."""
    try:
        return f"{float(cell):.4g}"
    except ValueError:
        return cell
