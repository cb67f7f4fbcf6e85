"""Generation against ``generate`` of transformers: the same weights, prompts and threads, greedy, both in float32.

Prompts: the 44 of the paper's evaluation, each whole and with up to 11 of its last words left out, until there are
500; without them, beginnings of author stories. transformers gets the model exported by tslens, prompts sorted by
length and padded on the left. First each of its batch sizes, with a dynamic and a static cache, writes all prompts
once; its best goes on. Then both sides write everything in turn, round by round; the ratio is the median over rounds.
Tokens are those of the texts, the end included, no padding. Texts that differ are named, with the gap between the two
logits where they part, in float64.

The ceiling is the speed of the model's matrix products alone at our batch size: no attention, norms, activations,
choice of tokens or Python.

Last, sampled texts are written in batches of two sizes, and those that differ are counted.

    python tests/bench/bench_generate.py [--model l1_h256] [--prompts 500] [--tokens 200] [--rounds 3]
        [--sizes 16 64 250 500]
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

import torch
import torch.nn.functional as F
import yaml
from transformers import AutoModelForCausalLM

from tslens.corpus.stories import read_stories
from tslens.files import data_dir
from tslens.model import generate as ours_module
from tslens.model.export import export_model
from tslens.model.generate import generate
from tslens.model.load import load_model
from tslens.model.transformer import TinyTransformer

Texts = list[list[int]]


def main() -> None:
    """Print the search, the rounds, the ratio, the ceiling, and what differs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="l1_h256")
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=[16, 64, 250, 500])
    options = parser.parse_args()
    model = load_model(options.model)
    prompts = make_prompts(options.prompts)
    ids = [[model.tokenizer.start_id, *model.tokenizer.encode(prompt)] for prompt in prompts]
    print(
        f"{options.model}: {len(set(prompts))} prompts of {min(map(len, ids))} to {max(map(len, ids))} tokens, up to "
        f"{options.tokens} new ones, greedy, {torch.get_num_threads()} threads, transformers "
        f"{__import__('transformers').__version__}, torch {torch.__version__}"
    )
    with tempfile.TemporaryDirectory() as folder:
        export_model(model, "huggingface", Path(folder) / "model")
        theirs = AutoModelForCausalLM.from_pretrained(Path(folder) / "model", dtype=torch.float32).eval()
    size, cache = search(theirs, ids, options.tokens, model.tokenizer.eos_id, options.sizes)
    sides: dict[str, Callable[[], Texts]] = {
        "tslens": lambda: write_ours(model, prompts, options.tokens),
        "transformers": lambda: write_theirs(
            theirs, ids, options.tokens, model.tokenizer.eos_id, size, cache
        ),
    }
    write_ours(model, prompts[:64], 20)  # warm
    speeds: dict[str, list[float]] = {side: [] for side in sides}
    texts: dict[str, Texts] = {}
    for _ in range(options.rounds):
        for side, write in sides.items():
            start = time.perf_counter()
            texts[side] = write()
            speeds[side].append(sum(map(len, texts[side])) / (time.perf_counter() - start))
    for side, found in speeds.items():
        print(
            f"{side:13} {statistics.median(found):8,.0f} tokens per second ({min(found):,.0f} to {max(found):,.0f})"
        )
    ratios = [a / b for a, b in zip(speeds["tslens"], speeds["transformers"], strict=True)]
    print(
        f"ratio         {statistics.median(ratios):8.2f} ({min(ratios):.2f} to {max(ratios):.2f}), {len(ratios)} rounds"
    )
    lengths = sorted(map(len, ids))
    n_rows = ours_module.rows_at_once(model, lengths, options.tokens)
    most = ceiling(model, n_rows)
    share = statistics.median(speeds["tslens"]) / most
    print(
        f"ceiling       {most:8,.0f} (matrix products alone, {n_rows} rows); tslens reaches {share:.0%} of it"
    )
    compare(model, ids, texts["tslens"], texts["transformers"])
    count_batch_changes(model, prompts, options.tokens)


