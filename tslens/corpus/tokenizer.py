"""The tokenizer: byte-level BPE, trained on stories, with one special token between them.

Every text comes back exactly, and every byte of it is counted by one token, so that losses of models with
different tokenizers compare as bits per byte. The name of the special token inside a text is plain text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32, Int64, UInt16
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tslens.errors import ModelError, TslensError, UsageError
from tslens.files import atomic_write
from tslens.reading import exists, parse_row, read_bytes, read_text
from tslens.types import Story

END = "<|endoftext|>"
MOST_GROWTH = 64  # a few replacements one after the other would fill any memory
SMALLEST, LARGEST = 257, 65_536  # all bytes and the end; what 16 bits can number

# Every tokenizer must give these back: runs of blanks, a byte-order mark, letters that unicode
# normal forms change, the end token as text.
_PROBES = (
    "Once  upon\n a time,\n\n\n",
    " \t x",
    "\ufeffnai\u0308ve \ufb01n \U0001f600\u200d\x00\x7f",
    f"a{END}{END} b",
)


def _byte_of_symbol() -> dict[str, int]:
    """The character by which byte-level BPE writes each byte (Radford et al. 2019, GPT-2)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    other = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(other)}


_BYTE_OF_SYMBOL = _byte_of_symbol()


Splitter = Callable[[str], list[tuple[int, int]]]
"""From a text to the characters of each of its tokens, in order."""


