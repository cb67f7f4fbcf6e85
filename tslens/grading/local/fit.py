"""Fitting the local judge: detectors on planted faults, a base for each criterion on grades that others gave.

A head fitted on grades alone learns what good models do and not what is wrong with a text (it prefers stories that are
cut short); one fitted on faults alone has no scale. So a grade is a base, less what a sure fault costs:

1. For each fault of ``MEANT`` a *detector*: logistic regression of twins against their own stories, drawn
   not to zero but to a multiple of ``MEANT``, the evidence that is meant for that fault, all of one weight (Dawes
   1979). Then its log odds are put on a scale of its own (Platt 1999), for one fault in ``exp(RARITY)`` texts.
2. The *base*: ridge regression of grades, with what the detectors take added back, in deviations of each set of grades.
   A share ``WITHIN`` of what differs between models is taken out of evidence and grades, so that it has to tell texts
   of one model apart; and it is held still at planted faults, which are the detectors' business.

Axes: text, evidence, pair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize

from tslens.grading.expected import EXPECTED
from tslens.grading.local.heads import Detector, Head, likeliest_fault
from tslens.grading.rubric import CRITERIA

POINTS = 3.0  # what a sure fault costs
WITHIN = 0.3
SHARED: Mapping[str, float] = MappingProxyType({"grammar": 1.0, "consistency": 1.0, "plot": 1.0})
"""How much of the mean of all criteria is added to the grade that a base is fitted on: they share what is wrong with a
text, and 200 grades are few. Creativity goes its own way."""
RIDGE, STILL = 2.0, 0.2  # of a base; how much it is held still at planted faults
FLOOR = 0.1  # of the variance of evidence in the first set, by which its weight is shrunk
PULL = 0.01  # of a detector to the evidence that is meant for its fault
RARITY = 1.0
FEWEST_VARIED = 10
FEWEST_PAIRS = 20  # of a kind, strength and source
STRENGTHS: Mapping[str, float] = MappingProxyType({"low": 0.5, "medium": 1.0, "high": 0.5})
UNFITTED = (1.5, -1.0)
"""Slope and constant of a detector that was fitted on nothing, in deviations beyond nine of ten stories."""

MEANT: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "word_order": {
            "surplus of the worst sentence": -1,
            "surplus of the worst quarter of sentences": -1,
            "pairs of words at odds": -1,
            "sentences in no known order": 1,
            "pairs of words never seen": 1,
        },
        "agreement": {"verbs at odds with their number": 1, "likelier in the other number": 1},
        "tense": {
            "verbs in the other tense": 1,
            "verbs in the other tense, a sentence": 1,
            "likelier in the other tense": 1,
        },
        "swapped_names": {
            "surprise of the names": 1,
            "surprise of the oddest name": 1,
            "odd names": 1,
            "odd names, a sentence": 1,
            "log odds of the names": -1,
            "subject and object the same": 1,
        },
        "changed_pronoun": {
            "surprise of the pronouns": 1,
            "surprise of the oddest pronoun": 1,
            "odd pronouns": 1,
            "odd pronouns, a sentence": 1,
            "pronouns of nobody": 1,
        },
        "repeated_sentence": {
            "sentences said again": 1,
            "sentences nearly said again": 1,
            "longest run used again": 1,
            "triples of words used again": 1,
        },
        "sentence_order": {
            "sentences follow": -1,
            "sentences follow, the worst quarter": -1,
            "order beside any order": -1,
            "places as they should be": -1,
            "misplaced sentences": 1,
            "openings inside": 1,
            "closings inside": 1,
            "things new after they were known": 1,
        },
        "missing_ending": {
            "closed by a mark": -1,
            "last sentences sound like an end": -1,
            "last sentence sounds like an end": -1,
            "last sentence is one that ends stories": -1,
            "one of the last sentences ends stories": -1,
            "speech is open at the end": 1,
            "closing words": -1,
        },
    }
)
"""The evidence that was made for each fault, and which way the fault moves it.

