"""Classes of tokens by part of speech: what a predictor may know of a token that knows no word."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from tslens.probes.batch import TokenBatch
from tslens.probes.units import KINDS

NO_UNIT = len(KINDS)  # line breaks and other tokens that hold no piece of a word or mark
FIRST = NO_UNIT + 1  # the token that begins a story
NOT_SEEN = NO_UNIT + 2


def kind_of_tokens(batch: TokenBatch) -> Int[np.ndarray, "row pos"]:
    """Number of each token's part of speech in ``KINDS``, that of the last unit it holds a piece of."""
    kind = np.full(batch.tokens.shape, NO_UNIT)
    kind[:, 0] = FIRST
    units = batch.units
    for row, unit in zip(*(units.kind >= 0).nonzero(), strict=True):
        kind[row, units.first[row, unit] : units.last[row, unit] + 1] = units.kind[row, unit]
    return kind


def token_classes(batches: Iterable[TokenBatch], d_vocab: int) -> Int[Tensor, " d_vocab"]:
    """The part of speech that each token mostly has in these stories, as classes numbered from 0 without a gap.

    The token that begins stories, tokens of no unit, and tokens that are not in the stories are classes of their own.
    """
    count = np.zeros((d_vocab, NOT_SEEN + 1), dtype=np.int64)
    for batch in batches:
        real = batch.is_token
        np.add.at(count, (batch.tokens[real], kind_of_tokens(batch)[real]), 1)
    mostly = np.where(count.any(1), count.argmax(1), NOT_SEEN)
    _, classes = np.unique(mostly, return_inverse=True)
    return torch.from_numpy(classes.astype(np.int64))
