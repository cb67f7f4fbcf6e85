"""The figure of the paper's section 5.1 for any model: for each kind of head that it names, the best one here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tslens.types import HeadId, HeadScore
from tslens.viz.heads_words import RANK, STATUSES, by_strength, largest_null, looks, place, words
from tslens.viz.heat_map import head_link
from tslens.viz.page import escape, number
from tslens.viz.paragraph import KINDS, Kind, OnParagraph, Paragraph

_N_QUERIES = 3
_LEAST_SHOWN = 0.03  # attention below this leaves a token uncoloured


def paper_figure(paragraph: Paragraph, rows: Sequence[HeadScore]) -> str:
    """A panel for each kind: the head, its status and figures, and the tokens that it looks at.

    The head of a kind is the one of best status in the scan; among equals, the one that does it most on the paragraph.
    Kinds whose probes were not run are left out; without any, there is no figure.
    """
    panels = [_panel(kind, paragraph, rows) for kind in KINDS]
    if not any(panels):
        return ""
    return (
        '<section id="figure">\n<h2>The paper’s figure, for this model</h2>\n'
        '<p class="hint">Section 5.1 of the TinyStories paper shows the heads of one model on a paragraph about two '
        "people, a fruit and a park, in two kinds: by distance, and by meaning. Here are the same kinds of head in "
        "this model, on a paragraph of our own. Status and interval are those of the scan; the value on the paragraph "
        "has no null and no interval. Coloured is what the head looks at from the outlined tokens: the first, the "
        "middle and the last place where the question can be asked.</p>\n"
        f'<div class="panels">\n{"".join(panels)}</div>\n</section>\n'
    )


def best_on(
    paragraph: Paragraph, kind: Kind, rows: Sequence[HeadScore]
) -> tuple[HeadScore, OnParagraph] | None:
    """The row of a kind that is shown, and its measure on the paragraph; None where neither was measured."""
    measures = {(one.probe, one.position): one for one in paragraph.kinds.get(kind.title, ())}
    both = [(row, measures[row.probe, row.position]) for row in rows if (row.probe, row.position) in measures]
    both = [(row, one) for row, one in both if row.head in one.values]
    return min(
        both,
        key=lambda found: (RANK[found[0].status], -found[1].values[found[0].head], by_strength(found[0])),
        default=None,
    )


def _panel(kind: Kind, paragraph: Paragraph, rows: Sequence[HeadScore]) -> str:
    best = best_on(paragraph, kind, rows)
    if best is None:
        return ""
    row, measure = best
    null_name, null = largest_null(row)
    what = looks(row)
    noun = f" at “{kind.noun}”" if kind.noun is not None else ""
    here = f"{number(measure.values[row.head])}{noun} on this paragraph"
    scan = f"{number(row.value)} [{number(row.low)}, {number(row.high)}] over the stories of the scan"
    against = f"largest null {number(null)} ({words(null_name)})"
    if row.status == "no":
        figures = f"{what}: {scan}, {against}; {here}."
        return (
            f'<article class="none"><h3>{escape(kind.title)}</h3>\n<p>No head of this model does this beyond its '
            f"nulls. Nearest: {head_link(row.head)}, status no. {escape(figures)}</p></article>\n"
        )
    figures = f"{what}: {here}, {scan}, {against}."
    mark = f"{STATUSES[row.status][0]} {row.status}: {place(row)}"
    queries = _chosen(measure.queries)
    return (
        f"<article><h3>{escape(kind.title)}</h3>\n"
        f'<p>{head_link(row.head)} <b class="{row.status}">{escape(mark)}</b><br>{escape(figures)}</p>\n'
        f'<p class="text">{_coloured(paragraph, row.head, queries)}</p>\n'
        f'<p class="hint">{_in_words(paragraph, row.head, queries)}</p></article>\n'
    )


def _chosen(queries: Sequence[int]) -> list[int]:
    """The first, the middle and the last of the tokens that ask."""
    places = np.linspace(0, len(queries) - 1, min(_N_QUERIES, len(queries)))
    return [queries[round(at)] for at in places.tolist()]


def _coloured(paragraph: Paragraph, head: HeadId, queries: Sequence[int]) -> str:
    """The tokens, each as deep as the most that one of the queries pays it."""
    pattern, parts = paragraph.example.patterns[head], []
    depth = pattern[list(queries)].max(0)
    for index, token in enumerate(paragraph.example.tokens):
        text = escape(token.lstrip()) if index else "<small>start</small>"
        asks = " asks" if index in queries else ""
        if depth[index] >= _LEAST_SHOWN or asks:
            title = f"{depth[index]:.2f}"
            text = f'<span class="p{asks}" style="--x:{title}" title="{title}">{text}</span>'
        parts.append(" " * (token.startswith(" ") or index == 1) + text)
    return "".join(parts)


def _in_words(paragraph: Paragraph, head: HeadId, queries: Sequence[int]) -> str:
    """From each query the two tokens that it looks at most."""
    pattern = paragraph.example.patterns[head]
    names = ["the start", *(f"<q>{escape(token.strip())}</q>" for token in paragraph.example.tokens[1:])]
    said = []
    for query in queries:
        most = np.argsort(-pattern[query], kind="stable")[:2].tolist()
        seen = [
            f"{names[key]} {number(float(pattern[query, key]))}"
            for key in most
            if pattern[query, key] >= _LEAST_SHOWN
        ]
        said.append(f"from {names[query]} at {', '.join(seen) or f'nothing above {_LEAST_SHOWN}'}")
    text = "; ".join(said)
    return f"{text[:1].upper()}{text[1:]}."
