"""Which step a program gains most from: sums over pairs that give the gain of every role at once, on any program.

For a query let m be the head's attention on the role's n keys, p(k) its attention and P(k) the program's. A step lowers
-sum p log P by ``m log alpha + (1 - m) log((1 - alpha) / (1 - P(keys)))``, and by ``-m log n - sum_keys p log P`` where
it spreads evenly, ``-m log P(keys)`` where it spreads as before.

Axes: query (those of all rows of a text, one after the other), head, key; pair: query x key.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tslens.probes.programs.likeness import divergence
from tslens.probes.programs.pattern import LEAST_ALPHA, TINY, Canvas, DistanceTable, Program, Spread, Step
from tslens.probes.programs.roles import Role, RoleText

LEAST_TOTAL = 0.1  # nats per query from uniform attention, below which there is nothing to explain
LEAST_GAIN = 0.01  # of the divergence from uniform attention, for one more step
LARGEST = 1 - 1e-6  # of a row on the keys of a role, so that the rest can be scaled
SPREADS: tuple[Spread, ...] = get_args(Spread)


def query_weights(text: RoleText) -> Float[Tensor, " query"]:
    """Of each query 1 / the queries of its story; 0 for position 0 and padding."""
    n_queries = torch.from_numpy(text.batch.is_query.sum(1)).clamp(min=1)
    weights = torch.from_numpy(text.batch.is_query) / n_queries[:, None]
    return weights.flatten().float()


def by_pair(rows: Float[Tensor, "query head key"]) -> Float[Tensor, "pair head"]:
    """Rows with what all heads give to one pair side by side: for :func:`on_keys`, which is then fast."""
    return rows.transpose(1, 2).flatten(0, 1)


def on_keys(
    values: Float[Tensor, "pair head"], pairs: Int[Tensor, " chosen"], n_pos: int
) -> Float[Tensor, "query head"]:
    """Sum over the chosen pairs of each query; ``pairs``: as in :class:`RoleText`, in order. One sparse product."""
    n_queries = len(values) // n_pos
    n_keys = torch.bincount(pairs // n_pos, minlength=n_queries)
    starts = torch.cat([n_keys.new_zeros(1), n_keys.cumsum(0)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # PyTorch calls the sparse layout beta
        summing = torch.sparse_csr_tensor(
            starts, pairs, values.new_ones(len(pairs)), (n_queries, len(values))
        )
    return summing @ values


def alpha_of(mass: Float[Tensor, "..."], weight: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Share of greatest likelihood: mass on the keys per query, never quite none or all."""
    return (mass / weight.clamp(min=1e-12)).clamp(LEAST_ALPHA, 1 - LEAST_ALPHA)


class Gains:
    """How much one step more would lower the divergence of the programs of a layer, role by role."""

    def __init__(self, n_heads: int, table: DistanceTable) -> None:
        self.n_heads, self.table = n_heads, table
        self.scale = torch.zeros(n_heads)  # divergence from uniform attention, summed over stories
        self.left = torch.zeros(n_heads)  # from the programs
        self.n_stories = 0
        self.sums: dict[Role, Tensor] = {}  # [part head]; parts: see _parts

    def add(self, text: RoleText, rows: Float[Tensor, "query head key"], programs: Sequence[Program]) -> None:
        """One batch."""
        canvas = Canvas(text, self.table)
        given = torch.stack([canvas.rows(program, head) for head, program in enumerate(programs)], 1)
        weights = query_weights(text)
        self.scale += torch.einsum("qh,q->h", divergence(rows, canvas.base_rows("uniform")), weights)
        self.left += torch.einsum("qh,q->h", divergence(rows, given), weights)
        self.n_stories += len(text.batch.length)
        both = by_pair(torch.cat([rows, given, rows * given.clamp(min=TINY).log()], 1))
        for role in text.at:
            parts = self._parts(text, role, both, weights)
            self.sums[role] = self.sums.get(role, torch.zeros_like(parts)) + parts

    def _parts(
        self,
        text: RoleText,
        role: Role,
        values: Float[Tensor, "pair three_heads"],
        weights: Float[Tensor, " query"],
    ) -> Float[Tensor, "part head"]:
        """Sums over queries with keys: 1, m, (1 - m) log(1 - P(keys)), m log n + sum p log P, m log P(keys).

        ``values``: p, P and p log P of all heads.
        """
        n_pos, pairs = text.n_pos, text.pairs(role, self.table.window)
        n_keys = torch.bincount(pairs // n_pos, minlength=len(weights))
        asked: Bool[Tensor, " query"] = n_keys > 0
        mass, on, of_logs = on_keys(values, pairs, n_pos)[asked].chunk(3, 1)
        weight, count = weights[asked], n_keys[asked].float()
        ones = torch.ones_like(mass)
        terms = (
            ones,
            mass,
            (1 - mass) * (1 - on.clamp(max=LARGEST)).log(),
            mass * count.log()[:, None] + of_logs,
            mass * on.clamp(min=TINY).log(),
        )
        return torch.stack([torch.einsum("qh,q->h", term, weight) for term in terms])

    def alphas(self) -> Float[Tensor, "role head"]:
        """Of a step of each role."""
        n, mass, *_ = torch.stack(list(self.sums.values()), 1)
        return alpha_of(mass, n)

    def gains(self) -> Float[Tensor, "spread role head"]:
        """What a step of each role takes from the divergence, summed over stories; spreads as in ``SPREADS``."""
        n, mass, of_rest, of_even, of_before = torch.stack(list(self.sums.values()), 1)
        alpha = self.alphas()
        both = mass * alpha.log() + (n - mass) * (1 - alpha).log() - of_rest
        return torch.stack([both - of_even, both - of_before])

    def longer(self, programs: Sequence[Program]) -> tuple[list[Program], Float[Tensor, " head"]]:
        """Each program with the step that gains most, if that is enough; and the share that they explain then."""
        roles, gains, alphas = list(self.sums), self.gains(), self.alphas()
        found, left = [], self.left.clone()
        for head, program in enumerate(programs):
            known = {step.role for step in program.steps}
            is_known = torch.tensor([role in known for role in roles])
            of_head = gains[:, :, head].masked_fill(is_known, -torch.inf)
            spread, role = divmod(int(of_head.argmax()), len(roles))
            if of_head[spread, role] >= LEAST_GAIN * self.scale[head]:
                program = program.then(Step(roles[role], float(alphas[role, head]), SPREADS[spread]))
                left[head] -= of_head[spread, role]
            found.append(program)
        has_total = self.scale >= LEAST_TOTAL * self.n_stories
        return found, torch.where(has_total, 1 - left / self.scale.clamp(min=TINY), 0.0)
