"""Edge knock-out: what a model loses when an attention head no longer looks where its role says.

The question is whether the model needs that a head looks at the keys of its role, and not only that it looks
somewhere. For each query, p is the clean pattern, ``mass_target`` the sum of p over the role's keys, ``mass_control``
that over matched keys that are not the role's, and m the lesser of the two. In three arms mass is moved to position 0:

1. ``target``: m from the role's keys, each giving in proportion to its p;
2. ``control``: m from the matched keys, in the same way;
3. ``full``: all mass of the role's keys.

Where m is below ``LEAST_MASS`` nothing per unit of mass can be said: ``target`` moves all mass of the role's keys,
``control`` all of the same number of matched keys, the first in the order given, and ``by_mass`` is False.

All queries of a test are changed at once, and the loss of the next token is read at each of them; in a model of several
layers it may thus also feel what was changed at earlier queries. What a head writes is linear in its pattern, so the
change of an arm is (new pattern - pattern) @ values @ W_O, summed over the few keys that it touches. Position 0 gets
mass also from queries of a windowed layer that do not see it.

Axes: row, pos, head, d_head, d_model; query and edge of one test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tslens.causal.rerun import losses_at, parts_of_layers
from tslens.errors import ProbeInputError
from tslens.model.batches import IGNORED
from tslens.model.prefix import Prefix
from tslens.model.story_model import StoryModel
from tslens.types import HeadId

LEAST_MASS = 0.02  # moved mass below which no effect per unit of mass is given
N_ARMS = 3  # target, control, full


@dataclass(frozen=True)
class EdgeTest:
    """The edges of one head whose knock-out is to be measured, in the rows of one batch.

    ``row, query, key``: an edge to a key of the role; a query may have several. ``control_row, control_query,
    control_key``: an edge to a matched key that is not the role's, best matches first. Only queries with both, and with
    a target, count. Edges to position 0 are left out: mass goes there.
    Raises ProbeInputError for an edge that is there twice (also once as target, once as control) or looks ahead.
    """

    head: HeadId
    row: Int[np.ndarray, " edge"]
    query: Int[np.ndarray, " edge"]
    key: Int[np.ndarray, " edge"]
    control_row: Int[np.ndarray, " control_edge"]
    control_query: Int[np.ndarray, " control_edge"]
    control_key: Int[np.ndarray, " control_edge"]

    def __post_init__(self) -> None:
        target = np.stack([self.row, self.query, self.key])
        edges = np.concatenate(
            [target, np.stack([self.control_row, self.control_query, self.control_key])], axis=1
        )
        found, n_times = np.unique(edges, axis=1, return_counts=True)
        wrong = found[:, (n_times > 1) | (found[2] > found[1]) | (found < 0).any(0)]
        if wrong.size:
            row, query, key = wrong[:, 0].tolist()
            raise ProbeInputError(
                f"{self.head}: the edge from position {query} to {key} of row {row} is there twice, looks ahead "
                "or does not exist.",
                "Give each pair of query and earlier key once, as target or as control.",
            )


@dataclass(frozen=True)
class EdgeEffects:
    """What knocking out the edges of one test did, by query, in row-major order.

    ``mass``: m, moved in the arms target and control where ``by_mass``. ``mass_target``: moved in the arm full.
    Losses in nats of the token after the query: of the untouched model and in each arm.
    """

    row: Int[np.ndarray, " query"]
    query: Int[np.ndarray, " query"]
    mass: Float[np.ndarray, " query"]
    mass_target: Float[np.ndarray, " query"]
    by_mass: Bool[np.ndarray, " query"]
    loss_clean: Float[np.ndarray, " query"]
    loss_target: Float[np.ndarray, " query"]
    loss_control: Float[np.ndarray, " query"]
    loss_full: Float[np.ndarray, " query"]


@torch.no_grad()
def knock_out(
    model: StoryModel,
    prefix: Prefix,
    tests: Sequence[EdgeTest],
    targets: Int[Tensor, "row pos"],
    *,
    max_variants: int,
) -> list[EdgeEffects]:
    """Losses with the edges of each test knocked out, in the order of the tests.

    ``prefix``: the batch, run by this model. ``targets``: next token, ``IGNORED`` where there is none.
    ``max_variants``: copies of the batch that run at once; a test needs three, and one test always runs.
    Results depend on neither the tests that run together nor on padding.
    Raises UsageError for a head that the model lacks, ProbeInputError for an edge outside the batch.
    """
    targets = targets.to(prefix.tokens.device)
    parts = parts_of_layers(model, [test.head for test in tests], max_variants // N_ARMS)
    moves = {i: _move(prefix, tests[i], targets) for part in parts for i in part.index}
    read = torch.zeros_like(targets, dtype=torch.bool)
    for move in moves.values():
        read[move.row, move.query] = True
    clean = np.zeros(targets.shape)
    clean[read.cpu().numpy()] = losses_at(model, prefix.final[read], targets[read])
    effects = {}
    for part in parts:
        found = _run(model, prefix, part.layer, [moves[i] for i in part.index], targets)
        for i, losses in zip(part.index, found, strict=True):
            move = moves[i]
            effects[i] = EdgeEffects(
                move.row, move.query, move.mass, move.mass_target, move.by_mass,
                clean[move.row, move.query], *losses,
            )  # fmt: skip
    return [effects[i] for i in range(len(tests))]


@dataclass(frozen=True)
class _Move:
    """What a test changes: ``written`` is the change of what the head writes in each arm at each query."""

    row: Int[np.ndarray, " query"]
    query: Int[np.ndarray, " query"]
    mass: Float[np.ndarray, " query"]
    mass_target: Float[np.ndarray, " query"]
    by_mass: Bool[np.ndarray, " query"]
    written: Float[Tensor, "arm query d_model"]


def _move(prefix: Prefix, test: EdgeTest, targets: Int[Tensor, "row pos"]) -> _Move:
    n_rows, n_pos = targets.shape
    row, query = (
        np.concatenate(both) for both in ((test.row, test.control_row), (test.query, test.control_query))
    )
    if len(row) and (row.max() >= n_rows or query.max() >= n_pos):
        raise ProbeInputError(
            f"{test.head}: an edge starts in row {row.max()} or at position {query.max()}, "
            f"but the batch has {n_rows} rows of {n_pos}.",
            "Give edges of this batch.",
        )
    role = _Edges(test.row, test.query, test.key, n_pos)
    control = _Edges(test.control_row, test.control_query, test.control_key, n_pos)
    with_target = np.flatnonzero((targets != IGNORED).cpu().numpy())
    place = np.intersect1d(np.intersect1d(role.place, control.place), with_target)
    role, control = role.at(place), control.at(place)

    role_p, control_p = (edges.read(prefix, test.head) for edges in (role, control))
    mass_target, mass_control = role.sums(role_p, place), control.sums(control_p, place)
    mass = np.minimum(mass_target, mass_control)
    by_mass = mass >= LEAST_MASS
    share_target, share_control = (
        np.divide(mass, total, out=np.ones_like(mass), where=by_mass) for total in (mass_target, mass_control)
    )
    role_query, control_query = role.index(place), control.index(place)
    n_keys = np.bincount(role_query, minlength=len(place))
    gives = by_mass[control_query] | (_rank(control_query) < n_keys[control_query])
    mixed = torch.stack(
        [
            role.moved(prefix, test.head, role_p * share_target[role_query], place),
            control.moved(prefix, test.head, control_p * share_control[control_query] * gives, place),
            role.moved(prefix, test.head, role_p, place),
        ]
    )
    written = mixed @ prefix.output(test.head.layer)[test.head.index]
    return _Move(place // n_pos, place % n_pos, mass, mass_target, by_mass, written)


class _Edges:
    """Edges of one head with their places (row x positions + query), those to position 0 left out."""

    def __init__(self, row: np.ndarray, query: np.ndarray, key: np.ndarray, n_pos: int) -> None:
        kept = np.asarray(key) > 0
        self.row, self.query, self.key = (np.asarray(x, dtype=np.int64)[kept] for x in (row, query, key))
        self.n_pos = n_pos
        self.place = self.row * n_pos + self.query

    def at(self, place: Int[np.ndarray, " query"]) -> _Edges:
        """The edges of these queries, in their order."""
        kept = np.isin(self.place, place)
        return _Edges(self.row[kept], self.query[kept], self.key[kept], self.n_pos)

    def index(self, place: Int[np.ndarray, " query"]) -> Int[np.ndarray, " edge"]:
        """Which of the sorted queries each edge belongs to."""
        return np.searchsorted(place, self.place)

    def read(self, prefix: Prefix, head: HeadId) -> Float[np.ndarray, " edge"]:
        """The clean attention of each edge."""
        pattern = prefix.pattern(head.layer)
        return pattern[self.row, head.index, self.query, self.key].double().cpu().numpy()

    def sums(
        self, per_edge: Float[np.ndarray, " edge"], place: Int[np.ndarray, " query"]
    ) -> Float[np.ndarray, " query"]:
        """Sum over the edges of each query."""
        return np.bincount(self.index(place), per_edge, len(place)).astype(
            np.float64
        )  # of no edges: integers

    def moved(
        self, prefix: Prefix, head: HeadId, mass: Float[np.ndarray, " edge"], place: Int[np.ndarray, " query"]
    ) -> Float[Tensor, "query d_head"]:
        """Change of what the head mixes when each edge gives a mass to position 0."""
        values = prefix.values(head.layer)
        gained = values[self.row, head.index, 0] - values[self.row, head.index, self.key]
        mixed = values.new_zeros(len(place), values.shape[-1])
        weight = torch.from_numpy(mass).to(values)
        return mixed.index_add_(
            0, torch.from_numpy(self.index(place)).to(values.device), weight[:, None] * gained
        )


def _rank(group: Int[np.ndarray, " edge"]) -> Int[np.ndarray, " edge"]:
    """How many of the same group stand before each edge."""
    order = np.argsort(group, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(group)) - np.searchsorted(group[order], group[order])
    return rank


def _run(
    model: StoryModel, prefix: Prefix, layer: int, moves: Sequence[_Move], targets: Int[Tensor, "row pos"]
) -> list[Float[np.ndarray, "arm query"]]:
    """Losses of all arms of some tests of one layer, each read at the queries of its own test."""
    change = prefix.final.new_zeros(N_ARMS * len(moves), *prefix.final.shape)
    at = torch.zeros(change.shape[:3], dtype=torch.bool, device=change.device)
    for i, move in enumerate(moves):
        arms = slice(N_ARMS * i, N_ARMS * (i + 1))
        change[arms, move.row, move.query] = move.written
        at[arms, move.row, move.query] = True
    losses = losses_at(model, prefix.rerun(layer, change, at), targets.expand(at.shape)[at])
    ends = np.cumsum([N_ARMS * len(move.row) for move in moves])
    return [rearrange(part, "(arm query) -> arm query", arm=N_ARMS) for part in np.split(losses, ends[:-1])]
