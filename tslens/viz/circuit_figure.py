"""The circuit of one prediction as a drawing: tokens below, layers upward, the logits on top.

1. Nodes stand in rows: the heads of each layer, its MLP, at last the logits; each near what it reads.
2. A line is an edge: as wide as what the circuit loses without it, blue and whole where it speaks for the right token,
   orange and dashed where it speaks for the wrong one.
3. A line that passes a row goes through the gap between boxes that is nearest to its straight way, upright while it
   is there, beside the other lines of the gap.
4. Below the name of a head stand the tokens that it looks at most from the last position.

The drawing is one SVG file that needs nothing else; its ground is white, so that it reads anywhere.
"""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from tslens.causal.ablation import LayerId
from tslens.causal.path_graph import Logits, TokenAt
from tslens.files import atomic_write
from tslens.link.circuit_report import Circuit, CircuitEdge, most_attended, shown
from tslens.types import HeadId
from tslens.viz.page import escape, number, signed

Patterns = Mapping[HeadId, np.ndarray]
"""Attention [query_pos key_pos] of each head in the whole model."""
Node = TokenAt | HeadId | LayerId | Logits

COLUMN = 24  # pixels for a token
BOX = 116  # of a head
BOX_TALL = 34
BETWEEN = 36  # two boxes at least
ROW = 104  # from one row of nodes to the next
SIDE = 28  # left and right of the drawing
LEAST_WIDTH = 860
LINE_TALL = 16  # of words
LETTER = 5.7  # width of one of a token's name
BOLD_LETTER, SMALL_LETTER = 7.8, 6.0  # of the heading, of what stands below it
CLEAR = 7  # between a line and a box that it passes
LANE = 6  # between two lines that pass together
LEAST_WIDE, MOST_WIDE = 0.7, 7.0  # of a line
MOST_EDGES = 150  # that are drawn, the strongest
MOST_TOKENS = 48  # of a prompt that is shown whole
MOST_LETTERS = 12  # of a token's name
FOR, AGAINST = "#1f6fb4", "#c2410c"
_STYLE = (
    ".circuit text{font:12px system-ui,sans-serif;fill:#222}.circuit .t{font-weight:600}"
    ".circuit .s{font-size:10.5px;fill:#555}.circuit .o{fill:#999}.circuit .e{fill:none;stroke-linecap:round}"
    ".circuit .b{fill:#fff;stroke:#555}"
)


def write_circuit_figure(path: Path, circuit: Circuit, patterns: Patterns, heading: str = "") -> None:
    """Draw a circuit to an SVG file, whole or not at all."""
    with atomic_write(path) as file:
        file.write(circuit_figure(circuit, patterns, heading))


def circuit_figure(circuit: Circuit, patterns: Patterns, heading: str = "") -> str:
    """The drawing as SVG, below a heading where there is one. Equal input gives equal text."""
    edges = circuit.edges[:MOST_EDGES]
    shown_tokens = _shown_tokens(circuit, edges)
    rows = _rows(edges)
    width = max(COLUMN * len(shown_tokens), (BOX + BETWEEN) * max(map(len, rows)), LEAST_WIDTH) + 2 * SIDE
    words, top = _words(circuit, edges, heading, width)
    foot = top + ROW * len(rows)  # where lines leave the tokens
    tall = max(len(_name(circuit.tokens[pos])) for pos in shown_tokens) * LETTER
    height = int(foot + tall + 30)
    step = (width - 2 * SIDE) / len(shown_tokens)
    place: dict[Node, tuple[float, float]] = {
        TokenAt(pos): (SIDE + (i + 0.5) * step, foot) for i, pos in enumerate(shown_tokens)
    }
    for i, row in enumerate(rows):
        y = foot - ROW * (i + 1) + BOX_TALL
        place |= {node: (x, y) for node, x in _spread(row, edges, place, width)}
    lanes = _lanes(edges, rows, place, width)
    most = max((abs(edge.effect_inside) for edge in edges), default=1.0) or 1.0
    parts = [
        *words,
        *(_line(edge, place, lanes[edge], most) for edge in reversed(edges)),  # the strongest on top
        *(_box(circuit, node, *place[node], patterns) for row in rows for node in row),
        *_tokens(circuit, shown_tokens, place, {edge.sender for edge in edges}),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="circuit" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img">\n<title>The paths to {_quoted(circuit.right)}</title>\n'
        f'<style>{_STYLE}</style>\n<rect width="{width}" height="{height}" fill="#fff"/>\n{"".join(parts)}</svg>\n'
    )


def figure(value: float, digits: int = 2) -> str:
    """A number of nats with its sign; what rounds to nothing is +0."""
    return signed(round(value, digits) + 0.0, digits)


def percent(share: float) -> str:
    """A share in hundredths."""
    return f"{number(round(100 * share) + 0.0, 0)}%"


