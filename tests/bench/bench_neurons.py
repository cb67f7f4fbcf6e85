"""Reading all neurons against the bare forward pass, and against the same statistics fed by TransformerLens' bridge.

One million tokens of author stories with gold labels through a random ``l4_h128``: tokens per second of (1) the model
alone, logits and all; (2) ``read_neurons`` with every label, the making of labels included; (3) the same, fed by
``TransformerBridge.run_with_cache`` with a names filter. In rounds of all three in turn, each on all tokens: while the
sample fills, at the beginning, a token costs more. Then the whole million once more by (2) in a process of its own, for
its peak memory.

    python tests/bench/bench_neurons.py [--model l4_h128] [--tokens 1000000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
warnings.simplefilter("ignore")
logging.disable(logging.WARNING)

import torch

from tslens.corpus.stories import read_stories
from tslens.corpus.tokenizer import StoryTokenizer
from tslens.model.export import export_model
from tslens.model.spec import ModelSpec
from tslens.model.transformer import TinyTransformer
from tslens.probes.neurons.stream import labelled_batches, read_neurons
from tslens.types import Story

TOKENS_OF_A_STORY = 225


class Bridged:
    """The bridge with the one method that the reading asks for."""

    def __init__(self, bridge, model: TinyTransformer) -> None:
        self.bridge, self.cfg, self.device = bridge, model.cfg, model.device
        self.names = [f"blocks.{layer}.mlp.hook_post" for layer in range(model.cfg.n_layers)]

    def neuron_activations(self, tokens: torch.Tensor) -> Iterator[torch.Tensor]:
        """What the neurons of each layer give, from the bridge's cache."""
        _, cache = self.bridge.run_with_cache(tokens, names_filter=self.names)
        for name in self.names:
            yield cache[name]


def main() -> None:
    """Print tokens per second, ratios, and peak memory."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="l4_h128")
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", action="store_true", help="read the tokens in this process, print its peak")
    options = parser.parse_args()
    n_stories = options.tokens // TOKENS_OF_A_STORY
    if options.one:
        model, stories = prepared(options.model, n_stories)
        start = time.perf_counter()
        n_tokens = read(model, model.tokenizer, stories)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{n_tokens} {seconds} {peak}")
        return
    from transformer_lens.model_bridge import TransformerBridge

    model, stories = prepared(options.model, n_stories)
    with tempfile.TemporaryDirectory() as folder:
        export_model(model, "huggingface", Path(folder) / "model")
        bridge = TransformerBridge.boot_transformers(str(Path(folder) / "model"))
    sides = {
        "forward": lambda: forward(model, stories),
        "tslens": lambda: read(model, model.tokenizer, stories),
        "bridge": lambda: read(Bridged(bridge, model), model.tokenizer, stories),
    }
    speeds: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(options.rounds):
        for side, run in sides.items():
            start = time.perf_counter()
            n_tokens = run()
            speeds[side].append(n_tokens / (time.perf_counter() - start))
    print(f"{options.model}, {torch.get_num_threads()} threads, tokens per second, {options.rounds} rounds")
    for side, found in speeds.items():
        ratios = [ours / theirs for ours, theirs in zip(speeds["tslens"], found, strict=True)]
        print(
            f"{side:8} {statistics.median(found):9,.0f}   tslens is {statistics.median(ratios):.2f} times as fast "
            f"({min(ratios):.2f}-{max(ratios):.2f})",
            flush=True,
        )
    command = [sys.executable, __file__, "--one", "--model", options.model, "--tokens", str(options.tokens)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    n_read, seconds, peak = (float(word) for word in done.stdout.split())
    print(f"{n_read:,.0f} tokens in {seconds:.0f} s ({n_read / seconds:,.0f} a second), peak {peak:,.0f} MB")


def prepared(name: str, n_stories: int) -> tuple[TinyTransformer, list[Story]]:
    """A random model and the stories."""
    stories = list(read_stories(f"author:{n_stories}"))
    tokenizer = StoryTokenizer.train(stories[:2000], vocab_size=4096)
    spec = ModelSpec.from_name(name)
    return TinyTransformer(spec, tokenizer.vocab_size, seed=0, tokenizer=tokenizer).eval(), stories


def read(model, tokenizer: StoryTokenizer, stories: list[Story]) -> int:
    """All statistics of all neurons; how many tokens that was."""
    batches = labelled_batches(stories, tokenizer, n_ctx=512, seed=0)
    return read_neurons(model, batches).sums.n


@torch.inference_mode()
def forward(model: TinyTransformer, stories: list[Story]) -> int:
    """The model alone, on the same rows; how many tokens that was."""
    n_tokens = 0
    for rows, n_read in labelled_rows(stories, model.tokenizer):
        model(rows)
        n_tokens += n_read
    return n_tokens


def labelled_rows(stories: list[Story], tokenizer: StoryTokenizer) -> Iterator[tuple[torch.Tensor, int]]:
    """Rows as the reading batches them, without labels; how many of their tokens it reads."""
    from tslens.probes.batch import encoded_batches
    from tslens.probes.neurons.stream import BATCH_TOKENS

    for encoded in encoded_batches(stories, tokenizer, n_ctx=512, batch_tokens=BATCH_TOKENS):
        rows = [[tokenizer.start_id, *one.ids[:511]] for one in encoded]
        longest = max(map(len, rows))
        padded = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
        yield padded, sum(len(row) - 1 for row in rows)


if __name__ == "__main__":
    main()
