"""``tslens compare`` of texts graded by a judge whose grades are known."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import ttest_rel

from tslens.grading.prompts import load_beginnings
from tslens.grading.results import TEACHER, TRUE_ENDING, side_file
from tslens.grading.rubric import CRITERIA
from tslens.types import Grade, GradeFailure

SHORT = ("--samples", 2, "--max-tokens", 12)
LINE = "tslens local judge 7, not GPT-4"


class Counting:
    """Grammar is the number of letters modulo 11; texts that say zzz have no grade."""

    name, version = "local", LINE

    def grade(self, texts, progress=lambda n: None):
        progress(len(texts))
        return [self.one(text) for text in texts]

    def one(self, text):
        if " zzz" in text.completion:
            return GradeFailure(text, "too short", "it speaks of zzz")
        points = dict.fromkeys(CRITERIA, float(len(text.completion) % 11))
        return Grade(text, **points, age_group="AB"[text.sample % 2], intervals={"plot": (1.0, 2.0)})


@pytest.fixture(autouse=True)
def counting(monkeypatch):
    monkeypatch.setitem(sys.modules, "tslens.grading.local.judge", SimpleNamespace(LocalJudge=Counting))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path, completions, prompts=None):
    """Completions of the package's first beginnings, four of each."""
    given = prompts or [one.text for one in load_beginnings()]
    rows = [{"prompt": given[i // 4], "completion": text} for i, text in enumerate(completions)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def texts(n, offset=0, seed=0):
    return [" x" + "y" * int(k + offset) for k in np.random.default_rng(seed).integers(0, 4, n)]


def graded(tslens, here, **files):
    """Grade files of completions; the files of their grades."""
    found = {}
    for name, completions in files.items():
        path = write(here / f"{name}.jsonl", completions)
        found[name] = json.loads(tslens("grade", "--completions", path, "--judge", "local", "--json").out)
    return found, [one["files"][0] for one in found.values()]


def test_real_differences_are_those_of_a_paired_test(tslens, here):
    found, files = graded(tslens, here, low=texts(80), same=texts(80, seed=1), high=texts(80, 3, seed=2))
    done = tslens("compare", *files, "--judge", "local", "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert [one["model"] for one in told["models"]] == ["low", "same", "high"] and "not GPT-4" in told["note"]
    assert told["true_ending"]["n"] == 20 and told["teacher"] == "not asked"
    assert len(told["differences"]) == 12
    table = {
        name: np.array([row["plot"] for row in one["grades"]]).reshape(20, 4).mean(1)
        for name, one in found.items()
    }
    for row in told["differences"]:
        test = ttest_rel(table[row["first"]], table[row["second"]])
        ends = test.confidence_interval(0.95)
        assert (row["low"], row["high"]) == pytest.approx((ends.low, ends.high))
        assert row["is_real"] == (test.pvalue < 0.05) == ("high" in (row["first"], row["second"]))
        assert row["prompts_for_notable"] >= 2
    shown = tslens("compare", *files, "--judge", "local", "--html", "models.html")
    assert "8 of 12 differences" in shown.out and "about 0.6 would" in shown.out and LINE in shown.out
    lines = {line.split("  ")[0].strip(): line for line in shown.out.splitlines()}
    assert lines["low - same"].count("*") == 0 and lines["low - high"].count("*") == 4
    assert "same" in (here / "models.html").read_text(encoding="utf-8")


def test_models_are_found_by_name_or_it_is_said_what_to_run(tslens, project):
    command = ("compare", "l2_h32", "shipped:l1_h64", "--judge", "local", *SHORT)
    done = tslens(*command, "--out", "elsewhere")
    assert done.code == 2 and "2 of 2 models have no such grades" in done.err
    wanted = "tslens grade --model l2_h32 --judge local --samples 2 --max-tokens 12 --out elsewhere"
    assert wanted in done.err and "--model shipped:l1_h64" in done.err
    for model in ("l2_h32", "shipped:l1_h64"):
        assert tslens("grade", "--model", model, "--judge", "local", *SHORT).code == 0
    done = tslens(*command, "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert [one["model"] for one in told["models"]] == ["l2_h32@seed0", "shipped:l1_h64@seed0"]
    assert told["differences"][0]["n"] == 100
    assert "model: run runs/l2_h32/seed0" in done.err and "model: shipped l1_h64" in done.err
    other = tslens(*command[:5], "--max-tokens", 12, "--seed", 3)
    assert other.code == 2 and "Run: tslens grade --model l2_h32" in other.err
    there = "With --samples 2 --seed 0 there are grades of l2_h32, shipped:l1_h64."
    assert there in other.err
    assert tslens(*command[:5], *SHORT, "--seed", 0).code == 0
    assert "there are grades" not in tslens(*command, "--prompts", "instructions").err


def test_grades_that_do_not_compare_are_refused(tslens, here, monkeypatch):
    _, files = graded(tslens, here, one=texts(40))
    monkeypatch.setattr(Counting, "version", "8")
    _, others = graded(tslens, here, two=texts(40, 1))
    done = tslens("compare", *files, *others, "--judge", "local")
    assert done.code == 1 and "do not compare: judge version" in done.err
    done = tslens("compare", *files, *files, "--judge", "local")
    assert done.code == 2 and "compares with none" in done.err
    done = tslens("compare", *files, *others, "--judge", "openai:gpt-4o")
    assert done.code == 2 and 'those of "local", not of "openai:gpt-4o"' in done.err and done.out == ""
    done = tslens("compare", *files, *others, "--judge", "local", "--samples", 3)
    assert done.code == 2 and "--samples finds a model's grades" in done.err


def test_models_of_one_name_stay_apart(tslens, here):
    (here / "a").mkdir()
    _, files = graded(tslens, here, same=texts(40), teacher=texts(40, 1))
    _, (other,) = graded(tslens, here / "a", same=texts(40, 2))
    command = ("compare", *files, other, here / files[0], "--judge", "local", "--html", "page.html")
    told = json.loads(tslens(*command, "--json").out)
    names = ["same", "teacher.jsonl", "same (2)"]
    assert [one["model"] for one in told["models"]] == names and told["teacher"] == "not asked"
    pairs = {(row["first"], row["second"]) for row in told["differences"]}
    assert pairs == {(names[0], names[1]), (names[0], names[2]), (names[1], names[2])}
    lines = [line.split("  ")[0] for line in tslens(*command).out.splitlines()]
    assert {"same", "same (2)", "same - same (2)"} <= set(lines)
    assert "same (2)" in (here / "page.html").read_text(encoding="utf-8")


def test_who_answered_is_told_where_it_differs(tslens, here):
    _, files = graded(tslens, here, one=texts(40), two=texts(40, 1), three=texts(40, 2))
    assert "warning" not in tslens("compare", *files, "--judge", "local").err
    for file, answered in zip(files, (["m-1"], ["m-1"], ["m-1", "m-2"]), strict=True):
        header, *rows = (here / file).read_text(encoding="utf-8").splitlines()
        header = json.dumps({**json.loads(header), "answered_by": answered})
        (here / file).write_text("\n".join([header, *rows]), encoding="utf-8")
    same = tslens("compare", *files[:2], "--judge", "local")
    assert "warning" not in same.err and f"({LINE}), answered by m-1" in same.out
    done = tslens("compare", *files, "--judge", "local")
    assert "warning: not the same model" in done.err and "three: m-1, m-2" in done.err
    assert f"({LINE})\n" in done.out and "\ntwo: answered by m-1\nthree: answered by m-1, m-2\n" in done.out
    told = json.loads(tslens("compare", *files, "--judge", "local", "--json").out)
    assert [one["answered_by"] for one in told["models"]] == [["m-1"], ["m-1"], ["m-1", "m-2"]]


def test_rows_of_an_earlier_run_do_not_stay_beside_a_model(tslens, here):
    _, files = graded(tslens, here, one=texts(40), two=texts(40, 1))
    stale = side_file(here / files[0], TEACHER)
    stale.write_bytes(
        side_file(here / files[0], TRUE_ENDING).read_bytes().replace(b"true ending", b"teacher", 1)
    )
    told = json.loads(tslens("compare", *files, "--judge", "local", "--json").out)
    assert told["teacher"]["n"] == 10
    done = tslens("grade", "--completions", here / "one.jsonl", "--judge", "local")
    assert stale.name in done.err and not stale.exists()
    told = json.loads(tslens("compare", *files, "--judge", "local", "--json").out)
    assert told["teacher"] == "not asked" and told["true_ending"]["n"] == 10
