"""Which size is best for a budget of operations? A grid at a constant rate on fresh stories of the offline author.

    .venv/bin/python analysis/scaling.py
    .venv/bin/python analysis/scaling.py --grid "layers=1,2 hidden=16,32" --tokens 200000 --stories 2000 --out scaling

Trains the grid where it is not trained yet (``runs/scaling``; a stopped run goes on), one pass over stories that never
come again, and fits with sizes counted as all parameters and as those of the blocks. Writes ``all.json`` and
``blocks.json``, a figure of each with its data, and ``report.md``, which quotes ``check.md`` (of ``scaling_check.py``).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tslens.files import atomic_write

GRID = "layers=1,2,4 hidden=32,64,128,256"
COUNTS = ("all", "blocks")


def main() -> None:
    """Train, fit, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--grid", default=GRID)
    parser.add_argument("--tokens", type=int, default=2_000_000, help="of each cell")
    parser.add_argument(
        "--stories", type=int, default=12_000, help="of the author, more than the tokens need"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs/scaling"))
    parser.add_argument("--report-only", action="store_true", help="read the runs that are there")
    parser.add_argument("--out", type=Path, default=Path("reports/scaling"))
    asked = parser.parse_args()
    if not asked.report_only:
        run(
            *("train", "--grid", asked.grid, "--data", f"author:{asked.stories}:{asked.seed + 2}"),
            *("--tokens", asked.tokens, "--decay", "constant", "--seed", asked.seed, "--out", asked.runs),
        )
    asked.out.mkdir(parents=True, exist_ok=True)
    found = {
        count: run(
            *("scaling", asked.runs, "--count", count, "--seed", asked.seed),
            *("--figure", asked.out / count, "--out", asked.out / f"{count}.json"),
        )
        for count in COUNTS
    }
    with atomic_write(asked.out / "report.md") as file:
        file.writelines(f"{line}\n" for line in report(found, asked))


def run(*arguments: object) -> Mapping[str, Any]:
    """A command of tslens; what it prints with --json. Raises CalledProcessError if it fails."""
    command = [sys.executable, "-m", "tslens", *map(str, arguments), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: Mapping[str, Any] = json.loads(done.stdout)
    return found


def report(found: Mapping[str, Mapping[str, Any]], asked: argparse.Namespace) -> Sequence[str]:
    """Exponents, surfaces, envelopes, warnings."""
    first = found["all"]
    lines = [
        "# Which size is best for a budget of operations?",
        "",
        f"Written by `python analysis/scaling.py`: {len(first['runs'])} runs ({asked.grid}) of {asked.tokens:,} tokens "
        f"at a constant rate, one pass over stories of the offline author; losses on its held-out stories. Terms: "
        "`docs/methods.md`, Scaling. These stories are simpler than the real ones: the exponent is theirs.",
        "",
        "| size is | its exponent | of its tokens | by parabolas | alpha | beta | floor, nats | best outside at |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for count, one in found.items():
        parabolas, surface = one["envelope"]["exponent"], one["surface"]
        cells = [
            "all parameters" if count == "all" else "parameters of blocks",
            told(one["exponent"], one["interval"]),
            told(one["tokens_exponent"], one["tokens_interval"]),
            "none inside" if parabolas is None else f"{parabolas:.2f}",
            told(surface["alpha"], one["alpha_interval"]),
            told(surface["beta"], one["beta_interval"]),
            f"{surface['floor']:.2f}",
            f"{one['outside']:.0%} of the budgets",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    for count, one in found.items():
        lines += ["", *(f"Warning ({count}): {warning}." for warning in one["warnings"])]
    lines += [
        "",
        "Earlier works found about 0.7 and 0.5 for large models on other text; the paper states none.",
        "",
    ]
    for count in COUNTS:
        lines += [f"![Loss by operations, and the best size ({count})]({count}.svg)", ""]
    lines += [
        "| FLOPs | best run | nats per token | sizes that reach it | best size by a parabola |",
        "|---|---|---|---|---|",
        *(
            f"| {one['flops']:.2e} | {one['label']} | {one['loss_nats']:.3f} | {one['n_sizes']} | "
            f"{'' if one['best'] is None else format(one['best'], ',.0f')} |"
            for one in first["envelope"]["budgets"]
        ),
    ]
    check = asked.out / "check.md"
    if check.exists():
        lines += ["", check.read_text(encoding="utf-8").replace("# ", "## ", 1).rstrip()]
    return lines


def told(value: float, interval: Mapping[str, float]) -> str:
    """A number with its interval."""
    return f"{value:.2f} [{interval['low']:.2f}, {interval['high']:.2f}]"


if __name__ == "__main__":
    main()
