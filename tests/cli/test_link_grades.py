"""``tslens link --judge`` by a judge whose grades are known: what is graded and kept, how a stopped run goes on."""

import json
import shutil
import sys
from dataclasses import replace
from functools import cache, partial
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest

from tslens.cli import link_run
from tslens.cli.link_grades import GradeFolder
from tslens.cli.link_groups import map_groups
from tslens.grading.completions import Drawing
from tslens.grading.rubric import CRITERIA
from tslens.link.grade_map import dose_pairs, dose_texts
from tslens.link.map_report import load_map
from tslens.link.readouts import author_stories
from tslens.link.story_costs import CostStories
from tslens.model.load import find_model
from tslens.types import Grade, Graded, GradeFailure

pytestmark = pytest.mark.usefixtures("told_once")
MODEL = ("link", "--model", "shipped:l1_h64", "--stories", "author:60:7", "--n-stories", 6, "--pairs", 20)
STEM = "author-60-7_model_n6_seed0_pairs20"
OF_JUDGE = {
    *("judge", "judge_version", "prompts", "prompts_sha256", "n_prompts", "drawing", "doses", "means"),
    *("not_graded", "failures"),
}
PARTS = ["L0H0", "L0H1", "L0H2", "L0H3", "L0.attn", "L0.mlp", "L0"]
GRADED = tuple("--judge local --prompts six.jsonl --samples 1 --max-tokens 20 --most-graded 2".split())
LINE = "tslens local judge 7, not GPT-4"
N_RUNGS = 6
N_DOSED = 2  # stories


@cache
def doses():
    """Points of the stories and their twins with a fault, by their texts."""
    pairs = dose_pairs(islice(author_stories(), N_DOSED), seed=0)
    return {text.prompt + text.completion: 8.0 for text in dose_texts(pairs)} | {
        pair.twin.prompt + pair.twin.completion: 6.0 for pair in pairs
    }


class Counting:
    """Points are by the letters of a text, plot is five always; a text of one or two letters has no grade.

    A planted fault costs two points of grammar or consistency.
    """

    name, version = "local", LINE
    seen: list = []  # noqa: RUF012
    most: float = float("inf")  # texts, then Ctrl-C

    def grade(self, texts, progress=lambda n: None):
        return [self.one(text) for text in texts]

    def one(self, text):
        if len(self.seen) >= self.most:
            raise KeyboardInterrupt
        self.seen.append(text)
        if len(text.completion) < 3:
            return GradeFailure(text, "too short", "two letters")
        if (points := doses().get(text.prompt + text.completion)) is not None:
            return Grade(text, points, 5.0, points, 5.0, age_group="B")
        points = {name: float(sum(text.completion.encode()) % (7 + k)) for k, name in enumerate(CRITERIA)}
        return Grade(text, **(points | {"plot": 5.0}), age_group="B")


@pytest.fixture(autouse=True)
def counting(monkeypatch):
    """The judge; what it has graded so far is ``seen``."""
    monkeypatch.setitem(sys.modules, "tslens.grading.local.judge", SimpleNamespace(LocalJudge=Counting))
    monkeypatch.setattr(Counting, "seen", [])
    return Counting


@pytest.fixture(autouse=True)
def small(monkeypatch, make_link_small):
    make_link_small(monkeypatch, n_dosed=N_DOSED)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, six_beginnings):
    """Where all tests of the shipped model run, so that the readouts are read once."""
    made = tmp_path_factory.mktemp("link")
    shutil.copy(six_beginnings, made)
    return made


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def run(link_json, here):
    """Runs the command on the shipped model; its JSON."""
    return partial(link_json, *MODEL)


def results(folder):
    return folder / "runs" / "l1_h64-shipped" / "seed0" / "results" / "link"


def is_refused(*_, **__):
    raise AssertionError("this was made before")


def written(folder, name):
    lines = (folder / "written" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[1:]]


