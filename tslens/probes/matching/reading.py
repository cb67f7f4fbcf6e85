"""Two models read the same stories: which stories, which queries, and what each model does there.

Matches are chosen on one half of the stories and read on the other. Stories of a half go in batches of like length;
each is *exchanged* with the next of its batch: position for position another text. Everything is read where both have
a position, so that values and the null of exchanged stories are of the same places.

Axes: row (a story), pos (query_pos, key_pos), query (drawn from a row's positions), head, neuron (layer by layer).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tslens.errors import ModelError, ProbeInputError
from tslens.model.story_model import StoryModel
from tslens.probes.predictor import Rows, TokenPredictor
from tslens.stats import MIN_HALF, second_half
from tslens.types import Story

BATCH_STORIES = 8
QUERIES = 32  # of a story at most: what differs is the stories, and every query costs all pairs of heads


@dataclass(frozen=True)
class SharedBatch:
    """Stories of like length, two or more, as both models read them.

    ``length``: positions that are real. ``other``: the row that each is exchanged with. ``query_pos``, ``is_query``:
    places that are read, drawn from those that both rows have, position 0 excepted; where there are fewer than in
    other rows, the last are not queries. ``cluster``: what each row is resampled with.
    """

    tokens: Int[Tensor, "row pos"]
    length: Int[Tensor, " row"]
    other: Int[Tensor, " row"]
    query_pos: Int[Tensor, "row query"]
    is_query: Bool[Tensor, "row query"]
    cluster: tuple[int, ...]

    @property
    def is_read(self) -> Bool[Tensor, "row pos"]:
        """Positions that a row and the one it is exchanged with both have, position 0 excepted."""
        pos = torch.arange(self.tokens.shape[1])
        return (pos > 0) & (pos < torch.minimum(self.length, self.length[self.other])[:, None])

    @property
    def rows(self) -> Rows:
        """The stories alone, for a predictor."""
        return Rows(self.tokens, self.length)


@dataclass(frozen=True)
class StoryHalves:
    """Batches of either half: where matches are chosen, and where they are read."""

    choosing: Sequence[SharedBatch]
    reading: Sequence[SharedBatch]

    @property
    def n_chosen_on(self) -> int:
        """Stories that matches are chosen on."""
        return sum(len(batch.cluster) for batch in self.choosing)

    @property
    def n_read(self) -> int:
        """Stories that values are read on."""
        return sum(len(batch.cluster) for batch in self.reading)


def check_tokenizers(models: dict[str, StoryModel]) -> None:
    """Raise ModelError unless all models cut texts into the same tokens."""
    (first, one), *others = models.items()
    for name, model in ((first, one), *others):
        if model.tokenizer is None:
            raise ModelError(
                f"{name} has no tokenizer, so it cannot read stories.", "Give one with a tokenizer.json."
            )
        assert one.tokenizer is not None
        if model.tokenizer.sha256 != one.tokenizer.sha256:
            raise ModelError(
                f"{first} and {name} have different tokenizers, so that their tokens do not stand side by side.",
                "Match models that were trained with the same tokenizer.",
            )


def split_stories(
    models: dict[str, StoryModel], stories: Iterable[Story], *, seed: int, n_queries: int = QUERIES
) -> StoryHalves:
    """The stories as these models read them, by half.

    ``seed``: of the queries that are drawn and of the order of the batches. Raises ModelError if tokenizers differ,
    ProbeInputError with fewer than five stories of a half, or for a story of fewer than two tokens.
    """
    check_tokenizers(models)
    model = next(iter(models.values()))
    assert model.tokenizer is not None
    n_ctx = min(one.cfg.n_ctx for one in models.values())
    halves: tuple[list[tuple[int, list[int]]], ...] = ([], [])
    for story in stories:
        ids = model.tokenizer.encode(story.text)
        if len(ids) < 2:
            raise ProbeInputError(
                f'The story "{story.text[:40]}" has {len(ids)} token; a match needs two.',
                "Leave such stories out.",
            )
        row = [model.tokenizer.start_id, *ids][:n_ctx]
        halves[second_half(story.digest)].append((story.digest, row))
    least = min(map(len, halves))
    if least < MIN_HALF:
        raise ProbeInputError(
            f"One half of the stories has {least}; matches are chosen on one half and read on the other.",
            f"Give more stories: each half needs {MIN_HALF} or more.",
        )
    return StoryHalves(*(_batches(half, seed, n_queries) for half in halves))


def _batches(stories: list[tuple[int, list[int]]], seed: int, n_queries: int) -> list[SharedBatch]:
    """Batches of like length in random order, none of a single story."""
    ordered = sorted(stories, key=lambda one: (len(one[1]), one[0]))
    n_batches = max(1, len(ordered) // BATCH_STORIES)
    cut = np.array_split(np.arange(len(ordered)), n_batches)
    order = np.random.default_rng(seed).permutation(n_batches)
    return [_batch([ordered[int(i)] for i in cut[b]], seed, n_queries) for b in order]


def _batch(stories: list[tuple[int, list[int]]], seed: int, n_queries: int) -> SharedBatch:
    length = torch.tensor([len(row) for _, row in stories])
    tokens = torch.zeros(len(stories), int(length.max()), dtype=torch.long)
    for row, (_, ids) in enumerate(stories):
        tokens[row, : len(ids)] = torch.tensor(ids)
    other = (torch.arange(len(stories)) + 1) % len(stories)
    common = torch.minimum(length, length[other])
    query_pos = torch.zeros(len(stories), min(n_queries, int(common.max()) - 1), dtype=torch.long)
    is_query = torch.zeros(query_pos.shape, dtype=torch.bool)
    for row, (digest, _) in enumerate(stories):
        drawn = np.random.default_rng([seed, digest]).permutation(int(common[row]) - 1)[:n_queries] + 1
        query_pos[row, : len(drawn)] = torch.from_numpy(np.sort(drawn))
        is_query[row, : len(drawn)] = True
    return SharedBatch(tokens, length, other, query_pos, is_query, tuple(digest for digest, _ in stories))


# What a model does there ----------------------------------------------------------------------------------


def attention_rows(
    model: StoryModel, batch: SharedBatch, *, exchanged: bool = False
) -> Float[Tensor, "row head query key_pos"]:
    """Rows of attention of all heads at the queries, on the CPU; ``exchanged``: on the text exchanged with each."""
    patterns = model.attention_patterns(batch.tokens.to(model.device))
    return torch.cat([_at_queries(pattern.float().cpu(), batch, exchanged) for pattern in patterns], 1)


def predicted_rows(predictor: TokenPredictor, batch: SharedBatch) -> Float[Tensor, "row head query key_pos"]:
    """The same as a predictor of all heads, asked for in their order, gives them."""
    patterns = predictor.pattern(batch.tokens)
    return torch.cat([_at_queries(pattern, batch, exchanged=False) for pattern in patterns.values()], 1)


def _at_queries(
    pattern: Float[Tensor, "row head query_pos key_pos"], batch: SharedBatch, exchanged: bool
) -> Float[Tensor, "row head query key_pos"]:
    row = batch.other if exchanged else torch.arange(len(pattern))
    return rearrange(pattern[row[:, None], :, batch.query_pos], "s q h k -> s h q k").contiguous()


def activations(
    model: StoryModel, batch: SharedBatch, *, exchanged: bool = False
) -> Float[Tensor, "token neuron"]:
    """Activations of all neurons at the positions that are read, row by row, on the CPU.

    ``exchanged``: at the same positions of the text exchanged with each row.
    """
    row, pos = batch.is_read.nonzero(as_tuple=True)
    row = batch.other[row] if exchanged else row
    layers = model.neuron_activations(batch.tokens.to(model.device))
    return torch.cat([post[row.to(post.device), pos.to(post.device)].float().cpu() for post in layers], 1)
