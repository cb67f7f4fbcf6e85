"""How long until tslens says something: CPU seconds of its lightest commands, beside bare Python and torch alone.

Each line is a process of its own, the least of several, with warm files. The budget is a share of what ``import torch``
costs in the same run: a command that needs no model must not wait for what loads models. Which modules are loaded is a
test (``tests/faults/test_supply_imports.py``), the seconds are not.

python tests/bench/bench_import.py [--repeats 5]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

TSLENS = str(Path(sys.executable).parent / "tslens")
PEER = "import torch"
LINES = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import tslens": [sys.executable, "-c", "import tslens"],
    "tslens --help": [TSLENS, "--help"],
    "tslens runs": [TSLENS, "runs"],
    "tslens heads --help": [TSLENS, "heads", "--help"],
    PEER: [sys.executable, "-c", PEER],
}
BUDGET = {"import tslens": 0.05, "tslens --help": 0.5, "tslens runs": 0.5, "tslens heads --help": 0.5}


def main() -> None:
    """Print the table; exit 1 if a line is over its budget."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder:
        seconds = {
            name: min(cpu_seconds(line, folder) for _ in range(repeats)) for name, line in LINES.items()
        }
    bare = seconds["python -c pass"]
    peer = seconds[PEER] - bare
    over = []
    for name, value in seconds.items():
        share = (value - bare) / peer
        if share > BUDGET.get(name, 1.0):
            over.append(name)
        budget = f", budget {BUDGET[name]:.0%}" if name in BUDGET else ""
        print(f"{name:20} {value:6.2f} s of CPU, {share:6.1%} of {PEER!r} beyond bare Python{budget}")
    print("over budget: " + ", ".join(over) if over else "all within budget")
    sys.exit(bool(over))


def cpu_seconds(line: list[str], folder: str) -> float:
    """CPU seconds of one process, in a folder without runs."""
    before = os.times()
    subprocess.run(line, cwd=folder, capture_output=True, check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


if __name__ == "__main__":
    main()
