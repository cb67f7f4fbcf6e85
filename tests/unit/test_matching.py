"""Matched units are found where the truth is known and not where there is none; measures are what they say."""

import copy
import json
import math

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from tslens.corpus.tokenizer import StoryTokenizer
from tslens.errors import DataError, ModelError, ProbeInputError
from tslens.model.spec import ModelSpec
from tslens.model.transformer import TinyTransformer
from tslens.probes.matching.assignment import (
    assign,
    exchanged_pairs,
    is_mutual,
    mean_of_others,
    pattern_similarity,
    similarity_matrix,
)
from tslens.probes.matching.match import match_models
from tslens.probes.matching.moments import (
    Covariances,
    bootstrap_correlations,
    random_rotation,
    rotated_correlation,
    story_moments,
)
from tslens.probes.matching.reading import QUERIES, activations, attention_rows, split_stories
from tslens.probes.matching.results import SCHEMA, load_match, save_match
from tslens.probes.matching.verdict import PROGRAM, Measured, judge_pairs
from tslens.provenance import provenance
from tslens.stats import percentile_ends, poisson_weights, second_half
from tslens.types import HeadId, NeuronId, Story

pytestmark = pytest.mark.usefixtures("small_scans")


N_HEADS, D_MLP = 4, 256


# Measures ---------------------------------------------------------------------------------------------------


def test_similarity_of_rows():
    rows = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    assert pattern_similarity(rows, rows).tolist() == [1, 1, 1]
    assert pattern_similarity(rows[0], rows[2]).item() == pytest.approx(0)
    divergence = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25)) - 0.5
    for one, other in ((rows[0], rows[1]), (rows[1], rows[0])):
        assert pattern_similarity(one, other).item() == pytest.approx(1 - math.sqrt(divergence), abs=1e-6)


def test_the_matrix_is_the_mean_over_queries():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(3, n, 5, 7, generator=generator).softmax(-1) for n in (2, 4))
    is_query = torch.ones(3, 5, dtype=torch.bool)
    is_query[1, 2:] = False
    found = similarity_matrix(a, b, is_query)
    assert found.shape == (3, 2, 4)
    for row, n_queries in enumerate((5, 2, 5)):
        for i in range(2):
            for j in range(4):
                mine = pattern_similarity(a[row, i, :n_queries], b[row, j, :n_queries]).mean()
                assert found[row, i, j].item() == pytest.approx(mine.item(), abs=1e-6)


def test_the_best_pairs_of_two_models_of_different_size():
    matrix = np.array([[0.9, 0.8, 0.1], [0.8, 0.1, 0.2]])
    pairs = assign(matrix)
    assert (pairs.a.tolist(), pairs.b.tolist()) == (
        [0, 1],
        [1, 0],
    )  # 1.6 in all; the nearest first would give 1.1
    assert is_mutual(matrix, pairs).tolist() == [False, False]
    assert pairs.of_b(matrix)[:2].tolist() == [0.8, 0.8] and np.isnan(pairs.of_b(matrix)[2])
    assert mean_of_others(matrix, pairs)[0] == pytest.approx((0.9 + 0.1 + 0.1) / 3)
    assert np.isnan(mean_of_others(np.ones((1, 1)), assign(np.ones((1, 1)))))
    turned = assign(matrix.T)
    assert sorted(zip(turned.b, turned.a, strict=True)) == list(zip(pairs.a, pairs.b, strict=True))


def test_the_strictest_of_three_stands_for_a_pair_under_the_exchange():
    pairs = assign(np.eye(3))
    exchanged = np.array([[0.1, 0.9, 0.0], [0.0, 0.2, 0.0], [0.0, 0.0, 0.3]])
    a, b = exchanged_pairs(exchanged, pairs)
    again = dict(zip(*linear_sum_assignment(exchanged, maximize=True), strict=True))
    assert again[0] == 1  # the first head of a goes with the second of b
    assert list(zip(a.tolist(), b.tolist(), strict=True)) == [(0, 1), (0, 1), (2, 2)]


@pytest.fixture
def columns():
    """Tokens of twelve stories: x, and y that is partly x; how many tokens each story has."""
    rng = np.random.default_rng(1)
    n_tokens = rng.integers(20, 60, 12).tolist()
    x = rng.standard_normal((sum(n_tokens), 6)) + 3
    y = 0.6 * x + rng.standard_normal((sum(n_tokens), 6))
    y[:, 5] = 1.0  # a neuron that is always the same
    return torch.from_numpy(x).float(), torch.from_numpy(y).float(), n_tokens


