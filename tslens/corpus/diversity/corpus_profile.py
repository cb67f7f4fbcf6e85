"""How diverse a corpus is in itself: each drawn story against all other stories of the corpus."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tslens.corpus.diversity.completions import frequencies, grades_at_thresholds
from tslens.corpus.diversity.copying import CopyGrade, Copying, measure_copying
from tslens.corpus.diversity.estimates import SHARE_EDGES, Estimate, Histogram, estimate, histogram
from tslens.corpus.diversity.grams import DEPTH, words_of
from tslens.corpus.diversity.story_index import StoryIndex
from tslens.types import Story


@dataclass(frozen=True)
class CorpusReport:
    """What was measured of the stories of a corpus.

    ``numbers``: the stories that were drawn; ``copying``: each against all others. ``grades``: by thresholds, how many
    have each grade.
    """

    numbers: tuple[int, ...]
    estimates: tuple[Estimate, ...]
    histograms: tuple[Histogram, ...]
    copying: tuple[Copying, ...]
    grades: Mapping[str, Mapping[CopyGrade, int]]


def measure_corpus(
    stories: Mapping[int, str],
    plain: StoryIndex,
    masked: StoryIndex,
    *,
    seed: int,
    progress: Callable[[int], None] = lambda n: None,
) -> CorpusReport:
    """Self-similarity, copying and novelty of drawn stories, each with itself left out of the corpus.

    ``stories``: texts by their number in the corpus. ``seed``: of the bootstrap.
    """
    copying: list[Copying] = []
    overlaps: list[float | None] = []
    elsewhere: list[list[np.ndarray]] = []
    for done, (number, text) in enumerate(stories.items(), start=1):
        copying.append(measure_copying(text, plain, masked, leave_out=number))
        nearest = plain.nearest(text, measure="f", leave_out=number)
        overlaps.append(nearest.score if nearest else None)
        own = own_counts(words_of(text))
        elsewhere.append([all_ - mine for all_, mine in zip(plain.gram_counts(text), own, strict=True)])
        progress(done)
    values: dict[str, list[float | None]] = {
        "largest R_2 with another story": overlaps,
        "largest R_2p with another story": [one.nearest.score if one.nearest else None for one in copying],
        "longest verbatim run, share of words": [one.run_share() if one.n_words else None for one in copying],
    }
    histograms = [
        histogram(name, [x for x in rows if x is not None], SHARE_EDGES) for name, rows in values.items()
    ]
    for k in range(1, DEPTH + 1):
        rows = [row[k - 1] for row in elsewhere]
        values[f"{k}-grams that no other story has"] = [
            float((row == 0).mean()) if len(row) else None for row in rows
        ]
        histograms.append(frequencies(k, rows, plain.n_grams(k)))
    keys = [Story(text).digest for text in stories.values()]
    values["words of a story"] = [float(one.n_words) for one in copying]
    return CorpusReport(
        tuple(stories),
        tuple(estimate(name, rows, keys, seed=seed) for name, rows in values.items()),
        tuple(histograms),
        tuple(copying),
        grades_at_thresholds(copying),
    )


def own_counts(words: Sequence[str]) -> list[np.ndarray]:
    """How often a text itself has each of its different k-grams, k from 1 to 5, in order of first occurrence."""
    counts = []
    for k in range(1, DEPTH + 1):
        own: dict[tuple[str, ...], int] = {}
        for i in range(len(words) - k + 1):
            gram = tuple(words[i : i + k])
            own[gram] = own.get(gram, 0) + 1
        counts.append(np.array(list(own.values()), dtype=np.int64))
    return counts
