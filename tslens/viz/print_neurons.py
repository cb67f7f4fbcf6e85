"""Tokens at which chosen neurons are strongest, drawn for print: the paper's figure 21.

A line is a passage of a story of its own, its strongest token in the middle; the deeper the shade, the higher the
activation; tokens that have the neuron's label are underlined.

Axes: pos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from tslens.probes.neurons.token_labels import TOKEN_LABELS
from tslens.types import NeuronRole
from tslens.viz.figures import GREY, drawing
from tslens.viz.heads_words import RANK
from tslens.viz.print_text import (
    Shaded,
    draw_tokens,
    length_of,
    row_inches,
    text_page,
    visible_token,
    write_line,
)

PAPER_LABELS = ("subject_pronoun", "action", "pos_adj", "introduction")
"""What the four neurons of the paper's figure mark, in our labels."""
N_PASSAGES = 6  # of a neuron
N_STRONGEST = 100  # tokens whose labels are counted
_MIDDLE, _END = 84, 128  # columns: where the strongest token begins, and the right margin
_LEFT = 3


@dataclass(frozen=True)
class ReadStory:
    """One story as a neuron reads it. ``tokens``: strings, that which begins it left out, as in the others.

    ``activation``: of the neuron; ``has_label``: whether the token has the neuron's label.
    """

    tokens: tuple[str, ...]
    activation: Float[np.ndarray, " pos"]
    has_label: Bool[np.ndarray, " pos"]


@dataclass(frozen=True)
class NeuronText:
    """A neuron and stories that it read."""

    role: NeuronRole
    stories: Sequence[ReadStory]

    @property
    def largest(self) -> float:
        """The highest activation of all tokens."""
        return max(float(one.activation.max()) for one in self.stories)

    @property
    def label_share(self) -> float:
        """Share of all tokens that have the label."""
        return float(np.concatenate([one.has_label for one in self.stories]).mean())

    def share_of_strongest(self) -> float:
        """Share of the ``N_STRONGEST`` tokens of highest activation that have the label."""
        activation = np.concatenate([one.activation for one in self.stories])
        has_label = np.concatenate([one.has_label for one in self.stories])
        strongest = np.argsort(-activation, kind="stable")[:N_STRONGEST]
        return float(has_label[strongest].mean())

    def passages(self) -> list[tuple[int, int]]:
        """The strongest places: number of the story and of the token, each in another story, strongest first."""
        peaks = [(float(one.activation.max()), -i) for i, one in enumerate(self.stories)]
        best = [-i for _, i in sorted(peaks, reverse=True)[:N_PASSAGES]]
        return [(i, int(self.stories[i].activation.argmax())) for i in best]


def choose_neurons(roles: Sequence[NeuronRole], labels: Sequence[str]) -> dict[str, NeuronRole]:
    """Of each label the neuron of best status that chose it, among equals that of largest excess."""
    found: dict[str, NeuronRole] = {}
    for label in labels:
        mine = [one for one in roles if one.role == label]
        if mine:
            found[label] = min(mine, key=lambda one: (RANK[one.status], -one.excess, str(one.neuron)))
    return found


def draw_neuron_texts(texts: Sequence[NeuronText], stem: Path) -> None:
    """A block of passages for each neuron."""
    data: list[list[Any]] = []
    blocks = []
    for one in texts:
        largest, lines = one.largest, []
        for number, (story, peak) in enumerate(one.passages(), start=1):
            first, last = _window(one.stories[story].tokens, peak)
            tokens = one.stories[story]
            activation, has_label = tokens.activation.tolist(), tokens.has_label.tolist()
            lines.append(
                (
                    [
                        Shaded(tokens.tokens[i], activation[i] / largest, has_label[i], i == peak)
                        for i in range(first, last)
                    ],
                    peak - first,
                )
            )
            data += [
                [
                    one.role.role,
                    str(one.role.neuron),
                    number,
                    i,
                    tokens.tokens[i],
                    has_label[i],
                    activation[i],
                ]
                for i in range(first, last)
            ]
        blocks.append((one, lines))
    n_rows = 2.3 + sum(2.9 + len(lines) for _, lines in blocks)
    columns = ["label", "neuron", "passage", "token", "text", "has_label", "activation"]
    with drawing(7.2, row_inches(n_rows), stem, columns, data) as figure:
        page = text_page(figure)
        row = 0.6
        for one, lines in blocks:
            words = TOKEN_LABELS.get(one.role.role or "", one.role.role or "")
            write_line(page, f"{words[:1].upper()}{words[1:]}: {one.role.neuron}", 2, row, weight="bold")
            write_line(page, _note(one), 2, row + 1.05, colour=GREY)
            row += 2.15
            for line, peak in lines:
                blank = len(visible_token(line[peak].text)) - len(visible_token(line[peak].text).lstrip(" "))
                draw_tokens(page, line, _MIDDLE - blank - length_of(line[:peak]), row)
                row += 1
            row += 0.75
        write_line(
            page,
            "Shade: activation over the neuron's highest. Framed: the strongest token of the story. Underlined: "
            "tokens that have the label.",
            2,
            row,
            colour=GREY,
        )


def _note(one: NeuronText) -> str:
    role = one.role
    alone = f", its words alone {role.nulls['tokens']:.2f}" if "tokens" in role.nulls else ""
    return (
        f"status {role.status}, {role.basis or 'no basis'}; area {role.auroc:.2f} [{role.low:.2f}, {role.high:.2f}]"
        f"{alone}; of the {N_STRONGEST} strongest tokens {one.share_of_strongest():.0%} have the label, of all "
        f"{one.label_share:.1%}; highest activation {one.largest:.1f}"
    )


def _window(tokens: Sequence[str], peak: int) -> tuple[int, int]:
    """First and last token (the last not included) that fit on a line with the peak in the middle."""
    first, left = peak, 1
    while first > 0 and left + len(visible_token(tokens[first - 1])) <= _MIDDLE - _LEFT:
        first -= 1
        left += len(visible_token(tokens[first]))
    last, right = peak + 1, len(visible_token(tokens[peak]))
    while last < len(tokens) and right + len(visible_token(tokens[last])) <= _END - _MIDDLE:
        right += len(visible_token(tokens[last]))
        last += 1
    return first, last
