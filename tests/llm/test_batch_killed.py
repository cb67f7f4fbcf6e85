"""Batches of runs that were killed: found again, merged whoever asks next, nothing made or paid twice."""

import json
from dataclasses import replace

import pytest

from tslens.errors import RunError
from tslens.llm.append_file import AppendFile
from tslens.llm.batch import answer_batch
from tslens.llm.batch_road import BatchRoad
from tslens.llm.calls import Reply
from tslens.llm.client import Client
from tslens.llm.connect import server_name
from tslens.llm.prices import Price


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture(autouse=True)
def quick(monkeypatch, fast):
    monkeypatch.setattr("tslens.llm.batch_road.LISTED_S", 0.0)


def to(server, calls):
    """The calls, asked of a server."""
    return (replace(call, server=server_name(server.url)) for call in calls)


def ask(ledger, server, calls, *, progress=None, **options):
    client = Client(ledger, base_url=server.url, **{"price": None, **options})
    return list(answer_batch(client, to(server, calls), poll_s=0.01, progress=progress))


def run_until_killed(open_ledger, server, calls, price):
    with open_ledger() as ledger:
        try:
            return ask(ledger, server, calls, price=price, budget_usd=1.0 if price else None)
        except Killed:
            return None


def test_a_kill_before_or_after_any_record_pays_nothing_twice(
    serve, open_ledger, make_calls, price, monkeypatch, tmp_path
):
    append, calls = AppendFile.append, make_calls(4)
    n_kills = 0
    for is_written in (False, True):
        for step in range(1, 100):
            n_left = step
            (tmp_path / "ledgers" / "job.jsonl").unlink(missing_ok=True)

            def dying(self, row, is_written=is_written):
                nonlocal n_left
                n_left -= 1
                if n_left == 0:
                    if is_written:
                        append(self, row)
                    raise Killed
                return append(self, row)

            server = serve(batch_s=0.02)
            monkeypatch.setattr(AppendFile, "append", dying)
            first = run_until_killed(open_ledger, server, calls, price)
            monkeypatch.setattr(AppendFile, "append", append)
            if first is not None:
                break
            n_kills += 1
            second = run_until_killed(open_ledger, server, calls, price)
            assert [o.key for o in sorted(second, key=lambda o: o.key)] == [call.key for call in calls]
            assert all(isinstance(o, Reply) for o in second)
            assert max(server.paid.values()) == 1 and len(server.batches) == 1, (step, is_written)
            with open_ledger() as ledger:
                assert ledger.spent_usd == pytest.approx(server.usd)
                assert not any(batch.sends for batch in ledger.batches.values())
    assert n_kills >= 2 * (4 + 2 + 4)  # sent, creating and created, replies; each before and after


def test_a_kill_after_any_request_pays_nothing_twice(
    serve, open_ledger, make_calls, price, monkeypatch, tmp_path
):
    once, calls = BatchRoad._once, make_calls(3)
    for step in range(1, 100):
        n_left = step
        (tmp_path / "ledgers" / "job.jsonl").unlink(missing_ok=True)

        def dying(self, action):
            nonlocal n_left
            n_left -= 1
            result = once(self, action)
            if n_left == 0:
                raise Killed
            return result

        server = serve(batch_s=0.02)
        monkeypatch.setattr(BatchRoad, "_once", dying)
        first = run_until_killed(open_ledger, server, calls, price)
        monkeypatch.setattr(BatchRoad, "_once", once)
        if first is not None:
            break
        second = run_until_killed(open_ledger, server, calls, price)
        assert len(second) == 3 and all(isinstance(o, Reply) for o in second)
        assert max(server.paid.values()) == 1 and len(server.batches) == 1, step
    assert step > 3  # upload, create and a look at the least


def test_other_calls_may_be_asked_while_a_batch_of_an_earlier_run_is_out(
    serve, open_ledger, make_calls, monkeypatch
):
    server = serve(batch_s=0.05)
    calls = make_calls(6)
    monkeypatch.setattr(BatchRoad, "look", lambda *_: (_ for _ in ()).throw(Killed()))
    assert run_until_killed(open_ledger, server, calls, None) is None
    monkeypatch.undo()
    monkeypatch.setattr("tslens.llm.batch_road.LISTED_S", 0.0)
    monkeypatch.setenv("OPENAI_API_KEY", server.key)
    with open_ledger() as ledger:
        outcomes = ask(ledger, server, [*make_calls(2, first=50), calls[1]])
        assert sorted(o.key for o in outcomes) == ["story-000001", "story-000050", "story-000051"]
        assert not ledger.batches  # five answers of it were not asked for, and are kept
    with open_ledger() as ledger:
        assert len(ask(ledger, server, calls)) == 6 and not ledger.batches
    assert max(server.paid.values()) == 1 and len(server.batches) == 2


