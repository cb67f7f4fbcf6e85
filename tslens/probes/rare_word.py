"""Rare word: attention from any token to the rarest words of the stretch before it.

Source: Voita et al. 2019, Analyzing Multi-Head Self-Attention: heads that point to the least frequent tokens.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from tslens.probes.base import Calibration, Null, Probe, Row
from tslens.probes.batch import TokenBatch
from tslens.probes.pairs import averaged, like_keys_difference
from tslens.probes.punctuation import within
from tslens.probes.relation import next_token

REACH = 32
RARE_SHARE = 0.1  # of the tokens of the stories read first: those of the least frequent words


class RareWord(Probe):
    """Mean over words of the attention to all tokens among the rarest tenth in the last 32 tokens.

    Nulls: the head's distance profile at like positions; the next rarest tenth in the same octave of distance.
    """

    name = "rare_word"
    description = "looks at the rarest words"
    family = "identity"
    served = "every prediction of a word"
    cost = 7.0

    def rows(self, batch: TokenBatch, calibration: Calibration) -> list[Row]:
        """One row."""
        near, counts = within(batch, REACH), calibration.token_counts
        rare, common = (rarest(counts, share) for share in (RARE_SHARE, 2 * RARE_SHARE))
        is_word = batch.word >= 0
        is_rare = rare[batch.tokens] & is_word
        is_next = common[batch.tokens] & ~rare[batch.tokens] & is_word
        asks = (batch.is_query & batch.word_last)[:, :, None] & near
        asks &= batch.word[:, :, None] != batch.word[:, None, :]  # its own first pieces are no other word
        row, query, key = (asks & is_rare[:, None, :]).nonzero()
        value = averaged(row, query, key)
        nulls = {
            "distance": Null(profile=value),
            "frequency": Null(difference=like_keys_difference(value, batch, asks & is_next[:, None, :])),
        }
        return [Row("word", value, nulls)]

    def serves(self, batch: TokenBatch) -> Bool[np.ndarray, "row pos"]:
        """Where the next token begins a word."""
        return batch.is_query & next_token(batch.word_first)


def rarest(counts: np.ndarray, share: float) -> Bool[np.ndarray, " vocab"]:
    """The least frequent tokens that together make up a share of the text; those that do not occur are among them."""
    order = np.argsort(counts, kind="stable")
    below = np.cumsum(counts[order]) <= share * counts.sum()
    found = np.zeros(len(counts), dtype=bool)
    found[order[below]] = True
    return found


PROBE = RareWord()
