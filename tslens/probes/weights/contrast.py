"""Pairs of tokens against like tokens in a table of one head's scores: how far they stand out, in spreads of the table.

For a pair (i, j): score[i, j] minus the mean of score[i, j'] over the like tokens j', divided by the deviation of
score[i, :] over all seen tokens, each as often as it occurs. Axes: token (seen tokens), pair, bin.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float

from tslens.probes.weights.circuits import Scores
from tslens.probes.weights.relations import MIN_LIKE, SeenTokens, TokenPairs

TOP = 10  # of all seen tokens


@dataclass(frozen=True)
class ScoreTable:
    """Scores of one head, each row around 0, and what every relation needs of them.

    ``spread``: of each row. ``by_bin``: sum over the tokens of a bin.
    """

    scores: Scores
    spread: Float[np.ndarray, " token"]
    by_bin: Float[np.ndarray, "token bin"]

    @classmethod
    def of(cls, scores: Scores, seen: SeenTokens) -> ScoreTable:
        """``scores`` is not modified."""
        scores = scores - (scores @ seen.share)[:, None]
        spread = np.sqrt(np.square(scores) @ seen.share)
        return cls(scores, spread, scores @ seen.in_bin)

    @cached_property
    def least_of_top(self) -> Float[np.ndarray, " token"]:
        """Tenth best of each row."""
        best = min(TOP, self.scores.shape[1])
        least: np.ndarray = np.partition(self.scores, -best, axis=1)[:, -best]
        return least


@dataclass(frozen=True)
class Contrast:
    """How each pair of a relation stands out, 0 for those without like tokens, which have no weight.

    ``nats``: above like tokens, in the unit of the table. ``spreads``: the same in deviations of its row; 0 where
    nothing varies.
    """

    nats: Float[np.ndarray, " pair"]
    spreads: Float[np.ndarray, " pair"]


def contrast(table: ScoreTable, pairs: TokenPairs, seen: SeenTokens) -> Contrast:
    """All pairs of a relation."""
    first, of_bin = pairs.first, seen.bin[pairs.second]
    like = _mean_of_like(table, pairs, seen)[first, of_bin]
    nats = np.where(pairs.n_like[first, of_bin] >= MIN_LIKE, table.scores[first, pairs.second] - like, 0.0)
    spread = table.spread[first]
    return Contrast(nats, np.where(spread > 0, nats / np.where(spread > 0, spread, 1.0), 0.0))


def among_top(table: ScoreTable, pairs: TokenPairs) -> Bool[np.ndarray, " pair"]:
    """Whether each pair is among the ten best of its row."""
    is_top = table.scores[pairs.first, pairs.second] >= table.least_of_top[pairs.first]
    return np.asarray(is_top & (table.spread[pairs.first] > 0))


def dealt_anew(table: ScoreTable, pairs: TokenPairs, seen: SeenTokens) -> float:
    """Mean over the relation, in spreads, if its second tokens were dealt to its first tokens anew, whatever they are.

    The exact mean over all deals: each first token keeps its weight and meets each second token as often as that
    occurs in the relation.
    """
    n, n_bins = seen.in_bin.shape
    weight = pairs.mean_weight
    of_first = np.bincount(pairs.first, weights=weight, minlength=n)
    of_second = np.bincount(pairs.second, weights=weight, minlength=n)
    asked = np.flatnonzero((of_first > 0) & (table.spread > 0))
    allowed = pairs.n_like[asked] >= MIN_LIKE
    dealt = np.bincount(seen.bin, weights=of_second, minlength=n_bins)
    met = np.flatnonzero(of_second)
    reached = table.scores[np.ix_(asked, met)] @ (seen.in_bin[met] * of_second[met, None])
    beyond = np.where(allowed, reached - _mean_of_like(table, pairs, seen)[asked] * dealt, 0.0).sum(1)
    share = (allowed * dealt).sum(1)
    known = share > 0
    if not known.any():
        return 0.0
    per_token = beyond[known] / share[known] / table.spread[asked][known]
    return float(np.average(per_token, weights=of_first[asked][known]))


def _mean_of_like(table: ScoreTable, pairs: TokenPairs, seen: SeenTokens) -> Float[np.ndarray, "token bin"]:
    """Mean score of the tokens of each bin that are no pair of the relation with the first token."""
    n, n_bins = seen.in_bin.shape
    cell = pairs.first * n_bins + seen.bin[pairs.second]
    own = np.bincount(cell, weights=table.scores[pairs.first, pairs.second], minlength=n * n_bins)
    return (table.by_bin - own.reshape(n, n_bins)) / np.maximum(pairs.n_like, 1.0)
