"""What is left of a process that was killed: no worker, no temporary file that stays, no rows without provenance."""

import json
import subprocess
import sys

import psutil
import pytest

from tslens.errors import RunError
from tslens.files import locked, write_json, write_results
from tslens.provenance import provenance
from tslens.run_folder import RunFolder

WORKERS = """
import time
from tslens.corpus.parallel import map_chunks

def work(chunk):
    time.sleep(0.05)
    return chunk

if __name__ == "__main__":
    for item in map_chunks(work, range(100_000), n_processes=2, chunk_size=1):
        print(item, flush=True)
"""
WRITER = """
import sys, time
from pathlib import Path
from tslens.files import atomic_write

with atomic_write(Path(sys.argv[1])) as file:
    file.write("half")
    file.flush()
    print("writing", flush=True)
    sys.stdin.readline()
"""


def unfinished(folder):
    return list(folder.rglob("*.unfinished"))


@pytest.fixture
def started(tmp_path):
    """A function that starts a script and waits for its first line; what still runs at the end is killed."""
    running = []

    def start(script, *arguments):
        path = tmp_path / "script.py"
        path.write_text(script)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        running.append(subprocess.Popen([sys.executable, path, *arguments], text=True, **pipes))
        assert running[-1].stdout.readline()
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def test_workers_do_not_outlive_the_process_that_is_killed(started):
    process = started(WORKERS)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) >= 2
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(workers, timeout=20)
    for worker in alive:
        worker.kill()
    assert alive == []


def test_what_a_killed_process_left_is_removed_and_what_a_live_one_writes_is_not(started, tmp_path):
    path = tmp_path / "results" / "rows.jsonl"
    alive, killed = started(WRITER, path), started(WRITER, path)
    assert len(unfinished(path.parent)) == 2
    killed.kill()
    killed.wait()
    write_json(path, "mine")
    assert len(unfinished(path.parent)) == 1 and json.loads(path.read_text()) == "mine"
    with locked(path.parent):  # a folder is swept by whoever holds it
        assert len(unfinished(path.parent)) == 1
    alive.communicate("\n")
    assert path.read_text() == "half" and not unfinished(path.parent)


def test_provenance_comes_before_the_rows_that_it_is_of(tmp_path):
    def rows():
        yield {"row": 1}
        raise KeyboardInterrupt

    record = provenance(
        command="tslens", seed=0, data="x", data_sha256="0", started="2026-01-01", seconds=1.0
    )
    with pytest.raises(KeyboardInterrupt):
        write_results(tmp_path / "rows.jsonl", "tslens.grades/1", {}, rows(), record)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.provenance.json"]


def test_a_run_is_not_done_before_its_yardstick_is_there(tslens, story_file, tmp_path, monkeypatch):
    def stop(corpus, run):
        raise RunError("Killed here.", "Go on.")

    monkeypatch.chdir(tmp_path)
    shape = ("--model", "l1_h16", "--steps", 2, "--batch-tokens", 256, "--vocab-size", 300)
    train = ("train", *shape, "--data", story_file, "--out", "run", "--device", "cpu", "--resume")
    run = RunFolder(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr("tslens.train.yardstick.ngram_yardstick", stop)
        assert "Killed here." in tslens(*train).err
    assert run.last_checkpoint() == run.checkpoint(2) and not run.done.exists()
    assert tslens(*train).code == 0
    assert run.done.exists() and run.yardstick.exists()
