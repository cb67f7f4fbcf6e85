"""Heads from weights alone, part by part: pairs of tokens, contrasts, rank correlations, files."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from scipy.stats import t as student

from tslens.errors import DataError
from tslens.files import write_jsonl
from tslens.model.spec import ModelSpec
from tslens.model.transformer import TinyTransformer
from tslens.probes.base import Calibration
from tslens.probes.batch import batch_of_tokens
from tslens.probes.duplicate_token import DuplicateToken
from tslens.probes.weights.agreement import (
    Quantities,
    explanations,
    fisher_interval,
    jackknife_interval,
    rank_agreements,
    ranks_first_is_1,
)
from tslens.probes.weights.circuits import ov_effects, qk_scores
from tslens.probes.weights.contrast import ScoreTable, among_top, contrast, dealt_anew
from tslens.probes.weights.relations import MIN_LIKE, SeenTokens, count_relations
from tslens.probes.weights.results import AGREEMENT_SCHEMA, SCHEMA, agreement_path, load_weights
from tslens.probes.weights.vectors import embedding_vectors, stream_vectors
from tslens.types import HeadId

N_VOCAB = 40
STORIES = [
    [0, *range(10, 24), 11, 30, 12, 31],  # 11 and 12 twice: 30 and 31 follow the copies
    [0, *range(10, 24), 12, 11, 12],  # 12 three times; nothing follows the last
]


@pytest.fixture(scope="module")
def batch():
    return batch_of_tokens(STORIES, (7, 9))


@pytest.fixture(scope="module")
def calibration(batch):
    return Calibration(np.bincount(batch.tokens[batch.is_query], minlength=N_VOCAB))


@pytest.fixture(scope="module")
def seen(calibration):
    return SeenTokens.of(calibration)


def by_token(pairs, seen):
    """Weights of pairs of ids, by story."""
    table = pairs.weight.toarray()
    names = [(int(seen.ids[a]), int(seen.ids[b])) for a, b in zip(pairs.first, pairs.second, strict=True)]
    return [{name: float(w) for name, w in zip(names, row, strict=True) if w > 0} for row in table]


def test_seen_tokens_are_those_of_the_text(seen):
    assert seen.ids.tolist() == [*range(10, 24), 30, 31]
    assert seen.count[seen.number[12]] == 5 and seen.number[0] == -1 and seen.number[25] == -1
    assert seen.share.sum() == pytest.approx(1)
    assert seen.bin[seen.number[30]] == seen.bin[seen.number[31]] != seen.bin[seen.number[12]]


@pytest.fixture(scope="module")
def level():
    """Counts that are all alike, so that every token is like every other."""
    return Calibration(np.where(np.arange(N_VOCAB) >= 10, 5, 0))


def test_pairs_with_like_tokens(batch, level):
    seen = SeenTokens.of(level)
    found = count_relations([batch], [DuplicateToken()], level, seen)["duplicate_token", "word"]
    qk, copy, after = (by_token(found[name], seen) for name in ("qk", "copy", "next"))
    assert qk == copy  # a copy is its own key
    assert qk[0] == pytest.approx({(11, 11): 0.5, (12, 12): 0.5})
    assert qk[1] == pytest.approx({(12, 12): 0.75, (11, 11): 0.25})  # two copies of 12 before the last
    assert after[0] == pytest.approx({(11, 30): 0.5, (12, 31): 0.5})
    assert after[1] == pytest.approx({(12, 11): 0.5, (11, 12): 0.5})  # the last token has nothing behind it
    assert found["qk"].mean_weight.sum() == pytest.approx(1)
    assert found["qk"].is_present.tolist() == [True, True]
    n_like = found["qk"].n_like[seen.number[11]]
    assert n_like.tolist() == [len(seen.ids) - 1]


def test_a_relation_without_like_tokens_is_left_out(batch, calibration, seen):
    # 11 and 12 are the only tokens of like count.
    assert count_relations([batch], [DuplicateToken()], calibration, seen) == {}


def test_contrast_is_that_of_a_loop(batch, level):
    seen = SeenTokens.of(
        Calibration(np.where(np.arange(N_VOCAB) >= 10, 5 + 60 * (np.arange(N_VOCAB) % 2), 0))
    )
    assert len(set(seen.bin.tolist())) == 2
    pairs = count_relations([batch], [DuplicateToken()], level, seen)["duplicate_token", "word"]["next"]
    scores = np.random.default_rng(0).normal(size=(len(seen.ids), len(seen.ids)))
    scores[pairs.first[0], pairs.second[0]] = 3.0  # among the best of its row, the others are not
    kept = scores.copy()
    table = ScoreTable.of(scores, seen)
    found, is_top = contrast(table, pairs, seen), among_top(table, pairs)
    assert np.array_equal(scores, kept)
    own = set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    for at, (i, j) in enumerate(zip(pairs.first, pairs.second, strict=True)):
        like = [k for k in range(len(seen.ids)) if seen.bin[k] == seen.bin[j] and (i, k) not in own]
        assert len(like) >= MIN_LIKE
        mean = np.average(scores[i], weights=seen.share)
        spread = np.sqrt(np.average((scores[i] - mean) ** 2, weights=seen.share))
        nats = scores[i, j] - scores[i, like].mean()
        assert found.nats[at] == pytest.approx(nats)
        assert found.spreads[at] == pytest.approx(nats / spread)
        assert is_top[at] == ((scores[i] > scores[i, j]).sum() < 10)
    assert 0 < is_top.sum() < len(is_top)


def test_pairs_dealt_anew_are_the_mean_over_all_deals(batch, level):
    seen = SeenTokens.of(level)
    pairs = count_relations([batch], [DuplicateToken()], level, seen)["duplicate_token", "word"]["next"]
    scores = np.random.default_rng(1).normal(size=(len(seen.ids), len(seen.ids)))
    table, weight = ScoreTable.of(scores, seen), pairs.mean_weight
    own = set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    expected = 0.0
    for i, w in zip(pairs.first, weight, strict=True):
        like = [k for k in range(len(seen.ids)) if (i, k) not in own]
        for j, v in zip(pairs.second, weight, strict=True):
            expected += w * v * (table.scores[i, j] - table.scores[i, like].mean()) / table.spread[i]
    assert dealt_anew(table, pairs, seen) == pytest.approx(expected)
    favourite = np.zeros_like(scores)
    favourite[:, pairs.second] = 1.0  # whatever the query: the keys alone are liked
    table = ScoreTable.of(favourite, seen)
    value = weight @ contrast(table, pairs, seen).spreads
    assert 0 < dealt_anew(table, pairs, seen) <= value + 1e-9


def test_a_head_that_likes_nothing_has_no_spreads(batch, level):
    seen = SeenTokens.of(level)
    pairs = count_relations([batch], [DuplicateToken()], level, seen)["duplicate_token", "word"]["qk"]
    table = ScoreTable.of(np.full((len(seen.ids), len(seen.ids)), 3.0), seen)
    found = contrast(table, pairs, seen)
    assert (
        not found.spreads.any()
        and not among_top(table, pairs).any()
        and dealt_anew(table, pairs, seen) == 0.0
    )


# Circuits ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny():
    model = TinyTransformer(ModelSpec.from_name("l2_h32"), N_VOCAB, seed=3).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".W_" in name:
                parameter.mul_(8)
        for block in model.blocks:
            block.ln1.w.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(1))
    return model


@torch.no_grad()
def test_layer_0_scores_are_the_models_own_without_positions(tiny, seen):
    model = TinyTransformer(tiny.spec, N_VOCAB, seed=0).eval()
    model.load_state_dict(tiny.state_dict())
    model.pos_embed.W_pos.zero_()
    tokens = torch.tensor([seen.ids.tolist()])
    got = {}
    model.run_with_hooks(
        tokens,
        return_type=None,
        fwd_hooks=[("blocks.0.attn.hook_attn_scores", lambda x, hook: got.update(scores=x))],
    )
    for index in range(model.cfg.n_heads):
        mine = qk_scores(model, HeadId(0, index), embedding_vectors(model, seen)[0])
        lower = np.tril_indices(len(seen.ids))
        assert np.allclose(mine[lower], got["scores"][0, index].numpy()[lower], atol=1e-4)


@torch.no_grad()
def test_stream_vectors_are_means_of_what_the_layer_reads(tiny, batch, seen):
    got = {}
    hooks = [
        (f"blocks.{layer}.ln1.hook_normalized", lambda x, hook, layer=layer: got.update({layer: x}))
        for layer in range(2)
    ]
    tiny.run_with_hooks(torch.from_numpy(batch.tokens), return_type=None, fwd_hooks=hooks)
    found = stream_vectors(tiny, [batch], seen)
    used = batch.is_query & (batch.tokens == 12)
    for layer, block in enumerate(tiny.blocks):
        expected = (got[layer] * block.ln1.w + block.ln1.b)[torch.from_numpy(used)].mean(0)
        assert torch.allclose(found[layer][seen.number[12]], expected, atol=1e-5)


@torch.no_grad()
def test_effects_are_those_of_the_direct_path(tiny, seen):
    vectors = embedding_vectors(tiny, seen)[1]
    head = HeadId(1, 1)
    effects = ov_effects(tiny, head, vectors, seen)
    attention = tiny.blocks[1].attn
    written = vectors[4] @ attention.W_V[1] @ attention.W_O[1]
    far = written / written.std(unbiased=False) * 1e4  # there a LayerNorm only divides
    logits = tiny.unembed(tiny.ln_final(far) - tiny.ln_final.b)[torch.from_numpy(seen.ids)].numpy()
    assert np.corrcoef(effects[4], logits)[0, 1] == pytest.approx(1, abs=1e-5)


# Agreement --------------------------------------------------------------------------------------------------

RELATIONS = [("name", "word"), ("subject", "word"), ("topic", "before")]


def quantities(scores, measures, n_layers=2):
    n_heads = next(iter(scores.values())).shape[1]
    return Quantities(RELATIONS, np.arange(n_heads) * n_layers // n_heads, scores, measures)


def found_by(rows, probe=None, layer=None, score="qk", measure="value"):
    return next(
        row
        for row in rows
        if (row.probe, row.layer, row.score, row.measure) == (probe, layer, score, measure)
    )


def test_rank_correlations_against_scipy():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(3, 16))
    b = np.round(a + rng.normal(size=a.shape), 1)  # ties among them
    rows = rank_agreements(quantities({"qk": a}, {"value": b}), seed=0)
    each = [spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)]
    for (probe, _), r in zip(RELATIONS, each, strict=True):
        row = found_by(rows, probe)
        assert row.spearman == pytest.approx(r) and row.low < r < row.high and row.n_heads == 16
    mean = found_by(rows)
    assert mean.spearman == pytest.approx(np.mean(each)) and mean.low < mean.spearman < mean.high
    assert mean.p < 0.01 and mean.n_relations == 3
    late = [spearmanr(x[8:], y[8:]).statistic for x, y in zip(a, b, strict=True)]
    assert found_by(rows, layer=1).spearman == pytest.approx(np.mean(late))
    assert found_by(rows, layer=1).n_heads == 8


def test_no_agreement_is_not_beyond_chance():
    rng = np.random.default_rng(0)
    p = [
        found_by(
            rank_agreements(
                quantities({"qk": rng.normal(size=(3, 16))}, {"value": rng.normal(size=(3, 16))}, 1), seed=0
            )
        ).p
        for _ in range(40)
    ]
    assert sum(one < 0.05 for one in p) <= 6


def test_relations_with_gaps_or_without_differences_are_left_out():
    a = np.random.default_rng(0).normal(size=(3, 8))
    b = a.copy()
    a[0, 3], b[1] = np.nan, 2.0
    rows = rank_agreements(quantities({"qk": a}, {"value": b}, 1), seed=0)
    assert {row.probe for row in rows} == {"topic", None} and found_by(rows).n_relations == 1
    assert found_by(rows, "topic").spearman == pytest.approx(1)
    assert rank_agreements(quantities({"qk": a[:, :5]}, {"value": b[:, :5]}, 1), seed=0) == []


def test_interval_of_bonett_and_wright():
    low, high = fisher_interval(np.array([0.6]), 16)
    half = 1.959964 * np.sqrt((1 + 0.18) / 13)
    assert low[0] == pytest.approx(np.tanh(np.arctanh(0.6) - half))
    assert high[0] == pytest.approx(np.tanh(np.arctanh(0.6) + half))


def test_jackknife_of_a_mean_is_its_students_interval():
    x = np.random.default_rng(2).normal(scale=0.1, size=12)
    without = np.array([np.delete(x, i).mean() for i in range(12)])
    low, high = jackknife_interval(float(x.mean()), without)
    half = student.ppf(0.975, 11) * x.std(ddof=1) / np.sqrt(12)
    assert (low, high) == pytest.approx((x.mean() - half, x.mean() + half))
    assert jackknife_interval(0.99, without)[1] <= 1.0


def test_what_brings_two_ranks_together_is_named():
    attention = np.array([[9.0, 8, 7, 6, 5, 4, 3, 2, 1]])
    by_weights = np.array([[0.0, 8, 7, 6, 5, 4, 3, 2, 1]])  # the first head is last by weights
    missing = np.full_like(attention, np.nan)
    named = explanations(
        by_weights,
        attention,
        {
            "lost": (missing, attention),
            "some": (np.array([[4.5, 8, 7, 6, 5, 4, 3, 2, 1]]), attention),
            "all": (attention, attention),
            "late": (attention, attention),
        },
    )
    assert named[0][0] == "all"  # the nearest, of two alike the first
    assert ranks_first_is_1(by_weights)[0].tolist() == [9, 1, 2, 3, 4, 5, 6, 7, 8]
    none = explanations(by_weights, attention, {"none": (by_weights, attention)})
    assert none == [[None] * 9]
    assert explanations(attention, attention, {"all": (attention, attention)}) == [[None] * 9]


def test_broken_files_are_refused(tmp_path):
    path = tmp_path / "a.jsonl"
    write_jsonl(path, SCHEMA, {}, [{"head": "L0H1"}])
    write_jsonl(agreement_path(path), AGREEMENT_SCHEMA, {}, [])
    with pytest.raises(DataError, match="no row of weights"):
        load_weights(path)
    agreement_path(path).write_text(json.dumps({"schema": "tslens.other/1"}) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="schema"):
        load_weights(path)
