"""Draws that are the same in every Python and every process."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """Draws from a key, built on ``random.Random.random()``, the one method that promises equal numbers everywhere."""

    def __init__(self, *key: object) -> None:
        digest = hashlib.blake2b("\0".join(map(str, key)).encode(), digest_size=8).digest()
        self._random = random.Random(int.from_bytes(digest, "little")).random

    def chance(self, share: float) -> bool:
        """True in ``share`` of the draws."""
        return self._random() < share

    def one_of(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[int(self._random() * len(options))]

    def some_of(self, options: Sequence[T], n_drawn: int) -> list[T]:
        """Different ones of the options, in the order in which they were drawn."""
        rest = list(options)
        return [rest.pop(int(self._random() * len(rest))) for _ in range(n_drawn)]

    def shuffled(self, options: Sequence[T]) -> list[T]:
        """All options in a drawn order."""
        return self.some_of(options, len(options))
