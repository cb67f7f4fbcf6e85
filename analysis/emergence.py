"""What rises when over training: capabilities, roles of heads, the nearest n-gram, grades? On three seeds of one model.

    .venv/bin/python analysis/emergence.py
    .venv/bin/python analysis/emergence.py --model l1_h32 --tokens 100000 --data author:500 --out emergence
    .venv/bin/python analysis/emergence.py --report-only

Trains the seeds where they are not trained yet (``runs/emergence``; a stopped run goes on), on what the shipped models
read, and reads every kept checkpoint (each is kept once it is read). Writes ``timeline.json``, the readings of each
run, a figure with its data, and ``report.md``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from markdown_table import table

from tslens.files import atomic_write, data_dir, read_json, read_jsonl, write_json

STORIES = "tinystories.jsonl.gz"
AUTHOR = "author:1777:1"  # of the shipped models: training/shipped.toml
READINGS = "tslens.emergence/1"
SENTENCE_END = "sentence_end"


def main() -> None:
    """Train, read, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="l2_h128")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=4_000_000)
    parser.add_argument("--data", nargs="+", default=[str(data_dir() / STORIES), AUTHOR])
    parser.add_argument("--n-stories", type=int, default=60)
    parser.add_argument("--pairs", type=int, default=150)
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs/emergence"))
    parser.add_argument("--report-only", action="store_true", help="write the report of what is there")
    parser.add_argument("--out", type=Path, default=Path("reports/emergence"))
    asked = parser.parse_args()
    if not asked.report_only:
        train_and_read(asked)
    timeline = read_json(asked.out / "timeline.json")
    readings = {
        header["model"]: rows
        for header, rows in (read_jsonl(path, READINGS) for path in sorted(asked.out.glob("*@*.jsonl")))
    }
    with atomic_write(asked.out / "report.md") as file:
        file.writelines(report(timeline, readings))


def train_and_read(asked: argparse.Namespace) -> None:
    """The runs, their readings and their timeline."""
    seeds = ",".join(map(str, range(asked.seeds)))
    shape = asked.model.removeprefix("l").partition("_h")
    run(
        *("train", "--grid", f"layers={shape[0]} hidden={shape[2]} seed={seeds}", "--out", asked.runs),
        *(word for source in asked.data for word in ("--data", source)),
        *("--tokens", asked.tokens, "--json"),
    )
    asked.out.mkdir(parents=True, exist_ok=True)
    timeline = run(
        *("emergence", asked.runs / asked.model, "--n-stories", asked.n_stories, "--pairs", asked.pairs),
        *("--graded", "--samples", asked.samples, "--seed", asked.seed),
        *("--figure", asked.out / "emergence", "--json"),
    )
    for file in map(Path, timeline.pop("files")):
        if file.suffix == ".jsonl":
            label = read_jsonl(file, READINGS)[0]["model"]
            for kind in (".jsonl", ".provenance.json"):
                shutil.copyfile(file.with_suffix(kind), asked.out / f"{label}{kind}")
    write_json(asked.out / "timeline.json", timeline)