def test_an_orphan_is_found_behind_many_batches_of_others(serve, open_ledger, make_calls, monkeypatch):
    server = serve()
    create = BatchRoad.create

    def create_and_die(self, *args):
        create(self, *args)
        raise Killed

    monkeypatch.setattr(BatchRoad, "create", create_and_die)
    calls = make_calls(2)
    assert run_until_killed(open_ledger, server, calls, None) is None
    monkeypatch.setattr(BatchRoad, "create", create)
    server.batch_s = 1e9
    body = {"endpoint": "/v1/chat/completions", "input_file_id": "file-0", "completion_window": "24h"}
    for number in range(250):
        server.add_batch({**body, "metadata": None if number % 2 else {"tslens_part": "another"}})
    assert len(run_until_killed(open_ledger, server, calls, None)) == 2
    assert len(server.batches) == 251 and max(server.paid.values()) == 1


def test_a_call_in_a_batch_is_not_sent_singly_as_well(serve, open_ledger, make_calls, monkeypatch):
    server = serve()
    look = BatchRoad.look
    monkeypatch.setattr(BatchRoad, "look", lambda *_: (_ for _ in ()).throw(Killed()))
    assert run_until_killed(open_ledger, server, make_calls(2), None) is None
    monkeypatch.setattr(BatchRoad, "look", look)
    with open_ledger() as ledger:
        client = Client(ledger, price=None, base_url=server.url)
        with pytest.raises(RunError, match="under way in a batch"):
            list(client.answer(to(server, make_calls(2))))
        assert len(list(client.answer(to(server, make_calls(2, first=7))))) == 2  # others may be
        assert len(ask(ledger, server, make_calls(2))) == 2
        assert all(o.is_cached for o in client.answer(to(server, make_calls(2))))
    assert max(server.paid.values()) == 1


def leave_a_batch(open_ledger, server, calls, monkeypatch, price=None, job="job"):
    """A run that is killed while its batch is out."""
    with monkeypatch.context() as patch:
        patch.setattr(BatchRoad, "look", lambda *_: (_ for _ in ()).throw(Killed()))
        with open_ledger(job) as ledger, pytest.raises(Killed):
            ask(ledger, server, calls, price=price)


def test_a_call_in_a_batch_of_another_job_is_not_sent_as_well(serve, open_ledger, make_calls, monkeypatch):
    server = serve()
    leave_a_batch(open_ledger, server, make_calls(3), monkeypatch, job="first")
    with open_ledger("second") as ledger:
        client = Client(ledger, price=None, base_url=server.url)
        with pytest.raises(RunError, match=r"another job, whose ledger is .*first\.jsonl"):
            list(client.answer(to(server, make_calls(1))))
        with pytest.raises(RunError, match=r"first\.jsonl"):
            ask(ledger, server, make_calls(1))
        assert len(ask(ledger, server, make_calls(2, first=7))) == 2  # others may be
    with open_ledger("first") as ledger:
        assert len(ask(ledger, server, make_calls(3))) == 3
    with open_ledger("second") as ledger:
        assert all(o.is_cached for o in ask(ledger, server, make_calls(3)))
    assert max(server.paid.values()) == 1


def test_a_batch_whose_calls_do_not_come_again_is_merged(serve, open_ledger, make_calls, price, monkeypatch):
    server = serve()
    calls, others = make_calls(30), make_calls(2, first=50)
    with open_ledger() as ledger:
        ask(ledger, server, others, price=price)
    server.item_faults, server.seed = {"refusal": 0.2, "lost": 0.1, "failed": 0.1}, 1
    leave_a_batch(open_ledger, server, calls, monkeypatch, price=Price(9.0, 9.0, "of then"))
    n_batches = len(server.batches)
    with open_ledger() as ledger:
        before = ledger.spent_usd
        assert all(o.is_cached for o in ask(ledger, server, others, price=price))  # nothing is to be sent
        assert not ledger.batches and len(server.batches) == n_batches
        assert ledger.spent_usd < before
        n_kept = sum(ledger.find(call) is not None for call in to(server, calls))
        assert 10 < n_kept < 30
        outcomes = ask(ledger, server, calls, price=price)
        assert len(outcomes) == 30 and sum(o.is_cached for o in outcomes) == n_kept
    rows = [json.loads(line) for line in ledger.path.read_text(encoding="utf-8").splitlines()[1:]]
    unseen = next(
        row for row in rows if row["event"] == "reply" and row["usd"] > 0 and row["key"] == "story-000029"
    )
    assert unseen["unseen"] and not rows[1].get("unseen")
    assert unseen["server"] == server.url and unseen["model_asked"] == "loop-1" and unseen["prompt_hash"]
    tokens = unseen["usage"]["prompt_tokens"] + unseen["usage"]["completion_tokens"]
    assert unseen["usd"] == pytest.approx(tokens * 9.0 / 1e6 / 2)  # the price that it was sent at


