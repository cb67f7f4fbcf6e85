"""The scripts of ``examples/`` run, and stay short."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.name)
def test_an_example_runs(script, project):
    done = subprocess.run(
        [sys.executable, script, "l2_h32"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_under_forty_lines(script):
    assert len(script.read_text(encoding="utf-8").splitlines()) < 40


def test_there_are_three():
    assert len(EXAMPLES) >= 3
