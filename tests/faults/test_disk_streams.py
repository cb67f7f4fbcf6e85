"""Standard output and standard error that take nothing more: full, closed, or read no further."""

import json
import os
import subprocess
import sys

import pytest

FULL = "/dev/full"
PRINTS = [  # each prints by another way: tables, text, JSON, rows, the help
    ("models",),
    ("models", "--json"),
    ("data", "author", "--stories", "60", "--processes", "1"),
    ("look", "--labels", "Tom had a dog."),
    ("generate", "--model", "shipped:l1_h64", "--prompt", "Once", "--max-tokens", "4"),
    ("--help",),
    ("--version",),
    ("runs", "--json"),
]
pytestmark = pytest.mark.skipif(not os.path.exists(FULL), reason="no /dev/full here")  # noqa: PTH110


@pytest.fixture
def run(tmp_path):
    """Runs a command line in a process of its own, by a shell that has the redirection; its code, output, errors."""

    def run(arguments, redirection):
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        command = ["bash", "-c", f'"$@" {redirection}', "bash", sys.executable, "-m", "tslens", *arguments]
        (tmp_path / "runs").mkdir(exist_ok=True)
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr, done.stderr
        return done

    return run


def test_standard_output_that_is_full(run, how_many):
    for arguments in PRINTS[: how_many(2, len(PRINTS))]:
        done = run(arguments, f"> {FULL}")
        assert done.returncode == 1, (arguments, done.stderr)
        error, hint = done.stderr.splitlines()[-2:]
        assert error.startswith("error: ") and "No space left" in error, (arguments, done.stderr)
        assert hint.startswith("       ") and "space" in hint


def test_an_error_after_output_that_is_lost(run, tmp_path, how_many):
    """The error of the command is said, and its exit code kept, though what it printed before cannot be written."""
    if how_many(1, 0):
        pytest.skip("a part of make test-faults")
    (tmp_path / "two.jsonl").write_text('{"text": "Tom ran."}\n', encoding="utf-8")
    done = run(("data", "annotate", "two.jsonl", "--label", "mood", "--out", "out.jsonl"), f"> {FULL}")
    assert done.returncode in {1, 2} and "mood" in done.stderr


def test_nobody_reads_on(run, how_many):
    for arguments in PRINTS[: how_many(1, len(PRINTS))]:
        done = run(arguments, "| true; exit ${PIPESTATUS[0]}")
        assert done.returncode in {0, 1} and "error:" not in done.stderr, (arguments, done.stderr)
        done = run(arguments, "| head -c 20; exit ${PIPESTATUS[0]}")
        assert done.returncode in {0, 1} and "error:" not in done.stderr, (arguments, done.stderr)


def test_closed_streams_stop_nothing(run, tmp_path, how_many):
    writes = ("data", "author", "--stories", "3", "--processes", "1", "--out", "three.jsonl")
    for redirection in ("<&- >&- 2>&-", ">&-", ">&- 2>&-", "2>&-", f"2> {FULL}")[: how_many(1, 5)]:
        done = run(writes, redirection)
        assert done.returncode == 0, (redirection, done.stderr)
        assert len((tmp_path / "three.jsonl").read_text(encoding="utf-8").splitlines()) == 3
        (tmp_path / "three.jsonl").unlink()


def test_a_log_that_is_full_stops_no_work(run, how_many):
    """Progress that cannot be said is not said; the result is the same."""
    done = run(("models", "--json"), f"2> {FULL}")
    assert done.returncode == 0 and json.loads(done.stdout)
    for arguments in PRINTS[2 : how_many(2, 5)]:
        plain, full = run(arguments, ""), run(arguments, f"2> {FULL}")
        assert plain.returncode == full.returncode == 0 and plain.stdout == full.stdout
    if how_many(0, 1):
        done = run(("look", "--labels", "--stories", "none.jsonl", "--json"), f"2> {FULL}")
        assert done.returncode == 1 and not done.stdout
