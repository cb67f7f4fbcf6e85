"""Corrupted twins of labelled stories, each confirmed by a checker that knows only the two texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict, dataclass

from tslens.corpus.corrupt import FAULTS, STRENGTHS, Corruption, corrupt
from tslens.corpus.faults.check import find_fault
from tslens.corpus.labelled import read_labels
from tslens.errors import DataError, UsageError
from tslens.types import Labels, Story

OF_ANOTHER_TEXT = ("labels", "events", "tokenized")  # fields that speak of the story, not of its twin


@dataclass(frozen=True, slots=True)
class FaultName:
    """A kind of fault and its strength, written ``tense:low``."""

    kind: str
    strength: str


def read_fault(text: str) -> FaultName:
    """Read ``KIND:STRENGTH``; the strength is "medium" where none is given. Raises UsageError for unknown ones."""
    kind, _, strength = text.strip().partition(":")
    if kind not in FAULTS or (strength or "medium") not in STRENGTHS:
        raise UsageError(
            f'"{text}" is no fault of stories.',
            f"Write one KIND:STRENGTH; kinds: {', '.join(FAULTS)}; strengths: {', '.join(STRENGTHS)}.",
        )
    return FaultName(kind, strength or "medium")


def corrupt_stories(
    stories: Iterable[Story],
    fault: FaultName,
    *,
    seed: int,
    n_tokens: Callable[[str], int] | None = None,
    counts: Counter[str] | None = None,
    leave_out: Collection[str] = (),
) -> Iterator[Story]:
    """The twin of each story that can have the fault; the story itself stands in the field ``original``.

    The field ``corruption`` holds ``corrupt.Corruption`` but for its text, and ``now``: what stands at each span.
    A twin counts only if ``check_faults.find_fault`` finds as many places as were changed. ``counts`` is filled
    with how many stories were "corrupted", had "no site", or were "not confirmed" (both left out).
    ``leave_out``: fields that speak of the story alone, as labels of a user.
    Raises DataError for a story without labels.
    """
    tally = Counter[str]() if counts is None else counts
    for story in stories:
        labels = read_labels(story)
        if labels is None:
            raise DataError(
                f"A story has no labels: {story.text[:40]!r}.",
                "Give them with: tslens data annotate STORIES --out FILE",
            )
        twin = corrupt(story, labels, fault.kind, fault.strength, seed=seed, n_tokens=n_tokens)
        if twin is None:
            tally["no site"] += 1
        elif _n_found(story, twin, labels) != twin.n_sites:
            tally["not confirmed"] += 1
        else:
            tally["corrupted"] += 1
            kept = {
                name: value
                for name, value in story.extra.items()
                if name not in (*OF_ANOTHER_TEXT, *leave_out)
            }
            facts = {name: value for name, value in asdict(twin).items() if name != "text"}
            facts["now"] = tuple(twin.text[start:end] for start, end in twin.spans)
            yield Story(twin.text, {**kept, "original": story.text, "corruption": facts})


def _n_found(story: Story, twin: Corruption, labels: Labels) -> int:
    words = story.extra.get("words")
    asked = words if isinstance(words, list) else None
    return len(find_fault(twin.kind, story.text, twin.text, labels, words=asked))
