"""A grid on Ray: several cells at once; a worker that is killed costs only its cell's time."""

import contextlib
import importlib.util
import os
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch

from tslens.config import train_config
from tslens.corpus.shards import import_corpus
from tslens.errors import RunError, UsageError
from tslens.model.load import load_model
from tslens.run_folder import RunFolder
from tslens.train import ray_grid
from tslens.train.grid import grid_cells, run_grid
from tslens.train.ray_cluster import Share, share_of_cluster
from tslens.train.ray_grid import run_grid_on_ray

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed (extra ray)"
)
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # Ray leaves its sockets to the collector
SIX = "layers=1,2 hidden=32 seed=0,1,2"
KILLED = "l2_h32@seed1"


@pytest.fixture(scope="module")
def corpus(story_file, tmp_path_factory):
    return import_corpus(story_file, tmp_path_factory.mktemp("corpus"), vocab_size=300)


def cells_of(text, root, steps):
    return grid_cells(text, train_config(None, model="l1_h32", seed=0, steps=steps, batch_tokens=512), root)


def weights(run):
    return load_model(run).state_dict()


def traced(trace):
    """What a worker does, with a state saved at every step and a line in ``trace/CELL`` for each beginning."""

    def train(index, cell, run, *rest):
        from tslens.train import loop, ray_grid

        loop.STATE_SECONDS, loop.STATE_SHARE = 0.0, float("inf")
        states = list(Path(run).glob("checkpoints/*_state.pt"))
        with (Path(trace) / cell.name).open("a") as file:
            file.write(f"{os.getpid()} {'resumed' if states else 'new'}\n")
        return ray_grid._train_remotely(index, cell, run, *rest)

    return train


def left_of_ray():
    """Command lines of processes of Ray that run below this one, after a little patience."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        left = []
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                line = " ".join(child.cmdline())
                left += [line] if "ray" in line and child.status() != psutil.STATUS_ZOMBIE else []
        if not left:
            break
        time.sleep(0.2)
    return left


def is_running(pid):
    """Whether a process still does something: one that was killed stays a zombie until its parent asks."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill_when_begun(cell, trace, killed):
    """SIGKILL to the worker of a cell once it has taken 16 steps; then its newest state is torn."""
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        if cell.run.checkpoint(16).exists():
            pid = int((trace / cell.name).read_text().split()[0])
            os.kill(pid, signal.SIGKILL)
            while is_running(pid):
                time.sleep(0.0005)
            killed.append((pid, cell.run.done.exists()))
            cell.run.state.write_bytes(b"PK torn")
            return
        time.sleep(0.002)


@needs_ray
def test_a_killed_worker_costs_only_its_cells_time(corpus, tmp_path, monkeypatch, capfd):
    trace = tmp_path / "trace"
    trace.mkdir()
    monkeypatch.setattr(ray_grid, "_train_remotely", traced(str(trace)))
    cells = cells_of(SIX, tmp_path / "runs", steps=60)
    victim = next(cell for cell in cells if cell.name == KILLED)
    killed, told, ended, listening = [], [], [], set()

    def report(cell, now):
        told.append((cell.name, now and now.step))
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):  # it ended meanwhile
                found = child.net_connections("tcp")
                listening.update(c.laddr.ip for c in found if c.status == psutil.CONN_LISTEN)

    killer = threading.Thread(target=kill_when_begun, args=(victim, trace, killed))
    killer.start()
    with pytest.warns(UserWarning, match=f"^{KILLED}: .* is torn .* goes on from the state before"):
        results = run_grid_on_ray(cells, corpus, workers=2, report=report, finished=ended.append)
    killer.join()

    assert [(cell.name, "done", 60) for cell in cells] == [
        (f"{result.model}@seed{result.seed}", result.state, result.steps) for result in results
    ]
    assert sorted(ended, key=str) == sorted(results, key=str)
    assert killed and not killed[0][1], "it was killed in the middle"
    begun = {cell.name: (trace / cell.name).read_text().splitlines() for cell in cells}
    assert {name: len(lines) for name, lines in begun.items()} == {
        cell.name: 1 + (cell.name == KILLED) for cell in cells
    }
    assert [line.split()[1] for line in begun[KILLED]] == ["new", "resumed"]
    assert begun[KILLED][1].split()[0] != str(killed[0][0])
    assert {name for name, step in told if step == 50} == {cell.name for cell in cells}
    assert [step for name, step in told if name == KILLED].count(None) == 2

    assert {address.removeprefix("::ffff:") for address in listening} <= {"127.0.0.1"}
    assert not left_of_ray()
    assert capfd.readouterr() == ("", "")

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as each worker had
    try:
        run_grid(
            [cell for cell in cells_of(SIX, tmp_path / "here", 60) if cell.name == KILLED],
            corpus,
            device="cpu",
        )
    finally:
        torch.set_num_threads(threads)
    one, other = weights(victim.run.path), weights(tmp_path / "here" / "l2_h32" / "seed1")
    assert all(torch.equal(one[name], other[name]) for name in one)

    again = run_grid_on_ray(cells, corpus, workers=2)  # nothing to do: no cluster is started
    assert {result.state for result in again} == {"skipped"}
    assert [result.val_loss_nats for result in again] == [result.val_loss_nats for result in results]


