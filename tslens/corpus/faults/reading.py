"""A story read once for all faults, the edits that make a twin of it, and the draws behind them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from tslens.corpus.vocabulary import analyses
from tslens.corpus.words import Sentence, Span, find_sentences, find_units
from tslens.errors import DataError
from tslens.types import Clause, Labels, Story

_SUFFIX = re.compile(r"(?P<stem>.+?)(?P<suffix>['’](?:s|d|ll|re|ve)?)?")


@dataclass(frozen=True, slots=True)
class Edit:
    """``text[start:end]`` becomes ``new``. ``is_place``: its span in the twin is one of the changed places."""

    start: int
    end: int
    new: str
    is_place: bool = True


@dataclass(frozen=True, slots=True)
class Draft:
    """Edits that do not overlap, and the number of sites that they change."""

    edits: tuple[Edit, ...]
    n_sites: int


def split_suffix(word: str) -> tuple[str, str]:
    """A word without "'s", "'d", "'ll" and the like, and what was cut off."""
    found = _SUFFIX.fullmatch(word)
    return (found["stem"], found["suffix"] or "") if found else (word, "")


def apply_edits(text: str, edits: Iterable[Edit]) -> tuple[str, tuple[Span, ...], tuple[str, ...]]:
    """The twin, the spans of its changed places, and what stood there. Edits at one point keep their order."""
    pieces: list[str] = []
    spans: list[Span] = []
    was: list[str] = []
    done = length = 0
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        pieces += [text[done : edit.start], edit.new]
        start = length + edit.start - done
        length = start + len(edit.new)
        done = edit.end
        if edit.is_place:
            blank = len(edit.new) - len(edit.new.lstrip())
            spans.append((start + blank, length))
            was.append(text[edit.start : edit.end].strip())
    return "".join([*pieces, text[done:]]), tuple(spans), tuple(was)


class Reading:
    """Text, units, sentences and labels of one story, with what follows from them."""

    def __init__(self, story: Story, labels: Labels) -> None:
        self.story, self.text, self.labels = story, story.text, labels
        self.units: list[Span] = find_units(story.text)
        if len(self.units) != len(labels.pos):
            raise DataError(
                f"The labels are of {len(labels.pos)} units, the story has {len(self.units)}.",
                "Give the labels that were made from this very text.",
            )
        self.words = [story.text[start:end].lower() for start, end in self.units]
        self.sentences: list[Sentence] = find_sentences(story.text)

    @cached_property
    def sentence_of(self) -> list[int]:
        """Sentence of each unit."""
        found, sentence = [], 0
        for start, _ in self.units:
            while start >= self.sentences[sentence].end:
                sentence += 1
            found.append(sentence)
        return found

    @cached_property
    def units_of(self) -> list[list[int]]:
        """Units of each sentence."""
        found: list[list[int]] = [[] for _ in self.sentences]
        for unit, sentence in enumerate(self.sentence_of):
            found[sentence].append(unit)
        return found

    @cached_property
    def gap_is_free(self) -> list[bool]:
        """Per sentence: whether direct speech is closed after it, so that something else can follow."""
        quote = self.labels.quote
        free = []
        for units, later in zip(self.units_of, [*self.units_of[1:], []], strict=True):
            speaks = bool(units and later) and quote[units[-1]] >= 0 and quote[units[-1]] == quote[later[0]]
            free.append(not speaks)
        return free

    @cached_property
    def blocks(self) -> list[tuple[int, int]]:
        """First and last sentence of each smallest stretch that no direct speech leaves or enters."""
        found, first = [], 0
        for sentence, is_free in enumerate(self.gap_is_free):
            if is_free:
                found.append((first, sentence))
                first = sentence + 1
        return [*found, (first, len(self.sentences) - 1)] if first < len(self.sentences) else found

    @cached_property
    def uses(self) -> dict[str, list[int]]:
        """Units that can be a form of a word, in any part of speech, by its lemma."""
        found: dict[str, list[int]] = {}
        for unit, word in enumerate(self.words):
            stem = split_suffix(word)[0]
            for lemma in {stem, self.labels.lemma[unit], *(lemma for lemma, _, _ in analyses(stem))}:
                found.setdefault(lemma, []).append(unit)
        return found

    def surface(self, unit: int) -> str:
        """The unit as the text has it."""
        start, end = self.units[unit]
        return self.text[start:end]

    def sentence_text(self, sentence: int) -> str:
        """The sentence as the text has it."""
        return self.text[self.sentences[sentence].start : self.sentences[sentence].end]

    def clause_of(self, unit: int) -> Clause | None:
        """The clause that a unit belongs to."""
        clause = self.labels.clause[unit]
        return self.labels.clauses[clause] if clause >= 0 else None

    def replace(self, unit: int, new: str) -> Edit:
        """Another word in the place of a unit, with its capital."""
        start, end = self.units[unit]
        is_capital = self.text[start].isupper() and self.words[unit] != "i"
        return Edit(start, end, new[:1].upper() + new[1:] if is_capital else new)

    def remove(self, sentences: Iterable[int], *, is_place: bool = True) -> list[Edit]:
        """Edits that take sentences away; a paragraph that keeps a sentence stays one."""
        edits = []
        gone = sorted(set(sentences))
        runs: list[list[int]] = []
        for sentence in gone:
            if runs and runs[-1][-1] == sentence - 1:
                runs[-1].append(sentence)
            else:
                runs.append([sentence])
        for run in runs:
            before, after = run[0] - 1, run[-1] + 1
            start = self.sentences[before].end if before >= 0 else 0
            end = self.sentences[after].start if after < len(self.sentences) else len(self.text)
            gap = "\n" if "\n" in self.text[start:end] else " "
            if before < 0 or after == len(self.sentences):
                gap = ""
            edits.append(Edit(start, end, gap, is_place))
        return edits
