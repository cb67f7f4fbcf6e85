"""Which words of a corpus are names, by how they are written; no list, no parser.

A word is a name if, inside sentences (after a small letter or a comma and a blank), it is written with a capital and
small letters at least 3 times, and these are 90% or more of its occurrences there and in small letters. So "Lily" and
"Christmas" are names, "Mom" is one where the corpus never writes "mom", and "I" is none. The form with "'s" goes
with its name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from tslens.corpus.diversity.grams import find_surfaces, normal_form
from tslens.types import Story

MIN_OCCURRENCES = 3
MIN_CAPITAL_SHARE = 0.9
_CAPITAL_INSIDE = re.compile(r"(?<=[a-z,] )[A-Z][a-z][^\W\d_]*")


def find_names(stories: Iterable[Story]) -> frozenset[str]:
    """Names in a corpus, in normal form, each also with "'s"."""
    capital: Counter[str] = Counter()
    written: Counter[str] = Counter()
    for story in stories:
        capital.update(_CAPITAL_INSIDE.findall(story.text))
        written.update(find_surfaces(story.text))
    found = [
        normal_form(name)
        for name, number in capital.items()
        if number >= MIN_OCCURRENCES and number >= MIN_CAPITAL_SHARE * (number + written[name.lower()])
    ]
    return frozenset(found) | {f"{name}'s" for name in found}
