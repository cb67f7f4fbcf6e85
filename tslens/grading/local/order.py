"""Where a sentence belongs, whether it is a last one, what follows it, and in which story: linear, on hashed columns.

All are fitted on real stories (``training/local_judge_tables.py``). A sentence is the set of its words and pairs of
neighbouring words, hashed into ``N_PLACE`` columns; its place is a number from 0 (the first sentence) to 1 (the last).
A pair of sentences is every word of one with every word of the other, hashed into ``N_FOLLOW`` columns, and so are the
beginning of a story and a sentence that may belong to it.

Axes: sentence, unit, column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

N_PLACE, N_FOLLOW = 2**15, 2**17
MOST_WORDS, MOST_BEGINNING = 24, 60  # of a sentence, of a beginning that are looked at
_MIX = np.uint64(0xD6E8FEB86659FD93)
_OPEN, _CLOSE = 60001, 60002  # ids beyond any vocabulary: the ends of a sentence


@dataclass(frozen=True, eq=False)
class Linear:
    """One model."""

    weights: Float[np.ndarray, " column"]
    bias: float

    def mean(self, columns: Int[np.ndarray, " column"]) -> float:
        """Mean weight of the columns, and the constant."""
        return float(self.weights[columns].mean() + self.bias)

    def odds(self, columns: Int[np.ndarray, " column"]) -> float:
        """Sum of the weights over the root of their number, and the constant."""
        return float(self.weights[columns].sum() / np.sqrt(len(columns)) + self.bias)


@dataclass(frozen=True, eq=False)
class OrderModel:
    """Weights and constants. ``place``: ridge regression; the others: logistic regressions, in log odds."""

    place: Linear
    last: Linear
    follow: Linear
    belong: Linear

    def places(self, sentences: Sequence[Int[np.ndarray, " unit"]]) -> Float[np.ndarray, " sentence"]:
        """Where each sentence belongs, about 0 to 1."""
        return np.array([self.place.mean(place_columns(ids)) for ids in sentences])

    def ends(self, ids: Int[np.ndarray, " unit"]) -> float:
        """Log odds that a sentence is the last of its story."""
        return self.last.odds(place_columns(ids))

    def belongs(self, beginning: Int[np.ndarray, " unit"], later: Int[np.ndarray, " unit"]) -> float:
        """Log odds that a sentence is of the story with that beginning, and not of another."""
        return self.belong.odds(belong_columns(beginning, later))

    def follows(
        self, sentences: Sequence[Int[np.ndarray, " unit"]]
    ) -> Float[np.ndarray, "sentence sentence"]:
        """Log odds that each sentence (row) is followed at once by each other (column)."""
        odds = np.zeros((len(sentences), len(sentences)))
        for row, earlier in enumerate(sentences):  # all at once would take gigabytes for a long text
            odds[row] = [self.follow.odds(follow_columns(earlier, later)) for later in sentences]
        return odds


def place_columns(ids: Int[np.ndarray, " unit"]) -> Int[np.ndarray, " column"]:
    """Columns of a sentence: its words, and its pairs of neighbours with both ends."""
    framed = np.concatenate(([_OPEN], ids[: 2 * MOST_WORDS], [_CLOSE])).astype(np.uint64)
    pairs = (framed[:-1] << np.uint64(16)) | framed[1:]
    return _columns(np.concatenate((framed[1:-1], pairs)), N_PLACE)


def follow_columns(
    earlier: Int[np.ndarray, " unit"], later: Int[np.ndarray, " unit"]
) -> Int[np.ndarray, " column"]:
    """Columns of a pair of sentences: every word of one with every word of the other, and how the later begins."""
    one = np.unique(earlier[:MOST_WORDS]).astype(np.uint64)
    two = np.unique(later[:MOST_WORDS]).astype(np.uint64)
    pairs = ((one[:, None] << np.uint64(16)) | two[None, :]).ravel()
    begins = np.concatenate(([_OPEN], later[:3])).astype(np.uint64)
    begin = (begins[:-1] << np.uint64(16)) | begins[1:] | np.uint64(1 << 40)
    last = np.uint64(earlier[-1]) << np.uint64(16) | begins[1:2] | np.uint64(1 << 41)
    return _columns(np.concatenate((pairs, begin, last)), N_FOLLOW)


def belong_columns(
    beginning: Int[np.ndarray, " unit"], later: Int[np.ndarray, " unit"]
) -> Int[np.ndarray, " column"]:
    """Columns of a beginning and a sentence: every word of one with every word of the other."""
    one = np.unique(beginning[:MOST_BEGINNING]).astype(np.uint64)
    two = np.unique(later[:MOST_WORDS]).astype(np.uint64)
    return _columns(((one[:, None] << np.uint64(16)) | two[None, :]).ravel() | np.uint64(1 << 42), N_FOLLOW)


def _columns(packed: np.ndarray, n: int) -> Int[np.ndarray, " column"]:
    mixed = packed * _MIX
    mixed ^= mixed >> np.uint64(31)
    return ((mixed * _MIX) >> np.uint64(40)).astype(np.int64) % n
