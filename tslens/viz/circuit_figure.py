"""The circuit of one prediction as a drawing: tokens below, layers upward, the logits on top.

A line is an edge: as wide as what the circuit loses without it, blue and whole where it speaks for the right token,
orange and dashed where it speaks for the wrong one. Below the name of a head stand the tokens that it looks at most
from the last position. The drawing is one SVG file that needs nothing else; its ground is white, so that it reads
anywhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from tslens.causal.ablation import LayerId
from tslens.causal.path_graph import Logits, TokenAt
from tslens.files import atomic_write
from tslens.link.circuit_report import Circuit, CircuitEdge, most_attended
from tslens.types import HeadId
from tslens.viz.page import escape, signed

Patterns = Mapping[HeadId, np.ndarray]
"""Attention [query_pos key_pos] of each head in the whole model."""
Node = TokenAt | HeadId | LayerId | Logits

COLUMN = 24  # pixels for a token
BOX = 116  # of a head
BOX_TALL = 34
ROW = 104  # from one row of nodes to the next
SIDE, TOP = 28, 78  # left and right of the drawing, above it
LETTER = 5.7  # width of one of a token's name
LEAST_WIDE, MOST_WIDE = 0.7, 7.0  # of a line
MOST_EDGES = 150  # that are drawn, the strongest
MOST_TOKENS = 48  # of a prompt that is shown whole
MOST_LETTERS = 12  # of a token's name
FOR, AGAINST = "#1f6fb4", "#c2410c"
_STYLE = (
    ".circuit text{font:12px system-ui,sans-serif;fill:#222}.circuit .t{font-weight:600}"
    ".circuit .s{font-size:10px;fill:#555}.circuit .o{fill:#b0b0b0}.circuit .e{fill:none;stroke-linecap:round}"
    ".circuit .b{fill:#fff;stroke:#555}"
)


def write_circuit_figure(path: Path, circuit: Circuit, patterns: Patterns) -> None:
    """Draw a circuit to an SVG file, whole or not at all."""
    with atomic_write(path) as file:
        file.write(circuit_figure(circuit, patterns))


def circuit_figure(circuit: Circuit, patterns: Patterns) -> str:
    """The drawing as SVG. Equal input gives equal text."""
    edges = circuit.edges[:MOST_EDGES]
    shown = _shown_tokens(circuit, edges)
    rows = _rows(edges)
    width = 2 * SIDE + max(COLUMN * len(shown), (BOX + 12) * max(map(len, rows)), 560)
    foot = TOP + ROW * len(rows)  # where lines leave the tokens
    tall = max(len(_name(circuit.tokens[pos])) for pos in shown) * LETTER
    height = int(foot + tall + 30)
    step = (width - 2 * SIDE) / len(shown)
    place: dict[Node, tuple[float, float]] = {
        TokenAt(pos): (SIDE + (i + 0.5) * step, foot) for i, pos in enumerate(shown)
    }
    for number, row in enumerate(rows):
        y = foot - ROW * (number + 1) + BOX_TALL
        place |= {node: (x, y) for node, x in _spread(row, edges, place, width)}
    most = max((abs(edge.effect_inside) for edge in edges), default=1.0) or 1.0
    parts = [
        *_words(circuit, edges),
        *(_line(edge, place, most) for edge in reversed(edges)),  # the strongest on top
        *(_box(circuit, node, *place[node], patterns) for row in rows for node in row),
        *_tokens(circuit, shown, place, {edge.sender for edge in edges}),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="circuit" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img">\n<title>The paths to {_quoted(circuit.right)}</title>\n'
        f'<style>{_STYLE}</style>\n<rect width="{width}" height="{height}" fill="#fff"/>\n{"".join(parts)}</svg>\n'
    )


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


def _line(edge: CircuitEdge, place: Mapping[Node, tuple[float, float]], most: float) -> str:
    (x, y), (end_x, end_y) = place[edge.sender], place[edge.receiver]
    if not isinstance(edge.sender, TokenAt):
        y -= BOX_TALL / 2
    end_y += BOX_TALL / 2
    bend = (y - end_y) / 2
    wide = LEAST_WIDE + (MOST_WIDE - LEAST_WIDE) * abs(edge.effect_inside) / most
    is_for = edge.effect_inside >= 0
    dashed = "" if is_for else f' stroke-dasharray="{2 + 2 * wide:.1f} {1 + wide:.1f}" stroke-linecap="butt"'
    return (
        f'<path class="e" d="M{x:.1f} {y:.1f}C{x:.1f} {y - bend:.1f} {end_x:.1f} {end_y + bend:.1f} {end_x:.1f} '
        f'{end_y:.1f}" stroke="{FOR if is_for else AGAINST}" stroke-width="{wide:.2f}" stroke-opacity="0.8"{dashed}>'
        f"<title>{edge.sender} to {edge.receiver}: {signed(edge.effect_inside)}</title></path>\n"
    )


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


def _words(circuit: Circuit, edges: Sequence[CircuitEdge]) -> Iterator[str]:
    of_all = f"{len(circuit.edges)} of {circuit.n_edges_whole} paths keep {100 * circuit.share:.0f}% of the difference"
    if len(edges) < len(circuit.edges):
        of_all = f"the strongest {len(edges)} of them drawn; {of_all}"
    lines = (
        f"{_quoted(circuit.right)} over {_quoted(circuit.wrong)}: {of_all}.",
        "A line is as wide as what the circuit loses without it. Below a head: what it looks at from the last token.",
    )
    for number, line in enumerate(lines):
        yield f'<text class="{"st"[number == 0]}" x="{SIDE}" y="{20 + 16 * number}">{line}</text>\n'
    x = SIDE
    for colour, dash, said in ((FOR, "", "for the first"), (AGAINST, "8 5", "for the second")):
        yield (
            f'<path class="e" d="M{x} 50h34" stroke="{colour}" stroke-width="4" stroke-dasharray="{dash}" '
            f'stroke-linecap="butt"/><text class="s" x="{x + 40}" y="54">{said}</text>\n'
        )
        x += 130


def _name(token: str, most: int = MOST_LETTERS) -> str:
    """A token's name as it is shown: cut, a blank in place of none."""
    name = token.strip(" ") or "\N{OPEN BOX}"
    name = "start" if name == "<|endoftext|>" else name
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _quoted(token: str) -> str:
    return f"“{escape(_name(token))}”"
