"""Training against GPT-Neo of transformers with AdamW: wall-clock time to the same loss, and steps per second.

    python tests/bench/bench_train.py [--model l1_h256]... [--minutes 5] [--search-seconds 90] [--seeds 0 1 2]
                                      [--steps-only] [--json FILE] [--resume FILE]

For each model, on real stories:

1. The reference chooses how it computes (bfloat16, compilation) by what gives most steps in ``--minutes``.
2. Search: six runs of ``--search-seconds``, rates falling to zero at their end. From 2,048 tokens a step and 1e-3, the
   rate, then the batch, is doubled or halved around the best so far.
3. The reference trains for ``--minutes`` with the best values; its loss is the target. It is read on all held-out
   stories by our evaluator, its weights in our model, and also on held-out rows of the kind that it was trained on: the
   lower one counts.
4. Ours trains with the recipe as it is for a share of that time, each time from the start and to a rate of zero; the
   least share, in steps of 0.05, that reaches the target is the result.
5. Our model trained by AdamW with the values found, for the whole time, sets a second target, reached in the same way.

Clocks start before the first step on both sides: imports and opening the corpus are left out, compilation is not. Ours
also counts its evaluations, checkpoints and states; the reference has none. Steps: both sides in turn in
one run, at 2,048 targets a step, medians of rounds.
Finished stages are kept in a file (``--resume``), so that a benchmark of two hours can be done in pieces.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import math
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
warnings.simplefilter("ignore")
logging.disable(logging.WARNING)

import platform

import torch
from train_peers import (
    STEP_ROWS,
    Options,
    Trainer,
    as_ours,
    fastest_options,
    gpt_neo,
    native,
    own_loss,
    train_for,
    training_batches,
)
from train_steps import steps_per_second

import tslens
from tslens.config import TrainConfig, train_config
from tslens.corpus.shards import Corpus, corpus_for
from tslens.files import RunFolder, data_dir, read_json, write_json
from tslens.model.checkpoint import load_checkpoint
from tslens.model.loss import evaluate, loss_per_target
from tslens.model.spec import N_CTX, ModelSpec
from tslens.model.transformer import TinyTransformer
from tslens.train.loop import train_model

SEEDS = {"l1_h256": (0, 1, 2), "l4_h128": (0,), "l8_h64": (0,)}
ASKED_TIME, ASKED_OWN, ASKED_STEPS, ASKED_NATIVE = 0.40, 0.55, 1.4, 1.0
N_SEARCH = 6
CENTRE = (4, 1e-3)  # rows a step, rate
SHARES = [share / 100 for share in range(5, 105, 5)]
FIRST_SHARE = 0.40


class Stages:
    """Results of what is finished, in a file that the next call reads."""

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        self.path = path
        found = read_json(path) if path.exists() else {"facts": facts, "stages": {}}
        if found["facts"] != facts:
            raise SystemExit(
                f"{path} is of another machine, version or budget; name another file with --resume"
            )
        self.found = found

    def get(self, name: str, compute: Callable[[], Any]) -> Any:
        """The result of a stage, computed unless it is there."""
        stages = self.found["stages"]
        if name not in stages:
            began = time.perf_counter()
            stages[name] = compute()
            write_json(self.path, self.found)
            print(f"{name}: {stages[name]} ({time.perf_counter() - began:.0f} s)", flush=True)
        return stages[name]


# Our side -------------------------------------------------------------------------------------------------


def loss_of(model: TinyTransformer, corpus: Corpus) -> float:
    """Nats per token on all held-out stories."""
    report = evaluate(
        lambda group: loss_per_target(model, group), corpus.validation, corpus.tokenizer.n_bytes
    )
    return report.loss_nats


def train_ours(config: TrainConfig, corpus: Corpus) -> dict[str, float]:
    """Train as the command does; the loss of the last weights, steps and seconds."""
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder) / "run")
        result = train_model(config, corpus, run)
        checkpoint = run.last_checkpoint()
        assert checkpoint is not None
        loss = loss_of(load_checkpoint(checkpoint, corpus.tokenizer), corpus)
    return {"loss": loss, "steps": result.steps, "seconds": round(result.seconds, 1)}


def fingerprint(config: TrainConfig) -> str:
    """Settings in a word, so that a kept result is never taken for that of another recipe."""
    return hashlib.sha256(json.dumps(asdict(config)).encode()).hexdigest()[:8]


class Ours:
    """Losses of our recipe after shares of the reference's time, each trained once."""

    def __init__(self, stages: Stages, corpus: Corpus, name: str, seed: int, minutes: float) -> None:
        self.stages, self.corpus, self.name, self.seed, self.minutes = stages, corpus, name, seed, minutes

    def loss(self, share: float) -> float:
        """Loss of a run of that share."""
        config = train_config(None, model=self.name, seed=self.seed, minutes=share * self.minutes)
        stage = f"{self.name} seed {self.seed}: ours, {share:.2f} of the time, {fingerprint(config)}"
        return self.stages.get(stage, partial(train_ours, config, self.corpus))["loss"]

    def least_share(self, target: float) -> float:
        """The least share whose run reaches a loss, by halving; infinity if the whole time does not."""
        fails, reaches, place = -1, len(SHARES), SHARES.index(FIRST_SHARE)
        while reaches - fails > 1:
            if self.loss(SHARES[place]) <= target:
                reaches = place
            else:
                fails = place
            place = (fails + reaches) // 2
        return SHARES[reaches] if reaches < len(SHARES) else float("inf")


