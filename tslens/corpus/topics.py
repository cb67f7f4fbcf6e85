"""Topic nouns of a story: those that it uses often and that few other stories use."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from math import log

MAX_TOPICS = 3
MIN_COUNT = 2
MIN_STORIES = 5


@dataclass(frozen=True, slots=True)
class NounTable:
    """In how many of ``n_stories`` stories each noun lemma occurs; rarer ones than ``MIN_STORIES`` are left out."""

    n_stories: int
    lemmas: Mapping[str, int]

    def idf(self, lemma: str) -> float:
        """Inverse document frequency in nats; a lemma that is not in the table counts as the rarest in it."""
        return log(self.n_stories / self.lemmas.get(lemma, MIN_STORIES))


@cache
def load_noun_table() -> NounTable:
    """The shipped table (``assets/noun_idf.json``, fitted by ``training/noun_idf.py``)."""
    file = resources.files("tslens") / "assets" / "noun_idf.json"
    row = json.loads(file.read_text(encoding="utf-8"))
    return NounTable(row["n_stories"], row["lemmas"])


def choose_topics(pos: Sequence[str], lemma: Sequence[str]) -> tuple[str, ...]:
    """Up to three lemmas of nouns (names are none), best first.

    Score: count in the story times inverse document frequency. A lemma that occurs once is no topic. Of equal ones
    the first in the story comes first.
    """
    nouns = (word for tag, word in zip(pos, lemma, strict=True) if tag == "NOUN")
    table = load_noun_table()
    scores = {word: count * table.idf(word) for word, count in Counter(nouns).items() if count >= MIN_COUNT}
    return tuple(sorted(scores, key=lambda word: -scores[word])[:MAX_TOPICS])
