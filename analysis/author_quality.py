"""How good are the stories of the offline author? Duplicates, self-similarity, speed, features and words found.

    .venv/bin/python analysis/author_quality.py [--stories 20000] [--seed 0]

Self-similarity of a set of 2,000 stories: for each story the highest ROUGE-2 (F, clipped counts of pairs of lower-case
words) with any other of them. The same is measured on 2,000 real stories where ``$TSLENS_DATA`` has them.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import Counter
from itertools import islice, pairwise

import numpy as np

from tslens.corpus.author import write_stories
from tslens.corpus.stories import read_stories
from tslens.files import data_dir

N_COMPARED = 2_000
BLOCK = 4_096


def similarities(texts: list[str]) -> np.ndarray:
    """Highest ROUGE-2 F of each text with any other."""
    holders: dict[tuple[str, str, int], list[int]] = {}  # texts with a pair for the n-th time
    sizes = []
    for row, text in enumerate(texts):
        seen: Counter[tuple[str, str]] = Counter()
        for pair in pairwise(re.findall(r"[^\W_]+(?:['’][^\W_]+)*", text.lower())):
            holders.setdefault((*pair, seen[pair]), []).append(row)
            seen[pair] += 1
        sizes.append(seen.total())
    shared = np.zeros((len(texts), len(texts)), dtype=np.float32)
    common = iter([rows for rows in holders.values() if len(rows) > 1])
    while block := list(islice(common, BLOCK)):
        table = np.zeros((len(texts), len(block)), dtype=np.float32)
        for column, rows in enumerate(block):
            table[rows, column] = 1
        shared += table @ table.T
    size = np.array(sizes)
    rouge = 2 * shared / (size[:, None] + size[None, :])
    np.fill_diagonal(rouge, 0)
    best: np.ndarray = rouge.max(1)
    return best


def describe(values: np.ndarray) -> dict[str, float]:
    """Median, 90th and 95th percentile, highest."""
    quantiles = np.percentile(values, [50, 90, 95, 100])
    return dict(zip(("median", "p90", "p95", "highest"), quantiles.round(3).tolist(), strict=True))


def main() -> None:
    """Write, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stories", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()

    started = time.perf_counter()
    stories = list(write_stories(options.stories, seed=options.seed, n_processes=options.processes))
    seconds = time.perf_counter() - started
    texts = [story.text for story in stories]
    n_words = [len(text.split()) for text in texts]
    facts = {
        "stories": len(texts),
        "seconds": round(seconds, 1),
        "processes": options.processes,
        "words": {"least": min(n_words), "median": int(np.median(n_words)), "most": max(n_words)},
        "duplicates": len(texts) - len(set(texts)),
        "different words": len({word.lower() for text in texts for word in re.findall(r"[^\W_]+", text)}),
        "features": dict(Counter(name for story in stories for name in story.extra["features"])),
        "self-similarity": describe(similarities(texts[:N_COMPARED])),
    }
    real = data_dir() / "tinystories.jsonl.gz"
    if real.exists():
        compared = [story.text for story in islice(read_stories(real), N_COMPARED)]
        facts["self-similarity of real stories"] = describe(similarities(compared))
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
