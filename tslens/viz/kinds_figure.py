"""Heads by what explains their attention: a panel for each model, a point with its intervals for each head.

Across: the share that only distance tells; upward: that only tokens tell. Between the two dashed lines neither part
is twice the other. Heads that are no farther from even attention than those of random twins are pale. The drawing is
one SVG file that needs nothing else; its ground is white, so that it reads anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tslens.files import atomic_write
from tslens.probes.kinds.report import HeadKind, Kind
from tslens.probes.kinds.rule import LEAST_SHARE, TWICE
from tslens.viz.page import escape, number

SIDE = 190  # of a panel's square, in pixels
GAP = 26
LEFT, TOP, FOOT = 40, 112, 64
PANELS_A_ROW = 4
LEAST, MOST = -0.1, 1.0  # of both axes
TICKS = (0.0, 0.5, 1.0)
BINS = 20  # of the balance
MOST_LETTERS = 16  # of a name above its panel

COLOURS: Mapping[Kind, str] = {
    "positional": "#1f6fb4",
    "syntactic": "#2a8a4a",
    "semantic": "#c2410c",
    "mixed": "#6d28d9",
    "unclear": "#8a8a8a",
    "even": "#c4c4c4",
}
_EXPLAINED = (  # in lines that fit the drawing of one model
    "Across: share of a head's attention that only distance tells.",
    "Upward: share that only tokens tell. Bars: 95%.",
    "Pale: no farther from even attention than random twins.",
)
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#222}.t{font-weight:600}.s{font-size:10px;fill:#666}"
    ".a{stroke:#999;fill:none}.g{stroke:#bbb;stroke-dasharray:3 3;fill:none}.e{stroke-width:1;opacity:.55}"
    ".p{opacity:.4}"
)


def write_kinds_figure(path: Path, models: Mapping[str, Sequence[HeadKind]]) -> None:
    """Draw the heads of each model to an SVG file, whole or not at all."""
    with atomic_write(path) as file:
        file.write(kinds_figure(models))


def kinds_figure(models: Mapping[str, Sequence[HeadKind]]) -> str:
    """The drawing as SVG. The last panel has the balance of all heads. Equal input gives equal text."""
    panels = [*models.items()]
    n_columns = min(PANELS_A_ROW, len(panels) + 1)
    n_rows = -(-(len(panels) + 1) // n_columns)
    width, height = LEFT + n_columns * (SIDE + GAP), TOP + n_rows * (SIDE + GAP + FOOT - GAP)
    parts = [*_legend()]
    for place in range(len(panels) + 1):
        x = LEFT + place % n_columns * (SIDE + GAP)
        y = TOP + place // n_columns * (SIDE + FOOT)
        inside = _panel(*panels[place]) if place < len(panels) else _histogram(models)
        parts.append(f'<g transform="translate({x} {y})">\n{"".join(inside)}</g>\n')
    n_heads = sum(map(len, models.values()))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img">\n<title>{n_heads} heads by what explains their attention</title>\n<style>{_STYLE}</style>\n'
        f'<rect width="{width}" height="{height}" fill="#fff"/>\n{"".join(parts)}</svg>\n'
    )


def _legend() -> Iterator[str]:
    for i, line in enumerate(_EXPLAINED):
        yield f'<text x="{LEFT}" y="{18 + 16 * i}">{line}</text>\n'
    x, y = LEFT + 4.0, 20 + 16 * len(_EXPLAINED)
    for kind, colour in COLOURS.items():
        mark = _mark(kind, x, y - 4)
        yield f'<g fill="{colour}" stroke="{colour}">{mark}</g><text x="{x + 7:.0f}" y="{y}">{kind}</text>\n'
        x += 7 * len(kind) + 20


def _place(share: float) -> float:
    """Pixels from the left or the foot of a panel; what is beyond it stands at its edge."""
    return SIDE * (min(max(share, LEAST), MOST) - LEAST) / (MOST - LEAST)


def _panel(name: str, heads: Sequence[HeadKind]) -> Iterator[str]:
    shown = name if len(name) <= MOST_LETTERS else f"…{name[1 - MOST_LETTERS :]}"
    yield f'<text class="t" y="-8">{escape(shown)}, {len(heads)} heads</text>\n'
    yield from _axes(TICKS, [_place(tick) for tick in TICKS])
    zero = SIDE - _place(0)
    for tick in TICKS:
        yield f'<text class="s" x="-6" y="{SIDE - _place(tick) + 3:.1f}" text-anchor="end">{number(tick, 1)}</text>\n'
    ends = (MOST, MOST / TWICE), (MOST / TWICE, MOST)
    for end_x, end_y in ends:
        yield f'<path class="g" d="M{_place(0):.1f} {zero:.1f}L{_place(end_x):.1f} {SIDE - _place(end_y):.1f}"/>\n'
    least = _place(LEAST_SHARE)
    yield f'<path class="g" d="M{_place(LEAST):.1f} {SIDE - least:.1f}H{least:.1f}V{SIDE}"/>\n'
    for one in heads:
        yield _point(one)


def _axes(ticks: Sequence[float], at: Sequence[float]) -> Iterator[str]:
    yield f'<path class="a" d="M0 0V{SIDE}H{SIDE}"/>\n'
    for tick, x in zip(ticks, at, strict=True):
        yield (
            f'<path class="a" d="M{x:.1f} {SIDE}v4"/>'
            f'<text class="s" x="{x:.1f}" y="{SIDE + 15}" text-anchor="middle">{number(tick, 1)}</text>\n'
        )


def _point(one: HeadKind) -> str:
    distance, tokens = one.shares["unique_distance"], one.shares["unique_tokens"]
    x, y = _place(distance.value), SIDE - _place(tokens.value)
    bars = (
        f"M{_place(distance.low):.1f} {y:.1f}H{_place(distance.high):.1f}"
        f"M{x:.1f} {SIDE - _place(tokens.low):.1f}V{SIDE - _place(tokens.high):.1f}"
    )
    colour = COLOURS[one.kind]
    within = "" if one.beyond_twins else ", within random twins"
    pale = "" if one.beyond_twins else ' class="p"'
    title = (
        f"{one.head}: {one.kind}, distance {number(distance.value)}, tokens {number(tokens.value)}{within}"
    )
    return (
        f'<g{pale} fill="{colour}" stroke="{colour}"><title>{title}</title><path class="e" d="{bars}"/>'
        f"{_mark(one.kind, x, y)}</g>\n"
    )


def _mark(kind: Kind, x: float, y: float) -> str:
    """A shape for each kind, so that colour is not needed; hollow where the kind is not known."""
    if kind == "positional":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
    if kind == "semantic":
        return f'<path d="M{x - 3:.1f} {y - 3:.1f}h6v6h-6z"/>'
    if kind == "syntactic":
        return f'<path d="M{x:.1f} {y - 4:.1f}l4 7h-8z"/>'
    if kind == "mixed":
        return f'<path d="M{x:.1f} {y - 4:.1f}l4 4l-4 4l-4 -4z"/>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="none"/>'


def _histogram(models: Mapping[str, Sequence[HeadKind]]) -> Iterator[str]:
    """How many heads of all models lie where on the balance, from tokens to distance."""
    everyone = [one for heads in models.values() for one in heads if one.nearest != "even"]
    values = [one.balance.value for one in everyone if one.balance is not None]
    counts = [0] * BINS
    for value in values:
        counts[min(max(int((value + 1) / 2 * BINS), 0), BINS - 1)] += 1
    most = max(counts) or 1
    yield f'<text class="t" y="-8">balance of {len(values)} heads</text>\n'
    yield from _axes((-1.0, 0.0, 1.0), (0.0, SIDE / 2, float(SIDE)))
    yield f'<text class="s" x="-6" y="14" text-anchor="end">{max(counts)}</text>\n'
    width = SIDE / BINS
    for i, count in enumerate(counts):
        tall = (SIDE - 12) * count / most
        low, high = (number(2 * edge / BINS - 1, 1) for edge in (i, i + 1))
        yield (
            f'<rect x="{i * width + 0.5:.1f}" y="{SIDE - tall:.1f}" width="{width - 1:.1f}" height="{tall:.1f}" '
            f'fill="#777"><title>{low} to {high}: {count}</title></rect>\n'
        )
    for third in (SIDE / 3, 2 * SIDE / 3):
        yield f'<path class="g" d="M{third:.1f} 0V{SIDE}"/>\n'
    yield f'<text class="s" y="{SIDE + 30}">tokens alone</text>\n'
    yield f'<text class="s" x="{SIDE}" y="{SIDE + 30}" text-anchor="end">distance alone</text>\n'