def test_correlations_from_sums(columns):
    x, y, n_tokens = columns
    sums = Covariances(6, 6)
    for one, other in zip(x.split(n_tokens), y.split(n_tokens), strict=True):
        sums.add(one, other)
    found, asked = sums.correlation(), np.corrcoef(x.T, y[:, :5].T)[:6, 6:]
    assert np.allclose(found[:, :5], asked, atol=1e-4)
    assert (found[:, 5] == 0).all()


def test_a_turned_basis_needs_no_second_pass(columns):
    x, y, _ = columns
    rng = np.random.default_rng(3)
    layers = [y[:, :2], y[:, 2:5]]
    turns = [random_rotation(n, rng) for n in (2, 3)]
    assert all(np.allclose(turn @ turn.T, np.eye(len(turn))) for turn in turns)
    turned = np.concatenate([layer.numpy() @ turn for layer, turn in zip(layers, turns, strict=True)], 1)
    sums, within = Covariances(6, 5), []
    sums.add(x, y[:, :5])
    for layer in layers:
        block = Covariances(layer.shape[1], layer.shape[1])
        block.add(layer, layer)
        within.append(block.covariance())
    found = rotated_correlation(sums.covariance(), x.numpy().var(0), within, turns)
    assert np.allclose(found, np.corrcoef(x.T, turned.T)[:6, 6:], atol=1e-3)


def test_correlations_over_resampled_stories(columns):
    x, y, n_tokens = columns
    moments = story_moments(x.double(), y.double(), n_tokens).numpy()
    weights = poisson_weights(0, range(12), 200)
    found = bootstrap_correlations(moments, np.array(n_tokens, dtype=float), weights)
    assert found[0, :5] == pytest.approx([np.corrcoef(x[:, i], y[:, i])[0, 1] for i in range(5)], abs=1e-6)
    story = np.repeat(np.arange(12), n_tokens)
    picked = np.repeat(np.arange(len(x)), weights[7, story].astype(int))
    assert found[7, 0] == pytest.approx(np.corrcoef(x[picked, 0], y[picked, 0])[0, 1], abs=1e-6)
    low, high = percentile_ends(found, 12)
    assert (low[:5] < found[0, :5]).all() and (found[0, :5] < high[:5]).all() and (high < 1).all()


# Verdict ----------------------------------------------------------------------------------------------------


