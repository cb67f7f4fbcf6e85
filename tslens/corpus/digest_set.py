"""A set of the hashes of texts, 8 bytes each: one of Python's takes 80, which is 160 MB for 2 million stories."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from operator import index

import numpy as np
from jaxtyping import UInt64


class DigestSet(Set[int]):
    """Unsigned numbers of 64 bits. Unions with other sets, and comparisons, are those of any set."""

    def __init__(self, digests: Iterable[int] | UInt64[np.ndarray, " n"]) -> None:
        given = digests if isinstance(digests, np.ndarray) else np.fromiter(digests, dtype=np.uint64)
        self._sorted: UInt64[np.ndarray, " different"] = np.unique(given.astype(np.uint64, copy=False))

    def __contains__(self, digest: object) -> bool:
        try:
            number = index(digest)  # type: ignore[arg-type]
        except TypeError:
            return False
        if not 0 <= number < 2**64:
            return False
        place = int(np.searchsorted(self._sorted, np.uint64(number)))
        return place < len(self._sorted) and int(self._sorted[place]) == number

    def __iter__(self) -> Iterator[int]:
        return map(int, self._sorted)

    def __len__(self) -> int:
        return len(self._sorted)
