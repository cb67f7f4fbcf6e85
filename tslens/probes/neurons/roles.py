"""From a sample of activations to roles: the label that a neuron fires at, held against its nulls.

1. On one half of the stories each neuron chooses the label that explains most of the variance of its activation, among
   those at whose tokens it is higher. On the other half the area under the curve of that label is read.
2. Nulls: the labels moved in a circle around their stories; two random twins of the model, whose neurons choose and
   are read in the same way. ``excess``: the area minus the larger null (of the twins: their 95th percentile).
3. ``p``: the larger of two. That of "no more than where the labels are moved", from the error over stories
   (Obuchowski 1997). That of "a random neuron does as well": how many deviations over the twins' neurons the area lies
   from their mean, held against what these reach at the labels that they chose themselves: a word that is frequent
   looks like a role to many a random neuron.
4. ``candidate``: among the discoveries at a false discovery rate of 5% (Benjamini and Hochberg 1995), and the lower end
   of the area, corrected for the selection (Benjamini and Yekutieli 2005), reaches the floor. ``unclear``: a discovery
   below it. ``no``: the rest.
5. ``basis``: ``contextual`` where, on the tokens whose word does not decide the label, the label explains 5% of the
   variance of the activation beyond the best predictor from word, pair of words and position (lower end, one-sided 95%,
   over stories); else ``positional`` where its mean at each position goes with the activation better than its mean for
   each word, else ``lexical``. Not said of neurons without a discovery.

Axes: token, neuron, label.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import false_discovery_control, norm, t

from tslens.probes.neurons.codes import (
    areas,
    areas_within,
    average_precision,
    clustered_error,
    decode,
    encode,
    placements,
)
from tslens.probes.neurons.predictor import Predicted, TokenPredictor
from tslens.probes.neurons.sample import Sample
from tslens.stats import N_REPLICATES, poisson_weights, second_half
from tslens.types import Basis, NeuronId, NeuronRole, Status

NEURON_FLOOR = 0.65  # of the area, written down before any model was scanned (DESIGN 7.5)
CONTEXT_FLOOR = 0.05  # of the variance beyond tokens (DESIGN 7.6)
DISCOVERY_RATE = 0.05
MIN_TOKENS = 50  # with a label, and without, on either half
MIN_STORIES = 10  # with such a token, on either half
AMBIGUOUS = (0.1, 0.9)  # share of a word's tokens that have the label
AMBIGUOUS_COUNT = 20  # tokens of the word on the other half
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
    def of(cls, twins: Sequence[Halves], eligible: Bool[np.ndarray, " label"]) -> TwinNull:
        """Each neuron of each twin chooses on the first half, and is read on the second."""
        chosen = np.concatenate([choose(twin.first, eligible) for twin in twins])
        found = np.concatenate([areas(twin.second.codes, twin.second.tokens.flags) for twin in twins])
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
    ) -> list[Found | None]:
        """Each neuron at the label that it chose; None where it chose none."""
        found: list[Found | None] = []
        for start in range(0, len(chosen), BLOCK):
            block = slice(start, start + BLOCK)
            predicted = self.predictor.predict(decode(self.halves.first.codes[:, block]))
            values = decode(self.halves.second.codes[:, block])
            for i, label in enumerate(chosen[block].tolist()):
                found.append(None if label < 0 else self._read(start + i, i, label, values[:, i], predicted))
            progress(len(found))
        return found

    def _read(
        self, neuron: int, i: int, label: int, value: Float[np.ndarray, " token"], predicted: Predicted
    ) -> Found:
        tokens, codes = self.halves.second.tokens, self.halves.second.codes[:, neuron]
        flag = tokens.flags[:, label]
        place = placements(codes, flag)
        area = float(place[flag].mean())
        moved = [(placements(codes, one), one) for one in tokens.shifted[:, :, label]]
        shifted = float(np.mean([each[one].mean() for each, one in moved]))
        off = _influence(place, flag) - np.mean([_influence(*each) for each in moved], 0)
        n_stories = self.weights.shape[1]
        error = _error(off, self.story, n_stories)
        p_moved = float(t.sf((area - shifted) / error, n_stories - 1)) if error > 0 else 1.0
        alone = np.stack([one[:, i] for one in (predicted.token, predicted.bigram, predicted.position)], 1)
        of_tokens, of_bigrams, of_positions = areas(encode(alone), flag[:, None])[:, 0].tolist()
        is_ambiguous = self.ambiguous(label)
        within, _ = _within(codes, flag, tokens.token, is_ambiguous)
        first = self.halves.first
        return Found(
            label=label,
            area=area,
            error=clustered_error(place, flag, self.story),
            degrees=n_stories - 1,
            first_area=float(areas(first.codes, first.tokens.flags[:, [label]], [neuron])[0, 0]),
            precision=average_precision(codes, flag),
            variance=float(np.corrcoef(value, flag)[0, 1]) ** 2,
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
            within=within,
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
        """What explains the role: see the head of this file."""
        flag = self.halves.second.tokens.flags[:, label]
        asks, rest = is_ambiguous & flag, is_ambiguous & ~flag
        if min(asks.sum(), rest.sum()) >= MIN_TOKENS and len(np.unique(self.story[asks])) >= MIN_STORIES:
            best, share = predicted.best[:, i], self.labels.best[:, label]
            if self._beyond(value, best, flag, share, is_ambiguous)[1] >= CONTEXT_FLOOR:
                return "contextual"
        words, places = (np.corrcoef(value, one[:, i])[0, 1] for one in (predicted.token, predicted.position))
        return "positional" if np.nan_to_num(places) > np.nan_to_num(words) else "lexical"

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
    codes: np.ndarray, flag: np.ndarray, token: np.ndarray, is_ambiguous: np.ndarray
) -> tuple[float | None, int]:
    """Area among tokens of the same word, mean over words by their pairs; None without pairs."""
    if not is_ambiguous.any():
        return None, 0
    _, word = np.unique(token[is_ambiguous], return_inverse=True)
    area, pairs = areas_within(codes[is_ambiguous], flag[is_ambiguous], word)
    known = pairs > 0
    n = int(pairs[known].sum())
    return (float(area[known] @ pairs[known] / n) if n else None), n


def _influence(
    placement: Float[np.ndarray, " token"], flag: Bool[np.ndarray, " token"]
) -> Float[np.ndarray, " token"]:
    """How much each token moves the area."""
    area = placement[flag].mean()
    return (placement - area) / np.where(flag, flag.sum(), (~flag).sum())


def _error(off: Float[np.ndarray, " token"], story: Int[np.ndarray, " token"], n_stories: int) -> float:
    per_story = np.bincount(story, off, n_stories)
    return float(np.sqrt((per_story**2).sum() * n_stories / max(n_stories - 1, 1)))


def judge_neurons(
    neurons: Sequence[NeuronId], labels: Sequence[str], found: Sequence[Found | None]
) -> list[NeuronRole]:
    """Statuses, corrected for the number of neurons."""
    adjusted, corrected = _corrected(found)
    roles = []
    for neuron, one, q, low in zip(neurons, found, adjusted.tolist(), corrected.tolist(), strict=True):
        if one is None:
            roles.append(NeuronRole.none(neuron))
            continue
        status: Status = "no"
        if q <= DISCOVERY_RATE and one.excess > 0:
            status = "candidate" if min(low, one.first_area) >= NEURON_FLOOR else "unclear"
        reach = float(t.ppf(0.975, one.degrees)) * one.error
        roles.append(
            NeuronRole(
                neuron=neuron,
                role=labels[one.label],
                auroc=one.area,
                low=one.area - reach,
                high=one.area + reach,
                auroc_low=low,
                precision=one.precision,
                variance=one.variance,
                variance_beyond_token=one.beyond_token,
                nulls=one.nulls,
                excess=one.excess,
                p=q,
                status=status,
                basis=None if status == "no" else one.basis,
                within_word=one.within,
                n_ambiguous=one.n_ambiguous,
            )
        )
    return roles


def reach_floor(found: Sequence[Found | None], floor: float) -> int:
    """How many neurons would be candidates at a floor."""
    adjusted, corrected = _corrected(found)
    return sum(
        one is not None and q <= DISCOVERY_RATE and one.excess > 0 and min(low, one.first_area) >= floor
        for one, q, low in zip(found, adjusted.tolist(), corrected.tolist(), strict=True)
    )


def _corrected(found: Sequence[Found | None]) -> tuple[np.ndarray, np.ndarray]:
    """p-values at a false discovery rate, and lower ends of the areas, corrected for the selection of discoveries."""
    p = np.array([1.0 if one is None else one.p for one in found])
    adjusted = false_discovery_control(p)
    tail = DISCOVERY_RATE * max(int((adjusted <= DISCOVERY_RATE).sum()), 1) / len(p)
    low = [
        0.5 if one is None else one.area - float(t.ppf(1 - tail, one.degrees)) * one.error for one in found
    ]
    return adjusted, np.array(low)
