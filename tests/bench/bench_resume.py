"""kill -9 at random moments of a training, resumed each time: are the final weights those of an undisturbed run?

    python tests/bench/bench_resume.py [--kills 20] [--steps 400] [--model l2_h64] [--processes 1]

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

from tslens.files import RunFolder

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
        kills = 0
        while kills < options.kills and not RunFolder(killed).done.exists():
            process = start(folder, killed, options)
            began = time.monotonic()
            wait = rng.uniform(STARTING, STARTING + 2 * seconds / options.kills)
            while process.poll() is None and time.monotonic() - began < wait:
                time.sleep(0.01)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                kills += 1
            process.wait()
        if not RunFolder(killed).done.exists():
            process = start(folder, killed, options)
            _, errors = process.communicate()
            assert process.returncode == 0, errors
        last = f"step_{options.steps:06d}.safetensors"
        one, other = (load_file(run / "checkpoints" / last) for run in (whole, killed))
        different = [name for name in one if not torch.equal(one[name], other[name])]
    print(
        f"{options.model}, {options.steps} steps, {options.processes} processes ({seconds:.0f} s undisturbed): "
        f"{kills} of {options.kills} kills, {len(different)} of {len(one)} tensors differ in any bit"
    )
    sys.exit(bool(different) or kills < options.kills)


if __name__ == "__main__":
    main()