def make_prompts(n_prompts: int) -> list[str]:
    """Beginnings of stories, all different if there are enough."""
    path = data_dir() / "eval_prompts.yaml"
    if path.exists():
        whole = [str(prompt) for prompt in yaml.safe_load(path.read_text(encoding="utf-8"))]
    else:
        whole = [" ".join(s.text.split(" ")[:30]) for s in read_stories(f"author:{n_prompts}")]
    shorter = [" ".join(p.split(" ")[: max(3, len(p.split(" ")) - cut)]) for cut in range(12) for p in whole]
    return (shorter * (n_prompts // len(shorter) + 1))[:n_prompts]


def write_ours(model: TinyTransformer, prompts: list[str], n_tokens: int) -> Texts:
    """New tokens of each prompt, read back from the texts' tokens as ``generate`` decodes them."""
    found: Texts = []
    decode = model.tokenizer.decode
    try:  # the ids themselves: two texts may be equal by other tokens
        model.tokenizer.decode = lambda ids: list(ids)
        done = generate(model, prompts, max_tokens=n_tokens, temperature=0, seed=0)
    finally:
        model.tokenizer.decode = decode
    for one in done:
        found.append([*one.completion, *([model.tokenizer.eos_id] if one.ended else [])])
    return found


@torch.inference_mode()
def write_theirs(model, ids: Texts, n_tokens: int, eos: int, size: int, cache: str) -> Texts:
    """The same by transformers."""
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    found: Texts = [[] for _ in ids]
    for first in range(0, len(order), size):
        part = order[first : first + size]
        longest = max(len(ids[i]) for i in part)
        tokens = torch.tensor([[eos] * (longest - len(ids[i])) + ids[i] for i in part])
        mask = torch.tensor([[0] * (longest - len(ids[i])) + [1] * len(ids[i]) for i in part])
        options = {} if cache == "dynamic" else {"cache_implementation": cache, "disable_compile": True}
        out = model.generate(
            tokens,
            attention_mask=mask,
            do_sample=False,
            max_new_tokens=n_tokens,
            pad_token_id=eos,
            eos_token_id=eos,
            **options,
        )
        for i, row in zip(part, out[:, longest:].tolist(), strict=True):
            found[i] = row[: row.index(eos) + 1] if eos in row else row
    return found


def search(model, ids: Texts, n_tokens: int, eos: int, sizes: list[int]) -> tuple[int, str]:
    """The fastest batch size and kind of cache of transformers."""
    speeds: dict[tuple[int, str], float] = {}
    write_theirs(model, ids[:16], 10, eos, 16, "dynamic")  # warm
    for cache in ("dynamic", "static"):
        for size in sizes:
            start = time.perf_counter()
            try:
                texts = write_theirs(model, ids, n_tokens, eos, size, cache)
            except Exception as error:  # a kind of cache that it does not know for this model
                print(f"transformers, {cache} cache, batch {size}: {type(error).__name__}: {error}"[:160])
                break
            speeds[size, cache] = sum(map(len, texts)) / (time.perf_counter() - start)
            print(
                f"transformers, {cache} cache, batch {size:3}: {speeds[size, cache]:8,.0f} tokens per second",
                flush=True,
            )
    best = max(speeds, key=lambda key: speeds[key])
    print(f"transformers goes on with batch {best[0]}, {best[1]} cache")
    return best


@torch.inference_mode()
def ceiling(model: TinyTransformer, n_rows: int) -> float:
    """Tokens per second if only the matrix products ran."""
    d, v, n_layers = model.cfg.d_model, model.cfg.d_vocab, model.cfg.n_layers
    shapes = [(d, 3 * d), (d, d), (d, 4 * d), (4 * d, d)] * n_layers + [(d, v)]
    products = [(torch.randn(n_rows, n_in), torch.randn(n_out, n_in)) for n_in, n_out in shapes]
    seconds = []
    for _ in range(200):
        start = time.perf_counter()
        for x, weight in products:
            F.linear(x, weight)
        seconds.append(time.perf_counter() - start)
    return n_rows / statistics.median(seconds)


@torch.inference_mode()
def compare(model: TinyTransformer, ids: Texts, ours: Texts, theirs: Texts) -> None:
    """How many texts are the same, and by how much the logits differ where others part."""
    differ = [i for i in range(len(ids)) if ours[i] != theirs[i]]
    print(f"same greedy text: {len(ids) - len(differ)} of {len(ids)}")
    exact = TinyTransformer(model.spec, model.cfg.d_vocab, seed=0, n_ctx=model.cfg.n_ctx)
    exact.load_state_dict(model.state_dict())
    exact = exact.to(torch.float64).eval()
    for i in differ:
        n_same = next(n for n, (a, b) in enumerate(zip(ours[i], theirs[i], strict=False)) if a != b)
        logits = exact(torch.tensor([ids[i] + ours[i][:n_same]]))[0, -1]
        gap = float(logits[ours[i][n_same]] - logits[theirs[i][n_same]])
        print(f"  prompt {i}, token {n_same}: the two logits differ by {gap:.2e} in float64")


def count_batch_changes(model: TinyTransformer, prompts: list[str], n_tokens: int) -> None:
    """Sampled and greedy texts that come out otherwise in batches a quarter as large."""
    for temperature in (0.0, 1.0):
        one = generate(model, prompts, max_tokens=n_tokens, temperature=temperature, seed=0)
        room = ours_module.CACHE_BYTES["cpu"]
        try:
            ours_module.CACHE_BYTES["cpu"] = room // 4
            other = generate(model, prompts, max_tokens=n_tokens, temperature=temperature, seed=0)
        finally:
            ours_module.CACHE_BYTES["cpu"] = room
        n_changed = sum(a.completion != b.completion for a, b in zip(one, other, strict=True))
        n_new = sum(a.n_tokens for a in one)
        print(
            f"temperature {temperature:g}: {n_changed} of {len(one)} texts ({n_new:,} tokens) change with the batch"
        )


if __name__ == "__main__":
    main()
