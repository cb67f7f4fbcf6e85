"""Sentence end: attention from any word to the nearest earlier closing mark.

Source: Eldan and Li 2023, section 5.1, name such a head; scored as a relation (Clark et al. 2019) against nulls.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from tslens.probes.batch import TokenBatch
from tslens.probes.relation import RelationProbe, next_token
from tslens.probes.units import KIND, NO_LABELS, UnitPairs, last_earlier


class SentenceEnd(RelationProbe):
    """From every word to the mark that closed the sentence before; needs no labels.

    Like units are marks that close no sentence.
    """

    name = "sentence_end"
    description = "looks at the mark that closed the sentence before"
    served = "the prediction of a closing mark, and what follows the first token after one"
    cost = 13.0
    relation = "sentence_end"
    labels = NO_LABELS
    stand_ins = frozenset({"PUNCT"})

    def pairs(self, batch: TokenBatch) -> UnitPairs:
        """Each word and the last closing mark before it, by rule from characters."""
        return last_earlier(batch.units.is_word, batch.units.kind == KIND["closing"])

    def serves(self, batch: TokenBatch) -> Bool[np.ndarray, "row pos"]:
        """Where the next token holds a closing mark, and the first token after one."""
        after = np.zeros_like(batch.sentence_end)
        after[:, 1:] = batch.sentence_end[:, :-1]
        return batch.is_query & (next_token(batch.sentence_end) | after)


PROBE = SentenceEnd()
