"""Previous word: attention from the last piece of each word to all pieces of the word before it.

Source: Eldan and Li 2023, section 5.1, name such a head; Voita et al. 2019 define positional heads.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from tslens.probes.base import Calibration, Probe, Row, uniform_null
from tslens.probes.batch import TokenBatch
from tslens.probes.pairs import averaged
from tslens.probes.relation import next_token


class PreviousWord(Probe):
    """Mean over words, the first of a story excepted, of the attention from word to word before.

    Punctuation is no word: the word after a comma or a full stop looks across it.
    """

    name = "previous_word"
    description = "looks at the word before, all its pieces together, across punctuation"
    family = "positional"
    served = "every prediction of a word"
    cost = 0.8
    basis = "positional"

    def rows(self, batch: TokenBatch, calibration: Calibration) -> list[Row]:
        """One row."""
        asks = batch.word_last & (batch.word >= 1)
        row, query, key = (
            asks[:, :, None] & (batch.word[:, None, :] == batch.word[:, :, None] - 1)
        ).nonzero()
        value = averaged(row, query, key)
        return [Row("word", value, {"uniform": uniform_null(value, batch, calibration)})]

    def serves(self, batch: TokenBatch) -> Bool[np.ndarray, "row pos"]:
        """Where the next token begins a word."""
        return batch.is_query & next_token(batch.word_first)


PROBE = PreviousWord()
