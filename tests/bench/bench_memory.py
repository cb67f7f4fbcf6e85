"""Peak memory of a whole scan, for 1,000 and for 10,000 stories: each in a process of its own.

python tests/bench/bench_memory.py [--model l1_h256] [--stories 1000 10000]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time


def main() -> None:
    """Print peak memory and time of each size, and their ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="l1_h256")
    parser.add_argument("--stories", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--one", type=int, help="scan so many stories in this process")
    options = parser.parse_args()
    if options.one:
        scan(options.model, options.one)
        return
    peaks = []
    for n_stories in options.stories:
        command = [sys.executable, __file__, "--model", options.model, "--one", str(n_stories)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        megabytes, seconds = (float(word) for word in done.stdout.split())
        peaks.append(megabytes)
        print(f"{n_stories:7,} stories: peak {megabytes:7.0f} MB, {seconds:5.0f} s", flush=True)
    print(f"ratio of the peaks: {peaks[-1] / peaks[0]:.3f}")


def scan(name: str, n_stories: int) -> None:
    """Scan stories with a random model; print peak memory in MB, and seconds."""
    from itertools import islice

    from tslens.corpus.stories import read_stories
    from tslens.corpus.tokenizer import StoryTokenizer
    from tslens.files import data_dir
    from tslens.model.spec import ModelSpec
    from tslens.model.transformer import TinyTransformer
    from tslens.probes.scan import score_heads

    real = data_dir() / "tinystories.jsonl.gz"
    source = str(real) if real.exists() else f"author:{n_stories}"
    tokenizer = StoryTokenizer.train(islice(read_stories(source), 1000), vocab_size=4096)
    model = TinyTransformer(ModelSpec.from_name(name), tokenizer.vocab_size, seed=0, tokenizer=tokenizer)
    start = time.perf_counter()
    score_heads(model.eval(), read_stories(source, limit=n_stories), seed=0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{peak} {time.perf_counter() - start}")


if __name__ == "__main__":
    main()
