"""A uniform sample of tokens with the activations of all neurons: what needs more than sums is read on it.

Each token has a random number that its story and its place decide; those with the least stay. So the sample does not
depend on the order of the stories, its memory not on how many there are.

Axes: token, neuron, label, shift.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float, Int, UInt64

from tslens.probes.neurons.codes import Codes, encode

SAMPLE_TOKENS = 1 << 17
N_SHIFTS = 2
NO_TOKEN = -1  # behind the last


def priorities(seed: int, digest: int, n: int) -> UInt64[np.ndarray, " token"]:
    """A random number for each token of a story (splitmix64, Steele et al. 2014)."""
    mixed = (digest ^ (seed * 0x9E3779B97F4A7C15)) & (2**64 - 1)
    z = np.uint64(mixed) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@dataclass(frozen=True)
class Tokens:
    """What is known of tokens beside their activations.

    ``token``, ``before``, ``next``: ids of it and its neighbours (``next`` is NO_TOKEN at the end of a cut story).
    ``pos``: its position. ``story``: a 64-bit key of its story. ``flags``: its labels. ``shifted``: those that it
    has where the labels of the story are moved around it.
    """

    token: Int[np.ndarray, " token"]
    before: Int[np.ndarray, " token"]
    next: Int[np.ndarray, " token"]
    pos: Int[np.ndarray, " token"]
    story: UInt64[np.ndarray, " token"]
    flags: Bool[np.ndarray, "token label"]
    shifted: Bool[np.ndarray, "shift token label"]

    def __len__(self) -> int:
        return len(self.token)

    def select(self, chosen: np.ndarray) -> Tokens:
        """Some of them, by flag or by number."""
        columns = {name: getattr(self, name)[chosen] for name in _COLUMNS}
        return Tokens(**columns, shifted=self.shifted[:, chosen])


_COLUMNS = ("token", "before", "next", "pos", "story", "flags")
_TYPES: Mapping[str, type] = MappingProxyType(
    {"token": np.int32, "before": np.int32, "next": np.int32, "pos": np.int32, "story": np.uint64}
)


@dataclass(frozen=True)
class Sample:
    """Tokens with the codes of their activations (``codes``)."""

    tokens: Tokens
    codes: Codes

    def __len__(self) -> int:
        return len(self.tokens)

    def select(self, chosen: np.ndarray) -> Sample:
        """Some of the tokens."""
        return Sample(self.tokens.select(chosen), self.codes[chosen])


class Sampler:
    """Keeps the ``size`` tokens of least priority among all that are added."""

    def __init__(self, n_neurons: int, n_labels: int, *, size: int = SAMPLE_TOKENS) -> None:
        self._size, self._n = size, 0
        self._priority = np.zeros(size, dtype=np.uint64)
        self._codes = np.zeros((size, n_neurons), dtype=np.uint16)
        self._columns: dict[str, np.ndarray] = {name: np.zeros(size, kind) for name, kind in _TYPES.items()}
        self._columns["flags"] = np.zeros((size, n_labels), dtype=bool)
        self._shifted = np.zeros((N_SHIFTS, size, n_labels), dtype=bool)

    def add(
        self,
        tokens: Tokens,
        priority: UInt64[np.ndarray, " token"],
        activation: Float[np.ndarray, "token neuron"],
    ) -> None:
        """Add tokens; those that would not stay are not even encoded."""
        n_free = self._size - self._n
        if len(tokens) <= n_free:
            taken, slot = np.arange(len(tokens)), np.arange(self._n, self._n + len(tokens))
        else:
            both = np.concatenate([self._priority[: self._n], priority])
            stays = np.zeros(len(both), dtype=bool)
            stays[np.argpartition(both, self._size - 1)[: self._size]] = True
            taken = np.flatnonzero(stays[self._n :])
            slot = np.append(np.flatnonzero(~stays[: self._n]), np.arange(self._n, self._size))
        self._n = max(self._n, int(slot.max(initial=-1)) + 1)
        self._priority[slot] = priority[taken]
        self._codes[slot] = encode(activation[taken])
        for name, column in self._columns.items():
            column[slot] = getattr(tokens, name)[taken]
        self._shifted[:, slot] = tokens.shifted[:, taken]

    def sample(self) -> Sample:
        """What was kept, by story and position."""
        columns = {name: column[: self._n] for name, column in self._columns.items()}
        tokens = Tokens(**columns, shifted=self._shifted[:, : self._n])
        return Sample(tokens, self._codes[: self._n]).select(np.lexsort((tokens.pos, tokens.story)))
