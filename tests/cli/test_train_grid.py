"""``tslens train`` with a grid, a plan, Ray and several sources."""

import io
import json
from pathlib import Path

import pytest
import typer
from rich.console import Console

from tslens.cli.console import duration
from tslens.cli.train import show_result
from tslens.cli.train_grid import Rows
from tslens.cli.train_speed import Speedometer, short
from tslens.config import train_config
from tslens.files import read_json
from tslens.model.loss import LossReport
from tslens.run_folder import RunFolder
from tslens.train.cells import CellResult
from tslens.train.grid import grid_cells
from tslens.train.loop import TrainProgress, TrainResult

CELL = {
    "model",
    "seed",
    "run",
    "state",
    "steps",
    "tokens",
    "seconds",
    "val_loss_nats",
    "val_bits_per_byte",
    "reason",
}


@pytest.fixture
def train(tslens, story_file, tmp_path, monkeypatch):
    """``tslens train`` in a folder of its own, on the small stories."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, data=story_file):
        return tslens("train", "--data", data, "--vocab-size", 300, "--batch-tokens", 512, *arguments)

    return run


# A grid -----------------------------------------------------------------------------------------------------


def test_a_grid_is_trained_and_then_skipped(train, tmp_path):
    grid = ("--grid", "layers=1 hidden=32,48 seed=0,1", "--steps", 3)
    done = train(*grid)
    assert done.code == 0, done.err
    assert "4-gram" in done.out and "bits per byte" in done.out and "tslens heads --model" in done.out
    assert [line.split(",")[0] for line in done.err.splitlines() if " of 4: " in line] == [
        "1 of 4: l1_h32@seed0 done",
        "2 of 4: l1_h48@seed0 done",
        "3 of 4: l1_h32@seed1 done",
        "4 of 4: l1_h48@seed1 done",
    ]
    for seed in (0, 1):
        for name in ("DONE", "ngram4.json"):
            assert (tmp_path / "runs" / "l1_h48" / f"seed{seed}" / name).exists()
    again = train(*grid, "--json")
    found = json.loads(again.out)
    assert again.code == 0 and found["schema"] == "tslens.grid/1"
    assert all(set(cell) == CELL and cell["state"] == "skipped" for cell in found["cells"])
    command = read_json(tmp_path / "runs" / "l1_h32" / "seed0" / "provenance.json")["command"]
    assert command.startswith("tslens train --data") and "--grid 'layers=1 hidden=32,48 seed=0,1'" in command


def test_a_failing_cell_is_told_at_the_end(train, tmp_path):
    assert train("--model", "l1_h32", "--steps", 2, "--out", tmp_path / "all" / "l1_h32" / "seed5").code == 0
    done = train(
        "--grid", "layers=1 hidden=32,48", "--seed", 5, "--steps", 3, "--out", tmp_path / "all", "--json"
    )
    assert done.code == 3
    assert [cell["state"] for cell in json.loads(done.out)["cells"]] == ["failed", "done"]
    told = [line for line in done.err.splitlines() if "other settings" in line]
    assert len(told) == 1 and told[0].startswith("1 of 2: l1_h32@seed5 failed: ")
    assert "other settings: budget 2 steps, not 3 steps; seed 0, not 5. Choose another --out" in told[0]
    assert "1 cell failed" in done.err
    assert (tmp_path / "all" / "l1_h48" / "seed5" / "DONE").exists()


def test_what_does_not_go_together(train):
    grid = ("--grid", "layers=1 hidden=32", "--steps", 2)
    wrong = {
        ("--steps", 2): "Neither a model nor a grid",
        ("--model", "l1_h32", *grid): "A model and a grid",
        ("--grid", "layers=1 hiden=32"): "Did you mean hidden=32?",
        ("--grid", "layers=1 hidden=32 seed=1", "--seed", 2): "names seeds",
        (*grid, "--launcher", "slurm"): "process, ray",
        (*grid, "--workers", 2): "Add --launcher ray",
        ("--model", "l1_h32", "--launcher", "ray"): "Ray trains grids",
        (*grid, "--gpu", "a100"): "Add --plan",
        (*grid, "--plan", "--gpu", "b52"): "a100, h100, v100",
        (*grid, "--recipe", "soup"): "muon",
        (*grid, "--precision", "float8"): "bfloat16",
        (*grid, "--minutes", 3): "wo budgets",
    }
    for arguments, message in wrong.items():
        done = train(*arguments)
        assert done.code == 2, (arguments, done.err)
        assert message in done.err, (arguments, done.err)
        assert "Traceback" not in done.err


def test_nothing_starts_where_a_shape_is_impossible(train, tmp_path):
    done = train("--grid", "layers=1,2 hidden=32,33", "--steps", 2)
    assert done.code == 2 and "Did you mean" in done.err
    assert list(tmp_path.iterdir()) == []


def test_what_is_refused_is_refused_before_the_stories_are_read(train, tmp_path):
    one = ("--model", "l1_h32", "--steps", 2, "--out", tmp_path / "one")
    assert train(*one).code == 0
    for arguments, code, told in (
        (one, 1, "holds a finished run"),
        ((*one, "--steps", 3, "--resume"), 1, "holds a finished run"),
        (("--model", "l1_h65", "--steps", 2, "--out", tmp_path / "other"), 2, "Did you mean l1_h64"),
    ):
        done = train(*arguments)
        assert done.code == code and told in done.err
        assert "stories: " not in done.err and "training l1" not in done.err
    assert train(*one, "--plan").code == 0
    (tmp_path / "one" / "DONE").unlink()
    done = train(*one)
    assert done.code == 1 and "Go on with --resume" in done.err and "stories: " not in done.err
    assert train(*one, "--resume").code == 0


@pytest.mark.parametrize("resumed", [False, True])
def test_stopped_it_says_how_to_go_on(capsys, resumed, tmp_path):
    with pytest.raises(typer.Exit):
        show_result(TrainResult(RunFolder(tmp_path), 7, 99, 1.0, None), None, False, resumed=resumed)
    told = capsys.readouterr().err
    assert "Stopped after step 7. Go on with the same command" in told
    assert ("--resume" in told) != resumed


def test_settings_reach_the_run(train, tmp_path):
    done = train(
        "--model", "l1_h32", "--steps", 2, "--recipe", "paper", "--precision", "float32", "--no-compile"
    )
    assert done.code == 0, done.err
    made = read_json(tmp_path / "runs" / "l1_h32" / "seed0" / "config.json")
    assert (made["recipe"], made["precision"], made["compile"]) == ("paper", "float32", False)


def test_several_sources(train, story_file):
    done = train("--model", "l1_h32", "--steps", 2, "--data", "author:30", "--json")
    assert done.code == 0, done.err
    assert f"{story_file.name}, author:30" in done.err.splitlines()[0].replace(
        str(story_file.parent) + "/", ""
    )
    provenance = read_json(Path(json.loads(done.out)["run"]) / "provenance.json")
    assert provenance["data"] == "stories.jsonl+author:30:0"


def test_ray_gets_what_was_asked(train, monkeypatch):
    asked = {}

    def on_ray(cells, corpus, **options):
        asked.update(options, cells=[cell.name for cell in cells])
        return [CellResult(cell.config.model, 0, str(cell.run.path), "waiting") for cell in cells]

    monkeypatch.setattr("tslens.train.ray_grid.run_grid_on_ray", on_ray)
    ray = ("--launcher", "ray", "--workers", 3, "--gpu-fraction", 0.25, "--address", "auto", "--tensorboard")
    done = train("--grid", "layers=1,2 hidden=32", "--steps", 2, *ray)
    assert done.code == 3 and "Go on with the same command" in done.err
    assert asked["cells"] == ["l1_h32@seed0", "l2_h32@seed0"]
    assert (asked["workers"], asked["gpu_fraction"], asked["address"]) == (3, 0.25, "auto")
    assert asked["device"] == "auto" and asked["tensorboard"] is True


# Its rows ---------------------------------------------------------------------------------------------------


def progress(fraction=0.5):
    return TrainProgress(50, fraction, 2.5, 12_345.0, LossReport(1.0, 1, 1))


def rows_of(text, corpus=None):
    cells = grid_cells(text, train_config(None, model="l1_h32", seed=0, steps=100), Path("runs"))
    return cells, Rows(cells, Speedometer(corpus, None, "float32"))


def drawn(rows, n_rows):
    console = Console(file=io.StringIO(), width=80, height=24)
    console.print(rows.table(n_rows))
    return console.file.getvalue().splitlines()


def test_a_row_for_each_cell():
    cells, rows = rows_of("layers=1,2 hidden=64,128")
    rows.finished(CellResult("l1_h64", 0, "runs", "done", val_loss_nats=2.125))
    rows.finished(CellResult("l1_h128", 0, "runs", "failed", reason="out of memory: Tried to allocate 2 GiB"))
    rows.report(cells[2], None)
    rows.report(cells[2], progress())
    lines = drawn(rows, 16)
    assert len(lines) == 6
    assert lines[1].split() == ["l1_h64", "0", "done", "2.125"]
    assert lines[2].split() == ["l1_h128", "0", "out", "of", "memory"]
    assert "2.500" in lines[3] and "12,345" in lines[3] and "━" in lines[3]
    assert lines[4].split() == ["l2_h128", "0", "waits"]
    assert lines[5].strip() == "1 running, 1 waiting, 1 done, 1 failed"


def test_time_left_follows_what_was_gained(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    cells, rows = rows_of("layers=1 hidden=64")
    rows.report(cells[0], progress(0.4))  # where a run resumed
    clock[0] = 130.0
    rows.report(cells[0], progress(0.5))
    assert "2 min 30 s" in drawn(rows, 16)[1]


def test_many_cells_fit_a_terminal():
    cells, rows = rows_of("layers=2,4,8,12 hidden=64,128,256,512,768,1024,2048 seed=0,1,2")
    assert len(cells) == 84
    for cell in cells[:40]:
        rows.finished(CellResult(cell.config.model, cell.config.seed, "runs", "done", val_loss_nats=1.0))
    for cell in cells[40:44]:
        rows.report(cell, progress())
    lines = drawn(rows, 16)
    assert len(lines) == 18
    names = [line.split()[0] for line in lines[1:-1]]
    assert names == [cell.config.model for cell in cells[31:47]]
    assert lines[-1].strip() == "4 running, 40 waiting, 40 done"


def test_a_bar_where_there_is_a_terminal(train, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    done = train("--grid", "layers=1 hidden=32,48", "--steps", 60, "--json")
    assert done.code == 0, done.err
    assert "tokens/s" in done.err and "waiting" in done.err and "MFU" in done.err
    assert len(json.loads(done.out)["cells"]) == 2


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.25, "0.2 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (150, "2 min 30 s"),
        (3_660, "1 h 1 min"),
        (7_199, "1 h 59 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_times_in_words(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (999, "999"),
        (1_000, "1k"),
        (12_345, "12.3k"),
        (999_600, "1M"),
        (1.05e6, "1.05M"),
        (3.7e16, "37P"),
    ],
)
def test_numbers_with_three_figures(value, text):
    assert short(value) == text


# A plan -----------------------------------------------------------------------------------------------------


def test_a_plan_starts_nothing(train, tmp_path):
    done = train("--grid", "layers=1,2 hidden=32", "--tokens", 100_000, "--plan")
    assert done.code == 0, done.err
    for word in (
        "parameters",
        "FLOPs",
        "memory",
        "disk",
        "time",
        "l1_h32@seed0",
        "l2_h32@seed0",
        "total",
        "100k",
    ):
        assert word in done.out, word
    assert "then every 1,024 steps, all kept" in done.out
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [".corpora"]


def test_a_plan_in_json(train):
    done = train("--model", "l1_h32", "--steps", 10, "--plan", "--json")
    found = json.loads(done.out)
    assert found["schema"] == "tslens.plan/1" and found["device"] == "cpu"
    assert len(found["cells"]) == 1
    assert found["cells"][0]["basis"] == "measured"
    assert found["total"]["flops"] == found["cells"][0]["flops"] > 0


def test_the_papers_grid_in_gpu_hours(train):
    done = train("--grid", "paper", "--tokens", 10**9, "--plan", "--gpu", "v100")
    assert done.code == 0, done.err
    assert "GPU hours" in done.out and "30% of 15.7 TFLOP/s, the peak of V100 in float32" in done.out
    assert sum("@seed0" in line for line in done.out.splitlines()) == 28
    found = json.loads(train("--grid", "paper", "--tokens", 10**9, "--plan", "--gpu", "v100", "--json").out)
    assert found["gpu"] == "v100" and found["assumed_mfu"] == 0.3
    assert found["assumed_launch_seconds"] == [3e-3, 1e-3]
    assert found["total"]["seconds"] == pytest.approx(sum(cell["seconds"] for cell in found["cells"]))
    assert found["total"]["seconds"] > found["total"]["flops"] / (0.3 * 15.7e12)
