"""Training against GPT-Neo of transformers with AdamW: wall-clock time to the same loss, and steps per second.

    python tests/bench/bench_train.py [--model l1_h256]... [--minutes 5] [--search-seconds 90] [--seeds 0 1 2]
                                      [--steps-only] [--json FILE] [--resume FILE]

For each model, on real stories, every training in a process of its own:

1. The peers choose how they compute (bfloat16, compilation, an allocator that keeps its memory) by what gives most
   steps in ``--minutes``.
2. Steps: the sides in turn, at 2,048 targets a step, medians of rounds; the peers with the allocator as it comes and,
   if they chose so, with one that keeps its memory, as our training tells it to.
3. Search: six runs of ``--search-seconds``, rates falling to zero at their end. From 2,048 tokens a step and 1e-3, rate
   or batch is doubled or halved from the best so far, first the way that led to it.
4. The reference trains for ``--minutes`` with the best values; its loss is the target. It is read on all held-out
   stories by our evaluator, its weights in our model, and also on held-out rows of the kind that it was trained on: the
   lower one counts.
5. Ours trains with the recipe as it is for a share of that time, each time from the start and to a rate of zero; the
   least share, in steps of 0.05, that reaches the target is the result.
6. Our model trained by AdamW with the values found, for the whole time, sets a second target, reached in the same way.

Clocks start before the first step on both sides: imports and opening the corpus are left out, compilation is not, but
the reference's rates rise and fall over what is left of the time after its first step, which compiles. Ours
also counts its evaluations, checkpoints and states; the reference has none.
Finished stages are kept in a file (``--resume``), so that a benchmark of two hours can be done in pieces.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import platform
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from train_worker import Worker, do

import tslens
from tslens.config import TrainConfig, train_config
from tslens.files import read_json, write_json
from tslens.model.spec import N_CTX

SEEDS = {"l1_h256": (0, 1, 2), "l4_h128": (0,), "l8_h64": (0,)}
ASKED_TIME, ASKED_OWN, ASKED_STEPS, ASKED_NATIVE = 0.40, 0.55, 1.4, 1.0
N_SEARCH = 6
CENTRE = (4, 1e-3)  # rows a step, rate
SHARES = [share / 100 for share in range(5, 105, 5)]
FIRST_SHARE = 0.40
OPTION_STEPS = 8
ROUNDS, STEPS_A_ROUND = 7, 10


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


# Steps ----------------------------------------------------------------------------------------------------


def measure_options(
    side: str, name: str, options: dict[str, bool], *, keeps_memory: bool
) -> dict[str, float]:
    """Seconds of the first step, which compiles, and steps a second after it; none where it does not run."""
    with Worker(keeps_memory=keeps_memory) as worker:
        try:
            first = worker.do("open_side", side=side, model=name, options=options)
        except SystemExit:  # a compiler may be absent or fail: then it is no option
            return {"first": math.inf, "steps": 0.0}
        worker.do("take_steps", n=2)
        return {"first": first, "steps": worker.do("take_steps", n=OPTION_STEPS)}


def choose_options(stages: Stages, side: str, name: str, seconds: float) -> tuple[dict[str, bool], bool]:
    """Options of a peer with most steps in a run of so many seconds, and whether its allocator is to keep memory."""
    most: dict[tuple[tuple[bool, bool], bool], float] = {}

    def measure(values: tuple[bool, bool], keeps_memory: bool) -> None:
        options = {"bfloat16": values[0], "compiled": values[1]}
        said = ", ".join(what for what, yes in (*options.items(), ("memory kept", keeps_memory)) if yes)
        compute = partial(measure_options, side, name, options, keeps_memory=keeps_memory)
        found = stages.get(f"{name} {side}, {said or 'as it comes'}", compute)
        most[values, keeps_memory] = max(0.0, seconds - found["first"]) * found["steps"]

    for values in product((False, True), repeat=2):
        measure(values, False)
    measure(max(most, key=lambda key: most[key])[0], True)
    (bfloat16, compiled), keeps_memory = max(most, key=lambda key: most[key])
    return {"bfloat16": bfloat16, "compiled": compiled}, keeps_memory


def steps_per_second(name: str, sides: dict[str, tuple[dict[str, bool], bool]]) -> dict[str, float]:
    """Medians over rounds of steps of 2,048 targets a second, all sides in turn, each in its own process."""
    with ExitStack() as stack:
        workers = {}
        for label, (options, keeps_memory) in sides.items():
            workers[label] = stack.enter_context(Worker(keeps_memory=keeps_memory))
            workers[label].do("open_side", side=label.split(",")[0], model=name, options=options)
        speeds: dict[str, list[float]] = {label: [] for label in workers}
        for _ in range(ROUNDS + 1):
            for label, worker in workers.items():
                speeds[label].append(worker.do("take_steps", n=STEPS_A_ROUND))
    return {
        label: statistics.median(found[1:]) for label, found in speeds.items()
    }  # the first round warms up


def bench_steps(
    stages: Stages, name: str, peers: dict[str, tuple[dict[str, bool], bool]]
) -> list[tuple[str, str, float, bool]]:
    """Rows of the table on steps per second."""
    sides: dict[str, tuple[dict[str, bool], bool]] = {"ours": ({}, False)}
    for peer, (options, keeps_memory) in peers.items():
        sides[peer] = (options, False)
        if keeps_memory:
            sides[f"{peer}, memory kept"] = (options, True)
    speed = stages.get(f"{name} steps a second", partial(steps_per_second, name, sides))
    asked = {"reference": ("transformers", ASKED_STEPS), "native": ("native", ASKED_NATIVE)}
    rows = []
    for side in [side for side in speed if side != "ours"]:
        peer, least = asked[side.split(",")[0]]
        ratio = speed["ours"] / speed[side]
        what = side.replace("reference", peer)
        rows.append((f"{name}: steps a second, of those of {what}", f">= {least}", ratio, ratio >= least))
    return rows


# Time to loss ---------------------------------------------------------------------------------------------


def fingerprint(config: TrainConfig) -> str:
    """Settings in a word, so that a kept result is never taken for that of another recipe."""
    return hashlib.sha256(json.dumps(asdict(config)).encode()).hexdigest()[:8]


class Ours:
    """Losses of our recipe after shares of the reference's time, each trained once."""

    def __init__(self, stages: Stages, name: str, seed: int, minutes: float) -> None:
        self.stages, self.name, self.seed, self.minutes = stages, name, seed, minutes

    def loss(self, share: float) -> float:
        """Loss of a run of that share."""
        config = train_config(None, model=self.name, seed=self.seed, minutes=share * self.minutes)
        stage = f"{self.name} seed {self.seed}: ours, {share:.2f} of the time, {fingerprint(config)}"
        found: dict[str, float] = self.stages.get(stage, partial(do, "train_ours", config=asdict(config)))
        return found["loss"]

    def least_share(self, target: float) -> float:
        """The least share whose run reaches a loss, by halving; infinity if the whole time does not."""
        fails, reaches, place = -1, len(SHARES), SHARES.index(FIRST_SHARE)
        while reaches - fails > 1:
            if self.loss(SHARES[place]) <= target:
                reaches = place
            else:
                fails = place
            place = (fails + reaches) // 2
        return SHARES[reaches] if reaches < len(SHARES) else math.inf


