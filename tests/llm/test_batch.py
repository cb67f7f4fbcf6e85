"""Batch mode: merged by custom_id, what expired asked again, within limits and budget; what no batch can answer."""

import json
from dataclasses import replace

import pytest

from tslens.errors import RunError
from tslens.llm.batch import answer_batch
from tslens.llm.calls import CallFailure, Reply
from tslens.llm.client import Client
from tslens.llm.connect import server_name

ITEM_FAULTS = dict.fromkeys(("expired", "failed", "lost", "refusal", "cut", "misfit"), 0.06)
ROAD_FAULTS = dict.fromkeys(("busy", "error", "reset", "truncated"), 0.15)


@pytest.fixture(autouse=True)
def quick(monkeypatch, fast):
    monkeypatch.setattr("tslens.llm.batch_road.LISTED_S", 0.0)


def to(server, calls):
    """The calls, asked of a server."""
    return (replace(call, server=server_name(server.url)) for call in calls)


def ask(ledger, server, calls, *, progress=None, **options):
    client = Client(ledger, base_url=server.url, **{"price": None, **options})
    return list(answer_batch(client, to(server, calls), poll_s=0.01, progress=progress))


def test_each_call_is_answered_once_though_items_expire_and_roads_break(
    serve, open_ledger, make_calls, price, tmp_path
):
    server = serve(item_faults=ITEM_FAULTS, road_faults=ROAD_FAULTS, seed=3, batch_s=0.05)
    ledger = open_ledger()
    calls = make_calls(300)
    tallies = []
    outcomes = ask(ledger, server, calls, price=price, budget_usd=1.0, progress=tallies.append)
    assert sorted(o.key for o in outcomes) == [call.key for call in calls]
    assert all(isinstance(o, Reply) for o in outcomes)
    assert {row["fault"] for row in server.rows} == {None, *ITEM_FAULTS}
    assert sum(row["fault"] is None for row in server.rows) == 300  # nothing good was asked for twice
    assert server.usd <= ledger.spent_usd <= 1.0 and tallies[-1].n_replies == 300
    first = outcomes[0]
    assert first.usd == pytest.approx(price.of(first.prompt_tokens, first.completion_tokens) / 2)
    assert len({batch["metadata"]["tslens_part"] for batch in server.batches.values()}) == len(server.batches)
    n_batches = len(server.batches)
    again = ask(ledger, server, calls)
    assert all(o.is_cached for o in again) and len(server.batches) == n_batches
    assert not ledger.batches
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or server.key.encode() not in path.read_bytes()


def test_single_calls_and_batches_share_the_ledger(serve, open_ledger, make_calls):
    server = serve()
    ledger = open_ledger()
    calls = make_calls(6)
    client = Client(ledger, price=None, base_url=server.url)
    assert len(list(client.answer(to(server, calls[:3])))) == 3
    outcomes = ask(ledger, server, calls)
    assert [o.is_cached for o in outcomes].count(True) == 3 and max(server.asked.values()) == 1


def test_equal_calls_are_one_item(serve, open_ledger, make_calls):
    server = serve()
    outcomes = ask(open_ledger(), server, [*make_calls(2), *make_calls(2)])
    assert len(outcomes) == 4 and server.asked.total() == 2


def test_parts_are_split_and_only_so_many_are_out(serve, open_ledger, make_calls, monkeypatch):
    monkeypatch.setattr("tslens.llm.batch.MOST_REQUESTS", 5)
    monkeypatch.setattr("tslens.llm.batch.MOST_ACTIVE", 2)
    server = serve(batch_s=0.02)
    outcomes = ask(open_ledger(), server, iter(make_calls(23)))
    assert len(outcomes) == 23 and all(isinstance(o, Reply) for o in outcomes)
    sizes = [server.files[b["input_file_id"]].count(b"\n") for b in server.batches.values()]
    assert max(sizes) == 5 and sum(sizes) == 23


def test_files_stay_below_the_limit_of_bytes(serve, open_ledger, make_calls, monkeypatch):
    monkeypatch.setattr("tslens.llm.batch.MOST_BYTES", 2000)
    server = serve()
    assert len(ask(open_ledger(), server, make_calls(10))) == 10
    sizes = [len(server.files[b["input_file_id"]]) for b in server.batches.values()]
    assert len(sizes) > 1 and max(sizes) <= 2000


def test_the_budget_is_reserved_before_a_batch_is_made(serve, open_ledger, make_calls, price):
    server = serve()
    ledger = open_ledger()
    calls = make_calls(40)
    budget = price.in_batch().worst(calls[0]) * 4
    outcomes = ask(ledger, server, calls, price=price, budget_usd=budget)
    failures = [o for o in outcomes if isinstance(o, CallFailure)]
    assert len(outcomes) == 40 and {o.reason for o in failures} == {"budget"} and len(failures) < 36
    assert server.usd == pytest.approx(ledger.spent_usd) and ledger.spent_usd <= budget


