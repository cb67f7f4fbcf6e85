"""Attention patterns on a page: cropped, rounded to 1/255, packed, and no more of them than fit."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tslens.types import HeadId
from tslens.viz.page import escape, visible

CHART_TOKENS = 96
"""CircuitsVis draws the first tokens of a text, up to this many; more cannot be told apart."""


@dataclass(frozen=True)
class ExamplePattern:
    """What heads attend to in one story.

    ``tokens``: the story's tokens, the first one ``<|endoftext|>``. ``patterns``: per head, attention
    probabilities ``[query key]``, as long as ``tokens`` on both axes; a query sees only earlier keys and
    itself, so a crop to the first tokens loses nothing of them.
    """

    title: str
    tokens: list[str]
    patterns: dict[HeadId, np.ndarray]

    def __post_init__(self) -> None:
        n_tokens = len(self.tokens)
        for head, pattern in self.patterns.items():
            if pattern.shape != (n_tokens, n_tokens):
                raise ValueError(f"pattern of {head} has shape {pattern.shape}, not {(n_tokens, n_tokens)}")


def pack_pattern(pattern: np.ndarray, n_tokens: int) -> str:
    """Base64 of the lower triangle of the first ``n_tokens``, row after row, one byte for 0 to 1."""
    rows, columns = np.tril_indices(n_tokens)
    lower = np.nan_to_num(np.asarray(pattern, dtype=np.float64)[rows, columns])
    return base64.b64encode(np.rint(lower.clip(0, 1) * 255).astype(np.uint8).tobytes()).decode()


def heads_that_fit(
    examples: Sequence[ExamplePattern], order: Sequence[HeadId], room: int, max_tokens: int
) -> list[HeadId]:
    """The first heads of ``order`` whose patterns on all examples fit into ``room`` bytes."""
    kept = []
    for head in order:
        room -= sum(
            _packed_bytes(min(len(example.tokens), max_tokens), head)
            for example in examples
            if head in example.patterns
        )
        if room < 0:
            break
        kept.append(head)
    return kept


def _packed_bytes(n_tokens: int, head: HeadId) -> int:
    return 4 * -(-(n_tokens * (n_tokens + 1) // 2) // 3) + len(str(head)) + 6


def story_data(example: ExamplePattern, kept: Sequence[HeadId], max_tokens: int) -> Mapping[str, Any]:
    """One example as JSON for ``view.js``."""
    n_tokens = min(len(example.tokens), max_tokens)
    return {
        "title": visible(example.title),
        "tokens": [visible(token) for token in example.tokens[:n_tokens]],
        "patterns": {
            str(head): pack_pattern(example.patterns[head], n_tokens)
            for head in kept
            if head in example.patterns
        },
    }


PATTERN_AXES = "A row for each token that looks, a column for each token that is looked at."


def panel(place: str, note: str) -> str:
    """Where ``view.js`` shows the chosen head on a text; hidden without scripts."""
    return (
        '<article id="panel" aria-labelledby="head" hidden>\n'
        '<h2 id="head"></h2>\n<div id="says"></div>\n<div id="profile"></div>\n'
        f'<div id="stories">\n<div class="bar"><h3>{escape(place)}</h3>'
        '<select id="story" aria-label="Story"></select></div>\n'
        '<p class="hint">Choose a token: the stronger the colour of another one, the more the head looks at '
        "it from there.</p>\n"
        '<div id="text" role="group" aria-label="Tokens; arrow keys choose one"></div>\n'
        '<p id="looks" aria-live="polite"></p>\n'
        f'<h3>The whole pattern</h3>\n<p class="hint">{PATTERN_AXES}</p>\n<div id="pattern"></div>\n'
        f'<p class="hint">Attention is rounded to 1/255. {escape(note)}</p></div>\n</article>\n'
    )


def wall(heading: str, hint: str) -> str:
    """Where ``view.js`` draws every head's pattern small; hidden without scripts."""
    return (
        f'<div id="wall" hidden>\n<h2>{escape(heading)}</h2>\n'
        f'<p class="hint">{PATTERN_AXES} {escape(hint)}</p>\n<div></div></div>\n'
    )