def test_grades_stand_beside_readouts(run, counting, here, six_beginnings):
    found = run(*GRADED)
    assert set(found) >= OF_JUDGE | {"schema", "loss_nats", "ngram", "rows"}
    assert found["judge"] == "local" and found["judge_version"] == LINE and found["n_prompts"] == 6
    assert found["drawing"] == {"samples": 1, "max_tokens": 20, "temperature": 1.0, "seed": 0}
    graded = [row for row in found["rows"] if row["evidence"] == "grade"]
    assert [row for row in found["rows"] if row["evidence"] == "readout"] == run()["rows"]
    names = {row["component"] for row in graded}
    assert len(names) == 2 and len(found["not_graded"]) == 5
    assert names | set(found["not_graded"]) == set(PARTS)
    assert [row["measure"] for row in graded] == [name for name in CRITERIA for _ in range(2)]

    texts = results(here) / "shipped-l1_h64@seed0_texts"
    beginnings = map(json.loads, six_beginnings.read_text(encoding="utf-8").splitlines())
    assert {row["prompt"] for row in written(texts, "whole")} == {one["prompt"] for one in beginnings}
    files = {path.stem for path in (texts / "written").glob("*.jsonl")}
    assert len(files) == 2 + N_RUNGS + 2 and {"whole", "ngram", "random0_0.06"} <= files
    points = {
        name: [Counting().one(as_text(row)) for row in written(texts, name)] for name in ("whole", *names)
    }
    for row in graded:
        assert row["whole"] == found["doses"].get(row["measure"], 1.0) and row["method"] == "mean"
        lost = [
            getattr(one, row["measure"]) - getattr(other, row["measure"])
            for one, other in zip(points["whole"], points[row["component"]], strict=True)
            if isinstance(one, Grade) and isinstance(other, Grade)
        ]
        assert row["drop"]["value"] == pytest.approx(np.mean(lost))
    assert all(row["drop"]["value"] == row["drop"]["high"] == 0 for row in graded if row["measure"] == "plot")
    assert found["doses"] == {"grammar": 2.0, "consistency": 2.0}
    assert set(found["means"]) == {"whole", "ngram"}
    grammar = [one.grammar for one in points["whole"] if isinstance(one, Grade)]
    assert found["means"]["whole"]["means"]["grammar"]["mean"] == pytest.approx(np.mean(grammar))
    assert found["means"]["ngram"]["n"] == 6


def as_text(row):
    return SimpleNamespace(**row)


def test_a_second_map_of_grades_grades_nothing(run, tslens, counting, here):
    run(*GRADED)
    path = results(here) / f"{STEM}_local.jsonl"
    before = path.read_bytes()
    counting.seen.clear()
    done = tslens(*MODEL, *GRADED, "--html", "graded.html")
    assert done.code == 0 and counting.seen == [] and path.read_bytes() == before
    assert "grammar, graded" in " ".join(done.out.split()) and "not GPT-4" in done.out
    assert "Grades by local, the model and the n-gram: grammar" in done.out
    page = (here / "graded.html").read_text(encoding="utf-8")
    assert LINE in page and "L0.attn" in page


STOPPED = (*GRADED, "--max-tokens", 8)


def kept_rows(folder, kind):
    """Texts that are kept of the runs of 8 tokens, by the name of the set."""
    found = {}
    for path in sorted((folder / kind).glob("*.jsonl")):
        header, *rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        if header["max_tokens"] == 8:
            found[header["model"]] = rows
    return found


