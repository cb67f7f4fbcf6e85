"""kill -9 at random moments of a training, resumed each time: are the final weights those of an undisturbed run?

    python tests/bench/bench_resume.py [--kills 20] [--steps 1500] [--model l2_h64] [--processes 1]

Trains on author stories by the command line, each time in new processes; with ``--processes 2`` under torchrun.
States are written every second here, so that a short run has many of them.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

from tslens.files import read_jsonl
from tslens.run_folder import METRICS_SCHEMA, RunFolder

STARTING = 4.0  # seconds until a process trains, about
SCRIPT = """
import sys
from tslens.train import loop
loop.STATE_SECONDS = 1.0
from tslens.cli.main import run
run()
"""


def start(folder: Path, run: Path, options: argparse.Namespace) -> subprocess.Popen:
    """Begin or resume the training."""
    script = folder / "train.py"
    script.write_text(SCRIPT)
    launch = [sys.executable]
    if options.processes > 1:
        launch += ["-m", "torch.distributed.run", "--nproc-per-node", str(options.processes)]
        launch += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    train = f"train --model {options.model} --data author:1000:3 --steps {options.steps} --resume --out {run}"
    return subprocess.Popen(
        [*launch, str(script), *train.split()],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def state_step(run: RunFolder) -> int:
    """Steps in the newest whole state of a run that was killed, 0 if there is none."""
    for path in (run.state, run.state_before):
        try:
            return int(torch.load(path, weights_only=True)["counters"]["step"])
        except Exception:  # absent or torn
            continue
    return 0


def losses(run: RunFolder) -> list[tuple]:
    """All rows of metrics but their speed."""
    rows = read_jsonl(run.metrics, METRICS_SCHEMA)[1]
    return [tuple(value for key, value in row.items() if key != "tokens_per_second") for row in rows]


def main() -> None:
    """Run once undisturbed, once killed again and again."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--model", default="l2_h64")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole, killed = folder / "whole", folder / "killed"
        began = time.monotonic()
        assert start(folder, whole, options).wait() == 0
        seconds = time.monotonic() - began
        kills, steps_at = 0, []
        while kills < options.kills and not RunFolder(killed).done.exists():
            process = start(folder, killed, options)
            began = time.monotonic()
            wait = rng.uniform(STARTING, STARTING + 2 * seconds / options.kills)
            while process.poll() is None and time.monotonic() - began < wait:
                time.sleep(0.01)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                kills += 1
                steps_at.append(state_step(RunFolder(killed)))
            process.wait()
        if not RunFolder(killed).done.exists():
            process = start(folder, killed, options)
            _, errors = process.communicate()
            assert process.returncode == 0, errors
        last = f"step_{options.steps:06d}.safetensors"
        one, other = (load_file(run / "checkpoints" / last) for run in (whole, killed))
        different = [name for name in one if not torch.equal(one[name], other[name])]
        rows = [losses(RunFolder(run)) for run in (whole, killed)]
        same_rows = rows[0] == rows[1]
    trained = sum(step > 0 for step in steps_at)
    print(
        f"{options.model}, {options.steps} steps, {options.processes} processes ({seconds:.0f} s undisturbed): "
        f"{kills} of {options.kills} kills, {trained} of them with steps in the state (newest: {steps_at}); "
        f"{len(different)} of {len(one)} tensors differ in any bit; {len(rows[0])} rows of losses "
        f"{'are the same' if same_rows else 'DIFFER'}"
    )
    sys.exit(bool(different) or not same_rows or kills < options.kills)


if __name__ == "__main__":
    main()
