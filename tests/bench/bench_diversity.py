"""The story index: equal to brute force on 2,000 x 2,000 stories; time, size and memory; against a named peer.

    python tests/bench/bench_diversity.py [--part equal|time|build]

Peer: scikit-learn's CountVectorizer(ngram_range=(2, 2), binary=True) and a sparse product where scikit-learn is
installed, else PyTorch's CSR product on the same pairs of words. Real stories are read where $TSLENS_DATA has them.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tslens.corpus.author import write_stories
from tslens.corpus.diversity.grams import grams, words_of
from tslens.corpus.diversity.sampling import draw_numbers, split_story
from tslens.corpus.diversity.story_index import StoryIndex
from tslens.corpus.stories import read_stories
from tslens.files import data_dir
from tslens.types import Story

N_SIDE, N_COMPLETIONS = 2_000, 100
TINYSTORIES_STORIES, TINYSTORIES_WORDS = 2_100_000, 375_000_000  # of the published data set, about
REAL = data_dir() / "tinystories.jsonl.gz"
BUILD = """
import resource, sys, time
from itertools import islice
from pathlib import Path
from tslens.corpus.diversity.story_index import StoryIndex
from tslens.corpus.stories import read_stories
source, n, times, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
stories = (s for _ in range(times) for s in read_stories(source, limit=n, text_only=True))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
start = time.perf_counter()
index = StoryIndex.build(stories, folder, source="bench", source_sha256="0")
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
size = sum(path.stat().st_size for path in folder.iterdir())
asked = [s.text[len(s.text) * 2 // 5 :] for s in read_stories(source, limit=100, text_only=True)]
start = time.perf_counter()
index = StoryIndex(folder)
for text in asked:
    index.nearest(text, measure="precision")
print(index.n_stories, index.n_words, seconds, size, before, peak, time.perf_counter() - start)
"""


def build(texts: Sequence[str], folder: str) -> StoryIndex:
    """An index of texts."""
    return StoryIndex.build(map(Story, texts), Path(folder), source="bench", source_sha256="0")


def check_equal(name: str, texts: Sequence[str], asked: Sequence[str]) -> None:
    """Nearest story by both measures, and longest span, of every asked text: index against brute force."""
    sets = [grams(words_of(text), 2) for text in texts]
    size = np.array([len(one) for one in sets])
    with tempfile.TemporaryDirectory() as folder:
        index = build(texts, folder)
        start = time.perf_counter()
        found = [(index.nearest(t, measure="precision"), index.nearest(t, measure="f")) for t in asked]
        spans = [index.longest_span(text) for text in asked]
        seconds = time.perf_counter() - start
    start = time.perf_counter()
    differ = 0
    for text, pair in zip(asked, found, strict=True):
        mine = grams(words_of(text), 2)
        shared = np.array([len(mine & theirs) for theirs in sets])
        for near, scores in zip(pair, (shared / len(mine), 2 * shared / (len(mine) + size)), strict=True):
            best = int(scores.argmax())
            differ += near is None or (near.story, near.score) != (best, scores[best])
    differ_spans = sum(
        (span.n_words, span.story) != by_hand
        for span, by_hand in zip(spans, spans_by_hand(texts, asked), strict=True)
    )
    by_hand = time.perf_counter() - start
    print(
        f"{name}: {len(asked):,} texts x {len(texts):,} stories: {differ} of {2 * len(asked):,} nearest stories and "
        f"{differ_spans} of {len(asked):,} longest spans differ from brute force; "
        f"index {seconds:.1f} s, brute force {by_hand:.0f} s",
        flush=True,
    )
    if differ or differ_spans:
        sys.exit(1)


def spans_by_hand(texts: Sequence[str], asked: Sequence[str]) -> list[tuple[int, int | None]]:
    """Words of the longest run of each asked text that is in a story, and the first story with the leftmost such."""
    rows, words = [words_of(text) for text in texts], [words_of(text) for text in asked]
    best: list[tuple[int, int | None]] = [(0, None)] * len(asked)
    alive, length = list(range(len(asked))), 0
    while alive:
        length += 1
        holder: dict[tuple[str, ...], int] = {}
        for number, row in enumerate(rows):
            for i in range(len(row) - length + 1):
                holder.setdefault(tuple(row[i : i + length]), number)
        still = []
        for a in alive:
            runs = (tuple(words[a][i : i + length]) for i in range(len(words[a]) - length + 1))
            story = next((holder[run] for run in runs if run in holder), None)
            if story is not None:
                best[a] = (length, story)
                still.append(a)
        alive = still
    return best


def time_questions(name: str, texts: Sequence[str]) -> None:
    """100 endings against all stories, opening included; the same by the peer."""
    numbers = draw_numbers(len(texts), N_COMPLETIONS, seed=0)
    asked = [split_story(texts[number])[1] for number in numbers]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        build(texts, folder)
        built = time.perf_counter() - start
        start = time.perf_counter()
        index = StoryIndex(Path(folder))
        opened = time.perf_counter() - start
        near = [index.nearest(text, measure="precision") for text in asked]
        nearest = time.perf_counter() - start
        for text, number in zip(asked, numbers, strict=True):
            index.longest_span(text)
            index.longest_span(text, leave_out=number)
            index.nearest(text, measure="precision", leave_out=number)
            index.gram_counts(text)
        everything = time.perf_counter() - start
    print(
        f"{name}: {len(asked)} completions x {len(texts):,} stories: opening {opened:.3f} s, with nearest stories "
        f"{nearest:.3f} s, with spans, own story left out, and counts of k-grams too {everything:.3f} s",
        flush=True,
    )
    peer, scores, fitted, asked_seconds = ask_peer(texts, asked)
    agree = sum(
        one is not None and abs(one.score - score) < 1e-6 for one, score in zip(near, scores, strict=True)
    )
    print(
        f"{peer}: fit {fitted:.2f} s, nearest stories {asked_seconds:.3f} s; {agree} of {len(asked)} scores agree\n"
        f"ratios, ours over the peer's: questions (ours with opening) {nearest / asked_seconds:.2f}, "
        f"with its fit, as nothing of it is on disk {nearest / (asked_seconds + fitted):.3f}; "
        f"building against fitting {built / fitted:.2f}",
        flush=True,
    )


def ask_peer(texts: Sequence[str], asked: Sequence[str]) -> tuple[str, list[float], float, float]:
    """Name of the peer; R_2p of each asked text with its nearest; seconds to fit and to ask."""
    if importlib.util.find_spec("sklearn"):
        from sklearn.feature_extraction.text import CountVectorizer

        vectorizer = CountVectorizer(ngram_range=(2, 2), binary=True, analyzer="word", tokenizer=words_of,
                                     token_pattern=None, lowercase=False, dtype=np.int32)  # fmt: skip
        start = time.perf_counter()
        corpus = vectorizer.fit_transform(texts).T.tocsr()
        fitted = time.perf_counter() - start
        start = time.perf_counter()
        shared = (vectorizer.transform(asked) @ corpus).max(axis=1).toarray().ravel()
        sizes = [len(grams(words_of(text), 2)) for text in asked]
        seconds = time.perf_counter() - start
        return "scikit-learn CountVectorizer", (shared / sizes).tolist(), fitted, seconds
    import torch

    start = time.perf_counter()
    ids: dict[tuple[str, ...], int] = {}
    rows = [[ids.setdefault(gram, len(ids)) for gram in grams(words_of(text), 2)] for text in texts]
    corpus = as_csr(torch, rows, len(ids))
    fitted = time.perf_counter() - start
    start = time.perf_counter()
    mine = [grams(words_of(text), 2) for text in asked]
    known = [[ids[gram] for gram in one if gram in ids] for one in mine]
    table = torch.zeros(len(ids), len(asked))
    for column, row in enumerate(known):
        table[row, column] = 1
    shared = (corpus @ table).max(0).values.numpy()
    scores = (shared / [len(one) for one in mine]).tolist()
    return "PyTorch CSR product", scores, fitted, time.perf_counter() - start


def as_csr(torch, rows: Sequence[Sequence[int]], width: int):
    """A 0/1 matrix of rows with ones at the given columns."""
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    columns = torch.tensor([column for row in rows for column in sorted(row)])
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that CSR is in beta
        return torch.sparse_csr_tensor(
            torch.from_numpy(starts), columns, torch.ones(len(columns)), (len(rows), width)
        )


def time_builds(source: str, n_stories: int, repeats: Sequence[int]) -> None:
    """Size, seconds and peak memory of the index of a quarter, a half, all; all repeated; extrapolated."""
    points = []
    plan = [(n_stories // 4, 1), (n_stories // 2, 1), *((n_stories, times) for times in repeats)]
    for n, times in plan:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-c", BUILD, source, str(n), str(times), folder]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        stories, words, seconds, size, before, peak, asking = (float(value) for value in out)
        points.append((words, seconds, size))
        repeated = f" (all, {times} times over)" if times > 1 else ""
        print(
            f"{stories:9,.0f} stories, {words:11,.0f} words{repeated}: {seconds:6.1f} s, {size / 1e6:7.1f} MB "
            f"({size / words:.1f} bytes a word), peak {peak:.0f} MB ({before:.0f} MB before); "
            f"opening and 100 nearest stories {asking:.2f} s",
            flush=True,
        )
    words, seconds, _ = points[-1]
    bytes_a_word = points[len(plan) - len(repeats)][2] / points[len(plan) - len(repeats)][0]
    print(
        f"extrapolated to {TINYSTORIES_STORIES:,} stories, {TINYSTORIES_WORDS:,} words: "
        f"{bytes_a_word * TINYSTORIES_WORDS / 1e9:.1f} GB, {seconds / words * TINYSTORIES_WORDS / 60:.0f} minutes, "
        f"100 nearest stories {asking / words * TINYSTORIES_WORDS:.0f} s"
    )


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=["equal", "time", "build"])
    part = parser.parse_args().part
    author = [story.text for story in write_stories(2 * N_SIDE, seed=0, text_only=True)]
    real = [story.text for story in read_stories(REAL, text_only=True)] if REAL.exists() else []
    if part in (None, "equal"):
        check_equal("author", author[:N_SIDE], author[N_SIDE:])
        if real:
            check_equal("real", real[:N_SIDE], real[N_SIDE : 2 * N_SIDE])
    if part in (None, "time"):
        time_questions(*(("real", real) if real else ("author", author)))
    if part in (None, "build"):
        time_builds(str(REAL) if real else "author:4000", len(real) or 4000, [1, 4, 16])


if __name__ == "__main__":
    main()
