"""Which tokens are alike: strata of part of speech, n-gram loss and position, and the targets that losses are read at.

The n-gram is of the texts themselves: each half of the stories is read by a 4-gram counted on the other half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from tslens.model.batches import IGNORED
from tslens.model.ngram import NgramModel
from tslens.probes.base import Calibration, Probe
from tslens.probes.batch import TokenBatch
from tslens.probes.profile import octave
from tslens.stats import second_half

LOSS_BINS = 5
N_OCTAVES = 16


@dataclass(frozen=True)
class Texts:
    """What causes are measured on: batches with the probes that read them. ``has_ends``: each row is a whole story."""

    batches: Sequence[TokenBatch]
    probes: Sequence[Probe]
    calibration: Calibration
    has_ends: bool


@dataclass(frozen=True)
class Strata:
    """Number of each token's stratum by what is predicted there: part of speech, fifth of n-gram loss, position.

    ``losses``: of the 4-gram, NaN where there is none.
    """

    n: int
    of_batch: list[Int[np.ndarray, "row pos"]]
    losses: list[Float[np.ndarray, "row pos"]]

    @classmethod
    def of(cls, texts: Texts, d_vocab: int, n_ctx: int) -> Strata:
        """The strata of every batch; rows without ends, which no story is, have no n-gram losses."""
        losses = _ngram_losses(texts, d_vocab, n_ctx)
        known = np.concatenate([loss[np.isfinite(loss)] for loss in losses])
        edges = np.quantile(known, np.linspace(0, 1, LOSS_BINS + 1)[1:-1]) if len(known) else np.zeros(0)
        found = []
        for batch, loss in zip(texts.batches, losses, strict=True):
            kind = _kind_of_next(batch)
            place = octave(np.arange(batch.tokens.shape[1]))
            level = np.searchsorted(edges, np.nan_to_num(loss))
            found.append(((kind + 1) * LOSS_BINS + level) * N_OCTAVES + place)
        return cls(int(max(one.max() for one in found)) + 1, found, losses)


def _kind_of_next(batch: TokenBatch) -> Int[np.ndarray, "row pos"]:
    """Kind of the unit that the next token holds a piece of, -1 for none."""
    kind = np.full(batch.tokens.shape, -1)
    units = batch.units
    for row, unit in zip(*(units.kind >= 0).nonzero(), strict=True):
        kind[row, units.first[row, unit] - 1 : units.last[row, unit]] = units.kind[row, unit]
    return kind


def _sequences(batch: TokenBatch, n_ctx: int, *, has_ends: bool) -> list[Int[np.ndarray, " pos"]]:
    """Each row without padding, with the token that ends it where there is room: see ``encode_story``."""
    rows = [batch.tokens[row, :length] for row, length in enumerate(batch.length.tolist())]
    if not has_ends:
        return rows
    return [np.append(row, row[0]) if len(row) < n_ctx else row for row in rows]


def targets_of(batch: TokenBatch, n_ctx: int, *, has_ends: bool) -> Int[np.ndarray, "row pos"]:
    """The next token of each, ``IGNORED`` where there is none."""
    targets = np.full_like(batch.tokens, IGNORED)
    for row, ids in enumerate(_sequences(batch, n_ctx, has_ends=has_ends)):
        targets[row, : len(ids) - 1] = ids[1:]
    return targets


def _ngram_losses(texts: Texts, d_vocab: int, n_ctx: int) -> list[Float[np.ndarray, "row pos"]]:
    """Loss of each next token by a 4-gram of the other half of the stories; NaN where there is none."""
    stories = [_sequences(batch, n_ctx, has_ends=texts.has_ends) for batch in texts.batches]
    losses = [np.full(batch.tokens.shape, np.nan) for batch in texts.batches]
    if not texts.has_ends:
        return losses
    sides = [[second_half(key) for key in batch.cluster] for batch in texts.batches]
    for side in (False, True):
        counted = [
            s
            for of_batch, keys in zip(stories, sides, strict=True)
            for s, k in zip(of_batch, keys, strict=True)
            if k != side
        ]
        if not counted:
            continue
        ngram = NgramModel.fit(counted, vocab_size=d_vocab)
        for loss, of_batch, keys in zip(losses, stories, sides, strict=True):
            read: list[int] = [row for row, key in enumerate(keys) if key == side]
            for row, found in zip(read, ngram.losses([of_batch[row] for row in read]), strict=True):
                loss[row, : len(found)] = found
    return losses
