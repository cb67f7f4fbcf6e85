"""Where a class of next tokens can come: positions whose next token begins a word or a mark.

Axes: row, pos; place: these positions of a batch, row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Int

from tslens.probes.batch import TokenBatch
from tslens.probes.strata import LOSS_BINS, N_OCTAVES

N_ALIKE = LOSS_BINS * N_OCTAVES


@dataclass(frozen=True)
class Places:
    """Places of a batch, in order of row and position; position 0 is none.

    ``kind``: number in ``units.KINDS`` of the unit that the next token begins. ``token``: the next token;
    ``current``: the one at the place. ``alike``: number of octave of position and fifth of 4-gram loss, below
    ``N_ALIKE``. ``seen``: the next token occurs in the story already, up to the place.
    """

    row: Int[np.ndarray, " place"]
    pos: Int[np.ndarray, " place"]
    kind: Int[np.ndarray, " place"]
    token: Int[np.ndarray, " place"]
    current: Int[np.ndarray, " place"]
    alike: Int[np.ndarray, " place"]
    seen: Bool[np.ndarray, " place"]

    @classmethod
    def of(cls, batch: TokenBatch, stratum: Int[np.ndarray, "row pos"]) -> Places:
        """``stratum``: of every token (``strata.Strata``), of which the part of speech is left out."""
        kind = np.full(batch.tokens.shape, -1)
        units = batch.units
        there = list(zip(*(units.kind >= 0).nonzero(), strict=True))
        for row, unit in reversed(there):  # of several units that a token begins, the first
            kind[row, units.first[row, unit] - 1] = units.kind[row, unit]
        kind[:, 0] = -1
        row_of, pos = (kind >= 0).nonzero()
        following = batch.tokens[row_of, pos + 1]
        return cls(
            row=row_of,
            pos=pos,
            kind=kind[row_of, pos],
            token=following,
            current=batch.tokens[row_of, pos],
            alike=stratum[row_of, pos] % N_ALIKE,
            seen=_first_use(batch)[row_of, pos + 1] <= pos,
        )

    def __len__(self) -> int:
        return len(self.row)

    def select(self, chosen: Bool[np.ndarray, " place"] | slice) -> Places:
        """Some of the places."""
        return Places(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    def of_rows(self, n_rows: int) -> list[slice]:
        """Where the places of each row are."""
        ends = np.searchsorted(self.row, np.arange(n_rows + 1))
        return [slice(first, end) for first, end in pairwise(ends.tolist())]


def _first_use(batch: TokenBatch) -> Int[np.ndarray, "row pos"]:
    """Position at which each token of a story first occurs; the token that begins the story is no use."""
    first = np.zeros_like(batch.tokens)
    for row, length in enumerate(batch.length.tolist()):
        _, where, number = np.unique(batch.tokens[row, 1:length], return_index=True, return_inverse=True)
        first[row, 1:length] = where[number] + 1
    return first


def joined(parts: Sequence[Places], n_rows: Sequence[int]) -> Places:
    """Places of several batches, their rows numbered through. ``n_rows``: of each batch."""
    before = np.cumsum([0, *n_rows])[:-1]
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in Places.__dataclass_fields__
    }
    columns["row"] = np.concatenate([part.row + n for part, n in zip(parts, before, strict=True)])
    return Places(**columns)
