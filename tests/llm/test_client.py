"""The client against a server that misbehaves: each call answered once, paid once, within the budget."""

import asyncio
import json
import threading
from dataclasses import replace

import pytest

from tslens.errors import UsageError
from tslens.llm.calls import CallFailure, Reply
from tslens.llm.client import Client
from tslens.llm.connect import server_name
from tslens.llm.pace import Pace

SIX = {"busy": 0.05, "error": 0.05, "reset": 0.05, "truncated": 0.05, "refusal": 0.05, "silence": 0.05}


def ask(ledger, server, calls, *, price=None, **options):
    client = Client(ledger, price=price, base_url=server.url, **options)
    return list(client.answer(to(server, calls)))


def to(server, calls):
    """The calls, asked of a server."""
    return [replace(call, server=server_name(server.url)) for call in calls]


def test_each_call_is_answered_once_through_six_faults(serve, open_ledger, make_calls, price, fast, tmp_path):
    server = serve(faults={**SIX, "cut": 0.05, "misfit": 0.05})
    ledger = open_ledger()
    calls = make_calls(150)
    outcomes = ask(ledger, server, calls, price=price, budget_usd=1.0, timeout_s=1.5)
    assert sorted(o.key for o in outcomes) == [call.key for call in calls]
    assert all(isinstance(o, Reply) for o in outcomes)
    for reply in outcomes:
        assert set(json.loads(reply.text)) == {"title", "events", "stars"}
        assert reply.model == "loop-1-2026-01-01" and reply.fingerprint == "fp_loopback"
        assert not reply.is_cached and reply.usd == pytest.approx(
            price.of(reply.prompt_tokens, reply.completion_tokens)
        )
    assert {row["fault"] for row in server.rows} >= {None, *SIX}
    assert server.usd <= ledger.spent_usd <= 1.0
    assert sum(row["fault"] is None for row in server.rows) == 150  # nothing good was asked for twice
    n_asked = len(server.rows)
    again = ask(ledger, server, calls)
    assert (
        len(again) == 150 and all(o.is_cached and o.usd == 0 for o in again) and len(server.rows) == n_asked
    )
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or server.key.encode() not in path.read_bytes()


def test_only_what_may_have_been_paid_is_counted_at_its_worst(serve, open_ledger, make_calls, price, fast):
    server = serve(faults={"busy": 0.5})
    ledger = open_ledger()
    ask(ledger, server, make_calls(20), price=price)
    assert any(row["fault"] == "busy" for row in server.rows)
    assert ledger.spent_usd == pytest.approx(server.usd)
    for number, fault in enumerate(("error", "reset", "truncated")):
        server = serve(faults={fault: 0.3})
        ledger = open_ledger(fault)
        calls = make_calls(20, first=100 + 20 * number)
        ask(ledger, server, calls, price=price)
        n_lost = sum(row["fault"] == fault for row in server.rows)
        paid = sum(row["usd"] for row in server.rows if row["fault"] is None)
        assert n_lost > 0
        assert ledger.spent_usd == pytest.approx(paid + n_lost * price.worst(calls[0]), rel=0.05)


def test_an_answer_of_no_use_is_paid_recorded_and_asked_again_up_to_tries(
    serve, open_ledger, make_calls, price
):
    server = serve(faults={"refusal": 1.0})
    ledger = open_ledger()
    (call,) = make_calls(1)
    (failure,) = ask(ledger, server, [call], price=price, tries=3)
    assert failure == CallFailure(call.key, "refusal", "I'm sorry, I can't help with that.")
    assert server.asked.total() == 3 and ledger.spent_usd == pytest.approx(server.usd)
    assert ask(ledger, server, [call], tries=3) == [failure] and server.asked.total() == 3
    server.faults = {}
    (reply,) = ask(ledger, server, [call], retry_failed=True)
    assert isinstance(reply, Reply) and server.asked.total() == 4


@pytest.mark.parametrize(("fault", "reason"), [("cut", "cut"), ("misfit", "schema")])
def test_structured_answers_that_do_not_fit_are_failures(serve, open_ledger, make_calls, fault, reason):
    server = serve(faults={fault: 1.0})
    (failure,) = ask(open_ledger(), server, make_calls(1), tries=2)
    assert failure.reason == reason and server.asked.total() == 2


def test_tries_are_counted_across_runs(serve, open_ledger, make_calls):
    server = serve(faults={"refusal": 1.0})
    (call,) = make_calls(1)
    with open_ledger() as ledger:
        ask(ledger, server, [call], tries=2)
        lines = ledger.path.read_text(encoding="utf-8").splitlines(keepends=True)
    ledger.path.write_text("".join(line for line in lines if "gave_up" not in line), encoding="utf-8")
    ask(open_ledger(), server, [call], tries=3)  # killed before it gave up; one try is left
    assert server.asked.total() == 3


