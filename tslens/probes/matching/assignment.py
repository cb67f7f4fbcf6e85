"""How like two heads' attention is, and which unit of one model is which of another.

Axes: row (a story), query, key_pos, head, unit (a head or a neuron); a and b are the two models.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from einops import einsum
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

_TINY = 1e-30  # a key that nobody attends to adds nothing to an entropy


def _entropy(rows: Float[Tensor, "*row key_pos"]) -> Float[Tensor, "*row"]:
    """Shannon entropy in bits."""
    return -(rows * rows.clamp(min=_TINY).log2()).sum(-1)


def _similarity(
    a: Float[Tensor, "*row key_pos"],
    b: Float[Tensor, "*row key_pos"],
    entropy_a: Float[Tensor, "*row"],
    entropy_b: Float[Tensor, "*row"],
) -> Float[Tensor, "*row"]:
    divergence = _entropy((a + b) / 2) - (entropy_a + entropy_b) / 2
    return 1 - divergence.clamp(0, 1).sqrt()


def pattern_similarity(
    a: Float[Tensor, "*row key_pos"], b: Float[Tensor, "*row key_pos"]
) -> Float[Tensor, "*row"]:
    """1 minus the Jensen-Shannon distance of two rows of attention, each of which sums to 1.

    The distance is the square root of the divergence in bits (a metric: Endres and Schindelin 2003). Range: 0 where no
    key is looked at by both, to 1 where the rows are equal.
    """
    return _similarity(a, b, _entropy(a), _entropy(b))


def mean_over_queries(
    similarity: Float[Tensor, "row *unit query"], is_query: Bool[Tensor, "row query"]
) -> Float[Tensor, "row *unit"]:
    """Mean of each row over its queries."""
    weight = is_query.float() / is_query.sum(1, keepdim=True)
    return einsum(similarity, weight, "s ... q, s q -> s ...")


def similarity_matrix(
    a: Float[Tensor, "row head_a query key_pos"],
    b: Float[Tensor, "row head_b query key_pos"],
    is_query: Bool[Tensor, "row query"],
) -> Float[Tensor, "row head_a head_b"]:
    """Similarity of every head of one model to every head of another, mean over the queries of each row."""
    entropy_a, entropy_b = _entropy(a), _entropy(b)
    found = [
        mean_over_queries(_similarity(a[:, [i]], b, entropy_a[:, [i]], entropy_b), is_query)
        for i in range(a.shape[1])
    ]
    return torch.stack(found, 1)


# Which is which -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Assignment:
    """One-to-one pairs. ``a``, ``b``: units of each pair, in the order of ``a``; as many as the smaller model has."""

    a: Int[np.ndarray, " pair"]
    b: Int[np.ndarray, " pair"]

    def values(self, matrix: Float[np.ndarray, "unit_a unit_b"]) -> Float[np.ndarray, " pair"]:
        """What a matrix holds at the pairs."""
        return matrix[self.a, self.b]

    def of_a(self, matrix: Float[np.ndarray, "unit_a unit_b"]) -> Float[np.ndarray, " unit_a"]:
        """What a matrix holds at the pair of each unit of a, NaN for a unit without one."""
        found = np.full(matrix.shape[0], np.nan)
        found[self.a] = self.values(matrix)
        return found

    def of_b(self, matrix: Float[np.ndarray, "unit_a unit_b"]) -> Float[np.ndarray, " unit_b"]:
        """What a matrix holds at the pair of each unit of b, NaN for a unit without one."""
        found = np.full(matrix.shape[1], np.nan)
        found[self.b] = self.values(matrix)
        return found


def assign(matrix: Float[np.ndarray, "unit_a unit_b"]) -> Assignment:
    """The pairs with the largest sum (Kuhn 1955, the Hungarian method), each unit in one pair at most."""
    return Assignment(*linear_sum_assignment(matrix, maximize=True))


def is_mutual(matrix: Float[np.ndarray, "unit_a unit_b"], pairs: Assignment) -> Bool[np.ndarray, " pair"]:
    """Whether the two units of a pair are each other's nearest of all."""
    found: np.ndarray = (matrix.argmax(1)[pairs.a] == pairs.b) & (matrix.argmax(0)[pairs.b] == pairs.a)
    return found


def mean_of_others(
    matrix: Float[np.ndarray, "unit_a unit_b"], pairs: Assignment
) -> Float[np.ndarray, " pair"]:
    """Mean of the matrix over all other partners of either unit; NaN where there are none."""
    n_others = sum(matrix.shape) - 2
    if n_others == 0:
        return np.full(len(pairs.a), np.nan)
    total = matrix.sum(1)[pairs.a] + matrix.sum(0)[pairs.b] - 2 * pairs.values(matrix)
    found: np.ndarray = total / n_others
    return found


def exchanged_pairs(
    exchanged: Float[np.ndarray, "unit_a unit_b"], pairs: Assignment
) -> tuple[Int[np.ndarray, " pair"], Int[np.ndarray, " pair"]]:
    """Of each pair the two units that stand for it where stories are exchanged.

    The most alike under the exchange of three: the pair itself, and either of its units with the unit that an
    assignment made under the exchange gives it.
    """
    again = assign(exchanged)
    of_a, of_b = dict(zip(again.a, again.b, strict=True)), dict(zip(again.b, again.a, strict=True))
    chosen = []
    for a, b in zip(pairs.a, pairs.b, strict=True):
        candidates = [(a, b), (a, of_a.get(a, b)), (of_b.get(b, a), b)]
        chosen.append(max(candidates, key=lambda pair: exchanged[pair]))
    return np.array([a for a, _ in chosen]), np.array([b for _, b in chosen])
