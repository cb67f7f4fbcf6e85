"""Weights tell the jobs of heads where the truth is known, and none where there is none."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from tslens.audit.hand_set import IDLE_HEAD, TOKEN, hand_set_model, read_flags
from tslens.audit.heads import audit_stories
from tslens.errors import ModelError, ProbeInputError
from tslens.model.load import load_model
from tslens.probes.scan import score_heads
from tslens.probes.weights.report import WeightScore
from tslens.probes.weights.score import score_weights
from tslens.types import HeadId

JOBS = {HeadId(0, 1): "duplicate_token", HeadId(0, 2): "sentence_end", HeadId(0, 3): "name"}
LOOKS_BACK = HeadId(0, 0)


@pytest.fixture(scope="module")
def author():
    return audit_stories(40, seed=5)


@pytest.fixture(scope="module")
def made(author):
    """Heads whose jobs somebody wrote there; the one that looks back by one place writes what it sees."""
    tokenizer = load_model("shipped:l1_h64").tokenizer
    model = hand_set_model(tokenizer, read_flags(author, tokenizer), seed=0)
    with torch.no_grad():
        basis = torch.linalg.qr(torch.randn(48, 32, generator=torch.Generator().manual_seed(3))).Q
        model.blocks[0].attn.W_V[0, TOKEN] = basis
        model.blocks[0].attn.W_O[0] = 0.0
        model.blocks[0].attn.W_O[0, :, TOKEN] = basis.T
    return model


@pytest.fixture(scope="module")
def report(made, author):
    return score_weights(made, author, seed=0, probes=list(JOBS.values()), heads=(), n_explain=0)


def row_of(report, head, probe, position="word"):
    return next(s for s in report.scores if (s.head, s.probe, s.position) == (head, probe, position))


@pytest.mark.parametrize("head", JOBS)
def test_a_job_that_tokens_decide_stands_in_the_weights(report, head):
    score = row_of(report, head, JOBS[head])
    assert score.qk.status == "candidate", score.qk
    assert score.qk.low < score.qk.value < score.qk.high
    assert score.qk.value > 2 and score.qk.nats > 1
    rivals = [s.qk.value for s in report.scores if s.probe == JOBS[head] and s.head != head]
    assert score.qk.value > max(rivals)


def test_only_the_pair_counts_where_the_query_decides(report):
    duplicate = row_of(report, HeadId(0, 1), "duplicate_token").qk
    assert duplicate.nulls["shuffled"] < 0.2 * duplicate.value and duplicate.top > 0.9
    name = row_of(report, HeadId(0, 3), "name").qk
    assert name.nulls["shuffled"] == pytest.approx(name.value, rel=0.2)


def test_heads_without_such_a_job_have_none(report):
    for score in report.scores:
        if score.head in (LOOKS_BACK, IDLE_HEAD):
            assert score.qk.status != "candidate", score
    idle = row_of(report, IDLE_HEAD, "name")
    assert idle.qk.value == 0 and idle.qk.status == "no" and idle.copy.value == 0


def test_a_head_that_writes_what_it_sees_copies(report):
    copy = row_of(report, LOOKS_BACK, "name").copy
    assert copy.status == "candidate" and copy.top > 0.9 and copy.nats is None


def test_nothing_is_measured_without_attention(report):
    assert report.disagreements() == [] and report.agreements == ()
    assert all(score.measured is None for score in report.scores)
    assert report.n_stories == 40 and report.n_explained == 0 and report.n_tokens > 100


def test_a_random_model_has_no_candidates(made, author):
    random = made.random_twin("redrawn", seed=0)
    found = score_weights(random, author, seed=0, probes=list(JOBS.values()), heads=(), n_explain=0)
    assert {score.qk.status for score in found.scores} <= {"no", "unclear"}
    assert found.counts_at_floors["floor"] == 0


@pytest.fixture(scope="module")
def small():
    return load_model("shipped:l2_h64")


@pytest.fixture(scope="module")
def compared(small, author, make_scans_small):
    done = []
    with pytest.MonkeyPatch.context() as patch:
        make_scans_small(patch)
        found = score_weights(
            small, author, seed=0, probes=["name", "subject"], n_explain=6,
            progress=lambda part, n, total: done.append((part, n, total)),
        )  # fmt: skip
    return found, done


def test_ranks_stand_beside_attention_and_causes(compared, small):
    found, done = compared
    assert {"scanning", "weights", "random twins", "explaining"} == {part for part, _, _ in done}
    assert all(n <= total for part, n, total in done if part != "explaining")
    rows = found.disagreements()
    assert len(rows) == len(found.scores) == 4 * small.cfg.n_layers * small.cfg.n_heads
    gaps = [abs(row.measured.gap) for row in rows]
    assert gaps == sorted(gaps, reverse=True) and gaps[0] > 0
    for row in rows:
        measured = row.measured
        assert measured.gap == measured.rank_by_weights - measured.rank
        assert measured.edge is not None  # of every head, whatever its attention
    one = [row for row in rows if (row.probe, row.position) == ("name", "word")]
    by_attention = sorted(one, key=lambda row: row.measured.rank)
    assert [row.measured.value for row in by_attention] == sorted(
        (r.measured.value for r in one), reverse=True
    )
    assert found.n_explained >= 6
    measures = {row.measure for row in found.agreements}
    assert measures >= {"value", "beyond_distance", "excess", "edge"}


def test_the_same_rows_from_scores_at_hand(compared, small, author, make_scans_small, monkeypatch):
    found, _ = compared
    make_scans_small(monkeypatch)
    scan = score_heads(small, author, seed=0, probes=["name", "subject"], exclude=(), n_explain=0)
    again = score_weights(small, author, seed=0, probes=["name", "subject"], heads=scan.scores, n_explain=6)
    assert again.scores == found.scores and again.agreements == found.agreements


def test_rows_survive_json(compared):
    found, _ = compared
    assert [WeightScore.from_json(score.to_json()) for score in found.scores] == list(found.scores)
    assert "qk.value" in found.to_pandas().columns and "<table" in found._repr_html_()


def test_what_is_refused(small, author):
    with pytest.raises(ModelError, match="GPT-Neo of the paper"):
        score_weights(SimpleNamespace(), author, seed=0)
    with pytest.raises(ProbeInputError, match="which tokens"):
        score_weights(small, author, seed=0, probes=["previous_token"])
    with pytest.raises(ProbeInputError, match="no story"):
        score_weights(small, [], seed=0, probes=["name"])
    with pytest.warns(UserWarning, match="3 stories"):
        found = score_weights(small, author[:3], seed=0, probes=["name"], heads=(), n_explain=0)
    assert {score.qk.status for score in found.scores} == {"no"}
    lost = replace(found.scores[0].qk, halves=(None, None))
    assert WeightScore.from_json(replace(found.scores[0], qk=lost).to_json()).qk.halves == (None, None)