class Reference:
    """The reference, trained as it chose to compute."""

    def __init__(self, stages: Stages, name: str, chosen: tuple[dict[str, bool], bool]) -> None:
        self.stages, self.name, (self.options, self.keeps_memory) = stages, name, chosen

    def loss(self, what: str, rows: int, rate: float, *, seed: int, seconds: float) -> float:
        """Its loss after so many seconds, the lower of the two readings."""
        values = {"rows": rows, "rate": rate, "seed": seed, "seconds": seconds}
        run = partial(
            do,
            "train_reference",
            keeps_memory=self.keeps_memory,
            model=self.name,
            options=self.options,
            **values,
        )
        stage = f"{self.name} {what}: {rows * N_CTX} tokens a step, rate {rate:g}"
        found: dict[str, float] = self.stages.get(stage, run)
        return min(found["by_story"], found["by_row"])

    def search(self, seconds: float) -> tuple[int, float]:
        """Rows a step and rate of the best of six runs, by climbing from the centre."""
        losses = {CENTRE: self.loss("search", *CENTRE, seed=0, seconds=seconds)}
        ways = [
            (1.0, 2.0),
            (1.0, 0.5),
            (0.5, 1.0),
            (2.0, 1.0),
            (0.5, 0.5),
            (2.0, 2.0),
        ]  # factors of rows and of rate
        best = CENTRE
        while len(losses) < N_SEARCH:
            moves = [(way, (max(1, round(best[0] * way[0])), best[1] * way[1])) for way in ways]
            left = [(way, values) for way, values in moves if values not in losses]
            if not left:
                break
            way, values = left[0]
            losses[values] = self.loss("search", *values, seed=0, seconds=seconds)
            if losses[values] < losses[best]:
                best = values
                ways = [way, *(other for other in ways if other != way)]
        return best