@needs_ray
def test_failures_and_ctrl_c(corpus, tmp_path, monkeypatch):
    """One cell fails, one loses its worker; Ctrl-C ends the others with their state saved."""

    def train(index, cell, run, *rest):
        from tslens.train import loop, ray_grid

        if cell.config.model == "l1_h48":
            os.kill(os.getpid(), signal.SIGKILL)
        loop.REPORT_SECONDS = float("inf")  # so that the first report comes with step 50
        return ray_grid._train_remotely(index, cell, run, *rest)

    monkeypatch.setattr(ray_grid, "_train_remotely", train)
    monkeypatch.setattr(ray_grid, "LOST_TRIES", 0)
    cells = cells_of("layers=1 hidden=32,48,64,80,96", tmp_path, steps=20_000)
    other = RunFolder(cells[0].run.path)
    run_grid(cells_of("layers=1 hidden=32", tmp_path, steps=1), corpus, device="cpu")
    ended = []

    def finished(result):
        ended.append(result.state)

    def report(cell, now):
        if now is not None and cell.config.model == "l1_h80":
            os.kill(os.getpid(), signal.SIGINT)

    results = run_grid_on_ray(cells, corpus, workers=2, report=report, finished=finished)
    assert [result.state for result in results] == [
        "failed",
        "failed",
        "interrupted",
        "interrupted",
        "waiting",
    ]
    assert "other settings" in results[0].reason and other.done.exists()
    assert results[1].reason == "its worker was lost 1 times"
    assert results[3].steps >= 50 and cells[3].run.state.exists()
    assert sorted(ended) == ["failed", "failed", "interrupted", "interrupted"]
    assert not left_of_ray()


@needs_ray
def test_a_cluster_that_is_not_there(corpus, tmp_path):
    with pytest.raises(RunError, match="No Ray cluster answers at localhost:1") as caught:
        run_grid_on_ray(cells_of("layers=1 hidden=32", tmp_path, 1), corpus, address="localhost:1")
    assert "ray start" in caught.value.hint


def test_without_ray_it_says_how_to_install_it(corpus, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(UsageError, match="not installed") as caught:
        run_grid_on_ray(cells_of("layers=1 hidden=32", tmp_path, 1), corpus)
    assert "pip install 'tinystories-lens[ray]'" in caught.value.hint


def share(resources, largest_node=None, workers=None, gpu_fraction=None, device="auto"):
    return share_of_cluster(
        resources,
        largest_node=largest_node or resources["CPU"],
        workers=workers,
        gpu_fraction=gpu_fraction,
        device=device,
    )


def test_what_each_cell_gets_of_a_cluster():
    assert share({"CPU": 8.0}) == Share(workers=8, cpus=1.0, gpus=0.0)
    assert share({"CPU": 8.0}, workers=3) == Share(workers=3, cpus=2.0, gpus=0.0)
    assert share({"CPU": 2.0}, workers=3) == Share(workers=3, cpus=0.666, gpus=0.0)
    assert share({"CPU": 16.0}, largest_node=4.0, workers=2) == Share(workers=2, cpus=4.0, gpus=0.0)
    gpus = {"CPU": 16.0, "GPU": 2.0}
    assert share(gpus) == Share(workers=2, cpus=8.0, gpus=1.0)
    assert share(gpus, gpu_fraction=0.25) == Share(workers=8, cpus=2.0, gpus=0.25)
    assert share(gpus, gpu_fraction=0.25, workers=3) == Share(workers=3, cpus=5.0, gpus=0.25)
    assert share(gpus, gpu_fraction=0.1, workers=99) == Share(workers=20, cpus=0.8, gpus=0.1)
    assert share(gpus, device="cpu") == Share(workers=16, cpus=1.0, gpus=0.0)
    assert share({"CPU": 4.0, "GPU": 1.0}, gpu_fraction=1 / 3) == Share(workers=3, cpus=1.0, gpus=1 / 3)
    for wanted in ({"gpu_fraction": 0.5}, {"device": "cuda"}):
        with pytest.raises(UsageError, match="no GPU"):
            share({"CPU": 8.0}, **wanted)
