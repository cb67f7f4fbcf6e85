"""Answers to short prompts: by rule, by a judge behind a server that misbehaves, and their shares."""

import json

import loopback
import numpy as np
import pytest
from scipy.stats import binomtest

from tslens.errors import DataError
from tslens.files import data_dir
from tslens.grading.prompts import ShortPrompt, load_short_prompts
from tslens.grading.rubric import SEPARATOR
from tslens.grading.short import (
    NO_JUDGE,
    ShortJudge,
    ShortOutcome,
    outcomes_by_rule,
    read_short_prompts,
    share_over_prompts,
    summarise_short,
)
from tslens.llm.calls import CallFailure
from tslens.llm.client import Client
from tslens.llm.connect import server_name
from tslens.llm.ledger import Ledger
from tslens.types import Graded, GradeFailure

COW = ShortPrompt("f01", "factual", "It said moo. It was a", ("cow",), ("goat",), True, "cow", "goat", "else")
WHY = ShortPrompt(
    "r01", "reasoning", "He cried, because", ("hurt",), (), False, "He {was} hurt.", "Sad.", "None."
)


def answer(prompt, completion, sample=0, repeat=0):
    return Graded(prompt.text, completion, prompt.id, sample, seed=7, repeat=repeat)


# By rule ----------------------------------------------------------------------------------------------------


def test_without_a_judge_what_needs_one_is_counted_and_has_no_outcome():
    texts = [
        answer(COW, " cow."),
        answer(COW, " small goat", 1),
        answer(COW, " dog", 2),
        answer(WHY, " it hurt."),
    ]
    found = list(outcomes_by_rule([*texts, answer(WHY, ' ..."', 1)], [WHY, COW]))
    outcomes = [getattr(one, "outcome", None) for one in found]
    assert outcomes == ["success", "partial", "failure", None, "failure"]
    assert isinstance(found[3], GradeFailure) and found[3].reason == NO_JUDGE
    assert {one.by for one in found if isinstance(one, ShortOutcome)} == {"rule"}
    row = json.loads(json.dumps(found[0].to_json()))
    assert (row["prompt_id"], row["completion"], row["outcome"], row["why"]) == (
        "f01",
        " cow.",
        "success",
        None,
    )
    with pytest.raises(KeyError):
        list(outcomes_by_rule(texts, [COW]))


# By a judge -------------------------------------------------------------------------------------------------


@pytest.fixture
def serve(monkeypatch):
    """Servers on loopback that stop when the test ends."""
    running = []

    def start(**options):
        running.append(loopback.Loopback(**options).__enter__())
        monkeypatch.setenv("OPENAI_API_KEY", running[-1].key)
        return running[-1]

    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("tslens.llm.pace.BACKOFF_S", 0.001)
    yield start
    for server in running:
        server.__exit__()


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "ledgers", "job") as one:
        yield one


def judged(judge, texts, prompts, ledger, server, **options):
    outcomes = Client(ledger, price=None, base_url=server.url, **options).answer(judge.calls(texts, prompts))
    unkept = {one.key: one for one in outcomes if isinstance(one, CallFailure)}
    return list(judge.read(texts, prompts, ledger, unkept))


def by_number(body):
    """The server's model: the outcome is the number in the answer modulo three."""
    number = int(body["messages"][0]["content"].split(" reason ")[1].split(".")[0])
    outcome = ("success", "partial", "failure")[number % 3]
    return json.dumps({"why": f"It gives reason {number}.", "outcome": outcome})


