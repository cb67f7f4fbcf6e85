"""Planted faults: does a judge see them, does it see more of more, and does it see them by the right criterion?

- *sensitivity*: area under the curve of clean stories against corrupted ones, unpaired, by the criterion that the fault
  should hit (``grading.expected``);
- *dose*: mean drop of that criterion, a story against its own twin, at each strength; it must not shrink;
- *cross-talk*: mean drop of every criterion at medium strength, in standard deviations of the clean stories' grades.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from tslens.audit.judge_figures import TAIL, Column, Figure, area, mean
from tslens.audit.judge_report import AuditText, JudgePart, Measure, Outcomes, grades_of
from tslens.grading.expected import EXPECTED
from tslens.grading.planted import DOSES, PlantedPair
from tslens.grading.rubric import CRITERIA, Criterion
from tslens.grading.summary import MOST_FAILURES
from tslens.types import Grade

CROSS_STRENGTH = "medium"


@dataclass(frozen=True, slots=True)
class GradedPair:
    """A planted pair with what both of it got."""

    pair: PlantedPair
    clean: Grade
    twin: Grade

    def drop(self, name: Criterion) -> float:
        """By how many points the fault lowers a criterion."""
        return float(getattr(self.clean, name) - getattr(self.twin, name))


@dataclass(frozen=True)
class Planted:
    """The part of planted faults. ``pairs``: of all sources, kinds and strengths."""

    pairs: tuple[PlantedPair, ...]

    @property
    def texts(self) -> Iterator[AuditText]:
        """Both texts of every pair."""
        for pair in self.pairs:
            yield from texts_of(pair)

    def read(self, outcomes: Outcomes) -> Iterator[Measure]:
        """Sensitivity, dose response and cross-talk, source by source."""
        for source in dict.fromkeys(pair.source for pair in self.pairs):
            mine = [pair for pair in self.pairs if pair.source == source]
            kinds = [kind for kind in EXPECTED if any(pair.kind == kind for pair in mine)]
            for kind in kinds:
                for strength in DOSES:
                    chosen = [pair for pair in mine if (pair.kind, pair.strength) == (kind, strength)]
                    yield from self._sensitivity(source, kind, strength, chosen, outcomes)
            yield from _doses(source, kinds, graded_pairs(mine, outcomes))
            yield from _cross_talk(source, kinds, graded_pairs(mine, outcomes))

    def _sensitivity(
        self, source: str, kind: str, strength: str, pairs: Sequence[PlantedPair], outcomes: Outcomes
    ) -> Iterator[Measure]:
        expected = EXPECTED[kind]
        found = graded_pairs(pairs, outcomes)
        n_failed = len(pairs) - len(found)
        note = f"{n_failed} of {len(pairs)} pairs have no grade" if n_failed else ""
        for name in (expected.criterion, *expected.also):
            clean, twin = (
                np.array([getattr(one, name) for one in side], dtype=float)
                for side in ([one.clean for one in found], [one.twin for one in found])
            )
            figure = area(clean, twin)
            if n_failed > MOST_FAILURES * len(pairs):
                figure = Figure(None, None, None, len(found))
            asked = expected.asked(strength) if name == expected.criterion else None
            label = f"{kind} {strength}"
            yield measure(
                "planted", "sensitivity", label, source, name, figure, "AUC", asked=asked, note=note
            )


def measure(
    part: JudgePart,
    group: str,
    name: str,
    source: str,
    criterion: str,
    figure: Figure,
    unit: str,
    **more: Any,
) -> Measure:
    """A figure as a measure of the audit."""
    ends = (figure.value, figure.low, figure.high)
    return Measure(part, group, name, source, criterion, *ends, figure.n, unit, **more)


def texts_of(pair: PlantedPair) -> tuple[AuditText, AuditText]:
    """The story and its twin as texts of an audit."""
    facts = {
        "strength": pair.strength,
        "spans": [list(span) for span in pair.spans],
        "expected": EXPECTED[pair.kind].criterion,
    }
    return AuditText(pair.clean, pair.source, "clean"), AuditText(pair.twin, pair.source, pair.kind, facts)


def graded_pairs(pairs: Sequence[PlantedPair], outcomes: Outcomes) -> list[GradedPair]:
    """Those pairs of which both texts have a grade."""
    found = []
    for pair in pairs:
        grades = grades_of((pair.clean, pair.twin), outcomes)
        if grades is not None:
            found.append(GradedPair(pair, *grades))
    return found


# Dose response ----------------------------------------------------------------------------------------------


def _doses(source: str, kinds: Sequence[str], found: Sequence[GradedPair]) -> Iterator[Measure]:
    """The drop at each strength over the stories that have all of them, and whether a stronger fault costs less.

    A step shrinks where the drop at the higher strength is surely smaller: the interval of the difference, widened so
    that all steps of a source hold together, lies below zero.
    """
    n_steps = len(kinds) * (len(DOSES) - 1)
    shrinking, n_seen = [], 0
    for kind in kinds:
        name = EXPECTED[kind].criterion
        drops = _drops_by_dose([one for one in found if one.pair.kind == kind], name)
        for strength, values in zip(DOSES, drops, strict=True):
            yield measure("planted", "dose", f"{kind} {strength}", source, name, mean(values), "points")
        for (low, weaker), (high, stronger) in pairwise(zip(DOSES, drops, strict=True)):
            step = mean(stronger - weaker, tail=TAIL / n_steps)
            n_seen += step.value is not None
            if step.high is not None and step.high < 0:
                shrinking.append(f"{kind} {low} to {high}")
    share = len(shrinking) / n_seen if n_seen else None
    yield Measure(
        "planted",
        "steps",
        "steps to a higher strength at which the drop shrinks",
        source,
        "",
        share,
        None,
        None,
        n_seen,
        "share",
        asked=0.0,
        sense="at most",
        note=", ".join(shrinking),
    )


def _drops_by_dose(found: Sequence[GradedPair], name: Criterion) -> list[Column]:
    """Drops of the stories that have every strength, the same stories in each column."""
    by_story: dict[str, dict[str, float]] = {}
    for one in found:
        by_story.setdefault(one.pair.story, {})[one.pair.strength] = one.drop(name)
    whole = [drops for drops in by_story.values() if len(drops) == len(DOSES)]
    return [np.array([drops[strength] for drops in whole], dtype=float) for strength in DOSES]


# Cross-talk -------------------------------------------------------------------------------------------------


def _cross_talk(source: str, kinds: Sequence[str], found: Sequence[GradedPair]) -> Iterator[Measure]:
    """One figure for each kind and criterion; ``note``: whether it should drop, may, or is cross-talk."""
    clean = {one.pair.story: one.clean for one in found}
    for kind in kinds:
        expected = EXPECTED[kind]
        mine = [one for one in found if (one.pair.kind, one.pair.strength) == (kind, CROSS_STRENGTH)]
        for name in CRITERIA:
            spread = float(np.std([getattr(grade, name) for grade in clean.values()], ddof=1))
            drops = np.array([one.drop(name) for one in mine], dtype=float)
            figure = mean(drops / spread) if spread > 0 else Figure(None, None, None, len(mine))
            role = (
                "should" if name == expected.criterion else "may" if name in expected.also else "cross-talk"
            )
            yield measure("planted", "cross-talk", kind, source, name, figure, "sd", note=role)
