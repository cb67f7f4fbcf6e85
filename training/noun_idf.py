"""Document frequencies of noun lemmas, for topics: writes ``tslens/assets/noun_idf.json``.

    python training/noun_idf.py STORIES [--skip 2000] [--processes 2]

The shipped table was fitted on the real stories, those from the 2,001st on: the first 2,000 are kept for checks.
Names are no nouns. Lemmas that occur in fewer than 5 stories are left out.
"""

import argparse
import json
from collections import Counter
from itertools import islice
from pathlib import Path

from tslens.corpus.annotate import annotate
from tslens.corpus.stories import read_stories
from tslens.corpus.topics import MIN_STORIES
from tslens.files import atomic_write


def main() -> None:
    """Count, and write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("stories")
    parser.add_argument("--skip", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("tslens/assets/noun_idf.json"))
    options = parser.parse_args()

    n_stories = 0
    counts: Counter[str] = Counter()
    stories = islice(read_stories(options.stories), options.skip, None)
    for story in annotate(stories, n_processes=options.processes):
        labels = story.extra["labels"]
        pairs = zip(labels["pos"], labels["lemma"], strict=True)
        counts.update({lemma for pos, lemma in pairs if pos == "NOUN"})
        n_stories += 1
    lemmas = {lemma: count for lemma, count in sorted(counts.items()) if count >= MIN_STORIES}
    with atomic_write(options.out) as file:
        json.dump({"n_stories": n_stories, "lemmas": lemmas}, file, ensure_ascii=False, indent=0)
        file.write("\n")
    print(f"{n_stories} stories, {len(counts)} noun lemmas, {len(lemmas)} kept; wrote {options.out}")


if __name__ == "__main__":
    main()
