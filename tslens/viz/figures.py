"""Figures for print: SVG, PDF and PNG of one drawing, and its data beside them as CSV.

Colours are those of Okabe and Ito (2008), told apart by all common forms of colour blindness; shapes and line styles
say the same again, for print in grey. Equal data gives equal bytes: no date, no random ids.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from tslens.files import atomic_write

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
MARKS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#666666"
DPI = 200
_STYLE: Mapping[str, Any] = {
    "font.size": 8.0,
    "axes.titlesize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.hashsalt": "tslens",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "figure.dpi": DPI,
    "figure.constrained_layout.use": True,
}
_WITHOUT_DATE = {
    "svg": {"Date": None},
    "pdf": {"CreationDate": None, "ModDate": None},
    "png": {"Software": None},
}


@contextmanager
def drawing(
    width: float, height: float, stem: Path, columns: Sequence[str], data: Sequence[Sequence[Any]]
) -> Iterator[Figure]:
    """A figure of so many inches, saved as ``stem.svg``, ``.pdf``, ``.png`` when the block ends, with ``stem.csv``.

    ``data``: what is drawn, a row a mark. Raises RunError where a file cannot be written. A ``matplotlibrc`` of the
    current folder or of the user changes nothing.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        figure = Figure(figsize=(width, height))
        yield figure
        for kind, metadata in _WITHOUT_DATE.items():
            held = BytesIO()
            figure.savefig(held, format=kind, metadata=metadata)
            with atomic_write(stem.with_suffix(f".{kind}"), "wb") as file:
                file.write(held.getvalue())
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *data])
    with atomic_write(stem.with_suffix(".csv")) as file:
        file.write(text.getvalue())
