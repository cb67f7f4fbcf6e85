"""Texts to grade, judges that are asked, and grades on disk."""

import json
import sys
from types import SimpleNamespace

import pytest

import tslens
from tslens.errors import DataError
from tslens.grading.completions import (
    given_again,
    graded_text,
    load_written,
    save_written,
    true_endings,
)
from tslens.grading.judge import AskedJudge, folder_of
from tslens.grading.prompts import (
    Beginning,
    load_beginnings,
    load_instruction_sets,
    load_short_prompts,
)
from tslens.grading.results import (
    SCHEMA,
    TEACHER,
    TRUE_ENDING,
    GradedModel,
    distinct,
    load_grades,
    load_sides,
    save_grades,
    side_file,
)
from tslens.grading.teacher import Teacher
from tslens.grading.teacher_texts import TeacherWriter, follow_on
from tslens.llm.calls import CallFailure
from tslens.llm.ledger import Ledger
from tslens.llm.wire import Answer
from tslens.provenance import provenance
from tslens.types import Grade, Graded, GradeFailure

HEADER = {"judge": "local", "judge_version": "7", "prompts": "beginnings-v1"}
POINTS = {"grammar": 7, "creativity": 5.5, "consistency": 8, "plot": 6, "age_group": "C"}


@pytest.fixture
def record():
    return provenance(command="x", seed=0, data="d", data_sha256="s", started="now", seconds=1.0)


def grade(graded, **fields):
    return Grade(graded, **{**POINTS, **fields})


def outcomes():
    first = Graded("Tom had", " a ball.", "b01", 0, 3, ended=True)
    asked = Graded("", "A cat.", "i01", 1, None, {"words": ["cat"]})
    again = Graded("Tom had", " a ball.", "b01", 0, 3, ended=True, repeat=1)
    return (
        grade(first, intervals={"plot": (4.0, 8.0)}, flags=("speaks to the judge",)),
        grade(asked, assessment="Line one\nand 'two'"),
        GradeFailure(Graded("Ann", "", "b02", 0), "refusal", "I can't"),
        grade(again, grammar=3),
    )


# Files ----------------------------------------------------------------------------------------------------------


def test_grades_come_back_as_they_were(tmp_path, record):
    found = GradedModel("m@seed0", {**HEADER, "samples": 2}, outcomes())
    paths = [tmp_path / name for name in ("one.jsonl", "two.jsonl")]
    for path in paths:
        save_grades(found, path, record)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    read = load_grades(paths[0])
    assert read.label == "m@seed0" and list(read.outcomes) == list(found.outcomes)
    assert read.header == {"schema": SCHEMA, **HEADER, "samples": 2, "model": "m@seed0"}
    assert [one.graded.key for one in read.grades] == ["b01/0", "i01/1"]
    assert [one.reason for one in read.failures] == ["refusal"]
    assert [one.grammar for one in read.repeats] == [3]
    assert read.summary.n == 2 and read.summary.failures == {"refusal": 1}
    assert json.loads((tmp_path / "one.provenance.json").read_text())["seconds"] == 1.0


def test_rows_beside_a_model_are_found_by_its_file(tmp_path, record):
    path = tmp_path / "beginnings_t0.7.jsonl"
    save_grades(GradedModel("m", HEADER, outcomes()), path, record)
    assert load_sides(path) == []
    for label in (TEACHER, TRUE_ENDING):
        save_grades(GradedModel(label, HEADER, outcomes()[:1]), side_file(path, label), record)
    assert [one.label for one in load_sides(path)] == [TRUE_ENDING, TEACHER]
    assert side_file(path, TRUE_ENDING).name == "beginnings_t0.7.true_ending.jsonl"
    assert load_grades(path).label == "m"


