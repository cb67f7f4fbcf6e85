"""The n-gram beside every model: the best one of the same stories, read, measured and made to write like the model.

1. What a model was trained on is looked for (``stories_like``): its corpus, where it is on disk; else those stories of
   the shipped models' sources that the model remembers the hashes of; else stories of the offline author.
2. N-grams of order 2 to 5 are counted on them, and the one that predicts held-out stories of the same kind best is
   taken (``best_ngram``).
3. Its row (``ngram_row``) has what a model's has: loss, readouts; its texts (``write_by_ngram``) go to the same judge.

The choice among four orders favours the n-gram a little where its loss is read on the same held-out stories: a model
that is better than this null is no worse for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from tslens.corpus.author import write_stories
from tslens.corpus.shards import Corpus
from tslens.corpus.sources import read_sources
from tslens.corpus.stories import is_validation
from tslens.corpus.text_tokenizer import TextTokenizer
from tslens.errors import DataError, TslensError, UsageError
from tslens.files import data_dir, read_json
from tslens.grading.completions import Prompt, graded_text, text_of
from tslens.link.measure import ReadoutScore, read_ngram
from tslens.link.pairs import Readout
from tslens.link.readouts import AUTHOR_SEED
from tslens.model.load import ModelSource
from tslens.model.loss import LossReport
from tslens.model.ngram import MOST_TOKENS, NgramModel
from tslens.model.story_model import StoryModel
from tslens.types import Graded, Story

ORDER = 4
ORDERS = range(2, 6)
N_COUNTED, N_HELD_OUT = 4000, 200  # stories of the author, where there are no others
CORPORA = Path("runs/.corpora")
SHIPPED_STORIES = (
    "tinystories.jsonl.gz",
    "author:1777:1",
)  # the first in $TSLENS_DATA; training/shipped.toml
LEAST_FOUND = (
    0.4  # of the stories that a model remembers; of an instruct model half are texts with instructions
)

Tokens = Int[np.ndarray, " token"]


@dataclass(frozen=True, eq=False)
class StoriesLike:
    """Token ids of stories to count, and of held-out ones of the same kind. ``name``: what they are, in words."""

    name: str
    train: Iterable[Tokens]
    held_out: Iterable[Tokens]


@dataclass(frozen=True, eq=False)
class NgramNull:
    """An n-gram and where it is from. ``n_tokens``: targets counted.

    ``held_out_nats``: loss per token of each order on the held-out stories that the order was chosen by.
    """

    ngram: NgramModel
    counted_on: str
    n_stories: int
    n_tokens: int
    held_out_nats: Mapping[int, float]


@dataclass(frozen=True)
class NgramRow:
    """The n-gram in the table of a model. ``loss_nats``: mean per token over all tokens of the stories that it read.

    ``counted_on``, ``n_stories``, ``n_tokens``, ``held_out_nats``: as of :class:`NgramNull`; ``held_out_nats`` has the
    order as text, as JSON does. ``readouts``: scores on the model's readouts.
    """

    order: int
    counted_on: str
    n_stories: int
    n_tokens: int
    held_out_nats: Mapping[str, float]
    loss_nats: float
    bits_per_byte: float
    readouts: tuple[ReadoutScore, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {**asdict(self), "readouts": [score.to_json() for score in self.readouts]}


# Counting -----------------------------------------------------------------------------------------------------


def best_ngram(stories: StoriesLike, *, vocab_size: int, orders: Iterable[int] = ORDERS) -> NgramNull:
    """The n-gram of the order that predicts ``held_out`` best, counted on up to ``MOST_TOKENS`` tokens of ``train``.

    Raises DataError without a held-out story, UsageError without an order, and what ``NgramModel.fit`` raises.
    """
    counted, held_out = list(_first(stories.train, MOST_TOKENS)), list(stories.held_out)
    if not held_out:
        raise DataError("There is no story to choose an order by.", "Hold some stories out.")
    best, found = None, dict[int, float]()
    for order in orders:
        ngram = NgramModel.fit(counted, vocab_size=vocab_size, order=order)
        found[order] = float(np.concatenate(ngram.losses(held_out)).mean())
        if best is None or found[order] < found[best.order]:
            best = ngram
    if best is None:
        raise UsageError("There is no order to choose from.", "Give orders from 1 to 5.")
    n_tokens = sum(len(story) - 1 for story in counted)
    return NgramNull(best, stories.name, len(counted), n_tokens, found)


def stories_like(
    model: StoryModel,
    tokenizer: TextTokenizer,
    source: ModelSource | None = None,
    *,
    caches: Sequence[Path] = (CORPORA,),
) -> StoriesLike:
    """The stories that a model was trained on, as far as they are on disk, else the offline author's.

    ``caches``: folders of imported corpora. The validation side of a corpus is held out, of the author some of the
    training side, so that readouts, which are of the validation side, hold none of what was counted or chosen by.
    """
    corpus = _corpus_of(source, tokenizer, caches)
    if corpus is not None:
        return StoriesLike(f"its training corpus, {corpus.source}", corpus.train, corpus.validation)
    return _remembered(model, tokenizer) or author_like(tokenizer, n_ctx=model.cfg.n_ctx)


def author_like(
    tokenizer: TextTokenizer, *, n_ctx: int, n_counted: int = N_COUNTED, n_held_out: int = N_HELD_OUT
) -> StoriesLike:
    """Stories of the offline author, all of its training side."""
    texts = training_texts(n_counted + n_held_out)
    told = [tokenizer.encode_story(text, context=n_ctx) for text in texts]
    name = f"{n_counted:,} stories of the offline author"
    return StoriesLike(name, told[:n_counted], told[n_counted:])


def fit_ngram(
    tokenizer: TextTokenizer,
    *,
    n_ctx: int,
    texts: Iterable[str] | None = None,
    shards: Iterable[np.ndarray] = (),
    order: int = ORDER,
) -> NgramModel:
    """An interpolated Kneser-Ney n-gram of the tokens of a model.

    ``texts``: of stories; without them, ``training_texts(N_COUNTED)``. ``shards``: token ids of further stories, as
    ``corpus.shards.Split`` holds them, made by the same tokenizer. Raises what ``NgramModel.fit`` raises.
    """
    told = training_texts(N_COUNTED) if texts is None else texts
    encoded = (tokenizer.encode_story(text, context=n_ctx) for text in told)
    return NgramModel.fit(chain(encoded, shards), vocab_size=tokenizer.vocab_size, order=order)


def training_texts(n_texts: int) -> Iterator[str]:
    """The offline author's first stories that are not of the validation side: readouts hold none of them."""
    stories = write_stories(10**6, seed=AUTHOR_SEED, keep=_is_training, text_only=True)
    return (story.text for story in islice(stories, n_texts))


