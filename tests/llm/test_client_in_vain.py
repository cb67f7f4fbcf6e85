"""Calls that nobody answers: a single one is a failure of its own; where none can pass, the job ends with one error."""

from dataclasses import replace

import pytest

from tslens.errors import RunError, UsageError
from tslens.llm.calls import CallFailure, Reply
from tslens.llm.client import Client
from tslens.llm.connect import server_name


def ask(ledger, server, calls, *, price=None, **options):
    client = Client(ledger, price=price, base_url=server.url, **options)
    return list(client.answer(to(server, calls)))


def to(server, calls):
    """The calls, asked of a server."""
    return [replace(call, server=server_name(server.url)) for call in calls]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_where_no_call_passes_everything_stops_without_the_key(serve, open_ledger, make_calls, status):
    def refuse(handler, path, body):
        handler.fail(status, f"You said {handler.headers['Authorization']}.", "model_not_found")
        return True

    server = serve(before=refuse)
    ledger = open_ledger()
    with pytest.raises(RunError, match="takes no calls") as caught:
        ask(ledger, server, make_calls(100), concurrency=4)
    assert server.requests["/chat/completions"] <= 4  # those that were out
    text = str(caught.value) + ledger.path.read_text(encoding="utf-8")
    assert server.key not in text and "[key]" in text
    seen = caught.value
    while seen is not None:
        assert server.key not in str(seen)
        seen = seen.__cause__ or seen.__context__


def test_a_wrong_key_is_one_clear_error(serve, open_ledger, make_calls, monkeypatch):
    server = serve()
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-key-987654")
    with pytest.raises(RunError, match="Incorrect API key") as caught:
        ask(open_ledger(), server, make_calls(3))
    assert "wrong-key" not in str(caught.value)


def test_no_key_for_openai_is_said_before_anything_is_sent_or_written(
    open_ledger, make_calls, monkeypatch, tmp_path
):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    ledger = open_ledger()
    with pytest.raises(UsageError, match="OPENAI_API_KEY"):
        list(Client(ledger, price=None).answer(make_calls(1)))
    assert not ledger.path.exists()


def test_a_rejected_request_is_a_failure_and_the_rest_goes_on(serve, open_ledger, make_calls):
    def reject_one(handler, path, body):
        if b"Story 3" in body:
            handler.fail(400, "This prompt is not allowed.", "invalid_prompt")
        return b"Story 3" in body

    server = serve(before=reject_one)
    ledger = open_ledger()
    outcomes = ask(ledger, server, make_calls(8))
    (failure,) = [o for o in outcomes if isinstance(o, CallFailure)]
    assert (failure.key, failure.reason) == ("story-000003", "rejected") and "not allowed" in failure.detail
    assert server.requests["/chat/completions"] == 8
    assert ledger.find(to(server, make_calls(8))[3]) == failure


def test_a_server_that_rejects_everything_ends_the_job(serve, open_ledger, make_calls):
    def reject(handler, path, body):
        handler.fail(400, "temperature 1.0 is not allowed", "bad")
        return True

    server = serve(before=reject)
    with pytest.raises(RunError, match="rejected the first 20"):
        ask(open_ledger(), server, make_calls(200), concurrency=4)
    assert server.requests["/chat/completions"] < 30


def test_no_server_is_said_soon(open_ledger, make_calls, price, monkeypatch, fast):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-a-key-123456")
    ledger = open_ledger()
    client = Client(ledger, price=price, base_url="http://127.0.0.1:9/v1", concurrency=1)
    with pytest.raises(RunError, match="no connection"):
        list(client.answer(make_calls(50, server="http://127.0.0.1:9/v1")))
    assert ledger.spent_usd == 0


def test_a_server_that_only_fails_ends_the_job(serve, open_ledger, make_calls, fast):
    server = serve(faults={"error": 1.0})
    with pytest.raises(RunError, match="no answer after 4 tries"):
        ask(open_ledger(), server, make_calls(3), tries=2)


def test_one_call_that_never_gets_through_is_a_failure_that_a_resume_asks_again(
    serve, open_ledger, make_calls, fast
):
    def fail_one(handler, path, body):
        if is_failing and b"Story 3" in body:
            handler.fail(500, "oops", None)
            return True
        return False

    is_failing = True
    server = serve(before=fail_one, latency_s=0.02)
    ledger = open_ledger()
    calls = make_calls(60)
    outcomes = ask(ledger, server, [calls[3], *calls[:3], *calls[4:29], *calls[40:]], tries=2, concurrency=4)
    (failure,) = [o for o in outcomes if isinstance(o, CallFailure)]
    assert failure.reason == "unreachable" and failure.key == calls[3].key
    is_failing = False
    assert isinstance(ask(ledger, server, [calls[3]])[0], Reply)


def test_a_server_that_rejected_everything_is_asked_again_when_it_is_mended(serve, open_ledger, make_calls):
    def reject(handler, path, body):
        if is_broken:
            handler.fail(400, "temperature 1.0 is not allowed", "bad")
        return is_broken

    is_broken = True
    server = serve(before=reject)
    calls = make_calls(40)
    with open_ledger() as ledger, pytest.raises(RunError, match="rejected the first 20"):
        ask(ledger, server, calls, concurrency=4)
    is_broken = False
    outcomes = ask(open_ledger(), server, calls)
    assert len(outcomes) == 40 and all(isinstance(o, Reply) for o in outcomes)


def test_a_server_that_is_always_busy_ends_the_job(serve, open_ledger, make_calls, fast, monkeypatch):
    server = serve(faults={"busy": 1.0}, retry_after="0")
    monkeypatch.setattr("tslens.llm.pace.MAX_BACKOFF_S", 0.002)
    with pytest.raises(RunError, match="no answer after 20 tries"):
        ask(open_ledger(), server, make_calls(1), tries=2)
    assert server.asked.total() == 20


def test_a_rejection_before_the_first_answer_is_kept_once_there_is_one(serve, open_ledger, make_calls):
    def reject_first(handler, path, body):
        if b"Story 0" in body:
            handler.fail(400, "This prompt is not allowed.", "invalid_prompt")
        return b"Story 0" in body

    server = serve(before=reject_first)
    ledger = open_ledger()
    (first,) = to(server, make_calls(1))
    assert ask(ledger, server, [first])[0].reason == "rejected" and ledger.find(first) is None
    ask(ledger, server, make_calls(2), concurrency=1)
    assert ledger.find(first).reason == "rejected"