@pytest.mark.parametrize(
    "lines",
    [
        [{"schema": "tslens.heads/1", "model": "m"}],
        [{"schema": SCHEMA}],
        [{"schema": SCHEMA, "model": "m", **HEADER}, {"grammar": 3}],
        [{"schema": SCHEMA, "model": "m", **HEADER}, {"prompt": "x", "reason": "cut"}],
        [{"schema": SCHEMA, "model": "m", **HEADER}, [1]],
        *([{"schema": SCHEMA, "model": "m", **HEADER, name: None}] for name in HEADER),
    ],
)
def test_what_are_no_grades_is_refused(lines, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(DataError, match=r"x\.jsonl"):
        load_grades(path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"grammar": 999},
        {"plot": -1},
        {"plot": float("nan")},
        {"creativity": float("inf")},
        {"consistency": True},
        {"grammar": "7"},
        {"grammar": None},
        {"age_group": "Z"},
        {"age_group": 3},
        {"intervals": {"plot": [4, float("inf")]}},
        {"intervals": {"plot": [4]}},
        {"completion": 5},
        {"sample": "0"},
    ],
)
def test_grades_that_no_judge_gives_are_refused(wrong, tmp_path):
    path = tmp_path / "x.jsonl"
    rows = [grade(Graded("Tom", " ran.", "b01", 0)).to_json(), outcomes()[0].to_json()]
    lines = [{"schema": SCHEMA, "model": "m", **HEADER}, *rows]
    path.write_text("\n".join(map(json.dumps, lines)))
    assert len(load_grades(path).grades) == 2
    path.write_text("\n".join(map(json.dumps, [*lines[:2], {**rows[1], **wrong}])))
    with pytest.raises(DataError, match=r"Line 3 of .*x\.jsonl is no grade"):
        load_grades(path)


def test_models_of_one_label_are_told_apart():
    found = distinct([GradedModel(label, HEADER, ()) for label in ("x", "y", "x", TEACHER, "x")])
    assert [one.label for one in found] == ["x", "y", "x (2)", "teacher (2)", "x (3)"]


def test_grades_show_as_a_table_in_a_notebook():
    found = GradedModel("m", HEADER, (*outcomes(), grade(Graded("Tom", " <b> & co.", "b03", 0))))
    frame = found.to_pandas()
    assert list(frame["grammar"].dropna()) == [7, 7, 3, 7] and len(frame) == 5
    assert list(frame["reason"].dropna()) == ["refusal"] and list(frame["prompt_id"])[:2] == ["b01", "i01"]
    html = found._repr_html_()
    assert html.count("<tr") == 6 and "refusal" in html and "&lt;b&gt; &amp; co." in html
    assert "NaN" not in html and "<table" in GradedModel("m", HEADER, outcomes()[:1])._repr_html_()


def test_written_texts_are_kept_under_their_header_alone(tmp_path):
    path, texts = tmp_path / "written.jsonl", [one.graded for one in outcomes()]
    assert load_written(path, {"seed": 0}) is None
    save_written(path, {"seed": 0}, texts)
    assert load_written(path, {"seed": 0}) == texts
    assert load_written(path, {"seed": 1}) is None


# Texts ----------------------------------------------------------------------------------------------------------


def test_true_endings_are_those_of_beginnings():
    found = true_endings([*load_beginnings(), *load_instruction_sets(), *load_short_prompts()])
    assert len(found) == 50 and all(one.ended and one.sample == 0 for one in found)
    assert found[0].completion == load_beginnings()[0].ending and found[0].prompt_id == "b01"


def test_a_share_is_given_again():
    texts = [Graded("Tom", f" ran {i}.", "b01", i) for i in range(40)]
    found = given_again(texts, 0.25, seed=1)
    assert len(found) == 10 and all(one.repeat == 1 for one in found)
    assert [one.sample for one in found] == sorted({one.sample for one in found})
    assert found == given_again(texts, 0.25, seed=1) != given_again(texts, 0.25, seed=2)
    assert given_again(texts, 0, seed=1) == [] and len(given_again(texts, 1, seed=1)) == 40


# A large model ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "reply", "joined"),
    [
        ("Tom had a", "red ball.", " red ball."),
        ("Tom had a", "  red ball.\n", " red ball."),
        ("Tom had a", "Tom had a red ball.", " red ball."),
        ("Tom ran", ", and fell.", ", and fell."),
        ("Tom ran.\n", "Then he fell.", "Then he fell."),
        ('Tom said, "', "Hello!", "Hello!"),
        ('"Hello," said Tom. "Hi!"', "Then he ran.", " Then he ran."),
        ("Tom ran.", '"Stop!"', ' "Stop!"'),
    ],
)
def test_a_reply_follows_its_prompt(prompt, reply, joined):
    assert follow_on(prompt, reply) == joined


def answered(ledger, call, text, finish_reason="stop"):
    number = ledger.sent(call, n_try=1, worst_usd=0.1)
    usage = {"prompt_tokens": 9, "completion_tokens": 9}
    ledger.reply(
        number, call.record, Answer("id", text, "loop-9", "fp", finish_reason, usage, None, ""), usd=0.1
    )


