"""A table of word n-grams of real stories, hashed and pruned: how likely each word is after the three before it.

A word is a unit of ``corpus.words`` in small letters; names are one word, rare words a few by their endings. An n-gram
is kept by 32 bits of a hash and its count on a scale of 8 bits, if it was seen ``LEAST[order]`` times; of n-grams that
were never seen one in some thousands is taken for another. Probabilities are smoothed by Dirichlet priors, each order
on the one below (MacKay and Peto 1995): evidence for grades, no language model to compare others with.

Axes: unit, gram.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from jaxtyping import Float, Int, UInt8, UInt32

from tslens.corpus.annotation.characters import load_lexicon
from tslens.corpus.words import find_sentences, find_units

ORDERS = (2, 3, 4)
PRIOR = {2: 6.0, 3: 4.0, 4: 3.0}  # counts that the order below is worth
CLASSES = (
    "<start>",
    "<name>",
    "<name's>",
    "<number>",
    "<rare-ed>",
    "<rare-ing>",
    "<rare-s>",
    "<rare-ly>",
    "<rare>",
)
START = 0
_EXACT = 64  # counts up to here are kept as they are, above it in sixteenths of an octave
_MIX = np.uint64(0x9E3779B97F4A7C15)
_STRAIGHT = str.maketrans("’‘“”", "''\"\"")


@dataclass(frozen=True, eq=False)
class WordTable:
    """``words``: the vocabulary, ``CLASSES`` first. ``counts``: of each word. ``names``: words that name characters.

    ``keys``, ``codes``: of each order the sorted hashes and their coded counts.
    """

    words: tuple[str, ...]
    counts: Int[np.ndarray, " word"]
    names: frozenset[str]
    keys: Mapping[int, UInt32[np.ndarray, " gram"]]
    codes: Mapping[int, UInt8[np.ndarray, " gram"]]

    @cached_property
    def index(self) -> dict[str, int]:
        """Id of each word."""
        return {word: number for number, word in enumerate(self.words)}

    @cached_property
    def log_unigram(self) -> Float[np.ndarray, " word"]:
        """Natural logarithm of how frequent each word is, one more added to each count."""
        smoothed = self.counts + 1.0
        return np.log(smoothed / smoothed.sum())

    def ids(self, surfaces: Sequence[str], starts: Sequence[bool]) -> Int[np.ndarray, " unit"]:
        """Ids of the units of a text. ``starts``: which of them begin a sentence, where a capital says nothing."""
        return np.array([self._id(*one) for one in zip(surfaces, starts, strict=True)], dtype=np.int64)

    def _id(self, surface: str, starts: bool) -> int:
        word = surface.translate(_STRAIGHT)
        small = word.lower()
        stem, owns = (small[:-2], True) if small.endswith("'s") else (small, False)
        if stem in self.names or (word[0].isupper() and not starts and stem not in self.index):
            return self.index["<name's>" if owns else "<name>"]
        found = self.index.get(small)
        return self.index[shape_of(small)] if found is None else found

    def log_probabilities(self, ids: Int[np.ndarray, " unit"]) -> Float[np.ndarray, " unit"]:
        """Natural logarithm of the probability of each unit after the three before it."""
        return self._smoothed(ids)[0]

    def order_seen(self, ids: Int[np.ndarray, " unit"]) -> Int[np.ndarray, " unit"]:
        """The longest n-gram ending at each unit that the table has, 1 to 4."""
        return self._smoothed(ids)[1]

    def _smoothed(self, ids: Int[np.ndarray, " unit"]) -> tuple[np.ndarray, np.ndarray]:
        padded = np.concatenate((np.full(3, START), ids))
        probability = np.exp(self.log_unigram[ids])
        longest = np.ones(len(ids), dtype=np.int64)
        history: np.ndarray = self.counts[padded[2:-1]].astype(float)
        for order in ORDERS:
            grams = np.stack([padded[3 - back : len(padded) - back] for back in range(order - 1, -1, -1)], 1)
            count = self.look_up(grams)
            probability = (count + PRIOR[order] * probability) / (np.maximum(history, count) + PRIOR[order])
            longest = np.where(count > 0, order, longest)
            if order < max(ORDERS):
                before = np.stack([padded[3 - back : len(padded) - back] for back in range(order, 0, -1)], 1)
                history = self.look_up(before)
        return np.log(probability), longest

    def look_up(self, grams: Int[np.ndarray, "gram order"]) -> Float[np.ndarray, " gram"]:
        """How often each n-gram was seen, 0 where the table does not have it."""
        order = grams.shape[1]
        keys, wanted = self.keys[order], hash_grams(grams)
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(keys[at] == wanted, decode_counts(self.codes[order][at]), 0.0)

    @classmethod
    def build(
        cls,
        texts: Sequence[tuple[Sequence[str], Sequence[bool]]],
        *,
        n_words: int,
        least: Mapping[int, int],
    ) -> Self:
        """The table of texts, each as its units and which of them begin a sentence."""
        words, names = _vocabulary(texts, n_words)
        empty = cls(words, np.zeros(len(words), dtype=np.int64), names, {}, {})
        all_ids = [empty.ids(*text) for text in texts]
        counts = np.bincount(np.concatenate(all_ids), minlength=len(words))
        counts[START] = len(texts)
        stream = np.concatenate([np.concatenate((np.full(3, START), ids)) for ids in all_ids])
        keys, codes = {}, {}
        for order in ORDERS:
            grams = np.lib.stride_tricks.sliding_window_view(stream, order)
            grams = grams[grams[:, -1] != START]
            found, number = np.unique(hash_grams(grams), return_counts=True)
            kept = number >= least[order]
            keys[order], codes[order] = found[kept], encode_counts(number[kept])
        return cls(words, counts, names, keys, codes)


def cut(text: str) -> tuple[list[str], list[bool], list[int]]:
    """Units of a text, which of them begin a sentence (a quotation mark before them or not), the sentence of each."""
    sentences = find_sentences(text)
    surfaces, starts, of = list[str](), list[bool](), list[int]()
    sentence, has_word = 0, False
    for start, end in find_units(text):
        while start >= sentences[sentence].end:
            sentence, has_word = sentence + 1, False
        opens = bool(surfaces) and surfaces[-1] in ('"', "“", "'")
        surfaces.append(text[start:end])
        starts.append(not has_word or opens)
        of.append(sentence)
        has_word = has_word or text[start].isalnum()
    return surfaces, starts, of


def shape_of(word: str) -> str:
    """The class of a rare word, by how it ends."""
    if word[0].isdigit():
        return "<number>"
    for ending in ("ed", "ing", "ly", "s"):
        if word.endswith(ending) and len(word) > len(ending) + 2:
            return f"<rare-{ending}>"
    return "<rare>"


def hash_grams(grams: Int[np.ndarray, "gram order"]) -> UInt32[np.ndarray, " gram"]:
    """32 bits for each n-gram: its ids, 16 bits each, mixed."""
    packed = np.zeros(len(grams), dtype=np.uint64)
    for column in range(grams.shape[1]):
        packed = (packed << np.uint64(16)) | grams[:, column].astype(np.uint64)
    mixed = packed * _MIX
    mixed ^= mixed >> np.uint64(29)
    return ((mixed * _MIX) >> np.uint64(32)).astype(np.uint32)


def encode_counts(counts: Int[np.ndarray, " gram"]) -> UInt8[np.ndarray, " gram"]:
    """Counts on a scale of 8 bits."""
    above = _EXACT + np.rint(16 * np.log2(np.maximum(counts, _EXACT) / _EXACT))
    return np.minimum(np.where(counts <= _EXACT, counts, above), 255).astype(np.uint8)


def decode_counts(codes: UInt8[np.ndarray, " gram"]) -> Float[np.ndarray, " gram"]:
    """The counts that such codes stand for."""
    number = codes.astype(float)
    return np.where(number <= _EXACT, number, _EXACT * 2.0 ** ((number - _EXACT) / 16))


def _vocabulary(
    texts: Sequence[tuple[Sequence[str], Sequence[bool]]], n_words: int
) -> tuple[tuple[str, ...], frozenset[str]]:
    """The most frequent words, and which words name characters: nearly always with a capital inside sentences."""
    small: dict[str, int] = {}
    inside: dict[str, int] = {}
    capital: dict[str, int] = {}
    for surfaces, starts in texts:
        for surface, first in zip(surfaces, starts, strict=True):
            word = surface.translate(_STRAIGHT)
            lower = word.lower()
            small[lower] = small.get(lower, 0) + 1
            if not first:
                stem = lower.removesuffix("'s")
                inside[stem] = inside.get(stem, 0) + 1
                if word[0].isupper():
                    capital[stem] = capital.get(stem, 0) + 1
    known = load_lexicon()
    names = {
        stem
        for stem, n in capital.items()
        if n >= 5 and n > 0.9 * inside[stem] and not stem.startswith("i'") and stem not in known.nobody
    } | {name for name in known.names if capital.get(name, 0) >= 0.5 * inside.get(name, 0)}
    names -= {"i"}
    ranked = sorted(
        (word for word in small if word.removesuffix("'s") not in names),
        key=lambda word: (-small[word], word),
    )
    return (*CLASSES, *ranked[:n_words]), frozenset(names)
