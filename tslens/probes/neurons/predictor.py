"""What tokens alone would make of a neuron: its mean for each word, for each common pair of words, at each position.

Fitted on one half of the sample, read on the other. A mean of few tokens is drawn toward what it refines: that of a
word toward the mean of all, that of a bigram toward that of its second word, as if it had been seen ``PRIOR`` times
more. The best predictor begins with the position: rare pairs would take its part away where they are fitted.

Axes: token (of a half), neuron (of a block), group.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix

from tslens.probes.neurons.sample import Tokens

N_BIGRAMS = 10_000
PRIOR = 2.0


@dataclass(frozen=True)
class Groups:
    """Which group each token of both halves belongs to, -1 for none, and how often each was fitted.

    ``fitted``: [group token] one where a token of the fitting half belongs to it.
    """

    of_read: Int[np.ndarray, " token"]
    of_fitted: Int[np.ndarray, " token"]
    fitted: csr_matrix

    @classmethod
    def of(cls, fitted: Int[np.ndarray, " token"], read: Int[np.ndarray, " token"]) -> Groups:
        """``fitted``, ``read``: number of the group of each token of either half; -1 for none."""
        n = int(max(fitted.max(initial=0), read.max(initial=0))) + 1
        place = np.flatnonzero(fitted >= 0)
        table = csr_matrix((np.ones(len(place), np.float32), (fitted[place], place)), (n, len(fitted)))
        return cls(read, fitted, table)

    def shrunk(
        self,
        values: Float[np.ndarray, "token neuron"],
        toward_fitted: Float[np.ndarray, "token neuron"],
        toward_read: Float[np.ndarray, "token neuron"],
    ) -> tuple[Float[np.ndarray, "token neuron"], Float[np.ndarray, "token neuron"]]:
        """Means of the groups for the tokens of either half, drawn toward what is given; that itself for no group."""
        off = self.fitted @ (values - toward_fitted)
        mean = off / (np.asarray(self.fitted.sum(1)) + PRIOR)
        mean = np.append(mean, np.zeros((1, values.shape[1]), mean.dtype), 0)  # for group -1
        return toward_fitted + mean[self.of_fitted], toward_read + mean[self.of_read]


@dataclass(frozen=True)
class Predicted:
    """Values that tokens and positions would give, on the half that is read."""

    token: Float[np.ndarray, "token neuron"]
    bigram: Float[np.ndarray, "token neuron"]
    position: Float[np.ndarray, "token neuron"]
    best: Float[np.ndarray, "token neuron"]


class TokenPredictor:
    """Groups of the tokens of two halves: the one it is fitted on, and the one it is read on."""

    def __init__(self, fitted: Tokens, read: Tokens) -> None:
        self._token = Groups.of(fitted.token, read.token)
        n_vocab = int(max(fitted.token.max(), read.token.max())) + 1
        of_fitted, of_read = (one.before.astype(np.int64) * n_vocab + one.token for one in (fitted, read))
        known, counts = np.unique(of_fitted, return_counts=True)
        common = np.sort(known[np.argsort(-counts, kind="stable")[:N_BIGRAMS]])
        self._bigram = Groups.of(_number(of_fitted, common), _number(of_read, common))
        self._position = Groups.of(fitted.pos, read.pos)

    def predict(self, values: Float[np.ndarray, "token neuron"]) -> Predicted:
        """``values``: of the half that it is fitted on."""
        mean = values.mean(0, keepdims=True)
        nothing = (
            np.broadcast_to(mean, values.shape),
            np.broadcast_to(mean, (len(self._token.of_read), values.shape[1])),
        )
        token = self._token.shrunk(values, *nothing)
        bigram = self._bigram.shrunk(values, *token)
        position = self._position.shrunk(values, *nothing)
        best = self._bigram.shrunk(values, *self._token.shrunk(values, *position))
        return Predicted(token[1], bigram[1], position[1], best[1])


def _number(values: Int[np.ndarray, " token"], known: Int[np.ndarray, " group"]) -> Int[np.ndarray, " token"]:
    """Place of each value among the known ones, sorted; -1 where it is not there."""
    place = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return np.where(known[place] == values, place, -1)
