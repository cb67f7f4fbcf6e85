"""Stories as padded token arrays with their labels: what a probe reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from jaxtyping import Bool, Int

from tslens.corpus.text_tokenizer import TextTokenizer
from tslens.corpus.words import label_tokens
from tslens.errors import ProbeInputError
from tslens.model.batches import cut_by_length
from tslens.probes.units import (
    NO_LABELS,
    LabelNeeds,
    StoryUnits,
    UnitPairs,
    Units,
    joined_relations,
    joined_units,
    padded,
)
from tslens.types import Story

GROUP_STORIES = 256  # read together, so that rows of a batch are of like length


@dataclass(frozen=True)
class TokenBatch:
    """Rows of tokens; position 0 is the token that begins a story, places behind ``length`` are padding.

    ``tokens``: ids. ``length``: positions that are real. ``word``: index of the word a token belongs to, -1
    for none; ``word_first``, ``word_last``: its first and last piece. ``sentence``: index, -1 for none.
    ``sentence_start``: first piece of a sentence's first word. ``sentence_end``: holds a closing mark.
    ``punctuation``: holds punctuation and no word. ``cluster``: what each row is resampled with, a 64-bit
    key; fewer than rows where the last ones are only compared with.
    ``units``: words and marks. ``relations``: pairs by name of relation, none without labels. ``marked``: units by
    name of a user's label, where it has a value that is not empty, false or 0. ``n_cut``: stories longer than
    the context.
    """

    tokens: Int[np.ndarray, "row pos"]
    length: Int[np.ndarray, " row"]
    word: Int[np.ndarray, "row pos"]
    word_first: Bool[np.ndarray, "row pos"]
    word_last: Bool[np.ndarray, "row pos"]
    sentence: Int[np.ndarray, "row pos"]
    sentence_start: Bool[np.ndarray, "row pos"]
    sentence_end: Bool[np.ndarray, "row pos"]
    punctuation: Bool[np.ndarray, "row pos"]
    cluster: tuple[int, ...]
    units: Units
    relations: Mapping[str, UnitPairs] = field(default_factory=dict)
    marked: Mapping[str, Bool[np.ndarray, "row unit"]] = field(default_factory=dict)
    n_cut: int = 0

    @property
    def is_token(self) -> Bool[np.ndarray, "row pos"]:
        """Real positions, padding excluded."""
        return np.arange(self.tokens.shape[1]) < self.length[:, None]

    @property
    def is_query(self) -> Bool[np.ndarray, "row pos"]:
        """Real positions but the first: position 0 has nothing to look at but itself."""
        mask = self.is_token
        mask[:, 0] = False
        return mask


def batch_of_tokens(rows: Sequence[Sequence[int]], clusters: Sequence[int]) -> TokenBatch:
    """Rows without words or sentences, such as random tokens."""
    length = np.array([len(row) for row in rows])
    shape = (len(rows), int(length.max()))
    tokens = np.zeros(shape, dtype=np.int64)
    for row, ids in enumerate(rows):
        tokens[row, : len(ids)] = ids
    flag, none = np.zeros(shape, dtype=bool), np.full(shape, -1)
    no_units = np.full((len(rows), 0), -1)
    units = Units(no_units, no_units, no_units, no_units)
    return TokenBatch(tokens, length, none, flag, flag, none, flag, flag, flag, tuple(clusters), units)


def batch_of_stories(
    stories: Sequence[Story], tokenizer: TextTokenizer, *, n_ctx: int, labels: LabelNeeds = NO_LABELS
) -> TokenBatch:
    """Stories as the model reads them, cut at the context.

    Raises ProbeInputError for a story of fewer than two tokens, DataError for one without the labels that are needed.
    """
    return _labelled([_encode(story, tokenizer) for story in stories], tokenizer.start_id, n_ctx, labels)


def story_batches(
    stories: Iterable[Story],
    tokenizer: TextTokenizer,
    *,
    n_ctx: int,
    batch_tokens: int,
    labels: LabelNeeds = NO_LABELS,
) -> Iterator[TokenBatch]:
    """Batches of at most ``batch_tokens`` padded tokens (or one story), stories of like length together; streams.

    Batches of a group come in random order, always the same, so that the first of them hold stories of all lengths.
    """
    for encoded in encoded_batches(stories, tokenizer, n_ctx=n_ctx, batch_tokens=batch_tokens):
        yield _labelled(encoded, tokenizer.start_id, n_ctx, labels)


@dataclass(frozen=True)
class EncodedStory:
    """A story with its tokens, the one that begins it not among them, and the characters of each."""

    story: Story
    ids: list[int]
    offsets: list[tuple[int, int]]


def encoded_batches(
    stories: Iterable[Story], tokenizer: TextTokenizer, *, n_ctx: int, batch_tokens: int
) -> Iterator[list[EncodedStory]]:
    """The stories of each batch of :func:`story_batches`."""
    source, rng = iter(stories), np.random.default_rng(0)
    while group := [_encode(story, tokenizer) for story in islice(source, GROUP_STORIES)]:
        lengths = np.array([min(len(one.ids) + 1, n_ctx) for one in group])
        cut = cut_by_length(lengths, batch_tokens)
        for index in (cut[i] for i in rng.permutation(len(cut))):
            yield [group[i] for i in index]


def _encode(story: Story, tokenizer: TextTokenizer) -> EncodedStory:
    ids, offsets = tokenizer.encode_with_offsets(story.text)
    if len(ids) < 2:
        raise ProbeInputError(
            f'The story "{story.text[:40]}" has {len(ids)} token; a probe needs two.',
            "Leave such stories out.",
        )
    return EncodedStory(story, ids, offsets)


def _labelled(encoded: Sequence[EncodedStory], start_id: int, n_ctx: int, needs: LabelNeeds) -> TokenBatch:
    rows = [[start_id, *one.ids[: n_ctx - 1]] for one in encoded]
    plain = batch_of_tokens(rows, [one.story.digest for one in encoded])
    flags = ("word_first", "word_last", "sentence_start", "sentence_end", "punctuation")
    found: dict[str, np.ndarray] = {name: np.zeros_like(plain.word_first) for name in flags}
    found |= {name: np.full_like(plain.word, -1) for name in ("word", "sentence")}
    of_rows = []
    for row, one in enumerate(encoded):
        by_token, n = label_tokens(one.story.text, one.offsets), min(len(one.ids), n_ctx - 1)
        for name, array in found.items():
            array[row, 1 : n + 1] = getattr(by_token, name)[:n]
        of_rows.append(StoryUnits.of(one.story, one.offsets, n, found["sentence_end"][row], needs))
    return TokenBatch(
        tokens=plain.tokens,
        length=plain.length,
        **found,
        cluster=plain.cluster,
        units=joined_units(of_rows),
        relations=joined_relations(of_rows) if needs.scheme else {},
        marked={name: padded([one.marked[name] for one in of_rows], False) for name in needs.users},
        n_cut=sum(len(one.ids) >= n_ctx for one in encoded),
    )
