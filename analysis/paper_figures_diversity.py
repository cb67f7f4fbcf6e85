"""For ``paper_figures.py``: figures 14 to 17, how much a model's completions repeat, beside true endings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tslens.cli.diversity_results import open_indexes, write_completions
from tslens.corpus.diversity.completions import CompletionsReport, frequencies, measure_completions
from tslens.corpus.diversity.estimates import SHARE_EDGES, Estimate, Histogram, estimate, histogram
from tslens.corpus.diversity.grams import DEPTH, gram_overlap, gram_precision, words_of
from tslens.corpus.diversity.sampling import Completed
from tslens.corpus.diversity.story_index import StoryIndex
from tslens.types import Story
from tslens.viz.print_diversity import Counted, draw_frequencies, draw_shares

Found = dict[str, Any]


def draw_diversity(
    source: str, model: str, stem: Callable[[int], Path], *, n: int, seed: int, device: str
) -> dict[int, Found]:
    """Write ``n`` completions, measure them against ``source``, draw. ``stem``: of the files of a figure."""
    plain, masked = open_indexes(source)
    items, label, warnings = write_completions(source, plain, model, n, seed, device)
    shown = Diversity(measure_completions(items, plain, masked, seed=seed), seed)
    head = {"model": label, "stories": plain.source, "n": len(items), "warnings": warnings}
    return {
        14: head | draw_true_ending(shown, stem(14)),
        15: head | draw_each_other(shown, stem(15)),
        16: head | draw_gram_frequencies(shown, plain, stem(16)),
        17: head | draw_nearest(shown, stem(17)),
    }


@dataclass(frozen=True)
class Diversity:
    """What the library measured of completions, and measures of our own in the same form."""

    report: CompletionsReport
    seed: int

    def library(self, measure: str, name: str) -> Counted:
        """A measure of the library, under a name for the figure."""
        histograms: Mapping[str, Histogram] = {one.name: one for one in self.report.histograms}
        return Counted(name, histograms[measure], self.estimate_of(measure))

    def estimate_of(self, measure: str) -> Estimate | None:
        """Mean and interval of a measure of the library."""
        return next((one for one in self.report.estimates if one.name == measure), None)

    def ours(self, name: str, values: Sequence[float | None]) -> Counted:
        """Shares, one a text."""
        keys = [Story(f"{item.prompt}\0{item.completion}").digest for item in self.report.items]
        known = [value for value in values if value is not None]
        return Counted(
            name,
            histogram(name, known, SHARE_EDGES),
            estimate(name, values, keys[: len(values)], seed=self.seed),
        )


def draw_true_ending(shown: Diversity, stem: Path) -> Found:
    """R_2p of completions with the ending of their story; of another story as what chance gives."""
    items = shown.report.items
    others = [items[(i + 1) % len(items)].ending for i in range(len(items))]
    chance = [
        gram_precision(item.completion, other) if other else None
        for item, other in zip(items, others, strict=True)
    ]
    counted = [
        shown.library("R_2p with the true ending", "its true ending"),
        shown.ours("the ending of another story", chance),
    ]
    draw_shares(
        counted, stem, title="Completions against true endings",
        axis="share of the completion's word pairs that the ending has", of="completions",
    )  # fmt: skip
    return _of_counted(counted)


def draw_each_other(shown: Diversity, stem: Path) -> Found:
    """Largest R_2 of a completion with another one; the same for the true endings."""
    endings = [item.ending for item in shown.report.items]
    counted = [
        shown.library("largest R_2 with another completion", "completions"),
        shown.ours("true endings", largest_overlaps(endings)),
    ]
    draw_shares(
        counted, stem, title="The most like among the others",
        axis="largest R$_2$ with another of the set", of="texts",
    )  # fmt: skip
    return _of_counted(counted)


def largest_overlaps(texts: Sequence[str | None]) -> list[float | None]:
    """The largest R_2 of each text with any other."""
    found: list[float | None] = []
    for i, text in enumerate(texts):
        others = [gram_overlap(text, other) for j, other in enumerate(texts) if j != i and text and other]
        found.append(max((one for one in others if one is not None), default=None))
    return found


def draw_gram_frequencies(shown: Diversity, plain: StoryIndex, stem: Path) -> Found:
    """How frequent the k-grams of completions are in the corpus; of true endings without their own story."""
    endings = endings_elsewhere(shown.report.items, plain)
    by_k: dict[int, list[Counted]] = {}
    numbers: Found = {}
    for k in range(1, DEPTH + 1):
        mine = shown.library(f"log10 relative frequency, {k}-grams", "completions")
        true = Counted("true endings", frequencies(k, [row[k - 1] for row in endings], plain.n_grams(k)))
        by_k[k] = [mine, true]
        new = shown.estimate_of(f"{k}-grams that the corpus never has")
        new_true = shown.estimate_of(f"true endings: {k}-grams that no other story has")
        numbers[str(k)] = {
            "never": mine.never, "never_true_endings": true.never,
            "mean_never": None if new is None else new.to_json(),
            "mean_never_true_endings": None if new_true is None else new_true.to_json(),
        }  # fmt: skip
    draw_frequencies(by_k, stem, title="Different k-grams of")
    return {"by_k": numbers}


def endings_elsewhere(items: Sequence[Completed], plain: StoryIndex) -> list[list[np.ndarray]]:
    """Of each true ending, how often its different k-grams occur in all other stories, k from 1 to 5."""
    found = []
    for item in items:
        if not item.ending or item.story is None:
            continue
        whole, words = words_of(item.prompt + item.ending), words_of(item.ending)
        of_text = []
        for k, counts in enumerate(plain.gram_counts(item.ending), start=1):
            own = Counter(tuple(whole[i : i + k]) for i in range(len(whole) - k + 1))
            different = dict.fromkeys(tuple(words[i : i + k]) for i in range(len(words) - k + 1))
            of_text.append(counts - np.array([own[gram] for gram in different], dtype=np.int64))
        found.append(of_text)
    return found


def draw_nearest(shown: Diversity, stem: Path) -> Found:
    """Largest R_2p of a completion with a training story, with and without the one of its prompt."""
    endings = [one.nearest.score if one.nearest else None for one in shown.report.endings]
    counted = [
        shown.library("largest R_2p with a story", "all stories"),
        shown.library("largest R_2p, own story left out", "without the prompt's own"),
    ]
    if endings:
        counted.append(shown.ours("true endings, own left out", endings))
    draw_shares(
        counted, stem, title="The nearest training story",
        axis="largest share of the text's word pairs that one story has", of="texts",
    )  # fmt: skip
    grades = {case: dict(counts["as defined"]) for case, counts in shown.report.grades.items()}
    return {**_of_counted(counted), "copying": grades}


def _of_counted(counted: Sequence[Counted]) -> Found:
    return {
        "means": {one.name: one.estimate.to_json() for one in counted if one.estimate is not None},
        "above_half": {
            one.name: float(one.shares[[edge >= 0.5 for edge in one.histogram.edges[:-1]]].sum())
            for one in counted
        },
    }