def measured(values, nulls, programs, error=0.01):
    """Pairs of heads with the same error everywhere."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, error, (500, len(values)))
    noise[0] = 0
    value = np.array(values) + noise
    contrasts = {"exchanged": value - np.array(nulls), PROGRAM: value - np.array(programs)}
    n = len(values)
    return Measured(
        units=[(HeadId(0, i), HeadId(0, i)) for i in range(n)],
        replicates=value,
        n_stories=12,
        low=value[0] - 0.02,
        high=value[0] + 0.02,
        contrasts=contrasts,
        errors={name: np.full(n, error) for name in contrasts},
        other=np.full(n, np.nan),
        mutual=np.ones(n, dtype=bool),
    )


def test_statuses():
    found = judge_pairs(
        measured([0.9, 0.9, 0.9, 0.9], [0.5, 0.5, 0.84, 0.9], [0.6, 0.89, 0.6, 0.6]),
        "head",
        ("one", "other"),
        (4, 4),
    )
    assert [match.status for match in found.matches] == ["same", "like", "unclear", "no"]
    assert found.counts == {"same": 1, "like": 1, "unclear": 1, "no": 1}
    assert found.counts_at_floors == {
        "half": 2 + (found.matches[2].excess_low >= 0.025),
        "floor": 2,
        "double": 2,
    }
    best = found.matches[0]
    assert best.excess == pytest.approx(0.4) and best.beyond_program == pytest.approx(0.3)
    assert best.excess_low == pytest.approx(0.4 - found.critical * 0.01) and found.critical > 1.96
    assert best.other is None and found.means["excess"].value == pytest.approx((0.4 + 0.4 + 0.06 + 0) / 4)
    assert found.means["excess"].low < found.means["excess"].value < found.means["excess"].high


# Two models ---------------------------------------------------------------------------------------------------


def shuffled_units(model, seed):
    """The same model with the heads and the neurons of each layer in another order, and that order by layer."""
    copied, rng, order = copy.deepcopy(model), np.random.default_rng(seed), []
    with torch.no_grad():
        for block, original in zip(copied.blocks, model.blocks, strict=True):
            heads, neurons = rng.permutation(N_HEADS), rng.permutation(D_MLP)
            order.append((heads, neurons))
            for name in ("W_Q", "W_K", "W_V", "W_O"):
                getattr(block.attn, name).copy_(getattr(original.attn, name)[heads])
            block.mlp.W_in.copy_(original.mlp.W_in[:, neurons])
            block.mlp.b_in.copy_(original.mlp.b_in[neurons])
            block.mlp.W_out.copy_(original.mlp.W_out[neurons])
    return copied, order


@pytest.fixture(scope="module")
def many_stories(stories):
    return [*stories, *(Story(f"{story.text} The end.") for story in stories[:30])]


@pytest.fixture(scope="module")
def shuffled(tiny_model):
    return shuffled_units(tiny_model, 2)


@pytest.fixture(scope="module")
def with_copy(tiny_model, shuffled, many_stories):
    """A model matched with itself in another order."""
    models = {"one": tiny_model, "other": shuffled[0]}
    return match_models(models, many_stories, seed=0, roles=False)


def test_a_copy_in_another_order_is_found_whole(with_copy, shuffled):
    heads, neurons = with_copy.pairs
    assert (heads.component, neurons.component) == ("head", "neuron")
    assert len(heads.matches) == 2 * N_HEADS and len(neurons.matches) == 2 * D_MLP
    for match in heads.matches:
        assert (
            shuffled[1][match.b.layer][0][match.b.index] == match.a.index and match.a.layer == match.b.layer
        )
        assert match.value > 0.99 and match.mutual
    right = [
        shuffled[1][match.b.layer][1][match.b.index] == match.a.index and match.a.layer == match.b.layer
        for match in neurons.matches
    ]
    assert np.mean(right) > 0.99 and np.mean([match.value for match in neurons.matches]) > 0.99
    assert heads.counts["same"] + heads.counts["like"] >= 6
    assert neurons.counts["same"] + neurons.counts["like"] > 0.9 * len(neurons.matches)
    assert neurons.counts_at_floors["double"] <= neurons.counts_at_floors["floor"]
    assert {*heads.matches[0].nulls} == {"exchanged", "twins"}
    assert {*neurons.matches[0].nulls} == {"exchanged", "twins", "rotated"}


def test_a_noisy_copy_is_found_again(tiny_model, many_stories):
    """A tenth of each weight's deviation as noise: the units are still the same ones, and less alike."""
    noisy, order = shuffled_units(tiny_model, 3)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in noisy.parameters():
            parameter += 0.1 * parameter.std() * torch.randn(parameter.shape, generator=generator)
    report = match_models({"one": tiny_model, "other": noisy}, many_stories, seed=0, roles=False)
    for pair, kind in zip(report.pairs, (0, 1), strict=True):
        right = [
            order[match.b.layer][kind][match.b.index] == match.a.index and match.a.layer == match.b.layer
            for match in pair.matches
        ]
        assert np.mean(right) > 0.95
        found = [match for match, is_right in zip(pair.matches, right, strict=True) if is_right]
        assert 0.3 < np.mean([match.value for match in found]) < 0.99
        assert pair.counts["same"] + pair.counts["like"] > 0.8 * len(pair.matches)


def test_models_that_learned_nothing_share_nothing(tiny_model, many_stories):
    twins = {str(seed): tiny_model.random_twin("redrawn", seed=seed) for seed in (1, 2)}
    heads, neurons = match_models(twins, many_stories, seed=0, roles=False).pairs
    for pair in (heads, neurons):
        assert pair.counts["same"] + pair.counts["like"] == 0
        assert pair.means["excess"].value < 0
    assert len(neurons.matches) == 2 * D_MLP


@pytest.mark.slow  # the command matches models of different depth
def test_models_of_different_size(tiny_model, tokenizer, many_stories):
    small = TinyTransformer(ModelSpec.from_name("l1_h32"), tokenizer.vocab_size, seed=1, tokenizer=tokenizer)
    for models in ({"big": tiny_model, "small": small}, {"small": small, "big": tiny_model}):
        heads, neurons = match_models(models, many_stories, seed=0, roles=False).pairs
        assert len(heads.matches) == small.cfg.n_heads and len(neurons.matches) == small.cfg.d_mlp
        assert (heads.n_a, heads.n_b) == tuple(
            model.cfg.n_layers * model.cfg.n_heads for model in models.values()
        )
        for pair in (heads, neurons):
            for match in pair.matches:
                numbers = [match.value, match.low, match.high, match.excess_low, match.beyond_low]
                assert np.isfinite([*numbers, *match.nulls.values()]).all()


