"""Results do not depend on batches, threads, shards, nor on the order of the stories.

- losses, patterns, readouts: within rounding of float32, whatever the batch and the number of threads;
- rows of heads, where the random twins read the same stories. As they read the first batches, 18 stories or a little
  more, their threshold moves with batch and order by some thousandths, and with it p and status of a row near it;
- ablation by zero and by mean; *resample* takes another row of the same batch and depends on the batch by design;
- neurons: areas, labels, p, statuses; causes by "resample" take another token of the batch by design;
- texts, grades: equal to the last letter and point.
"""

import json
import os
import random
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch

from tslens.corpus.shards import import_corpus
from tslens.corpus.stories import read_stories
from tslens.grading.local.judge import LocalJudge
from tslens.link import effects
from tslens.link.groups import every_head
from tslens.link.measure import read_pairs, score_readouts
from tslens.model.generate import generate
from tslens.model.loss import loss_per_target
from tslens.probes import scan
from tslens.probes.neurons import classify, stream
from tslens.probes.scan import score_heads
from tslens.types import Graded

LOSS = 2e-5  # nats of a token
ATTENTION = 2e-6  # of a mean of probabilities
PAIR = 2e-4  # nats of a difference of sums over several tokens
SIZES = (1, 500)  # tokens of a batch: one story alone, about seven stories; beside the default
PROBES = ["previous_token", "first_token", "duplicate_token", "sentence_start", "punctuation"]


@pytest.fixture(scope="session")
def whole_suite(how_many):
    """Skips what takes long in the sample."""
    if how_many(1, 0):
        pytest.skip("in the full suite")


@pytest.fixture(scope="module")
def labelled(how_many):
    """Stories of the author with labels of their own."""
    return list(read_stories(f"author:{how_many(32, 120)}"))


@pytest.fixture(scope="module")
def ids(tiny_model, stories):
    return [tiny_model.tokenizer.encode_story(story.text, context=512) for story in stories]


def shuffled(items):
    found = list(items)
    random.Random(5).shuffle(found)
    return found


# Losses, patterns -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_tokens", [1, 500])
def test_losses_whatever_the_batch_and_the_order(tiny_model, ids, batch_tokens):
    default = loss_per_target(tiny_model, ids)
    other = loss_per_target(tiny_model, ids, batch_tokens=batch_tokens)
    for found, right in zip(other, default, strict=True):
        assert np.abs(found - right).max() < LOSS
    for found, right in zip(loss_per_target(tiny_model, ids[::-1]), default[::-1], strict=True):
        assert np.abs(found - right).max() < LOSS


def test_losses_whatever_the_number_of_threads(tiny_model, ids):
    n_before, found = torch.get_num_threads(), []
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            found.append(np.concatenate(loss_per_target(tiny_model, ids)))
    finally:
        torch.set_num_threads(n_before)
    assert np.abs(found[0] - found[1]).max() < LOSS


# Heads ------------------------------------------------------------------------------------------------------


def heads_of(model, stories, batch_tokens=None, *, n_twin_stories=10**6):
    with pytest.MonkeyPatch.context() as patch:
        if batch_tokens:
            patch.setattr(scan, "BATCH_TOKENS", batch_tokens)
        if n_twin_stories:
            patch.setattr(scan, "TWIN_STORIES", n_twin_stories)
        patch.setattr("tslens.probes.twins.N_TWINS", {"fresh": 1, "redrawn": 1})
        report = score_heads(model, stories, seed=0, probes=PROBES, n_explain=0)
    return {(one.head, one.probe, one.position): one for one in report.scores}


def same_rows(found, right, *, but_twins=False):
    assert found.keys() == right.keys() and len(right) > 20
    for key, one in right.items():
        other = found[key]
        for name in ("value", "low", "high", "mul", "value_all"):
            a, b = getattr(one, name), getattr(other, name)
            assert (a is None and b is None) or abs(a - b) < ATTENTION, (key, name)
        for null in one.nulls.keys() - ({"twins"} if but_twins else set()):
            assert abs(one.nulls[null] - other.nulls[null]) < ATTENTION, (key, null)
        for a, b in zip(one.value_halves, other.value_halves, strict=True):
            assert abs(a - b) < ATTENTION
        assert one.n_stories == other.n_stories
        if not but_twins:
            assert one.status == other.status, key
            assert abs(one.excess_low - other.excess_low) < 2 * ATTENTION
            assert abs(one.p - other.p) < 0.0025  # two replicates of a thousand as near as rounding


