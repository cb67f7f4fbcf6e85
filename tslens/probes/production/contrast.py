"""Which places of a story are held against which: weights that text alone decides.

The value of a class in a story is one weighted sum over its places, for every head the same: each place of the class
counts equally, and against it the mean of the places of the same stratum that are not of the class. Places without a
match have weight 0. The null ``moved`` is the same sum after what comes next is moved around the story's places, while
positions and losses stay.

Axes: place, row, class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from tslens.probes.production.classes import Classes
from tslens.probes.production.places import Places

N_MOVES = 2


@dataclass(frozen=True)
class Weights:
    """``value``: weights of each class's value. ``less_moved``: the same, minus those of the null, for the difference.

    ``has_value``, ``has_both``: whether a story has a place of the class with a match, and also where it is moved.
    """

    value: Float[np.ndarray, "place class"]
    less_moved: Float[np.ndarray, "place class"]
    has_value: Bool[np.ndarray, "row class"]
    has_both: Bool[np.ndarray, "row class"]

    @classmethod
    def of(cls, classes: Classes, places: Places, clusters: Sequence[int], seed: int) -> Weights:
        """Of a batch. ``clusters``: the key of each row."""
        value, moved = np.zeros((len(places), len(classes))), np.zeros((len(places), len(classes)))
        has_value = np.zeros((len(clusters), len(classes)), dtype=bool)
        has_moved = has_value.copy()
        for row, (where, key) in enumerate(zip(places.of_rows(len(clusters)), clusters, strict=True)):
            mine = places.select(where)
            value[where] = matched(classes.holds(mine), classes.strata(mine))
            has_value[row] = value[where].any(0)
            turned = [_turned(mine, by) for by in moves(len(mine), key, seed)]
            each = np.stack([matched(classes.holds(one), classes.strata(one)) for one in turned])
            there = each.any(1)
            moved[where] = each.sum(0) / np.maximum(there.sum(0), 1)
            has_moved[row] = there.any(0)
        return cls(value, value - moved, has_value, has_value & has_moved)

    def only(self, chosen: Bool[np.ndarray, " class"]) -> Weights:
        """Of some of the classes."""
        return Weights(
            self.value[:, chosen],
            self.less_moved[:, chosen],
            self.has_value[:, chosen],
            self.has_both[:, chosen],
        )


def matched(
    holds: Bool[np.ndarray, "place class"], strata: Int[np.ndarray, "place class"]
) -> Float[np.ndarray, "place class"]:
    """Weights of one story: they sum to 1 over matched places of the class, and to -1 over those of no class.

    All zero where no place of the class has a match.
    """
    weights = np.zeros(holds.shape)
    for column, (is_in, stratum) in enumerate(zip(holds.T, strata.T, strict=True)):
        _, number = np.unique(stratum, return_inverse=True)
        n_in = np.bincount(number, is_in, number.max(initial=-1) + 1)
        n_out = np.bincount(number, ~is_in, len(n_in))
        fits = (n_in > 0) & (n_out > 0)
        total = n_in[fits].sum()
        if total:
            of_out = np.where(fits, n_in / total / np.maximum(n_out, 1), 0.0)
            weights[:, column] = np.where(is_in, (fits / total)[number], -of_out[number])
    return weights


def moves(n: int, key: int, seed: int) -> list[int]:
    """By how many places to move a circle of ``n``: a tenth to nine tenths of them, by lot for each story."""
    drawn = np.random.default_rng([seed, 0x40BED, key]).integers(
        max(1, n // 10), max(2, n - n // 10), N_MOVES
    )
    found: list[int] = drawn.tolist()
    return found


def _turned(places: Places, by: int) -> Places:
    """The places of one story with what comes next moved around them."""
    return replace(places, kind=np.roll(places.kind, by), token=np.roll(places.token, by))
