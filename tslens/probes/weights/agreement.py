"""Do weights rank the heads as attention and intervention do? Rank correlations, and where they disagree.

1. For each relation the heads of a model (or of one layer) are ranked by a score from weights and by what was
   measured; Spearman's correlation is the correlation of these ranks.
2. Interval of one relation: Fisher's z with variance (1 + r^2 / 2) / (n - 3) (Bonett and Wright 2000), n heads.
3. Mean over relations: jackknife over heads, all relations of a head together, Student's quantile (drawing heads anew
   would tie the ranks of those drawn twice).
4. p: heads are permuted, the same way in all relations; of one relation, how often the largest correlation of any
   relation reaches its own; of the mean, how often the mean does.

Axes: relation, head, left_out (a head).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import kendalltau, norm, rankdata
from scipy.stats import t as student

from tslens.probes.weights.report import Agreement
from tslens.types import Position

MIN_HEADS = 6
N_PERMUTATIONS = 2000
HALVED = 0.5  # a change of measure explains a gap that it brings down to this share
Quantity = Float[np.ndarray, "relation head"]


@dataclass(frozen=True)
class Quantities:
    """What is ranked: numbers of each relation and head, NaN where there is none.

    ``relations``: probe and position of each row. ``layers``: of each head. ``scores``: from weights, by name;
    ``measures``: measured ones.
    """

    relations: Sequence[tuple[str, Position]]
    layers: Int[np.ndarray, " head"]
    scores: Mapping[str, Quantity]
    measures: Mapping[str, Quantity]


def rank_agreements(quantities: Quantities, *, seed: int) -> list[Agreement]:
    """Every score against every measure: each relation over all heads, and the mean over relations, by layer too.

    A relation is left out where a head has no number or all have the same; a group of fewer than six heads has none.
    """
    layers = np.unique(quantities.layers)
    groups: list[int | None] = [None, *(layers.tolist() if len(layers) > 1 else ())]
    found: list[Agreement] = []
    for layer in groups:
        chosen = np.flatnonzero(
            np.full(len(quantities.layers), True) if layer is None else quantities.layers == layer
        )
        if len(chosen) >= MIN_HEADS:
            found.extend(_of_group(quantities, chosen, layer, seed))
    return found


def _of_group(
    quantities: Quantities, heads: Int[np.ndarray, " head"], layer: int | None, seed: int
) -> Iterator[Agreement]:
    rng = np.random.default_rng([seed, 0x5EA])
    n = len(heads)
    permuted = np.stack([rng.permutation(n) for _ in range(N_PERMUTATIONS)])
    scores = {name: _Ranked.of(values[:, heads]) for name, values in quantities.scores.items()}
    measures = {name: _Ranked.of(values[:, heads]) for name, values in quantities.measures.items()}
    for score, by_weights in scores.items():
        for measure, measured in measures.items():
            rows = np.flatnonzero(by_weights.varies & measured.varies)
            if not len(rows):
                continue
            a, b = by_weights.ranks[rows], measured.ranks[rows]
            r = (a * b).sum(1)
            tau = np.array(
                [
                    kendalltau(x, y).statistic
                    for x, y in zip(by_weights.values[rows], measured.values[rows], strict=True)
                ]
            )
            null = np.einsum("rh,rph->pr", a, b[:, permuted])
            if layer is None:
                low, high = fisher_interval(r, n)
                largest = np.abs(null).max(1)
                for i, row in enumerate(rows.tolist()):
                    probe, position = quantities.relations[row]
                    yield Agreement(
                        probe, position, None, score, measure, n, 1, float(r[i]), float(low[i]), float(high[i]),
                        float(tau[i]), _p(largest, abs(r[i])),
                    )  # fmt: skip
            without = (by_weights.without[:, rows] * measured.without[:, rows]).sum(2).mean(1)
            lowest, highest = jackknife_interval(float(r.mean()), without)
            yield Agreement(
                None, None, layer, score, measure, n, len(rows), float(r.mean()), lowest, highest,
                float(tau.mean()), _p(np.abs(null.mean(1)), abs(r.mean())),
            )  # fmt: skip


@dataclass(frozen=True)
class _Ranked:
    """Ranks of heads scaled so that a product summed over heads is a correlation; ``without``: of all heads but one."""

    values: Quantity
    ranks: Quantity
    without: Float[np.ndarray, "left_out relation other_head"]
    varies: Bool[np.ndarray, " relation"]

    @classmethod
    def of(cls, values: Quantity) -> _Ranked:
        known, n = np.isfinite(values).all(1), values.shape[1]
        filled = np.where(known[:, None], values, 0.0)
        others = np.stack([np.delete(np.arange(n), head) for head in range(n)])
        without = filled[:, others].transpose(1, 0, 2)
        return cls(
            filled, _scaled_ranks(filled), _scaled_ranks(without), known & (np.ptp(filled, axis=1) > 0)
        )


def _scaled_ranks(values: Float[np.ndarray, "*row head"]) -> Float[np.ndarray, "*row head"]:
    """Ranks along the last axis, mean 0, length 1; zeros where all are alike."""
    ranks = rankdata(values, axis=-1)
    ranks = ranks - ranks.mean(-1, keepdims=True)
    length = np.sqrt(np.square(ranks).sum(-1, keepdims=True))
    return np.where(length > 0, ranks / np.where(length > 0, length, 1.0), 0.0)


def _p(null: Float[np.ndarray, " permutation"], found: float) -> float:
    """Share of permutations that reach it, the identity counted as one."""
    return float((1 + np.count_nonzero(null >= found - 1e-12)) / (1 + len(null)))


def fisher_interval(r: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """95% interval of Spearman's correlations over ``n`` heads (Bonett and Wright 2000)."""
    inside = np.clip(r, -1 + 1e-9, 1 - 1e-9)
    half = norm.ppf(0.975) * np.sqrt((1 + np.square(inside) / 2) / (n - 3))
    return np.tanh(np.arctanh(inside) - half), np.tanh(np.arctanh(inside) + half)


