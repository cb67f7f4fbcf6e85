"""``tslens runs``: what it lists, what it removes, and what it never does; and the newest run as default."""

import json
import math
import os
import shutil
from pathlib import Path

import pytest

from tslens.cli.runs import size
from tslens.cli.runs_removal import remove_all
from tslens.cli.scaling import run_folders
from tslens.errors import ModelError, RunError, UsageError
from tslens.files import locked, read_json, write_json
from tslens.model.load import find_model, load_model
from tslens.model.run_list import find_runs, is_held, newest_run
from tslens.run_folder import RunFolder

DAY = 86_400


def files_in(folder):
    """Every file beneath, by its path, with its bytes; locks come and go."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.name != ".lock"
    }


def total(folder):
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


@pytest.fixture
def here(trained, tmp_path, monkeypatch):
    """A project with a finished run, an older and an interrupted one of another seed, a failed one of a grid, and a
    paid reply."""
    runs = tmp_path / "runs"
    shutil.copytree(trained / "runs" / ".corpora", runs / ".corpora")
    for age, name in enumerate(("l2_h32/seed0", "l2_h32/seed1", "l2_h32/seed2", "grid/l2_h32/seed0")):
        run = RunFolder(runs / name)
        shutil.copytree(trained / "runs" / "l2_h32" / "seed0", run.path)
        shutil.rmtree(run.path / "results", ignore_errors=True)
        for path in (run.done, run.metrics, run.config, run.state):
            os.utime(path, (DAY * (100 - age),) * 2)
    (runs / "l2_h32" / "seed2" / "DONE").unlink()
    failed = RunFolder(runs / "grid" / "l2_h32" / "seed0")
    for path in (failed.done, failed.state, failed.state_before):
        path.unlink(missing_ok=True)
    results = runs / "l2_h32" / "seed0" / "results" / "heads"
    results.mkdir(parents=True)
    (results / "scores.jsonl").write_text("{}\n")
    (runs / ".ledger").mkdir()
    (runs / ".ledger" / "job.jsonl").write_text('{"paid": 1}\n')
    monkeypatch.chdir(tmp_path)
    return runs


@pytest.fixture
def listed(tslens):
    """The JSON of the list, its runs by name."""

    def run(*arguments):
        done = tslens("runs", *arguments, "--json")
        assert done.code == 0, done.err
        found = json.loads(done.out)
        assert found["schema"] == "tslens.runs/1"
        return found | {"runs": {row["name"]: row for row in found["runs"]}}

    return run


# The list ---------------------------------------------------------------------------------------------------------


def test_runs_are_listed_newest_first_with_what_they_are(here, listed):
    with locked(here / "l2_h32" / "seed1"):
        found = listed()
    rows = found["runs"]
    states = {"l2_h32@seed0": "done", "l2_h32@seed1": "running", "l2_h32@seed2": "interrupted"}
    assert {name: row["state"] for name, row in rows.items()} == {**states, "grid/l2_h32/seed0": "failed"}
    assert list(rows) == ["l2_h32@seed0", "l2_h32@seed1", "l2_h32@seed2", "grid/l2_h32/seed0"]
    row = rows["l2_h32@seed0"]
    assert row["val_loss_nats"] == read_json(here / "l2_h32" / "seed0" / "DONE")["val_loss_nats"]
    last = json.loads((here / "l2_h32" / "seed0" / "metrics.jsonl").read_text().splitlines()[-1])
    assert row["n_tokens"] == last["n_tokens"] > 0
    assert row["bytes"] == total(here / "l2_h32" / "seed0")
    assert row["results"] == ["heads"]
    assert row["changed"].startswith("1970-04-11")
    spare = [
        here / "l2_h32" / "seed0" / "checkpoints" / f"step_{n:06d}.safetensors"
        for n in (0, 1, 2, 4, 8, 16, 32)
    ]
    assert row["spare_checkpoint_bytes"] == sum(path.stat().st_size for path in spare)
    assert rows["l2_h32@seed2"]["spare_checkpoint_bytes"] == 0
    assert [one["name"] for one in found["ledgers"]] == ["job.jsonl"]
    (corpus,) = found["corpora"]
    assert set(corpus["used_by"]) == set(rows)


def test_the_list_ends_the_hold_of_nothing_and_writes_nothing(here, tslens):
    before = files_in(here)
    with locked(here / "l2_h32" / "seed1"):
        tslens("runs")
        assert is_held(here / "l2_h32" / "seed1")
    assert not is_held(here / "l2_h32" / "seed1")
    assert files_in(here) == before


def test_the_table_has_a_row_for_each_and_what_else_takes_room(here, tslens):
    done = tslens("runs")
    assert done.code == 0, done.err
    for words in (
        "l2_h32@seed0 ",
        "2x32",
        "interrupted",
        "heads",
        "4 runs",
        "Ledgers of paid replies",
        "job.jsonl",
    ):
        assert words in done.out, words


def test_a_folder_without_runs_says_how_to_make_one(tslens, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = tslens("runs")
    assert done.code == 0
    assert "tslens train" in done.out
    assert tslens("runs", "elsewhere").code == 2


def test_a_torn_line_of_metrics_is_passed_over(here, listed):
    metrics = here / "l2_h32" / "seed0" / "metrics.jsonl"
    known = listed()["runs"]["l2_h32@seed0"]
    with metrics.open("a") as file:
        file.write('{"step": 99, "n_tok')
    assert listed()["runs"]["l2_h32@seed0"]["n_tokens"] == known["n_tokens"]


@pytest.mark.parametrize(
    ("n_bytes", "said"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (12_600_000, "13 MB"), (2_560_000_000, "2.6 GB")],
)
def test_sizes_are_said_in_three_digits(n_bytes, said):
    assert size(n_bytes) == said


# Removal ------------------------------------------------------------------------------------------------------------


def test_what_was_named_goes_and_nothing_else(here, tslens):
    before = files_in(here)
    done = tslens("runs", "--remove", "l2_h32@seed1", "--yes")
    assert done.code == 0, done.err
    gone = {name: data for name, data in before.items() if name.startswith("l2_h32/seed1/")}
    assert files_in(here) == {name: data for name, data in before.items() if name not in gone}
    assert f"{sum(map(len, gone.values())):,} bytes" in done.out
    assert [p.name for p in (here / "l2_h32").iterdir()] != []


def test_the_last_run_of_a_model_takes_its_empty_folder_along(here, tslens):
    assert tslens("runs", "--remove", "grid/l2_h32/seed0", "--yes").code == 0
    assert not (here / "grid" / "l2_h32").exists()
    assert (here / "grid").is_dir()


def test_results_of_a_model_without_a_run_go_when_they_are_named(here, tslens, tmp_path):
    results = here / "l1_h64-shipped" / "seed0" / "results" / "heads" / "scores.jsonl"
    results.parent.mkdir(parents=True)
    results.write_text("{}\n")
    away = here / "l2_h64-shipped"
    (tmp_path / "away" / "results" / "heads").mkdir(parents=True)
    away.symlink_to(tmp_path / "away")
    before = files_in(here)
    assert tslens("runs", "--remove", "l2_h64-shipped", "--yes").code == 2  # behind a link
    done = tslens("runs", "--remove", "l1_h64-shipped/seed0", "--yes")
    assert done.code == 0, done.err
    assert "results of l1_h64-shipped/seed0 (heads)" in done.out
    assert set(before) - set(files_in(here)) == {"l1_h64-shipped/seed0/results/heads/scores.jsonl"}


def test_a_dry_run_and_a_script_without_yes_remove_nothing(here, tslens):
    before = files_in(here)
    done = tslens("runs", "--remove", "l2_h32@seed1", "--checkpoints", "--dry-run")
    assert done.code == 0
    assert "would remove: run l2_h32@seed1" in done.out
    assert "7 step checkpoints of l2_h32@seed0" in done.out
    assert "step checkpoints of l2_h32@seed1" not in done.out  # all of it goes
    refused = tslens("runs", "--remove", "l2_h32@seed1")
    assert refused.code == 2
    assert "--yes" in refused.err
    assert files_in(here) == before


@pytest.mark.parametrize("answer", [True, False])
def test_at_a_terminal_it_asks(here, tslens, monkeypatch, answer):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("typer.confirm", lambda text, err: answer)
    assert tslens("runs", "--remove", "l2_h32@seed1").code == (0 if answer else 1)
    assert (here / "l2_h32" / "seed1").exists() != answer


@pytest.mark.parametrize(
    "name", ["l2_h32", "l2_h32@seed", "L2_H32@seed0", "seed0", ".corpora", ".ledger", "l2_h3*"]
)
def test_a_name_that_is_not_exact_removes_nothing(here, tslens, name):
    before = files_in(here)
    done = tslens("runs", "--remove", "l2_h32@seed1", "--remove", name, "--yes")
    assert done.code == 2
    assert f'no run "{name}"' in done.err
    assert name != "l2_h32" or "l2_h32@seed0 or l2_h32@seed1" in done.err
    assert files_in(here) == before


def test_a_second_name_without_the_flag_is_taken_for_no_folder(here, tslens):
    done = tslens("runs", "--remove", "l2_h32@seed1", "l2_h32@seed2", "--yes")
    assert done.code == 2
    assert "--remove NAME --remove l2_h32@seed2" in done.err
    assert (here / "l2_h32" / "seed1").exists()


def test_a_run_that_is_held_stays_and_so_does_what_was_named_with_it(here, tslens):
    before = files_in(here)
    with locked(here / "l2_h32" / "seed2"):
        done = tslens("runs", "--remove", "l2_h32@seed1", "--remove", "l2_h32@seed2", "--yes")
    assert done.code == 1
    assert "held" in done.err
    assert files_in(here) == before


def test_a_run_that_is_taken_between_the_plan_and_the_removal_stays(here):
    from tslens.cli.runs_removal import plan_removal
    from tslens.cli.runs_stock import take_stock

    stock = take_stock(Path("runs"))
    goners = plan_removal(stock, names=["l2_h32@seed1"], keep_checkpoints=None, unused_corpora=False)
    with locked(here / "l2_h32" / "seed1"), pytest.raises(RunError, match="in use"):
        remove_all(stock, goners)
    assert load_model(here / "l2_h32" / "seed1") is not None


def test_what_is_outside_or_behind_a_link_is_refused(here, tslens, tmp_path):
    for seed in ("seed5", "seed6"):
        shutil.copytree(here / "l2_h32" / "seed1", tmp_path / "away" / seed)
    (here / "l2_h32" / "seed5").symlink_to(tmp_path / "away" / "seed5")
    (here / "linked").mkdir()
    (here / "linked" / "deep").symlink_to(tmp_path / "away")
    before = files_in(tmp_path)
    for name, word in (
        ("away/seed5", "outside"),
        (str(tmp_path / "away" / "seed6"), "outside"),
        ("runs/../away/seed5", "no run"),
        ("l2_h32@seed5", "symbolic link"),
        ("runs/l2_h32/seed5", "symbolic link"),
        ("linked/deep/seed6", "symbolic link"),
    ):
        done = tslens("runs", "--remove", name, "--yes")
        assert done.code == 2, (name, done.out)
        assert word in done.err, (name, done.err)
    assert files_in(tmp_path) == before
    assert tslens("runs", "--checkpoints", "--yes").code == 0
    assert files_in(tmp_path / "away") == {
        name.removeprefix("away/"): data for name, data in before.items() if name.startswith("away/")
    }


def test_a_link_inside_a_run_goes_and_what_it_leads_to_stays(here, tslens, tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "notes.txt").write_text("mine")
    (here / "l2_h32" / "seed1" / "notes").symlink_to(kept)
    assert tslens("runs", "--remove", "l2_h32@seed1", "--yes").code == 0
    assert (kept / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("killed", ["before the renaming", "in the deletion"])
def test_a_kill_in_the_middle_leaves_no_half_a_run_that_looks_whole(here, tslens, monkeypatch, killed):
    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if killed == "in the deletion":
            patch.setattr("tslens.cli.runs_removal.shutil.rmtree", die)
        else:
            patch.setattr(Path, "rename", die)
        assert tslens("runs", "--remove", "l2_h32@seed1", "--yes").code == 1
    names = [one.name for one in find_runs(here)]
    if killed == "before the renaming":
        assert "l2_h32@seed1" in names
        assert find_model("l2_h32@seed1").path.exists()
        return
    assert "l2_h32@seed1" not in names
    with pytest.raises(ModelError):
        find_model("l2_h32@seed1")
    assert len(run_folders(here)) == 3
    shown = tslens("runs", "--json")
    assert [one["name"] for one in json.loads(shown.out)["left_over"]] == ["l2_h32/.seed1.removing"]
    assert tslens("runs", "--remove", "l2_h32@seed2", "--yes").code == 0
    assert not (here / "l2_h32" / ".seed1.removing").exists()


def test_checkpoints_of_finished_runs_go_but_the_last(here, tslens):
    before = files_in(here)
    weights = load_model(here / "l2_h32" / "seed0").state_dict()
    done = tslens("runs", "--checkpoints", "--keep-last", 2, "--yes", "--json")
    assert done.code == 0, done.err
    gone = {
        name
        for seed in ("seed0", "seed1")
        for name in before
        if name.startswith(f"l2_h32/{seed}/checkpoints/step_")
        and not name.endswith(("32.safetensors", "40.safetensors"))
    }
    assert len(gone) == 2 * 6
    assert set(before) - set(files_in(here)) == gone
    assert json.loads(done.out)["freed_bytes"] == sum(len(before[name]) for name in gone)
    after = load_model(here / "l2_h32" / "seed0").state_dict()
    assert all((weights[name] == after[name]).all() for name in weights)
    assert tslens("runs", "--keep-last", 2).code == 2
    again = tslens("runs", "--checkpoints", "--keep-last", 2, "--yes")
    assert "nothing to remove" in again.out


def test_corpora_that_no_run_uses_go_and_ledgers_never(here, tslens):
    (corpus,) = [path for path in (here / ".corpora").iterdir() if path.is_dir()]
    unused = here / ".corpora" / "other-300-abc"
    shutil.copytree(corpus, unused)
    facts = read_json(unused / "corpus.json")
    write_json(unused / "corpus.json", {**facts, "source_sha256": "0" * 64})
    done = tslens("runs", "--unused-corpora", "--yes")
    assert done.code == 0, done.err
    assert not unused.exists()
    assert corpus.exists()
    everything = [word for one in find_runs(here) for word in ("--remove", one.name)]
    assert tslens("runs", *everything, "--unused-corpora", "--yes").code == 0
    assert set(files_in(here)) == {".ledger/job.jsonl"}


# The newest run as default -------------------------------------------------------------------------------------------


def test_without_a_model_the_newest_finished_run_is_taken_and_said(here, tslens):
    arguments = ("generate", "--max-tokens", 3, "--json")
    done = tslens(*arguments)
    assert done.code == 0, done.err
    assert done.err.splitlines()[0] == "model: newest run, runs/l2_h32/seed0"
    os.utime(here / "l2_h32" / "seed1" / "DONE", (DAY * 200,) * 2)
    os.utime(here / "l2_h32" / "seed2" / "metrics.jsonl", (DAY * 300,) * 2)  # newer, but not finished
    assert newest_run(here).path == here / "l2_h32" / "seed1"
    assert "newest run, runs/l2_h32/seed1" in tslens(*arguments).err
    named = tslens(*arguments, "--model", "l2_h32@seed0")
    assert "newest run" not in named.err
    assert json.loads(named.out)["completions"] == json.loads(done.out)["completions"]
    assert "newest run" in tslens("look", "Tom had a cat.").err


def test_a_newest_run_that_is_worse_than_its_4_gram_is_said_to_be(here, tslens):
    run = newest_run(here)
    rows = run.metrics.read_text().splitlines()
    bits = next(
        row["bits_per_byte"] for row in map(json.loads, reversed(rows)) if row.get("split") == "validation"
    )
    for ngram_bits, is_said in ((bits * 0.99, True), (bits * 1.01, False)):
        write_json(run.yardstick, {"order": 4, "nats": ngram_bits * math.log(2) * 1000, "n_bytes": 1000})
        done = tslens("generate", "--max-tokens", 3)
        assert done.code == 0, done.err
        assert (f"a 4-gram of them has {ngram_bits:.3f}" in done.err) is is_said


def test_without_any_run_it_says_what_to_do(tslens, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in (
        ("heads",),
        ("neurons",),
        ("ablate",),
        ("look", "Tom had a cat."),
        ("circuit", "--prompt", "a"),
    ):
        done = tslens(*command)
        assert done.code == 2, command
        for word in ("tslens demo", "tslens train", "tslens models"):
            assert word in done.err, command
    with pytest.raises(UsageError, match="no finished run"):
        newest_run(tmp_path)
    assert tslens("look", "--labels", "--stories", "author:20", "--json").code == 0  # which needs no model
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["export", "grade", "describe", "link"])
def test_what_hands_on_pays_or_grades_wants_a_name(here, tslens, command):
    arguments = {"export": ["--to", "huggingface", "out"], "describe": ["--by", "m"]}.get(command, [])
    assert tslens(command, *arguments).code == 2
