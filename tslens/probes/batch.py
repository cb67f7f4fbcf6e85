"""Stories as padded token arrays with their rule-made labels: what a probe reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from jaxtyping import Bool, Int

from tslens.corpus.text_tokenizer import TextTokenizer
from tslens.corpus.words import label_tokens
from tslens.errors import ProbeInputError
from tslens.model.batches import cut_by_length
from tslens.types import Story

GROUP_STORIES = 256  # read together, so that rows of a batch are of like length


@dataclass(frozen=True)
class TokenBatch:
    """Rows of tokens; position 0 is the token that begins a story, places behind ``length`` are padding.

    ``tokens``: ids. ``length``: positions that are real. ``word``: index of the word a token belongs to, -1
    for none; ``word_first``, ``word_last``: its first and last piece. ``sentence_end``: holds a closing mark.
    ``punctuation``: holds punctuation and no word. ``cluster``: what each row is resampled with, a 64-bit key.
    ``n_cut``: stories that were longer than the context.
    """

    tokens: Int[np.ndarray, "row pos"]
    length: Int[np.ndarray, " row"]
    word: Int[np.ndarray, "row pos"]
    word_first: Bool[np.ndarray, "row pos"]
    word_last: Bool[np.ndarray, "row pos"]
    sentence_end: Bool[np.ndarray, "row pos"]
    punctuation: Bool[np.ndarray, "row pos"]
    cluster: tuple[int, ...]
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
    flag = np.zeros(shape, dtype=bool)
    return TokenBatch(tokens, length, np.full(shape, -1), flag, flag, flag, flag, tuple(clusters))


def batch_of_stories(stories: Sequence[Story], tokenizer: TextTokenizer, *, n_ctx: int) -> TokenBatch:
    """Stories as the model reads them, cut at the context.

    Raises ProbeInputError for a story of fewer than two tokens.
    """
    return _labelled([_encode(story, tokenizer) for story in stories], tokenizer.start_id, n_ctx)


@dataclass(frozen=True)
class _Encoded:
    story: Story
    ids: list[int]
    offsets: list[tuple[int, int]]


def _encode(story: Story, tokenizer: TextTokenizer) -> _Encoded:
    ids, offsets = tokenizer.encode_with_offsets(story.text)
    if len(ids) < 2:
        raise ProbeInputError(
            f'The story "{story.text[:40]}" has {len(ids)} token; a probe needs two.',
            "Leave such stories out.",
        )
    return _Encoded(story, ids, offsets)


def _labelled(encoded: Sequence[_Encoded], start_id: int, n_ctx: int) -> TokenBatch:
    rows = [[start_id, *one.ids[: n_ctx - 1]] for one in encoded]
    batch = batch_of_tokens(rows, [one.story.digest for one in encoded])
    names = ("word_first", "word_last", "sentence_end", "punctuation")
    labels = {name: np.zeros_like(batch.word_first) for name in names}
    word = np.full_like(batch.word, -1)
    for row, one in enumerate(encoded):
        found, n = label_tokens(one.story.text, one.offsets), min(len(one.ids), n_ctx - 1)
        word[row, 1 : n + 1] = found.word[:n]
        for name, array in labels.items():
            array[row, 1 : n + 1] = getattr(found, name)[:n]
    n_cut = sum(len(one.ids) >= n_ctx for one in encoded)
    return TokenBatch(batch.tokens, batch.length, word, **labels, cluster=batch.cluster, n_cut=n_cut)


def story_batches(
    stories: Iterable[Story], tokenizer: TextTokenizer, *, n_ctx: int, batch_tokens: int
) -> Iterator[TokenBatch]:
    """Batches of at most ``batch_tokens`` padded tokens (or one story), stories of like length together; streams."""
    source = iter(stories)
    while group := [_encode(story, tokenizer) for story in islice(source, GROUP_STORIES)]:
        lengths = np.array([min(len(one.ids) + 1, n_ctx) for one in group])
        for index in cut_by_length(lengths, batch_tokens):
            yield _labelled([group[i] for i in index], tokenizer.start_id, n_ctx)
