"""What losses, generation and probes ask of a tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Int


class TextTokenizer(Protocol):
    """What a model's tokenizer gives: ours (``tokenizer``), or one of another library's models (``foreign_tokenizer``).

    ``start_id``: the token before a story; ``eos_id``: the one after it, where a model stops.
    """

    vocab_size: int
    start_id: int
    eos_id: int

    @property
    def sha256(self) -> str:
        """Digest of what it does."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a text."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of several texts."""

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids and the characters of each."""

    def encode_story(self, text: str, *, context: int = 512) -> Int[np.ndarray, " length"]:
        """A story as models read it."""

    def story_of_ids(self, ids: Sequence[int], *, context: int) -> Int[np.ndarray, " length"]:
        """The same from the ids of its text."""

    def story_bytes(self, text: str, *, context: int) -> int:
        """UTF-8 bytes of the text that :meth:`encode_story` keeps."""

    def decode(self, ids: Iterable[int]) -> str:
        """Text of token ids."""

    def decode_after(self, before: Sequence[int], ids: Sequence[int]) -> str:
        """The text that ``ids`` add to that of ``before``."""

    def token_strings(self, ids: Iterable[int]) -> list[str]:
        """Each token alone, for display."""

    def save(self, path: Path) -> None:
        """Write a ``tokenizer.json``."""
