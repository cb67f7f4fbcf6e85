"""Where a head with a known job looks: edges from query to key, read off labels and text.

Edges of relations come from the labels by character offsets alone, not through the code of the probes: a mistake there
would else be planted and found. Edges of the other probes are those that the probe counts; edges of decoys are rules.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from jaxtyping import Bool, Int

from tslens.corpus.labelled import (
    read_labels,
    relation_pairs,
    token_labels,
    token_units,
    unit_labels,
)
from tslens.corpus.text_tokenizer import TextTokenizer
from tslens.corpus.words import align, find_units
from tslens.errors import DataError
from tslens.probes.base import Calibration, Probe
from tslens.probes.batch import batch_of_stories
from tslens.types import Labels, Position, Story

Target = tuple[str, Position]
"""What is looked at, and from where: a probe or decoy by name, and its position."""
GROUP = 16  # stories of a batch


@dataclass(frozen=True)
class Edges:
    """Pairs of positions of one row of tokens; each pair once."""

    query: Int[np.ndarray, " edge"]
    key: Int[np.ndarray, " edge"]

    @classmethod
    def of(cls, pairs: Iterable[tuple[int, int]]) -> Edges:
        """From pairs in any order; a pair that comes twice counts once."""
        table = np.array(sorted(set(pairs)), dtype=np.int64).reshape(-1, 2)
        return cls(table[:, 0], table[:, 1])


RowEdges = dict[bytes, dict[Target, Edges]]
"""Edges by row of tokens (``row_name``) and by what is looked at."""


def row_name(tokens: Int[np.ndarray, " pos"]) -> bytes:
    """Name of a row: its tokens without the padding, which is zeros at the end."""
    real = np.flatnonzero(tokens)
    return np.asarray(tokens[: real[-1] + 1 if len(real) else 0], dtype=np.int64).tobytes()


def row_of(story: Story, tokenizer: TextTokenizer, n_ctx: int) -> list[int]:
    """The story's tokens behind the one that begins it, cut at the context."""
    return [tokenizer.start_id, *tokenizer.encode(story.text)[: n_ctx - 1]]


def relation_edges(stories: Iterable[Story], tokenizer: TextTokenizer, *, n_ctx: int) -> RowEdges:
    """Edges of every relation at the word and before it. Raises DataError for a story without labels."""
    found: RowEdges = {}
    for story in stories:
        labels = _labels_of(story)
        placed = _Placed(story.text, tokenizer, n_ctx)
        found[row_name(np.array(row_of(story, tokenizer, n_ctx)))] = {
            (name, position): placed.edges(pairs, position)
            for name, pairs in relation_pairs(story.text, labels).items()
            for position in ("word", "before")
        }
    return found


def _labels_of(story: Story) -> Labels:
    labels = read_labels(story)
    if labels is None:
        raise DataError(f"A story has no labels: {story.text[:40]!r}.", "Give stories of the author.")
    return labels


class _Placed:
    """Units of a story as positions of its row; what is cut off is not there."""

    def __init__(self, text: str, tokenizer: TextTokenizer, n_ctx: int) -> None:
        ids, offsets = tokenizer.encode_with_offsets(text)
        first, last = align(find_units(text), offsets)
        self.first, self.last = (
            (first + 1).tolist(),
            (last + 1).tolist(),
        )  # behind the token that begins a story
        self.n_last = min(len(ids), n_ctx - 1)

    def edges(self, pairs: Iterable[tuple[int, tuple[int, ...]]], position: Position) -> Edges:
        """From the query's last piece, or from the token before its first, to all pieces of earlier keys."""
        found = []
        for query, keys in pairs:
            if self.last[query] > self.n_last:
                continue
            at = self.last[query] if position == "word" else self.first[query] - 1
            for key in keys:
                if self.last[key] < at:
                    found += [(at, piece) for piece in range(self.first[key], self.last[key] + 1)]
        return Edges.of(found)


