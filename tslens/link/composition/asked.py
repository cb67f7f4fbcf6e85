"""What is asked of a model: from which component to which input of which head, and the texts that are read for it.

Axes: row, pos; pair (of a query and a key).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from tslens.link.composition.heads import Pairs
from tslens.link.composition.paths import Input, Unit
from tslens.probes.programs.roles import Role, RoleText
from tslens.types import HeadId


@dataclass(frozen=True)
class Sender:
    """A component with a role, or all components with it: a label that neurons fire at, or what heads look at.

    They are cut at the tokens of the role: those with the label, or the queries of the relation. ``before``: of all
    that lie before this layer, whose heads alone are their receivers; None for a single component.
    """

    units: tuple[Unit, ...]
    role: str | Role
    before: int | None = None

    def feeds(self, layer: int) -> bool:
        """Whether heads of a layer are receivers."""
        return self.units[0].layer < layer if self.before is None else self.before == layer


@dataclass(frozen=True)
class Receiver:
    """A head and one of its roles."""

    head: HeadId
    role: Role


@dataclass(frozen=True)
class Path:
    """From what a component writes to one input of a head of a later layer."""

    sender: Sender
    receiver: Receiver
    input: Input


@dataclass(frozen=True, eq=False)
class PathText:
    """A batch of stories: the keys of every role of heads, and the tokens of every label of neurons."""

    text: RoleText
    labels: Mapping[str, Bool[Tensor, "row pos"]]

    def tokens_of(self, role: str | Role) -> Bool[Tensor, "row pos"]:
        """Where a sender of this role is cut. Position 0 is never among them."""
        if isinstance(role, Role):
            row, query, _ = self.pairs(role)
            at = torch.zeros(self.text.batch.tokens.shape, dtype=torch.bool)
            at[row, query] = True
            at[:, 0] = False
            return at
        return self.labels[role]

    def pairs(self, role: Role) -> Pairs:
        """The pairs of a role."""
        code, n_pos = self.text.at[role], self.text.n_pos
        return torch.stack([code // n_pos**2, code // n_pos % n_pos, code % n_pos])


def clusters_of(texts: Sequence[PathText]) -> tuple[int, ...]:
    """Keys of all stories, in the order of the rows."""
    return tuple(key for text in texts for key in text.text.batch.cluster)