For a thing that is used after it was lost or broken ("object_back") there is none: rules on verbs, as a trial, were
moved by one twin in ten.
"""


@dataclass(frozen=True, eq=False)
class GradedSet:
    """Standardised evidence of texts that one teacher graded. ``given``: by criterion, NaN where not graded.

    ``models``: who wrote each text. ``weight``: of the set beside others.
    """

    rows: Float[np.ndarray, "text evidence"]
    given: Mapping[str, Float[np.ndarray, " text"]]
    models: Sequence[str]
    weight: float = 1.0

    def subset(self, chosen: Bool[np.ndarray, " text"]) -> GradedSet:
        """Some of the texts."""
        given = {name: one[chosen] for name, one in self.given.items()}
        return GradedSet(self.rows[chosen], given, list(np.array(self.models)[chosen]), self.weight)


@dataclass(frozen=True, eq=False)
class PlantedEvidence:
    """Standardised evidence of stories and of their twins, pair by pair."""

    kind: Sequence[str]
    strength: Sequence[str]
    source: Sequence[str]
    clean: Float[np.ndarray, "pair evidence"]
    twin: Float[np.ndarray, "pair evidence"]

    def places(self, kind: str, source: str, strength: str) -> Int[np.ndarray, " pair"]:
        """Which pairs have such a fault."""
        chosen = np.array(self.kind) == kind
        chosen &= np.array(self.source) == source
        return np.flatnonzero(chosen & (np.array(self.strength) == strength))

    def both(self, kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
        """Rows of stories and twins of a kind, which of them are twins, weights that sum to one, and if all are there.

        Sources count alike, strengths by ``STRENGTHS``; where there are fewer than ``FEWEST_PAIRS``, not at all.
        """
        rows, flags, weights = [np.zeros((0, self.clean.shape[1]))], [np.zeros(0)], [np.zeros(0)]
        is_whole = True
        for source in sorted(set(self.source)):
            for strength, share in STRENGTHS.items():
                at = self.places(kind, source, strength)
                if len(at) < FEWEST_PAIRS:
                    is_whole = False
                    continue
                rows += [self.clean[at], self.twin[at]]
                flags += [np.zeros(len(at)), np.ones(len(at))]
                weights += [np.full(len(at), share / len(at))] * 2
        weight = np.concatenate(weights)
        return np.concatenate(rows), np.concatenate(flags), weight / max(float(weight.sum()), 1e-9), is_whole


# Detectors ------------------------------------------------------------------------------------------------------


def fit_detectors(
    planted: PlantedEvidence, evidence: Sequence[str], *, without: str | None = None
) -> dict[str, Detector]:
    """The detector of each fault. ``without``: a fault whose pairs are not looked at: only ``MEANT`` is left of it."""
    return {
        kind: _detector(kind, planted, meant_for(kind, evidence), is_fitted=kind != without) for kind in MEANT
    }


def meant_for(kind: str, evidence: Sequence[str]) -> Float[np.ndarray, " evidence"]:
    """The evidence that is meant for a fault, each of one weight, of length one together."""
    weights = np.array([float(MEANT[kind].get(name, 0)) for name in evidence])
    return np.asarray(weights / np.sqrt(max(np.abs(weights).sum(), 1.0)))


def _detector(kind: str, planted: PlantedEvidence, meant: np.ndarray, *, is_fitted: bool) -> Detector:
    rows, flags, weight, is_whole = planted.both(kind)
    if not is_fitted or not len(rows):
        told = planted.clean @ meant
        spread = (np.quantile(told, 0.9) - np.quantile(told, 0.1)) / 2.56 + 1e-9
        slope, constant = UNFITTED
        return Detector(meant * slope / spread, float(constant - slope * np.quantile(told, 0.9) / spread))
    free = float(is_whole)  # of one sort of stories only it would learn the sort

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        scale, bias, own = values[0], values[1], values[2:]
        odds = rows @ (scale * meant + own) + bias
        rest = weight * (_share(odds) - flags)
        slope = rows.T @ rest
        value = weight @ (np.logaddexp(0, odds) - flags * odds) + PULL * own @ own
        return float(value), np.concatenate(([meant @ slope, rest.sum()], free * (slope + 2 * PULL * own)))

    found = _minimum(loss, np.concatenate(([0.5, 0.0], np.zeros(len(meant)))))
    weights = found[0] * meant + found[2:]
    told = rows @ weights
    middle, spread = float(told.mean()), float(told.std()) + 1e-9

    def platt(values: np.ndarray) -> tuple[float, np.ndarray]:
        along = (told - middle) / spread
        odds = values[0] * along + values[1]
        rest = weight * (_share(odds) - flags)
        value = weight @ (np.logaddexp(0, odds) - flags * odds) + 1e-3 * values[0] ** 2
        return float(value), np.array([rest @ along + 2e-3 * values[0], rest.sum()])

    slope, constant = _minimum(platt, np.array([1.0, 0.0]))
    return Detector(weights * slope / spread, float(constant - slope * middle / spread - RARITY))


def _share(odds: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 + 0.5 * np.tanh(odds / 2))


def _minimum(loss: object, start: np.ndarray) -> np.ndarray:
    return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 300}).x)


# Bases ----------------------------------------------------------------------------------------------------------


def stillness(
    planted: PlantedEvidence, *, without: str | None = None
) -> Float[np.ndarray, "evidence evidence"]:
    """Mean square of what planted faults change, over kinds, sources and strengths. ``without``: a kind left out."""
    n, sources = planted.clean.shape[1], sorted(set(planted.source))
    found = np.zeros((n, n))
    for kind in [kind for kind in EXPECTED if kind != without]:
        for source in sources:
            for strength, share in STRENGTHS.items():
                at = planted.places(kind, source, strength)
                if len(at) >= FEWEST_PAIRS:
                    change = planted.clean[at] - planted.twin[at]
                    found += share / len(sources) * change.T @ change / len(at)
    return found


def fit_base(
    name: str,
    graded: Sequence[GradedSet],
    detectors: Mapping[str, Detector],
    still: Float[np.ndarray, "evidence evidence"],
) -> Head:
    """The base of a criterion, or of "age". Its scale is that of the first set. ``still``: of :func:`stillness`."""
    first = graded[0]
    square = np.diag(first.rows.var(0) + FLOOR) * RIDGE + still * STILL
    cross = np.zeros(len(square))
    for one in graded:
        if np.isfinite(one.given[name]).any():
            rows, wanted = _wanted(name, one, detectors, float(first.given[name].std()))
            square += one.weight * rows.T @ rows / len(rows)
            cross += one.weight * rows.T @ wanted / len(rows)
    told = varied(first.rows)
    weights = np.zeros(len(cross))
    weights[told] = np.linalg.solve(square[np.ix_(told, told)], cross[told])
    taken = POINTS * likeliest_fault(name, detectors, first.rows)
    middle = first.given[name].mean() + taken.mean()
    return Head(weights, float(middle - first.rows.mean(0) @ weights))


def varied(rows: Float[np.ndarray, "text evidence"]) -> Bool[np.ndarray, " evidence"]:
    """Which evidence differs from its commonest value in ``FEWEST_VARIED`` texts: of the rest grades tell nothing."""
    same = [np.unique(column, return_counts=True)[1].max() for column in rows.T]
    return len(rows) - np.array(same) >= FEWEST_VARIED


def _wanted(
    name: str, graded: GradedSet, detectors: Mapping[str, Detector], scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and what the base should say of them, in points from the middle, what differs between models partly out."""
    there = np.isfinite(graded.given[name])
    wanted = _deviations(graded.given[name][there])
    whole = [one for other, one in graded.given.items() if other in CRITERIA]
    if name in SHARED and all(np.isfinite(one).all() for one in whole):
        wanted = _deviations(wanted + SHARED[name] * np.mean([_deviations(one) for one in whole], axis=0))
    rows = graded.rows[there]
    wanted = wanted * scale + POINTS * likeliest_fault(name, detectors, rows)
    rows, wanted = rows - rows.mean(0), wanted - wanted.mean()
    models = np.array(graded.models)[there]
    for model in sorted(set(models)):
        chosen = models == model
        rows[chosen] -= WITHIN * rows[chosen].mean(0)
        wanted[chosen] -= WITHIN * wanted[chosen].mean()
    return rows, wanted


def _deviations(values: np.ndarray) -> np.ndarray:
    return np.asarray((values - values.mean()) / max(float(values.std()), 1e-6))
