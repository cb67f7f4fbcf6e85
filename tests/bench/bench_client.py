"""The client of language models against a server on loopback that answers like OpenAI's and misbehaves.

2,000 stories are asked for. The server refuses with 429 and Retry-After, fails with 500, resets in mid-answer, cuts
its JSON, declines, and is silent for 30 seconds, each in 5% of the requests; the client is killed with SIGKILL at
three random moments and started again. Then the same in batches whose items expire, fail, get lost, are declined and
cut, and with a budget that does not suffice. No key, no network; about five minutes.

python tests/bench/bench_client.py [--calls 2000] [--kills 3] [--seed 0] [--only single|batch|budget|rate|ledger]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "llm"))
import loopback
import psutil
from pydantic import BaseModel

from tslens.llm.batch import answer_batch
from tslens.llm.calls import Call, Reply
from tslens.llm.client import Client
from tslens.llm.connect import server_name
from tslens.llm.ledger import Ledger
from tslens.llm.prices import read_price
from tslens.llm.wire import Answer

PRICE = "0.15,0.6"  # USD per million tokens
FAULTS = dict.fromkeys(("busy", "error", "reset", "refusal", "silence"), 0.05)
FAULTS |= {"truncated": 0.025, "cut": 0.025}  # JSON that ends early: on its way, and as the model left it
ITEM_FAULTS = dict.fromkeys(("expired", "failed", "lost", "refusal", "cut", "misfit"), 0.05)
ROAD_FAULTS = dict.fromkeys(("busy", "error", "reset", "truncated"), 0.05)
LEDGER_BYTES = 900  # of one call, sent and answered: tells at which sizes of the ledger to kill


class Plan(BaseModel):
    """What the model is to answer."""

    title: str
    events: list[str]
    ends_well: bool


def make_calls(n_calls: int, base_url: str = "") -> list[Call]:
    """Different requests for plans."""
    return [
        Call(
            key=f"story-{index:06d}",
            messages=(("system", "You plan stories for small children."), ("user", f"Plan story {index}.")),
            model="loop-1",
            temperature=1.0,
            max_tokens=80,
            answer=Plan,
            server=server_name(base_url),
        )
        for index in range(n_calls)
    ]


def work(options: argparse.Namespace) -> None:
    """The process that is killed: ask for all plans, then say what came."""
    with Ledger(options.folder, "bench") as ledger:
        client = Client(
            ledger,
            price=read_price("loop-1", PRICE),
            base_url=options.base_url,
            budget_usd=options.budget,
            timeout_s=options.timeout,
        )
        calls = make_calls(options.calls, options.base_url)
        if options.worker == "batch":
            outcomes = list(answer_batch(client, calls, poll_s=0.2))
        else:
            outcomes = list(client.answer(calls))
    replies = [outcome for outcome in outcomes if isinstance(outcome, Reply)]
    for reply in replies:
        Plan.model_validate_json(reply.text)
    keys = Counter(outcome.key for outcome in outcomes)
    failures = Counter(outcome.reason for outcome in outcomes if not isinstance(outcome, Reply))
    facts = {"replies": len(replies), "keys": len(keys), "most": max(keys.values()), "failures": failures}
    print(json.dumps(facts))


def run_scenario(
    folder: Path,
    *,
    mode: str,
    n_calls: int,
    n_kills: int,
    seed: int,
    budget_usd: float,
    silence_s: float = 30.0,
    timeout_s: float = 3.0,
    retry_after: str = "1",
    share_asked: float = 1.0,
) -> dict[str, object]:
    """One run with its kills, held against what the server knows.

    ``share_asked``: of the calls, about, that the budget lets out: the kills come before that.
    """
    usd = tuple(map(float, PRICE.split(",")))
    settings = {"price": usd, "seed": seed, "silence_s": silence_s, "retry_after": retry_after}
    settings |= {"faults": FAULTS, "latency_s": 0.05, "batch_s": 1.0}
    settings |= {"item_faults": ITEM_FAULTS, "road_faults": ROAD_FAULTS}
    dice = random.Random(seed)
    moments = sorted(dice.uniform(0.05, 0.9) for _ in range(n_kills))
    start = time.perf_counter()
    with loopback.Loopback(**settings) as server:
        command = [sys.executable, __file__, "--worker", mode, "--folder", folder, "--calls", n_calls]
        command += ["--base-url", server.url, "--budget", budget_usd, "--timeout", timeout_s]
        environment = {**os.environ, "OPENAI_API_KEY": server.key, "NO_PROXY": "127.0.0.1"}
        n_killed = 0
        said = ""
        for moment in [*moments, None]:
            process = subprocess.Popen(
                [str(word) for word in command],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            if moment is not None:
                wait_for_size(folder / "bench.jsonl", moment * share_asked * n_calls * LEDGER_BYTES, process)
                n_killed += process.poll() is None
                process.send_signal(signal.SIGKILL)
            said = process.communicate()[0]
        facts = json.loads(said.splitlines()[-1])
        seconds = time.perf_counter() - start
        with Ledger(folder, "bench", read_only=True) as ledger:
            counted_usd = ledger.spent_usd
        rows = [json.loads(line) for line in (folder / "bench.jsonl").read_text("utf-8").splitlines()]
        recorded = [row for row in rows if row.get("event") == "reply" and is_good(row)]
        prompts = {row["seq"]: row["prompt"] for row in server.rows}
        first_recorded: dict[str, int] = {}
        for row in recorded:
            seq = int(row["id"].removeprefix("chatcmpl-"))
            first_recorded[prompts[seq]] = min(seq, first_recorded.get(prompts[seq], seq))
        n_again = sum(
            row["usd"] > 0 and row["seq"] > first_recorded.get(row["prompt"], row["seq"])
            for row in server.rows
        )
        written = [path for path in folder.rglob("*") if path.is_file()]
        has_key = any(server.key.encode() in path.read_bytes() for path in written) or server.key in said
        return {
            "asked": n_calls,
            "answered": facts["replies"],
            "exactly_once": facts["most"] == 1 and facts["keys"] == n_calls,
            "failures": facts["failures"],
            "killed": n_killed,
            "requests": len(server.rows),
            "faults": dict(Counter(row["fault"] for row in server.rows if row["fault"])),
            "batches": len(server.batches),
            "paid": sum(row["usd"] > 0 for row in server.rows),
            "good_answers": sum(row["fault"] is None for row in server.rows),
            "recorded_twice": len(recorded) - len(first_recorded),
            "paid_though_recorded": n_again,
            "server_usd": server.usd,
            "counted_usd": counted_usd,
            "budget_usd": budget_usd,
            "key_in_a_file": has_key,
            "files": len(written),
            "seconds": seconds,
        }


def is_good(row: dict) -> bool:
    """Whether a recorded reply is one; those of a batch that came without their calls were not judged then."""
    if not row.get("unseen"):
        return row["fault"] is None
    try:
        Plan.model_validate_json(row["text"])
    except ValueError:
        return False
    return row["finish_reason"] == "stop"


def wait_for_size(path: Path, n_bytes: float, process: subprocess.Popen[str]) -> None:
    """Wait until a file has grown to a size, or the process has ended."""
    while process.poll() is None and not (path.exists() and path.stat().st_size >= n_bytes):
        time.sleep(0.002)


def show(title: str, facts: dict[str, object]) -> None:
    """One scenario in words."""
    faults = ", ".join(f"{count} {name}" for name, count in sorted(facts["faults"].items()))
    extra = f" in {facts['batches']} batches" if facts["batches"] else ""
    print(f"{title}: {facts['asked']:,} asked, killed {facts['killed']} times, {facts['seconds']:.0f} s")
    print(f"  the server saw {facts['requests']:,} requests{extra}; its faults: {faults}")
    once = "each exactly once" if facts["exactly_once"] else "NOT each exactly once"
    left = f"; without an answer: {dict(facts['failures'])}" if facts["failures"] else ""
    print(f"  answered {facts['answered']:,} of {facts['asked']:,}, {once}{left}")
    lost = facts["good_answers"] - facts["answered"]
    print(
        f"  paid requests {facts['paid']:,}; good answers {facts['good_answers']:,}, {lost} of them lost in kills"
    )
    print(
        f"  recorded twice {facts['recorded_twice']}, paid again though recorded {facts['paid_though_recorded']}"
    )
    money = f"{facts['server_usd']:.4f} USD by the server, {facts['counted_usd']:.4f} as counted"
    verdict = "held" if facts["server_usd"] <= facts["counted_usd"] <= facts["budget_usd"] else "NOT HELD"
    print(f"  {money}, budget {facts['budget_usd']:.4f}: {verdict}")
    print(f"  key in {'A FILE' if facts['key_in_a_file'] else 'none'} of {facts['files']} files", flush=True)


def measure_rate(n_calls: int) -> None:
    """Answers a second with nothing in the way, against the library alone (no record, no budget, no checks)."""
    from openai import AsyncOpenAI

    from tslens.llm.wire import Dialect

    with loopback.Loopback() as server, tempfile.TemporaryDirectory() as folder:
        calls = make_calls(n_calls, server.url)
        os.environ |= {"OPENAI_API_KEY": server.key, "NO_PROXY": "127.0.0.1"}

        async def library() -> None:
            gate = asyncio.Semaphore(32)
            async with AsyncOpenAI(base_url=server.url) as connection:

                async def ask(call: Call) -> None:
                    async with gate:
                        await connection.chat.completions.create(**Dialect().body(call))

                await asyncio.gather(*map(ask, calls))

        asyncio.run(library())  # both are warm from here
        start = time.perf_counter()
        asyncio.run(library())
        peer_s = time.perf_counter() - start
        with Ledger(folder, "rate") as ledger:
            client = Client(ledger, price=read_price("loop-1", PRICE), base_url=server.url, budget_usd=100.0)
            start = time.perf_counter()
            n_replies = sum(isinstance(outcome, Reply) for outcome in client.answer(calls))
            ours_s = time.perf_counter() - start
    rates = f"{n_replies / ours_s:.0f} answers a second, the library alone {n_calls / peer_s:.0f}"
    print(f"without faults, 32 at once: {rates}: ratio {peer_s / ours_s:.2f}", flush=True)


def measure_ledger(n_replies: int) -> None:
    """Memory and time that a ledger of many replies takes to open."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Answer(
            "id", "x" * 800, "m", "fp", "stop", {"prompt_tokens": 9, "completion_tokens": 9}, None, ""
        )
        with Ledger(folder, "big") as ledger:
            for index in range(n_replies):
                call = Call(f"story-{index:07d}", (("user", str(index)),), "m", 1.0, 10)
                n = ledger.sent(call, n_try=1, worst_usd=0.1)
                ledger.reply(n, call.record, answer, usd=0.1)
            size = ledger.path.stat().st_size
        child = subprocess.run(
            [sys.executable, __file__, "--open", folder], stdout=subprocess.PIPE, text=True, check=True
        )
        seconds, n_bytes = map(float, child.stdout.split())
    print(f"a ledger of {n_replies:,} replies ({size / 1e6:.0f} MB) opens in {seconds:.1f} s")
    print(f"  its index takes {n_bytes / 1e6:.0f} MB, {n_bytes / n_replies:.0f} bytes a reply", flush=True)


