"""Basis and cause where the truth is known: a head whose copies the loss depends on, and the same head silenced."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

import tslens
from tslens.audit.hand_set import TOKEN, TokenFlags, hand_set_model
from tslens.probes.base import choose_probes, find_probes
from tslens.probes.batch import batch_of_stories
from tslens.probes.cause import MOST_QUERIES, _drawn
from tslens.probes.edges import Edges, edges_of
from tslens.probes.explain import agreement
from tslens.probes.scan import calibrate, score_heads
from tslens.probes.units import LabelNeeds
from tslens.types import HeadId, Story

pytestmark = pytest.mark.usefixtures("small_scans")


VOCABULARY = 4096  # of the shipped tokenizer
COPIES = HeadId(0, 0)  # the previous-token head of the hand-set model


@pytest.fixture(scope="module")
def alternating(tokenizer):
    """Stories of two words that take turns: the next token is always the one before the current one."""
    words = [
        word for word in "the and happy park ball cake kite wanted found they more was".split()
        if len(tokenizer.encode(f" {word}")) == 1
    ]  # fmt: skip
    rng = random.Random(0)
    stories = []
    for index in range(50):
        a, b = rng.sample(words, 2)
        stories.append(Story(" ".join([rng.choice(words) for _ in range(index % 7)] + [a, b] * (12 + index))))
    return stories


def copying_model(tokenizer, *, strength):
    """The hand-set model; its previous-token head writes the token that it sees, so that it is predicted."""
    nothing = np.zeros(tokenizer.vocab_size, dtype=bool)
    model = hand_set_model(tokenizer, TokenFlags(nothing, nothing, nothing), seed=0)
    attention = model.blocks[0].attn
    with torch.no_grad():
        basis = torch.linalg.qr(torch.randn(48, 32, generator=torch.Generator().manual_seed(3))).Q
        attention.W_V[0, TOKEN] = basis
        attention.W_O[0] = 0.0
        attention.W_O[0, :, TOKEN] = strength * basis.T
    return model


def scanned(model, stories, **options):
    return score_heads(model, stories, probes=["previous_token"], seed=0, n_explain=40, **options)


def of_head(report, head=COPIES):
    return next(score for score in report.scores if score.head == head)


def test_a_head_whose_copies_the_loss_needs_is_a_role(tokenizer, alternating):
    done = []
    score = of_head(
        report := scanned(copying_model(tokenizer, strength=3.0), alternating, explaining=done.append)
    )
    assert score.status == "role", score
    assert score.basis == "positional"
    assert score.cause["edge"] > 0.3
    assert score.cause["edge_low"] > 0
    assert score.cause["full"] >= score.cause["edge"] - 1e-6
    assert score.cause["zero"] > 0.3
    assert score.cause["mass"] == pytest.approx(score.value, abs=0.1)
    assert "edge_per_mass" not in score.cause, "so sharp a head leaves no mass to like keys"
    assert report.n_explained >= 40
    assert done[-1] == report.n_explained


def test_a_head_that_writes_nothing_is_no_role(tokenizer, alternating):
    score = of_head(scanned(copying_model(tokenizer, strength=0.0), alternating))
    assert score.status == "candidate"
    effects = {name: score.cause[name] for name in ("edge", "edge_low", "full", "zero", "mean", "resample")}
    assert max(map(abs, effects.values())) < 1e-5
    assert score.cause["loss"] > 0
    assert score.cause["ngram"] > 0


def test_a_head_that_misleads_is_no_role(tokenizer, alternating):
    score = of_head(scanned(copying_model(tokenizer, strength=-3.0), alternating))
    assert score.status == "candidate"
    assert score.cause["edge"] < 0


def test_without_explaining_no_row_has_a_cause(tokenizer, alternating):
    report = score_heads(
        copying_model(tokenizer, strength=3.0), alternating, probes=["previous_token"], seed=0, n_explain=0
    )
    assert {score.status for score in report.scores} <= {"candidate", "unclear", "no"}
    assert all(score.cause is None for score in report.scores)
    assert report.n_explained == 0


def test_the_same_seed_gives_the_same_report(tokenizer, alternating):
    model = copying_model(tokenizer, strength=3.0)
    assert scanned(model, alternating).scores == scanned(model, alternating).scores


# Edges ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gold_batch():
    stories = list(tslens.write_stories(4, seed=2))
    tokenizer = tslens.load_model("shipped:l1_h64").tokenizer
    return batch_of_stories(stories, tokenizer, n_ctx=512, labels=LabelNeeds(scheme=True))


@pytest.mark.parametrize("name", [name for name in find_probes() if name not in {"induction", "first_token"}])
def test_edges_are_of_served_queries_and_controls_are_no_targets(name, gold_batch):
    (probe,) = choose_probes([name])
    calibration = calibrate([gold_batch], [probe], VOCABULARY, window=None)
    serves = probe.serves(gold_batch)
    found = edges_of(probe, gold_batch, calibration)
    assert {row.position for row in probe.rows(gold_batch, calibration)} == set(found)
    for edges in found.values():
        target, control = (
            {tuple(edge) for edge in table.T.tolist()} for table in (edges.target, edges.control)
        )
        assert target
        assert not target & control
        assert len(control) == edges.control.shape[1]
        for row, query, key in target | control:
            assert 1 <= key <= query < gold_batch.length[row]
            assert serves[row, query]


def test_a_probe_that_serves_nothing_has_no_edges(gold_batch):
    (probe,) = choose_probes(["first_token"])
    assert edges_of(probe, gold_batch, calibrate([gold_batch], [probe], VOCABULARY, window=None)) == {}


def test_controls_of_a_relation_are_like_the_nearest_target_first(gold_batch):
    (probe,) = choose_probes(["subject"])
    calibration = calibrate([gold_batch], [probe], VOCABULARY, window=None)
    edges = edges_of(probe, gold_batch, calibration)["word"]
    nearest = [{}, {}]
    for found, table in zip(nearest, (edges.target, edges.control), strict=True):
        for row, query, key in table.T.tolist():
            found[row, query] = min(query - key, found.get((row, query), query))
    both = nearest[0].keys() & nearest[1].keys()
    assert len(both) > 0.8 * len(nearest[0])
    for place in both:  # the same octave of distance, or the next
        assert abs(np.log2(nearest[0][place] / nearest[1][place])) < 2


# Agreement --------------------------------------------------------------------------------------------------


def test_agreement_of_ways_to_ablate_is_a_rank_correlation(tokenizer, alternating):
    score = of_head(scanned(copying_model(tokenizer, strength=3.0), alternating))
    rows = [
        replace(score, cause={"edge": float(i), "zero": float(-i), "mean": float(i % 3), "resample": 0.0})
        for i in range(6)
    ]
    found = agreement(rows)
    assert found["edge~zero"] == pytest.approx(-1.0)
    assert "edge~resample" not in found, "nothing varies there"
    assert agreement(rows[:3]) == {}


def test_a_probe_that_reads_no_stories_is_explained_alone(tokenizer, alternating):
    nothing = np.zeros(tokenizer.vocab_size, dtype=bool)
    model = hand_set_model(tokenizer, TokenFlags(nothing, nothing, nothing), seed=0)
    report = score_heads(model, alternating, probes=["induction"], seed=0, n_explain=10)
    assert {score.probe for score in report.scores} == {"induction"}
    assert of_head(report, HeadId(1, 0)).status in {"candidate", "role"}
    assert of_head(report, HeadId(1, 0)).cause is not None


@pytest.mark.filterwarnings("ignore:.*below 30 intervals:UserWarning")
def test_few_stories_explain_nothing_and_break_nothing(tokenizer):
    model = tslens.load_model("shipped:l2_h64")
    report = score_heads(model, list(tslens.write_stories(3, seed=77)), seed=0, n_explain=3)
    assert {score.status for score in report.scores if score.probe != "induction"} <= {"unclear", "no"}


def test_of_a_story_up_to_64_queries_are_tested_and_all_edges_of_each() -> None:
    size = 100
    lots = np.random.default_rng(0).random((2, size))
    query = np.arange(2, size)
    target = np.concatenate(
        [np.stack([0 * query, query, query - 1]), np.stack([0 * query, query, query - 2])], 1
    )
    short = np.array([[1, 1, 1], [4, 5, 6], [3, 3, 3]])
    control = np.concatenate([np.stack([0 * query, query, 0 * query + 1]), short[:, :2] - [[0], [0], [1]]], 1)
    drawn = _drawn(Edges(np.concatenate([target, short], 1), control), lots)
    kept = np.unique(drawn.target[1][drawn.target[0] == 0])
    assert len(kept) == MOST_QUERIES
    assert lots[0, kept].max() < lots[0, np.setdiff1d(query, kept)].min()
    assert (drawn.target[0] == 0).sum() == 2 * MOST_QUERIES  # both edges of a query stay
    assert set(drawn.control[1][drawn.control[0] == 0]) == set(kept)
    assert drawn.target[:, drawn.target[0] == 1].tolist() == short[:, :2].tolist()  # query 6 has no control
