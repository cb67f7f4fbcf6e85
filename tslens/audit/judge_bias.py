"""Bias of a judge: does the length of a story move its grade, and does it matter where a fault stands?

- *length*: slope of the grades of clean stories by number of words; of the author's stories also within like plots
  (the same first deed in their summaries, the same kind of end), so that it is not the plot that is graded;
- *position*: one fault of a kind in the first, the middle and the last third of the same story.

A judge that sees two answers side by side can prefer the first; ours see one text at a time, so there is none of that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tslens.audit.judge_figures import mean, slope
from tslens.audit.judge_planted import graded_pairs, measure, texts_of
from tslens.audit.judge_report import AuditText, Measure, Outcomes
from tslens.corpus.words import find_words
from tslens.grading.expected import EXPECTED
from tslens.grading.planted import PlantedPair, clean_text, plant_pairs, shared_prompt
from tslens.grading.rubric import CRITERIA
from tslens.types import Grade, Graded, Labels, Story

ONE_ORDER = "Position among answers is not measured: a judge sees one text at a time."
PLACES = ("early", "middle", "late")
MOVABLE = ("word_order", "agreement", "tense", "swapped_names", "changed_pronoun", "repeated_sentence")
"""Kinds whose single fault can stand anywhere in a story."""

N_DRAWS = 24  # of a single fault, to find one in each third
PER_WORDS = 100
_FIRST_NUMBER = 100  # of the samples of a story; ``grading.planted`` has those below


# Length -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Length:
    """The part of length. ``stories``: clean ones, by source."""

    stories: Mapping[str, Sequence[Story]]

    @property
    def texts(self) -> Iterator[AuditText]:
        """Every story, its first sentence the prompt."""
        for source, stories in self.stories.items():
            for story in stories:
                yield AuditText(clean_story(story), source, "clean")

    def read(self, outcomes: Outcomes) -> Iterator[Measure]:
        """Slopes in points per 100 words: over all stories, and within like plots where these are known."""
        for source, stories in self.stories.items():
            known = [(story, outcomes[clean_story(story).key]) for story in stories]
            graded = [(story, grade) for story, grade in known if isinstance(grade, Grade)]
            words = np.array([len(find_words(story.text)) / PER_WORDS for story, _ in graded])
            plots = [_plot(story) for story, _ in graded]
            for name in CRITERIA:
                grades = np.array([getattr(grade, name) for _, grade in graded], dtype=float)
                for label, groups in (("all stories", [""] * len(graded)), ("like plots", plots)):
                    if None not in groups:
                        figure = slope(words, grades, [str(group) for group in groups])
                        unit = f"points per {PER_WORDS} words"
                        yield measure("length", "length", label, source, name, figure, unit)


def clean_story(story: Story) -> Graded:
    """A story as a text to grade: the same as in the pairs whose twins begin as it does."""
    return clean_text(story.text, shared_prompt(story.text, story.text), f"{story.digest:016x}")


def _plot(story: Story) -> str | None:
    """What the author's summary says first is done, and whether it ends badly; None for stories of others."""
    if "summary_labels" not in story.extra:
        return None
    labels = Labels.from_json(story.extra["summary_labels"])
    ends = "bad" if "bad_ending" in story.extra["features"] else "good"
    return f"{labels.lemma[labels.clauses[0].action]}, {ends} end" if labels.clauses else ends


# Position ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlacedFault:
    """The same kind of fault once in each third of a story's completion. ``pairs``: by place."""

    kind: str
    source: str
    pairs: Mapping[str, PlantedPair]


@dataclass(frozen=True)
class Position:
    """The part of position."""

    faults: tuple[PlacedFault, ...]

    @property
    def texts(self) -> Iterator[AuditText]:
        """The stories and their three twins."""
        for fault in self.faults:
            for place, pair in fault.pairs.items():
                clean, twin = texts_of(pair)
                yield clean
                yield replace(twin, facts={**twin.facts, "place": place})

    def read(self, outcomes: Outcomes) -> Iterator[Measure]:
        """Mean drop at each place, and how much more a late fault costs than an early one in the same story."""
        for source in dict.fromkeys(fault.source for fault in self.faults):
            for kind in MOVABLE:
                name = EXPECTED[kind].criterion
                found = [
                    graded_pairs([fault.pairs[place] for place in PLACES], outcomes)
                    for fault in self.faults
                    if (fault.source, fault.kind) == (source, kind)
                ]
                drops = np.array(
                    [[one.drop(name) for one in placed] for placed in found if len(placed) == len(PLACES)]
                ).reshape(-1, len(PLACES))
                for column, place in enumerate(PLACES):
                    figure = mean(drops[:, column])
                    yield measure("position", "position", f"{kind} {place}", source, name, figure, "points")
                figure = mean(drops[:, -1] - drops[:, 0])
                label = f"{kind} late less early"
                yield measure("position", "position", label, source, name, figure, "points")


def place_faults(
    stories: Iterable[Story], *, seed: int, source: str, n_most: int, kinds: Sequence[str] = MOVABLE
) -> Iterator[PlacedFault]:
    """Of each kind the first ``n_most`` stories in which a single fault is found in every third of the completion.

    Faults in the first sentence are left out, so that all texts of a story have the same prompt.
    """
    n_found = dict.fromkeys(kinds, 0)
    for story in stories:
        for kind in kinds:
            if n_found[kind] < n_most and (placed := _place(story, kind, seed, source)):
                n_found[kind] += 1
                yield PlacedFault(kind, source, placed)
        if all(number >= n_most for number in n_found.values()):
            return


def _place(story: Story, kind: str, seed: int, source: str) -> dict[str, PlantedPair] | None:
    found: dict[str, PlantedPair] = {}
    for draw in range(N_DRAWS):
        for pair in plant_pairs([story], [kind], ["one"], seed=seed + draw, source=source):
            at = _third(pair)
            if at is not None and PLACES[at] not in found:
                number = _FIRST_NUMBER + len(PLACES) * MOVABLE.index(kind) + at
                found[PLACES[at]] = replace(pair, twin=replace(pair.twin, sample=number))
        if len(found) == len(PLACES):
            return {place: found[place] for place in PLACES}
    return None


def _third(pair: PlantedPair) -> int | None:
    """Third of the twin's completion in which its fault begins, None without a prompt or a place."""
    if not pair.spans or not pair.clean.prompt or not pair.twin.completion:
        return None
    share = (pair.spans[0][0] - len(pair.twin.prompt)) / len(pair.twin.completion)
    return min(int(share * len(PLACES)), len(PLACES) - 1) if share >= 0 else None
