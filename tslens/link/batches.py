"""Pairs packed into batches, so that a model reads all of them in few runs, changed or not.

A pair is two rows, the right side and then the wrong one, always in one batch. What is read of a pair lies together in
the row-major order of positions, which is the order that reruns give losses in (``model.prefix``, ``causal.ablator``).

Axes: row, pos; position: the places that are read; pair: of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
import torch
from einops import repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tslens.causal.replacement import other_rows
from tslens.link.pairs import Pair, Readout
from tslens.model.batches import IGNORED, collate, cut_by_length

BATCH_TOKENS = 4096


@dataclass(frozen=True, eq=False)
class ReadoutBatch:
    """Rows 2i and 2i + 1 are the right and the wrong side of one pair. Satisfies ``causal.ablator.ReadRows``.

    ``tokens``: padded on the right. ``targets``: next token, ``IGNORED`` where there is none. ``at``: positions whose
    loss is read. ``length``: positions of each row that are real. ``other``: the row whose activations stand in for
    each row's when resampled: the right side of another pair, the same for both sides; None of a single pair.
    ``number``: place of each pair among all pairs of all readouts.
    """

    tokens: Int[Tensor, "row pos"]
    targets: Int[Tensor, "row pos"]
    at: Bool[Tensor, "row pos"]
    length: Int[Tensor, " row"]
    other: Int[Tensor, " row"] | None
    number: Int[np.ndarray, " pair"]

    def collect(self, losses: Float[np.ndarray, "*variant position"]) -> Float[np.ndarray, "*variant pair"]:
        """Log-probability of the right tokens minus that of the wrong ones, in nats, from the losses at ``at``."""
        n_read = self.at.sum(1).numpy()
        is_wrong = np.repeat(np.arange(len(n_read)) % 2 == 1, n_read)
        starts = (np.cumsum(n_read) - n_read)[::2]
        found: np.ndarray = np.add.reduceat(np.where(is_wrong, losses, -losses), starts, axis=-1)
        return found


def pack(readouts: Sequence[Readout], *, seed: int, batch_tokens: int = BATCH_TOKENS) -> list[ReadoutBatch]:
    """All pairs of all readouts, of like length in a batch; ``seed``: of the rows that stand in for others."""
    pairs = [pair for readout in readouts for pair in readout.pairs]
    lengths = np.array([2 * max(len(pair.right.tokens), len(pair.wrong.tokens)) for pair in pairs])
    generator = np.random.default_rng(seed)
    return [
        _batch([pairs[i] for i in index], index, generator)
        for index in (cut_by_length(lengths, batch_tokens) if pairs else [])
    ]


def by_readout(
    readouts: Sequence[Readout], of_pairs: Float[np.ndarray, "*variant pair"]
) -> list[Float[np.ndarray, "*variant pair"]]:
    """Numbers of all pairs, in the order of ``ReadoutBatch.number``, cut into those of each readout."""
    ends = [0, *accumulate(len(readout.pairs) for readout in readouts)]
    return [of_pairs[..., first:end] for first, end in pairwise(ends)]


def _batch(
    pairs: Sequence[Pair], number: Int[np.ndarray, " pair"], generator: np.random.Generator
) -> ReadoutBatch:
    sides = [side for pair in pairs for side in (pair.right, pair.wrong)]
    batch = collate([side.tokens for side in sides])
    length = torch.tensor([len(side.tokens) - 1 for side in sides])
    first = torch.tensor(
        [side.first - 1 for side in sides]
    )  # the position that predicts the first token read
    at = (torch.arange(batch.tokens.shape[1]) >= first[:, None]) & (batch.targets != IGNORED)
    other = 2 * repeat(other_rows(len(pairs), generator), "pair -> (pair side)", side=2)
    return ReadoutBatch(batch.tokens, batch.targets, at, length, other if len(pairs) > 1 else None, number)