def test_each_answer_that_no_rule_decides_is_asked_once_through_faults(serve, ledger):
    texts = [answer(WHY, f" reason {i}. {{x}} %s", i // 2, i % 2) for i in range(24)]
    texts[5:5] = [answer(COW, " cow"), answer(WHY, "")]
    server = serve(answer=by_number, faults={"busy": 0.15, "reset": 0.1, "misfit": 0.1, "cut": 0.1})
    judge = ShortJudge("loop-1", 0, server_name(server.url))
    found = judged(judge, texts, [COW, WHY], ledger, server)
    assert [one.graded for one in found] == texts
    assert [one.by for one in found[5:7]] == ["rule"] * 2 and found[6].outcome == "failure"
    asked = found[:5] + found[7:]
    assert [one.outcome for one in asked] == ["success", "partial", "failure"] * 8
    assert {one.by for one in asked} == {"openai:loop-1"} and asked[3].why == "It gives reason 3."
    n_asked = len(server.rows)
    assert n_asked > 24 and judged(judge, texts, [COW, WHY], ledger, server) == found
    assert len(server.rows) == n_asked


@pytest.mark.parametrize(
    "said",
    [
        "success",
        json.dumps({"why": "Good.", "outcome": "full success"}),
        json.dumps({"why": "Good.", "outcome": "success", "grade": 10}),
        json.dumps({"outcome": "success"}),
        json.dumps({"why": 3, "outcome": "success"}),
        '{"why": "Good.", "outc',
    ],
)
def test_what_is_no_answer_of_a_judge_is_a_failure_and_no_outcome(said, serve, ledger):
    server = serve(answer=lambda body: said)
    texts = [answer(WHY, " it hurt")]
    judge = ShortJudge("loop-1", 0, server_name(server.url))
    (found,) = judged(judge, texts, [WHY], ledger, server, tries=2)
    assert isinstance(found, GradeFailure) and found.reason == "schema" and found.graded == texts[0]
    (unasked,) = ShortJudge("other", 0).read(texts, [WHY], ledger, {})
    assert isinstance(unasked, GradeFailure) and unasked.reason == "unreachable"


def test_the_judge_reads_the_answer_between_marks_and_what_counts():
    texts = [
        answer(WHY, " it\nhurt {0}"),
        answer(WHY, " it\nhurt {0}"),
        answer(WHY, " it\nhurt {0}", repeat=1),
    ]
    calls = ShortJudge("m", 3).calls(texts, [COW, WHY])
    text = calls[0].messages[0][1]
    assert f"BEGIN\nHe cried, because{SEPARATOR} it\nhurt {{0}}\nEND" in text and "speaks to you" in text
    assert "success: He {was} hurt.\npartial: Sad.\nfailure: None.\n" in text
    assert len({call.key for call in calls}) == 3
    assert calls[0].hash == calls[1].hash != calls[2].hash
    assert ShortJudge("m", 3).version != ShortJudge("m", 3, "here").version


# Shares -----------------------------------------------------------------------------------------------------


def outcome(prompt_id, name, sample=0, repeat=0):
    return ShortOutcome(Graded("A", " b", prompt_id, sample, repeat=repeat), name, "rule")


def test_shares_are_over_prompts_of_each_group():
    prompts = load_short_prompts()
    ids = {g: [p.id for p in prompts if p.group == g] for g in ("factual", "reasoning", "context")}
    found = [outcome(i, "success", s) for i in ids["factual"][:5] for s in range(4)]
    found += [outcome(i, "failure") for i in ids["factual"][5:]]
    found += [outcome(i, "partial", s) for i in ids["reasoning"] for s in range(2)]
    rows = summarise_short([*found, outcome(ids["factual"][0], "failure", repeat=1)], prompts)
    assert list(rows) == ["factual", "reasoning", "all"]
    success = rows["factual"].shares["success"]
    assert success.mean == pytest.approx(0.25) and (success.n_prompts, success.n) == (20, 35)
    assert 0 < success.low < 0.25 < success.high < 0.6
    assert sum(share.mean for share in rows["all"].shares.values()) == pytest.approx(1)
    assert rows["all"].shares["partial"].mean == pytest.approx(0.5)
    none = rows["reasoning"].shares["success"]
    assert none.mean == none.low == 0 and 0.1 < none.high < 0.2  # 20 prompts, whatever their answers
    assert json.loads(json.dumps(rows["factual"].to_json()))["shares"]["success"]["n"] == 35


def test_too_many_failed_calls_leave_no_share_but_prompts_for_a_judge_do():
    asked = [GradeFailure(Graded("A", " b", f"p{i}", 0), NO_JUDGE, "x") for i in range(10)]
    prompts = [ShortPrompt(f"p{i}", "context", "A", ("b",), (), i >= 10, "a", "b", "c") for i in range(40)]
    told = [outcome(f"p{i}", "success") for i in range(10, 40)]
    row = summarise_short([*asked, *told], prompts)["context"]
    assert row.shares["success"].mean == 1 and row.failures == {NO_JUDGE: 10} and row.failure_rate == 0
    failed = [GradeFailure(one.graded, "refusal", "x") for one in told[:5]]
    row = summarise_short([*asked, *failed, *told[5:]], prompts)["context"]
    assert row.shares == {} and row.failures == {NO_JUDGE: 10, "refusal": 5}
    assert row.failure_rate == pytest.approx(5 / 30)
    row = summarise_short([*asked, *failed[:3], *told[3:]], prompts)["context"]
    assert row.shares["success"].n == 27
    assert summarise_short(asked, prompts)["all"].shares == {}


def test_a_share_of_one_answer_a_prompt_is_nearly_that_of_clopper_and_pearson():
    for n_right in (0, 3, 20, 39, 40):
        found = share_over_prompts((f"p{i}", float(i < n_right)) for i in range(40))
        ends = binomtest(n_right, 40).proportion_ci(0.95, method="exact")
        assert found.mean == n_right / 40
        assert (found.low, found.high) == pytest.approx((ends.low, ends.high), abs=0.005)


def test_answers_of_one_prompt_are_one_cluster():
    alike = share_over_prompts((f"p{i % 20}", float(i % 20 < 8)) for i in range(200))
    spread = share_over_prompts((f"p{i % 20}", float(i // 20 < 4)) for i in range(200))
    assert (alike.mean, spread.mean) == pytest.approx((0.4, 0.4))
    ends = binomtest(80, 200).proportion_ci(0.95, method="exact")
    assert (spread.low, spread.high) == pytest.approx((ends.low, ends.high))
    assert alike.high - alike.low > 2.5 * (spread.high - spread.low)
    alone = share_over_prompts([("p", 1.0), ("p", 0.0)])
    assert (alone.mean, alone.low, alone.n) == (0.5, None, 2)
    with pytest.raises(ValueError, match="no value"):
        share_over_prompts([])


@pytest.mark.parametrize(("mean", "scatter"), [(0.5, 1.0), (0.9, 0.5), (0.95, 3.0)])
def test_intervals_of_shares_hold_the_truth_as_often_as_they_say(mean, scatter):
    """Prompts differ in how hard they are: shares of 20 prompts drawn from a beta distribution, 10 answers each."""
    rng = np.random.default_rng(0)
    n_held = 0
    for _ in range(300):
        of_prompt = rng.beta(mean * scatter, (1 - mean) * scatter, 20)
        hits = rng.random((20, 10)) < of_prompt[:, None]
        found = share_over_prompts((f"p{i}", float(hit)) for i, row in enumerate(hits) for hit in row)
        assert 0 <= found.low <= found.mean <= found.high <= 1
        n_held += found.low <= mean <= found.high
    assert n_held >= 0.91 * 300, n_held


# Prompts of the paper ---------------------------------------------------------------------------------------


def test_prompts_of_a_file_are_all_for_a_judge(tmp_path):
    path = tmp_path / "p.json"
    texts = {"factual": ["A", "B"], "context_tracking": ["C"], "reasoning": ["D"]}
    path.write_text(json.dumps({"source": "x", "prompts": texts}))
    found = read_short_prompts(path)
    assert [one.id for one in found] == ["factual-01", "factual-02", "context-01", "reasoning-01"]
    assert not any(one.by_rule for one in found)
    text = ShortJudge("m", 0).calls([answer(found[2], " d")], found)[0].messages[0][1]
    assert f"C{SEPARATOR} d" in text and "success: It goes on" in text


def test_groups_that_begin_alike_keep_all_their_prompts(tmp_path):
    path = tmp_path / "p.json"
    path.write_text(
        json.dumps({"prompts": {"context": ["A", "B"], "factual": ["C"], "context_tracking": ["D"]}})
    )
    found = read_short_prompts(path)
    ids = {"context-01": "A", "context-02": "B", "factual-01": "C", "context-03": "D"}
    assert {one.id: one.text for one in found} == ids and len(found) == 4
    path.write_text('{"prompts": {"context": ["A"], "context": ["B"]}}')
    with pytest.raises(DataError, match="twice"):
        read_short_prompts(path)
    path.write_text("[" * 100_000)
    with pytest.raises(DataError, match=r"p\.json"):
        read_short_prompts(path)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        [],
        {"prompts": []},
        {"prompts": {}},
        {"prompts": {"music": ["A"]}},
        {"prompts": {"factual": "A"}},
        {"prompts": {"factual": [""]}},
        {"prompts": {"factual": []}},
    ],
)
def test_what_is_no_file_of_short_prompts_is_said(tmp_path, wrong):
    path = tmp_path / "p.json"
    path.write_text(json.dumps(wrong))
    with pytest.raises(DataError, match="prompt") as error:
        read_short_prompts(path)
    assert "p.json" in error.value.message
    with pytest.raises(DataError):
        read_short_prompts(tmp_path / "absent.json")


def test_the_paper_s_short_prompts_are_read():
    path = data_dir() / "eval_probe_prompts.json"
    if not path.exists():
        pytest.skip("the data are not here")
    groups = {one.group for one in read_short_prompts(path)}
    assert groups == {"factual", "reasoning", "context"}
