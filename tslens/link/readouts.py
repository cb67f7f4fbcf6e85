"""All readouts of a model: minimal pairs for grammar, consistency, instructions and knowledge.

| readout | capability | of |
|---|---|---|
| ``agreement``, ``tense``, ``word_order`` | grammar | stories and their twins with one fault |
| ``swapped_names``, ``changed_pronoun`` | consistency | the same |
| ``lost_object`` | consistency | short texts made from templates |
| ``instructed_word``, ``instructed_sentence`` | instructions | stories behind a prompt, for instruct models |
| ``factual``, ``reasoning``, ``context`` | knowledge | the short prompts |

Stories are read until every readout has its pairs, or there are no more. Each pair counts together with its mirror
(``balance``), so that a preference for some word, whatever stands before, is no knowledge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import groupby, islice

import numpy as np
from jaxtyping import Int

from tslens.corpus.author import write_stories
from tslens.corpus.stories import is_validation
from tslens.corpus.text_tokenizer import TextTokenizer
from tslens.grading.prompts import load_short_prompts
from tslens.link.answer_pairs import answer_readouts
from tslens.link.balance import Mirrored
from tslens.link.instruction_pairs import sentence_pairs, word_pairs
from tslens.link.lost_objects import lost_object_readout
from tslens.link.pairs import Capability, Encode, Pair, Readout
from tslens.link.story_pairs import FAULTS_READ, FaultKind, fault_pairs
from tslens.types import Story

N_PAIRS = 300
MOST_STORIES = 1500  # that are read for pairs
GROUP = 50  # stories read at a time: those of a group give each other's prompts other words
AUTHOR_SEED = 0
ENCODED = 4096  # texts whose tokens are kept: a story is encoded for every fault

Make = Callable[[Sequence[Story]], Iterator[Pair]]
"""From stories to pairs, those of a story one after another."""


def make_readouts(
    tokenizer: TextTokenizer,
    *,
    n_ctx: int,
    instruct: bool,
    seed: int,
    n_pairs: int = N_PAIRS,
    stories: Iterable[Story] | None = None,
    progress: Callable[[int], None] = lambda n_stories: None,
) -> list[Readout]:
    """The readouts of a model, each of up to ``n_pairs`` pairs; those of knowledge have five a prompt.

    ``n_ctx``: positions that the model has. ``instruct``: with readouts of instructions, for a model that was trained
    behind prompts. ``stories``: labelled, and none that the model was trained on; without them, those
    of the offline author's validation side. Up to ``MOST_STORIES`` are read: a readout that finds few pairs there has
    few, or none. ``progress``: stories read so far. Depends on the stories, the tokenizer and ``seed`` alone.
    Raises DataError for a story without labels.
    """
    encode = encoder(tokenizer)
    sought = _sought(encode, n_ctx, n_pairs, seed, instruct=instruct)
    source = iter(author_stories() if stories is None else stories)
    n_read = 0
    while any(not one.found.is_full for one in sought) and n_read < MOST_STORIES:
        group = list(islice(source, min(GROUP, MOST_STORIES - n_read)))
        if not group:
            break
        for one in sought:
            one.read(group)
        n_read += len(group)
        progress(n_read)
    found = [one.readout() for one in sought]
    return [
        *found[: len(FAULTS_READ)],
        lost_object_readout(encode, n_ctx=n_ctx, n_pairs=n_pairs, seed=seed),
        *found[len(FAULTS_READ) :],
        *answer_readouts(load_short_prompts(), encode, n_ctx=n_ctx),
    ]


def author_stories() -> Iterator[Story]:
    """The offline author's stories of the validation side, without end in practice."""
    return write_stories(10**6, seed=AUTHOR_SEED, keep=is_validation)


def encoder(tokenizer: TextTokenizer) -> Encode:
    """From a text to ``[<|endoftext|>, t1, ...]``, uncut; the newest texts are kept."""

    @lru_cache(ENCODED)
    def encode(text: str) -> Int[np.ndarray, " token"]:
        tokens = np.array([tokenizer.start_id, *tokenizer.encode(text)], dtype=np.int64)
        tokens.setflags(write=False)
        return tokens

    return encode


@dataclass(frozen=True)
class _Sought:
    """A readout in the making."""

    name: str
    capability: Capability
    asks: str
    make: Make
    found: Mirrored

    def read(self, stories: Sequence[Story]) -> None:
        """Take pairs of some stories."""
        if self.found.is_full:
            return
        for _, of_story in groupby(self.make(stories), key=lambda pair: pair.cluster):
            self.found.offer(list(of_story))

    def readout(self) -> Readout:
        return Readout(self.name, self.capability, self.asks, tuple(self.found.items))


def _sought(encode: Encode, n_ctx: int, n_pairs: int, seed: int, *, instruct: bool) -> list[_Sought]:
    made = [
        _Sought(
            kind,
            asked.capability,
            asked.asks,
            partial(_of_fault, kind, encode, n_ctx, seed),
            Mirrored(n_pairs),
        )
        for kind, asked in FAULTS_READ.items()
    ]
    if instruct:
        for name, make in (("word", word_pairs), ("sentence", sentence_pairs)):
            asks = f"a {name} that was asked for, more than after a prompt for another"
            pairs = partial(make, encode=encode, n_ctx=n_ctx, seed=seed)
            made.append(_Sought(f"instructed_{name}", "instructions", asks, pairs, Mirrored(n_pairs)))
    return made


def _of_fault(
    kind: FaultKind, encode: Encode, n_ctx: int, seed: int, stories: Sequence[Story]
) -> Iterator[Pair]:
    for story in stories:
        yield from fault_pairs(story, kind, encode, n_ctx=n_ctx, seed=seed)
