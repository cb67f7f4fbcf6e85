"""Pairs packed into batches, so that a model reads all of them in few runs, changed or not.

A pair that begins alike and differs in its last token is one row, at whose end the losses of both tokens are read; any
other is two rows, the right side and then the wrong one. What is read of a pair lies together in the order that reruns
give losses in (``model.prefix``, ``causal.ablator``).

Axes: row, pos, option (the right token and the wrong one, or one alone); loss: all that are read; pair: of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tslens.causal.replacement import other_rows
from tslens.link.pairs import Pair, Readout, Side
from tslens.model.batches import IGNORED, collate, cut_by_length

BATCH_TOKENS = 4096


@dataclass(frozen=True, eq=False)
class ReadoutBatch:
    """Pairs as rows. Satisfies ``causal.ablator.ReadRows``.

    ``tokens``: padded on the right. ``targets``: next token, and where both sides are one row the wrong one;
    ``IGNORED`` where there is none. ``at``: positions whose losses are read. ``length``: positions of each row that are
    real. ``other``: the row whose activations stand in for each row's when resampled: the right side of another pair,
    the same for both sides; None of a single pair. ``number``: place of each pair among all pairs of all readouts.
    ``sign``: of each loss, 1 on the wrong side and -1 on the right; ``first``: of each pair's losses.
    """

    tokens: Int[Tensor, "row pos"]
    targets: Int[Tensor, "row pos option"]
    at: Bool[Tensor, "row pos"]
    length: Int[Tensor, " row"]
    other: Int[Tensor, " row"] | None
    number: Int[np.ndarray, " pair"]
    sign: Int[np.ndarray, " loss"]
    first: Int[np.ndarray, " pair"]

    def collect(self, losses: Float[np.ndarray, "*variant loss"]) -> Float[np.ndarray, "*variant pair"]:
        """Log-probability of the right tokens minus that of the wrong ones, in nats, from the losses at ``at``."""
        found: np.ndarray = np.add.reduceat(losses * self.sign, self.first, axis=-1)
        return found


def pack(readouts: Sequence[Readout], *, seed: int, batch_tokens: int = BATCH_TOKENS) -> list[ReadoutBatch]:
    """All pairs of all readouts, of like form and length in a batch; ``seed``: of the rows that stand in for others."""
    pairs = [pair for readout in readouts for pair in readout.pairs]
    n_rows = np.array([len(_rows(pair)) for pair in pairs], dtype=np.int64)
    longest = np.array(
        [max(len(pair.right.tokens), len(pair.wrong.tokens)) for pair in pairs], dtype=np.int64
    )
    generator = np.random.default_rng(seed)
    found = []
    for n in (1, 2):  # pairs of one row and of two apart, so that a batch holds what it is cut for
        mine = np.flatnonzero(n_rows == n)
        for index in cut_by_length(n * longest[mine], batch_tokens) if len(mine) else []:
            number = mine[index]
            found.append(_batch([pairs[i] for i in number], number, generator))
    return found


def by_readout(
    readouts: Sequence[Readout], of_pairs: Float[np.ndarray, "*variant pair"]
) -> list[Float[np.ndarray, "*variant pair"]]:
    """Numbers of all pairs, in the order of ``ReadoutBatch.number``, cut into those of each readout."""
    ends = [0, *accumulate(len(readout.pairs) for readout in readouts)]
    return [of_pairs[..., first:end] for first, end in pairwise(ends)]


def _rows(pair: Pair) -> tuple[Side, ...]:
    """The sides that are rows of their own: the right one alone where the wrong one differs in its last token only."""
    right, wrong = pair.right, pair.wrong
    is_one = right.n_read == wrong.n_read == 1 and np.array_equal(right.tokens[:-1], wrong.tokens[:-1])
    return (right,) if is_one else (right, wrong)


def _batch(
    pairs: Sequence[Pair], number: Int[np.ndarray, " pair"], generator: np.random.Generator
) -> ReadoutBatch:
    rows_of = [_rows(pair) for pair in pairs]
    sides = [side for rows in rows_of for side in rows]
    first_row = np.cumsum([0, *map(len, rows_of)])[:-1]
    batch = collate([side.tokens for side in sides])
    length = torch.tensor([len(side.tokens) - 1 for side in sides])
    first = torch.tensor(
        [side.first - 1 for side in sides]
    )  # the position that predicts the first token read
    at = (torch.arange(batch.tokens.shape[1]) >= first[:, None]) & (batch.targets != IGNORED)
    targets = torch.stack([batch.targets, torch.full_like(batch.targets, IGNORED)], -1)
    sign = []
    for pair, rows, row in zip(pairs, rows_of, first_row.tolist(), strict=True):
        if len(rows) == 1:
            targets[row, len(pair.right.tokens) - 2, 1] = int(pair.wrong.tokens[-1])
        sign.append([-1] * pair.right.n_read + [1] * pair.wrong.n_read)
    of_pair = torch.from_numpy(first_row)[other_rows(len(pairs), generator)]
    other = of_pair.repeat_interleave(torch.tensor(list(map(len, rows_of))))
    return ReadoutBatch(
        batch.tokens,
        targets,
        at,
        length,
        other if len(pairs) > 1 else None,
        number,
        sign=np.concatenate(sign),
        first=np.cumsum([0, *map(len, sign)])[:-1],
    )
