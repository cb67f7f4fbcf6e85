"""Neurons: codes, sample, sums, predictor, and roles where the truth is known."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from tslens.audit.planted_neurons import audit_planted_neurons, tokens_of
from tslens.corpus.author import write_stories
from tslens.corpus.tokenizer import StoryTokenizer
from tslens.errors import DataError, ProbeInputError
from tslens.model.spec import ModelSpec
from tslens.model.transformer import TinyTransformer
from tslens.probes.neurons.choice import Halves, TwinNull
from tslens.probes.neurons.classify import classify_neurons
from tslens.probes.neurons.codes import (
    areas,
    areas_within,
    average_precision,
    decode,
    encode,
    error_over_stories,
    influence,
    placements,
)
from tslens.probes.neurons.sample import Sample
from tslens.probes.neurons.stream import activations, labelled_batches, read_neurons
from tslens.probes.neurons.token_labels import TOKEN_LABELS, token_flags
from tslens.types import Story

RNG = np.random.default_rng(0)
STORIES = list(write_stories(60, seed=7))
TOKENIZER = StoryTokenizer.train(STORIES, vocab_size=512)


@pytest.fixture(scope="module")
def model() -> TinyTransformer:
    return TinyTransformer(
        ModelSpec.from_name("l2_h32"), TOKENIZER.vocab_size, seed=0, tokenizer=TOKENIZER
    ).eval()


def batches(stories: list[Story] = STORIES, *, seed: int = 0) -> list:
    return list(labelled_batches(stories, TOKENIZER, n_ctx=512, seed=seed))


# Codes ------------------------------------------------------------------------------------------------------


def test_codes_stand_in_the_order_of_values_and_give_them_back() -> None:
    values = np.concatenate([RNG.standard_normal(500) * 10.0**p for p in (-7, -3, 0, 4)]).astype(np.float32)
    values = np.append(values, [0.0, -0.0, 1e9, -1e9]).astype(np.float32)
    codes = encode(values)
    assert np.array_equal(np.argsort(codes, kind="stable"), np.argsort(decode(codes), kind="stable"))
    np.testing.assert_allclose(decode(codes[:-2]), values[:-2], rtol=1e-3, atol=1e-7)
    assert encode(np.float32([0.0]))[0] == encode(np.float32([-0.0]))[0]


def test_areas_are_those_of_scikit_learn() -> None:
    flags = RNG.random((4000, 3)) < [0.5, 0.02, 0.2]
    values = (RNG.standard_normal((4000, 2)) + flags[:, :2]).astype(np.float32)
    values[:, 1] = values[:, 1].round(1)  # ties
    found = areas(encode(values), flags)
    for neuron in range(2):
        for label in range(3):
            asked = roc_auc_score(flags[:, label], values[:, neuron])
            assert found[neuron, label] == pytest.approx(asked, abs=1e-4)
    assert np.isnan(areas(encode(values), np.zeros((4000, 1), bool))).all()
    held = decode(encode(values[:, 0]))
    asked = average_precision_score(flags[:, 1], held)
    assert average_precision(encode(values[:, 0]), flags[:, 1]) == pytest.approx(asked, abs=1e-9)


def test_areas_within_groups_are_those_of_each_group() -> None:
    flag, group = RNG.random(2000) < 0.3, RNG.integers(0, 20, 2000)
    codes = encode(RNG.standard_normal(2000).round(1).astype(np.float32))
    found, pairs = areas_within(codes, flag, group)
    for one in range(20):
        mine = group == one
        assert found[one] == pytest.approx(roc_auc_score(flag[mine], decode(codes[mine])), abs=1e-12)
        assert pairs[one] == flag[mine].sum() * (~flag[mine]).sum()


def test_the_clustered_error_covers_what_repetition_shows() -> None:
    def one(rng: np.random.Generator) -> tuple[float, float]:
        story = np.repeat(np.arange(80), 10)
        flag = np.repeat(rng.random(80) < 0.4, 10)  # whole stories have the label: the hardest case
        values = (np.repeat(rng.standard_normal(80), 10) + 0.5 * rng.standard_normal(800) + flag).astype(
            np.float32
        )
        codes = encode(values)
        place = placements(codes, flag)
        return float(place[flag].mean()), error_over_stories(influence(place, flag), story)

    found = np.array([one(np.random.default_rng(seed)) for seed in range(200)])
    assert found[:, 1].mean() == pytest.approx(found[:, 0].std(), rel=0.15)


# Labels -----------------------------------------------------------------------------------------------------


def test_labels_of_a_user_follow_those_of_the_package() -> None:
    story = Story("Tom ran. He fell.", {**STORIES[0].extra, "mine": [1, 0, 0, 0]})
    with pytest.raises(DataError):
        token_flags(story, TOKENIZER.encode_with_offsets(story.text)[1])  # labels of another text
    with pytest.raises(DataError, match="no labels"):
        token_flags(Story("Tom ran."), [(0, 3)])
    n_words = len(STORIES[0].text.split())
    own = Story(STORIES[0].text, {**STORIES[0].extra, "mine": [i == 0 for i in range(n_words)]})
    ids, offsets = TOKENIZER.encode_with_offsets(own.text)
    flags = token_flags(own, offsets, ("mine",))
    assert flags.shape == (len(ids), len(TOKEN_LABELS) + 1)
    end = len(own.text.split()[0])
    assert flags[:, -1].tolist() == [start < end for start, _ in offsets]


def test_every_piece_of_a_word_has_its_part_of_speech() -> None:
    names = list(TOKEN_LABELS)
    parts = [i for i, name in enumerate(names) if name.startswith("pos_")]
    for story in STORIES[:10]:
        _, offsets = TOKENIZER.encode_with_offsets(story.text)
        flags = token_flags(story, offsets)
        blank = np.array([not story.text[a:b].strip() for a, b in offsets])
        assert (flags[:, parts].sum(1)[~blank] >= 1).all()
        assert flags[:, names.index("sentence_end")].sum() > 0
        assert (flags[:, names.index("subject_pronoun")] <= flags[:, names.index("subject")]).all()


# Reading ----------------------------------------------------------------------------------------------------


def test_sums_are_those_of_all_tokens(model: TinyTransformer) -> None:
    given = batches()
    read = read_neurons(model, given)
    values = torch.cat([activations(model, batch) for batch in given]).double()
    tokens = np.concatenate([batch.tokens.token for batch in given])
    flags = np.concatenate([batch.tokens.flags for batch in given])
    np.testing.assert_allclose(read.sums.mean, values.mean(0), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(read.sums.variance, values.var(0, unbiased=False), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(
        read.sums.by_label, flags.T.astype(float) @ values.numpy(), rtol=1e-4, atol=1e-4
    )
    one = int(np.bincount(tokens).argmax())
    np.testing.assert_allclose(read.sums.by_token[one], values[tokens == one].sum(0), rtol=1e-4, atol=1e-5)
    assert read.sums.token_counts[one] == (tokens == one).sum()
    _, cache = model.run_with_cache(given[0].rows)
    watched = torch.cat([cache[f"blocks.{layer}.mlp.hook_post"] for layer in range(2)], -1)[given[0].is_read]
    torch.testing.assert_close(activations(model, given[0]), watched, atol=1e-5, rtol=1e-4)


def test_the_sample_does_not_depend_on_the_order_of_stories(model: TinyTransformer) -> None:
    samples = [
        read_neurons(model, batches(stories), sample_tokens=1000).sample
        for stories in (STORIES, STORIES[::-1])
    ]
    one, other = samples
    assert len(one) == 1000
    assert np.array_equal(one.tokens.story, other.tokens.story)
    assert np.array_equal(one.tokens.pos, other.tokens.pos)
    assert np.array_equal(one.tokens.flags, other.tokens.flags)
    assert np.array_equal(one.tokens.shifted, other.tokens.shifted)
    assert np.abs(decode(one.codes) - decode(other.codes)).max() < 1e-2
    everything = read_neurons(model, batches()).sample
    assert len(everything) == read_neurons(model, batches()).sums.n
    assert len(
        np.unique(np.stack([everything.tokens.story, everything.tokens.pos.astype(np.uint64)]), axis=1).T
    ) == len(everything)


def test_examples_are_the_strongest_places(model: TinyTransformer) -> None:
    given = batches()
    read = read_neurons(model, given)
    best = torch.cat([activations(model, batch) for batch in given]).amax(0)
    for neuron, examples in enumerate(read.examples):
        assert examples[0].activation == pytest.approx(float(best[neuron]))
        assert [e.activation for e in examples] == sorted((e.activation for e in examples), reverse=True)
        assert len({e.story.digest for e in examples}) == len(examples)
    first = read.examples[5][0]
    row = torch.tensor([[TOKENIZER.start_id, *TOKENIZER.encode(first.story.text)]])
    again = torch.cat(list(model.neuron_activations(row)), -1)[0, first.pos, 5]
    assert float(again) == pytest.approx(first.activation, abs=1e-4)


# Roles ------------------------------------------------------------------------------------------------------


def test_planted_neurons_are_found_and_decoys_called_what_they_are() -> None:
    stories = list(write_stories(150, seed=10_000))
    tokenizer = StoryTokenizer.train(stories, vocab_size=2048)
    tokens = tokens_of(stories, tokenizer, n_ctx=512, seed=0)
    # random neurons: what a bag of random word vectors would give
    rng = np.random.default_rng(1)
    words = rng.standard_normal((tokenizer.vocab_size, 200))
    noise = encode((words[tokens.token] + 0.3 * rng.standard_normal((len(tokens), 200))).astype(np.float32))

    def twins(eligible: np.ndarray) -> TwinNull:
        return TwinNull.of([Halves.of(Sample(tokens, noise))], eligible)

    found = audit_planted_neurons(tokens, twins, seed=0, areas=(0.9,), draws=1)
    for check in found.checks:
        assert check.passed, check
    assert {check.name for check in found.checks} >= {
        "called contextual",
        "called lexical",
        "called positional",
    }


def test_neurons_of_an_untrained_model_have_no_roles(model: TinyTransformer) -> None:
    found = classify_neurons(model, STORIES, seed=0)
    assert len(found.roles) == 2 * model.cfg.d_mlp
    assert not [role for role in found.roles if role.status != "no"]


@pytest.mark.slow
def test_neurons_are_the_same_twice(model: TinyTransformer) -> None:
    one, other = (classify_neurons(model, STORIES, seed=0) for _ in range(2))
    assert [role.to_json() for role in one.roles] == [role.to_json() for role in other.roles]


def test_too_few_stories_are_refused(model: TinyTransformer) -> None:
    with pytest.raises(ProbeInputError, match="too few"):
        classify_neurons(model, STORIES[:3], seed=0)
