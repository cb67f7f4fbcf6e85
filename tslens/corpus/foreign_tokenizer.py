"""Tokenizers of other people's models: any of the ``tokenizers`` library, and the ``tok*.bin`` files of llama2.c.

What probes and losses need is asked of the library alone: ids, the characters of each token, and text of ids. So
SentencePiece-like BPE (Llama), byte-level BPE with another end token, and lossy ones (lower-casing WordPiece) all
serve. Bytes are counted on the text itself, not on tokens: the blank that Llama puts before a text counts nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int64
from tokenizers import Tokenizer, decoders, models, normalizers

from tslens.corpus.text_tokenizer import TextTokenizer
from tslens.corpus.tokenizer import (
    StoryTokenizer,
    frame_story,
    library_errors,
    make_plain,
    read_tokenizer,
)
from tslens.errors import ModelError
from tslens.files import atomic_write
from tslens.reading import open_regular

LARGEST_FILE = 64 * 2**20  # bytes of a tok*.bin; the one of Llama 2 has 0.4 MB
_N_SPECIAL, _N_BYTES = 3, 256  # a tok*.bin begins with unk, bos, eos and a token for each byte
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")

_LONGEST_PIECE = 512  # of a tokenizer of llama2.c


class ForeignTokenizer:
    """A tokenizer of the ``tokenizers`` library with the tokens its model expects around a story.

    ``start_id``, ``eos_id``: the tokens before and after a story. Special tokens named in a text are read as text.
    """

    def __init__(self, tokenizer: Tokenizer, *, start_id: int, eos_id: int) -> None:
        make_plain(tokenizer)
        self._tokenizer = tokenizer
        self.vocab_size: int = tokenizer.get_vocab_size()
        self.start_id, self.eos_id = start_id, eos_id
        found = [i for i in (start_id, eos_id) if not 0 <= i < self.vocab_size]
        if found:
            raise ModelError(
                f"The tokenizer has {self.vocab_size} tokens; its model starts or ends a story with {found[0]}.",
                "Check that tokenizer and model belong together.",
            )
        anchor = self.encode("a")
        if not anchor:
            raise ModelError('The tokenizer reads "a" as nothing.', "Restore it from its source.")
        self._anchor = anchor[-1]

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of its JSON with sorted keys and no blanks."""
        canonical = json.dumps(json.loads(self._tokenizer.to_str()), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Write a ``tokenizer.json``, whole or not at all."""
        with atomic_write(path) as file:
            file.write(self._tokenizer.to_str(pretty=True))

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
        """Token ids and the characters of each, ``text[start:end]``.

        Whether the blank before a word belongs to its token is the tokenizer's choice.
        """
        with library_errors():
            found = self._tokenizer.encode(text, add_special_tokens=False)
        return found.ids, found.offsets

    def encode_story(self, text: str, *, context: int = 512) -> Int64[np.ndarray, " length"]:
        """A story as models read it; see :meth:`story_of_ids`."""
        return self.story_of_ids(self.encode(text), context=context)

    def story_of_ids(self, ids: Sequence[int], *, context: int) -> Int64[np.ndarray, " length"]:
        """``[start, t1 ... tn, end]``, cut as :func:`tslens.corpus.tokenizer.frame_story` says."""
        return frame_story(ids, self.start_id, self.eos_id, context)

    def story_bytes(self, text: str, *, context: int) -> int:
        """UTF-8 bytes of the text that :meth:`encode_story` keeps: up to the last character of its last token."""
        ids, offsets = self.encode_with_offsets(text)
        kept = text if len(ids) <= context else text[: offsets[context - 1][1]]
        return len(kept.encode())

    # Tokens to text -----------------------------------------------------------------------------------

    def decode(self, ids: Iterable[int]) -> str:
        """Text of token ids from its beginning, start and end left out."""
        kept = [i for i in ids if i not in (self.start_id, self.eos_id)]
        with library_errors():
            return str(self._tokenizer.decode(kept, skip_special_tokens=False))

    def decode_after(self, before: Sequence[int], ids: Sequence[int]) -> str:
        """The text that ``ids`` add to that of ``before``: a blank between words stays where there is a word before."""
        whole, known = self.decode([*before, *ids]), self.decode(before)
        return whole.removeprefix(known)

    def token_strings(self, ids: Iterable[int]) -> list[str]:
        r"""Each token alone, for display: start and end by name, bytes that are no whole character as ``\xe2``."""
        return [self._show(i) for i in ids]

    def _show(self, i: int) -> str:
        name = str(self._tokenizer.id_to_token(i))
        if i in (self.start_id, self.eos_id):
            return name
        byte = _BYTE.fullmatch(name)
        if byte:
            return bytes([int(byte[1], 16)]).decode("utf-8", errors="backslashreplace")
        return self.decode_after([self._anchor], [i])


def open_tokenizer(folder: Path, *, start_id: int | None, eos_id: int | None) -> TextTokenizer | None:
    """The tokenizer in the folder of a model; None if there is none.

    A byte-level BPE with ``<|endoftext|>`` is a :class:`StoryTokenizer`. ``start_id``, ``eos_id``: what the model's
    configuration names; where one is missing the other serves for both.
    Raises ModelError if it is broken, or if neither is known.
    """
    if not any((folder / name).exists() for name in ("tokenizer.json", "vocab.json")):
        return None
    try:
        return StoryTokenizer.load(folder)
    except ModelError:
        tokenizer = read_tokenizer(folder)  # raises what is wrong with a broken one
    start = start_id if start_id is not None else eos_id
    end = eos_id if eos_id is not None else start_id
    if start is None or end is None:
        raise ModelError(
            f"{folder} names no token that begins or ends a text.",
            "Set bos_token_id or eos_token_id in its config.json.",
        )
    with library_errors(f"The tokenizer {folder} is broken"):
        return ForeignTokenizer(tokenizer, start_id=start, eos_id=end)


# llama2.c ---------------------------------------------------------------------------------------------------


def read_llama2c_tokenizer(path: Path, *, n_tokens: int) -> ForeignTokenizer:
    """A ``tok*.bin`` of llama2.c: byte-fallback BPE that merges the pair whose piece has the highest score.

    Layout (llama2.c, ``tokenizer.py``): int32 longest piece; then for each token float32 score, int32 length, bytes.
    Tokens 0 to 2 are unknown, beginning and end, 3 to 258 single bytes. A text gets a blank before it. Models of
    llama2.c see the beginning (1) before and after a story, never the end: both ``start_id`` and ``eos_id`` are 1.
    Raises ModelError for a file that is cut, has another number of tokens, or is of another kind.
    """
    scores, pieces = _read_pieces(path, n_tokens)
    names = [b"<unk>", b"<s>", b"</s>", *(f"<0x{byte:02X}>".encode() for byte in range(_N_BYTES))]
    if pieces[_N_SPECIAL : len(names)] != names[_N_SPECIAL:]:
        raise _foreign(path, "tokens 3 to 258 are not the 256 bytes")
    try:
        words = [piece.decode("utf-8") for piece in pieces[len(names) :]]
    except UnicodeDecodeError as error:
        raise _foreign(path, "a piece is no UTF-8") from error
    rank = {word: i for i, word in enumerate(words)}
    if len(rank) < len(words) or any(not word for word in words):
        raise _foreign(path, "a piece is empty or there twice")
    if max(map(len, words), default=0) > _LONGEST_PIECE:
        raise _foreign(path, f"a piece has over {_LONGEST_PIECE} characters")
    score = dict(zip(words, scores[len(names) :], strict=True))
    merges = [
        (word[:cut], word[cut:])
        for word in sorted(words, key=lambda word: -score[word])
        for cut in range(1, len(word))
        if word[:cut] in rank and word[cut:] in rank
    ]
    vocab = {name.decode(): i for i, name in enumerate(names)} | {
        word: len(names) + i for word, i in rank.items()
    }
    with library_errors(f"The tokenizer {path} is broken"):
        model = models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=False)
        tokenizer = Tokenizer(model)
        tokenizer.normalizer = normalizers.Prepend(" ")
        tokenizer.decoder = decoders.Sequence(
            [decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(content=" ", left=1, right=0)]
        )
        return ForeignTokenizer(tokenizer, start_id=1, eos_id=1)


def _read_pieces(path: Path, n_tokens: int) -> tuple[list[float], list[bytes]]:
    try:
        with open_regular(path) as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise _foreign(path, error.strerror or str(error)) from error
    size = len(data)
    if size > LARGEST_FILE:
        raise _foreign(path, f"it has over {LARGEST_FILE:,} bytes")
    scores, pieces, place = [], [], 4
    for number in range(n_tokens):
        if place + 8 > size:
            raise _foreign(path, f"it ends after {number} of {n_tokens} tokens")
        score, length = struct.unpack_from("<fi", data, place)
        place += 8
        if length < 0 or place + length > size:
            raise _foreign(path, f"token {number} has {length:,} bytes, which the file does not hold")
        scores.append(score)
        pieces.append(data[place : place + length])
        place += length
    if place != size:
        raise _foreign(path, f"{size - place:,} bytes are left behind {n_tokens} tokens")
    if n_tokens < _N_SPECIAL + _N_BYTES:
        raise _foreign(path, f"it has {n_tokens} tokens, fewer than the bytes")
    return scores, pieces


def _foreign(path: Path, what: str) -> ModelError:
    return ModelError(
        f"{path} is no tokenizer of llama2.c for this model: {what}.",
        "Copy it again, or put the tok*.bin that the model was trained with beside it.",
    )
