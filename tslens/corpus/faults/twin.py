"""A story and its twin side by side: which sentences and which words differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property

from tslens.corpus.words import Span, find_sentences, find_units
from tslens.types import Labels


class Twin:
    """A story and a twin of it: sentences, words and how they differ. ``requested``: words that were asked for."""

    def __init__(self, original: str, twin: str, labels: Labels, words: Sequence[str] | None) -> None:
        self.original, self.twin, self.labels, self.requested = original, twin, labels, words
        self.old = [original[s.start : s.end] for s in find_sentences(original)]
        self.new_spans: list[Span] = [(s.start, s.end) for s in find_sentences(twin)]
        self.new = [twin[start:end] for start, end in self.new_spans]

    @cached_property
    def names(self) -> set[str]:
        """Names in the story, in small letters."""
        units = find_units(self.original)
        return {
            self.original[start:end].lower()
            for (start, end), pos in zip(units, self.labels.pos, strict=True)
            if pos == "PROPN"
        }

    @cached_property
    def inserted(self) -> list[int]:
        """Sentences of the twin that are more in number than in the story: the later ones of equal sentences."""
        spare = Counter(self.old)
        found = []
        for index, sentence in enumerate(self.new):
            if spare[sentence]:
                spare[sentence] -= 1
            else:
                found.append(index)
        return found

    @cached_property
    def n_missing(self) -> int:
        """Sentences of the story that the twin lacks."""
        return (Counter(self.old) - Counter(self.new)).total()

    @cached_property
    def keeps_order(self) -> bool:
        """Whether the sentences that both texts have stand in the same order."""
        rest = iter(self.new)
        return all(any(sentence == other for other in rest) for sentence in self.old)

    @cached_property
    def exchanged(self) -> list[tuple[int, Span]] | None:
        """Words that stand for others, as (unit of the story, characters of the twin).

        None where the texts differ in anything else than single words.
        """
        old, new = find_units(self.original), find_units(self.twin)
        if len(old) != len(new):
            return None
        found = []
        done = (0, 0)
        for unit, (a, b) in enumerate(zip(old, new, strict=True)):
            if self.original[done[0] : a[0]] != self.twin[done[1] : b[0]]:
                return None
            if self.original[a[0] : a[1]] != self.twin[b[0] : b[1]]:
                found.append((unit, b))
            done = (a[1], b[1])
        return found
