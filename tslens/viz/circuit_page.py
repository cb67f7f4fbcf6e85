"""The page of ``tslens circuit``: the drawing, what its numbers are, every edge, and where its heads look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tslens.causal.path_graph import TokenAt
from tslens.link.circuit_report import Circuit, CircuitEdge, most_attended, shown
from tslens.types import HeadId
from tslens.viz.circuit_figure import Node, Patterns, circuit_figure, figure, percent
from tslens.viz.page import (
    build_page,
    definitions,
    escape,
    limits_section,
    number,
    room_left,
    write_page,
)
from tslens.viz.patterns import CHART_TOKENS, ExamplePattern, heads_that_fit, panel, story_data, wall
from tslens.viz.sorted_table import Column, search, sorted_table

MAX_TOKENS = 256  # of a prompt whose patterns are shown
N_MOST = 4  # tokens that a head looks at, in words
_NOTE_BYTES = 1000
CANNOT_TELL = (
    "Whether the model does this on other prompts: one prompt is an example.",
    "Whether this is the only circuit: paths are cut in one order, and another order may leave other ones.",
    "What it is without its reference: what stands in for a cut path decides which paths are needed. The share with "
    "other stories says how far the circuit depends on it.",
    "At which position a head or MLP is needed, and whether a head needs a path for where it looks or for what it "
    "moves: both are one node at all positions.",
    "What the parts compute: a path says who reads whom, not what is read.",
)
NODES = (
    "A path here is one step: who writes, who reads. T4: the 4th token, T0 the start; L0H1: head 1 of layer 0; L0.mlp: "
    "the MLP of layer 0; logits: what decides the next token."
)
WEAK_NULL = "A weak null: the circuit was chosen for what it keeps, random paths were not."
_SCALED = (  # wide pages show the drawing larger, narrow ones scroll
    "<style>.box>.circuit{display:block;margin:0 auto;width:100%;min-width:600px;max-width:1220px;height:auto}"
    "#circuit .text{margin-bottom:0.75rem}</style>\n"
)
_COLUMNS = (
    Column("from", "", "ascending", "words"),
    Column("to", "", "ascending", "words"),
    Column("inside", "nats, cut from the circuit", "descending", "figure"),
    Column("whole", "nats, cut from the whole model", "descending", "figure"),
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
            header=header,
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
    """What was found, in a sentence or two that hold whichever way the prompt speaks."""
    first, second = next_tokens(circuit)
    random, other = circuit.random, circuit.other_stories
    found = (
        f"{len(circuit.edges)} of {circuit.n_edges_whole} paths move {first} over {second} from {figure(circuit.none)} "
        f"nats (no path) to {figure(circuit.inside)}; the whole model: {figure(circuit.whole)}. That is "
        f"{percent(circuit.share)} of the way; random paths: {percent(random.low)} to {percent(random.high)}"
        f"{'' if other is None else f'; on other stories: {percent(other)}'}."
    )
    if circuit.whole < circuit.none:
        found += f" The prompt speaks against {first}; it wins by what stands in for the cut paths."
    return found


def next_tokens(circuit: Circuit) -> tuple[str, str]:
    """The right and the wrong next token, quoted."""
    first, second = (f"“{shown(token, is_next=True)}”" for token in (circuit.right, circuit.wrong))
    return first, second


def figures(circuit: Circuit) -> dict[str, str]:
    """The numbers of a circuit, each in words."""
    random, (first, second) = circuit.random, next_tokens(circuit)
    told = {
        "whole model": f"{figure(circuit.whole)} nats, {first} over {second}",
        "no path": f"{figure(circuit.none)} nats, every path cut",
        "circuit": f"{figure(circuit.inside)} nats, {percent(circuit.share)} of the way from no path to the whole "
        "model; Kullback-Leibler divergence of its next token's distribution from the whole model's: "
        f"{number(circuit.divergence)} nats (no path: {number(circuit.divergence_none)})",
        "all but the circuit": f"{figure(circuit.outside)} nats, {percent(circuit.share_outside)} of the way",
        "random paths": f"{percent(random.median)} of the way in the median, {percent(random.low)} to "
        f"{percent(random.high)} from the 5th to the 95th percentile, over {random.n_draws} sets of as many; p "
        f"{number(random.p, 3)} that such a set comes as near to the whole model. {WEAK_NULL}",
    }
    if circuit.other_stories is not None:
        told["other stories"] = (
            f"{percent(circuit.other_stories)} of the way where cut paths carry what another story gives, over "
            f"{circuit.n_other_stories} stories that the search never saw"
        )
    return told


def effects(circuit: Circuit) -> str:
    """What the two numbers of a path are."""
    return (
        "inside: nats by which the circuit's difference falls when this path alone is cut; below 0: it rises, the path "
        f"speaks for {next_tokens(circuit)[1]}. whole: the same, cut from the whole model."
    )


def _drawing(circuit: Circuit, patterns: Patterns) -> str:
    return (
        f'<section id="circuit">\n<h2>The circuit</h2>\n{_SCALED}<p class="hint">{escape(NODES)}</p>\n'
        f'<p class="text">{escape("".join(circuit.tokens[1:]))}<b class=role>{escape(circuit.right)}</b></p>\n'
        '<div class="box" tabindex=0 role=region aria-label="The drawing">\n'
        f"{circuit_figure(circuit, patterns)}</div>\n</section>\n"
    )


def _numbers(circuit: Circuit, reference: str) -> str:
    return (
        f"<section>\n<h2>How much of it this is</h2>\n"
        f'<p class="hint">Along a cut path stands {escape(reference)}.</p>\n{definitions(figures(circuit))}</section>\n'
    )


def _attention(circuit: Circuit, patterns: Patterns, heads: Sequence[HeadId], kept: Sequence[HeadId]) -> str:
    notes = []
    if len(circuit.tokens) > MAX_TOKENS:
        notes.append(f"Attention is shown for the first {MAX_TOKENS} of {len(circuit.tokens)} tokens.")
    if len(kept) < len(heads):
        notes.append(f"To stay below 5 MB the page holds {len(kept)} of {len(heads)} heads.")
    looks = {
        str(head): ", ".join(
            f"“{shown(circuit.tokens[one.pos])}” {number(one.share)}"
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
        hint=f"{effects(circuit)} What no path runs along any more is cut with it.",
        label="Table of all paths of the circuit",
    )
    return f'<section id="measurements">\n<h2>Its paths</h2>\n{table}</section>\n'


def _row(circuit: Circuit, edge: CircuitEdge) -> str:
    cells = "".join(f"<td>{figure(value, 3)}</td>" for value in (edge.effect_inside, edge.effect))
    return (
        f"<tr><th scope=row>{escape(named(circuit, edge.sender))}</th>"
        f"<td>{escape(named(circuit, edge.receiver))}</td>{cells}</tr>\n"
    )


def named(circuit: Circuit, node: Node) -> str:
    """A node with its token, where it is one."""
    return f"{node} {shown(circuit.tokens[node.pos])}" if isinstance(node, TokenAt) else str(node)
