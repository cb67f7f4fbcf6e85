"""Which tokens are alike: strata of part of speech, n-gram loss and position, and the targets that losses are read at.

The 4-gram is counted on other texts of the same kind where there are enough of them; else on the stories themselves,
each half read by that of the other half, which makes it a weak one.
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
LEAST_COUNTED = 1000  # other texts: a 4-gram of fewer is no better than one of the other half


@dataclass(frozen=True)
class Texts:
    """What causes are measured on: batches with the probes that read them.

    ``has_ends``: each row is a whole story. ``others``: tokens of other texts of the kind, for the 4-gram.
    """

    batches: Sequence[TokenBatch]
    probes: Sequence[Probe]
    calibration: Calibration
    has_ends: bool
    others: Sequence[Int[np.ndarray, " pos"]] = ()

    @property
    def n_counted(self) -> int:
        """How many texts the 4-gram is counted on."""
        if len(self.others) >= LEAST_COUNTED:
            return len(self.others)
        return sum(len(batch.length) for batch in self.batches) // 2 if self.has_ends else 0


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
    """Loss of each next token by a 4-gram of other texts, or of the other half; NaN where there is none."""
    losses = [np.full(batch.tokens.shape, np.nan) for batch in texts.batches]
    if not texts.has_ends:
        return losses
    place = [(index, row) for index, batch in enumerate(texts.batches) for row in range(len(batch.length))]
    rows = [row for batch in texts.batches for row in _sequences(batch, n_ctx, has_ends=True)]
    half = np.array([second_half(key) for batch in texts.batches for key in batch.cluster])
    sides = [np.flatnonzero(half == side) for side in (False, True)]
    counted: list[tuple[Sequence[np.ndarray], np.ndarray]] = [
        ([rows[i] for i in sides[not side]], sides[side]) for side in (False, True)
    ]
    if len(texts.others) >= LEAST_COUNTED:
        counted = [(texts.others, np.arange(len(rows)))]
    for stories, mine in counted:
        if len(stories) and len(mine):
            read = NgramModel.fit(stories, vocab_size=d_vocab).losses([rows[i] for i in mine])
            for i, found in zip(mine, read, strict=True):
                index, row = place[i]
                losses[index][row, : len(found)] = found
    return losses
