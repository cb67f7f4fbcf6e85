"""Does the interval of the scaling exponent hold the truth? On simulated runs with a known one.

    .venv/bin/python analysis/scaling_check.py
    .venv/bin/python analysis/scaling_check.py --times 10 --out check

Runs are drawn from a surface with a known exponent, with an error of each run (its seed) and of each point; settings
from six runs to fifteen. Writes ``check.jsonl``, a row a simulation, and ``check.md``: how often the 95% interval holds
the truth, how wide it is.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tslens.files import atomic_write, write_json, write_jsonl
from tslens.link.scaling.points import ScalingRun
from tslens.link.scaling.surface import fit_scaling
from tslens.provenance import provenance, utc_now
from tslens.stats import share_interval

SCHEMA = "tslens.scaling_check/1"
FLOPS_POWER = 0.9  # of operations per token in the size
SIZES = (2e5, 8e6)


@dataclass(frozen=True)
class Setting:
    """``n_runs`` sizes, each with ``n_seeds``; errors of log loss by run and by point; the surface's powers."""

    name: str
    n_runs: int
    n_seeds: int
    of_run: float
    of_point: float
    alpha: float = 0.35
    beta: float = 0.4


SETTINGS = (
    Setting("ten sizes", 10, 1, 0.006, 0.004),
    Setting("six sizes, larger errors", 6, 1, 0.012, 0.005),
    Setting("fifteen sizes, larger errors of runs", 15, 1, 0.012, 0.002),
    Setting("six sizes of two seeds", 6, 2, 0.008, 0.004),
    Setting("nine sizes, size matters more", 9, 1, 0.006, 0.004, alpha=0.5, beta=0.3),
)


def simulate(setting: Setting, rng: np.random.Generator) -> tuple[list[ScalingRun], float]:
    """Runs of a known surface, and the exponent of its best size."""
    runs = []
    for size in np.repeat(np.geomspace(*SIZES, setting.n_runs), setting.n_seeds):
        tokens = np.geomspace(4e5, 8e6, 10)
        loss = 1.2 + (size / 1e6) ** -setting.alpha + 1.5 * (tokens / 3e6) ** -setting.beta
        noise = rng.normal(0, setting.of_run) + rng.normal(0, setting.of_point, len(tokens))
        n = len(runs)
        flops = 10 * size**FLOPS_POWER
        runs.append(
            ScalingRun(f"m{n}", f"m{n}", 0, int(size), int(size), flops, tokens, loss * np.exp(noise), "", "")
        )
    return runs, setting.beta / (setting.alpha + FLOPS_POWER * setting.beta)


def main() -> None:
    """Simulate, fit, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=200, help="of each setting")
    parser.add_argument("--draws", type=int, default=200, help="of each bootstrap")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("reports/scaling"))
    asked = parser.parse_args()
    started, clock = utc_now(), time.monotonic()
    rows: list[dict[str, Any]] = []
    for number, setting in enumerate(SETTINGS):
        for k in range(asked.times):
            runs, truth = simulate(setting, np.random.default_rng([asked.seed, number, k]))
            found = fit_scaling(runs, seed=k, n_replicates=asked.draws)
            rows.append(
                {
                    "setting": setting.name,
                    "truth": truth,
                    "exponent": found.exponent,
                    "low": found.interval.low,
                    "high": found.interval.high,
                }
            )
        print(f"{setting.name}: {time.monotonic() - clock:.0f} s", file=sys.stderr, flush=True)
    write_jsonl(asked.out / "check.jsonl", SCHEMA, {"settings": [asdict(one) for one in SETTINGS]}, rows)
    record = provenance(
        command=shlex.join(["python", *sys.argv]),
        seed=asked.seed,
        data=f"{len(rows)} simulations",
        data_sha256="",
        started=started,
        seconds=time.monotonic() - clock,
    )
    write_json(asked.out / "check.provenance.json", record.to_json())
    with atomic_write(asked.out / "check.md") as file:
        file.write(report(rows))
    print(report(rows))


def report(rows: list[dict[str, Any]]) -> str:
    """A table of how often the interval holds the truth."""
    lines = [
        "# Does the interval of the scaling exponent hold the truth?",
        "",
        "Written by `python analysis/scaling_check.py`: runs drawn from a known surface, fitted as `tslens scaling` "
        "fits.",
        "",
        "| setting | simulations | truth | mean estimate | held by the 95% interval | mean width |",
        "|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["setting"] for row in rows):
        mine = [row for row in rows if row["setting"] == name]
        held = np.mean([row["low"] <= row["truth"] <= row["high"] for row in mine])
        ends = share_interval(float(held), 0.0, len(mine), len(mine))
        width = np.mean([row["high"] - row["low"] for row in mine])
        mean = np.mean([row["exponent"] for row in mine])
        lines.append(
            f"| {name} | {len(mine)} | {mine[0]['truth']:.3f} | {mean:.3f} | {held:.0%} ({ends.low:.0%} to "
            f"{ends.high:.0%}) | {width:.2f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