def test_stopped_it_goes_on_where_it_was(tslens, here, counting, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(counting, "most", 70)
        done = tslens(*MODEL, *STOPPED)
    assert done.code == 3 and done.out == "" and "the same command goes on from here" in done.err
    assert len(counting.seen) == 70
    texts = results(here) / "shipped-l1_h64@seed0_texts"
    kept = kept_rows(texts, "grades/local")
    n_kept = sum(map(len, kept.values()))
    assert list(kept) and "whole" in kept and 70 - 6 < n_kept <= 70  # all but the set in which it was stopped
    n_doses = len(kept["doses"])
    monkeypatch.setattr(
        "tslens.cli.link_grades.write_without", is_refused
    )  # what was written is kept as well
    monkeypatch.setattr("tslens.cli.link_plan.write_by_ngram", is_refused)
    counting.seen.clear()
    done = tslens(*MODEL, *STOPPED, "--json")
    assert done.code == 0, done.err
    assert len(counting.seen) == n_doses + 6 * (1 + 2 + N_RUNGS + 1) - n_kept
    short = [row for rows in kept_rows(texts, "grades/local").values() for row in rows if "reason" in row]
    found = json.loads(done.out)
    assert sum(of_set["too short"] for of_set in found["failures"].values()) == len(short)


def test_stopped_while_it_writes(tslens, here, monkeypatch):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("tslens.cli.link_plan.write_by_ngram", stop)  # the last set
    command = (*MODEL, *GRADED, "--max-tokens", 7)
    assert tslens(*command).code == 3
    monkeypatch.undo()
    assert (results(here) / "shipped-l1_h64@seed0_texts" / "written" / "whole.jsonl").exists()


def test_torn_files_are_not_believed(tslens, here, counting):
    path = results(here) / f"{STEM}_local.jsonl"
    texts = results(here) / "shipped-l1_h64@seed0_texts"
    assert tslens(*MODEL, *STOPPED).code == 0
    first = path.read_bytes()
    torn = {
        texts / "written" / "random1_0.06.jsonl": lambda whole: whole[: len(whole) // 2],
        texts / "written" / "random0_0.25.jsonl": lambda whole: b"".join(whole.splitlines(True)[:-1]),
        texts / "written" / "ngram.jsonl": lambda whole: whole.replace(b'"sample"', b'"simple"'),
        texts / "grades" / "local" / "whole.jsonl": lambda whole: b"".join(whole.splitlines(True)[:-1]),
        texts / "grades" / "local" / "random1_0.25.jsonl": lambda whole: whole[:-30],
    }
    before = {file: file.read_bytes() for file in texts.rglob("*.jsonl")}
    for file, tear in torn.items():
        file.write_bytes(tear(before[file]))
        assert file.read_bytes() != before[file]
    counting.seen.clear()
    assert tslens(*MODEL, *STOPPED).code == 0
    assert {file: file.read_bytes() for file in before} == before and path.read_bytes() == first
    assert (
        len(counting.seen) == 2 * 6
    )  # what was written again is the same, so its grades are those that were kept


def take_kept_map(monkeypatch, here):
    """Whatever stories are read: the map that is kept, so that the same is written without."""
    report = load_map(results(here) / f"{STEM}.jsonl")

    def made(opened, *_):
        groups, _ = map_groups(opened.model, opened.source, (), seed=0)
        return link_run.Made(report, CostStories(opened.model, opened.held_out), groups)

    monkeypatch.setattr("tslens.cli.link_run.map_of_readouts", made)


def test_texts_are_of_the_stories_that_means_are_of(tslens, here, run, monkeypatch):
    """Fewer stories of the same source give other means, and so other texts: those that are kept are not believed."""
    run(*STOPPED)
    take_kept_map(monkeypatch, here)
    texts = results(here) / "shipped-l1_h64@seed0_texts" / "written"
    of_six = {path.name: path.read_bytes().partition(b"\n")[2] for path in texts.glob("*.jsonl")}
    assert tslens(*MODEL, *STOPPED, "--n-stories", 5).code == 0
    of_five = {path.name: path.read_bytes() for path in texts.glob("*.jsonl")}
    changed = {name for name, rows in of_five.items() if rows.partition(b"\n")[2] != of_six[name]}
    assert changed and not changed & {"whole.jsonl", "ngram.jsonl"}


def test_a_model_of_the_hub_has_a_folder_of_texts(tslens, run, here, monkeypatch, tmp_path):
    """Its name has a slash in it."""
    run()
    take_kept_map(monkeypatch, here)
    source = replace(find_model("shipped:l1_h64"), label="someone/model")
    monkeypatch.setattr("tslens.model.load.find_model", lambda _: source)
    monkeypatch.setattr("tslens.cli.link_plan.PASSING", ())
    assert tslens(*MODEL, *GRADED, "--max-tokens", 4, "--out", tmp_path).code == 0
    assert (tmp_path / "someone-model_texts" / "written" / "whole.jsonl").exists()


def test_the_name_of_many_equal_roles_fits_a_file(tmp_path):
    folder = GradeFolder(tmp_path, {}, is_refused)
    drawing = Drawing(samples=1, max_tokens=4, temperature=1.0, seed=0)
    names = ["heads:" + "+".join(f"some_role_{i}" for i in range(last)) for last in (40, 41)]
    texts = {name: [Graded("Once", f"upon {len(name)}", "p1", 0)] for name in names}
    for name in names:
        assert folder.written(name, (), drawing, 1, partial(texts.get, name)) == texts[name]
    assert [folder.written(name, (), drawing, 1, is_refused) for name in names] == list(texts.values())


# Nothing to say -----------------------------------------------------------------------------------------------


def test_of_a_model_that_passes_nothing_nothing_is_said(tslens, project, folder, counting):
    """After 40 steps of training a model writes words, and tells right from wrong in no readout."""
    command = ("link", "--model", "l2_h32", "--stories", "author:60:7", "--n-stories", 6, "--pairs", 40)
    found = json.loads(tslens(*command, "--json").out)
    assert found["rows"] == found["agreement"] == [] and found["loss_nats"] > 0
    assert not any(one["is_asked"] for one in found["readouts"])
    said = "The model passes no readout, so nothing is said about its parts."
    graded = ("--judge", "local", "--prompts", folder / "six.jsonl", "--samples", 1, "--max-tokens", 20)
    for more in ((), (*graded, "--html", "nothing.html")):
        done = tslens(*command, *more)
        assert done.code == 0 and said in done.out and "n-gram: of order" in done.out
    assert said in (project / "nothing.html").read_text(encoding="utf-8")
    assert "Grades by local" in done.out
    assert len(counting.seen) == 2 * 6  # the model and the n-gram alone: no set stands beside nothing
    (path,) = project.glob("runs/l2_h32/seed0/results/link/*_local.jsonl")
    made = load_map(path)
    assert made.rows == () and made.header["doses"] == {} and set(made.header["means"]) == {"whole", "ngram"}


def test_where_no_component_passes_the_model_and_the_n_gram_are_graded(run, counting, monkeypatch):
    monkeypatch.setattr("tslens.cli.link_plan.PASSING", ())
    counting.seen.clear()
    found = run(*GRADED, "--max-tokens", 6)
    assert found["rows"] == run()["rows"] and len(counting.seen) == 2 * 6 and found["not_graded"] == []


# A large model ------------------------------------------------------------------------------------------------


def test_a_dry_run_sends_nothing(tslens, here, monkeypatch):
    """No server listens there, and there is no key."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    asked = ("--judge", "openai:some/model", "--base-url", "http://127.0.0.1:9/v1", "--price", "1,2")
    command = (*MODEL, *STOPPED, *asked, "--dry-run")
    done = tslens(*command, "--json")
    assert done.code == 0, done.err
    planned = json.loads(done.out)
    shown = tslens(*command)
    assert shown.code == 0 and "Nothing was sent." in shown.out
    n_sets = 1 + 2 + N_RUNGS + 1
    assert f"Texts: {6 * n_sets} by the whole model, without {2 + N_RUNGS} sets" in " ".join(
        shown.out.split()
    )
    n_doses = int(" ".join(shown.out.split()).rpartition("n-gram; ")[2].split()[0])
    assert n_doses > 10 and planned["calls"] == 2 * (6 * n_sets + n_doses) and planned["worst_usd"] > 0
    assert "BEGIN" in planned["first"] and not list(results(here).glob("*openai*"))
