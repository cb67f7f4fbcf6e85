"""The offline author: time and peak memory of 20,000 and of 200,000 labelled stories; the annotator: words a second.

python tests/bench/bench_author.py [--stories 20000 200000] [--processes 2]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from itertools import islice
from pathlib import Path

import psutil

from tslens.corpus.annotate import annotate, open_parser
from tslens.corpus.stories import read_stories
from tslens.corpus.words import find_units
from tslens.files import data_dir


def main() -> None:
    """Print time and peak memory of each number of stories, then the annotator's rate."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--stories", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        for n_stories in options.stories:
            out = Path(folder) / "stories.jsonl"
            command = [
                "data",
                "author",
                "--stories",
                n_stories,
                "--processes",
                options.processes,
                "--out",
                out,
            ]
            start = time.perf_counter()
            peaks.append(peak_of([str(word) for word in command]))
            seconds = time.perf_counter() - start
            print(f"{n_stories:7,} stories: {seconds:5.0f} s, peak {peaks[-1]:.0f} MB", flush=True)
            out.unlink()
    print(f"ratio of the peaks: {peaks[-1] / peaks[0]:.3f}")
    real = data_dir() / "tinystories.jsonl.gz"
    stories = list(islice(read_stories(real if real.exists() else "author:2000", text_only=True), 2000))
    n_units = sum(len(find_units(story.text)) for story in stories)
    nlp = open_parser().nlp
    start = time.perf_counter()
    for _ in nlp.pipe([story.text for story in stories], batch_size=64):
        pass
    peer = n_units / (time.perf_counter() - start)
    print(f"spaCy's pipe alone, 1 process: {peer:,.0f} words and marks a second")
    for n_processes in (1, options.processes):
        start = time.perf_counter()
        for _ in annotate(stories, n_processes=n_processes):
            pass
        rate = n_units / (time.perf_counter() - start)
        kind = f"annotator, {n_processes} processes, loading included"
        print(f"{kind}: {rate:,.0f} words and marks a second, {rate / peer:.2f} of spaCy")


def peak_of(arguments: list[str]) -> float:
    """Run a command of tslens; the peak of the memory of all its processes together, in MB, read 20 times a second."""
    process = psutil.Popen([sys.executable, "-c", "from tslens.cli.main import run; run()", *arguments])
    peak = 0.0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.05):
            try:
                family = [process, *process.children(recursive=True)]
                peak = max(peak, sum(member.memory_info().rss for member in family) / 2**20)
            except psutil.Error:
                continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    done.set()
    watcher.join()
    if code:
        sys.exit(code)
    return peak


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
