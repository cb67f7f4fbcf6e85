"""What the cards of neurons show beside their figures: stories around places of a neuron, and histograms by label.

Axes: token, neuron, bin.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from tslens.model.story_model import StoryModel
from tslens.probes.neurons.codes import decode
from tslens.probes.neurons.stream import Read
from tslens.types import NeuronRole, Story

N_STRONGEST = 3
QUANTILES = (0.99, 0.9, 0.5)
TOKENS_BEFORE, TOKENS_AFTER = 14, 5
N_BINS = 24
STORIES_AT_ONCE = 16


@dataclass(frozen=True)
class Passage:
    """Tokens around a place of a neuron, with its activations. ``place``: index of the place among them.

    ``quantile``: of its activations, at which the place was drawn; None for one of its strongest.
    """

    ids: tuple[int, ...]
    activations: tuple[float, ...]
    place: int
    quantile: float | None


@dataclass(frozen=True)
class _Wanted:
    """A place of which a passage is wanted."""

    column: int
    pos: int
    quantile: float | None


def passages(model: StoryModel, read: Read) -> list[list[Passage]]:
    """Of each neuron its strongest places, each in another story, and places at quantiles of its activation.

    The latter are drawn among the stories in which some neuron is strongest: only these are kept.
    """
    stories: dict[int, Story] = {
        example.story.digest: example.story for of_neuron in read.examples for example in of_neuron
    }
    wanted: dict[int, list[_Wanted]] = defaultdict(list)
    for column, of_neuron in enumerate(read.examples):
        for example in of_neuron[:N_STRONGEST]:
            wanted[example.story.digest].append(_Wanted(column, example.pos, None))
    for digest, place in _at_quantiles(read, stories):
        wanted[digest].append(place)
    found: list[list[Passage]] = [[] for _ in read.neurons]
    for column, passage in _run(
        model, read, [(stories[digest], places) for digest, places in wanted.items()]
    ):
        found[column].append(passage)
    for shown in found:
        shown.sort(
            key=lambda one: (
                1.0 if one.quantile is None else 0.0,
                one.quantile or 0.0,
                one.activations[one.place],
            ),
            reverse=True,
        )
    return found


def _at_quantiles(read: Read, stories: dict[int, Story]) -> Iterator[tuple[int, _Wanted]]:
    """Tokens of the sample at which each neuron stands at its quantiles."""
    tokens = read.sample.tokens
    known = np.flatnonzero(np.isin(tokens.story, np.array(list(stories), dtype=np.uint64)))
    if not len(known):
        return
    for column in range(len(read.neurons)):
        order = known[np.argsort(read.sample.codes[known, column], kind="stable")]
        for quantile in QUANTILES:
            token = order[round(quantile * (len(order) - 1))]
            yield int(tokens.story[token]), _Wanted(column, int(tokens.pos[token]), quantile)


@torch.inference_mode()
def _run(
    model: StoryModel, read: Read, asked: Sequence[tuple[Story, Sequence[_Wanted]]]
) -> Iterator[tuple[int, Passage]]:
    """The model on these stories, some at a time."""
    assert model.tokenizer is not None
    layers = list(dict.fromkeys(neuron.layer for neuron in read.neurons))
    for first in range(0, len(asked), STORIES_AT_ONCE):
        part = asked[first : first + STORIES_AT_ONCE]
        rows = [
            [model.tokenizer.start_id, *model.tokenizer.encode(story.text)][: model.cfg.n_ctx]
            for story, _ in part
        ]
        tokens = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
        for row, ids in enumerate(rows):
            tokens[row, : len(ids)] = torch.tensor(ids)
        of_layer = dict(enumerate(model.neuron_activations(tokens.to(model.device))))
        values = torch.cat([of_layer[layer].float().cpu() for layer in layers], -1).numpy()
        for row, (ids, (_, places)) in enumerate(zip(rows, part, strict=True)):
            for place in places:
                begin, end = max(0, place.pos - TOKENS_BEFORE), min(len(ids), place.pos + TOKENS_AFTER + 1)
                seen = values[row, begin:end, place.column]
                yield (
                    place.column,
                    Passage(tuple(ids[begin:end]), tuple(seen.tolist()), place.pos - begin, place.quantile),
                )


@dataclass(frozen=True)
class Histogram:
    """Share of the tokens with the role's label, and of those without, in even bins of the activation."""

    least: float
    largest: float
    labelled: Float[np.ndarray, " bin"]
    others: Float[np.ndarray, " bin"]


def histogram(read: Read, column: int, role: NeuronRole) -> Histogram:
    """On the sample; without a role all tokens count as others."""
    values = decode(read.sample.codes[:, column])
    flag = np.zeros(len(values), dtype=bool)
    if role.role is not None:
        flag = read.sample.tokens.flags[:, read.labels.index(role.role)]
    least, largest = float(values.min(initial=0.0)), float(values.max(initial=0.0))
    edges = np.linspace(least, max(largest, least + 1e-6), N_BINS + 1)
    labelled, others = (
        np.histogram(values[which], edges)[0] / max(which.sum(), 1) for which in (flag, ~flag)
    )
    return Histogram(least, largest, labelled, others)
