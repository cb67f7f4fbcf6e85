"""The ledger is a cache that survives kills, and a purse that never forgets a send."""

import json
import os
from functools import partial

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tslens.errors import DataError, RunError, UsageError
from tslens.llm.calls import Call, CallFailure, Reply
from tslens.llm.ledger import Ledger
from tslens.llm.wire import Answer


@pytest.fixture
def make_calls(make_calls):
    """Calls for plain text."""
    return partial(make_calls, answer=None)


def an_answer(text="yes", fault=None):
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    return Answer("id-1", text, "loop-1-dated", "fp", "stop", usage, fault, "")


def record(ledger, call, text="yes", usd=0.25):
    n = ledger.sent(call, n_try=1, worst_usd=1.0)
    ledger.reply(n, call.record, an_answer(text), usd=usd)


def test_the_hash_covers_all_but_the_key(make_calls, plan_type):
    (call,) = make_calls(1, answer=plan_type)
    fields = {name: getattr(call, name) for name in call.__dataclass_fields__}
    assert Call(**{**fields, "key": "other"}).hash == call.hash
    changes = {
        "messages": (("user", "Another"),),
        "model": "loop-2",
        "temperature": 0.5,
        "max_tokens": 61,
        "seed": 1,
        "answer": None,
        "sample": 1,
        "server": "http://localhost:8000/v1",
    }
    assert set(changes) | {"key"} == set(fields)
    hashes = {Call(**{**fields, name: value}).hash for name, value in changes.items()}
    assert len(hashes | {call.hash}) == len(changes) + 1
    assert Call(**{**fields, "temperature": 1}).hash == call.hash  # 1 and 1.0 are one temperature


def test_a_reply_is_found_again_by_this_job_and_by_others(open_ledger, make_calls):
    first, second = make_calls(2)
    with open_ledger("one") as one:
        assert one.find(first) is None
        record(one, first, "näive \u2028 text\n")
        assert one.find(first) == Reply(
            first.key, "näive \u2028 text\n", "loop-1-dated", "fp", "stop", 7, 3, 0.0, True
        )
    with open_ledger("two") as two:
        record(two, second)  # its own file comes first although it is the later one
        assert two.find(first).text.startswith("näive") and two.find(second).text == "yes"
        assert two.n_replies == 2 and two.spent_usd == 0.25
    with open_ledger("one") as one:
        assert one.find(second).is_cached and one.spent_usd == 0.25


def test_the_record_holds_what_is_promised_and_no_prompt(open_ledger, make_calls):
    (call,) = make_calls(1, seed=5)
    ledger = open_ledger()
    record(ledger, call)
    header, sent, reply = map(json.loads, ledger.path.read_text(encoding="utf-8").splitlines())
    assert header["schema"] == "tslens.ledger/1" and header["job"] == "job"
    assert sent["event"] == "sent" and sent["worst_usd"] == 1.0 and sent["try"] == 1
    assert reply["sampling"] == {"temperature": 1.0, "max_tokens": 60, "seed": 5, "sample": 0}
    for name in (
        "hash",
        "prompt_hash",
        "model_asked",
        "server",
        "model",
        "fingerprint",
        "usage",
        "usd",
        "text",
        "time",
    ):
        assert name in reply
    assert "Story 0" not in ledger.path.read_text(encoding="utf-8")


def test_every_unsettled_send_counts_at_its_worst(open_ledger, make_calls):
    calls = make_calls(4)
    with open_ledger() as ledger:
        sends = [ledger.sent(call, n_try=1, worst_usd=1.0) for call in calls]
        assert ledger.spent_usd == 4.0
        ledger.reply(sends[0], calls[0].record, an_answer(), usd=0.25)
        ledger.reply(sends[1], calls[1].record, an_answer(fault="refusal"), usd=0.25)
        ledger.failed(sends[2], calls[2].hash, detail="429", is_free=True)
        assert ledger.spent_usd == 1.5
        assert ledger.find(calls[1]) is None and ledger.faults[calls[1].hash] == 1
    with open_ledger() as ledger:  # the fourth was on its way when this run was killed
        assert ledger.spent_usd == 1.5 and ledger.faults[calls[1].hash] == 1
        assert ledger.sent(calls[3], n_try=1, worst_usd=1.0) == 4


def test_what_was_given_up_stays_so_until_there_is_a_reply(open_ledger, make_calls):
    (call,) = make_calls(1)
    failure = CallFailure(call.key, "refusal", "no")
    with open_ledger() as ledger:
        ledger.gave_up(call, failure)
    with open_ledger() as ledger:
        assert ledger.find(call) == failure
        record(ledger, call)
        assert isinstance(ledger.find(call), Reply)
    with open_ledger("other") as ledger:
        assert isinstance(ledger.find(call), Reply)


def test_a_job_is_held_by_one_process(open_ledger):
    open_ledger()
    with pytest.raises(RunError, match="in use by another process"):
        open_ledger()
    open_ledger("other")
    open_ledger(read_only=True)


def test_reading_only_writes_nothing(tmp_path, make_calls):
    (call,) = make_calls(1)
    ledger = Ledger(tmp_path / "absent", "job", read_only=True)
    assert ledger.find(call) is None and ledger.spent_usd == 0.0
    with pytest.raises(RuntimeError):
        ledger.sent(call, n_try=1, worst_usd=1.0)
    assert not (tmp_path / "absent").exists()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(share=st.floats(0, 1))
