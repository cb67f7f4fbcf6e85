"""Stories as padded token arrays with their rule-made labels: what a probe reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from jaxtyping import Bool, Int

from tslens.corpus.tokenizer import StoryTokenizer
from tslens.corpus.words import label_tokens
from tslens.errors import ProbeInputError
from tslens.model.batches import cut_by_length
from tslens.types import Story

GROUP_STORIES = 256  # read together, so that rows of a batch are of like length


@dataclass(frozen=True)
class TokenBatch:
    """Rows of tokens; position 0 is ``<|endoftext|>``, places behind ``length`` are padding.

    ``tokens``: ids. ``length``: positions that are real. ``word``: index of the word a token belongs to, -1
    for none; ``word_first``, ``word_last``: its first and last piece. ``sentence_end``: holds a closing mark.
    ``punctuation``: holds punctuation and no word. ``cluster``: what each row is resampled with, a 64-bit key.
    """

    tokens: Int[np.ndarray, "row pos"]
    length: Int[np.ndarray, " row"]
    word: Int[np.ndarray, "row pos"]
    word_first: Bool[np.ndarray, "row pos"]
    word_last: Bool[np.ndarray, "row pos"]
    sentence_end: Bool[np.ndarray, "row pos"]
    punctuation: Bool[np.ndarray, "row pos"]
    cluster: tuple[int, ...]

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


def batch_of_stories(stories: Sequence[Story], tokenizer: StoryTokenizer, *, n_ctx: int) -> TokenBatch:
    """Stories as the model reads them, cut at the context.

    Raises ProbeInputError for a story of fewer than two tokens.
    """
    encoded = [tokenizer.encode_with_offsets(story.text) for story in stories]
    for story, (ids, _) in zip(stories, encoded, strict=True):
        if len(ids) < 2:
            raise ProbeInputError(
                f'The story "{story.text[:40]}" has {len(ids)} token; a probe needs two.',
                "Leave such stories out.",
            )
    rows = [[tokenizer.eos_id, *ids[: n_ctx - 1]] for ids, _ in encoded]
    batch = batch_of_tokens(rows, [story.digest for story in stories])
    labels = {
        name: np.zeros_like(batch.word_first)
        for name in ("word_first", "word_last", "sentence_end", "punctuation")
    }
    word = np.full_like(batch.word, -1)
    for row, (story, (ids, offsets)) in enumerate(zip(stories, encoded, strict=True)):
        found, n = label_tokens(story.text, offsets), min(len(ids), n_ctx - 1)
        word[row, 1 : n + 1] = found.word[:n]
        for name, array in labels.items():
            array[row, 1 : n + 1] = getattr(found, name)[:n]
    return TokenBatch(batch.tokens, batch.length, word, **labels, cluster=batch.cluster)


def story_batches(
    stories: Iterable[Story], tokenizer: StoryTokenizer, *, n_ctx: int, batch_tokens: int
) -> Iterator[TokenBatch]:
    """Batches of about ``batch_tokens`` padded tokens, stories of like length together; streams."""
    source = iter(stories)
    while group := list(islice(source, GROUP_STORIES)):
        lengths = np.array([len(story.text) for story in group])
        characters = batch_tokens * max(1.0, lengths.mean() / max(1, len(tokenizer.encode(group[0].text))))
        for index in cut_by_length(lengths, max(1, int(characters))):
            yield batch_of_stories([group[i] for i in index], tokenizer, n_ctx=n_ctx)
