"""The keys that each role names in a text: what a program of the role reads, and all that it reads.

A role is a row of a probe: its relation, at the word or at the token before it. On a batch of stories it is a set of
(query, key) pairs, those at the most frequent distance included. Induction, whose probe reads random tokens, means on
a text the tokens that followed earlier copies of the current one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tslens.model.story_model import StoryModel
from tslens.probes.base import Calibration, Probe
from tslens.probes.batch import TokenBatch
from tslens.probes.induction import Induction
from tslens.probes.pairs import Pairs, asked_at, averaged, on_tokens
from tslens.probes.relation import RelationProbe
from tslens.probes.scan import own_sequences
from tslens.types import Position

LEAST_MOVED = 3  # tokens that labels are moved by, at least
SHORTEST_MOVED = 8  # positions of a story below which its labels cannot be moved


class Role(NamedTuple):
    """A probe at a position, printed ``subject`` or ``subject before``."""

    probe: str
    position: Position

    def __str__(self) -> str:
        return self.probe if self.position == "word" else f"{self.probe} before"


def readable(probes: Sequence[Probe], model: StoryModel) -> list[Probe]:
    """Those of which a text has pairs: all but probes with sequences of their own, induction excepted."""
    return [
        probe
        for probe in probes
        if isinstance(probe, Induction) or own_sequences(probe, model, seed=0) is None
    ]


def role_pairs(probe: Probe, batch: TokenBatch, calibration: Calibration) -> dict[Position, Pairs]:
    """All pairs of a probe's roles on a batch, by position."""
    if isinstance(probe, Induction):
        return {"word": after_copies(batch)}
    if isinstance(probe, RelationProbe):
        pairs = probe.pairs(batch)
        return {position: on_tokens(asked_at(pairs, batch, position), batch) for position in probe.positions}
    return {row.position: row.value_all or row.value for row in probe.rows(batch, calibration)}


def after_copies(batch: TokenBatch) -> Pairs:
    """From each token to the tokens before it that followed an earlier copy of it."""
    is_query, tokens = batch.is_query, batch.tokens
    n_pos = tokens.shape[1]
    follows = np.zeros((len(tokens), n_pos, n_pos), dtype=bool)
    follows[:, :, 1:] = tokens[:, :, None] == tokens[:, None, :-1]
    follows[:, :, :2] = False  # what follows position 0 follows no text
    follows &= is_query[:, :, None] & np.tri(n_pos, k=-1, dtype=bool)
    return averaged(*follows.nonzero())


@dataclass(frozen=True, eq=False)
class RoleText:
    """A batch of stories with the keys of every role.

    ``at``: per role its pairs, as ``(row x positions + query) x positions + key``. ``serves``: per probe the positions
    whose next token its role would help to predict.
    """

    batch: TokenBatch
    at: Mapping[Role, Int[Tensor, " pair"]]
    serves: Mapping[str, Bool[np.ndarray, "row pos"]]

    @classmethod
    def of(cls, batch: TokenBatch, probes: Sequence[Probe], calibration: Calibration) -> RoleText:
        """The roles of all probes."""
        n_pos = batch.tokens.shape[1]
        at, serves = {}, {}
        for probe in probes:
            for position, pairs in role_pairs(probe, batch, calibration).items():
                code = np.unique((pairs.row * n_pos + pairs.query) * n_pos + pairs.key)
                at[Role(probe.name, position)] = torch.from_numpy(code)
            served = probe.serves(batch)
            if served is not None:
                serves[probe.name] = served
        return cls(batch, at, serves)

    @property
    def n_pos(self) -> int:
        """Positions of each row, padding included."""
        return int(self.batch.tokens.shape[1])

    @property
    def tokens(self) -> Int[Tensor, "row pos"]:
        """What the model reads."""
        return torch.from_numpy(self.batch.tokens)

    def drawn(self, n_queries: int) -> Int[Tensor, " query"]:
        """So many queries of each story, or all there are, by lot: numbers among those of all rows, in order.

        A story's own key draws, so that every run draws the same.
        """
        found = []
        for row, (seed, length) in enumerate(zip(self.batch.cluster, self.batch.length, strict=True)):
            lots = np.random.default_rng([seed, 0xD0]).permutation(int(length) - 1)[:n_queries] + 1
            found.append(row * self.n_pos + np.sort(lots))
        return torch.from_numpy(np.concatenate(found))

    def pairs(self, role: Role, window: int | None, *, moved: bool = False) -> Int[Tensor, " pair"]:
        """Pairs of a role that a layer can look at. ``moved``: after the labels are moved around their story.

        Each story draws how far its labels are moved circularly, from its key; pairs that wrap are left out, and so
        are all pairs of stories of fewer than eight positions.
        """
        code = self.at[role]
        row, query, key = code // self.n_pos**2, code // self.n_pos % self.n_pos, code % self.n_pos
        if moved:
            n_text = torch.from_numpy(self.batch.length)[row] - 1  # position 0 is no part of the text
            by = torch.from_numpy(self._shifts)[row]
            kept = (key > 0) & (by > 0)  # a key at position 0 has no place to go
            query, key = (x + by - n_text * (x + by > n_text) for x in (query, key))
            kept &= key < query
            row, query, key = row[kept], query[kept], key[kept]
        near = torch.ones_like(row, dtype=torch.bool) if window is None else query - key < window
        return ((row * self.n_pos + query) * self.n_pos + key)[near]

    def keys(self, role: Role, window: int | None, *, moved: bool = False) -> Bool[Tensor, "query key"]:
        """The same as flags, queries of all rows one after the other."""
        flat = torch.zeros(self.batch.tokens.size * self.n_pos, dtype=torch.bool)
        flat[self.pairs(role, window, moved=moved)] = True
        return flat.view(-1, self.n_pos)

    @property
    def _shifts(self) -> Int[np.ndarray, " row"]:
        found = np.zeros(len(self.batch.length), dtype=np.int64)
        for row, (seed, length) in enumerate(zip(self.batch.cluster, self.batch.length, strict=True)):
            if length - 1 >= SHORTEST_MOVED:
                draw = np.random.default_rng([seed, 0x5A])
                found[row] = LEAST_MOVED + int(draw.integers(length - 1 - 2 * LEAST_MOVED))
        return found
