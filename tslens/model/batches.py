"""Batches of whole stories.

A row is one story, so that attention never crosses stories and positions restart with each, with no mask. To
waste no work on padding, stories are shuffled, taken in pools of many batches, sorted by length within the
pool and cut into batches of a fixed number of padded tokens; then the batches of the pool are shuffled. On
TinyStories 1.2% of the positions are padding (``docs/architecture.md``).

Every batch is a function of (seed, epoch, index), so a run resumes from two integers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

POOL_BATCHES = 64
IGNORED = -100  # target of a padded position


@dataclass(frozen=True)
class Batch:
    """Stories as rows.

    ``tokens``: [story pos] inputs, padded with their own last token. ``targets``: [story pos] next token,
    ``IGNORED`` where padded. ``n_targets``: targets that count.
    """

    tokens: Int[Tensor, "story pos"]
    targets: Int[Tensor, "story pos"]
    n_targets: int


def collate(stories: Sequence[np.ndarray]) -> Batch:
    """Rows of ``[<|endoftext|>, t1, ...]`` sequences: inputs are all but the last token, targets all but the first."""
    lengths = np.array([len(story) - 1 for story in stories])
    tokens = np.zeros((len(stories), lengths.max()), dtype=np.int64)
    targets = np.full_like(tokens, IGNORED)
    for row, (story, length) in enumerate(zip(stories, lengths, strict=True)):
        tokens[row, :length], tokens[row, length:] = story[:-1], story[-1]
        targets[row, :length] = story[1:]
    return Batch(torch.from_numpy(tokens), torch.from_numpy(targets), int(lengths.sum()))


def cut_by_length(lengths: np.ndarray, batch_tokens: int) -> list[np.ndarray]:
    """Indices of stories, sorted by length and cut so that rows x longest row is at most ``batch_tokens``."""
    order = np.argsort(lengths, kind="stable")
    batches: list[np.ndarray] = []
    end = len(order)
    while end > 0:  # from the longest, so that only the batch of the shortest may be small
        n_rows = max(1, min(end, batch_tokens // int(lengths[order[end - 1]])))
        batches.append(order[end - n_rows : end])
        end -= n_rows
    return batches


def epoch_batches(lengths: np.ndarray, *, batch_tokens: int, seed: int, epoch: int) -> Iterator[np.ndarray]:
    """Indices of the stories of each batch of one pass over the data, in training order.

    ``lengths``: [story] model positions of each story.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    pool_size = max(1, int(POOL_BATCHES * batch_tokens / max(1.0, float(lengths.mean()))))
    for first in range(0, len(order), pool_size):
        pool = order[first : first + pool_size]
        batches = cut_by_length(lengths[pool], batch_tokens)
        for index in rng.permutation(len(batches)):
            yield pool[batches[index]]