def _is_training(story: Story) -> bool:
    return not is_validation(story)


def _first(stories: Iterable[Tokens], n_tokens: int) -> Iterator[Tokens]:
    """The first stories, until so many tokens are there."""
    n_read = 0
    for story in stories:
        if n_read >= n_tokens:
            return
        n_read += len(story) - 1
        yield story


def _corpus_of(source: ModelSource | None, tokenizer: TextTokenizer, caches: Sequence[Path]) -> Corpus | None:
    """The corpus of a run or shipped model, imported with the same tokenizer; None where it is not there."""
    if source is not None and source.shipped is not None:
        sha256 = source.shipped.facts.corpus
    elif source is not None and source.run is not None:
        sha256 = read_json(source.run.config).get("corpus_sha256")
    else:
        return None
    for file in sorted(file for folder in caches for file in folder.glob("*/corpus.json")):
        try:
            facts = read_json(file)
            found = facts.get("source_sha256"), facts.get("tokenizer_sha256")
            if found == (sha256, tokenizer.sha256):
                return Corpus(file.parent)
        except TslensError:  # broken: another may not be
            continue
    return None


def _remembered(model: StoryModel, tokenizer: TextTokenizer) -> StoriesLike | None:
    """Of the shipped models' stories those that a model was trained on, and the others; None where they are few."""
    real, n_ctx = data_dir() / SHIPPED_STORIES[0], model.cfg.n_ctx
    if not model.train_digests or not real.is_file():
        return None
    train, held_out = list[Tokens](), list[Tokens]()
    for story in read_sources([real, *SHIPPED_STORIES[1:]]):
        if story.digest in model.train_digests:
            train.append(tokenizer.encode_story(story.text, context=n_ctx))
        elif is_validation(story):
            held_out.append(tokenizer.encode_story(story.text, context=n_ctx))
    share = len(train) / len(model.train_digests)
    if share < LEAST_FOUND or not held_out:
        return None
    part = "" if share == 1 else f" ({share:.0%} of the texts that it was trained on)"
    return StoriesLike(f"its training stories, {'+'.join(SHIPPED_STORIES)}{part}", train, held_out)


# The row, the texts -------------------------------------------------------------------------------------------


def ngram_row(
    null: NgramNull,
    stories: Sequence[Story],
    readouts: Sequence[Readout],
    *,
    tokenizer: TextTokenizer,
    n_ctx: int,
    seed: int,
) -> NgramRow:
    """Loss on stories and scores on readouts, as a model's are measured. ``seed``: of the bootstrap.

    Raises DataError for a story without text.
    """
    losses = null.ngram.losses(tokenizer.encode_story(story.text, context=n_ctx) for story in stories)
    loss = LossReport(
        nats=sum(float(one.sum()) for one in losses),
        n_targets=sum(map(len, losses)),
        n_bytes=sum(tokenizer.story_bytes(story.text, context=n_ctx) for story in stories),
    )
    return NgramRow(
        order=null.ngram.order,
        counted_on=null.counted_on,
        n_stories=null.n_stories,
        n_tokens=null.n_tokens,
        held_out_nats={str(order): nats for order, nats in null.held_out_nats.items()},
        loss_nats=loss.loss_nats,
        bits_per_byte=loss.bits_per_byte,
        readouts=tuple(read_ngram(null.ngram, readouts, seed=seed)),
    )


def write_by_ngram(
    ngram: NgramModel,
    tokenizer: TextTokenizer,
    prompts: Sequence[Prompt],
    *,
    samples: int,
    max_tokens: int,
    temperature: float,
    seed: int,
    progress: Callable[[int], None] = lambda n_done: None,
) -> list[Graded]:
    """``samples`` completions of every prompt, as ``grading.completions.write_completions`` gives of a model.

    The random numbers of a completion are those that ``model.generate`` draws for the same seed, place of the prompt,
    and sample. An n-gram has no context that could end. Raises UsageError for impossible settings.
    """
    found: list[Graded] = []
    for index, prompt in enumerate(prompts):
        told = tokenizer.encode(text_of(prompt))
        for sample in range(samples):
            ids = ngram.generate(
                eos=tokenizer.eos_id,
                max_tokens=max_tokens,
                temperature=temperature,
                seed=[seed, index, sample],
                context=np.array([tokenizer.start_id, *told]),
            ).tolist()
            ended = ids[-1] == tokenizer.eos_id
            text = tokenizer.decode_after(told, ids[:-1] if ended else ids)
            found.append(graded_text(prompt, text, sample, seed, ended))
            progress(len(found))
    return found