def test_what_is_read(tiny_model, stories):
    halves = split_stories({"one": tiny_model}, stories, seed=0)
    assert halves.n_chosen_on + halves.n_read == len(stories)
    for side, batches in ((False, halves.choosing), (True, halves.reading)):
        for batch in batches:
            n_rows = len(batch.cluster)
            assert n_rows > 1 and (batch.other != torch.arange(n_rows)).all()
            assert {second_half(key) for key in batch.cluster} == {side}
            common = torch.minimum(batch.length, batch.length[batch.other])[:, None]
            assert ((batch.query_pos > 0) & (batch.query_pos < common))[batch.is_query].all()
            assert (batch.is_query.sum(1) == torch.minimum(common[:, 0] - 1, torch.tensor(QUERIES))).all()
            for row in range(n_rows):
                drawn = batch.query_pos[row][batch.is_query[row]]
                assert len(drawn.unique()) == len(drawn)
    batch = halves.reading[0]
    rows, moved = (attention_rows(tiny_model, batch, exchanged=exchanged) for exchanged in (False, True))
    patterns = [
        pattern[0, 2, batch.query_pos[0, 1]] for pattern in tiny_model.attention_patterns(batch.tokens)
    ]
    assert torch.allclose(rows[0, 2, 1], patterns[0]) and torch.allclose(rows[0, N_HEADS + 2, 1], patterns[1])
    here = next(iter(tiny_model.attention_patterns(batch.tokens)))[batch.other[0], 2, batch.query_pos[0, 1]]
    assert torch.allclose(moved[0, 2, 1], here)
    found, other = (activations(tiny_model, batch, exchanged=exchanged) for exchanged in (False, True))
    assert found.shape == (int(batch.is_read.sum()), 2 * D_MLP) and not torch.allclose(found, other)


def test_training_stories_of_either_are_left_out(tiny_model, many_stories):
    one, other = (copy.copy(tiny_model) for _ in range(2))
    one.train_digests = frozenset(story.digest for story in many_stories[:10])
    other.train_digests = frozenset(story.digest for story in many_stories[5:20])
    report = match_models(
        {"one": one, "other": other}, many_stories, seed=0, components=["neuron"], roles=False
    )
    assert (report.n_excluded, report.n_stories) == (20, 70)
    assert [pair.component for pair in report.pairs] == ["neuron"]


def test_what_cannot_be_matched(tiny_model, many_stories):
    with pytest.raises(ProbeInputError, match="1 model"):
        match_models({"one": tiny_model}, many_stories, seed=0)
    with pytest.raises(ProbeInputError, match="One half"):
        match_models({"one": tiny_model, "other": tiny_model}, many_stories[:6], seed=0)
    tokenizer = StoryTokenizer.train(many_stories, vocab_size=300)
    other = TinyTransformer(ModelSpec.from_name("l1_h32"), 300, seed=1, tokenizer=tokenizer)
    with pytest.raises(ModelError, match="different tokenizers"):
        match_models({"one": tiny_model, "other": other}, many_stories, seed=0)
    other.tokenizer = None
    with pytest.raises(ModelError, match="no tokenizer"):
        match_models({"one": tiny_model, "other": other}, many_stories, seed=0)


def test_few_stories_are_warned_of(tiny_model, shuffled, many_stories):
    with pytest.warns(UserWarning, match="too narrow"):
        match_models(
            {"one": tiny_model, "other": shuffled[0]},
            many_stories[:30],
            seed=0,
            components=["neuron"],
            roles=False,
        )


# Files --------------------------------------------------------------------------------------------------------


def test_files(with_copy, tiny_model, shuffled, many_stories, tmp_path):
    record = provenance(command="match", seed=0, data="made", data_sha256="0", started="now", seconds=1.0)
    path, again = tmp_path / "match.jsonl", tmp_path / "again.jsonl"
    save_match(with_copy, path, checkpoints=["a", "b"], record=record)
    header, loaded = load_match(path)
    assert loaded == with_copy and header["checkpoints"] == ["a", "b"]
    assert isinstance(loaded.pairs[1].matches[0].a, NeuronId) and "NaN" not in path.read_text()
    models = {"one": tiny_model, "other": shuffled[0]}
    save_match(
        match_models(models, many_stories, seed=0, roles=False), again, checkpoints=["a", "b"], record=record
    )
    assert path.read_bytes() == again.read_bytes()
    assert len(with_copy.to_pandas()) == 2 * (N_HEADS + D_MLP) and "L1H3" in with_copy._repr_html_()
    rows = path.read_text().splitlines()
    broken = {**json.loads(rows[1]), "a": "head 3"}
    path.write_text("\n".join([rows[0], json.dumps(broken), *rows[2:]]))
    with pytest.raises(DataError, match="no match"):
        load_match(path)
    path.write_text(rows[0].replace(SCHEMA, "tslens.match/9"))
    with pytest.raises(DataError, match="schema"):
        load_match(path)
