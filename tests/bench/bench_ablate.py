"""Every head of a model ablated, against the same loop with TransformerLens' ``TransformerBridge.run_with_hooks``.

Both sides zero what each head in turn mixes, and read the loss of every next token of author stories, which makes one
mean per head: what the model loses without it. The same weights and threads, both in float32. The bridge gets the
model exported by tslens, stories sorted by length, and a hook on ``hook_z``; first each of its batch sizes runs a few
heads on a part of the stories, and its best goes on. Then both sides run a part of the stories in turn, round by
round; the ratio is the median over rounds, by the clock and by processor time, which other programs change less.
Losses of every head and token are compared.

The ceiling is the speed of the matrix products alone that a rerun cannot save: of what lies behind the head, and of the
unembedding; no attention, norms, softmax or sums.

Last, text is written plainly and without a head (by zero, and by its mean over all positions), without a neuron,
without half a layer; and without a head by a hook that the decoder cannot see through.

    python tests/bench/bench_ablate.py [--model l4_h128] [--stories 500] [--rounds 5] [--sizes 1024 2048 4096 8192]
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
warnings.simplefilter("ignore")
logging.disable(logging.WARNING)

import numpy as np
import torch
import torch.nn.functional as F

from tslens.causal.ablation import ablated, parse_component
from tslens.causal.ablator import Ablator, Intervention
from tslens.corpus.stories import read_stories
from tslens.link.effects import BATCH_TOKENS, StoryRows
from tslens.link.story_costs import CostStories
from tslens.model.batches import collate, cut_by_length
from tslens.model.export import export_model
from tslens.model.generate import generate
from tslens.model.linear import linear
from tslens.model.load import load_model
from tslens.model.transformer import TinyTransformer
from tslens.types import HeadId

Losses = list[np.ndarray]  # of each story [1 + head, token]; the untouched model first


def main() -> None:
    """Print the search, the rounds, the ratio, the ceiling, what differs, and the speed of writing."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="l4_h128")
    parser.add_argument("--stories", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 2048, 4096, 8192])
    options = parser.parse_args()
    model = load_model(options.model)
    heads = [HeadId(layer, i) for layer in range(model.cfg.n_layers) for i in range(model.cfg.n_heads)]
    stories = [model.tokenizer.encode_story(s.text) for s in read_stories(f"author:{options.stories}")]
    print(
        f"{options.model}: {len(heads)} heads on {len(stories)} author stories of {sum(map(len, stories)):,} tokens, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}",
        flush=True,
    )
    from transformer_lens.model_bridge import TransformerBridge

    with tempfile.TemporaryDirectory() as folder:
        export_model(model, "huggingface", Path(folder) / "model")
        bridge = TransformerBridge.boot_transformers(str(Path(folder) / "model"))
    parts = [stories[i :: options.rounds] for i in range(options.rounds)]
    size = search(bridge, parts[0], heads[:: max(1, len(heads) // 3)], options.sizes)
    sides: dict[str, Callable[[list[np.ndarray]], Losses]] = {
        "tslens": lambda part: by_tslens(model, part, heads),
        "bridge": lambda part: by_bridge(bridge, part, heads, size),
    }
    by_tslens(model, parts[0][:8], heads[:2])  # warm
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    of_cpu: dict[str, list[float]] = {side: [] for side in sides}
    found: dict[str, Losses] = {side: [] for side in sides}
    for part in parts:
        for side, run in sides.items():
            start, start_cpu = time.perf_counter(), time.process_time()
            found[side] += run(part)
            seconds[side].append(time.perf_counter() - start)
            of_cpu[side].append(time.process_time() - start_cpu)
    n_runs = len(heads) * sum(len(story) - 1 for story in stories)
    for side, took in seconds.items():
        print(
            f"{side:8} {sum(took):7.1f} s ({sum(of_cpu[side]):.1f} of a processor), "
            f"{n_runs / sum(took):9,.0f} ablated tokens per second"
        )
    for name, took in (("ratio", seconds), ("of processors", of_cpu)):
        ratios = [b / a for a, b in zip(took["tslens"], took["bridge"], strict=True)]
        print(
            f"{name:13} {statistics.median(ratios):5.2f} ({min(ratios):.2f} to {max(ratios):.2f}), "
            f"{len(ratios)} rounds"
        )
    least = ceiling(model) * sum(len(story) - 1 for story in stories)
    print(
        f"ceiling       {sum(of_cpu['bridge']) / least:5.2f} (matrix products alone, {least:.1f} s of processors); "
        f"tslens reaches {least / sum(of_cpu['tslens']):.0%} of it"
    )
    compare(found["tslens"], found["bridge"])
    writing(model, options.rounds)


def by_tslens(model: TinyTransformer, stories: list[np.ndarray], heads: list[HeadId]) -> Losses:
    """Losses of every token, clean and without each head."""
    found: Losses = [np.empty(0)] * len(stories)
    ablator, interventions = Ablator(model), [Intervention((head,), "zero") for head in heads]
    lengths = np.array([len(story) - 1 for story in stories])
    for index in cut_by_length(lengths, BATCH_TOKENS):
        batch = collate([stories[i] for i in index])
        at = batch.targets >= 0
        rows = StoryRows(batch.tokens, batch.targets, at, torch.from_numpy(lengths[index]), None)
        losses = ablator.losses_of(rows, interventions)
        together = np.concatenate([losses.clean[None], losses.under])
        for i, one in zip(index, np.split(together, np.cumsum(lengths[index])[:-1], axis=1), strict=True):
            found[i] = one
    return found


@torch.inference_mode()
def by_bridge(bridge, stories: list[np.ndarray], heads: list[HeadId], size: int) -> Losses:
    """The same by the bridge, ``size`` padded tokens a batch."""
    found: Losses = [np.empty(0)] * len(stories)
    lengths = np.array([len(story) - 1 for story in stories])
    for index in cut_by_length(lengths, size):
        batch = collate([stories[i] for i in index])
        at = batch.targets >= 0
        together = []
        for head in (None, *heads):
            hooks = [] if head is None else [(f"blocks.{head.layer}.attn.hook_z", silencing(head.index))]
            logits = bridge.run_with_hooks(batch.tokens, fwd_hooks=hooks, return_type="logits")
            losses = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), reduction="none")
            together.append(losses.reshape(at.shape)[at].double().numpy())
        for i, one in zip(
            index, np.split(np.stack(together), np.cumsum(lengths[index])[:-1], axis=1), strict=True
        ):
            found[i] = one
    return found


def silencing(head: int) -> Callable:
    """A hook that zeroes what a head has mixed."""

    def hook_fn(z: torch.Tensor, hook: object) -> torch.Tensor:
        z[:, :, head] = 0
        return z

    return hook_fn


def search(bridge, stories: list[np.ndarray], heads: list[HeadId], sizes: list[int]) -> int:
    """The fastest batch of the bridge, in padded tokens."""
    speeds: dict[int, float] = {}
    by_bridge(bridge, stories[:4], heads[:1], sizes[0])  # warm
    for size in sizes:
        start = time.perf_counter()
        by_bridge(bridge, stories, heads, size)
        n_runs = (1 + len(heads)) * sum(len(story) - 1 for story in stories)
        speeds[size] = n_runs / (time.perf_counter() - start)
        print(f"bridge, {size:5} tokens a batch: {speeds[size]:9,.0f} tokens per second", flush=True)
    best = max(speeds, key=lambda size: speeds[size])
    print(f"the bridge goes on with {best}")
    return best


@torch.inference_mode()
def ceiling(model: TinyTransformer) -> float:
    """Seconds for all heads at one token if only the matrix products behind the heads and the unembedding ran."""
    cfg, n_rows = model.cfg, BATCH_TOKENS
    d = cfg.d_model

    def seconds(shapes: list[tuple[int, int]]) -> float:
        products = [(torch.randn(n_rows, n_in), torch.randn(n_out, n_in)) for n_in, n_out in shapes]
        took = []
        for _ in range(30):
            start = time.process_time()
            for x, weight in products:
                linear(x, weight)
            took.append(time.process_time() - start)
        return statistics.median(took) / n_rows

    mlp, attention, out = seconds([(d, 4 * d), (4 * d, d)]), seconds([(d, 3 * d), (d, d)]), [(d, cfg.d_vocab)]
    behind = sum(mlp + (cfg.n_layers - 1 - layer) * (mlp + attention) for layer in range(cfg.n_layers))
    return cfg.n_heads * (behind + cfg.n_layers * seconds(out))


def compare(ours: Losses, theirs: Losses) -> None:
    """Largest differences, of a token's loss and of what a head costs."""
    clean, token = (
        max(np.abs(a[part] - b[part]).max() for a, b in zip(ours, theirs, strict=True))
        for part in (slice(0, 1), slice(1, None))
    )
    costs = [np.mean([(one[1:] - one[0]).mean(1) for one in side], axis=0) for side in (ours, theirs)]
    print(
        f"largest difference: {np.abs(costs[0] - costs[1]).max():.1e} of what a head costs ({costs[0].min():+.4f} to "
        f"{costs[0].max():+.4f} nats); of a token's loss {token:.1e} without a head, {clean:.1e} of the whole model"
    )


def writing(model: TinyTransformer, n_rounds: int) -> None:
    """Tokens per second of text, plain, ablated, and with a hook that no decoder can do without running it, in turn."""
    prompts = [" ".join(story.text.split(" ")[:20]) for story in read_stories("author:150")]
    ways = {"plain": [], "without L0H0": ["L0H0"], "without L0N0": ["L0N0"], "without L0.mlp": ["L0.mlp"]}
    ways["L0H0 at its mean"] = ["L0H0"]
    means = CostStories(model, read_stories("author:20")).means
    hooks = {**{way: [] for way in ways}, "by a hook": [("blocks.0.attn.hook_z", silencing(0))]}
    seconds, of_cpu = ({way: [] for way in hooks} for _ in range(2))
    generate(model, prompts[:64], max_tokens=20, seed=0)  # warm
    for _ in range(n_rounds):
        for way, fwd_hooks in hooks.items():
            components = [parse_component(name) for name in ways.get(way, ())]
            by_mean = means if way.endswith("mean") else None
            with ablated(model, components, means=by_mean), model.hooks(fwd_hooks=fwd_hooks):
                start, start_cpu = time.perf_counter(), time.process_time()
                done = generate(model, prompts, max_tokens=100, seed=0)
                n_written = sum(one.n_tokens for one in done)
                seconds[way].append((time.perf_counter() - start) / n_written)
                of_cpu[way].append((time.process_time() - start_cpu) / n_written)
    for way in hooks:
        share, of_processor = (
            statistics.median(a / b for a, b in zip(took["plain"], took[way], strict=True))
            for took in (seconds, of_cpu)
        )
        print(
            f"writing {way:16} {1 / statistics.median(seconds[way]):8,.0f} tokens per second, {share:.2f} of plain, "
            f"{of_processor:.2f} by processor time"
        )


if __name__ == "__main__":
    main()