def _rows(edges: Sequence[CircuitEdge]) -> list[list[Node]]:
    """Nodes above the tokens, from below: the heads of each layer, its MLP, at last the logits."""
    of_row: dict[tuple[int, int], set[Node]] = defaultdict(set)
    for edge in edges:
        for node in (edge.sender, edge.receiver):
            if isinstance(node, HeadId | LayerId):
                of_row[node.layer, int(isinstance(node, LayerId))].add(node)
    return [*(sorted(of_row[key], key=str) for key in sorted(of_row)), [Logits()]]


def _spread(
    row: Sequence[Node],
    edges: Sequence[CircuitEdge],
    place: Mapping[Node, tuple[float, float]],
    width: float,
) -> Iterator[tuple[Node, float]]:
    """Nodes of a row with their places across: in the order of where what they read stands, at even steps.

    MLPs above the first stand right and left of the middle in turn, so that what passes one of them is seen.
    """

    def middle(node: Node) -> float:
        into = [(place[edge.sender][0], abs(edge.effect_inside)) for edge in edges if edge.receiver == node]
        weight = sum(one for _, one in into)
        return sum(x * one for x, one in into) / weight if weight else width / 2

    if isinstance(row[0], LayerId) and any(isinstance(node, LayerId) for node in place):
        yield row[0], width * (0.62 if row[0].layer % 2 else 0.36)
        return
    ordered = sorted(row, key=lambda node: (middle(node), str(node)))
    step = (width - 2 * SIDE) / len(ordered)
    for i, node in enumerate(ordered):
        yield node, SIDE + (i + 0.5) * step


def _lanes(
    edges: Sequence[CircuitEdge],
    rows: Sequence[Sequence[Node]],
    place: Mapping[Node, tuple[float, float]],
    width: float,
) -> dict[CircuitEdge, list[tuple[float, float]]]:
    """Where each line passes the rows between its ends, from below."""
    level = {node: i + 1 for i, row in enumerate(rows) for node in row}  # tokens: 0
    lanes: dict[CircuitEdge, list[tuple[float, float]]] = {edge: [] for edge in edges}
    for i, row in enumerate(rows, 1):
        wishes: dict[tuple[float, float], list[tuple[float, int]]] = defaultdict(list)
        gaps = _gaps([place[node][0] for node in row], width)
        for nth, edge in enumerate(edges):
            low, high = level.get(edge.sender, 0), level[edge.receiver]
            if low < i < high:
                start, end = place[edge.sender][0], place[edge.receiver][0]
                x = start + (end - start) * (i - low) / (high - low)
                gap = min(gaps, key=lambda one: max(one[0] - x, x - one[1]))
                wishes[gap].append((min(max(x, gap[0]), gap[1]), nth))
        for gap, wanted in wishes.items():
            wanted.sort()
            for x, (_, nth) in zip(_apart([x for x, _ in wanted], gap), wanted, strict=True):
                lanes[edges[nth]].append((x, place[row[0]][1]))
    return lanes


def _gaps(middles: Sequence[float], width: float) -> list[tuple[float, float]]:
    """What boxes of a row leave free, from left to right."""
    half = BOX / 2 + CLEAR
    ends = [SIDE / 2, *(x + side * half for x in sorted(middles) for side in (-1, 1)), width - SIDE / 2]
    return [(low, high) for low, high in zip(ends[::2], ends[1::2], strict=True) if low < high]


def _apart(wishes: Sequence[float], gap: tuple[float, float]) -> list[float]:
    """Places within a gap near the wishes, which stand in order, so that no two lines lie on each other."""
    apart = min(LANE, (gap[1] - gap[0]) / max(len(wishes) - 1, 1))
    found: list[float] = []
    for i, x in enumerate(wishes):
        last = gap[1] - (len(wishes) - 1 - i) * apart  # room for those that follow
        found.append(min(max(x, found[-1] + apart if found else x), last))
    return found


def _line(
    edge: CircuitEdge,
    place: Mapping[Node, tuple[float, float]],
    lanes: Sequence[tuple[float, float]],
    most: float,
) -> str:
    (x, y), (end_x, end_y) = place[edge.sender], place[edge.receiver]
    half = BOX_TALL / 2
    if not isinstance(edge.sender, TokenAt):
        y -= half
    way = f"M{x:.1f} {y:.1f}"
    for lane_x, lane_y in lanes:
        way += f"{_curve(x, y, lane_x, lane_y + half)}V{lane_y - half:.1f}"
        x, y = lane_x, lane_y - half
    way += _curve(x, y, end_x, end_y + half)
    wide = LEAST_WIDE + (MOST_WIDE - LEAST_WIDE) * abs(edge.effect_inside) / most
    is_for = edge.effect_inside >= 0
    dashed = "" if is_for else f' stroke-dasharray="{2 + 2 * wide:.1f} {1 + wide:.1f}" stroke-linecap="butt"'
    return (
        f'<path class="e" d="{way}" stroke="{FOR if is_for else AGAINST}" stroke-width="{wide:.2f}" '
        f'stroke-opacity="0.8"{dashed}>'
        f"<title>{edge.sender} to {edge.receiver}: {figure(edge.effect_inside)}</title></path>\n"
    )