def test_a_kill_at_any_byte_leaves_a_ledger_that_opens(tmp_path_factory, make_calls, share):
    folder = tmp_path_factory.mktemp("torn")
    calls = make_calls(3)
    with Ledger(folder, "job") as ledger:
        for call in calls:
            record(ledger, call)
    whole = (folder / "job.jsonl").read_bytes()
    cut = whole[: int(share * len(whole))]
    (folder / "job.jsonl").write_bytes(cut)
    n_kept = sum(b'"reply"' in line for line in cut.splitlines(keepends=True) if line.endswith(b"\n"))
    n_sent = sum(b'"sent"' in line for line in cut.splitlines(keepends=True) if line.endswith(b"\n"))
    with Ledger(folder, "other") as other:  # another job neither trips over it nor mends it
        assert other.n_replies == n_kept and (folder / "job.jsonl").read_bytes() == cut
    with Ledger(folder, "job") as ledger:
        assert ledger.n_replies == n_kept
        assert ledger.spent_usd == 0.25 * n_kept + 1.0 * (n_sent - n_kept)
        record(ledger, calls[2])
        assert ledger.find(calls[2]).text == "yes"
    with Ledger(folder, "job") as ledger:
        assert ledger.find(calls[2]).text == "yes"


@pytest.mark.parametrize(
    "line", ["nonsense", "[]", '{"event": "reply"}', '{"event": "unheard of"}', '{"event": "sent", "n": "x"}']
)
def test_another_broken_line_is_named(open_ledger, make_calls, line):
    (first,) = make_calls(1)
    with open_ledger() as ledger:
        record(ledger, first)
        path = ledger.path
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join([*lines[:2], line + "\n", *lines[2:]]), encoding="utf-8")
    with pytest.raises(DataError, match=r"Line 3 of .*job\.jsonl is broken"):
        open_ledger()
    path.write_text("".join(lines), encoding="utf-8")
    assert open_ledger().find(first) is not None  # the lock was let go


def test_files_of_others_and_odd_names_are_refused(open_ledger, tmp_path):
    with pytest.raises(UsageError, match="no name for a job"):
        open_ledger("../elsewhere")
    (tmp_path / "ledgers").mkdir(exist_ok=True)
    (tmp_path / "ledgers" / "stories.jsonl").write_text('{"text": "a"}\n', encoding="utf-8")
    with pytest.raises(DataError, match='schema "None"'):
        open_ledger()


def test_a_full_disk_is_said(open_ledger, make_calls, monkeypatch):
    (call,) = make_calls(1)
    ledger = open_ledger()

    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.write", no_space)
    with pytest.raises(RunError, match="No space left"):
        ledger.sent(call, n_try=1, worst_usd=1.0)


def test_a_half_written_line_is_taken_back(open_ledger, make_calls, monkeypatch):
    first, second = make_calls(2)
    with open_ledger() as ledger:
        record(ledger, first)
        write = os.write
        monkeypatch.setattr("os.write", lambda file, line: write(file, line[:9]))
        with pytest.raises(RunError, match="disk is full"):
            ledger.sent(second, n_try=1, worst_usd=1.0)
        monkeypatch.setattr("os.write", write)
        record(ledger, second)
        assert ledger.find(second).text == "yes"
    assert open_ledger().n_replies == 2


def test_a_reply_that_no_text_holds_is_not_found_and_its_ledger_opens(open_ledger, make_calls):
    calls = make_calls(4)
    with open_ledger() as ledger:  # as older versions have recorded them
        for call, text in zip(calls, ["a \ud83d", "a \x00", " \n ", "good"], strict=True):
            record(ledger, call, text)
    ledger = open_ledger()
    assert [ledger.find(call) is not None for call in calls] == [False, False, False, True]
    assert ledger.spent_usd == 1.0


def test_other_ledgers_hold_no_files_open(open_ledger, make_calls):
    calls = make_calls(20)
    for index, call in enumerate(calls):
        with open_ledger(f"job-{index}") as ledger:
            record(ledger, call)
    before = psutil.Process().num_fds()
    ledger = open_ledger("last")
    assert all(ledger.find(call).text == "yes" for call in calls)
    assert psutil.Process().num_fds() <= before + 1  # the lock


def test_a_ledger_that_goes_away_is_said(open_ledger, make_calls):
    (call,) = make_calls(1)
    with open_ledger("one") as one:
        record(one, call)
    two = open_ledger("two")
    one.path.unlink()
    with pytest.raises(DataError, match=r"one\.jsonl was changed"):
        two.find(call)


def test_what_nobody_knows_the_price_of_is_unknown(open_ledger, make_calls):
    first, second, third = make_calls(3)
    with open_ledger() as ledger:
        record(ledger, first)
        n = ledger.sent(second, n_try=1, worst_usd=None)
        assert ledger.spent_usd is None
        ledger.failed(n, second.hash, detail="429", is_free=True)
        assert ledger.spent_usd == 0.25  # it cost nothing, whatever the price
        n = ledger.sent(third, n_try=1, worst_usd=None)
        ledger.failed(n, third.hash, detail="500", is_free=False)
        assert ledger.spent_usd is None and ledger.known_usd == 0.25 and ledger.n_unpriced == 1
    assert open_ledger().spent_usd is None
