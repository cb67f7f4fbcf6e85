"""``tslens audit judge`` as a user runs it, with judges that cost nothing."""

import json
from contextlib import contextmanager

import loopback
import pytest

from tslens.audit import judges
from tslens.audit.judges import JudgeAuditSize, plan_audit
from tslens.cli import audit_judge
from tslens.corpus.author import write_stories
from tslens.corpus.stories import is_validation
from tslens.files import read_jsonl
from tslens.types import Grade, GradeFailure

SMALL = JudgeAuditSize(12, 10, 6, 1)
SCORES = "category,prompt,completion,model_name,Plot_A_score\n" + "".join(
    f"Plot,Tom {number // 2},ran {number}.,m{number % 2},{number % 3 / 2}\n" for number in range(24)
)


class Fake:
    """Seven for all, so that nothing is seen; ``fails``: which text gets no grade, by number."""

    name, version = "local", "fake 1 (not GPT-4)"

    def __init__(self, fails=()):
        self.fails = fails
        self.n_texts = 0

    def grade(self, texts, progress=lambda n_done: None):
        self.n_texts = len(texts)
        return [
            GradeFailure(text, "too short", "no words")
            if number in self.fails
            else Grade(text, 7.0, 7.0, 7.0, 7.0, "C")
            for number, text in enumerate(texts)
        ]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(judges, "QUICK", SMALL)
    monkeypatch.setenv("TSLENS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TSLENS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data" / "grades").mkdir(parents=True)


@pytest.fixture
def judge(monkeypatch):
    """The local judge is the one that is put here."""
    fake = Fake()

    @contextmanager
    def open_judge(model, terms, out, **_):
        assert model is None and terms is None
        yield fake

    monkeypatch.setattr(audit_judge, "open_judge", open_judge)
    return fake


@pytest.fixture
def scores(tmp_path):
    path = tmp_path / "data" / "grades" / "human_scores_tinystories_1m_8m_28m.csv"
    path.write_text(SCORES, encoding="utf-8")


@pytest.fixture
def real(tmp_path, parser):
    """Stories that carry no labels; a twentieth of them is held out."""
    path = tmp_path / "data" / "tinystories.jsonl"
    rows = list(write_stories(400, seed=9, text_only=True))
    path.write_text("".join(json.dumps({"text": story.text}) + "\n" for story in rows), encoding="utf-8")
    return path, [story.text for story in rows if is_validation(story)]


def test_a_blind_judge_fails_and_every_text_is_in_the_file(tslens, judge, scores, real, tmp_path):
    path, held_out = real
    done = tslens("audit", "judge", "--judge", "local", "--quick", "--stories", path)
    assert done.code == 1, done.err
    assert done.err.splitlines()[0] == "tslens audit judge: planting faults for local (seed 0)"
    assert "judge: local (fake 1 (not GPT-4))" in done.out and "This judge is not GPT-4" in done.out
    for words in (
        "Sensitivity",
        "Dose",
        "Cross-talk",
        "Length",
        "Position",
        "Itself",
        "the local judge is fitted on these scores; reports/judge has figures without them",
        "Injection",
        "FAILS: word_order medium, author by",
    ):
        assert words in done.out, words
    assert "checks hold." in done.out and "wrote runs/audit/judge_local.jsonl" in done.out
    assert max(map(len, done.out.splitlines())) <= 140
    header, rows = read_jsonl(tmp_path / "runs/audit/judge_local.jsonl", "tslens.audit_judge_text/1")
    assert len(rows) == judge.n_texts == header["n_texts"]
    assert header["judge_version"] == judge.version and header["passed"] is False
    assert header["sources"] == ["author:12:40000", "tinystories.jsonl"]
    assert {row["source"] for row in rows} == {"author", "real"}
    texts = {
        row["prompt"] + row["completion"]
        for row in rows
        if (row["source"], row["truth"]) == ("real", "clean")
    }
    assert texts == set(held_out[:12])
    told = json.loads((tmp_path / "runs/audit/judge_local.provenance.json").read_text(encoding="utf-8"))
    assert told["data"] == "author:12:40000+tinystories.jsonl" and "--quick" in told["command"]


def test_the_same_command_writes_the_same_bytes(tslens, judge, tmp_path):
    for name in ("a", "b"):
        done = tslens("audit", "judge", "--judge", "local", "--quick", "--out", f"{name}.jsonl", "--json")
        assert done.code == 1
        assert json.loads(done.out)["schema"] == "tslens.audit_judge/1"
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_what_is_absent_is_said_and_ends_with_code_3(tslens, judge):
    done = tslens("audit", "judge", "--judge", "local", "--quick", "--only", "people", "--only", "length")
    assert done.code == 3, done.err
    assert "not run: real stories: there is no" in done.out
    plan = plan_audit("openai:gpt-4o-mini", seed=0, size=SMALL, parts=("people", "length"))
    assert [line.split(":")[0] for line in plan.missing] == ["real stories", "agreement with people"]
    judge.fails = {0}
    done = tslens("audit", "judge", "--judge", "local", "--quick", "--only", "itself", "--json")
    value = json.loads(done.out)
    assert done.code == 3 and value["failures"] == {"too short": 1} and value["passed"]


