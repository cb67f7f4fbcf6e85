"""``tslens grade`` without a server, by a judge whose grades are known."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from tslens.cli.grade_prompts import follows_instructions, open_prompts
from tslens.grading.prompts import load_beginnings, load_instruction_sets, load_short_prompts
from tslens.grading.rubric import CRITERIA
from tslens.model.load import find_model
from tslens.types import Grade, GradeFailure

ROW = {"prompt", "completion", "prompt_id", "sample", "seed", "instructions", *CRITERIA, "age_group"}
SHORT = ("--samples", 2, "--max-tokens", 12)
OF_ASKING = [
    *(
        ("--budget", 5),
        ("--price", "1,2"),
        ("--concurrency", 32),
        ("--timeout", 120),
        ("--ledger", "runs/.ledger"),
    ),
    *(("--poll", 1), ("--base-url", "http://localhost/v1"), ("--retry-failed",), ("--protocol", "one_call")),
    ("--teacher",),
]
OF_WRITING = [
    *(
        ("--prompts", "short"),
        ("--samples", 10),
        ("--max-tokens", 9),
        ("--temperature", 1),
        ("--device", "cpu"),
    )
]
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


# A model ----------------------------------------------------------------------------------------------------------


def test_json_keeps_the_contract_and_a_second_run_is_the_same(tslens, project, monkeypatch):
    command = ("grade", "--model", "l2_h32", "--judge", "local", *SHORT, "--json")
    done = tslens(*command)
    assert done.code == 0, done.err
    assert done.err.splitlines()[0] == "tslens grade: l2_h32 by local (seed 0)"
    found = json.loads(done.out)
    assert found["schema"] == "tslens.grades/1" and found["judge"] == "local"
    assert found["judge_version"] == LINE and "not GPT-4" in found["note"]
    assert len(found["grades"]) == 100 and found["failures"] == []
    for row in found["grades"]:
        assert set(row) >= ROW and row["instructions"] is None and row["seed"] == 0
        assert row["grammar"] == len(row["completion"]) % 11
    of_prompts = {}
    for row in found["grades"]:
        of_prompts.setdefault(row["prompt_id"], []).append(row["grammar"])
    expected = ttest_1samp([np.mean(part) for part in of_prompts.values()], 0)
    mean = found["means"]["grammar"]
    assert mean["n_prompts"] == 50 and mean["mean"] == pytest.approx(np.mean(list(of_prompts.values())))
    assert (mean["low"], mean["high"]) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert found["true_ending"]["n"] == 50 and found["teacher"] == "not asked"

    stem = "beginnings-v1_step_000040_n2_seed0_max12"
    folder = project / "runs" / "l2_h32" / "seed0" / "results" / "grades" / "local"
    files = {path: path.read_bytes() for path in folder.glob(f"{stem}*.jsonl")}
    assert {path.name for path in files} == {f"{stem}.jsonl", f"{stem}.true_ending.jsonl"}
    monkeypatch.setattr("tslens.model.load.open_model", None)  # the texts are there
    assert tslens(*command).out == done.out
    assert {path: path.read_bytes() for path in files} == files


def test_the_table_names_the_judge_and_has_all_rows(tslens, project):
    done = tslens("grade", "--model", "l2_h32", "--judge", "local", *SHORT, "--html", "grades.html")
    assert done.code == 0, done.err
    assert f"judge: local ({LINE})" in done.out and "is not GPT-4" in done.out
    assert "It sees faults far better than it ranks good texts." in done.out
    rows = [line.split() for line in done.out.splitlines()]
    (mine,) = (row for row in rows if row[:1] == ["l2_h32@seed0"])
    assert mine.count("100") == 1 and "A" in mine
    assert any(row[:2] == ["true", "ending"] and "50" in row for row in rows)
    assert any(row[:3] == ["teacher", "not", "asked"] for row in rows)
    assert "wrote grades.html" in done.out
    page = (project / "grades.html").read_text(encoding="utf-8")
    assert "l2_h32@seed0" in page and LINE in page


def test_prompts_of_one_s_own_and_a_dry_run(tslens, project, tmp_path):
    prompts = tmp_path / "mine.jsonl"
    prompts.write_text('{"prompt": "Once, Tom"}\n{"prompt": "One day"}\n', encoding="utf-8")
    command = (
        "grade",
        "--model",
        "l2_h32",
        "--judge",
        "local",
        "--prompts",
        prompts,
        *SHORT,
        "--out",
        tmp_path / "o",
    )
    planned = json.loads(tslens(*command, "--dry-run", "--json").out)
    assert planned["calls"] == 0 and planned["texts"] == 4 and not (tmp_path / "o").exists()
    found = json.loads(tslens(*command, "--json").out)
    assert [(row["prompt"], row["prompt_id"]) for row in found["grades"]] == [
        (text, name) for text, name in (("Once, Tom", "p001"), ("One day", "p002")) for _ in range(2)
    ]
    assert found["true_ending"] == "not known"
    (path,) = (tmp_path / "o" / "local").glob("*.jsonl")
    assert path.name.startswith("l2_h32@seed0_mine-") and found["prompts"] in path.name


def test_models_that_follow_instructions_are_given_some():
    source = find_model("shipped:l1_h128-instruct")
    assert follows_instructions(source) and open_prompts(None, source).kind == "instructions"
    assert open_prompts(None, find_model("shipped:l1_h128")).prompts == load_beginnings()
    assert open_prompts("short", source).prompts == load_short_prompts()


def test_a_file_of_prompts_says_by_its_form_what_it_holds(tmp_path):
    asked = tmp_path / "asked.jsonl"
    rows = [{"prompt": "Words: cat, run\nStory:"}, {"prompt": "Words: dog\nSummary: A dog barks.\nStory:"}]
    asked.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = open_prompts(str(asked), None)
    assert found.kind == "instructions" and [one.held_out for one in found.prompts] == [False, True]
    short = tmp_path / "short.json"
    short.write_text(json.dumps({"prompts": {"factual": ["The sun is"], "reasoning": ["So he"]}}))
    assert [one.group for one in open_prompts(str(short), None).prompts] == ["factual", "reasoning"]
    plain = tmp_path / "plain.json"
    plain.write_text(json.dumps(["Once", "Words: cat\nStory:"]))
    assert open_prompts(str(plain), None).kind == "beginnings"


def test_instructions_are_checked_by_rule(tslens, here):
    asked = [one for one in load_instruction_sets() if one.instruction.kinds == ("words",)][:3]
    rows = [
        {"prompt": "", "completion": story, "instructions": one.instruction.to_json()}
        for one in asked
        for story in (f"He saw {', '.join(one.instruction.words)}.", "He saw nothing.")
    ]
    (here / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ("grade", "--completions", "asked.jsonl", "--judge", "local")
    found = json.loads(tslens(*command, "--json").out)
    assert [row["prompt_id"] for row in found["grades"]] == [one.id for one in asked for _ in range(2)]
    row = found["instructions"]["trained combinations"]
    assert row["kinds"]["words"]["mean"] == pytest.approx(0.5) and row["followed"]["mean"] == pytest.approx(
        0.5
    )
    shown = tslens(*command).out
    (line,) = (line.split() for line in shown.splitlines() if " words " in line)
    assert line[:4] == ["trained", "combinations", "words", "0.50"] and line[-1] == "6"
    assert line[5] == "0.00", "of the next prompt's words none is there"


def test_stopped_it_says_what_is_kept(tslens, project, monkeypatch):
    def stop(self, texts, progress):
        progress(1)
        raise KeyboardInterrupt

    command = ("grade", "--model", "l2_h32", "--judge", "local", *SHORT, "--seed", 77)
    with monkeypatch.context() as patch:
        patch.setattr(Counting, "grade", stop)
        done = tslens(*command)
    assert done.code == 3 and "completions are kept" in done.err and "anew" in done.err and done.out == ""
    monkeypatch.setattr("tslens.model.load.open_model", None)  # the texts are there
    assert tslens(*command).code == 0


def test_short_prompts_by_rule_and_what_is_left_for_a_judge(tslens, project):
    command = ("grade", "--model", "l2_h32", "--judge", "local", "--prompts", "short", *SHORT)
    done = tslens(*command, "--json")
    assert done.code == 3 and "no judge" in done.err and "--judge openai:MODEL" in done.err
    found = json.loads(done.out)
    n_ruled = 2 * sum(one.by_rule for one in load_short_prompts())
    assert set(found["groups"]) == {"factual", "reasoning", "context", "all"}
    assert n_ruled <= found["groups"]["all"]["n"] < 120
    assert sum(share["mean"] for share in found["groups"]["all"]["shares"].values()) == pytest.approx(1)
    assert len(found["answers"]) + len(found["failures"]) == 120
    assert {row["reason"] for row in found["failures"]} == {"no judge"}
    shown = tslens(*command)
    assert "by rule alone" in shown.out and "no judge" in shown.out


# A file -----------------------------------------------------------------------------------------------------------


def test_any_texts_are_one_more_model(tslens, here):
    path = write(here / "other.jsonl", texts(40))
    done = tslens("grade", "--completions", path, "--judge", "local", "--json")
    found = json.loads(done.out)
    assert done.code == 0 and found["model"] == "other" and len(found["grades"]) == 40
    assert [row["prompt_id"] for row in found["grades"][:5]] == ["b01"] * 4 + ["b02"]
    assert found["prompts"] == "beginnings-v1" and found["true_ending"]["n"] == 10
    (file,) = (here / "runs" / "other-completions" / "results" / "grades" / "local").glob(
        "other-??????.jsonl"
    )
    assert found["files"] == [str(file.relative_to(here))]


def test_failures_are_counted_beside_the_grades_and_too_many_leave_no_mean(tslens, here):
    few = write(here / "few.jsonl", [*texts(38), " zzz", " in zzz"])
    done = tslens("grade", "--completions", few, "--judge", "local", "--json")
    found = json.loads(done.out)
    assert done.code == 3 and "2 too short" in done.err and "it speaks of zzz" in done.err
    assert found["failures_by_reason"] == {"too short": 2} and found["means"]["plot"]["n"] == 38
    assert [row["reason"] for row in found["failures"]] == ["too short"] * 2
    assert set(found["failures"][0]) >= {"prompt", "completion", "reason"}
    assert "grammar" not in found["failures"][0] and len(found["grades"]) == 38
    assert "warning: 2 texts without a grade (2 too short); as b10/2: it speaks of zzz." in done.err
    one = write(here / "one.jsonl", [*texts(39), " zzz"])
    done = tslens("grade", "--completions", one, "--judge", "local", "--json")
    assert done.code == 3
    assert "warning: 1 text without a grade, too short; b10/3: it speaks of zzz." in done.err
    many = write(here / "many.jsonl", [*texts(30), *[" zzz"] * 10])
    done = tslens("grade", "--completions", many, "--judge", "local", "--json")
    assert done.code == 3 and "above 10%: no mean" in done.err and json.loads(done.out)["means"] == {}
    shown = tslens("grade", "--completions", many, "--judge", "local")
    assert shown.code == 3 and "10 too short" in shown.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--judge", "local"), "not clear what to grade"),
        (("--judge", "local", "--model", "l2_h32", "--completions", "c.jsonl"), "not clear what to grade"),
        (("--judge", "gpt-4o", "--model", "l2_h32"), 'no judge "gpt-4o"'),
        (("--judge", "openai:", "--model", "l2_h32"), "no judge"),
        (("--judge", "local", "--model", "l2_h32", "--batch"), "--batch is for a large model"),
        (("--judge", "local", "--model", "l2_h32", "--again", 0.5), "--again is for a large model"),
        *((("--judge", "local", "--model", "l2_h32", *words), "is for a large model") for words in OF_ASKING),
        (("--judge", "local", "--model", "l2_h32", "--no-teacher"), "--no-teacher is for a large model"),
        *(
            (("--judge", "local", "--completions", "c.jsonl", *words), "is for a model")
            for words in OF_WRITING
        ),
        (("--judge", "local", "--completions", "absent.jsonl"), "absent.jsonl"),
        (("--judge", "local", "--model", "l2_h32", "--prompts", "sonnets"), 'no prompts "sonnets"'),
        (("--judge", "local", "--model", "l2_h32", "--prompts", "absent.yaml"), "absent.yaml"),
        (("--judge", "local", "--model", "l2_h32", "--html", "page.txt"), "no name of a page"),
        (
            ("--judge", "local", "--model", "l2_h32", "--prompts", "short", "--html", "p.html", *SHORT),
            "for stories",
        ),
    ],
)
def test_bad_input_is_said_in_two_lines(tslens, project, arguments, said):
    done = tslens("grade", *arguments)
    assert done.code in (1, 2) and said in done.err and done.out == ""
    assert "Traceback" not in done.err
