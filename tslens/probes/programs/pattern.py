"""Programs and the patterns they give.

A program begins with a *base*, a pattern that position alone decides, and takes up to three *steps*. A step belongs to
a role: at each query that has keys of the role, the share ``alpha`` goes to them, evenly or as it was spread over them
before, and what was on all other keys keeps its proportions:

    row[k] = alpha / n_keys               for the role's keys, spread evenly
    row[k] = row[k] alpha / on            for the role's keys, spread as before, on being what the row gave them
    row[k] = row[k] (1 - alpha) / rest    for others, rest being what the row gave them

Bases: ``uniform``, every position alike; ``even``, position 0 as the head's mean, every other position alike;
``profile``, the head's mean attention by distance for queries of like position (octaves), position 0 apart. The last
two are mixed with a hundredth of ``uniform``, so that nothing is impossible.

Axes: query (of a text, rows one after the other), pos, head, key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tslens.model.attention import allowed_pairs
from tslens.probes.profile import bands, octave, slot_of
from tslens.probes.programs.roles import Role, RoleText

Base = Literal["uniform", "even", "profile"]
Spread = Literal["even", "as before"]
UNIFORM_SHARE = 0.01  # of every fitted base
LEAST_ALPHA = 1e-3  # and one minus it is the most
TINY = 1e-9


@dataclass(frozen=True)
class Step:
    """``alpha``: share of the attention that goes to the role's keys, at queries that have some.

    ``spread``: over several keys evenly, or by the program so far, which on a profile means by distance.
    """

    role: Role
    alpha: float
    spread: Spread = "even"

    def __str__(self) -> str:
        by = "" if self.spread == "even" else " by distance"
        return f"{self.role}{by} {self.alpha:.2f}"


@dataclass(frozen=True)
class Program:
    """A base and steps, each done to what the one before it gave."""

    base: Base
    steps: tuple[Step, ...] = ()

    def __str__(self) -> str:
        return " + ".join([self.base, *map(str, self.steps)])

    def then(self, step: Step) -> Program:
        """One step more."""
        return Program(self.base, (*self.steps, step))


@dataclass(frozen=True, eq=False)
class DistanceTable:
    """What the heads of one layer give to position 0, and to each distance, by octave of the query's position.

    ``slots``: mean attention of each slot (``probes.profile``), position 0 excepted. ``sink``: of position 0.
    """

    window: int | None
    slots: Float[Tensor, "head slot"]
    sink: Float[Tensor, "head band"]

    def rows(self, base: Base, n_pos: int) -> Float[Tensor, "pos head key"]:
        """A base at each position; every row sums to 1."""
        pos = torch.arange(n_pos)
        visible = allowed_pairs(pos, pos, self.window)
        uniform = (visible / visible.sum(-1, keepdim=True))[:, None].expand(-1, len(self.slots), -1)
        if base == "uniform":
            return uniform.contiguous()
        band = torch.from_numpy(octave(pos.numpy()))
        there = visible & (pos > 0)
        distance = np.maximum(pos.numpy()[:, None] - pos.numpy(), 0)
        slot = torch.from_numpy(slot_of(pos.numpy()[:, None], distance))
        weight = self.slots[:, slot] if base == "profile" else torch.ones(len(self.slots), n_pos, n_pos)
        weight = (weight * there).transpose(0, 1)
        sink = self.sink[:, band].T[:, :, None] * visible[:, :1, None]
        rows = weight / weight.sum(-1, keepdim=True).clamp(min=TINY) * (1 - sink)
        rows[:, :, :1] += sink
        rows = rows / rows.sum(-1, keepdim=True).clamp(min=TINY)
        rows = (1 - UNIFORM_SHARE) * rows + UNIFORM_SHARE * uniform
        return rows / rows.sum(-1, keepdim=True)


def n_bands(n_pos: int) -> int:
    """Octaves of positions of rows of so many."""
    return max(len(bands(n_pos)), 1)


def with_step(
    rows: Float[Tensor, "query head key"],
    keys: Bool[Tensor, "query key"],
    alpha: Float[Tensor, " head"],
    spread: Spread = "even",
) -> Float[Tensor, "query head key"]:
    """The rows after a step of each head; rows of queries without keys stay. Inputs are not modified."""
    n_keys = keys.sum(-1)
    chosen = keys[:, None]
    on = (rows * chosen).sum(-1)
    kept = (1 - alpha) / (1 - on).clamp(min=TINY)
    if spread == "even":
        given = (alpha / n_keys.clamp(min=1)[:, None])[:, :, None]
    else:
        given = rows * (alpha / on.clamp(min=TINY))[:, :, None]
    new = torch.where(chosen, given, rows * kept[:, :, None])
    return torch.where((n_keys > 0)[:, None, None], new, rows)


class Canvas:
    """What the programs of one layer give on one text. Bases and keys are made once and kept.

    ``queries``: numbers of the queries that are wanted, of all rows one after the other; None: all.
    """

    def __init__(
        self, text: RoleText, table: DistanceTable, queries: Int[Tensor, " query"] | None = None
    ) -> None:
        self.text, self.table = text, table
        n_all = text.batch.tokens.size
        self.queries = torch.arange(n_all) if queries is None else queries
        self.pos = self.queries % text.n_pos
        self._bases: dict[Base, Tensor] = {}
        self._keys: dict[tuple[Role, bool], Tensor] = {}

    def base(self, base: Base) -> Float[Tensor, "pos head key"]:
        """A base of all heads, the same for every row."""
        if base not in self._bases:
            self._bases[base] = self.table.rows(base, self.text.n_pos)
        return self._bases[base]

    def base_rows(self, base: Base) -> Float[Tensor, "query head key"]:
        """The same for each query."""
        return self.base(base)[self.pos]

    def keys(self, role: Role, *, moved: bool = False) -> Bool[Tensor, "query key"]:
        """Keys of a role that the layer can look at."""
        if (role, moved) not in self._keys:
            self._keys[role, moved] = self.text.keys(role, self.table.window, moved=moved)[self.queries]
        return self._keys[role, moved]

    def rows(
        self, program: Program, head: int, *, moved: frozenset[Role] = frozenset()
    ) -> Float[Tensor, "query key"]:
        """What a program gives for one head. ``moved``: roles whose labels are moved around their story."""
        rows = self.base(program.base)[self.pos, head][:, None]
        for step in program.steps:
            keys = self.keys(step.role, moved=step.role in moved)
            rows = with_step(rows, keys, torch.tensor([step.alpha]), step.spread)
        return rows[:, 0]


def by_query(pattern: Float[Tensor, "row head query_pos key_pos"]) -> Float[Tensor, "query head key"]:
    """A pattern as rows, queries of all stories one after the other; on the CPU, in single precision."""
    return pattern.float().cpu().transpose(1, 2).flatten(0, 1).contiguous()


def by_row(rows: Float[Tensor, "query head key"], n_rows: int) -> Float[Tensor, "row head query_pos key_pos"]:
    """Inverse of :func:`by_query`."""
    return rows.unflatten(0, (n_rows, -1)).transpose(1, 2)
