"""Induction: on random tokens said twice, attention from the second copy to the token after its first copy.

Source: Olsson et al. 2022, In-context Learning and Induction Heads; TransformerLens' head_detector.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tslens.probes.base import Calibration, Null, Probe, Row
from tslens.probes.batch import TokenBatch, batch_of_tokens
from tslens.probes.pairs import Pairs, averaged

N_SEQUENCES = 256
SHORTEST, LONGEST = 20, 100  # of one copy; drawn per sequence, so that no fixed offset can serve all
NEIGHBOURS = (-4, -3, -2, 1, 2, 3, 4)  # of the target; -1 is the first copy of the query itself


class Induction(Probe):
    """Mean over the second copy of the attention to the token that followed the same token before.

    Sequences ``start r1 ... rL r1 ... rL`` of different random tokens, L drawn for each. Nulls: the same
    query and key positions in a sequence of as many random tokens without repetition (the distance profile where there
    is nothing to copy); other tokens within four places of the target. Story text is not read.
    """

    name = "induction"
    description = "on repeated random tokens, looks at what followed the current token before"
    family = "identity"
    served = "predictions of a token that followed the same token before"
    cost = 2.3

    def own_batches(
        self, *, d_vocab: int, start_id: int, n_ctx: int, seed: int, batch_tokens: int
    ) -> Iterator[TokenBatch]:
        """Repeated sequences in the first half of the rows, an unrepeated one of the same length for each behind."""
        rng = np.random.default_rng([seed, 0x1D])
        vocabulary = np.setdiff1d(np.arange(d_vocab), [start_id])
        longest = min(LONGEST, (n_ctx - 2) // 2, len(vocabulary) // 2)
        lengths = np.sort(rng.integers(min(SHORTEST, longest), longest + 1, N_SEQUENCES))
        first = 0
        while first < N_SEQUENCES:
            n_rows = max(1, min(N_SEQUENCES - first, batch_tokens // (4 * int(lengths[first]) + 2)))
            repeated, unrepeated = [], []
            for length in lengths[first : first + n_rows]:
                drawn = rng.permutation(vocabulary)[: 2 * length].tolist()
                repeated.append([start_id, *drawn[:length], *drawn[:length]])
                unrepeated.append([start_id, *drawn])
            yield batch_of_tokens(repeated + unrepeated, range(first, first + n_rows))
            first += n_rows

    def rows(self, batch: TokenBatch, calibration: Calibration) -> list[Row]:
        """One row; clusters are the pairs of sequences."""
        n = len(batch.length) // 2
        copy = (batch.length[:n] - 1) // 2
        pos = np.arange(batch.tokens.shape[1])
        row, query = ((pos > copy[:, None]) & (pos < batch.length[:n, None])).nonzero()
        key = query - copy[row] + 1
        value = averaged(row, query, key)
        unrepeated = Pairs(value.cluster, value.row + n, query, key, value.weight)
        moved = np.array(NEIGHBOURS)
        near_key = key[:, None] + moved
        allowed = (near_key >= 1) & (near_key <= query[:, None])
        at, which = allowed.nonzero()
        share = (value.weight / np.maximum(allowed.sum(1), 1))[at]
        near = Pairs(row[at], row[at], query[at], near_key[at, which], share)
        nulls = {"distance": Null(pairs=unrepeated), "frequency": Null(pairs=near)}
        return [Row("word", value, nulls, has_mul=True)]


PROBE = Induction()
