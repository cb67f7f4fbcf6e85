"""What the local judge makes of the shipped models: writes ``reports/judge/models.md``, ``models.json`` and a page.

    python analysis/graded_models.py [--model shipped:l1_h64]... [--page shipped:l1_h64]... [--out reports/judge]

Every model is graded as ``tslens grade --model MODEL --judge local`` does it: ten completions of each of fifty
beginnings, or, for models of the instruction variant, of fifty sets of instructions. Then ``tslens compare`` says which
differences are real. The page has the models named by ``--page``. This judge sees faults far better than it ranks good
texts: ``reports/judge/report.md``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from tslens.files import atomic_write, write_json
from tslens.grading.results import TRUE_ENDING, load_grades, side_file
from tslens.grading.rubric import CRITERIA
from tslens.grading.summary import paired
from tslens.model.shipped import shipped_models

ON_PAGE = ("shipped:l1_h64", "shipped:l1_h256", "shipped:l4_h64", "shipped:l4_h128")
JUDGE = ["--judge", "local"]


def run(arguments: Sequence[str]) -> tuple[dict[str, Any], float]:
    """What a command of tslens prints with --json, and its seconds. Raises RuntimeError if it failed."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "tslens", *arguments]
    done = subprocess.run([*command, "--json"], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 3):  # 3: some text has no grade
        raise RuntimeError(f"tslens {' '.join(arguments)} ended with {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found, time.perf_counter() - began


def mean_cell(mean: Mapping[str, Any]) -> str:
    """A mean with its interval."""
    return f"{mean['mean']:.2f} ({mean['low']:.2f} to {mean['high']:.2f})"


def model_table(models: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line a model, the true endings last."""
    lines = [
        f"| texts of | bits per byte | {' | '.join(CRITERIA)} | texts | without a grade | seconds |",
        "|---|---|" + "---|" * (len(CRITERIA) + 3),
    ]
    for one in models:
        cells = [mean_cell(one["means"][name]) if one["means"] else "" for name in CRITERIA]
        facts = [str(one[name]) for name in ("n", "n_failed", "seconds")]
        lines.append(f"| {' | '.join([one['label'], one['bits'], *cells, *facts])} |")
    return lines


def difference_table(pairs: Sequence[Mapping[str, Any]], models: Sequence[Mapping[str, Any]]) -> list[str]:
    """Differences of neighbours by bits per byte, and how many of all pairs are real."""
    order = [one["label"] for one in sorted(models, key=lambda one: -float(one["bits"]))]
    of = {(plain(one["second"]), plain(one["first"]), one["criterion"]): one for one in pairs}
    lines = [
        "| better by bits per byte, less | " + " | ".join(CRITERIA) + " |",
        "|---|" + "---|" * len(CRITERIA),
    ]
    for worse, better in [*pairwise(order), (order[0], order[-1])]:
        cells = []
        for name in CRITERIA:
            forth, back = of.get((worse, better, name)), of.get((better, worse, name))
            one, sign = (forth, 1) if forth is not None else (back, -1)
            assert one is not None
            ends = sorted((sign * one["low"], sign * one["high"]))
            star = "**" if one["is_real"] else ""
            cells.append(f"{star}{sign * one['difference']:+.2f}{star} ({ends[0]:+.2f} to {ends[1]:+.2f})")
        lines.append(f"| {better} - {worse} | {' | '.join(cells)} |")
    lines += [
        "",
        "| | of all pairs real | prompts for a difference of 0.3, most of any pair |",
        "|---|---|---|",
    ]
    for name in CRITERIA:
        mine = [pair for pair in pairs if pair["criterion"] == name]
        real = sum(pair["is_real"] for pair in mine)
        needed = max((pair["prompts_for_notable"] or 0 for pair in mine), default=0)
        lines.append(f"| {name} | {real} of {len(mine)} | {needed} |")
    return lines


def plain(label: str) -> str:
    """A model's name without "shipped:" and without the first seed."""
    return label.removeprefix("shipped:").removesuffix("@seed0")


def ending_table(files: Mapping[str, Path]) -> list[str]:
    """How far the true endings are above each model, paired over prompts: the mean of a prompt's completions counts."""
    lines = ["| true ending less | " + " | ".join(CRITERIA) + " |", "|---|" + "---|" * len(CRITERIA)]
    for label, file in files.items():
        endings = load_grades(side_file(file, TRUE_ENDING)).grades
        found = paired(endings, load_grades(file).grades)
        cells = []
        for name in CRITERIA:
            one = found[name]
            star = "**" if one.low is not None and one.high is not None and one.low * one.high > 0 else ""
            cells.append(f"{star}{one.mean:+.2f}{star} ({one.low:+.2f} to {one.high:+.2f})")
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return lines


def row_of(label: str, bits: float | None, found: Mapping[str, Any], seconds: float | None) -> dict[str, Any]:
    """A line of the table."""
    return {
        "label": label,
        "bits": "" if bits is None else f"{bits:.3f}",
        "means": found["means"],
        "n": found["n"],
        "n_failed": sum(found["failures_by_reason"].values()),
        "seconds": "" if seconds is None else f"{seconds:.0f}",
    }


def compliance_table(found: Mapping[str, Any]) -> list[str]:
    """What a model of the instruction variant follows by rule, beside the instructions of the next prompt."""
    lines = ["| | kind | followed | of the next prompt |", "|---|---|---|---|"]
    chance = found["instructions_of_next_prompt"] or {}
    for name, row in found["instructions"].items():
        beside = chance.get(name, {"kinds": {}})["kinds"]
        for kind, mean in row["kinds"].items():
            other = share_cell(beside[kind]) if kind in beside else ""
            lines.append(f"| {name} | {kind} | {share_cell(mean)} | {other} |")
    return lines


def share_cell(mean: Mapping[str, Any]) -> str:
    """A share in percent with its interval."""
    low, high = mean["low"], mean["high"]
    ends = "" if low is None else f" ({low:.0%} to {high:.0%})"
    return f"{mean['mean']:.0%}{ends}"


def main() -> None:
    """Grade, compare, and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", action="append", help="repeatable; default: all whose weights are here")
    parser.add_argument("--page", action="append", help="models of the page, repeatable")
    parser.add_argument("--out", type=Path, default=Path("reports/judge"))
    options = parser.parse_args()
    here = {
        f"shipped:{one.name}" + (f"@seed{one.seed}" if one.seed else ""): one.val_bits_per_byte
        for one in shipped_models()
        if one.weights is not None
    }
    names = options.model or list(here)
    models, lines = list[dict[str, Any]](), list[str]()
    asked, files = dict[str, dict[str, Any]](), dict[str, Path]()
    for name in names:
        found, seconds = run(["grade", "--model", name, *JUDGE])
        models.append(row_of(name.removeprefix("shipped:"), here.get(name), found, seconds))
        if found["instructions"]:
            asked[name] = found
        elif isinstance(found["true_ending"], dict):
            files[name.removeprefix("shipped:")] = Path(found["files"][0])
            ending = row_of("true ending", None, found["true_ending"], None)
        print(f"{name}: {seconds:.0f} s", flush=True)
    stories = [name for name in names if name not in asked]
    compared, _ = run(["compare", *stories, *JUDGE])
    page = ["--html", str(options.out / "models.html")]
    subprocess.run(
        [sys.executable, "-m", "tslens", "compare", *(options.page or ON_PAGE), *JUDGE, *page], check=True
    )
    of_stories = [row for row in models if f"shipped:{row['label']}" not in asked]
    lines += [
        "# The shipped models by the local judge",
        "",
        "Written by `python analysis/graded_models.py`. This judge is not GPT-4, and sees faults far better than it "
        "ranks good texts: `report.md` says how far it can be trusted, and how far it agrees with GPT-4o. Ten "
        "completions of each of fifty beginnings, temperature 1; means over prompts with 95% intervals. "
        "Seconds: the whole command, writing and parsing included.",
        "",
        *model_table([*of_stories, ending]),
        "",
        "## Which differences are real?",
        "",
        f"Paired over prompts, all {len(compared['differences']) // len(CRITERIA)} pairs of models, 95% intervals.",
        "",
        *difference_table(compared["differences"], of_stories),
        "",
        "Against the true endings, the mean of a prompt's completions paired with its ending:",
        "",
        *ending_table(files),
        "",
    ]
    for name, found in asked.items():
        row = next(one for one in models if f"shipped:{one['label']}" == name)
        lines += [
            f"## {row['label']}: fifty sets of instructions",
            "",
            *model_table([row]),
            "",
            "By rule, the same stories also against the instructions of the next prompt:",
            "",
            *compliance_table(found),
            "",
        ]
    with atomic_write(options.out / "models.md") as file:
        file.write("\n".join(lines).rstrip() + "\n")
    write_json(options.out / "models.json", {"models": models, "differences": compared["differences"]})
    print("\n".join(lines))


if __name__ == "__main__":
    main()
