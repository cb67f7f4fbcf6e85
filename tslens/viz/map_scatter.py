"""What components take from a readout against what they cost in all, as SVG, one drawing for each readout.

Across: total loss, nats per token, its root, so that small costs are seen; upward: share of the readout that is lost.
The line is what random sets of heads and neurons lose at the cost of each component: what stands above it is lost
beyond like components.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tslens.link.map_report import MapRow
from tslens.viz.map_words import percent, spoken
from tslens.viz.page import escape, number, signed

WIDTH, HEIGHT = 760, 400
LEFT, RIGHT, TOP, FOOT = 58, 120, 16, 44
LEAST_SHARE, MOST_SHARE = -0.5, 1.5  # beyond them a point stands at the edge
X_TICKS = (-1.0, -0.3, -0.1, -0.03, 0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
Y_STEPS = (0.02, 0.05, 0.1, 0.2, 0.5)
MOST_LABELS = 24
MOST_LETTERS = 18
LETTER, LINE = 6.4, 13.0  # of a label, in pixels


@dataclass(frozen=True)
class Scale:
    """Where a cost and a share stand on the drawing. ``x``, ``y``: least and largest of both axes."""

    x: tuple[float, float]
    y: tuple[float, float]

    @classmethod
    def of(cls, rows: Sequence[MapRow]) -> Scale:
        """Axes that hold all rows, zero, and what is expected of them."""
        costs = [row.delta_loss_nats for row in rows]
        shares = [0.0, 0.1, *(row.share.value for row in rows)]
        shares += [row.expected / row.whole for row in rows if row.expected is not None]
        least, most = max(min(shares), LEAST_SHARE), min(max(shares), MOST_SHARE)
        margin = 0.05 * (most - least)
        return cls((min(0.0, *costs), max(0.01, *costs)), (least - margin, most + margin))

    def across(self, cost: float) -> float:
        """Pixels from the left."""
        low, high = _root(self.x[0]), _root(self.x[1])
        return LEFT + (WIDTH - LEFT - RIGHT) * (_root(cost) - low) / (high - low)

    def down(self, share: float) -> float:
        """Pixels from the top."""
        low, high = self.y
        within = min(max(share, low), high)
        return TOP + (HEIGHT - TOP - FOOT) * (high - within) / (high - low)


def scatter(rows: Sequence[MapRow]) -> str:
    """The drawing of one readout. ``rows``: of it, by the mean. Equal input gives equal text."""
    scale = Scale.of(rows)
    parts = [*_axes(scale), _expected(rows, scale)]
    parts += [
        _point(row, scale) for row in sorted(rows, key=lambda row: row.status in ("carries", "candidate"))
    ]
    parts += _labels([row for row in rows if row.status == "carries"][:MOST_LABELS], scale)
    title = f"{spoken(rows[0].measure)}: share lost by total loss, {len(rows)} components"
    return (
        f'<svg class="scatter" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">\n'
        f"{''.join(parts)}</svg>\n"
    )


def _root(value: float) -> float:
    return math.copysign(math.sqrt(abs(value)), value)


def _axes(scale: Scale) -> Iterator[str]:
    foot, side = HEIGHT - FOOT, WIDTH - RIGHT
    yield f'<path class="axis" d="M{LEFT} {TOP}V{foot}H{side}"/>\n'
    last = -math.inf
    for tick in X_TICKS:
        if not scale.x[0] <= tick <= scale.x[1] or scale.across(tick) < last + 36:
            continue
        last = scale.across(tick)
        yield (
            f'<path class="axis" d="M{last:.1f} {foot}v5"/>'
            f'<text x="{last:.1f}" y="{foot + 18}" text-anchor="middle">{number(tick, 2) if tick else 0}</text>\n'
        )
    low, high = scale.y
    step = next((step for step in Y_STEPS if (high - low) / step <= 7), Y_STEPS[-1])
    for i in range(math.ceil(low / step), math.floor(high / step) + 1):
        y = scale.down(i * step)
        kind = "zero" if i == 0 else "grid"
        yield (
            f'<path class="{kind}" d="M{LEFT} {y:.1f}H{side}"/>'
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{percent(i * step)}</text>\n'
        )
    yield f'<text x="{side}" y="{HEIGHT - 6}" text-anchor="end">total loss, nats per token (root)</text>\n'
    yield f'<text x="{LEFT}" y="{HEIGHT - 6}">upward: share lost</text>\n'


def _expected(rows: Sequence[MapRow], scale: Scale) -> str:
    known = sorted(
        (row.delta_loss_nats, row.expected / row.whole) for row in rows if row.expected is not None
    )
    if len(known) < 2:
        return ""
    places = "L".join(f"{scale.across(cost):.1f} {scale.down(share):.1f}" for cost, share in known)
    return f'<path class="expected" d="M{places}"><title>random components of like cost</title></path>\n'


def _point(row: MapRow, scale: Scale) -> str:
    x, y = scale.across(row.delta_loss_nats), scale.down(row.share.value)
    share = row.share
    expected = "none" if row.expected is None else percent(row.expected / row.whole)
    title = (
        f"{spoken(row.component)}: {percent(share.value)} lost ({percent(share.low_corrected)} to "
        f"{percent(share.high_corrected)}), loss {signed(row.delta_loss_nats, 3)}, random ones of like cost "
        f"{expected}, {row.status}"
    )
    if row.status == "carries":
        mark = f'<path d="M{x:.1f} {y - 6:.1f}l6 6l-6 6l-6 -6z"/>'
    else:
        mark = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{4.5 if row.status == "candidate" else 3.5}"/>'
    return f'<g class="{row.status}"><title>{escape(title)}</title>{mark}</g>\n'


def _labels(rows: Sequence[MapRow], scale: Scale) -> Iterator[str]:
    """Names to the right of their points, each moved down until it is free of those before."""
    taken: list[tuple[float, float, float]] = []  # left, right, base
    for row in sorted(rows, key=lambda row: -row.share.value):
        name = spoken(row.component)
        name = name if len(name) <= MOST_LETTERS else f"{name[: MOST_LETTERS - 1]}…"
        x, y = scale.across(row.delta_loss_nats) + 9, scale.down(row.share.value) + 4
        end = x + LETTER * len(name)
        while any(x < right and left < end and abs(y - base) < LINE for left, right, base in taken):
            y += LINE
        taken.append((x, end, y))
        yield f'<text class="name" x="{x:.1f}" y="{y:.1f}">{escape(name)}</text>\n'
