"""The n-gram null: what it is counted on, which order is taken, its loss, and what it writes."""

import gzip
import json
import tomllib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tslens.corpus.author import write_stories
from tslens.corpus.shards import import_corpus
from tslens.corpus.stories import is_validation
from tslens.errors import DataError, UsageError
from tslens.files import write_json
from tslens.grading.completions import text_of
from tslens.grading.prompts import Beginning, load_instruction_sets
from tslens.link import ngram_null
from tslens.link.ngram_null import (
    StoriesLike,
    author_like,
    best_ngram,
    ngram_row,
    stories_like,
    write_by_ngram,
)
from tslens.link.pairs import Pair, Readout, Side
from tslens.model.load import ModelSource
from tslens.model.ngram import NgramModel
from tslens.run_folder import RunFolder
from tslens.types import Story

PROMPTS = (Beginning("b1", "Once upon a time, Tom"), Beginning("b2", "Lily"), Beginning("b3", "Lily"))


def chains(n, rule, seed):
    """Rows of tokens 1 to 6 behind a 0; each is drawn by a rule from the two before it."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        row = [0, 1 + int(rng.integers(6)), 1 + int(rng.integers(6))]
        for _ in range(40):
            row.append(rule(row[-2], row[-1], rng))
        rows.append(np.array(row))
    return rows


RULES = {
    2: lambda before, last, rng: 1 + int(rng.integers(6)),  # nothing is told by any token
    3: lambda before, last, rng: (
        1 + (2 * before + last) % 6 if rng.random() < 0.9 else 1 + int(rng.integers(6))
    ),
}


@pytest.mark.parametrize("order", RULES)
def test_the_order_is_taken_that_predicts_held_out_stories_best(order):
    rule = RULES[order]
    stories = StoriesLike("chains", chains(60, rule, 0), chains(20, rule, 1))
    null = best_ngram(stories, vocab_size=7)
    assert null.ngram.order == order and list(null.held_out_nats) == [2, 3, 4, 5]
    assert (null.n_stories, null.n_tokens, null.counted_on) == (60, 60 * 42, "chains")
    for one, nats in null.held_out_nats.items():
        alone = NgramModel.fit(stories.train, vocab_size=7, order=one)
        by_hand = [
            -np.log(alone.next_probs(row[:i])[row[i]]) for row in stories.held_out for i in range(1, 43)
        ]
        assert nats == pytest.approx(np.mean(by_hand))
    assert null.held_out_nats[order] == min(null.held_out_nats.values())


def test_no_more_tokens_are_counted_than_fit(monkeypatch):
    monkeypatch.setattr(ngram_null, "MOST_TOKENS", 100)
    stories = chains(10, RULES[3], 0)
    null = best_ngram(StoriesLike("chains", iter(stories), stories), vocab_size=7, orders=[2])
    assert (null.n_stories, null.n_tokens) == (3, 3 * 42)  # the third passes the hundred


def test_nothing_to_choose_by_or_from_is_refused():
    stories = chains(3, RULES[3], 0)
    with pytest.raises(DataError, match="no story to choose"):
        best_ngram(StoriesLike("chains", stories, []), vocab_size=7)
    with pytest.raises(UsageError, match="no order"):
        best_ngram(StoriesLike("chains", stories, stories), vocab_size=7, orders=[])


# What it is counted on --------------------------------------------------------------------------------------


@pytest.fixture
def author_alone(monkeypatch, tokenizer):
    """The last resort, made small."""
    found = author_like(tokenizer, n_ctx=64, n_counted=6, n_held_out=2)
    monkeypatch.setattr(ngram_null, "author_like", lambda *_, **__: found)
    return found


def model_of(digests=()):
    return SimpleNamespace(train_digests=frozenset(digests), cfg=SimpleNamespace(n_ctx=64))


def test_the_corpus_of_a_run_is_counted_where_it_is_on_disk(tmp_path, tokenizer, author_alone):
    corpus = import_corpus("author:60:3", tmp_path / "cache" / "mine", vocab_size=320, context=64)
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    source = ModelSource(run.path, "checkpoint", "mine", "", run, run)

    def found(sha256, its_tokenizer):
        write_json(run.config, {"corpus_sha256": sha256})
        return stories_like(model_of(), its_tokenizer, source, caches=[tmp_path / "cache"])

    stories = found(corpus.source_sha256, corpus.tokenizer)
    assert stories.name == "its training corpus, author:60:3"
    assert [row.tolist() for row in stories.train] == [row.tolist() for row in corpus.train]
    assert [row.tolist() for row in stories.held_out] == [row.tolist() for row in corpus.validation]
    assert found("another", corpus.tokenizer) is author_alone
    assert found(corpus.source_sha256, tokenizer) is author_alone
    assert stories_like(model_of(), corpus.tokenizer, caches=[tmp_path / "cache"]) is author_alone
    (tmp_path / "cache" / "mine" / "train.lengths.npy").write_bytes(b"broken")
    assert found(corpus.source_sha256, corpus.tokenizer) is author_alone


def test_stories_that_a_model_remembers_are_counted(tmp_path, monkeypatch, tokenizer, author_alone):
    told = list(write_stories(80, seed=5, text_only=True))
    monkeypatch.setenv("TSLENS_DATA", str(tmp_path))
    monkeypatch.setattr(ngram_null, "SHIPPED_STORIES", ("some.jsonl.gz", "author:20:1"))
    trained = [story for story in told if not is_validation(story)]
    digests = [story.digest for story in trained]
    assert stories_like(model_of(digests), tokenizer) is author_alone  # no file
    with gzip.open(tmp_path / "some.jsonl.gz", "wt") as file:
        file.writelines(json.dumps({"text": story.text}) + "\n" for story in told)
    stories = stories_like(model_of(digests), tokenizer)
    expected = [tokenizer.encode_story(story.text, context=64).tolist() for story in trained]
    assert [row.tolist() for row in stories.train] == expected
    others = [*told, *write_stories(20, seed=1, text_only=True)]
    assert len(stories.held_out) == sum(map(is_validation, others)) > 0
    assert stories.name == "its training stories, some.jsonl.gz+author:20:1"
    half = stories_like(model_of([*digests, *range(len(digests))]), tokenizer)
    assert half.name.endswith("(50% of the texts that it was trained on)")
    assert stories_like(model_of([*digests, *range(9 * len(digests))]), tokenizer) is author_alone
    assert stories_like(model_of(), tokenizer) is author_alone


def test_the_sources_are_those_that_shipped_models_are_trained_on():
    recipe = Path(__file__).parents[2] / "training" / "shipped.toml"
    data = tomllib.loads(recipe.read_text(encoding="utf-8"))["data"]
    assert (data["stories"], data["author"]) == ngram_null.SHIPPED_STORIES


def test_nothing_that_readouts_hold_is_counted_or_chosen_by(tokenizer):
    stories = author_like(tokenizer, n_ctx=4096, n_counted=30, n_held_out=10)
    assert (len(stories.train), len(stories.held_out)) == (30, 10)
    texts = [tokenizer.decode(row) for row in (*stories.train, *stories.held_out)]
    assert len(set(texts)) == 40 and not any(is_validation(Story(text)) for text in texts)


# The row, the texts -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def null(tokenizer, stories):
    told = [tokenizer.encode_story(story.text) for story in stories]
    return best_ngram(StoriesLike("small stories", told[:50], told[50:]), vocab_size=tokenizer.vocab_size)


def test_the_row_has_loss_and_readouts(null, tokenizer, stories):
    told = stories[50:]
    tokens = tokenizer.encode_story(told[0].text)
    other = tokens.copy()
    other[-2:] = tokens[1]
    pair = Pair(1, Side(tokens, len(tokens) - 2), Side(other, len(tokens) - 2))
    readout = Readout("ends", "grammar", "how it ends", ((pair,),))
    row = ngram_row(null, told, [readout], tokenizer=tokenizer, n_ctx=512, seed=0)
    losses = [null.ngram.loss(tokenizer.encode_story(story.text)) for story in told]
    nats, n_bytes = sum(loss.sum() for loss in losses), sum(len(story.text.encode()) for story in told)
    assert row.loss_nats == pytest.approx(nats / sum(map(len, losses)))
    assert row.bits_per_byte == pytest.approx(nats / np.log(2) / n_bytes)
    difference = losses[0][-2:].sum() - null.ngram.loss(other)[-2:].sum()
    assert row.readouts[0].difference == pytest.approx(-difference)
    plain = json.loads(json.dumps(row.to_json()))
    assert (plain["order"], plain["counted_on"]) == (null.ngram.order, "small stories")
    assert plain["held_out_nats"][str(row.order)] == min(plain["held_out_nats"].values())
    assert plain["readouts"][0]["readout"] == "ends" and "passes" in plain["readouts"][0]


def write(null, tokenizer, prompts=PROMPTS, **settings):
    asked = {"samples": 2, "max_tokens": 60, "temperature": 1.0, "seed": 3, **settings}
    return write_by_ngram(null.ngram, tokenizer, prompts, **asked)


def test_texts_are_drawn_with_numbers_of_seed_prompt_and_sample(null, tokenizer):
    texts = write(null, tokenizer)
    assert [one.key for one in texts] == ["b1/0", "b1/1", "b2/0", "b2/1", "b3/0", "b3/1"]
    assert {(one.prompt, one.seed) for one in texts} == {(prompt.text, 3) for prompt in PROMPTS}
    assert len({one.completion for one in texts}) > 4
    for one in (texts[1], texts[2]):
        index = int(one.prompt_id[1]) - 1
        row = told = [tokenizer.start_id, *tokenizer.encode(one.prompt)]
        for draw in np.random.default_rng([3, index, one.sample]).random(60):
            cumulative = null.ngram.next_probs(np.array(row)).cumsum()
            row = [*row, int(np.searchsorted(cumulative, draw * cumulative[-1], side="right"))]
            if row[-1] == tokenizer.eos_id:
                break
        assert one.ended == (row[-1] == tokenizer.eos_id)
        assert one.completion == tokenizer.decode_after(told[1:], row[len(told) : -1 if one.ended else None])
    more = write(null, tokenizer, samples=3, prompts=PROMPTS[:2])
    assert [more[0], more[1], more[3], more[4]] == texts[:4]
    assert write(null, tokenizer, seed=4)[0].completion != texts[0].completion
    assert any(not one.ended for one in write(null, tokenizer, max_tokens=2))


def test_the_likeliest_text_is_one(null, tokenizer):
    seen = []
    texts = write_by_ngram(
        null.ngram,
        tokenizer,
        PROMPTS[:2],
        samples=2,
        max_tokens=30,
        temperature=0,
        seed=0,
        progress=seen.append,
    )
    assert replace(texts[0], sample=1) == texts[1] and seen == [1, 2, 3, 4]


def test_instructions_are_written_after_as_a_model_does(null, tokenizer):
    asked = load_instruction_sets()[0]
    (one,) = write(null, tokenizer, prompts=[asked], samples=1)
    assert one.prompt == "" and one.instructions == asked.instruction.to_json()
    assert one.completion == one.completion.lstrip() and text_of(asked) not in one.completion
