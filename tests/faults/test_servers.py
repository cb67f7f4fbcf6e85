"""Servers that stall, flood, break off and answer nonsense: held, reported, resumed, and nothing paid twice."""

import gc
import json
import os
import random
import time

import bad_server as BAD
import bad_ways
import pytest

from tslens.corpus.requests.asking import Unanswered, read_story_replies, story_calls
from tslens.llm.calls import CallFailure
from tslens.llm.ledger import Ledger
from tslens.llm.settle import take_answer
from tslens.llm.wire import read_answer

N_STORIES = 5
MOST_MB = 150.0
MOST_S = 30.0


@pytest.fixture(autouse=True)
def at_home(monkeypatch):
    BAD.go_home(monkeypatch)


def ask(server, folder, **options):
    """Stories of a server, in order, as far as they came; what ended the job; the USD that count as spent."""
    outcomes, error, spent = BAD.ask(server.url, folder, N_STORIES, budget_usd=1.0, **options)
    failures = [outcome for outcome in outcomes if isinstance(outcome, CallFailure)]
    with Ledger(folder, "job", read_only=True) as ledger:
        found = list(read_story_replies(N_STORIES, BAD.asking(server.url), ledger, failures))
    return found, error, spent


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What comes of a job that nothing disturbs."""
    with pytest.MonkeyPatch.context() as patch, BAD.BadServer("drips_body", lambda _: False, None) as server:
        BAD.go_home(patch)
        found, error, _ = ask(server, tmp_path_factory.mktemp("undisturbed"))
    assert error is None and len(found) == N_STORIES and not any(isinstance(f, Unanswered) for f in found)
    return found


CASES = [(way, number) for number in range(6) for way in sorted(bad_ways.WAYS)]


def pytest_generate_tests(metafunc):
    if "case" in metafunc.fixturenames:
        is_full = os.environ.get("TSLENS_FAULTS") == "full"  # as `how_many` has it, which is not there yet
        metafunc.parametrize(
            "case", CASES if is_full else CASES[: len(bad_ways.WAYS) : 4], ids=lambda c: f"{c[0]}-{c[1]}"
        )


@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a connect that was cancelled
def test_a_job_is_held_and_resumed(case, undisturbed, tmp_path):
    way, number = case
    rng = random.Random(f"{way}/{number}")
    first = rng.randrange(1, N_STORIES + 1)
    is_lasting = number % 2 == 0
    concurrency = rng.choice([1, 1, 3])
    with BAD.BadServer(way, lambda n: n >= first if is_lasting else n == first, rng) as server:
        started = time.monotonic()
        with BAD.Peak() as peak:
            before, error, spent = ask(server, tmp_path, concurrency=concurrency, tries=1, timeout_s=0.3)
        took_s = time.monotonic() - started
        print(f"CASE {way} {number} {took_s:.1f} s {peak.mb:.0f} MB {error}")
        assert server.n_bad > 0
        assert took_s < MOST_S and peak.mb < MOST_MB
        prompts = {story.text.split()[6].rstrip(".") for story in before if not isinstance(story, Unanswered)}
        assert error is None or len(prompts) < N_STORIES
        assert server.usd <= spent + 1e-12
        server.is_bad = lambda n: False
        idle_by = (
            time.monotonic() + 2
        )  # requests that were on their way when the job ended are counted by then
        while server.connections and time.monotonic() < idle_by:
            time.sleep(0.01)
        asked, n_asked = {prompt: server.asked[prompt] for prompt in prompts}, server.asked.total()
        found, error, spent = ask(server, tmp_path, concurrency=concurrency, retry_failed=True)
        assert error is None and server.usd <= spent + 1e-12
        for story, other in zip(found, undisturbed, strict=True):
            assert story.text == other.text
            assert way in bad_ways.KEEPS_WORDS or story == other
        assert all(server.asked[prompt] == n > 0 for prompt, n in asked.items())  # is not paid again
        assert server.asked.total() - n_asked == N_STORIES - len(prompts)
        assert server.key not in "".join(path.read_text() for path in tmp_path.glob("*.jsonl"))
    gc.collect()


def test_whatever_answers_is_recorded_and_read_again(how_many, tmp_path):
    calls = list(story_calls(2, BAD.asking("http://localhost:1/v1")))
    good = {
        "id": "x",
        "model": "m",
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "details": {"cached": 0}},
    }
    good |= {"choices": [{"message": {"content": "A frog.", "refusal": None}, "finish_reason": "stop"}]}
    n_read = 0
    with Ledger(tmp_path, "job") as ledger:
        for seed in range(how_many(100, 20_000)):
            rng = random.Random(seed)
            body = BAD.mutated(json.loads(json.dumps(good)), rng)
            n = ledger.sent(calls[0], n_try=1, worst_usd=1e-6)
            answer = read_answer(rng.choice([calls[0], None]), body)
            if answer is None:
                ledger.failed(n, calls[0].hash, detail="none", is_free=False)
                continue
            take_answer(ledger, n, calls[0].record, answer, price=BAD.PRICE)
            n_read += 1
        spent = ledger.spent_usd
    assert n_read > how_many(100, 20_000) / 2
    with Ledger(tmp_path, "job", read_only=True) as ledger:
        assert ledger.spent_usd == pytest.approx(spent) and ledger.find(calls[0]).text == "A frog."


@pytest.mark.parametrize("counts", [(0, 0), (0, 7), (7, 0), (None, 0), (-1, -1)])
def test_a_budget_holds_where_a_server_counts_no_tokens(counts, tmp_path):
    usage = dict(zip(("prompt_tokens", "completion_tokens"), counts, strict=True))

    def count(handler, answer, rng):
        bad_ways.whole(handler, bad_ways.altered(answer, usage=usage))

    with BAD.BadServer(count, lambda n: True, None) as server:
        worst = max(BAD.PRICE.worst(call) for call in story_calls(40, BAD.asking(server.url)))
        budget = 1.01 * worst
        outcomes, error, spent = BAD.ask(server.url, tmp_path, 40, budget_usd=budget, concurrency=1)
        assert error is None and 0 < server.usd <= spent <= budget
        assert [getattr(outcome, "reason", "answered") for outcome in outcomes].count("answered") == 1
