"""Readouts as a whole: packed, read by models and n-grams of which the truth is known, and scored."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from tslens.causal.ablator import Ablator, Intervention
from tslens.causal.means import read_means
from tslens.corpus.author import write_stories
from tslens.corpus.tokenizer import StoryTokenizer
from tslens.link.batches import by_readout, pack
from tslens.link.measure import (
    CHANCE,
    differences_of,
    read_ngram,
    read_pairs,
    read_pairs_by_ngram,
    read_readouts,
    score_readouts,
)
from tslens.link.ngram_null import fit_ngram, training_texts
from tslens.link.pairs import Pair, Readout, Side
from tslens.link.readouts import make_readouts
from tslens.model.batches import IGNORED
from tslens.model.ngram import NgramModel
from tslens.model.shipped import tokenizer_file
from tslens.model.spec import ModelSpec
from tslens.model.transformer import TinyTransformer
from tslens.types import HeadId

OF_STORIES = ("agreement", "tense", "word_order", "swapped_names", "changed_pronoun")
OF_PROMPTS = ("factual", "reasoning", "context")


@pytest.fixture(scope="module")
def shipped_tokenizer():
    return StoryTokenizer.load(tokenizer_file("cc8626255732"))


@pytest.fixture(scope="module")
def told():
    return list(write_stories(60, seed=11))


@pytest.fixture(scope="module")
def readouts(shipped_tokenizer, told):
    return make_readouts(shipped_tokenizer, n_ctx=512, instruct=True, seed=0, n_pairs=30, stories=told)


def new_model(tokenizer, seed, name="l1_h64"):
    return TinyTransformer(
        ModelSpec.from_name(name), tokenizer.vocab_size, seed=seed, tokenizer=tokenizer
    ).eval()


# Made -------------------------------------------------------------------------------------------------------


def test_readouts_of_a_model_are_the_same_whenever_they_are_made(shipped_tokenizer, told, readouts):
    names = [one.name for one in readouts]
    assert names == [*OF_STORIES, "lost_object", "instructed_word", "instructed_sentence", *OF_PROMPTS]
    assert {one.name: len(one.pairs) for one in readouts if len(one.pairs) < 20} == {}
    again = make_readouts(shipped_tokenizer, n_ctx=512, instruct=False, seed=0, n_pairs=30, stories=told)
    assert [one.name for one in again] == [name for name in names if not name.startswith("instructed")]
    by_name = {one.name: one for one in readouts}
    for one in again:
        mine = by_name[one.name].pairs
        assert [pair.right.tokens.tolist() for pair in one.pairs] == [p.right.tokens.tolist() for p in mine]


def test_no_readout_reads_behind_the_context(shipped_tokenizer, told):
    found = make_readouts(shipped_tokenizer, n_ctx=60, instruct=True, seed=0, n_pairs=10, stories=told[:20])
    assert sum(len(one.pairs) for one in found) > 20
    assert all(len(s.tokens) <= 60 for one in found for p in one.pairs for s in (p.right, p.wrong))


def test_no_liking_for_words_passes(shipped_tokenizer, readouts):
    """The counts of single tokens are right in exactly half of the pairs of every mirrored readout."""
    unigram = fit_ngram(shipped_tokenizer, n_ctx=512, texts=training_texts(200), order=1)
    scores = {score.readout: score for score in read_ngram(unigram, readouts, seed=0)}
    for name in (*OF_STORIES, "lost_object", "instructed_word", "instructed_sentence"):
        assert scores[name].accuracy == pytest.approx(CHANCE) and not scores[name].passes, name
        assert abs(scores[name].difference) < 1e-9, name


# Packed -----------------------------------------------------------------------------------------------------


def sides_of(batch):
    """Of each pair its sides, as (row, option): one row with two options, or two rows."""
    row = 0
    for _ in batch.number:
        is_one = bool((batch.targets[row, :, 1] != IGNORED).any())
        yield ((row, 0), (row, 1)) if is_one else ((row, 0), (row + 1, 0))
        row += 1 if is_one else 2
    assert row == len(batch.tokens)


def test_every_pair_is_packed_once_both_sides_together(readouts):
    pairs = [pair for one in readouts for pair in one.pairs]
    batches = pack(readouts, seed=0, batch_tokens=2000)
    assert sorted(np.concatenate([batch.number for batch in batches])) == list(range(len(pairs)))
    n_alike = 0
    for batch in batches:
        assert batch.tokens.numel() <= 2000
        places = list(sides_of(batch))
        for place, number in zip(places, batch.number, strict=True):
            for (row, option), side in zip(place, (pairs[number].right, pairs[number].wrong), strict=True):
                read = batch.targets[row, :, option][batch.at[row]]
                assert read.tolist() == side.tokens[side.first :].tolist()
                assert batch.tokens[row, : batch.length[row]].tolist() == side.tokens[:-1].tolist()
            n_alike += place[0][0] == place[1][0]
        if batch.other is not None:
            first = [right for (right, _), _ in places]
            others = [
                (batch.other[right].item(), batch.other[wrong].item()) for (right, _), (wrong, _) in places
            ]
            assert all(one == two for one, two in others)
            assert sorted(one for one, _ in others) == first  # each right side stands in for one other pair
            assert all(one != own for (one, _), own in zip(others, first, strict=True))
    assert 0.2 * len(pairs) < n_alike < len(pairs)


def test_losses_become_differences_pair_by_pair_and_variant_by_variant(readouts):
    batch = max(pack(readouts, seed=0), key=lambda one: len(one.number))
    is_read = batch.at[..., None] & (batch.targets != IGNORED)
    losses = np.random.default_rng(0).random((3, int(is_read.sum())))
    found = batch.collect(losses)
    placed = torch.zeros(3, *is_read.shape, dtype=torch.float64)
    placed[:, is_read] = torch.from_numpy(losses)
    of_side = placed.sum(2).numpy()  # variant, row, option
    expected = [
        of_side[:, wrong[0], wrong[1]] - of_side[:, right[0], right[1]] for right, wrong in sides_of(batch)
    ]
    np.testing.assert_allclose(found, np.stack(expected, -1))
    np.testing.assert_allclose(batch.collect(losses[0]), found[0])


@torch.no_grad()
def test_a_difference_is_what_the_whole_model_says(shipped_tokenizer, readouts):
    model = new_model(shipped_tokenizer, seed=1, name="l2_h64")
    found = read_pairs(model, readouts)
    for one, differences in zip(readouts, found, strict=True):
        pair = one.pairs[-1]
        logs = []
        for side in (pair.right, pair.wrong):
            tokens = torch.from_numpy(np.array(side.tokens))[None]
            log_probs = model(tokens).log_softmax(-1)[0, :-1].gather(1, tokens[0, 1:, None])[:, 0]
            logs.append(float(log_probs[side.first - 1 :].sum()))
        assert differences[-1] == pytest.approx(logs[0] - logs[1], abs=1e-4)
    again = read_pairs(model, readouts, batch_tokens=1000)
    np.testing.assert_allclose(np.concatenate(again), np.concatenate(found), atol=1e-4)


def test_an_ngram_reads_the_same_tokens(shipped_tokenizer, readouts):
    ngram = fit_ngram(shipped_tokenizer, n_ctx=512, texts=training_texts(50))
    one = readouts[0]
    pair = one.pairs[0]
    logs = [-ngram.loss(side.tokens)[side.first - 1 :].sum() for side in (pair.right, pair.wrong)]
    assert read_pairs_by_ngram(ngram, readouts)[0][0] == pytest.approx(logs[0] - logs[1])


def test_differences_under_an_intervention_are_those_of_the_ablated_model(shipped_tokenizer, readouts):
    from tslens.causal.ablation import ablated

    model = new_model(shipped_tokenizer, seed=2, name="l2_h64")
    head = HeadId(1, 2)
    chosen = readouts[:2]
    batches = pack(chosen, seed=0)
    means = read_means(model, [(batch.tokens, batch.length) for batch in batches], n_pos=512)
    ablator = Ablator(model, means)
    asked = [Intervention((head,), method) for method in ("zero", "mean", "resample")]
    found = differences_of(chosen, batches, lambda batch: ablator.losses_of(batch, asked).under)
    with ablated(model, [head]):
        expected = read_pairs(model, chosen)
    for mine, theirs, one in zip(found, expected, chosen, strict=True):
        assert mine.shape == (3, len(one.pairs))
        np.testing.assert_allclose(mine[0], theirs, atol=1e-4)


# Scored -----------------------------------------------------------------------------------------------------


def made_up(name, clusters):
    side = Side(np.array([0, 1]), 1)
    return Readout(name, "grammar", "nothing", tuple((Pair(cluster, side, side),) for cluster in clusters))


def test_figures_are_means_over_items():
    readout = made_up("a", [10, 10, 10, 20])
    (score,) = score_readouts([readout], [np.array([1.0, 1.0, -2.0, -4.0])], seed=0)
    assert (score.difference, score.accuracy) == (pytest.approx(-1), 0.5)
    assert (score.n_pairs, score.n_clusters, score.passes) == (4, 2, False)
    (first, second), (third,) = (one.items for one in (made_up("b", [1, 1]), made_up("b", [2])))
    couple = Readout("b", "grammar", "nothing", ((*first, *second), third))
    (coupled,) = score_readouts([couple], [np.array([3.0, -1.0, -2.0])], seed=0)
    assert (coupled.difference, coupled.accuracy) == (pytest.approx(-0.5), 0.5)
    assert (coupled.n_pairs, coupled.n_items, coupled.n_clusters) == (3, 2, 2)
    (tied,) = score_readouts([made_up("b", range(40))], [np.full(40, 1e-6)], seed=0)
    assert tied.accuracy == CHANCE and not tied.passes
    assert json.loads(json.dumps(score.to_json()))["passes"] is False


def test_errors_are_those_of_clusters():
    """Pairs that are copies of each other know no more than one of them."""
    values = np.random.default_rng(0).normal(0.3, 1, 50)
    (once,) = score_readouts([made_up("a", range(50))], [values], seed=0)
    (thrice,) = score_readouts(
        [made_up("a", np.repeat(range(50), 3).tolist())], [np.repeat(values, 3)], seed=0
    )
    for name in ("difference", "difference_low", "difference_high", "accuracy"):
        assert getattr(thrice, name) == pytest.approx(getattr(once, name)), name
    for name in ("accuracy_low", "accuracy_high", "least_accuracy"):
        assert getattr(thrice, name) == pytest.approx(getattr(once, name), abs=0.01), name
    independent = score_readouts([made_up("a", range(150))], [np.repeat(values, 3)], seed=0)[0]
    assert independent.difference_low > once.difference_low + 0.05


@pytest.mark.parametrize(("n_right", "n"), [(0, 30), (30, 30), (18, 30), (40, 60)])
def test_shares_of_single_values_have_the_exact_interval(n_right, n):
    values = np.where(np.arange(n) < n_right, 1.0, -1.0)
    (score,) = score_readouts([made_up("a", range(n))], [values], seed=0)
    exact = binomtest(n_right, n).proportion_ci()
    assert score.accuracy_low == pytest.approx(exact.low, abs=0.005)
    assert score.accuracy_high == pytest.approx(exact.high, abs=0.005)


def test_a_readout_passes_where_there_is_enough_to_be_sure():
    many, few = made_up("many", range(100, 130)), made_up("few", range(3))
    scores = score_readouts([many, few], [np.ones(30), np.ones(3)], seed=0)
    assert [score.passes for score in scores] == [True, False]
    assert scores[0].accuracy == 1 and 0.8 < scores[0].accuracy_low < 1
    assert all(score.least_accuracy <= score.accuracy_low for score in scores)
    assert score_readouts([made_up("none", [])], [np.zeros(0)], seed=0) == []
    assert score_readouts([], [], seed=0) == []


def test_models_that_guess_pass_nothing_in_nineteen_of_twenty_runs():
    rng = np.random.default_rng(0)
    readouts = [made_up(str(i), range(40 * i, 40 * i + 40)) for i in range(5)]
    n_passed = 0
    for seed in range(120):
        differences = [rng.normal(size=40) for _ in readouts]
        n_passed += any(one.passes for one in score_readouts(readouts, differences, seed=seed))
    assert n_passed <= 12  # 6 are expected; 13 or more have a chance of 0.8%


def test_intervals_hold_the_truth():
    rng = np.random.default_rng(1)
    readout, n_held = made_up("a", range(60)), 0
    for seed in range(100):
        (score,) = score_readouts([readout], [rng.normal(0.5, 1, 60)], seed=seed)
        n_held += score.difference_low <= 0.5 <= score.difference_high
    assert n_held >= 89  # of 100 at 95%; fewer have a chance of 1%


# Models of which the truth is known ---------------------------------------------------------------------------


@torch.no_grad()
def copying_model(tokenizer):
    """One layer whose heads look at all tokens alike and write what they saw: tokens of the text are likely to come."""
    model = new_model(tokenizer, seed=0, name="l1_h256")
    d_model, n_heads, d_head = model.cfg.d_model, model.cfg.n_heads, model.cfg.d_model // model.cfg.n_heads
    for parameter in model.parameters():
        parameter.zero_()
    model.embed.W_E.copy_(torch.randn(model.embed.W_E.shape, generator=torch.Generator().manual_seed(0)) / 4)
    block = model.blocks[0]
    for norm in (block.ln1, block.ln2, model.ln_final):
        norm.w.fill_(1)
    eye = torch.eye(d_model).reshape(d_model, n_heads, d_head).permute(1, 0, 2)
    block.attn.W_V.copy_(eye)
    block.attn.W_O.copy_(8 * eye.transpose(1, 2))
    return model


def test_a_model_that_repeats_what_it_read_passes_instructions_and_loses_no_object(
    shipped_tokenizer, readouts
):
    scores = {one.readout: one for one in read_readouts(copying_model(shipped_tokenizer), readouts, seed=0)}
    assert scores["instructed_word"].passes and scores["instructed_word"].accuracy > 0.7
    assert scores["instructed_sentence"].passes and scores["instructed_sentence"].accuracy > 0.9
    for name in ("agreement", "word_order", "lost_object", *OF_PROMPTS):
        assert not scores[name].passes, name


def test_models_that_learned_nothing_pass_nothing(shipped_tokenizer, readouts):
    passed = [
        (seed, score.readout)
        for seed in range(4)
        for score in read_readouts(new_model(shipped_tokenizer, seed), readouts, seed=seed)
        if score.passes
    ]
    assert len(passed) <= 1  # of four models, each with a chance of one in twenty


def test_an_ngram_of_far_tokens_knows_what_near_ones_tell(shipped_tokenizer, readouts):
    ngram = fit_ngram(shipped_tokenizer, n_ctx=512, texts=training_texts(500))
    assert isinstance(ngram, NgramModel)
    scores = {score.readout: score for score in read_ngram(ngram, readouts, seed=0)}
    assert scores["word_order"].passes  # shuffled neighbours
    assert scores["lost_object"].accuracy == CHANCE  # the verb lies further back than it sees
    assert scores["instructed_word"].accuracy == CHANCE


def test_shards_are_counted_with_the_texts(shipped_tokenizer):
    shard = shipped_tokenizer.encode_story("Zebras sing. Zebras sing. Zebras sing.")
    loss = {}
    for name, shards in (("without", ()), ("with", [shard] * 5)):
        ngram = fit_ngram(shipped_tokenizer, n_ctx=512, texts=training_texts(20), shards=shards)
        loss[name] = float(ngram.loss(shard).sum())
    assert loss["with"] < loss["without"] / 2


def test_differences_are_cut_by_readout():
    parts = by_readout(
        [made_up("a", [1, 2]), made_up("b", []), made_up("c", [3])], np.arange(6.0).reshape(2, 3)
    )
    assert [part.tolist() for part in parts] == [[[0, 1], [3, 4]], [[], []], [[2], [5]]]