def test_the_teacher_s_texts_come_or_are_failures(tmp_path):
    prompts = [load_beginnings()[0], load_instruction_sets()[0], load_short_prompts()[0]]
    writer = TeacherWriter("loop-1", 2, 80, seed=4)
    calls = list(writer.calls(prompts))
    assert len({call.hash for call in calls}) == len({call.key for call in calls}) == 6
    assert all((call.temperature, call.max_tokens, call.answer) == (1.0, 80, None) for call in calls)
    assert [call.seed for call in calls] == [4, 5] * 3, "a server that heeds seeds writes each sample anew"
    assert prompts[0].text in calls[0].messages[0][1] and "Words: dig" in calls[2].messages[0][1]
    with Ledger(tmp_path, "job") as ledger:
        answered(ledger, calls[0], "made a nest.")
        answered(ledger, calls[2], "Once there was", "length")
        unkept = {calls[1].key: CallFailure(calls[1].key, "budget", "no")}
        found = writer.read(prompts, ledger, unkept)
    assert found[0] == graded_text(prompts[0], " made a nest.", 0, 4, True)
    assert found[1].graded.seed == found[3].graded.seed == 5
    assert isinstance(found[1], GradeFailure) and (found[1].reason, found[1].graded.key) == (
        "budget",
        "b01/1",
    )
    assert (found[2].prompt, found[2].completion, found[2].ended) == ("", "Once there was", False)
    assert [one.reason for one in found[3:]] == ["unreachable"] * 3


def test_texts_with_one_name_keep_their_own_outcomes(tmp_path):
    texts = [Graded("Tom", " ran.", "b01", 0), Graded("Tom", " fell.", "b01", 0)]
    with Ledger(tmp_path, "job") as ledger:

        def answer(calls):
            assert len({call.key for call in calls}) == len(calls)
            for call in calls:
                if "fell" in call.messages[0][1]:
                    yield CallFailure(call.key, "budget", "no")
                else:
                    answered(ledger, call, "Good." if call.answer is None else json.dumps(POINTS))

        judge = AskedJudge(Teacher("loop-1"), ledger, answer)
        first, second = judge.grade(texts)
        assert judge.answered_by(texts) == ["loop-9"]
    assert first == grade(texts[0], assessment="Good.")
    assert second == GradeFailure(texts[1], "budget", "no")


def test_judges_say_who_they_are(tmp_path):
    with Ledger(tmp_path, "job") as ledger:
        judge = AskedJudge(Teacher("org/m", "one_call", server="http://x/v1"), ledger, list)
    assert judge.name == "openai:org/m" and judge.version == "rubric 1, one_call, at http://x/v1"
    assert folder_of(judge.name) == "openai_org_m" and folder_of("local") == "local"


# In one call ------------------------------------------------------------------------------------------------------


class Fixed:
    """Gives every text the same grades."""

    name, version = "fixed", "1"

    def grade(self, texts, progress=lambda n: None):
        progress(len(texts))
        return [grade(text) for text in texts]


def test_a_model_is_graded_in_one_call(tiny_model):
    prompts = [Beginning("a", "Once upon"), Beginning("b", "Tom")]
    settings = {"seed": 3, "prompts": prompts, "samples": 2, "max_tokens": 5}
    seen = []
    found = tslens.grade(tiny_model, judge=Fixed(), progress=seen.append, **settings)
    assert found.label == "l2_h64" and found.header["judge_version"] == "1" and seen == [4]
    written = [one.graded for one in found.outcomes]
    assert [(one.prompt, one.key, one.seed) for one in written] == [
        ("Once upon", "a/0", 3),
        ("Once upon", "a/1", 3),
        ("Tom", "b/0", 3),
        ("Tom", "b/1", 3),
    ]
    assert found.summary.means["plot"].mean == 6 and found.summary.means["plot"].n_prompts == 2
    again = tslens.grade(written, seed=0, judge=Fixed())
    assert list(again.outcomes) == list(found.outcomes)
    assert again.header["prompts_sha256"] == found.header["prompts_sha256"]


def test_what_a_script_graded_can_be_saved_and_read(tmp_path, record):
    texts = [Graded(one.text, " ran.", one.id, 0) for one in load_beginnings()[:2]]
    found = tslens.grade(texts, seed=0, judge=Fixed())
    save_grades(found, tmp_path / "x.jsonl", record)
    read = load_grades(tmp_path / "x.jsonl")
    assert list(read.outcomes) == list(found.outcomes) and read.header["prompts"] == "beginnings-v1"


def test_without_a_judge_it_is_the_local_one(monkeypatch):
    monkeypatch.setitem(sys.modules, "tslens.grading.local.judge", SimpleNamespace(LocalJudge=Fixed))
    (one,) = tslens.grade([Graded("Tom", " ran.", "a", 0)], seed=0).grades
    assert one.plot == 6
