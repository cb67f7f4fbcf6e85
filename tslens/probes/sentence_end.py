"""Sentence end: attention from any word to the nearest earlier closing mark.

Source: Eldan and Li 2023, section 5.1, name such a head; scored as a relation (Clark et al. 2019) against nulls.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tslens.probes.base import Calibration, Null, Probe, Row, off_most_frequent
from tslens.probes.batch import TokenBatch
from tslens.probes.pairs import Pairs, averaged, distance_profile, matched_difference, shifted
from tslens.types import Position


class SentenceEnd(Probe):
    """Mean over words of the attention to the mark that closed the sentence before.

    Read at the last piece of the word (``word``) and at the token before its first piece (``before``, where the
    model predicts it), on words whose mark is not at the most frequent offset. Nulls: the head's distance
    profile at like positions; the best fixed offset; other punctuation in the same octave of distance;
    labels shifted within the story.
    """

    name = "sentence_end"
    description = "looks at the mark that closed the sentence before"
    family = "relational"
    served = "the token before the closing mark, and the first token after it"

    def calibrate(self, batch: TokenBatch) -> Mapping[Position, Pairs]:
        """All pairs of word and mark, and of the token before the word and mark."""
        pos = np.arange(batch.tokens.shape[1])
        marks = np.where(batch.sentence_end, pos, -1)
        nearest = np.maximum.accumulate(marks, axis=1)
        before = np.concatenate(
            [np.full((len(marks), 1), -1), nearest[:, :-1]], axis=1
        )  # strictly before a position
        row, query = (batch.word_last & (before >= 0)).nonzero()
        word = averaged(row, query, before[row, query])
        row, first = (batch.word_first & (before >= 0)).nonzero()
        query, key = first - 1, before[row, first]
        apart = key < query
        return {"word": word, "before": averaged(row[apart], query[apart], key[apart])}

    def rows(self, batch: TokenBatch, calibration: Calibration) -> list[Row]:
        """A row at the word, a row before it."""
        rows = []
        other = batch.punctuation & ~batch.sentence_end
        for position, everywhere in self.calibrate(batch).items():
            offsets = calibration.offsets.get((self.name, position), [])
            value = off_most_frequent(everywhere, offsets)
            n = len(batch.length)
            at_offset = value.sums(value.distance == offsets[1], n) if len(offsets) > 1 else np.zeros(n)
            asks = np.zeros_like(other)
            asks[value.row, value.query] = True
            earlier = np.tri(other.shape[1], k=-1, dtype=bool)
            candidate = asks[:, :, None] & other[:, None, :] & earlier
            nulls = {
                "distance": Null(pairs=distance_profile(value, batch, by_position=True)),
                "offset": Null(number=(at_offset, at_offset)),
                "punctuation": Null(difference=matched_difference(value, batch, candidate)),
                "shifted": Null(pairs=shifted(value, batch)),
            }
            rows.append(Row(position, value, nulls, value_all=everywhere))
        return rows


PROBE = SentenceEnd()
