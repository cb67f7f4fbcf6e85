"""The page of ``tslens circuit``: the drawing, what its numbers are, every edge, and where its heads look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tslens.causal.path_graph import TokenAt
from tslens.link.circuit_report import Circuit, CircuitEdge, most_attended
from tslens.types import HeadId
from tslens.viz.circuit_figure import Node, Patterns, circuit_figure
from tslens.viz.page import (
    build_page,
    definitions,
    escape,
    limits_section,
    number,
    room_left,
    signed,
    write_page,
)
from tslens.viz.patterns import CHART_TOKENS, ExamplePattern, heads_that_fit, panel, story_data, wall
from tslens.viz.sorted_table import Column, search, sorted_table

MAX_TOKENS = 256  # of a prompt whose patterns are shown
N_MOST = 4  # tokens that a head looks at, in words
_NOTE_BYTES = 1000
CANNOT_TELL = (
    "Whether the model does this on other prompts: one prompt is an example.",
    "Whether this is the only circuit: edges are cut in one order, and another order may leave other ones.",
    "What it is without its reference: what stands in for a cut path decides which paths are needed. The share with "
    "other stories says how far the circuit depends on it.",
    "At which position a head or MLP is needed, and whether a head needs a path for where it looks or for what it "
    "moves: both are one node at all positions.",
    "What the parts compute: a path says who reads whom, not what is read.",
)
_COLUMNS = (
    Column("from", "", "ascending", "words"),
    Column("to", "", "ascending", "words"),
    Column("effect inside", "nats, cut from the circuit", "descending", "figure"),
    Column("effect", "nats, cut from the whole", "descending", "figure"),
)


def write_circuit_page(
    path: Path, circuit: Circuit, patterns: Patterns, *, model: str, reference: str, header: Mapping[str, str]
) -> None:
    """Write the page: one HTML file. Equal input gives equal bytes.

    ``patterns``: attention [query_pos key_pos] of the circuit's heads in the whole model. ``reference``: in words, what
    cut edges carry. Raises RunError where ``path`` cannot be written.
    """
    heads = [head for head in circuit.heads if head in patterns]
    cut = {head: np.asarray(patterns[head]) for head in heads}
    example = ExamplePattern(title="the prompt", tokens=list(circuit.tokens), patterns=cut)

    def page(kept: Sequence[HeadId]) -> str:
        return build_page(
            title=f"The paths behind one prediction of {model}",
            lead=summary(circuit),
            header={"model": model, **header},
            main=_drawing(circuit, patterns)
            + _numbers(circuit, reference)
            + _attention(circuit, patterns, heads, kept)
            + _edges(circuit)
            + limits_section(CANNOT_TELL),
            data={
                "selected": str(heads[0]) if heads else None,
                "heads": {str(head): {} for head in heads},
                "stories": [story_data(example, kept, MAX_TOKENS)],
                "chart_tokens": CHART_TOKENS,
            },
            scripts=("view.js", "table.js"),
        )

    room = room_left(page([])) - _NOTE_BYTES
    write_page(path, page(heads_that_fit([example], heads, room, MAX_TOKENS)))


def summary(circuit: Circuit) -> str:
    """What was found, in one sentence."""
    return (
        f"{len(circuit.edges)} of {circuit.n_edges_whole} paths keep {100 * circuit.share:.0f}% of why "
        f"“{circuit.right.strip() or circuit.right}” comes before “{circuit.wrong.strip() or circuit.wrong}”; random "
        f"paths of equal number keep {number(round(100 * circuit.random.median) + 0.0, 0)}%."
    )


def figures(circuit: Circuit) -> dict[str, str]:
    """The numbers of a circuit, each in words."""
    random = circuit.random
    told = {
        "whole model": f"{signed(circuit.whole)} nats between the two next tokens",
        "no path": f"{signed(circuit.none)} nats, every path cut",
        "circuit": f"{signed(circuit.inside)} nats, a share of {number(circuit.share)}; the whole prediction is then "
        f"{number(circuit.divergence)} nats away from the model's (no path: {number(circuit.divergence_none)})",
        "all but the circuit": f"{signed(circuit.outside)} nats, a share of {number(circuit.share_outside)}",
        "random paths": f"a share of {number(random.median)} (5th to 95th percentile {number(random.low)} to "
        f"{number(random.high)}) over {random.n_draws} sets of as many; p {number(random.p, 3)} of being as near to "
        "the whole",
    }
    if circuit.other_stories is not None:
        told["other stories"] = (
            f"a share of {number(circuit.other_stories)} where cut paths carry what another story gives, over "
            f"{circuit.n_other_stories} stories that the search never saw"
        )
    return told


def _drawing(circuit: Circuit, patterns: Patterns) -> str:
    return (
        '<section id="circuit">\n<h2>The circuit</h2>\n<p class="text">'
        f"{escape(''.join(circuit.tokens[1:]))}<b class=role>{escape(circuit.right)}</b></p>\n"
        '<div class="box" tabindex=0 role=region aria-label="The drawing">\n'
        f"{circuit_figure(circuit, patterns)}</div>\n</section>\n"
    )


def _numbers(circuit: Circuit, reference: str) -> str:
    return (
        f"<section>\n<h2>How much of it this is</h2>\n{definitions(figures(circuit))}"
        f'<p class="hint">Along a cut path stands {escape(reference)}. A share is of the difference with all paths '
        "beyond that with none.</p>\n</section>\n"
    )


def _attention(circuit: Circuit, patterns: Patterns, heads: Sequence[HeadId], kept: Sequence[HeadId]) -> str:
    notes = []
    if len(circuit.tokens) > MAX_TOKENS:
        notes.append(f"Attention is shown for the first {MAX_TOKENS} of {len(circuit.tokens)} tokens.")
    if len(kept) < len(heads):
        notes.append(f"To stay below 5 MB the page holds {len(kept)} of {len(heads)} heads.")
    looks = {
        str(head): ", ".join(
            f"“{_token(circuit, one.pos)}” {number(one.share)}"
            for one in most_attended(np.asarray(patterns[head])[-1].tolist(), N_MOST)
        )
        for head in heads
    }
    return (
        f'<section>\n<h2>Where its heads look</h2>\n<p class="hint">From the last token, in the whole model.</p>\n'
        f"{definitions(looks)}</section>\n"
        f'<section id="overview" class="split">\n{wall("Patterns", "Choose a head.")}'
        f"{panel('On the prompt', ' '.join(notes))}</section>\n"
    )


def _edges(circuit: Circuit) -> str:
    table = sorted_table(
        _COLUMNS,
        [_row(circuit, edge) for edge in circuit.edges],
        (search("from", "T5", 0, "contains"), search("to", "L0H3", 1, "contains")),
        hint="Above zero a path speaks for the right token, below for the wrong one. What no path runs along any more "
        "is cut with it.",
        label="Table of all paths of the circuit",
    )
    return f'<section id="measurements">\n<h2>Its paths</h2>\n{table}</section>\n'


def _row(circuit: Circuit, edge: CircuitEdge) -> str:
    cells = "".join(f"<td>{signed(value, 3)}</td>" for value in (edge.effect_inside, edge.effect))
    return (
        f"<tr><th scope=row>{escape(named(circuit, edge.sender))}</th>"
        f"<td>{escape(named(circuit, edge.receiver))}</td>{cells}</tr>\n"
    )


def named(circuit: Circuit, node: Node) -> str:
    """A node with its token, where it is one."""
    return f"{node} {_token(circuit, node.pos)}" if isinstance(node, TokenAt) else str(node)


def _token(circuit: Circuit, pos: int) -> str:
    token = circuit.tokens[pos]
    return token.strip() or token