def bench_time(
    stages: Stages, name: str, seeds: tuple[int, ...], reference: Reference, options: argparse.Namespace
) -> list[tuple[str, str, float, bool]]:
    """Rows of the table on time to loss."""
    rows, rate = reference.search(options.search_seconds)
    print(f"{name}: found {rows * N_CTX} tokens a step, rate {rate:g}", flush=True)
    shares: dict[str, list[float]] = {"reference": [], "own": []}
    for seed in seeds:
        ours = Ours(stages, name, seed, options.minutes)
        target = reference.loss(
            f"seed {seed}: reference", rows, rate, seed=seed, seconds=60 * options.minutes
        )
        shares["reference"].append(ours.least_share(target))
        by_adamw = train_config(
            None,
            recipe="adamw",
            model=name,
            seed=seed,
            minutes=options.minutes,
            batch_tokens=rows * N_CTX,
            learning_rate=rate,
        )
        stage = f"{name} seed {seed}: ours by AdamW, {fingerprint(by_adamw)}"
        target = stages.get(stage, partial(do, "train_ours", config=asdict(by_adamw)))["loss"]
        shares["own"].append(ours.least_share(target))
        print(
            f"{name} seed {seed}: shares {shares['reference'][-1]:.2f} and {shares['own'][-1]:.2f}",
            flush=True,
        )
    table = []
    for side, what, asked in (
        ("reference", "time to the loss of transformers", ASKED_TIME),
        ("own", "time to the loss of ours by AdamW", ASKED_OWN),
    ):
        middle = statistics.median(shares[side])
        each = f" (median of {len(seeds)} seeds)" if len(seeds) > 1 else ""
        table.append((f"{name}: {what}{each}", f"<= {asked:.2f}", middle, middle <= asked))
    return table


# All of it ------------------------------------------------------------------------------------------------


def cpu_name() -> str:
    """The processor's name, where Linux tells it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def code_digest() -> str:
    """Of all that decides a result: what trains, what is trained, and this benchmark."""
    package = Path(tslens.__file__).parent
    files = [*package.glob("train/*.py"), *package.glob("model/*.py"), package / "config.py"]
    files += Path(__file__).parent.glob("*train*.py")
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(files))).hexdigest()[:12]


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
        "machine": f"{platform.system()}, {cpu_name()}",
        **do("facts"),
        "tslens": tslens.__version__,
        "code": code_digest(),
        "minutes": options.minutes,
        "search_seconds": options.search_seconds,
    }
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:8]
    stages = Stages(options.resume or Path(f"runs/bench_train-{key}.json"), facts)
    print(
        ", ".join(f"{name} {value}" for name, value in facts.items()) + f"; kept in {stages.path}", flush=True
    )
    table = []
    for name in options.model or list(SEEDS):
        peers = {
            side: choose_options(stages, side, name, 60 * options.minutes) for side in ("reference", "native")
        }
        table += bench_steps(stages, name, peers)
        if not options.steps_only:
            seeds = tuple(options.seeds or SEEDS.get(name, (0,)))
            table += bench_time(stages, name, seeds, Reference(stages, name, peers["reference"]), options)
    print(f"\n{'':70} {'asked':>8} {'measured':>9}")
    for what, asked, measured, is_met in table:
        print(f"{what:70} {asked:>8} {measured:9.2f}{'' if is_met else '  NOT MET'}")
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
