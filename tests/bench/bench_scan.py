"""The scan against TransformerLens' bridge: the same batches, the same plans, the same sums, other patterns.

For each model: tokens per second of (1) tslens, (2) ``TransformerBridge.run_with_cache`` with a names filter on the
patterns, (3) the same with ``stop_at_layer``, which leaves the unembedding out. The weights are the same, random;
stories are read in rounds of all three in turn, and the ratio is the median over rounds. A line for each size of
batch, the same for all; the line "best" gives each side its own best size.

Then what a probe costs: what the dearest ones add to a whole pass (labels, plans, model, twins, sums, verdict).

    python tests/bench/bench_scan.py [--models l1_h256 l4_h128 l8_h64] [--stories 200] [--rounds 5] [--probes-only]
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import statistics
import tempfile
import time
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
warnings.simplefilter("ignore")
logging.disable(logging.WARNING)

import torch

from tslens.corpus.stories import read_stories
from tslens.corpus.tokenizer import StoryTokenizer
from tslens.model.attention import Scratch
from tslens.model.export import export_model
from tslens.model.spec import ModelSpec
from tslens.model.transformer import TinyTransformer
from tslens.probes.base import Probe, find_probes
from tslens.probes.batch import TokenBatch, story_batches
from tslens.probes.labels import needs_of
from tslens.probes.plan import Plan, make_plan
from tslens.probes.scan import BATCH_TOKENS, calibrate, read_all, score_heads
from tslens.stats import BootstrapSums, poisson_weights, second_half

SIZES = (768, 1536, 4096)  # padded tokens a batch
N_DEAREST = 3  # probes whose cost is timed


def main() -> None:
    """Print a table of tokens per second and ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", nargs="+", default=["l1_h256", "l4_h128", "l8_h64"])
    parser.add_argument("--stories", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--probes-only", action="store_true", help="only what a probe costs")
    options = parser.parse_args()
    stories = list(read_stories("author:2000"))  # with the labels that probes read
    tokenizer = StoryTokenizer.train(stories, vocab_size=4096)
    print(f"{options.stories} author stories, {torch.get_num_threads()} threads, tokens per second")
    if options.probes_only:
        for name in options.models:
            bench_probes(name, tokenizer, stories[: 2 * options.stories])
        return
    print(
        f"{'model':10} {'tslens':>9} {'bridge':>9} {'+stop':>9} {'ratio':>7} {'(range)':>13} {'ratio to +stop':>15}"
    )
    for name in options.models:
        bench_model(name, tokenizer, stories[: options.stories], options.rounds)
    for name in options.models:
        bench_probes(name, tokenizer, stories[: 2 * options.stories])


def bench_model(name: str, tokenizer: StoryTokenizer, stories: list, rounds: int) -> None:
    """The lines of one model."""
    from transformer_lens.model_bridge import TransformerBridge

    model = TinyTransformer(
        ModelSpec.from_name(name), tokenizer.vocab_size, seed=0, tokenizer=tokenizer
    ).eval()
    with tempfile.TemporaryDirectory() as folder:
        export_model(model, "huggingface", Path(folder) / "model")
        bridge = TransformerBridge.boot_transformers(str(Path(folder) / "model"))
    probes = [probe for probe in find_probes().values() if probe.name != "induction"]
    last = f"blocks.{model.cfg.n_layers - 1}.attn.hook_pattern"
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(model.cfg.n_layers)]
    assert last in names

    scratch = Scratch()

    def ours(plan: Plan) -> torch.Tensor:
        return read_all(model, plan, scratch)

    def theirs(plan: Plan, **options: int) -> torch.Tensor:
        _, cache = bridge.run_with_cache(plan.tokens, names_filter=names, **options)
        read = [plan.read(cache[name], local=model.spec.is_local(i)) for i, name in enumerate(names)]
        return torch.cat(read, dim=-1)

    sides = {
        "tslens": ours,
        "bridge": theirs,
        "stop": lambda plan: theirs(plan, stop_at_layer=model.cfg.n_layers),
    }
    best: dict[str, list[float]] = {}
    for size in SIZES:
        batches = batches_of(stories, tokenizer, probes, size)
        calibration = calibrate(batches, probes, tokenizer.vocab_size, window=256)
        plans = [make_plan(batch, probes, calibration) for batch in batches]
        n_tokens = sum(int(batch.length.sum()) for batch in batches)
        check_equal(sides, plans[0])
        speeds: dict[str, list[float]] = {side: [] for side in sides}
        for _ in range(rounds + 1):
            for side, read in sides.items():
                speeds[side].append(n_tokens / scan(read, plans, model))
        speeds = {side: found[1:] for side, found in speeds.items()}  # the first round warms up
        show(name, f"{size}", speeds)
        for side, found in speeds.items():
            if statistics.median(found) > statistics.median(best.get(side, [0.0])):
                best[side] = found
    show(name, "best", best)