def jackknife_interval(estimate: float, without: Float[np.ndarray, " left_out"]) -> tuple[float, float]:
    """95% interval of an estimate from those with one head left out, cut at -1 and 1."""
    n = len(without)
    error = np.sqrt((n - 1) / n * np.square(without - without.mean()).sum())
    half = float(student.ppf(0.975, n - 1) * error)
    return max(estimate - half, -1.0), min(estimate + half, 1.0)


# Disagreements ------------------------------------------------------------------------------------------------


def ranks_first_is_1(values: Float[np.ndarray, "*row head"]) -> Float[np.ndarray, "*row head"]:
    """Rank among heads, the largest first; ties share the mean."""
    ranks: np.ndarray = rankdata(-values, axis=-1)
    return ranks


def explanations(
    by_weights: Quantity, attention: Quantity, changed: Mapping[str, tuple[Quantity, Quantity]]
) -> list[list[str | None]]:
    """Of each relation and head, the change of measure that brings its two ranks nearest, if it halves their gap.

    ``changed``: by name, the score and the attention that take the place of the first two. A change with a number
    missing in a relation is not tried there. Where the gap is 0, none is named.
    """
    gap = np.abs(ranks_first_is_1(by_weights) - ranks_first_is_1(attention))
    best: list[list[str | None]] = [[None] * gap.shape[1] for _ in range(len(gap))]
    least = gap * HALVED
    for name, (score, measure) in changed.items():
        known = np.isfinite(score).all(1) & np.isfinite(measure).all(1)
        after = np.abs(ranks_first_is_1(score) - ranks_first_is_1(measure))
        for relation, head in zip(*np.nonzero((after <= least) & (gap > 0) & known[:, None]), strict=True):
            if after[relation, head] < least[relation, head] or best[relation][head] is None:
                best[relation][head] = name
                least[relation, head] = after[relation, head]
    return best