class StoryTokenizer:
    """A byte-level BPE tokenizer of the `tokenizers` library, checked to give back every text.

    ``eos_id``: of ``<|endoftext|>``, which stands before (``start_id``) and after each story. ``n_bytes``: UTF-8
    bytes of each token, 0 for ``<|endoftext|>``; over the tokens of a text they sum to its bytes.
    Raises ModelError if the tokenizer is of another kind, or has no ``<|endoftext|>``.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        make_plain(tokenizer)
        self._tokenizer = tokenizer
        self.vocab_size: int = tokenizer.get_vocab_size()
        if self.vocab_size > LARGEST:
            raise _other_kind(f"it has {self.vocab_size:,} tokens, more than {LARGEST:,}")
        eos_id = tokenizer.token_to_id(END)
        if eos_id is None:
            raise _other_kind(f"it has no token {END}")
        self.start_id: int = eos_id
        self.eos_id: int = eos_id
        self._bytes = self._bytes_of_tokens()
        self.n_bytes: Int32[np.ndarray, " vocab"] = np.array([len(part) for part in self._bytes], np.int32)
        for text in _PROBES:
            ids = self.encode(text)
            if self.eos_id in ids or self.decode(ids) != text:
                raise _other_kind("it does not give back every text")

    def _bytes_of_tokens(self) -> list[bytes]:
        special = {i for i, token in self._tokenizer.get_added_tokens_decoder().items() if token.special}
        parts = []
        for i in range(self.vocab_size):
            token = self._tokenizer.id_to_token(i)
            if token is None:
                raise _other_kind(f"its ids have a gap at {i}")
            try:
                parts.append(b"" if i in special else bytes(_BYTE_OF_SYMBOL[symbol] for symbol in token))
            except KeyError as error:
                raise _other_kind(f'its token "{token}" is not made of bytes') from error
        return parts

    # Made, read, written ------------------------------------------------------------------------------

    @classmethod
    def train(cls, stories: Iterable[Story], *, vocab_size: int = 4096) -> StoryTokenizer:
        """Learn the merges from stories, read once as a stream. Equal stories give equal tokenizers.

        Few stories may give fewer tokens than ``vocab_size``. Raises UsageError if that is not 257 to 65,536.
        """
        check_vocab_size(vocab_size)
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[END],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator((story.text for story in stories), trainer=trainer)
        return cls(tokenizer)

    @classmethod
    def load(cls, path: Path) -> StoryTokenizer:
        """Read a ``tokenizer.json``, or a folder with it or with GPT-2's ``vocab.json`` and ``merges.txt``.

        Raises ModelError if it is absent, broken, or no byte-level BPE that gives back every text.
        """
        tokenizer = read_tokenizer(path)
        try:
            with library_errors():
                return cls(tokenizer)
        except ModelError as error:
            raise ModelError(f"Cannot use the tokenizer {path}: {error.message}", error.hint) from error

    def save(self, path: Path) -> None:
        """Write a ``tokenizer.json``, whole or not at all; transformers reads it."""
        with atomic_write(path) as file:
            file.write(self._tokenizer.to_str(pretty=True))

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of its JSON with sorted keys and no blanks."""
        canonical = json.dumps(json.loads(self._tokenizer.to_str()), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    # Text to tokens -----------------------------------------------------------------------------------

    def encode(self, text: str) -> list[int]:
        """Token ids of a text."""
        with library_errors():
            return self._tokenizer.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of several texts, in parallel."""
        with library_errors():
            return [found.ids for found in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids and the characters of each, ``text[start:end]``; a blank before a word belongs to its token.

        Pieces of one character all have the span of that character.
        """
        with library_errors():
            found = self._tokenizer.encode(text, add_special_tokens=False)
        return found.ids, found.offsets

    def encode_story(self, text: str, *, context: int = 512) -> UInt16[np.ndarray, " length"]:
        """A story as models train on it; see :meth:`story_of_ids`."""
        return self.story_of_ids(self.encode(text), context=context)

    def story_of_ids(self, ids: Sequence[int], *, context: int) -> UInt16[np.ndarray, " length"]:
        """``[<|endoftext|>, t1 ... tn, <|endoftext|>]``, inputs all but the last, targets all but the first.

        A story whose inputs pass ``context`` positions is cut to ``[<|endoftext|>, t1 ... t_context]``: it
        has no end. Raises UsageError for a context below 1.
        """
        return frame_story(ids, self.start_id, self.eos_id, context).astype(np.uint16)

    def story_bytes(self, text: str, *, context: int) -> int:
        """UTF-8 bytes of the text that :meth:`encode_story` keeps."""
        return int(self.n_bytes[self.encode(text)[:context]].sum())

    # Tokens to text -----------------------------------------------------------------------------------

    def decode(self, ids: Iterable[int]) -> str:
        """Text of token ids, ``<|endoftext|>`` left out; bytes that are no whole character become U+FFFD."""
        return b"".join(self._bytes[i] for i in ids).decode("utf-8", errors="replace")

    def decode_after(self, before: Sequence[int], ids: Sequence[int]) -> str:
        """The text that ``ids`` add to that of ``before``."""
        return self.decode(ids)

    def token_strings(self, ids: Iterable[int]) -> list[str]:
        r"""Each token alone, for display: ``<|endoftext|>`` by name, bytes that are no whole character as ``\xe2``."""
        return [
            END if i == self.eos_id else self._bytes[i].decode("utf-8", errors="backslashreplace")
            for i in ids
        ]


def frame_story(ids: Sequence[int], start_id: int, eos_id: int, context: int) -> Int64[np.ndarray, " length"]:
    """Start, text and end of a story; cut behind ``context`` text tokens, without an end, if its inputs pass that.

    Raises UsageError for a context below 1.
    """
    if context < 1:
        raise UsageError(f"A context of {context} tokens holds no story.", "Give 1 or more, such as 512.")
    tail = [eos_id] if len(ids) + 1 <= context else []
    return np.array([start_id, *ids[:context], *tail], dtype=np.int64)


def read_splitter(path: Path) -> Splitter:
    """A function from a text to the characters of each token, for any tokenizer of the ``tokenizers`` library.

    ``path``: as for ``StoryTokenizer.load``, which asks more of a tokenizer than offsets. Raises ModelError if there
    is none or it is broken.
    """
    tokenizer = read_tokenizer(path)
    make_plain(tokenizer)

    def split(text: str) -> list[tuple[int, int]]:
        with library_errors():
            return list(tokenizer.encode(text, add_special_tokens=False).offsets)

    return split


def read_tokenizer(path: Path) -> Tokenizer:
    """Read a ``tokenizer.json``, or a folder with it or with GPT-2's ``vocab.json`` and ``merges.txt``.

    Raises ModelError if there is none or it is broken.
    """
    file = path / "tokenizer.json" if exists(path) and path.is_dir() else path
    if not exists(file) and not exists(path / "vocab.json"):
        raise ModelError(
            f"There is no tokenizer {file}.", "Give the path of a tokenizer.json, or a folder with one."
        )
    with library_errors(f"The tokenizer {path} is broken"):
        return _read_json(file) if file.exists() else _read_gpt2(path)


@contextmanager
def library_errors(what: str = "The tokenizer cannot read a text") -> Iterator[None]:
    """What the tokenizers library raises as a ModelError: it has no class of its own, and a panic is no Exception."""
    try:
        yield
    except TslensError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        lines = str(error).splitlines() or [type(error).__name__]
        raise ModelError(f"{what}: {lines[0]}.", "Restore it from its source.") from error


def make_plain(tokenizer: Tokenizer) -> None:
    """Nothing but the tokens of a text: none added, none left out, none drawn."""
    tokenizer.encode_special_tokens = True  # the name of a special token in a text is text
    tokenizer.post_processor = None  # trims offsets or adds tokens
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if getattr(tokenizer.model, "dropout", None):
        tokenizer.model.dropout = None  # of training: merges left out at random


def check_vocab_size(vocab_size: int) -> None:
    """Raise UsageError if no tokenizer can have this many tokens."""
    if not SMALLEST <= vocab_size <= LARGEST:
        raise UsageError(
            f"A vocabulary of {vocab_size} tokens is not possible.",
            f"Give {SMALLEST} to {LARGEST:,}, such as 4096.",
        )


def _read_json(file: Path) -> Tokenizer:
    text = read_text(file)
    found = parse_row(text)
    for name in ("normalizer", "decoder"):
        if _growth(found.get(name)) > MOST_GROWTH:
            raise ValueError(f"its {name} makes a text more than {MOST_GROWTH} times as long")
    return Tokenizer.from_str(text)


def _growth(part: Any) -> int:
    """How many times as long a normalizer or decoder can make a text, at most; no more than is asked for is counted."""
    if not isinstance(part, dict):
        return 1
    if part.get("type") == "Replace":
        return max(1, len(str(part.get("content", ""))))
    found = 1
    inner = part.get("normalizers") or part.get("decoders")
    for one in inner if isinstance(inner, list) else ():
        found = min(found * _growth(one), MOST_GROWTH + 1)
    return found


def _read_gpt2(folder: Path) -> Tokenizer:
    for name in ("vocab.json", "merges.txt"):
        read_bytes(folder / name)  # a regular file, and not too long
    vocab, merges = models.BPE.read_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    tokenizer = Tokenizer(models.BPE(vocab, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if END in vocab:
        tokenizer.add_special_tokens([END])
    return tokenizer


def _other_kind(what: str) -> ModelError:
    return ModelError(
        f"{what}.", "Use a byte-level BPE tokenizer, such as one trained by tslens, or GPT-2's."
    )