def run(*arguments: object) -> dict[str, Any]:
    """A command of tslens; what it prints. Raises CalledProcessError if it fails."""
    command = [sys.executable, "-m", "tslens", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


# Report -----------------------------------------------------------------------------------------------------


def report(timeline: Mapping[str, Any], readings: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    """What rises when, what vanishes, what comes first, which n-gram is followed, grades."""
    last = {label: rows[-1] for label, rows in readings.items()}
    yield "# What rises when over training\n\n"
    yield (
        "Written by `python analysis/emergence.py`. Terms: `docs/methods.md`, *Emergence*. Runs: "
        + ", ".join(f"{label} ({row['n_tokens']:,} tokens)" for label, row in last.items())
        + ". Readings on stories of the offline author.\n\n![Over training](emergence.svg)\n\n"
    )
    yield from _order(timeline)
    yield from _vanishing(timeline)
    yield from _lags(timeline)
    yield from _followed(timeline)
    yield from _grades(readings)


def _order(timeline: Mapping[str, Any]) -> Iterator[str]:
    labels = list(timeline["runs"])
    by_name: dict[str, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for one in timeline["changes"]:
        by_name[one["series"]][one["run"]] = one
    rows = []
    for name, of in by_name.items():
        known = [one["tokens"] for one in of.values() if one["tokens"] is not None]
        if known:
            cells = [_half(of.get(label)) for label in labels]
            rows.append(
                (-len(known), sum(known) / len(known), [next(iter(of.values()))["kind"], name, *cells])
            )
    yield "## Half-rises\n\nMillions of tokens at which a series has half of its rise (loss and distances: fall), with "
    yield "95% intervals; a blank: it does not rise for sure in that run. Series that rise in most runs first.\n\n"
    yield table(["kind", "series", *labels], [cells for *_, cells in sorted(rows, key=lambda row: row[:2])])


def _half(one: Mapping[str, Any] | None) -> str:
    if one is None or one["tokens"] is None:
        return ""
    return f"{one['tokens'] / 1e6:.2f} [{one['low'] / 1e6:.2f}, {one['high'] / 1e6:.2f}]"


def _vanishing(timeline: Mapping[str, Any]) -> Iterator[str]:
    roles = [one for one in timeline["changes"] if one["kind"] == "role" and one["tokens"] is not None]
    gone = [one for one in roles if one["vanishes"]]
    yield "## What vanishes again\n\n"
    yield f"{len(gone)} of {len(roles)} roles that rise in a run have lost more than half of their rise at its end, "
    yield "for sure"
    if gone:
        told = "; ".join(
            f"{one['series'].removeprefix('role ')} of {one['run']}, {one['lost']:.0%} "
            f"[{one['lost_low']:.0%}, {one['lost_high']:.0%}]"
            for one in gone
        )
        yield f": {told}"
    yield ".\n\n"
    ends = [one for one in roles if SENTENCE_END in one["series"]]
    told = "; ".join(
        f"{one['run']}, {one['series'].removeprefix('role ')}: lost {one['lost']:.0%} "
        f"[{one['lost_low']:.0%}, {one['lost_high']:.0%}]"
        for one in ends
    )
    yield 'Others saw the role "end of sentence" rise and fall (from 74% to 24%). Here: '
    yield f"{told or 'it does not rise'}.\n\n"


def _lags(timeline: Mapping[str, Any]) -> Iterator[str]:
    sure = [one for one in timeline["lags"] if one["sure"]]
    yield "## Role before capability\n\n"
    yield f"{len(sure)} of {len(timeline['lags'])} lags leave out zero, corrected for all of them.\n\n"
    if sure:
        yield table(
            ["role", "capability", "doublings later", "95%", "seeds"],
            [
                [
                    one["first"],
                    one["second"],
                    f"{one['doublings']:+.1f}",
                    f"{one['low']:+.1f} to {one['high']:+.1f}",
                    str(one["n_seeds"]),
                ]
                for one in sure
            ],
        )


def _followed(timeline: Mapping[str, Any]) -> Iterator[str]:
    yield "## The n-gram that the model is nearest to\n\n"
    yield table(
        ["run", "tokens", "order", "share of draws"],
        [
            [one["run"], f"{one['n_tokens']:,}", str(one["order"]), f"{one['share']:.2f}"]
            for one in timeline["followed"]
        ],
    )


def _grades(readings: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    of: dict[tuple[str, int], dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for label, rows in readings.items():
        for row in rows:
            if row["kind"] == "grade":
                of[label, row["n_tokens"]][row["series"]] = row
    yield "## Grades by the local judge\n\nFrom where the validation loss is below that of the 4-gram; "
    if not of:
        yield "no checkpoint is.\n"
        return
    yield "beside each its standard error over prompts.\n\n"
    names = sorted({name for one in of.values() for name in one})
    yield table(
        ["run", "tokens", *names],
        [
            [label, f"{n_tokens:,}", *(_grade(one.get(name)) for name in names)]
            for (label, n_tokens), one in sorted(of.items())
        ],
    )


def _grade(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    return f"{row['value']:.2f}" + ("" if row["se"] is None else f" ± {row['se']:.2f}")


if __name__ == "__main__":
    main()
