"""``tslens grade`` against a large model that misbehaves on the wire and in its answers, and killed on the way.

500 completions are graded in two turns. The server refuses with 429, fails with 500, resets, cuts its JSON and is
silent; of some texts the model gives grades out of range, in words, in another language, as half a JSON, or declines.
The command is killed with SIGKILL at three random moments and started again. What the server charged is held against
the ledger, and the grades against those of a run that nothing disturbed. No key, no network; about a minute.

python tests/bench/bench_grades.py [--texts 500] [--kills 3] [--seed 0] [--protocol two_turns|one_call]
"""

from __future__ import annotations

import argparse
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

PRICE = "0.15,0.6"  # USD per million tokens
FAULTS = dict.fromkeys(("busy", "error", "reset", "truncated", "silence"), 0.04)
POINTS = {"grammar": 7, "creativity": 5.5, "consistency": 8, "plot": 6, "age_group": "C"}
ODD = {
    3: json.dumps({**POINTS, "plot": 11}),  # out of range
    20: json.dumps({**POINTS, "grammar": "seven"}),
    37: "Grammar: 7/10, creativity: 5/10, a fine story.",
    54: "Sieben von zehn Punkten, eine schöne Geschichte.",
    71: json.dumps(POINTS)[:30],
}
"""What the model says instead of grades of some texts, by their number modulo 100."""
DECLINED = 88  # the number, modulo 100, of texts that the model does not want to read
REASONS = {**dict.fromkeys(ODD, "schema"), DECLINED: "refusal"}