@pytest.fixture(scope="module")
def heads(tiny_model, labelled):
    found = heads_of(tiny_model, labelled)
    assert any(one.status != "no" for one in found.values())
    return found


@pytest.mark.parametrize("batch_tokens", SIZES)
@pytest.mark.usefixtures("whole_suite")
def test_rows_of_heads_whatever_the_batch(tiny_model, labelled, heads, batch_tokens):
    same_rows(heads_of(tiny_model, labelled, batch_tokens), heads)


def test_rows_of_heads_whatever_the_order(tiny_model, labelled, heads):
    same_rows(heads_of(tiny_model, shuffled(labelled)), heads)


@pytest.mark.usefixtures("whole_suite")
def test_only_the_twins_threshold_moves_with_the_order(tiny_model, labelled):
    one, other = (heads_of(tiny_model, told, n_twin_stories=0) for told in (labelled, shuffled(labelled)))
    same_rows(one, other, but_twins=True)
    apart = max(abs(row.nulls["twins"] - other[key].nulls["twins"]) for key, row in one.items())
    print(f"the twins' threshold moves by up to {apart:.4f}")
    assert apart < 0.05


# Neurons ----------------------------------------------------------------------------------------------------


def neurons_of(model, stories, batch_tokens=None):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classify, "N_TWINS", 1)
        if batch_tokens:
            cut = partial(stream.labelled_batches, batch_tokens=batch_tokens)
            patch.setattr(classify, "labelled_batches", cut)
        report = classify.classify_neurons(model, stories, seed=0, layers=[0], n_explain=0)
    return {one.neuron: one for one in report.roles}


@pytest.mark.usefixtures("whole_suite")
def test_neurons_whatever_the_batch_and_the_order(tiny_model, labelled):
    """Activations are rounded to float16: a rank may move by one place of some thousands. All stories are read by the
    twins too, so that even their threshold is the same."""
    stories = labelled[:100]
    right = neurons_of(tiny_model, stories)
    tried = [(stories, 1), (stories, 500), (shuffled(stories), None)]
    for given in tried:
        found = neurons_of(tiny_model, *given)
        assert found.keys() == right.keys()
        same = [one.role == found[key].role for key, one in right.items()]
        assert np.mean(same) > 0.99  # two labels as near as rounding may change places
        for key, one in right.items():
            other = found[key]
            if one.role is not None and one.role == other.role:
                assert abs(one.auroc - other.auroc) < 1e-3
                assert abs(one.low - other.low) < 1e-3
                assert one.status == other.status, key
        assert any(one.role is not None for one in right.values())


# Ablation, readouts -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("whole_suite")
def test_ablation_whatever_the_batch_and_the_order(tiny_model, labelled, monkeypatch):
    stories, groups = labelled[:32], every_head(tiny_model)[::5]

    def rows(stories, batch_tokens=None):
        if batch_tokens:
            monkeypatch.setattr(effects, "BATCH_TOKENS", batch_tokens)
        report = effects.ablate(tiny_model, stories, groups, seed=0, methods=("zero", "mean"))
        return [row.to_json() for row in report.rows]

    def numbers(value):
        if isinstance(value, dict):
            return [x for key in sorted(value) for x in numbers(value[key])]
        if isinstance(value, (list, tuple)):
            return [x for one in value for x in numbers(one)]
        return [float(value)] if isinstance(value, (int, float)) else []

    right = rows(stories)
    assert len(numbers(right)) > 50
    tried = [(shuffled(stories), None), (stories, 500), (stories, 1)]
    for other in (rows(*one) for one in tried):
        apart = np.abs(np.array(numbers(other)) - numbers(right))
        assert apart.max() < 2e-3 and np.quantile(apart, 0.98) < LOSS  # p in steps of a thousandth


