"""Punctuation: attention from words to the marks of the sentence that they stand in, and of the one before.

Source: Clark et al. 2019: heads that attend to full stops and commas.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from tslens.probes.base import Calibration, Null, Probe, Row
from tslens.probes.batch import TokenBatch
from tslens.probes.pairs import averaged, like_keys_difference
from tslens.probes.relation import next_token

REACH = 32  # tokens back: about two sentences of these stories


class Punctuation(Probe):
    """Mean over words of the attention to all tokens of punctuation in the last 32 tokens.

    Nulls: the head's distance profile at like positions; words of like frequency (within a factor of four of any of
    the story's marks) in the same octave of distance.
    """

    name = "punctuation"
    description = "looks at punctuation marks"
    family = "identity"
    served = "the prediction of a punctuation mark"
    cost = 17.0

    def rows(self, batch: TokenBatch, calibration: Calibration) -> list[Row]:
        """One row."""
        near = within(batch, REACH)
        asks = batch.is_query & batch.word_last
        row, query, key = (asks[:, :, None] & batch.punctuation[:, None, :] & near).nonzero()
        value = averaged(row, query, key)
        frequency = calibration.frequency_bin[batch.tokens]
        marks, pos = batch.punctuation.nonzero()
        of_marks = np.zeros((len(frequency), int(frequency.max()) + 1), dtype=bool)
        of_marks[marks, frequency[marks, pos]] = True
        like = ~batch.punctuation & np.take_along_axis(of_marks, frequency, 1) & batch.is_query
        candidate = asks[:, :, None] & like[:, None, :] & near
        nulls = {
            "distance": Null(profile=value),
            "frequency": Null(difference=like_keys_difference(value, batch, candidate)),
        }
        return [Row("word", value, nulls)]

    def serves(self, batch: TokenBatch) -> Bool[np.ndarray, "row pos"]:
        """Where the next token is punctuation."""
        return batch.is_query & next_token(batch.punctuation)


def within(batch: TokenBatch, reach: int) -> Bool[np.ndarray, "query key"]:
    """Whether a key lies 1 to ``reach`` places back and is not position 0."""
    pos = np.arange(batch.tokens.shape[1])
    distance = pos[:, None] - pos
    near: Bool[np.ndarray, "query key"] = (distance >= 1) & (distance <= reach) & (pos >= 1)
    return near


PROBE = Punctuation()