def _curve(x: float, y: float, end_x: float, end_y: float) -> str:
    """From one point up to another, upright at both."""
    middle = (y + end_y) / 2
    return f"C{x:.1f} {middle:.1f} {end_x:.1f} {middle:.1f} {end_x:.1f} {end_y:.1f}"


def _box(circuit: Circuit, node: Node, x: float, y: float, patterns: Patterns) -> str:
    below = ""
    name = _quoted(circuit.right) if isinstance(node, Logits) else str(node)
    if isinstance(node, HeadId) and node in patterns:
        looks = most_attended(patterns[node][-1].tolist(), 2)
        below = " ".join(
            f"{_name(circuit.tokens[one.pos], 6)}\N{NO-BREAK SPACE}{f'{one.share:.2f}'.lstrip('0')}"
            for one in looks
        )
    corner = BOX_TALL / 2 if not isinstance(node, HeadId) else 5
    text = (
        f'<text class="t" x="{x:.1f}" y="{y + (-2 if below else 4):.1f}" text-anchor="middle">{name}</text>'
    )
    if below:
        text += f'<text class="s" x="{x:.1f}" y="{y + 12:.1f}" text-anchor="middle">{escape(below)}</text>'
    return (
        f'<rect class="b" x="{x - BOX / 2:.1f}" y="{y - BOX_TALL / 2:.1f}" width="{BOX}" height="{BOX_TALL}" '
        f'rx="{corner:.0f}"/>{text}\n'
    )


def _shown_tokens(circuit: Circuit, edges: Sequence[CircuitEdge]) -> list[int]:
    """Positions of the prompt that are shown: all, or of a long one those that send something and the last."""
    last = len(circuit.tokens) - 1
    if last < MOST_TOKENS:
        return list(range(last + 1))
    return sorted({edge.sender.pos for edge in edges if isinstance(edge.sender, TokenAt)} | {last})


def _tokens(
    circuit: Circuit,
    shown: Sequence[int],
    place: Mapping[Node, tuple[float, float]],
    senders: set[TokenAt | HeadId | LayerId],
) -> Iterator[str]:
    """The prompt, set upright from the foot down; tokens that send nothing are pale."""
    for pos in shown:
        x, y = place[TokenAt(pos)]
        pale = "" if TokenAt(pos) in senders else ' class="o"'
        yield (
            f'<text{pale} transform="translate({x + 4:.1f} {y + 8:.1f}) rotate(-90)" text-anchor="end">'
            f"{escape(_name(circuit.tokens[pos]))}</text>\n"
        )


def _words(
    circuit: Circuit, edges: Sequence[CircuitEdge], heading: str, width: float
) -> tuple[list[str], int]:
    """The heading, what the drawing means, its colours; and where all that ends."""
    key = (
        "The wider a line, the more the circuit's difference changes when this path alone is cut. Below a head: where "
        "it looks from the last token."
    )
    if len(edges) < len(circuit.edges):
        key += f" The strongest {len(edges)} paths are drawn."
    lines = [
        (kind, line)
        for kind, text, letter in (("t", heading, BOLD_LETTER), ("s", key, SMALL_LETTER))
        for line in textwrap.wrap(text, int((width - 2 * SIDE) / letter))
    ]
    parts = [
        f'<text class="{kind}" x="{SIDE}" y="{20 + LINE_TALL * i}">{escape(line)}</text>\n'
        for i, (kind, line) in enumerate(lines)
    ]
    x, y = SIDE, 20 + LINE_TALL * len(lines)
    for colour, dash, token in ((FOR, "", circuit.right), (AGAINST, "8 5", circuit.wrong)):
        parts.append(
            f'<path class="e" d="M{x} {y - 4}h34" stroke="{colour}" stroke-width="4" stroke-dasharray="{dash}" '
            f'stroke-linecap="butt"/><text class="s" x="{x + 40}" y="{y}">speaks for {_quoted(token)}</text>\n'
        )
        x += 190
    parts.append(f'<text class="s o" x="{x}" y="{y}">grey: a token whose paths are all cut</text>\n')
    return parts, y + 8


def _name(token: str, most: int = MOST_LETTERS, *, is_next: bool = False) -> str:
    """A token's name as it is shown, cut."""
    name = shown(token, is_next=is_next)
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _quoted(token: str) -> str:
    return f"“{escape(_name(token, is_next=True))}”"
