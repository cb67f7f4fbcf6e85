"""What is read of each neuron on the second half of a sample, at the label that it chose on the first.

Axes: token, neuron, label.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt16
from scipy.stats import t

from tslens.probes.neurons.choice import BLOCK, MIN_STORIES, MIN_TOKENS, Halves, TwinNull
from tslens.probes.neurons.codes import (
    areas,
    areas_within,
    average_precision,
    decode,
    encode,
    error_over_stories,
    influence,
    placements,
)
from tslens.probes.neurons.predictor import Predicted, TokenPredictor
from tslens.stats import N_REPLICATES, poisson_weights
from tslens.types import Basis

CONTEXT_FLOOR = 0.05  # of the variance beyond tokens
AMBIGUOUS = (0.1, 0.9)  # share of a word's tokens that have the label
AMBIGUOUS_COUNT = 20  # tokens of the word on the other half


@dataclass(frozen=True)
class Found:
    """What was read of one neuron on the second half, before any correction."""

    label: int
    area: float
    error: float
    degrees: int
    first_area: float
    precision: float
    variance: float
    beyond_token: float
    nulls: dict[str, float]
    p: float
    basis: Basis
    within: float | None
    n_ambiguous: int

    @property
    def excess(self) -> float:
        """The area minus the larger null."""
        return self.area - max(self.nulls["shifted"], self.nulls["twins"])


@dataclass(frozen=True)
class Explained:
    """Share of the variance of one neuron's activation on the second half that its means on the first half explain: of
    each word, of each pair of words, at each position (squared correlation)."""

    token: float
    bigram: float
    position: float


@dataclass(frozen=True)
class Reading:
    """What was read of one neuron; ``found`` is None where it chose no label."""

    explained: Explained
    found: Found | None


class Reader:
    """Reads the neurons of a sample on its second half."""

    def __init__(self, halves: Halves, twins: TwinNull, *, seed: int) -> None:
        self.halves, self.twins = halves, twins
        first, second = halves.first.tokens, halves.second.tokens
        self.predictor = TokenPredictor(first, second)
        keys, self.story = np.unique(second.story, return_inverse=True)
        self.weights = poisson_weights(seed, keys.tolist(), N_REPLICATES)
        self.labels = self.predictor.predict(first.flags.astype(np.float32))
        counts = np.bincount(first.token, minlength=int(second.token.max(initial=0)) + 1)
        self.is_known = counts[second.token] >= AMBIGUOUS_COUNT

    def ambiguous(self, label: int) -> Bool[np.ndarray, " token"]:
        """Tokens of the second half whose word does not decide the label."""
        share = self.labels.token[:, label]
        return (share >= AMBIGUOUS[0]) & (share <= AMBIGUOUS[1]) & self.is_known

    def word_alone(self, label: int) -> tuple[float, float]:
        """Area of the label by its share among the tokens of the word, and of the pair of words."""
        flag = self.halves.second.tokens.flags[:, [label]]
        shares = np.stack([self.labels.token[:, label], self.labels.bigram[:, label]], 1)
        token, bigram = areas(encode(shares), flag)[:, 0]
        return float(token), float(bigram)

    def read(
        self, chosen: Int[np.ndarray, " neuron"], progress: Callable[[int], None] = lambda n: None
    ) -> list[Reading]:
        """Each neuron, at the label that it chose."""
        readings: list[Reading] = []
        for start in range(0, len(chosen), BLOCK):
            block = slice(start, start + BLOCK)
            predicted = self.predictor.predict(decode(self.halves.first.codes[:, block]))
            values = decode(self.halves.second.codes[:, block])
            for i, label in enumerate(chosen[block].tolist()):
                means = (predicted.token, predicted.bigram, predicted.position)
                explained = Explained(*(_correlation(values[:, i], one[:, i]) ** 2 for one in means))
                found = None if label < 0 else self._read(start + i, i, label, values[:, i], predicted)
                readings.append(Reading(explained, found))
            progress(len(readings))
        return readings

    def _read(
        self, neuron: int, i: int, label: int, value: Float[np.ndarray, " token"], predicted: Predicted
    ) -> Found:
        tokens, codes = self.halves.second.tokens, self.halves.second.codes[:, neuron]
        flag = tokens.flags[:, label]
        place = placements(codes, flag)
        area = float(place[flag].mean())
        moved = [(placements(codes, one), one) for one in tokens.shifted[:, :, label]]
        shifted = float(np.mean([each[one].mean() for each, one in moved]))
        off = influence(place, flag) - np.mean([influence(*each) for each in moved], 0)
        n_stories = self.weights.shape[1]
        error = error_over_stories(off, self.story)
        p_moved = float(t.sf((area - shifted) / error, n_stories - 1)) if error > 0 else 1.0
        alone = np.stack([one[:, i] for one in (predicted.token, predicted.bigram, predicted.position)], 1)
        of_tokens, of_bigrams, of_positions = areas(encode(alone), flag[:, None])[:, 0].tolist()
        is_ambiguous = self.ambiguous(label)
        first = self.halves.first
        return Found(
            label=label,
            area=area,
            error=error_over_stories(influence(place, flag), self.story),
            degrees=n_stories - 1,
            first_area=float(areas(first.codes, first.tokens.flags[:, [label]], [neuron])[0, 0]),
            precision=average_precision(codes, flag),
            variance=_correlation(value, flag) ** 2,
            beyond_token=self._beyond(value, predicted.token[:, i], flag, self.labels.token[:, label])[0],
            nulls={
                "shifted": shifted,
                "twins": self.twins.level(label),
                "tokens": of_tokens,
                "bigrams": of_bigrams,
                "positions": of_positions,
            },
            p=max(p_moved, self.twins.p(label, area)),
            basis=self._basis(i, label, value, predicted, is_ambiguous),
            within=_within(codes[is_ambiguous], flag[is_ambiguous], tokens.token[is_ambiguous]),
            n_ambiguous=int(is_ambiguous.sum()),
        )

    def _basis(
        self,
        i: int,
        label: int,
        value: Float[np.ndarray, " token"],
        predicted: Predicted,
        is_ambiguous: Bool[np.ndarray, " token"],
    ) -> Basis:
        """What explains the role: see ``roles``."""
        flag = self.halves.second.tokens.flags[:, label]
        asks, rest = is_ambiguous & flag, is_ambiguous & ~flag
        if min(asks.sum(), rest.sum()) >= MIN_TOKENS and len(np.unique(self.story[asks])) >= MIN_STORIES:
            best, share = predicted.best[:, i], self.labels.best[:, label]
            if self._beyond(value, best, flag, share, is_ambiguous)[1] >= CONTEXT_FLOOR:
                return "contextual"
        words, places = (_correlation(value, one[:, i]) for one in (predicted.token, predicted.position))
        return "positional" if places > words else "lexical"

    def _beyond(
        self,
        value: Float[np.ndarray, " token"],
        predicted: Float[np.ndarray, " token"],
        flag: Bool[np.ndarray, " token"],
        share: Float[np.ndarray, " token"],
        chosen: Bool[np.ndarray, " token"] | None = None,
    ) -> tuple[float, float]:
        """Share of the variance that a label explains beyond a predictor, and its lower end; below zero if it lowers.

        Both activation and label are taken less what the predictor, fitted on the other half, makes of them.
        """
        pick = slice(None) if chosen is None else chosen
        mine, story = value[pick], self.story[pick]
        left, of_label = mine - predicted[pick], flag[pick] - share[pick]
        left, of_label = left - left.mean(), of_label - of_label.mean()
        parts = (left * of_label, of_label**2, (mine - mine.mean()) ** 2)
        summed = np.stack([np.bincount(story, part, self.weights.shape[1]) for part in parts], 1)
        both, squares, total = (self.weights @ summed).T
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = np.sign(both) * both**2 / (squares * total)
        shares = np.nan_to_num(shares)
        return float(shares[0]), float(np.quantile(shares[1:], 0.05))


def _within(
    codes: UInt16[np.ndarray, " token"],
    flag: Bool[np.ndarray, " token"],
    token: Int[np.ndarray, " token"],
) -> float | None:
    """Area among tokens of the same word, mean over words by their pairs; None without pairs."""
    _, word = np.unique(token, return_inverse=True)
    area, pairs = areas_within(codes, flag, word)
    known = pairs > 0
    return float(np.average(area[known], weights=pairs[known])) if known.any() else None


def _correlation(one: Float[np.ndarray, " token"], other: Float[np.ndarray, " token"]) -> float:
    """Pearson's; 0 where one does not vary."""
    spread = float(one.std() * other.std())
    return float(np.mean((one - one.mean()) * (other - other.mean()))) / spread if spread > 0 else 0.0
