"""Text on a printed figure, its tokens shaded: monospaced, so that every place is known without measuring.

A figure of text is one page of columns and rows: a column is as wide as a character, a row as high as a line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from tslens.viz.figures import COLOURS

FAMILY = "DejaVu Sans Mono"  # comes with matplotlib
SIZE = 6.5  # points
_ADVANCE = 1233 / 2048  # of a character of that family, in font sizes
_LEADING = 1.65  # of a line, in font sizes
_BASELINE = 0.72  # of a row
_POINTS = 72.0  # of an inch
NEW_LINE = "\u23ce"
SHADES = LinearSegmentedColormap.from_list("tslens shades", ["#ffffff", COLOURS[5]])
"""White to a blue on which black can be read: the deeper, the more, in print without colours too."""


@dataclass(frozen=True)
class Shaded:
    """A token of a text. ``depth``: of its shade, 0 to 1. ``is_marked``: underlined. ``is_boxed``: in a frame."""

    text: str
    depth: float
    is_marked: bool = False
    is_boxed: bool = False


def column_inches(n_columns: float) -> float:
    """How wide so many characters are."""
    return n_columns * SIZE * _ADVANCE / _POINTS


def row_inches(n_rows: float) -> float:
    """How high so many rows are."""
    return n_rows * SIZE * _LEADING / _POINTS


def text_page(figure: Figure) -> Axes:
    """The whole figure as a page of columns and rows, (0, 0) its upper left corner."""
    figure.set_layout_engine("none")
    page = figure.add_axes((0, 0, 1, 1))
    width, height = figure.get_size_inches()
    page.set_xlim(0, width / column_inches(1))
    page.set_ylim(height / row_inches(1), 0)
    page.set_axis_off()
    return page


def write_line(
    page: Axes,
    text: str,
    column: float,
    row: float,
    *,
    colour: str = "black",
    weight: str = "normal",
    align: str = "left",
) -> None:
    """Words that are no token of a text: titles and notes, in the proportional family."""
    page.text(
        column,
        row + _BASELINE,
        text,
        color=colour,
        fontsize=SIZE + (0.8 if weight == "bold" else 0),
        fontweight=weight,
        horizontalalignment=align,
        verticalalignment="baseline",
        parse_math=False,
    )


def draw_tokens(page: Axes, tokens: Sequence[Shaded], column: float, row: float) -> None:
    """Tokens one after the other from a place on; a blank before a token is not shaded."""
    for token in tokens:
        shown = visible_token(token.text)
        bare = shown.lstrip(" ")
        first = column + len(shown) - len(bare)
        last = column + len(shown)
        if bare:
            page.add_patch(
                Rectangle(
                    (first, row + 0.06),
                    len(bare),
                    0.88,
                    facecolor=SHADES(min(max(token.depth, 0.0), 1.0)),
                    edgecolor="black" if token.is_boxed else "none",
                    linewidth=0.6,
                )
            )
            page.text(
                first,
                row + _BASELINE,
                bare,
                family=FAMILY,
                fontsize=SIZE,
                verticalalignment="baseline",
                parse_math=False,
            )
        if token.is_marked and bare:
            page.add_line(
                Line2D([first + 0.1, last - 0.1], [row + 0.86] * 2, color="black", linewidth=0.8, zorder=3)
            )
        column = last


def wrap_tokens(tokens: Sequence[Shaded], n_columns: int) -> list[list[Shaded]]:
    """Tokens in lines of up to so many characters; broken before a token with a blank, which then loses it."""
    lines: list[list[Shaded]] = [[]]
    for word in _words(tokens):
        if lines[-1] and length_of([*lines[-1], *word]) > n_columns:
            lines.append([])
        if not lines[-1]:
            first = word[0]
            word = [Shaded(first.text.lstrip(" "), first.depth, first.is_marked, first.is_boxed), *word[1:]]
        lines[-1].extend(word)
    return lines


def length_of(tokens: Sequence[Shaded]) -> int:
    """How many columns tokens take."""
    return sum(len(visible_token(token.text)) for token in tokens)


def visible_token(text: str) -> str:
    """A token as it is printed: a new line as a sign."""
    return text.replace("\n", NEW_LINE).replace("\t", " ")


def _words(tokens: Sequence[Shaded]) -> list[list[Shaded]]:
    found: list[list[Shaded]] = []
    for token in tokens:
        if token.text.startswith(" ") or not found:
            found.append([token])
        else:
            found[-1].append(token)
    return found