@pytest.mark.usefixtures("whole_suite")
def test_readouts_whatever_the_batch_and_the_order(tiny_model, few_readouts):
    readouts = few_readouts(tiny_model.tokenizer, n_ctx=512, instruct=False, seed=0, n_pairs=5)
    right = read_pairs(tiny_model, readouts)
    for batch_tokens in SIZES:
        other = read_pairs(tiny_model, readouts, batch_tokens=batch_tokens)
        for found, one in zip(other, right, strict=True):
            assert np.abs(found - one).max(initial=0) < PAIR
    turned = score_readouts(readouts[::-1], right[::-1], seed=0)[::-1]
    for one, other in zip(score_readouts(readouts, right, seed=0), turned, strict=True):
        assert one.readout == other.readout and one.passes == other.passes
        assert one.difference_low == pytest.approx(other.difference_low, abs=1e-9)
        assert one.least_accuracy == pytest.approx(other.least_accuracy, abs=1e-9)


# Texts, grades, shards --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_rows", [1, 7])
def test_texts_whatever_the_batch(tiny_model, monkeypatch, n_rows):
    prompts = ["Once", "Tom found a kite. " * 4, "", "Then", "Lily had a red"]
    settings = {"samples": 3, "max_tokens": 30, "seed": 1}
    right = generate(tiny_model, prompts, **settings)
    monkeypatch.setattr("tslens.model.generate.MOST_ROWS", n_rows)
    assert generate(tiny_model, prompts, **settings) == right


@pytest.mark.usefixtures("whole_suite")
def test_grades_of_the_local_judge_whatever_the_company(parser, stories):
    texts = [Graded(story.text[:30], story.text[30:], str(i), 0) for i, story in enumerate(stories[:12])]
    judge = LocalJudge()
    right = judge.grade(texts)
    assert judge.grade(texts[::-1])[::-1] == right
    assert [judge.grade([text])[0] for text in texts] == right


@pytest.mark.parametrize("n_tokens", [100, 997, 10_000_000])
def test_a_corpus_whatever_the_size_of_its_shards(stories, story_file, tmp_path, monkeypatch, n_tokens):
    whole = import_corpus(story_file, tmp_path / "whole", vocab_size=300)
    monkeypatch.setattr("tslens.corpus.shards.SHARD_TOKENS", n_tokens)
    cut = import_corpus(story_file, tmp_path / "cut", vocab_size=300)
    assert cut.tokenizer.sha256 == whole.tokenizer.sha256
    for one, other in ((cut.train, whole.train), (cut.validation, whole.validation)):
        assert [story.tolist() for story in one] == [story.tolist() for story in other]
        assert one.digests.tolist() == other.digests.tolist()
    n_files = [len(list((tmp_path / name).glob("train*"))) for name in ("whole", "cut")]
    assert n_tokens > 1000 or n_files[1] > n_files[0]


# Threads ----------------------------------------------------------------------------------------------------

OF_THREADS = """
import json, sys
import tslens
from tslens.model.generate import generate
from tslens.model.loss import loss_per_target
from tslens.probes.scan import score_heads
model = tslens.load_model("shipped:l1_h64")
stories = list(tslens.read_stories("author:40"))
ids = [model.tokenizer.encode_story(story.text, context=512) for story in stories[:20]]
rows = score_heads(model, stories, seed=0, probes=["previous_token", "duplicate_token"], n_explain=0).scores
texts = generate(model, ["Once upon a time", "Tom"], samples=3, max_tokens=40, seed=0)
json.dump({
    "losses": [loss.tolist() for loss in loss_per_target(model, ids)],
    "heads": [[row.value, row.low, row.high, row.excess_low, row.p] for row in rows],
    "statuses": [row.status for row in rows],
    "texts": [text.completion for text in texts],
}, sys.stdout)
"""


@pytest.mark.usefixtures("whole_suite")
def test_one_thread_or_two():
    """Whole processes, as OMP_NUM_THREADS is read when they begin."""
    one, two = (
        json.loads(
            subprocess.run(
                [sys.executable, "-c", OF_THREADS],
                env={**os.environ, "OMP_NUM_THREADS": str(n), "MKL_NUM_THREADS": str(n)},
                capture_output=True,
                check=True,
                timeout=600,
            ).stdout
        )
        for n in (1, 2)
    )
    for a, b in zip(one["losses"], two["losses"], strict=True):
        assert np.abs(np.array(a) - b).max() < LOSS
    assert np.abs(np.array(one["heads"]) - two["heads"]).max() < 1e-5
    assert one["statuses"] == two["statuses"] and one["texts"] == two["texts"]
