"""Heads of a model on the paragraph of the paper's figures 19 and 20, drawn for print: by distance, and by meaning.

Which head is shown is not chosen by eye: of each kind (``paragraph.KINDS``) the head of best status in a scan, among
equals the one that does it most on the paragraph (``paper_figure.best_on``).

Axes: query_pos, key_pos, distance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from tslens.types import HeadScore
from tslens.viz.figures import COLOURS, GREY, drawing
from tslens.viz.heads_words import largest_null, place
from tslens.viz.paper_figure import best_on
from tslens.viz.paragraph import KINDS, Kind, OnParagraph, Paragraph
from tslens.viz.print_text import Shaded, draw_tokens, row_inches, text_page, wrap_tokens, write_line

SCALES: Sequence[Kind] = KINDS[:4]
MEANINGS: Sequence[Kind] = KINDS[5:]  # "the previous word" is neither
MOST_DISTANCE = 40  # of the profiles
_INK = LinearSegmentedColormap.from_list("tslens ink", ["#ffffff", COLOURS[5], COLOURS[0], "#00263d"])
_TEXT_COLUMNS = 126
_STATUS = {"no": "no, within its nulls"}


@dataclass(frozen=True)
class ShownHead:
    """A head in a figure: the kind that it stands for, its row in the scan, and what it does on the paragraph."""

    kind: Kind
    row: HeadScore
    measure: OnParagraph

    @property
    def on_paragraph(self) -> float:
        """Mean attention to what the kind looks for, over the tokens that ask."""
        return self.measure.values[self.row.head]

    @property
    def most_on_paragraph(self) -> tuple[str, float]:
        """The head of the model that does it most on the paragraph, whatever its status."""
        head = max(self.measure.values, key=lambda one: (self.measure.values[one], -one.layer, -one.index))
        return str(head), self.measure.values[head]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        null_name, null = largest_null(self.row)
        most, most_value = self.most_on_paragraph
        return {
            "kind": self.kind.title,
            "head": str(self.row.head),
            "probe": self.row.probe,
            "position": self.row.position,
            "status": self.row.status,
            "value": self.row.value,
            "low": self.row.low,
            "high": self.row.high,
            "largest_null": null,
            "null": null_name,
            "on_paragraph": self.on_paragraph,
            "most_on_paragraph": most,
            "most_on_paragraph_value": most_value,
            "n_queries": len(self.measure.queries),
        }


def choose_heads(paragraph: Paragraph, rows: Sequence[HeadScore], kinds: Sequence[Kind]) -> list[ShownHead]:
    """The head of each kind; none for a kind that was not scanned."""
    found = [(kind, best_on(paragraph, kind, rows)) for kind in kinds]
    return [ShownHead(kind, *best) for kind, best in found if best is not None]


def distance_profile(pattern: Float[np.ndarray, "query_pos key_pos"]) -> Float[np.ndarray, " distance"]:
    """Mean attention to the token so many places back, from 0 on; the token that begins the text is not counted."""
    kept = pattern[1:, 1:]
    return np.array([kept.diagonal(-distance).mean() for distance in range(len(kept))])


def spread_from(
    pattern: Float[np.ndarray, "query_pos key_pos"], queries: Sequence[int]
) -> Float[np.ndarray, " key_pos"]:
    """What each token gets from some queries: the mean over them, 0 from those before it; the sum is 1."""
    found: np.ndarray = np.tril(pattern)[list(queries)].mean(0)
    return found


def even_profile(n_tokens: int) -> Float[np.ndarray, " distance"]:
    """:func:`distance_profile` of a head that looks at all tokens before it, and itself, alike."""
    return distance_profile(np.tril(np.ones((n_tokens, n_tokens))) / np.arange(1, n_tokens + 1)[:, None])


def at_scale(paragraph: Paragraph, one: ShownHead) -> tuple[float, float] | None:
    """Profile of a head, and of even attention, summed over the distances of its probe; None for other probes."""
    asked = asked_distances(one.row.probe)
    if asked is None:
        return None
    first, last = asked
    profile = distance_profile(paragraph.example.patterns[one.row.head])
    even = even_profile(len(paragraph.example.tokens))
    return float(profile[first : last + 1].sum()), float(even[first : last + 1].sum())


def draw_scales(paragraph: Paragraph, heads: Sequence[ShownHead], stem: Path) -> None:
    """Above: the pattern of each head, the token that looks downwards; below: its attention by distance."""
    patterns = [paragraph.example.patterns[one.row.head] for one in heads]
    n = len(paragraph.example.tokens)
    profiles = [distance_profile(pattern) for pattern in patterns]
    even = even_profile(n)
    data: list[list[Any]] = []
    for one, pattern, profile in zip(heads, patterns, profiles, strict=True):
        named = [one.row.probe, str(one.row.head)]
        data += [
            ["pattern", *named, query, key, round(float(pattern[query, key]), 4)]
            for query in range(n)
            for key in range(query + 1)
        ]
        data += [
            ["by distance", *named, "", distance, float(value)]
            for distance, value in enumerate(profile[: MOST_DISTANCE + 1])
        ]
    data += [
        ["by distance", "even attention", "", "", distance, float(value)]
        for distance, value in enumerate(even[: MOST_DISTANCE + 1])
    ]
    columns = ["what", "probe", "head", "query", "key_or_distance", "attention"]
    deepest = max(float(pattern[1:, 1:].max()) for pattern in patterns)
    highest = max(float(profile.max()) for profile in profiles)
    with drawing(7.2, 3.4, stem, columns, data) as figure:
        above, below = figure.subplots(2, len(heads), squeeze=False, height_ratios=[1.7, 1])
        for one, pattern, profile, map_panel, line_panel in zip(
            heads, patterns, profiles, above, below, strict=True
        ):
            picture = map_panel.imshow(pattern, cmap=_INK, vmin=0, vmax=deepest, interpolation="nearest")
            map_panel.grid(visible=False)
            map_panel.set_title(f"{one.row.head}: {place(one.row)}", fontsize=8)
            map_panel.set_xticks(range(0, n, 20))
            map_panel.set_yticks(range(0, n, 20))
            map_panel.set_xlabel("token looked at")
            _profile(line_panel, profile, even, one)
            line_panel.set_ylim(0, 1.08 * highest)
            line_panel.set_xlabel("tokens back")
        above[0].set_ylabel("token that looks")
        below[0].set_ylabel("mean attention")
        below[-1].legend(fontsize=6, loc="upper right")
        figure.colorbar(picture, ax=list(above), label="attention", shrink=0.8)


def draw_meanings(paragraph: Paragraph, heads: Sequence[ShownHead], stem: Path) -> None:
    """The paragraph once for each head: tokens as deep as what they get, those that ask underlined."""
    tokens = paragraph.example.tokens
    data: list[list[Any]] = []
    blocks = []
    for one in heads:
        gets = spread_from(paragraph.example.patterns[one.row.head], one.measure.queries)
        deepest = float(gets[1:].max())
        asks = {*one.measure.queries}
        shaded = [Shaded(token, float(gets[i]) / deepest, i in asks) for i, token in enumerate(tokens) if i]
        data += [
            [one.kind.title, str(one.row.head), i, token, i in asks, float(gets[i])]
            for i, token in enumerate(tokens)
        ]
        blocks.append((one, deepest, float(gets[0]), wrap_tokens(shaded, _TEXT_COLUMNS)))
    n_rows = 2.4 + sum(2.9 + len(lines) for *_, lines in blocks)
    columns = ["kind", "head", "token", "text", "asks", "attention"]
    with drawing(7.2, row_inches(n_rows), stem, columns, data) as figure:
        page = text_page(figure)
        row = 0.6
        for one, deepest, at_start, lines in blocks:
            write_line(page, f"{one.kind.title}: {one.row.head}", 2, row, weight="bold")
            write_line(page, _note(one, deepest, at_start), 2, row + 1.05, colour=GREY)
            row += 2.15
            for line in lines:
                draw_tokens(page, line, 2, row)
                row += 1
            row += 0.75
        write_line(
            page,
            "Shade: mean attention from the underlined tokens, relative to the token that gets most (“darkest”). "
            "Here: their mean attention to what is looked for.",
            2,
            row,
            colour=GREY,
        )


def _note(one: ShownHead, deepest: float, at_start: float) -> str:
    null_name, null = largest_null(one.row)
    status = _STATUS.get(one.row.status, one.row.status)
    return (
        f"{place(one.row)}, status {status}: {one.row.value:.2f} [{one.row.low:.2f}, {one.row.high:.2f}] over stories, "
        f"largest null {null:.2f} ({null_name.replace('_', ' ')}); here {one.on_paragraph:.2f}, darkest {deepest:.2f}, "
        f"start token {at_start:.2f}"
    )


def _profile(
    panel: Axes,
    profile: Float[np.ndarray, " distance"],
    even: Float[np.ndarray, " distance"],
    one: ShownHead,
) -> None:
    shown = min(MOST_DISTANCE + 1, len(profile))
    asked = asked_distances(one.row.probe)
    if asked is not None:
        panel.axvspan(asked[0] - 0.5, asked[1] + 0.5, color="#e6e6e6", linewidth=0)
    panel.plot(range(shown), profile[:shown], color=COLOURS[0], linewidth=1.1, label="the head")
    panel.plot(range(shown), even[:shown], "--", color=COLOURS[4], linewidth=0.9, label="even attention")
    panel.set_xlim(-0.5, MOST_DISTANCE + 0.5)


def asked_distances(probe: str) -> tuple[int, int] | None:
    """The least and the largest distance that a probe asks for; None for one of something else."""
    if probe.startswith("distance_"):
        parts = [int(part) for part in probe.split("_")[1:]]
        return parts[0], parts[-1]
    return (1, 1) if probe == "previous_token" else None