def test_items_that_are_never_of_use_are_failures(serve, open_ledger, make_calls):
    server = serve(item_faults={"refusal": 1.0})
    ledger = open_ledger()
    outcomes = ask(ledger, server, make_calls(2), tries=2)
    assert {o.reason for o in outcomes} == {"refusal"} and server.asked.total() == 4
    server = serve(item_faults={"expired": 1.0})
    outcomes = ask(ledger, server, make_calls(2, first=5), tries=2)
    assert {o.reason for o in outcomes} == {"unreachable"} and ledger.find(
        next(to(server, make_calls(1, first=5)))
    ) is None


def test_a_server_without_schemas_is_asked_in_other_words(serve, open_ledger, make_calls):
    server = serve(knows=("json_object", "max_completion_tokens"))
    outcomes = ask(open_ledger(), server, make_calls(3))
    assert all(isinstance(o, Reply) for o in outcomes) and len(server.batches) <= 3


def fail_first(server, code, *, n_times=1):
    """Batches fail whole at first, as when too many tokens are enqueued."""
    finish = server.finish_batch
    seen = []

    def finish_or_fail(batch):
        seen.append(batch["id"])
        if len(seen) <= n_times:
            batch |= {"status": "failed", "errors": {"data": [{"code": code, "message": "Too much."}]}}
        else:
            finish(batch)

    server.finish_batch = finish_or_fail


def test_a_limit_of_tokens_makes_smaller_parts(serve, open_ledger, make_calls):
    server = serve()
    fail_first(server, "token_limit_exceeded")
    outcomes = ask(open_ledger(), server, make_calls(8))
    assert len(outcomes) == 8 and all(isinstance(o, Reply) for o in outcomes)
    sizes = [server.files[b["input_file_id"]].count(b"\n") for b in server.batches.values()]
    assert sizes[0] == 8 and max(sizes[1:]) == 4


def test_a_batch_that_is_refused_ends_the_job_and_costs_nothing(serve, open_ledger, make_calls, price):
    server = serve()
    fail_first(server, "invalid_model")
    ledger = open_ledger()
    with pytest.raises(RunError, match="refused a batch: Too much"):
        ask(ledger, server, make_calls(3), price=price)
    assert ledger.spent_usd == 0 and not ledger.batches
    assert len(ask(ledger, server, make_calls(3), price=price)) == 3


def test_a_cancelled_batch_is_not_made_again_by_itself(serve, open_ledger, make_calls):
    server = serve(batch_s=60)
    finish = server.show_batch

    def cancelled(name):
        server.batches[name]["status"] = "cancelled"
        return finish(name)

    server.show_batch = cancelled
    outcomes = ask(open_ledger(), server, make_calls(2))
    assert {o.reason for o in outcomes} == {"unreachable"} and len(server.batches) == 1


def test_the_record_names_each_step(serve, open_ledger, make_calls):
    ledger = open_ledger()
    ask(ledger, serve(), make_calls(2))
    rows = [json.loads(line) for line in ledger.path.read_text(encoding="utf-8").splitlines()[1:]]
    kinds = [row["event"] + row.get("stage", "") for row in rows]
    assert kinds == ["sent", "sent", "batchcreating", "batchcreated", "reply", "reply", "batchmerged"]


def test_items_that_a_key_may_not_ask_end_the_job_when_all_are_settled(serve, open_ledger, make_calls, price):
    server = serve(item_faults={"denied": 0.5}, seed=4)
    calls = make_calls(12)
    ledger = open_ledger()
    with pytest.raises(RunError, match="This key may not"):
        ask(ledger, server, calls, price=price)
    assert len(server.batches) == 1 and not ledger.batches
    assert ledger.spent_usd == pytest.approx(server.usd)
    server.item_faults = {}
    outcomes = ask(ledger, server, calls, price=price)
    assert all(isinstance(o, Reply) for o in outcomes) and len(server.batches) == 2
    assert max(server.paid.values()) == 1


def test_items_that_are_all_rejected_are_asked_again_by_the_next_run(serve, open_ledger, make_calls):
    server = serve(knows=())
    ledger = open_ledger()
    assert {o.reason for o in ask(ledger, server, make_calls(3))} == {"rejected"}
    server.knows = ("json_schema", "max_tokens")
    assert all(isinstance(o, Reply) for o in ask(ledger, server, make_calls(3)))


@pytest.mark.parametrize("path", ["/files", "/batches", "/files/file-1/content"])
def test_busy_is_no_lost_step(serve, open_ledger, make_calls, monkeypatch, path):
    monkeypatch.setattr("tslens.llm.pace.MAX_BACKOFF_S", 0.002)

    def busy(handler, asked, body):
        is_busy = asked == path and handler.loopback.requests[asked] <= 7
        if is_busy:
            handler.fail(429, "slow down", "rate_limit_exceeded", {"Retry-After": "0"})
        return is_busy

    server = serve(before=busy)
    outcomes = ask(open_ledger(), server, make_calls(2), tries=1)  # two may be lost, ten may be busy
    assert all(isinstance(o, Reply) for o in outcomes) and server.requests[path] == 8