@pytest.mark.parametrize("has_scores", [True, False])
def test_the_local_judge_is_not_held_against_scores_that_it_was_fitted_on(
    tslens, judge, tmp_path, has_scores
):
    if has_scores:
        path = tmp_path / "data" / "grades" / "human_scores_tinystories_1m_8m_28m.csv"
        path.write_text(SCORES, encoding="utf-8")
    done = tslens("audit", "judge", "--judge", "local", "--quick", "--only", "people", "--json")
    value = json.loads(done.out)
    assert done.code == 0 and value["missing"] == [] and value["measures"] == [], done.err
    assert value["n_texts"] == 0 and "fitted on these scores" in value["notes"][0]


def test_without_a_parser_the_real_part_is_missing(tslens, judge, monkeypatch, tmp_path):
    from tslens.errors import DataError

    def absent():
        raise DataError("There is no parser.", "Install one.")

    monkeypatch.setattr("tslens.corpus.annotate.open_parser", absent)
    rows = [story.text for story in write_stories(100, seed=9, text_only=True)]
    (tmp_path / "some.jsonl").write_text(
        "".join(json.dumps({"text": t}) + "\n" for t in rows), encoding="utf-8"
    )
    done = tslens(
        "audit", "judge", "--judge", "local", "--quick", "--only", "length", "--stories", "some.jsonl"
    )
    assert done.code == 3 and "not run: real stories: There is no parser." in done.out, done.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--judge", "gpt-4o"], 'no judge "gpt-4o"'),
        (["--judge", "local", "--batch"], "--batch is for a large model"),
        (["--judge", "local", "--timeout", 120], "--timeout is for a large model"),
        (["--judge", "local", "--out", "x.csv"], "x.csv"),
        (["--judge", "local", "--out", "x.jsonl.gz"], "would be packed"),
        (["--judge", "local", "--only", "nonsense"], "planted"),
        (["--judge", "local", "--stories", "absent.jsonl"], "There is no file absent.jsonl"),
        (["--judge", "local", "--stories", "few.jsonl"], "is held out"),
    ],
)
def test_what_makes_no_sense_is_refused(tslens, tmp_path, options, words):
    (tmp_path / "few.jsonl").write_text('{"text": "Tom ran."}\n', encoding="utf-8")
    done = tslens("audit", "judge", *options)
    assert done.code in (1, 2) and words in done.err, done.err
    assert "Traceback" not in done.err and not (tmp_path / "runs").exists()


def test_a_dry_run_grades_nothing(tslens, tmp_path):
    done = tslens("audit", "judge", "--judge", "local", "--quick", "--dry-run")
    assert done.code == 0 and "texts would be graded here" in done.out
    asked = ["--judge", "openai:gpt-4o-mini", "--quick", "--only", "itself", "--dry-run", "--json"]
    done = tslens("audit", "judge", *asked)
    assert done.code == 0, done.err
    value = json.loads(done.out)
    assert value["calls"] == 2 * 2 * SMALL.n_again and value["worst_usd"] > 0  # each text twice, in two turns
    assert not (tmp_path / "runs" / "audit").exists()


def test_a_large_model_is_audited_through_a_server(tslens, monkeypatch, tmp_path):
    points = {"grammar": 7, "creativity": 5, "consistency": 8, "plot": 6, "age_group": "C"}

    def answer(body):
        return json.dumps(points) if "response_format" in body else "Well done."

    for name in (
        "OPENAI_BASE_URL",
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    with loopback.Loopback(answer=answer) as server:
        monkeypatch.setenv("OPENAI_API_KEY", server.key)
        command = ["--judge", "openai:loop-1", "--base-url", server.url, "--price", "1,2", "--quick"]
        done = tslens("audit", "judge", *command, "--only", "itself", "--json")
        n_asked = sum(server.asked.values())
        again = tslens("audit", "judge", *command, "--only", "itself", "--json")
        assert sum(server.asked.values()) == n_asked > 0
    assert done.code == again.code == 3, done.err  # real stories are missing
    value = json.loads(done.out)
    assert (
        value["judge"] == "openai:loop-1"
        and value["failures"] == {}
        and value["n_texts"] == 2 * SMALL.n_again
    )
    assert done.out == again.out
    assert (tmp_path / "runs" / "audit" / "judge_openai_loop-1.jsonl").exists()
