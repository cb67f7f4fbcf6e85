"""Sentence start: attention from the tokens of a sentence to its first word.

Source: Voita et al. 2019 and Clark et al. 2019 describe heads that look at the beginning of the segment.
"""

from __future__ import annotations

import numpy as np

from tslens.probes.base import Calibration, Null, Probe, Row, uniform_null
from tslens.probes.batch import TokenBatch
from tslens.probes.pairs import averaged


class SentenceStart(Probe):
    """Mean over the tokens of a sentence behind its first word's first piece of the attention to that piece.

    Beside uniform attention, the head's distance profile at like positions is a null: the start lies near.
    """

    name = "sentence_start"
    description = "looks at the first word of the sentence"
    family = "positional"
    served = "every prediction inside a sentence"
    cost = 1.8

    def rows(self, batch: TokenBatch, calibration: Calibration) -> list[Row]:
        """One row."""
        pos = np.arange(batch.tokens.shape[1])
        start = np.maximum.accumulate(np.where(batch.sentence_start, pos, -1), axis=1)
        same = np.take_along_axis(batch.sentence, np.maximum(start, 0), 1) == batch.sentence
        row, query = (batch.is_query & (start >= 1) & (start < pos) & same).nonzero()
        value = averaged(row, query, start[row, query])
        nulls = {"uniform": uniform_null(value, batch, calibration), "distance": Null(profile=value)}
        return [Row("word", value, nulls)]


PROBE = SentenceStart()
