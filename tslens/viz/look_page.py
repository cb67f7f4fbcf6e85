"""The page of ``tslens look``: what each head attends to in one pasted text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tslens.types import HeadId
from tslens.viz.page import build_page, escape, limits_section, number, room_left, write_page
from tslens.viz.patterns import CHART_TOKENS, ExamplePattern, heads_that_fit, panel, story_data, wall

MAX_TOKENS = 256
"""Patterns on this page show the first tokens of the text, up to this many."""

_NOTE_BYTES = 1000


def write_look_page(
    path: Path,
    *,
    title: str,
    model: str,
    header: Mapping[str, str],
    tokens: list[str],
    patterns: dict[HeadId, np.ndarray],
    selected: HeadId | None,
    losses: np.ndarray | None,
    cannot_tell: Sequence[str],
) -> None:
    """Write the page of one text: its tokens, how well each was predicted, and every head's attention.

    ``tokens``: the first one ``<|endoftext|>``. ``patterns``: per head, probabilities ``[query key]``.
    ``selected``: the head shown first, by default the first. ``losses``: nats per token ``[token]``, NaN
    where nothing predicts the token (the first). Equal input gives equal bytes.
    Raises RunError where ``path`` cannot be written.
    """
    example = ExamplePattern(title=title, tokens=tokens, patterns=patterns)
    first = [selected] if selected in patterns else []
    order = [*first, *(head for head in sorted(patterns) if head not in first)]

    def page(kept: Sequence[HeadId]) -> str:
        return build_page(
            title=title,
            lead=_summary(model, tokens, patterns, losses),
            header={"model": model, **header},
            main=(_surprise(tokens, losses) if losses is not None else "")
            + _attention(tokens, order, kept)
            + limits_section(cannot_tell),
            data={
                "selected": str(order[0]) if order else None,
                "heads": {str(head): {} for head in sorted(patterns)},
                "stories": [story_data(example, kept, MAX_TOKENS)],
                "chart_tokens": CHART_TOKENS,
            },
            scripts=("view.js",),
        )

    room = room_left(page([])) - _NOTE_BYTES
    write_page(path, page(heads_that_fit([example], order, room, MAX_TOKENS)))


def _summary(
    model: str, tokens: Sequence[str], patterns: Mapping[HeadId, np.ndarray], losses: np.ndarray | None
) -> str:
    said = f"Where the {len(patterns)} heads of {model} look in this text of {len(tokens)} tokens"
    known = np.asarray([], dtype=np.float64) if losses is None else losses[np.isfinite(losses)]
    if not len(known):
        return f"{said}."
    return f"{said}, which the model predicts at {number(float(known.mean()))} nats per token."


def _surprise(tokens: Sequence[str], losses: np.ndarray) -> str:
    """Tokens coloured by their loss, readable without scripts."""
    darkest = 8.0
    spans = []
    for token, loss in zip(tokens, losses.tolist(), strict=True):
        known = np.isfinite(loss)
        tint = min(1.0, loss / darkest) if known else 0.0
        title = f"{number(loss)} nats" if known else "not predicted"
        line = "<br>" if token.endswith("\n") else ""
        spans.append(f'<span class="n" style="--x:{tint:.2f}" title="{title}">{escape(token)}</span>{line}')
    scale = "".join(
        f'<span class="n" style="--x:{step / darkest:.2f}">{step}</span>' for step in (0, 2, 4, 6, 8)
    )
    return (
        '<section id="surprise">\n<h2>How surprising each token was</h2>\n'
        f'<p class="legend"><span>loss, nats</span> <span class="swatches">{scale}</span></p>\n'
        f'<p class="text">{"".join(spans)}</p>\n</section>\n'
    )


def _attention(tokens: Sequence[str], order: Sequence[HeadId], kept: Sequence[HeadId]) -> str:
    notes = []
    if len(tokens) > MAX_TOKENS:
        notes.append(f"Attention is shown for the first {MAX_TOKENS} of {len(tokens)} tokens.")
    if len(tokens) > CHART_TOKENS:
        notes.append(f"The whole pattern is drawn for the first {CHART_TOKENS}.")
    if len(kept) < len(order):
        notes.append(f"To stay below 5 MB the page holds {len(kept)} of {len(order)} heads.")
    return (
        f'<section id="overview" class="split">\n{wall("Heads", "Choose a head.")}'
        f"{panel('On this text', ' '.join(notes))}</section>\n"
    )
