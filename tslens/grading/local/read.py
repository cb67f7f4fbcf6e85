"""A graded text as the local judge reads it: units, sentences, a parse, and where the completion begins.

Axes: unit, sentence.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from tslens.corpus.faults.reading import Reading
from tslens.corpus.labelled import read_labels
from tslens.grading.local.word_table import WordTable, cut
from tslens.types import Story


class GradedReading(Reading):
    """``start``: character at which the completion begins. The story carries its labels.

    ``first``: the first unit that the writer had a part in. A unit that the cut goes through is his.
    """

    def __init__(self, story: Story, start: int, table: WordTable) -> None:
        labels = read_labels(story)
        assert labels is not None
        super().__init__(story, labels)
        self.start, self.table = start, table
        self.first = sum(end <= start for _, end in self.units)

    @cached_property
    def ids(self) -> Int[np.ndarray, " unit"]:
        """Ids of the units in the table."""
        surfaces, starts, _ = cut(self.text)
        return self.table.ids(surfaces, starts)

    @cached_property
    def log_p(self) -> Float[np.ndarray, " unit"]:
        """Log probability of each unit after those before it."""
        return self.table.log_probabilities(self.ids)

    @cached_property
    def surplus(self) -> Float[np.ndarray, " unit"]:
        """How much likelier each unit is after those before it than anywhere, in nats."""
        return self.log_p - self.table.log_unigram[self.ids]

    @cached_property
    def own(self) -> range:
        """Units of the completion."""
        return range(self.first, len(self.units))

    @cached_property
    def own_sentences(self) -> list[int]:
        """Sentences that end in the completion; the first may begin before it."""
        return sorted({self.sentence_of[unit] for unit in self.own})

    def own_units_of(self, sentence: int) -> list[int]:
        """Units of a sentence that are in the completion."""
        return [unit for unit in self.units_of[sentence] if unit >= self.first]

    @cached_property
    def lemma_sets(self) -> list[frozenset[str]]:
        """Lemmas of nouns, verbs, adjectives and adverbs of each sentence."""
        labels = self.labels
        return [
            frozenset(
                labels.lemma[unit]
                for unit in units
                if labels.pos[unit] in ("NOUN", "VERB", "ADJ", "ADV") and len(labels.lemma[unit]) > 2
            )
            for units in self.units_of
        ]