def write_texts(path: Path, n_texts: int) -> None:
    """A file of completions, ten of each prompt, each with a number of its own."""
    rows = [
        {"prompt": f"Tom {i // 10} had a", "completion": f" red ball {i}.", "sample": i % 10, "seed": 7}
        for i in range(n_texts)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def number_of(body) -> int:
    """The number of the text that is graded."""
    text = next(m["content"] for m in body["messages"] if m["role"] == "user")
    return int(text.split(" red ball ")[1].split(".")[0])


def points_of(number: int) -> dict:
    """The grades of a text: each has a grammar of its own, so that it can be told."""
    return {**POINTS, "grammar": number % 21 / 2}


def answer(body) -> str:
    """What the model says."""
    number = number_of(body)
    if "response_format" not in body:
        return f"Well done, number {number}."
    if number % 100 in ODD:
        return ODD[number % 100]
    said = {"assessment": f"Well done, number {number}."} if len(body["messages"]) == 1 else {}
    return json.dumps({**said, **points_of(number)})


class GradingServer(loopback.Loopback):
    """The loopback server with a model that declines to read some texts, whenever it is asked."""

    def serve_completion(self, body, faults, *, batch=None):
        if number_of(body) % 100 == DECLINED:
            faults = {"refusal": 1.0}
        return super().serve_completion(body, faults, batch=batch)


def command_of(folder: Path, server, options: dict) -> list[str]:
    """The command as a user writes it, in a folder of its own."""
    words = [sys.executable, "-m", "tslens", "grade"]
    words += ["--completions", folder.parent / "texts.jsonl", "--judge", "openai:loop-1", "--no-teacher"]
    words += ["--base-url", server.url, "--price", PRICE, "--out", "grades", "--json"]
    words += [word for name, value in options.items() for word in (f"--{name}", value)]
    return [str(word) for word in words]


def run_command(folder: Path, server, options: dict, *, kill_at: float | None = None) -> tuple[int, str, str]:
    """Run it to its end, or kill it when its ledger has so many bytes; exit code and what it printed."""
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "OPENAI_API_KEY": server.key, "NO_PROXY": "127.0.0.1"}
    with subprocess.Popen(
        command_of(folder, server, options),
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        if kill_at is not None:
            while process.poll() is None and ledger_size(folder) < kill_at:
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
        out, err = process.communicate()
    return process.returncode, out, err


def ledger_size(folder: Path) -> int:
    """Bytes of the ledger so far."""
    return sum(path.stat().st_size for path in folder.glob("runs/.ledger/*.jsonl"))


def run_scenario(
    folder: Path,
    *,
    n_texts: int,
    n_kills: int,
    seed: int,
    protocol: str,
    silence_s: float = 30.0,
    timeout_s: float = 3.0,
    budget_usd: float = 5.0,
) -> dict:
    """Grade with kills, then undisturbed in another folder; what was asked and measured."""
    write_texts(folder / "texts.jsonl", n_texts)
    usd = tuple(map(float, PRICE.split(",")))
    settings = {"price": usd, "seed": seed, "silence_s": silence_s, "faults": FAULTS, "latency_s": 0.05}
    options = {"protocol": protocol, "again": 0, "budget": budget_usd, "timeout": timeout_s}
    dice = random.Random(seed)
    start = time.perf_counter()
    with GradingServer(**settings, answer=answer) as server:
        calm = folder / "calm"
        faults, server.faults = server.faults, {}
        run_command(calm, server, options)
        server.faults = faults
        n_before = len(server.rows)
        size = ledger_size(calm)
        killed = folder / "killed"
        n_killed = 0
        for moment in sorted(dice.uniform(0.05, 0.9) for _ in range(n_kills)):
            n_killed += run_command(killed, server, options, kill_at=moment * size)[0] == -signal.SIGKILL
        code, out, err = run_command(killed, server, options)
        rows = server.rows[n_before:]
        n_asked = len(server.rows)
        again = run_command(killed, server, options)
        seconds = time.perf_counter() - start
        return {
            "texts": n_texts,
            "killed": n_killed,
            "exit_code": code,
            "requests": len(rows),
            "faults": dict(Counter(row["fault"] for row in rows if row["fault"])),
            **held_against_ledger(killed, rows),
            **grades_of(out, n_texts),
            "budget_usd": budget_usd,
            "equal_to_calm": bytes_of(killed) == bytes_of(calm),
            "asked_by_second_run": len(server.rows) - n_asked,
            "second_run_equal": again[1] == out,
            "key_in_a_file": has_key(folder, server.key) or server.key in out + err,
            "seconds": seconds,
        }


def held_against_ledger(folder: Path, rows: list[dict]) -> dict:
    """What the server charged, and what the ledger says."""
    from tslens.llm.ledger import Ledger

    (path,) = folder.glob("runs/.ledger/*.jsonl")
    events = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    good = [row for row in events if row.get("event") == "reply" and row["fault"] is None]
    calls = Counter(row["hash"] for row in good)
    prompts = {row["seq"]: row["prompt"] for row in rows}
    first: dict[str, int] = {}
    for row in good:
        seq = int(row["id"].removeprefix("chatcmpl-"))
        first[prompts[seq]] = min(seq, first.get(prompts[seq], seq))
    with Ledger(path.parent, path.stem, read_only=True) as ledger:
        counted = ledger.spent_usd
    return {
        "answered": len(calls),
        "recorded_twice": len(good) - len(calls),
        "paid_though_recorded": sum(
            row["usd"] > 0 and row["seq"] > first.get(row["prompt"], row["seq"]) for row in rows
        ),
        "server_usd": sum(row["usd"] for row in rows),
        "counted_usd": counted,
    }


def grades_of(out: str, n_texts: int) -> dict:
    """Whether each text has its own grade, or the failure that it has to have."""
    found = json.loads(out)
    expected = {i: REASONS.get(i % 100) for i in range(n_texts)}
    seen = Counter()
    n_right = 0
    for row in (*found["grades"], *found["failures"]):
        number = int(row["completion"].split(" red ball ")[1].rstrip("."))
        seen[number] += 1
        if expected[number] is None:
            n_right += row.get("grammar") == points_of(number)["grammar"]
        else:
            n_right += row.get("reason") == expected[number] and "grammar" not in row
    return {
        "graded": len(found["grades"]),
        "failures": found["failures_by_reason"],
        "expected_failures": dict(Counter(reason for reason in expected.values() if reason)),
        "each_once": set(seen) == set(range(n_texts)) and set(seen.values()) == {1},
        "right": n_right,
        "mean_grammar": found["means"].get("grammar", {}).get("mean"),
    }


def bytes_of(folder: Path) -> dict[str, bytes]:
    """The rows of all files of grades; their provenance holds times."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("grades/*/*.jsonl"))}


def has_key(folder: Path, key: str) -> bool:
    """Whether the key stands in any file."""
    return any(key.encode() in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def show(facts: dict) -> None:
    """The scenario in words."""
    faults = ", ".join(f"{n} {name}" for name, n in sorted(facts["faults"].items()))
    print(f"{facts['texts']} texts, killed {facts['killed']} times, {facts['seconds']:.0f} s")
    print(f"  the server saw {facts['requests']:,} requests; its faults: {faults}")
    once = "each text exactly once" if facts["each_once"] else "NOT each text exactly once"
    print(
        f"  graded {facts['graded']}, failures {facts['failures']} (due: {facts['expected_failures']}), {once}"
    )
    print(f"  {facts['right']} of {facts['texts']} have the grade or failure that they have to have")
    print(f"  mean grammar {facts['mean_grammar']}, exit code {facts['exit_code']}")
    print(
        f"  {facts['answered']} calls answered; recorded twice {facts['recorded_twice']}, paid again though recorded "
        f"{facts['paid_though_recorded']}"
    )
    held = "held" if facts["server_usd"] <= facts["counted_usd"] <= facts["budget_usd"] else "NOT HELD"
    print(
        f"  {facts['server_usd']:.4f} USD by the server, {facts['counted_usd']:.4f} as counted, budget "
        f"{facts['budget_usd']:g}: {held}"
    )
    print(f"  the same bytes as a run that nothing disturbed: {'yes' if facts['equal_to_calm'] else 'NO'}")
    equal = "the same" if facts["second_run_equal"] else "OTHER"
    print(f"  a second run asked {facts['asked_by_second_run']} and printed {equal}")
    print(f"  key in {'A FILE' if facts['key_in_a_file'] else 'no file, nor printed'}", flush=True)


def main() -> None:
    """Run it and print what came of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts", type=int, default=500)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--protocol", choices=["two_turns", "one_call"], default="two_turns")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        show(
            run_scenario(
                Path(folder),
                n_texts=options.texts,
                n_kills=options.kills,
                seed=options.seed,
                protocol=options.protocol,
            )
        )


if __name__ == "__main__":
    main()