def probe_edges(
    probes: Sequence[Probe],
    stories: Sequence[Story],
    tokenizer: TextTokenizer,
    calibration: Calibration,
    *,
    n_ctx: int,
) -> RowEdges:
    """What probes of stories count, as edges: for heads that do what a positional or an identity probe asks."""

    found: RowEdges = {}
    for begin in range(0, len(stories), GROUP):
        batch = batch_of_stories(stories[begin : begin + GROUP], tokenizer, n_ctx=n_ctx)
        names = [row_name(tokens[:n]) for tokens, n in zip(batch.tokens, batch.length, strict=True)]
        for probe in probes:
            for row in probe.rows(batch, calibration):
                pairs = row.value_all or row.value
                for index, name in enumerate(names):
                    mine = pairs.row == index
                    edges = Edges(pairs.query[mine], pairs.key[mine])
                    found.setdefault(name, {})[probe.name, row.position] = edges
    return found


# Facts of tokens, and decoys made of them -------------------------------------------------------------------


@dataclass(frozen=True)
class TokenFacts:
    """What is known of each token of one row, position 0 included: a token has the labels of its word.

    ``is_word``: belongs to a word. ``is_subject``: of a word that is the subject of a clause. ``is_closing``: holds the
    mark that closes a sentence.
    """

    tokens: Int[np.ndarray, " pos"]
    pos: tuple[str, ...]
    is_word: Bool[np.ndarray, " pos"]
    is_subject: Bool[np.ndarray, " pos"]
    is_closing: Bool[np.ndarray, " pos"]


def token_facts(story: Story, tokenizer: TextTokenizer, *, n_ctx: int) -> TokenFacts:
    """Facts of a story with labels. Raises DataError without."""
    labels = _labels_of(story)
    ids, offsets = tokenizer.encode_with_offsets(story.text)
    ids, offsets = ids[: n_ctx - 1], offsets[: n_ctx - 1]
    carried = token_labels(story.text, unit_labels(story.text, labels), offsets)
    unit = token_units(story.text, offsets)
    spans = find_units(story.text)
    words = [u >= 0 and story.text[spans[u][0]].isalnum() for u in unit.tolist()]
    return TokenFacts(
        tokens=np.array([tokenizer.start_id, *ids]),
        pos=("", *carried["pos"]),
        is_word=np.array([False, *words]),
        is_subject=np.array([False, *carried["subject"]]),
        is_closing=np.array([False, *carried["sentence_end"]]),
    )


def decoy_edges(
    stories: Sequence[Story], tokenizer: TextTokenizer, offsets: Sequence[int], *, n_ctx: int, n_frequent: int
) -> RowEdges:
    """Edges of heads that do no relation's job, by decoy: ``nouns``, ``frequent``, ``offset_3``.

    All earlier nouns; all earlier uses of the ``n_frequent`` most frequent words; the token ``offset`` places back.
    """
    facts = [token_facts(story, tokenizer, n_ctx=n_ctx) for story in stories]
    counts = Counter(chain.from_iterable(one.tokens[one.is_word].tolist() for one in facts))
    frequent = [token for token, _ in counts.most_common(n_frequent)]
    found: RowEdges = {}
    for one in facts:
        keys = {
            "nouns": np.array([pos == "NOUN" for pos in one.pos]),
            "frequent": np.isin(one.tokens, frequent) & one.is_word,
        }
        n = len(one.tokens)
        here: dict[Target, Edges] = {(name, "word"): _to_all_earlier(flag) for name, flag in keys.items()}
        for offset in offsets:
            query = np.arange(offset + 1, n)
            here[f"offset_{offset}", "word"] = Edges(query, query - offset)
        found[row_name(one.tokens)] = here
    return found


def _to_all_earlier(is_key: Bool[np.ndarray, " pos"]) -> Edges:
    query, key = (np.tri(len(is_key), k=-1, dtype=bool) & is_key).nonzero()
    return Edges(query, key)