def test_plain_text_that_is_cut_is_a_reply(serve, open_ledger, make_calls):
    (reply,) = ask(open_ledger(), serve(faults={"cut": 1.0}), make_calls(1, answer=None))
    assert reply.finish_reason == "length" and reply.text.startswith("Once")


def test_equal_calls_are_sent_once_and_samples_apart(serve, open_ledger, make_calls, price):
    server = serve(latency_s=0.05)
    calls = [*make_calls(1), *make_calls(1), *make_calls(1, sample=1)]
    outcomes = ask(open_ledger(), server, calls, price=price)
    assert len(outcomes) == 3 and server.asked.total() == 2
    assert [o.is_cached for o in outcomes].count(True) == 1


def test_the_budget_holds_while_many_are_out(serve, open_ledger, make_calls, price, fast):
    server = serve(faults={"error": 0.1, "refusal": 0.1}, latency_s=0.01)
    ledger = open_ledger()
    calls = make_calls(60)
    budget = price.worst(calls[0]) * 10
    seen = []
    client = Client(ledger, price=price, base_url=server.url, budget_usd=budget)
    outcomes = list(client.answer(to(server, calls), progress=lambda tally: seen.append(tally.spent_usd)))
    assert len(outcomes) == 60 and {o.reason for o in outcomes if isinstance(o, CallFailure)} == {"budget"}
    assert sum(isinstance(o, Reply) for o in outcomes) > 10  # replies cost less than their worst case
    assert server.usd <= ledger.spent_usd <= budget and max(seen) <= budget
    n_replies = ledger.n_replies
    ledger.close()
    more = ask(open_ledger(), server, calls, price=price, budget_usd=budget)  # what is spent stays spent
    assert sum(isinstance(o, Reply) for o in more) - n_replies <= 1
    ample = ask(open_ledger("other"), server, calls, price=price, budget_usd=1.0)
    assert all(isinstance(o, Reply) for o in ample)


def test_a_budget_needs_a_price(open_ledger):
    with pytest.raises(UsageError, match="needs a price"):
        Client(open_ledger(), price=None, budget_usd=1.0)


@pytest.mark.parametrize("knows", [("json_object", "max_tokens"), ("max_completion_tokens",)])
def test_a_server_without_schemas_gets_the_schema_in_the_prompt(serve, open_ledger, make_calls, knows):
    server = serve(knows=knows)
    outcomes = ask(open_ledger(), server, make_calls(30), concurrency=1)
    assert all(isinstance(o, Reply) for o in outcomes)
    n_lessons = server.requests["/chat/completions"] - 30
    assert n_lessons == (1 if "json_object" in knows else 3)  # each is learnt once for the session
    forms = {body.get("response_format", {}).get("type") for body in server.bodies}
    assert forms == ({"json_object"} if "json_object" in knows else {None})


def test_a_fenced_reply_in_json_mode_is_validated_the_same_way(serve, open_ledger, make_calls):
    good = '{"title": "a", "events": [], "stars": 1}'
    replies = iter(["```json\n{}\n```", f"```json\n{good}\n```"])
    server = serve(knows=("max_tokens",), answer=lambda body: next(replies))
    (reply,) = ask(open_ledger(), server, make_calls(1))
    assert reply.text == good and server.asked.total() == 2


def test_the_wait_that_a_server_asks_for_holds_back_all_sends(serve, open_ledger, make_calls, fast):
    import time

    moments = []

    def limit(handler, path, body):
        moments.append(time.monotonic())
        if len(moments) == 1:
            handler.fail(429, "slow down", "rate_limit_exceeded", {"Retry-After": "0.4"})
        return len(moments) == 1

    server = serve(before=limit)
    outcomes = ask(open_ledger(), server, make_calls(6), concurrency=1)
    assert all(isinstance(o, Reply) for o in outcomes)
    assert moments[1] - moments[0] >= 0.4


def test_the_number_of_calls_at_once_follows_the_server(serve, open_ledger, make_calls, fast, monkeypatch):
    server = serve(faults={"busy": 0.3}, latency_s=0.005)
    limits = []
    leave = Pace.leave
    monkeypatch.setattr(Pace, "leave", lambda self: (limits.append(self.limit), leave(self)))
    ask(open_ledger(), server, make_calls(80), concurrency=16)
    assert 1 <= min(limits) <= 8 and server.most_at_once <= 16