# The reference --------------------------------------------------------------------------------------------


def reference_loss(
    spec: ModelSpec, corpus: Corpus, options: Options, *, rows: int, rate: float, seed: int, seconds: float
) -> dict[str, float]:
    """Train the reference; its losses by both ways to read them."""
    model = gpt_neo(spec, corpus.tokenizer.vocab_size, seed)
    trainer = Trainer(model, options)
    batches = training_batches(corpus.train, n_rows=rows, seed=seed)
    n_steps = train_for(trainer, batches, rate=rate, seconds=seconds)
    by_story = loss_of(as_ours(model, spec, corpus), corpus)
    return {"steps": n_steps, "by_story": by_story, "by_row": own_loss(model, corpus.validation)}


def best_loss(found: dict[str, float]) -> float:
    """The lower of the two readings."""
    return min(found["by_story"], found["by_row"])


def search(
    stages: Stages, spec: ModelSpec, corpus: Corpus, options: Options, seconds: float
) -> tuple[int, float]:
    """Rows a step and rate of the best of six runs, by climbing from the centre."""
    losses: dict[tuple[int, float], float] = {}

    def try_values(values: tuple[int, float]) -> float:
        rows, rate = values
        stage = f"{spec.name} search: {rows * N_CTX} tokens a step, rate {rate:g}"
        run = partial(reference_loss, spec, corpus, options, rows=rows, rate=rate, seed=0, seconds=seconds)
        losses[values] = best_loss(stages.get(stage, run))
        return losses[values]

    try_values(CENTRE)
    while len(losses) < N_SEARCH:
        rows, rate = min(losses, key=lambda values: losses[values])
        around = [(rows, rate * 2), (rows, rate / 2), (max(1, rows // 2), rate), (rows * 2, rate)]
        left = [values for values in around if values not in losses]
        if not left:  # all neighbours are worse
            left = [(max(1, rows // 2), rate / 2), (rows * 2, rate * 2)]
            left = [values for values in left if values not in losses]
        if not left:
            break
        try_values(left[0])
    return min(losses, key=lambda values: losses[values])


def choose_options(spec: ModelSpec, corpus: Corpus, make: Callable, seconds: float) -> dict[str, Any]:
    """The fastest options of a peer, and what was measured."""
    batches = training_batches(corpus.train, n_rows=STEP_ROWS, seed=0)
    best, said = fastest_options(
        partial(make, spec, corpus.tokenizer.vocab_size, 0), batches, seconds=seconds
    )
    return {"best": asdict(best), "measured": said}


# All of it ------------------------------------------------------------------------------------------------


def bench_model(
    stages: Stages, corpus: Corpus, name: str, seeds: tuple[int, ...], options: argparse.Namespace
) -> list[tuple[str, str, float, bool]]:
    """Rows of the table of one model: what, asked, measured, whether it is met."""
    spec, seconds = ModelSpec.from_name(name), 60 * options.minutes
    chosen = {}
    for side, make in (("reference", gpt_neo), ("native", native)):
        found = stages.get(f"{name} options of {side}", partial(choose_options, spec, corpus, make, seconds))
        chosen[side] = Options(**found["best"])
        print(
            f"{name}, {side}: {chosen[side]}; " + "; ".join(f"{k}: {v}" for k, v in found["measured"].items())
        )
    speed = stages.get(f"{name} steps a second", partial(steps_per_second, name, corpus, chosen))
    of_reference, of_native = speed["ours"] / speed["reference"], speed["ours"] / speed["native"]
    table = [
        (
            f"{name}: steps a second, of those of transformers",
            f">= {ASKED_STEPS}",
            of_reference,
            of_reference >= ASKED_STEPS,
        ),
        (
            f"{name}: steps a second, of those of native",
            f">= {ASKED_NATIVE}",
            of_native,
            of_native >= ASKED_NATIVE,
        ),
    ]
    if options.steps_only:
        return table
    rows, rate = search(stages, spec, corpus, chosen["reference"], options.search_seconds)
    print(f"{name}: found {rows * N_CTX} tokens a step, rate {rate:g}", flush=True)
    shares: dict[str, list[float]] = {"reference": [], "own": []}
    for seed in seeds:
        ours = Ours(stages, corpus, name, seed, options.minutes)
        values = {"rows": rows, "rate": rate, "seed": seed, "seconds": seconds}
        run = partial(reference_loss, spec, corpus, chosen["reference"], **values)
        found = stages.get(f"{name} seed {seed}: reference, {rows * N_CTX} tokens, rate {rate:g}", run)
        shares["reference"].append(ours.least_share(best_loss(found)))
        rates = {field.name: rate for field in fields(TrainConfig) if field.name.endswith("learning_rate")}
        by_adamw = train_config(
            None, recipe="adamw", model=name, seed=seed, minutes=options.minutes, batch_tokens=rows * N_CTX, **rates
        )  # fmt: skip
        stage = f"{name} seed {seed}: ours by AdamW, {fingerprint(by_adamw)}"
        target = stages.get(stage, partial(train_ours, by_adamw, corpus))["loss"]
        shares["own"].append(ours.least_share(target))
        print(
            f"{name} seed {seed}: shares {shares['reference'][-1]:.2f} and {shares['own'][-1]:.2f}",
            flush=True,
        )
    for side, what, asked in (
        ("reference", "time to the loss of transformers", ASKED_TIME),
        ("own", "time to the loss of ours by AdamW", ASKED_OWN),
    ):
        middle = statistics.median(shares[side])
        each = f" (median of {len(seeds)} seeds)" if len(seeds) > 1 else ""
        table.append((f"{name}: {what}{each}", f"<= {asked:.2f}", middle, middle <= asked))
    return table


def main() -> None:
    """Run what is left of the benchmark and print asked and measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", action="append", help="repeatable; default: " + ", ".join(SEEDS))
    parser.add_argument("--minutes", type=float, default=5.0, help="of the reference")
    parser.add_argument("--search-seconds", type=float, default=90.0, help="of each run of the search")
    parser.add_argument("--seeds", type=int, nargs="+", help="default: three for l1_h256, one for others")
    parser.add_argument("--steps-only", action="store_true", help="only steps per second")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write table and stages there, too")
    parser.add_argument(
        "--resume", type=Path, metavar="FILE", help="what is finished; by default a file in runs/"
    )
    options = parser.parse_args()
    facts = {
        "machine": f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads",
        "tslens": tslens.__version__,
        "torch": torch.__version__,
        "minutes": options.minutes,
        "search_seconds": options.search_seconds,
    }
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:8]
    stages = Stages(options.resume or Path(f"runs/bench_train-{key}.json"), facts)
    print(
        ", ".join(f"{name} {value}" for name, value in facts.items()) + f"; kept in {stages.path}", flush=True
    )
    corpus = corpus_for(data_dir() / "tinystories.jsonl.gz", Path("runs/.corpora"))
    table = []
    for name in options.model or list(SEEDS):
        table += bench_model(stages, corpus, name, tuple(options.seeds or SEEDS.get(name, (0,))), options)
    print(f"\n{'':60} {'asked':>8} {'measured':>9}")
    for what, asked, measured, is_met in table:
        print(f"{what:60} {asked:>8} {measured:9.2f}{'' if is_met else '  NOT MET'}")
    if options.json:
        rows = [
            {
                "what": what,
                "asked": asked,
                "measured": measured if math.isfinite(measured) else None,
                "met": is_met,
            }
            for what, asked, measured, is_met in table
        ]  # not reached in the whole time: null
        write_json(options.json, {"facts": facts, "table": rows, "stages": stages.found["stages"]})


if __name__ == "__main__":
    main()
