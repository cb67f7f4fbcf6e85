"""Which evaluations of a run are points of the fit."""

import pytest

from tslens.errors import DataError, UsageError
from tslens.files import read_jsonl, write_jsonl
from tslens.link.scaling.points import check_runs, read_run
from tslens.model.spec import ModelSpec

ROWS = [(1_000, 9.0), (500_000, 4.0), (1_000_000, 3.5), (2_000_000, 3.0), (2_000_000, 3.1)]


def test_a_constant_rate_gives_a_point_at_each_evaluation_but_not_the_one_on_other_stories(run_folder):
    found = read_run(run_folder("l1_h64", ROWS))
    assert found.tokens.tolist() == [
        500_000,
        1_000_000,
        2_000_000,
    ]  # warmed up; the end's second row has more stories
    assert found.loss.tolist() == [4.0, 3.5, 3.0]
    assert found.flops.tolist() == [5e11, 1e12, 2e12]
    assert found.n_params == ModelSpec.from_name("l1_h64").n_params(4096)
    assert found.n_blocks == found.n_params - (4096 + 512) * 64 - 2 * 64


def test_a_rate_that_falls_gives_its_end_only(run_folder):
    assert read_run(run_folder("l1_h64", ROWS, decay="linear")).loss.tolist() == [3.1]
    unfinished = run_folder("l1_h128", ROWS, decay="linear", done=False)
    assert read_run(unfinished).loss.tolist() == []


def test_second_passes_are_left_out_and_counted(run_folder):
    found = read_run(run_folder("l1_h64", ROWS, pass_tokens=1_200_000))
    assert found.tokens.tolist() == [500_000, 1_000_000]
    assert found.n_left_out == 1


def test_blocks_grow_with_layers_alone(run_folder):
    one, four = (read_run(run_folder(name, ROWS)) for name in ("l1_h64", "l4_h64"))
    assert four.n_blocks == 4 * one.n_blocks
    assert four.n_params - one.n_params == 3 * one.n_blocks


def test_a_run_of_an_earlier_version_says_so(run_folder):
    run = run_folder("l1_h64", ROWS)
    header, rows = read_jsonl(run.metrics, "tslens.metrics/1")
    write_jsonl(run.metrics, "tslens.metrics/1", {"model": header["model"]}, rows)
    with pytest.raises(DataError, match="pass_tokens"):
        read_run(run)


def test_runs_that_do_not_compare_are_refused(run_folder):
    names = ("l1_h32", "l1_h64", "l1_h128", "l2_h128")
    runs = [read_run(run_folder(name, ROWS)) for name in names]
    assert [run.label for run in check_runs(runs)] == [f"{name}@seed0" for name in names]
    with pytest.raises(UsageError, match="of 3 sizes"):
        check_runs(runs[:3])
    other = read_run(run_folder("l4_h128", ROWS, corpus="d"))
    with pytest.raises(UsageError, match="different stories"):
        check_runs([*runs, other])
    falling = read_run(run_folder("l4_h128", ROWS, decay="linear"))
    with pytest.raises(UsageError, match="different kinds of rate"):
        check_runs([*runs, falling])


def test_falling_runs_of_several_budgets_are_one_run(run_folder):
    runs = []
    for name in ("l1_h32", "l1_h64", "l1_h128", "l2_h128"):
        for at, loss in ((2e6, 3.0), (5e5, 4.0), (1e6, 3.5)):
            runs.append(read_run(run_folder(name, [(0, 9.0), (int(at), loss)], decay="linear")))
    joined = check_runs(runs)
    assert [run.model for run in joined] == ["l1_h32", "l1_h64", "l1_h128", "l2_h128"]
    assert joined[0].tokens.tolist() == [5e5, 1e6, 2e6] and joined[0].loss.tolist() == [4.0, 3.5, 3.0]
    with pytest.raises(UsageError, match="4 points of 4 sizes"):
        check_runs(runs[::3])