def batches_of(
    stories: list, tokenizer: StoryTokenizer, probes: list[Probe], size: int = BATCH_TOKENS
) -> list[TokenBatch]:
    """The batches of a scan."""
    return list(story_batches(stories, tokenizer, n_ctx=512, batch_tokens=size, labels=needs_of(probes)))


def bench_probes(name: str, tokenizer: StoryTokenizer, stories: list, rounds: int = 5) -> None:
    """What the dearest probes add to a pass, as a share of the pass with all.

    The dearest by their declared pairs a token, which a test counts. Each is added to a pass that has one cheap probe
    of labels alone, and timed right behind it: a machine's speed drifts by more in minutes than one probe adds. The
    median over rounds of the difference counts.
    """
    model = TinyTransformer(
        ModelSpec.from_name(name), tokenizer.vocab_size, seed=0, tokenizer=tokenizer
    ).eval()
    probes = {probe.name: probe for probe in find_probes().values() if probe.name != "induction"}
    base = probes.pop("action")
    dearest = sorted(probes.values(), key=lambda probe: -probe.cost)[:N_DEAREST]
    whole: list[float] = []
    added: dict[str, list[float]] = {probe.name: [] for probe in dearest}
    seconds_of_pass(model, stories, [base])  # warms up
    gc.collect()
    gc.freeze()  # that the bench holds stories is no cost of a probe: a collection would look at them all
    for _ in range(rounds):
        whole.append(seconds_of_pass(model, stories, [base, *probes.values()]))
        for probe in dearest:
            without = seconds_of_pass(model, stories, [base])
            added[probe.name].append(seconds_of_pass(model, stories, [base, probe]) - without)
    seconds = statistics.median(whole)
    print(
        f"{name}: {seconds:.1f} s for all {len(probes) + 1} probes on {len(stories)} stories; one adds of it:"
    )
    for probe in dearest:
        shares = [more / seconds for more in added[probe.name]]
        print(
            f"  {probe.name:16} {statistics.median(shares):6.1%} ({min(shares):.1%} to {max(shares):.1%}), "
            f"{probe.cost:g} pairs a token",
            flush=True,
        )


@torch.inference_mode()
def seconds_of_pass(model: TinyTransformer, stories: list, probes: list[Probe]) -> float:
    """A whole pass: batches, plans, model and twins, sums, verdict."""
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        score_heads(model, stories, seed=0, probes=probes, n_explain=0)
    return time.perf_counter() - start


def show(name: str, size: str, speeds: dict[str, list[float]]) -> None:
    """One line: medians, and the ratio of each round."""
    ratios = {side: [a / b for a, b in zip(speeds["tslens"], speeds[side], strict=True)] for side in speeds}
    middle = {side: statistics.median(found) for side, found in speeds.items()}
    spread = f"({min(ratios['bridge']):.1f}-{max(ratios['bridge']):.1f})"
    print(
        f"{name:8} {size:>6} {middle['tslens']:9,.0f} {middle['bridge']:9,.0f} {middle['stop']:9,.0f} "
        f"{statistics.median(ratios['bridge']):7.1f} {spread:>13} {statistics.median(ratios['stop']):15.1f}",
        flush=True,
    )


@torch.inference_mode()
def scan(read, plans: list[Plan], model: TinyTransformer) -> float:
    """Seconds to read all batches and add them to the sums."""
    n_heads = model.cfg.n_layers * model.cfg.n_heads
    sums = BootstrapSums(len(plans[0].measures), n_heads)
    start = time.perf_counter()
    for plan in plans:
        weights = torch.from_numpy(poisson_weights(0, plan.cluster))
        half = torch.tensor([second_half(key) for key in plan.cluster])
        sums.add(read(plan), plan.present, weights, half)
    sums.flush()
    return time.perf_counter() - start


@torch.inference_mode()
def check_equal(sides: dict, plan: Plan) -> None:
    """All sides read the same numbers, or the comparison means nothing."""
    found = [read(plan) for read in sides.values()]
    for other in found[1:]:
        torch.testing.assert_close(found[0], other, atol=1e-4, rtol=1e-3)


if __name__ == "__main__":
    main()