def test_look_ahead_is_bounded_and_outcomes_stream(serve, open_ledger, make_calls):
    server = serve()
    n_taken = 0

    def endless():
        nonlocal n_taken
        for call in to(server, make_calls(10_000)):
            n_taken += 1
            yield call

    client = Client(open_ledger(), price=None, base_url=server.url, concurrency=4)
    outcomes = client.answer(endless())
    for n_seen in range(1, 21):
        next(outcomes)
        assert n_taken <= n_seen + 8
    outcomes.close()
    assert threading.active_count() < 20 and not [t for t in threading.enumerate() if t.name == "tslens-llm"]


def test_stopping_early_leaves_a_ledger_that_resumes(serve, open_ledger, make_calls, price):
    server = serve(latency_s=0.02)
    calls = make_calls(40)
    with open_ledger() as ledger:
        client = Client(ledger, price=price, base_url=server.url, concurrency=8)
        with pytest.raises(KeyboardInterrupt):
            for n_seen, _ in enumerate(client.answer(to(server, calls))):
                if n_seen == 10:
                    raise KeyboardInterrupt
        assert 11 <= ledger.n_replies < 40
    ledger = open_ledger()
    outcomes = ask(ledger, server, calls, price=price)
    assert len(outcomes) == 40 and all(isinstance(o, Reply) for o in outcomes)
    recorded = sum(o.is_cached for o in outcomes)
    assert server.asked.total() <= 40 + (40 - recorded) and server.usd <= ledger.spent_usd


def test_it_works_where_a_loop_is_running(serve, open_ledger, make_calls):
    async def in_a_notebook():
        return ask(open_ledger(), serve(), make_calls(5))

    assert len(asyncio.run(in_a_notebook())) == 5


def test_the_key_is_kept_out_of_replies_that_echo_it(serve, open_ledger, make_calls):
    server = serve(answer=lambda body: f"Your key is {server.key}, and sk-iing is fun.")
    ledger = open_ledger()
    (reply,) = ask(ledger, server, make_calls(1, answer=None))
    assert reply.text == "Your key is [key], and sk-iing is fun."
    assert server.key not in ledger.path.read_text(encoding="utf-8")


def test_a_slow_drip_is_a_time_out(serve, open_ledger, make_calls, fast):
    def drip(handler, path, body):
        if handler.loopback.requests[path] > 1:
            return False
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        for _ in range(40):
            if handler.loopback.stopping.wait(0.05):
                break
            try:
                handler.wfile.write(b" ")
            except OSError:
                break
        handler.close_connection = True
        return True

    server = serve(before=drip)
    ledger = open_ledger()
    (reply,) = ask(ledger, server, make_calls(1), timeout_s=0.4)
    assert isinstance(reply, Reply) and "no answer in 0.4 s" in ledger.path.read_text(encoding="utf-8")


def test_a_key_that_is_a_word_changes_no_story(serve, open_ledger, make_calls):
    server = serve(key="test", answer=lambda body: "The test was a test.")
    (reply,) = ask(open_ledger(), server, make_calls(1, answer=None))
    assert reply.text == "The test was a test."


def test_an_answer_of_one_server_is_none_of_another(serve, open_ledger, make_calls):
    first, second = serve(), serve()
    ledger = open_ledger()
    calls = make_calls(3)
    ask(ledger, first, calls)
    ask(ledger, second, calls)
    assert first.asked.total() == second.asked.total() == 3
    rows = [json.loads(line) for line in ledger.path.read_text(encoding="utf-8").splitlines()[1:]]
    assert {row["server"] for row in rows if row["event"] == "reply"} == {first.url, second.url}
    for wrong in (calls, to(first, calls)):
        with pytest.raises(ValueError, match="not to"):
            list(Client(ledger, price=None, base_url=second.url).answer(wrong))


def test_blank_answers_are_asked_again(serve, open_ledger, make_calls):
    replies = iter([" ", "\n\n", "a \ud83d", "A frog."])
    server = serve(answer=lambda body: next(replies))
    (reply,) = ask(open_ledger(), server, make_calls(1, answer=None))
    assert reply.text == "A frog." and server.asked.total() == 4


def test_without_a_price_spent_is_unknown_and_a_later_budget_is_refused(
    serve, open_ledger, make_calls, price
):
    server = serve()
    ledger = open_ledger()
    tallies = []
    client = Client(ledger, price=None, base_url=server.url)
    list(client.answer(to(server, make_calls(3)), progress=tallies.append))
    assert ledger.spent_usd is None and tallies[-1].spent_usd is None
    with pytest.raises(UsageError, match="3 calls of job job were sent without a known price"):
        Client(ledger, price=price, base_url=server.url, budget_usd=1.0)
    outcomes = ask(open_ledger("other"), server, make_calls(4), price=price, budget_usd=1.0)
    assert [o.is_cached for o in outcomes].count(True) == 3