def open_ledger(folder: str) -> None:
    """Print seconds and bytes of memory that opening takes."""
    process = psutil.Process()
    before = process.memory_info().rss
    start = time.perf_counter()
    with Ledger(folder, "other"):
        print(time.perf_counter() - start, process.memory_info().rss - before)


def main() -> None:
    """Print the scenarios, one after another."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=["single", "batch", "budget", "rate", "ledger"])
    parser.add_argument("--replies", type=int, default=200_000)
    parser.add_argument("--worker", choices=["single", "batch"], help=argparse.SUPPRESS)
    parser.add_argument("--open", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--base-url", help=argparse.SUPPRESS)
    parser.add_argument("--budget", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--timeout", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options)
        return
    if options.open:
        open_ledger(options.open)
        return
    price = read_price("loop-1", PRICE)
    worst_usd = sum(price.worst(call) for call in make_calls(options.calls))
    ample = {"single": 1.2 * worst_usd, "batch": 0.6 * worst_usd}
    scenarios = [
        ("single", "single calls", "single", options.calls, ample["single"]),
        ("batch", "batches", "batch", options.calls, ample["batch"]),
        ("budget", "a budget that does not suffice", "single", options.calls // 4, worst_usd / 24),
    ]
    for name, title, mode, n_calls, budget_usd in scenarios:
        if options.only in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                settings = {"n_kills": options.kills, "seed": options.seed, "budget_usd": budget_usd}
                settings["share_asked"] = 0.15 if name == "budget" else 1.0
                show(title, run_scenario(Path(folder), mode=mode, n_calls=n_calls, **settings))
    if options.only in (None, "rate"):
        measure_rate(options.calls)
    if options.only in (None, "ledger"):
        measure_ledger(options.replies)


if __name__ == "__main__":
    main()
