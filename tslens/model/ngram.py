"""Interpolated Kneser-Ney n-gram model of token ids: the yardstick in every table.

A gram is a history h and the token w after it. With h' the history without its first token, and n the order:

1. Count. c(hw) is, at length n, how often the gram occurs; at a shorter length, the number of different tokens
   seen before it, since the shorter gram is asked only where the longer one fails. Nothing stands before a
   story, so a gram that starts one counts as often as it occurs. The first token of a story
   (``<|endoftext|>``) is history, never a target: it marks the beginning. No gram crosses stories.
2. Discount, for each length, with n_j the number of grams of count j and Y = n_1 / (n_1 + 2 n_2):
   D_1 = 1 - 2 Y n_2 / n_1, D_2 = 2 - 3 Y n_3 / n_2, D_3 = 3 - 4 Y n_4 / n_3 (count 3 and above). Where
   they do not exist or are no discount (few or odd data): 1/2, 1, 3/2.
3. Interpolate, down to the uniform distribution, so that every token has a positive probability:
   P(w | h) = (c(hw) - D_c(hw)) / C(h) + g(h) P(w | h'), where C(h) sums c(hv) over all v, and g(h) is the
   share of C(h) that was discounted. For a history never seen, P(w | h) = P(w | h').

Grams are a trie, each length one sorted array: the key of hw is (index of h) x vocabulary + w, so counting is
sorting and looking up is ``searchsorted``, for all positions of all stories at once.

Fitting holds all ids in memory and sorts once per length: time grows as N log N in tokens N, memory at its peak
is about 90 bytes per token at order 4 and 110 at order 5. A fitted model takes 28 bytes per different gram.

Source: Kneser and Ney 1995, Improved backing-off for m-gram language modeling; Chen and Goodman 1998, An
Empirical Study of Smoothing Techniques for Language Modeling (modified Kneser-Ney, interpolated); raw counts
at the beginning as in Heafield et al. 2013, Scalable Modified Kneser-Ney Language Model Estimation.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from tslens.errors import DataError, ModelError, UsageError
from tslens.files import atomic_write
from tslens.reading import BROKEN, check_regular, parse_row

ORDERS = range(1, 6)
MOST_TOKENS = 20_000_000  # that the package counts of a corpus, which bounds memory at about 2 GB
SCHEMA = "tslens.ngram/1"
_FALLBACK = np.array([0.0, 0.5, 1.0, 1.5])  # discounts of counts 0, 1, 2, 3 and above


class _Grams:
    """All grams of one length, and what each adds to a probability.

    ``keys``: [gram] sorted. ``counts``: [gram], step 1 above. ``share``: [gram + 1] discounted count over the
    total of its history. ``rest``: [history + 1] discounted share of each history. Index -1, "never seen", is the
    last element: share 0, rest 1.
    """

    def __init__(self, keys: np.ndarray, counts: np.ndarray, *, n_histories: int, vocab_size: int) -> None:
        self.keys, self.counts, self._vocab_size = keys, counts, vocab_size
        history = keys // vocab_size
        discount = _discounts(counts)[np.minimum(counts, 3)]
        total = np.bincount(history, weights=counts, minlength=n_histories + 1).astype(np.float64)
        taken = np.bincount(history, weights=discount, minlength=n_histories + 1)
        self.share = np.append((counts - discount) / total[history], 0.0)
        self.rest = np.divide(taken, total, out=np.ones_like(total), where=total > 0)

    def find(self, history: Int[np.ndarray, " pos"], tokens: Int[np.ndarray, " pos"]) -> np.ndarray:
        """Index of each gram, -1 for one never seen. A history of -1 has no gram, as its key is negative."""
        if not len(self.keys):
            return np.full(len(tokens), -1)
        wanted = history * self._vocab_size + tokens
        index = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return np.where(self.keys[index] == wanted, index, -1)


class NgramModel:
    """What follows the last ``order - 1`` tokens of a story, from counts. Made by :meth:`fit` or :meth:`load`."""

    def __init__(self, keys: Sequence[np.ndarray], counts: Sequence[np.ndarray], *, vocab_size: int) -> None:
        self.order, self.vocab_size = len(keys), vocab_size
        n_histories = [1, *map(len, keys)]
        self._grams = [
            _Grams(key, count.astype(np.int64), n_histories=above, vocab_size=vocab_size)
            for key, count, above in zip(keys, counts, n_histories[:-1], strict=True)
        ]

    @classmethod
    def fit(cls, stories: Iterable[np.ndarray], *, vocab_size: int, order: int = 4) -> NgramModel:
        """Count ``[<|endoftext|>, t1, ...]`` sequences of token ids.

        ``order``: length of the longest gram, 1 to 5. Raises UsageError for another, DataError if there is no
        story, or one is shorter than two tokens or holds an id outside the vocabulary.
        """
        if order not in ORDERS:
            raise UsageError(
                f"An n-gram model of order {order} is not offered.", "Choose an order from 1 to 5."
            )
        tokens, starts = _flatten(stories, vocab_size)
        if not len(tokens):
            raise DataError(
                "There is no story to count.", "Give at least one story of two tokens or more to fit."
            )
        keys, counts = [np.arange(vocab_size)], []
        ids = tokens  # at each position, the index of the gram that ends there
        for length in range(2, order + 1):
            history = _shift(ids, starts)
            inside = history >= 0
            found, index = np.unique(history[inside] * vocab_size + tokens[inside], return_inverse=True)
            shorter = np.empty(len(found), dtype=np.int64)  # the same gram without its first token
            shorter[index] = ids[inside]
            count = np.bincount(shorter, minlength=len(keys[-1]))
            if length > 2:  # a single token at the start of a story is no target
                begins = ids[~inside]
                count += np.bincount(begins[begins >= 0], minlength=len(count))
            keys.append(found)
            counts.append(count)
            ids = np.full(len(tokens), -1)
            ids[inside] = index
        if order == 1:
            ids = tokens.copy()
            ids[starts] = -1
        counts.append(np.bincount(ids[ids >= 0], minlength=len(keys[-1])))
        return cls(keys, counts, vocab_size=vocab_size)

    def loss(self, story: Int[np.ndarray, " pos"]) -> Float[np.ndarray, " target"]:
        """Loss in nats of every target ``story[1:]``. Raises DataError as :meth:`losses`."""
        return self.losses([story])[0]

    def losses(self, stories: Iterable[np.ndarray]) -> list[np.ndarray]:
        """Loss in nats of every target of each story, ``story[1:]``, all stories at once.

        Raises DataError if a story is shorter than two tokens or holds an id outside the vocabulary.
        """
        tokens, starts = _flatten(stories, self.vocab_size)
        if not len(tokens):
            return []
        probs = np.full(len(tokens), 1 / self.vocab_size)
        for grams, history, ids in self._look_up(tokens, starts):
            probs = grams.share[ids] + grams.rest[history] * probs
        return [losses[1:] for losses in np.split(-np.log(probs), starts[1:])]

    def next_probs(self, context: Int[np.ndarray, " pos"]) -> Float[np.ndarray, " vocab"]:
        """Probability of every token after ``context``: a story so far, ``<|endoftext|>`` first.

        Raises DataError if it holds an id outside the vocabulary.
        """
        context = _checked(context, self.vocab_size)
        tail = context[max(0, len(context) - self.order + 1) :].astype(np.int64)
        histories = [0]
        if len(tail):
            histories += [int(ids[-1]) for _, _, ids in self._look_up(tail, np.array([0]))]
        probs = np.full(self.vocab_size, 1 / self.vocab_size)
        for grams, history in zip(self._grams, histories, strict=False):
            first, end = np.searchsorted(grams.keys, np.array([history, history + 1]) * self.vocab_size)
            probs *= grams.rest[history]
            probs[grams.keys[first:end] - history * self.vocab_size] += grams.share[first:end]
        return probs

    def generate(
        self,
        *,
        eos: int,
        max_tokens: int,
        seed: int | Sequence[int],
        temperature: float = 1.0,
        context: Int[np.ndarray, " pos"] | None = None,
    ) -> Int[np.ndarray, " new"]:
        """Sample the tokens after ``context`` (a story so far; by default ``eos`` alone, its beginning).

        Ends with ``eos``, which is kept, or after ``max_tokens``. ``temperature``: 0 takes the most probable
        token. Raises UsageError for impossible settings, DataError for an id outside the vocabulary.
        """
        if not (max_tokens >= 1 and temperature >= 0 and 0 <= eos < self.vocab_size):
            raise UsageError(
                f"Cannot generate {max_tokens} tokens at temperature {temperature} up to token {eos}.",
                f"At least 1 token, a temperature of at least 0, an end token below {self.vocab_size}.",
            )
        draws = np.random.default_rng(seed).random(max_tokens)
        story = [eos] if context is None else _checked(context, self.vocab_size).tolist()
        n_context = len(story)
        for draw in draws:
            probs = self.next_probs(np.array(story[max(0, len(story) - self.order + 1) :], dtype=np.int64))
            if temperature == 0:
                token = int(probs.argmax())
            else:
                cumulative = ((probs / probs.max()) ** (1 / temperature)).cumsum()
                place = np.searchsorted(cumulative, draw * cumulative[-1], side="right")
                token = min(int(place), self.vocab_size - 1)
            story.append(token)
            if token == eos:
                break
        return np.array(story[n_context:])

    def save(self, path: Path) -> None:
        """Write counts and keys as one safetensors file, whole or not at all."""
        arrays = {f"counts.{k}": grams.counts.astype(np.uint32) for k, grams in enumerate(self._grams, 1)}
        arrays |= {f"keys.{k}": grams.keys for k, grams in enumerate(self._grams, 1)}
        header = {"schema": SCHEMA, "vocab_size": self.vocab_size, "order": self.order}
        data = save(arrays, metadata={"tslens": json.dumps(header)})
        with atomic_write(path, "wb") as file:
            file.write(data)

    @classmethod
    def load(cls, path: Path) -> NgramModel:
        """Read what :meth:`save` wrote. Raises ModelError if it is absent, broken or something else."""
        try:
            check_regular(path)
            with safe_open(path, framework="numpy") as file:
                header = parse_row((file.metadata() or {}).get("tslens", "{}"))
                if header.get("schema") != SCHEMA:
                    raise ValueError(f"its schema is {header.get('schema')}, not {SCHEMA}")
                if type(header["order"]) is not int or header["order"] not in ORDERS:
                    raise ValueError(f"its order is {header['order']}, not 1 to 5")
                if type(header["vocab_size"]) is not int:
                    raise ValueError(f"its vocabulary is {header['vocab_size']}")
                lengths = range(1, header["order"] + 1)
                keys = [file.get_tensor(f"keys.{k}") for k in lengths]
                counts = [file.get_tensor(f"counts.{k}") for k in lengths]
            _check_tables(keys, counts, header["vocab_size"])
        except FileNotFoundError as error:
            raise ModelError(f"There is no n-gram model {path}.", "Check the path.") from error
        except (SafetensorError, OSError, *BROKEN) as error:
            raise ModelError(
                f"{path} is no n-gram model of this version ({error}).", "Fit it again on its stories."
            ) from error
        return cls(keys, counts, vocab_size=header["vocab_size"])

    def _look_up(
        self, tokens: np.ndarray, starts: np.ndarray
    ) -> Iterator[tuple[_Grams, np.ndarray, np.ndarray]]:
        """For each length: its grams, and at each position the index of the history and of the gram ending there."""
        history = np.zeros(len(tokens), dtype=np.int64)
        for grams in self._grams:
            ids = grams.find(history, tokens)
            yield grams, history, ids
            history = _shift(ids, starts)


def _shift(ids: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """At each position the gram that ended one before it: its history. -1 at the start of a story."""
    history = np.empty_like(ids)
    history[1:] = ids[:-1]
    history[starts] = -1
    return history


def _discounts(counts: np.ndarray) -> Float[np.ndarray, "4"]:
    """Discount of counts 0, 1, 2, and 3 and above, estimated from the counts of counts."""
    n1, n2, n3, n4 = (float((counts == j).sum()) for j in (1, 2, 3, 4))
    if min(n1, n2, n3) == 0:
        return _FALLBACK
    y = n1 / (n1 + 2 * n2)
    discounts = np.array([0.0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
    return discounts if discounts[1:].min() > 0 else _FALLBACK


def _checked(ids: np.ndarray, vocab_size: int) -> np.ndarray:
    """The ids, if they are a row of tokens. Raises DataError otherwise."""
    ids = np.asarray(ids)
    if ids.ndim != 1 or (len(ids) and ids.dtype.kind not in "iu"):
        raise DataError(
            f"Expected a row of token ids, found {ids.dtype} of shape {ids.shape}.",
            "Encode the text with the tokenizer of the model.",
        )
    if len(ids) and (ids.min() < 0 or int(ids.max()) >= vocab_size):
        raise DataError(
            f"Token ids from {ids.min()} to {ids.max()} do not fit a vocabulary of {vocab_size}.",
            "Encode the text with the tokenizer of the model.",
        )
    return ids


def _flatten(stories: Iterable[np.ndarray], vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """All tokens in one row, and where each story starts. Raises DataError for a story with no target."""
    parts = [_checked(story, vocab_size) for story in stories]
    lengths = np.array([len(part) for part in parts], dtype=np.int64)
    if len(lengths) and lengths.min() < 2:
        raise DataError(
            f"Story {int(lengths.argmin())} has {lengths.min()} tokens; the first is context, so there is "
            "nothing to predict.",
            "Leave out stories with no text.",
        )
    tokens = np.concatenate(parts).astype(np.int64) if parts else np.empty(0, dtype=np.int64)
    return tokens, np.cumsum(lengths) - lengths


def _check_tables(keys: Sequence[np.ndarray], counts: Sequence[np.ndarray], vocab_size: int) -> None:
    """Raise ValueError if these cannot be the tables of a model, so that no look-up can go astray."""
    n_histories = 1
    for length, (key, count) in enumerate(zip(keys, counts, strict=True), 1):
        sound = key.dtype == np.int64 and count.dtype == np.uint32 and key.shape == count.shape == (len(key),)
        if sound and len(key):
            sound = key[0] >= 0 and key[-1] < n_histories * vocab_size and bool((np.diff(key) > 0).all())
        if not (sound and (length > 1 or len(key) == vocab_size) and (length == 1 or count.all())):
            raise ValueError(f"the table of length {length} is broken")
        n_histories = len(key)
