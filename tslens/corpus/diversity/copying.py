"""Is a text copied? The nearest story, the longest verbatim run, and both with names masked; a grade from them.

The grades are those of Eldan and Li 2023 (exact, simple template, complex template), who judged by eye. The
definitions and thresholds are ours, written down before any model was measured:

- *exact*: one run of at least 10 words that is at least half of the text stands verbatim in a story;
- *simple template*: not exact, but so with names masked, or at least 0.75 of the text's word pairs, names masked, are
  in one story: names were swapped, a few words changed;
- *complex template*: none of these, but at least 0.5 of the pairs, names masked, are in one story;
- *none*: the rest, and every text of fewer than 10 words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from tslens.corpus.diversity.grams import words_of
from tslens.corpus.diversity.story_index import Nearest, Span, StoryIndex

CopyGrade = Literal["exact", "simple_template", "complex_template", "none"]
GRADES: tuple[CopyGrade, ...] = ("exact", "simple_template", "complex_template", "none")


@dataclass(frozen=True)
class Thresholds:
    """``min_run_share``: of the text's words; ``min_run_words``: of the run, and so of the text.

    The others: shares of its word pairs (R_2p), names masked.
    """

    min_run_share: float = 0.5
    min_run_words: int = 10
    min_simple_precision: float = 0.75
    min_complex_precision: float = 0.5

    def moved(self, by: float) -> Thresholds:
        """All shares moved by as much."""
        return Thresholds(
            self.min_run_share + by,
            self.min_run_words,
            self.min_simple_precision + by,
            self.min_complex_precision + by,
        )


THRESHOLDS = Thresholds()
LOOSER, STRICTER = THRESHOLDS.moved(-0.1), THRESHOLDS.moved(0.1)


@dataclass(frozen=True)
class Copying:
    """What a text has in common with the stories of a corpus.

    ``nearest``: the story with most of its word pairs (R_2p), None for a text of fewer than two words. ``span``: its
    longest verbatim run. ``masked_nearest``, ``masked_span``: the same with names masked on both sides.
    """

    n_words: int
    nearest: Nearest | None
    span: Span
    masked_nearest: Nearest | None
    masked_span: Span

    def run_share(self, *, masked: bool = False) -> float:
        """The longest verbatim run over the words of the text, 0 to 1."""
        span = self.masked_span if masked else self.span
        return span.n_words / self.n_words if self.n_words else 0.0


def measure_copying(
    text: str, plain: StoryIndex, masked: StoryIndex, *, leave_out: int | None = None
) -> Copying:
    """Compare a text with all stories of a corpus but ``leave_out``; ``masked``: the index with names masked."""
    return Copying(
        len(words_of(text)),
        plain.nearest(text, measure="precision", leave_out=leave_out),
        plain.longest_span(text, leave_out=leave_out),
        masked.nearest(text, measure="precision", leave_out=leave_out),
        masked.longest_span(text, leave_out=leave_out),
    )


def grade_copying(found: Copying, thresholds: Thresholds = THRESHOLDS) -> CopyGrade:
    """The grade of memorisation; see the head of this module."""
    if found.n_words < thresholds.min_run_words:
        return "none"
    if _is_run(found.span, found.run_share(), thresholds):
        return "exact"
    precision = found.masked_nearest.score if found.masked_nearest else 0.0
    is_masked_run = _is_run(found.masked_span, found.run_share(masked=True), thresholds)
    if is_masked_run or precision >= thresholds.min_simple_precision:
        return "simple_template"
    return "complex_template" if precision >= thresholds.min_complex_precision else "none"


def count_grades(found: Iterable[Copying], thresholds: Thresholds = THRESHOLDS) -> Mapping[CopyGrade, int]:
    """How many texts have each grade; all four are there."""
    counts = Counter(grade_copying(one, thresholds) for one in found)
    return {name: counts[name] for name in GRADES}


def _is_run(span: Span, share: float, thresholds: Thresholds) -> bool:
    return span.n_words >= thresholds.min_run_words and share >= thresholds.min_run_share
