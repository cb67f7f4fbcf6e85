"""Which label each neuron chooses on one half of the stories, and how far random neurons get by such a choice.

Axes: token, neuron, label.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import norm

from tslens.probes.neurons.codes import areas, decode
from tslens.probes.neurons.sample import Sample
from tslens.stats import second_half

MIN_TOKENS = 50  # with a label, and without, on either half
MIN_STORIES = 10  # with such a token, on either half
BLOCK = 128  # neurons whose activations are held as numbers at once


@dataclass(frozen=True)
class Halves:
    """The two halves of a sample: on ``first`` labels are chosen, on ``second`` they are read."""

    first: Sample
    second: Sample

    @classmethod
    def of(cls, sample: Sample) -> Halves:
        """By the story of each token."""
        stories, number = np.unique(sample.tokens.story, return_inverse=True)
        is_second = np.array([second_half(key) for key in stories.tolist()], dtype=bool)[number]
        return cls(sample.select(~is_second), sample.select(is_second))

    def eligible(self) -> Bool[np.ndarray, " label"]:
        """Labels that enough tokens of enough stories have on either half, and enough have not."""
        fits = np.ones(self.first.tokens.flags.shape[1], dtype=bool)
        for half in (self.first, self.second):
            flags, n = half.tokens.flags, half.tokens.flags.sum(0)
            _, number = np.unique(half.tokens.story, return_inverse=True)
            stories = np.array([len(np.unique(number[flag])) for flag in flags.T])
            fits &= (n >= MIN_TOKENS) & (len(half) - n >= MIN_TOKENS) & (stories >= MIN_STORIES)
        return fits


def choose(half: Sample, eligible: Bool[np.ndarray, " label"]) -> Int[np.ndarray, " neuron"]:
    """For each neuron the eligible label of highest correlation with its activation; -1 where none is above zero."""
    flags = half.tokens.flags.astype(np.float32)
    share = flags.mean(0)
    spread = np.sqrt(share * (1 - share))
    chosen = np.full(half.codes.shape[1], -1)
    for first in range(0, len(chosen), BLOCK):
        values = decode(half.codes[:, first : first + BLOCK])
        values -= values.mean(0)
        with np.errstate(divide="ignore", invalid="ignore"):
            correlation = values.T @ flags / len(half) / (spread * values.std(0)[:, None])
        correlation = np.where(eligible & np.isfinite(correlation), correlation, -1.0)
        best = correlation.argmax(1)
        chosen[first : first + BLOCK] = np.where(correlation.max(1) > 0, best, -1)
    return chosen


@dataclass(frozen=True)
class TwinNull:
    """What neurons of random twins reach.

    ``areas``: of every label. ``middle``, ``spread``: their mean and deviation over neurons, as distances between two
    normal distributions that have such an area (d'). ``reached``: of each neuron at the label that it chose, how many
    deviations from the mean, sorted.
    """

    areas: Float[np.ndarray, "twin_neuron label"]
    middle: Float[np.ndarray, " label"]
    spread: Float[np.ndarray, " label"]
    reached: Float[np.ndarray, " twin_neuron"]

    @classmethod
    def of(cls, twins: Iterable[Halves], eligible: Bool[np.ndarray, " label"]) -> TwinNull:
        """Each neuron of each twin chooses on the first half, and is read on the second; one twin at a time is held."""
        read = [
            (choose(twin.first, eligible), areas(twin.second.codes, twin.second.tokens.flags))
            for twin in twins
        ]
        chosen, found = (np.concatenate(part) for part in zip(*read, strict=True))
        found = np.where(np.isfinite(found), found, 0.5)
        apart = _apart(found)
        null = cls(found, apart.mean(0), np.maximum(apart.std(0), 1e-6), np.zeros(0))
        own = [null.reach(k, row[k]) if k >= 0 else -np.inf for k, row in zip(chosen, found, strict=True)]
        return replace(null, reached=np.sort(np.array(own)))

    def reach(self, label: int, area: float) -> float:
        """How far an area is from those of random neurons, in their deviations."""
        return float((_apart(area) - self.middle[label]) / self.spread[label])

    def level(self, label: int) -> float:
        """The 95th percentile of a label's areas."""
        return float(np.quantile(self.areas[:, label], 0.95))

    def p(self, label: int, area: float) -> float:
        """Share of twin neurons that reach as far at the label that they chose."""
        n_below = np.searchsorted(self.reached, self.reach(label, area))
        return float(1 + len(self.reached) - n_below) / (1 + len(self.reached))


def _apart(area: Float[np.ndarray, "..."] | float) -> Float[np.ndarray, "..."]:
    """d' of an area."""
    found: np.ndarray = 2**0.5 * norm.ppf(np.clip(area, 1e-6, 1 - 1e-6))
    return found
