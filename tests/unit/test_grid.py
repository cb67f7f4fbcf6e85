"""Grids: what they hold, what is refused, what is skipped, resumed, failed and gone on from."""

import errno
import os
import signal
import threading

import pytest
import torch

from tslens.config import train_config
from tslens.corpus.shards import import_corpus
from tslens.errors import RunError, UsageError
from tslens.model.load import load_model
from tslens.run_folder import RunFolder
from tslens.train import cells as cells_module
from tslens.train.cells import reason_of
from tslens.train.grid import grid_cells, parse_grid, run_grid
from tslens.train.loop import train_model


@pytest.fixture(scope="module")
def corpus(story_file, tmp_path_factory):
    return import_corpus(story_file, tmp_path_factory.mktemp("corpus"), vocab_size=300)


def cells_of(text, root, **changes):
    settings = {"model": "l1_h32", "seed": 0, "steps": 6, "batch_tokens": 512, **changes}
    return grid_cells(text, train_config(None, **settings), root)


def names(text):
    return [spec.name for spec, _ in parse_grid(text)]


# What a grid holds ------------------------------------------------------------------------------------------


def test_a_grid_is_every_combination_in_the_order_written(tmp_path):
    assert names("layers=1,2 hidden=64,32") == ["l1_h64", "l1_h32", "l2_h64", "l2_h32"]
    cells = cells_of("hidden=32 layers=1,2 seed=4,0", tmp_path)
    assert [cell.name for cell in cells] == ["l1_h32@seed4", "l2_h32@seed4", "l1_h32@seed0", "l2_h32@seed0"]
    assert cells[0].run.path == tmp_path / "l1_h32" / "seed4"
    assert [cell.config.seed for cell in cells_of("layers=1 hidden=32", tmp_path, seed=7)] == [7]
    assert {cell.config.amount for cell in cells} == {6.0}


def test_heads_are_named_and_doubles_go():
    assert names("layers=1 hidden=64 heads=2,4,8") == ["l1_h64_a2", "l1_h64", "l1_h64_a8"]
    assert names("layers=1,1 hidden=64,64") == ["l1_h64"]


def test_the_grid_of_the_paper():
    found = names("paper")
    assert len(found) == len(set(found)) == 28
    assert found[0] == "l2_h64" and found[-1] == "l12_h2048"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("layer=1 hidden=64", 'no "layer"', "layers=1"),
        ("layers=1 width=64", 'no "width"', "hidden=64"),
        ("layers=1 hiden=64", 'no "hiden"', "hidden=64"),
        ("layers=1 hidden=64 SEED=3", 'no "SEED"', "seed=3"),
        ("layers=1 hidden=64 banana=3", "layers, hidden, heads, seed", "--grid"),
        ("papper", "papper", "--grid paper"),
        ("layers=1", "names no hidden", "--grid"),
        ("", "names no layers", "--grid"),
        ("layers=1 layers=2 hidden=64", "layers twice", "layers=1,2"),
        ("layers=1,two hidden=64", "whole numbers", "layers=1,2,4"),
        ("layers=1, 2 hidden=64", "whole numbers", "no blank"),
        ("layers=1 hidden=-64", "whole numbers", "hidden=1,2,4"),
        ("layers=1,2 hidden=64,65", "l1_h65", "Did you mean l1_h64"),
        ("layers=0 hidden=64", "l0_h64", "l1_h64"),
        ("layers=1 hidden=64 heads=0", "_a0", "l1_h64"),
        ("layers=1 hidden=64 heads=3", "_a3", "l1_h64"),
        ("layers=1 hidden=64 seed=" + ",".join(map(str, range(10_001))), "10,001 cells", "at most"),
    ],
)
def test_what_no_grid_can_mean_is_refused(text, message, hint):
    with pytest.raises(UsageError) as caught:
        parse_grid(text)
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.fixture(autouse=True)
def reports_by_step_alone(monkeypatch):
    monkeypatch.setattr("tslens.train.loop.REPORT_SECONDS", float("inf"))


# A run of it ------------------------------------------------------------------------------------------------


def test_every_cell_is_trained_and_told(corpus, tmp_path):
    told, ended = [], []
    cells = cells_of("layers=1,2 hidden=32", tmp_path, steps=50)
    results = run_grid(
        cells,
        corpus,
        device="cpu",
        report=lambda cell, now: told.append((cell.name, now and now.step)),
        finished=ended.append,
    )
    assert told == [
        ("l1_h32@seed0", None),
        ("l1_h32@seed0", 50),
        ("l2_h32@seed0", None),
        ("l2_h32@seed0", 50),
    ]
    assert results == ended
    for cell, result in zip(cells, results, strict=True):
        assert result.state == "done" and result.steps == 50 and result.reason is None
        assert (result.model, result.seed, result.run) == (cell.config.model, 0, str(cell.run.path))
        assert result.val_loss_nats > 0 and cell.run.done.exists()


def test_done_cells_are_skipped_and_keep_their_figures(corpus, tmp_path):
    first = run_grid(cells_of("layers=1 hidden=32", tmp_path), corpus, device="cpu")
    marks = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    told = []
    both = run_grid(
        cells_of("layers=1 hidden=32,64", tmp_path),
        corpus,
        device="cpu",
        report=lambda cell, now: told.append(cell.name),
    )
    assert [result.state for result in both] == ["skipped", "done"]
    assert {path: path.stat().st_mtime_ns for path in marks} == marks
    assert told == ["l1_h64@seed0"]
    for field in ("steps", "tokens", "seconds", "val_loss_nats", "val_bits_per_byte"):
        assert getattr(both[0], field) == getattr(first[0], field) is not None