def test_an_unseen_reply_is_judged_when_its_call_comes(serve, open_ledger, make_calls, monkeypatch):
    server = serve(item_faults={"misfit": 0.5, "cut": 0.3}, seed=2)
    calls = make_calls(12)
    leave_a_batch(open_ledger, server, calls, monkeypatch)
    n_good = sum(row["fault"] is None for row in finished(server))
    assert 0 < n_good < 12
    with open_ledger() as ledger:
        assert ask(ledger, server, []) == [] and not ledger.batches
        assert sum(ledger.find(call) is not None for call in to(server, calls)) == n_good
        server.item_faults = {}
        outcomes = ask(ledger, server, calls)
        assert all(isinstance(o, Reply) for o in outcomes)
        assert sum(o.is_cached for o in outcomes) == n_good


def finished(server):
    """What the server has answered, its batches ended."""
    for name in server.batches:
        server.show_batch(name)
    return server.rows


def test_a_kill_while_unseen_results_are_merged_loses_and_pays_nothing(
    serve, open_ledger, make_calls, price, monkeypatch, tmp_path
):
    append, calls = AppendFile.append, make_calls(3)
    for step in range(1, 10):
        (tmp_path / "ledgers" / "job.jsonl").unlink(missing_ok=True)
        server = serve()
        leave_a_batch(open_ledger, server, calls, monkeypatch, price=price)
        n_left = step

        def dying(self, row):
            nonlocal n_left
            n_left -= 1
            if n_left == 0:
                raise Killed
            return append(self, row)

        monkeypatch.setattr(AppendFile, "append", dying)
        is_whole = run_until_killed(open_ledger, server, [], price) is not None
        monkeypatch.setattr(AppendFile, "append", append)
        assert len(run_until_killed(open_ledger, server, calls, price)) == 3
        with open_ledger() as ledger:
            assert ledger.spent_usd == pytest.approx(server.usd) and not ledger.batches
        assert max(server.paid.values()) == 1 and len(server.batches) == 1
        if is_whole:
            break
    assert step == 5  # three replies and "merged" before it


def test_a_batch_that_is_still_out_is_not_waited_for_by_others(serve, open_ledger, make_calls, monkeypatch):
    server = serve(batch_s=1e9)
    leave_a_batch(open_ledger, server, make_calls(3), monkeypatch)
    server.batch_s = 0.0
    with open_ledger() as ledger:
        assert ask(ledger, server, []) == []
        assert len(ask(ledger, server, make_calls(2, first=50))) == 2
        assert len(ledger.batches) == 1


def test_a_batch_at_another_server_is_left_alone(serve, open_ledger, make_calls, monkeypatch):
    first = serve()
    leave_a_batch(open_ledger, first, make_calls(3), monkeypatch)
    second = serve()
    with open_ledger() as ledger:
        assert len(ask(ledger, second, make_calls(3))) == 3 and len(ledger.batches) == 1
    with open_ledger() as ledger:
        assert len(ask(ledger, first, make_calls(3))) == 3 and not ledger.batches


def test_a_batch_of_a_key_that_is_mended_is_merged_before_others_are_made(
    serve, open_ledger, make_calls, monkeypatch
):
    server = serve(item_faults={"denied": 0.5}, seed=4)
    leave_a_batch(open_ledger, server, make_calls(12), monkeypatch)
    finished(server)
    server.item_faults = {}
    outcomes = ask(open_ledger(), server, make_calls(12))
    assert len(outcomes) == 12 and all(isinstance(o, Reply) for o in outcomes)
    assert len(server.batches) == 2 and max(server.paid.values()) == 1
