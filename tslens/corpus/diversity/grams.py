"""Words, runs of k words (k-grams) and how much two texts share of them: pure functions on texts.

**Word rule.** Words are those of ``corpus.words.find_words`` ("don't", "well-known" and "3.5" are one each), in lower
case, a curly apostrophe as a straight one. Punctuation is no word: k-grams run across it, and across sentences and
paragraphs, never from one text into another. A text's k-grams are a *set*: how often one occurs does not count.

Source of the measures: Eldan and Li 2023, TinyStories (arXiv:2305.07759), section "Diversity".
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tslens.corpus.words import Span, find_words

DEPTH = 5  # the longest k-gram that is counted, as in the paper
_REST = r"(?:[^\W_][\u0300-\u036f]*)+"
_WORD = re.compile(  # the words of corpus.words._PIECE, with no group to fill
    rf"[^\W_]+(?:[\u0300-\u036f]+[^\W_]*)*(?:(?:['’\-\u2010\u2011]|(?<=[0-9])[.,](?=[0-9])){_REST})*"
)
find_surfaces = _WORD.findall
"""Words as they stand in a text."""


def normal_form(surface: str) -> str:
    """A word as it is compared: lower case, straight apostrophe."""
    return surface.lower().replace("’", "'")


def words_of(text: str) -> list[str]:
    """Words of a text in order, in normal form."""
    return [normal_form(surface) for surface in find_surfaces(text)]


def grams(words: Sequence[str], k: int) -> set[tuple[str, ...]]:
    """G_k: the set of runs of ``k`` words; empty where there are fewer words."""
    return {tuple(words[i : i + k]) for i in range(len(words) - k + 1)}


def shared_runs(text: str, other: str, *, k: int = 2) -> list[Span]:
    """Where a text has k-grams that another has too: the longest stretches ``text[start:end]`` that they cover."""
    theirs = grams(words_of(other), k)
    words, spans = words_of(text), find_words(text)
    runs: list[Span] = []
    last = -1  # index of the last word that is covered
    for first in range(len(words) - k + 1):
        if tuple(words[first : first + k]) in theirs:
            end = spans[first + k - 1][1]
            if first <= last:
                runs[-1] = (runs[-1][0], end)
            else:
                runs.append((spans[first][0], end))
            last = first + k - 1
    return runs


def gram_precision(text: str, other: str, *, k: int = 2) -> float | None:
    """Share of a text's k-grams that another text has too, R_kp(text, other).

    ``|G_k(text) & G_k(other)| / |G_k(text)|``, 0 to 1. None where ``text`` has fewer than ``k`` words.
    Source: Eldan and Li 2023 (ROUGE-k precision).
    """
    mine, theirs = grams(words_of(text), k), grams(words_of(other), k)
    return len(mine & theirs) / len(mine) if mine else None


def gram_overlap(text: str, other: str, *, k: int = 2) -> float | None:
    """Harmonic mean of R_kp in both directions, R_k: ``2 |A & B| / (|A| + |B|)``, 0 to 1, symmetric.

    None where either text has fewer than ``k`` words. Source: Eldan and Li 2023 (ROUGE-k).
    """
    mine, theirs = grams(words_of(text), k), grams(words_of(other), k)
    return 2 * len(mine & theirs) / (len(mine) + len(theirs)) if mine and theirs else None