def test_an_unfinished_cell_goes_on(corpus, tmp_path):
    """Ctrl-C ends the cell with its state saved and the grid; the same call ends with equal weights."""

    def interrupt(cell, now):
        if now is not None and cell.config.model == "l1_h64":
            os.kill(os.getpid(), signal.SIGINT)

    text, steps = "layers=1 hidden=32,64,48", 60
    told = {"device": "cpu"}
    stopped = run_grid(cells_of(text, tmp_path / "a", steps=steps), corpus, report=interrupt, **told)
    assert [result.state for result in stopped] == ["done", "interrupted", "waiting"]
    assert 50 <= stopped[1].steps < steps and stopped[1].val_loss_nats is None
    assert stopped[2].steps is None and not (tmp_path / "a" / "l1_h48").exists()
    again = run_grid(cells_of(text, tmp_path / "a", steps=steps), corpus, **told)
    assert [result.state for result in again] == ["skipped", "done", "done"]
    undisturbed = run_grid(cells_of("layers=1 hidden=64", tmp_path / "b", steps=steps), corpus, **told)
    assert again[1].val_loss_nats == undisturbed[0].val_loss_nats
    one, other = (load_model(tmp_path / root / "l1_h64" / "seed0").state_dict() for root in "ab")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_ctrl_c_between_cells_stops_the_grid(corpus, tmp_path, monkeypatch):
    def interrupt(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(cells_module, "train_model", interrupt)
    results = run_grid(cells_of("layers=1,2 hidden=32", tmp_path), corpus, device="cpu")
    assert [result.state for result in results] == ["interrupted", "waiting"]


FAILURES = {
    "out of memory": MemoryError(),
    "out of memory: CUDA": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    "out of memory: [enforce": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    "disk full": OSError(errno.ENOSPC, "No space left on device"),
    "ValueError: broken": ValueError("broken"),
}


@pytest.mark.parametrize("reason", FAILURES)
def test_a_failure_has_a_reason_of_one_line(reason):
    found = reason_of(FAILURES[reason])
    assert found.startswith(reason) and "\n" not in found


@pytest.mark.parametrize("reason", ["diverged", "disk full"])
def test_a_failing_cell_is_reported_and_the_others_finish(corpus, tmp_path, monkeypatch, reason):
    def failing(config, corpus, run, **options):
        if config.model == "l1_h64":
            if reason == "diverged":
                config = train_config(config.to_json(), steps=60, learning_rate=1e38)
            else:
                raise FAILURES[reason]
        return train_model(config, corpus, run, **options)

    monkeypatch.setattr(cells_module, "train_model", failing)
    results = run_grid(cells_of("layers=1 hidden=32,64,48", tmp_path), corpus, device="cpu")
    assert [result.state for result in results] == ["done", "failed", "done"]
    assert results[1].reason.startswith(reason)
    assert "\n" not in results[1].reason


def test_a_full_disk_is_named_behind_our_own_error():
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as cause:
            raise RunError("Cannot write x.", "Choose another.") from cause
    except RunError as error:
        assert reason_of(error) == "disk full: Cannot write x."


def test_files_that_the_system_refuses_to_write(corpus, tmp_path, monkeypatch):
    """No file may be over 600 kB: the checkpoints of the larger model cannot be written."""
    resource = pytest.importorskip("resource", reason="this system has no limits of file sizes")
    before, old = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    monkeypatch.setattr(errno, "ENOSPC", errno.EFBIG)  # what a limit gives in the place of a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, before[1]))
    try:
        results = run_grid(cells_of("layers=1 hidden=32,256", tmp_path), corpus, device="cpu")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, old)
    assert [result.state for result in results] == ["done", "failed"]
    assert results[1].reason.startswith("disk full: Cannot write")
    assert not list((tmp_path / "l1_h256").rglob("*.safetensors"))


def test_a_failed_cell_gives_its_memory_back(corpus, tmp_path, monkeypatch):
    import weakref

    held = []

    def failing(config, corpus, run, **options):
        model = torch.nn.Linear(10, 10)
        model.itself = [model]  # a cycle, as modules with hooks have
        held.append(weakref.ref(model))
        raise MemoryError

    monkeypatch.setattr(cells_module, "train_model", failing)
    run_grid(cells_of("layers=1 hidden=32", tmp_path), corpus, device="cpu")
    assert held[0]() is None


def test_other_settings_in_a_folder_fail_that_cell_only(corpus, tmp_path):
    run_grid(cells_of("layers=1 hidden=32", tmp_path), corpus, device="cpu")
    results = run_grid(cells_of("layers=1 hidden=32,64", tmp_path, steps=7), corpus, device="cpu")
    assert [result.state for result in results] == ["failed", "done"]
    assert "other settings: budget " in results[0].reason and "not 7 steps" in results[0].reason
    assert "--out" in results[0].reason


def test_a_finished_run_that_cannot_be_read_fails_that_cell_only(corpus, tmp_path):
    run_grid(cells_of("layers=1 hidden=32", tmp_path), corpus, device="cpu")
    RunFolder(tmp_path / "l1_h32" / "seed0").config.write_text("{")
    results = run_grid(cells_of("layers=1 hidden=32,64", tmp_path), corpus, device="cpu")
    assert [result.state for result in results] == ["failed", "done"]
    assert "no JSON" in results[0].reason


def test_a_grid_runs_in_a_thread_too(corpus, tmp_path):
    """Where signals cannot be handled, as in a notebook's worker."""
    found = []
    work = threading.Thread(
        target=lambda: found.extend(
            run_grid(cells_of("layers=1 hidden=32", tmp_path, steps=2), corpus, device="cpu")
        )
    )
    work.start()
    work.join()
    assert [result.state for result in found] == ["done"]
