"""Duplicate token: attention from each token to earlier copies of itself.

Source: Wang et al. 2022, Interpretability in the Wild; TransformerLens' head_detector.
"""

from __future__ import annotations

import numpy as np

from tslens.probes.base import Calibration, Null, Probe, Row
from tslens.probes.batch import TokenBatch
from tslens.probes.pairs import averaged, like_keys_difference


class DuplicateToken(Probe):
    """Mean over tokens that have occurred before in the story of the attention to all earlier copies.

    Nulls: the head's distance profile at like positions; other tokens of like frequency (within a factor
    of four) in the same octave of distance.
    """

    name = "duplicate_token"
    description = "looks at earlier copies of the current token"
    family = "identity"
    served = "every prediction after a repeated token"
    cost = 9.0

    def rows(self, batch: TokenBatch, calibration: Calibration) -> list[Row]:
        """One row."""
        is_query, tokens = batch.is_query, batch.tokens
        before = np.tri(tokens.shape[1], k=-1, dtype=bool)
        earlier = is_query[:, :, None] & is_query[:, None, :] & before
        same = tokens[:, :, None] == tokens[:, None, :]
        row, query, key = (earlier & same).nonzero()
        value = averaged(row, query, key)
        frequency = calibration.frequency_bin[tokens]
        like = earlier & ~same & (frequency[:, :, None] == frequency[:, None, :])
        nulls = {
            "distance": Null(profile=value),
            "frequency": Null(difference=like_keys_difference(value, batch, like)),
        }
        return [Row("word", value, nulls, has_mul=True)]


PROBE = DuplicateToken()
