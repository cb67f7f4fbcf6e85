"""The paper's four measurements of a model's completions, and whether they are copied.

1. R_2p(completion, the true ending);
2. the largest R_2 of a completion with any other completion;
3. for each different k-gram of a completion, k = 1 to 5, its relative frequency in the training corpus;
4. the largest R_2p(completion, story) over all training stories, and which story it is; both with the story that
   the prompt is from and without it.

Source: Eldan and Li 2023, TinyStories (arXiv:2305.07759): 100 training stories, the first 40% kept as prompt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tslens.corpus.diversity.copying import (
    LOOSER,
    STRICTER,
    THRESHOLDS,
    CopyGrade,
    Copying,
    count_grades,
    measure_copying,
)
from tslens.corpus.diversity.estimates import (
    FREQUENCY_EDGES,
    SHARE_EDGES,
    Estimate,
    Histogram,
    estimate,
    histogram,
)
from tslens.corpus.diversity.grams import DEPTH, gram_precision, grams, words_of
from tslens.corpus.diversity.sampling import Completed
from tslens.corpus.diversity.story_index import StoryIndex
from tslens.types import Story


@dataclass(frozen=True)
class CompletionsReport:
    """What was measured of completions.

    ``estimates``: means over completions. ``copying``, ``copying_without``: for each completion, against all stories,
    and without the story of its prompt. ``endings``: the same for the true endings, their own story left out: what
    the corpus copies from itself. ``grades``: by case ("all stories", "own story left out", "true endings") and
    thresholds ("looser", "as defined", "stricter"), how many texts have each grade.
    """

    items: tuple[Completed, ...]
    estimates: tuple[Estimate, ...]
    histograms: tuple[Histogram, ...]
    copying: tuple[Copying, ...]
    copying_without: tuple[Copying, ...]
    endings: tuple[Copying, ...]
    grades: Mapping[str, Mapping[str, Mapping[CopyGrade, int]]]


def measure_completions(
    items: Sequence[Completed],
    plain: StoryIndex,
    masked: StoryIndex,
    *,
    seed: int,
    progress: Callable[[int], None] = lambda n: None,
) -> CompletionsReport:
    """All measurements. ``seed``: of the bootstrap; ``progress`` gets the number of completions measured.

    ``plain``, ``masked``: indexes of the training corpus, without and with names masked.
    """
    copying: list[Copying] = []
    without: list[Copying] = []
    endings: list[Copying] = []
    new: list[list[float | None]] = []
    counts: list[list[np.ndarray]] = []
    for number, item in enumerate(items, start=1):
        found = measure_copying(item.completion, plain, masked)
        copying.append(found)
        is_known = item.story is not None
        without.append(
            measure_copying(item.completion, plain, masked, leave_out=item.story) if is_known else found
        )
        if is_known and item.ending:
            endings.append(measure_copying(item.ending, plain, masked, leave_out=item.story))
            new.append(_new_in(item.ending, item.prompt + item.ending, plain))
        else:
            new.append([None] * DEPTH)
        counts.append(plain.gram_counts(item.completion))
        progress(number)
    values: dict[str, list[float | None]] = {
        "R_2p with the true ending": [
            gram_precision(item.completion, item.ending) if item.ending else None for item in items
        ],
        "largest R_2 with another completion": _largest_overlaps([item.completion for item in items]),
        "largest R_2p with a story": [one.nearest.score if one.nearest else None for one in copying],
        "largest R_2p, own story left out": [one.nearest.score if one.nearest else None for one in without],
        "longest verbatim run, share of words": [one.run_share() if one.n_words else None for one in copying],
        "longest verbatim run, own story left out": [
            one.run_share() if one.n_words else None for one in without
        ],
    }
    histograms = [
        histogram(name, [x for x in rows if x is not None], SHARE_EDGES) for name, rows in values.items()
    ]
    for k in range(1, DEPTH + 1):
        rows = [row[k - 1] for row in counts]
        values[f"{k}-grams that the corpus never has"] = [
            float((row == 0).mean()) if len(row) else None for row in rows
        ]
        histograms.append(frequencies(k, rows, plain.n_grams(k)))
    if endings:
        for k in range(1, DEPTH + 1):
            values[f"true endings: {k}-grams that no other story has"] = [row[k - 1] for row in new]
    keys = [Story(f"{item.prompt}\0{item.completion}").digest for item in items]
    cases = {"all stories": copying, "own story left out": without, "true endings": endings}
    if not endings:
        del cases["true endings"]
    return CompletionsReport(
        tuple(items),
        tuple(estimate(name, rows, keys, seed=seed) for name, rows in values.items()),
        tuple(histograms),
        tuple(copying),
        tuple(without),
        tuple(endings),
        {case: grades_at_thresholds(found) for case, found in cases.items()},
    )


def grades_at_thresholds(found: Sequence[Copying]) -> Mapping[str, Mapping[CopyGrade, int]]:
    """How many texts have each grade, as defined and with all shares moved by 0.1."""
    return {
        "looser": count_grades(found, LOOSER),
        "as defined": count_grades(found, THRESHOLDS),
        "stricter": count_grades(found, STRICTER),
    }


def frequencies(k: int, counts: Sequence[np.ndarray], n_grams: int) -> Histogram:
    """Histogram of log10(count / number of k-grams of the corpus) over the different k-grams of each text."""
    pooled = np.concatenate([*counts, np.zeros(0, dtype=np.int64)])
    there = pooled[pooled > 0]
    logs = np.log10(there / max(n_grams, 1))
    return histogram(
        f"log10 relative frequency, {k}-grams", logs.tolist(), FREQUENCY_EDGES, never=int((pooled == 0).sum())
    )


def _largest_overlaps(texts: Sequence[str]) -> list[float | None]:
    """The largest R_2 of each text with any other; None for one that has no pair of words, or no other to compare."""
    sets = [grams(words_of(text), 2) for text in texts]
    best: list[float | None] = [None] * len(texts)
    for i, mine in enumerate(sets):
        for j in range(i):
            if mine and sets[j]:
                overlap = 2 * len(mine & sets[j]) / (len(mine) + len(sets[j]))
                best[i], best[j] = max(best[i] or 0.0, overlap), max(best[j] or 0.0, overlap)
    return best


def _new_in(ending: str, story: str, plain: StoryIndex) -> list[float | None]:
    """Share of the different k-grams of a story's ending that no other story has, k from 1 to 5."""
    whole, words = words_of(story), words_of(ending)
    shares: list[float | None] = []
    for k, counts in enumerate(plain.gram_counts(ending), start=1):
        own = Counter(tuple(whole[i : i + k]) for i in range(len(whole) - k + 1))
        different = dict.fromkeys(tuple(words[i : i + k]) for i in range(len(words) - k + 1))
        rest = counts - np.array([own[gram] for gram in different], dtype=np.int64)
        shares.append(float((rest == 0).mean()) if len(rest) else None)
    return shares
