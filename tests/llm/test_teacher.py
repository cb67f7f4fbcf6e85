"""A large model as a teacher: every text graded once through a server that misbehaves, or its failure told."""

import json
from collections import Counter

import pytest

from tslens.grading.rubric import PROTOCOLS, SEPARATOR
from tslens.grading.teacher import Teacher
from tslens.llm.calls import CallFailure
from tslens.llm.client import Client
from tslens.llm.connect import server_name
from tslens.types import Grade, Graded, GradeFailure

N_TEXTS = 60
FAULTS = {"busy": 0.08, "error": 0.05, "reset": 0.05, "truncated": 0.05}
OF_STRUCTURE = {"misfit": 0.05, "cut": 0.05}  # an assessment of the first turn is any text
POINTS = {"grammar": 7, "creativity": 5.5, "consistency": 8, "plot": 6, "age_group": "C"}


def texts(n=N_TEXTS):
    return [
        Graded(f"Tom {i // 4} had a", f" red ball {i}.", f"b{i // 4:02d}", i % 4, seed=i) for i in range(n)
    ]


def by_points(body):
    """The server's model: the grade of grammar is the number of the ball, so that each can be told."""
    messages = body["messages"]
    number = int(messages[0]["content"].split(" red ball ")[1].split(".")[0])
    points = {**POINTS, "grammar": number % 11}
    if "response_format" not in body:
        return f"Well done, number {number}."
    if len(messages) == 1:
        return json.dumps({"assessment": f"Well done, number {number}.", **points})
    assert messages[1] == {"role": "assistant", "content": f"Well done, number {number}."}
    return json.dumps(points)


def grade(teacher, works, ledger, server, price=None, **options):
    client = Client(ledger, price=price, base_url=server.url, **options)
    unkept = {}
    for calls in teacher.rounds(works, ledger):
        outcomes = list(client.answer(calls))
        unkept.update({one.key: one for one in outcomes if isinstance(one, CallFailure)})
    return list(teacher.read(works, ledger, unkept))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_text_is_graded_once_through_faults(protocol, serve, open_ledger, price, fast, tmp_path):
    server = serve(answer=by_points, faults=FAULTS | (OF_STRUCTURE if protocol == "one_call" else {}))
    teacher, ledger = Teacher("loop-1", protocol, server=server_name(server.url)), open_ledger()
    found = grade(teacher, texts(), ledger, server, price, budget_usd=5.0)
    assert all(isinstance(one, Grade) for one in found)
    assert [one.graded for one in found] == texts()
    for number, one in enumerate(found):
        assert one.grammar == number % 11 and (one.creativity, one.age_group) == (5.5, "C")
        assert one.assessment == f"Well done, number {number}."
        assert Grade.from_json(json.loads(json.dumps(one.to_json()))) == one
    whole = Counter(row["prompt"] for row in server.rows if row["fault"] is None)
    assert set(whole.values()) == {1} and len(whole) == N_TEXTS * (2 if protocol == "two_turns" else 1)
    assert server.usd <= ledger.spent_usd <= 5.0
    n_asked = len(server.rows)
    assert grade(teacher, texts(), ledger, server) == found and len(server.rows) == n_asked
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or server.key.encode() not in path.read_bytes()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (json.dumps({**POINTS, "plot": 11}), "schema"),
        (json.dumps({**POINTS, "grammar": "seven"}), "schema"),
        (json.dumps({**POINTS, "grammar": "7"}), "schema"),
        (json.dumps({**POINTS, "grammar": True}), "schema"),
        (json.dumps({**POINTS, "grammar": float("nan")}), "schema"),
        (json.dumps(POINTS)[:-1] + ', "plot": 9}', "schema"),
        ("Sieben von zehn, sehr sch\u00f6n.", "schema"),
        ("Grammar: 7/10, Creativity: 5/10", "schema"),
        (json.dumps(POINTS)[:30], "schema"),
    ],
)
def test_what_is_no_grade_is_a_failure_and_never_a_zero(answer, reason, serve, open_ledger, fast):
    def judge(body):
        return answer if "response_format" in body else "Good."

    server = serve(answer=judge)
    teacher = Teacher("loop-1", server=server_name(server.url))
    found = grade(teacher, texts(2), open_ledger(), server, tries=2)
    assert [type(one) for one in found] == [GradeFailure] * 2
    assert {one.reason for one in found} == {reason}
    row = json.loads(json.dumps(found[0].to_json()))
    assert row["reason"] == reason and row["completion"] == " red ball 0." and "grammar" not in row


def test_refusals_in_either_turn_are_told(serve, open_ledger, fast):
    server = serve(answer=by_points, faults={"refusal": 1.0})
    for protocol in PROTOCOLS:
        teacher = Teacher("loop-1", protocol, server=server_name(server.url))
        found = grade(teacher, texts(3), open_ledger(protocol), server, tries=2)
        assert [one.reason for one in found] == ["refusal"] * 3


def test_the_second_turn_is_asked_only_behind_an_assessment(open_ledger):
    teacher, ledger = Teacher("loop-1"), open_ledger()
    first, second = teacher.rounds(texts(5), ledger)
    assert len(first) == 5 and second == []
    planned = list(teacher.calls_at_most(texts(5), ledger))
    assert len(planned) == 10 and sum(call.answer is not None for call in planned) == 5


def test_a_text_given_again_is_another_call(open_ledger):
    once = texts(1)[0]
    again = Graded(once.prompt, once.completion, once.prompt_id, once.sample, once.seed, None, repeat=1)
    teacher = Teacher("loop-1", "one_call")
    calls = [teacher.whole_call(one) for one in (once, again)]
    assert calls[0].messages == calls[1].messages and calls[0].hash != calls[1].hash
    assert [call.key for call in calls] == ["grade b00/0", "grade b00/0 again 1"]
    for protocol in PROTOCOLS:
        teacher = Teacher("loop-1", protocol, seed=2**63 - 1)
        calls = next(iter(teacher.rounds([once, again], open_ledger(protocol))))
        assert [call.seed for call in calls] == [2**63 - 1, 0], (
            "another request, of a number that servers take"
        )
    assert SEPARATOR in calls[0].messages[0][1]
