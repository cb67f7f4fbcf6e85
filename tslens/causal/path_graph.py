"""The paths of one prediction: which part of a model reads what other parts write.

Nodes are the tokens of the prompt, one for each position, the heads, the MLPs and the logits at the last position. The
residual stream is a sum of what nodes write, so every edge, from a sender to a receiver, can be kept or cut by itself.
A head is one node at all positions, and so is an MLP: an edge between them is there at every position at once.

Senders stand in the order tokens, then layer after layer its heads and its MLP; receivers in the order layer after
layer its heads and its MLP, then the logits. So unit number u (a head or an MLP) is sender ``n_pos + u`` and
receiver ``u``.

Axes: pos, unit, sender, receiver, edge.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from tslens.causal.ablation import LayerId
from tslens.types import HeadId


@dataclass(frozen=True, order=True)
class TokenAt:
    """The token at one position, printed ``T5``; position 0 begins the story."""

    pos: int

    def __str__(self) -> str:
        return f"T{self.pos}"


@dataclass(frozen=True)
class Logits:
    """What the unembedding reads at the last position, printed ``logits``."""

    def __str__(self) -> str:
        return "logits"


Sender = TokenAt | HeadId | LayerId
Receiver = HeadId | LayerId | Logits
Keep = Bool[np.ndarray, "sender receiver"]
"""Which edges are kept."""


class PathGraph:
    """All edges that can carry a prompt to the logits at its last position.

    ``sources``: positions of the tokens that something else may stand in for; the others are no senders that count, as
    nothing changes where they are cut. Of the last layer's MLP and of the logits only the last position is read, so
    only the last token has an edge to them.

    ``senders``, ``receivers``: the nodes. ``whole``: which edges there are. ``edges``: [edge, 2] the number of the
    sender and of the receiver of each, receivers in order.
    """

    def __init__(self, n_layers: int, n_heads: int, n_pos: int, sources: Collection[int]) -> None:
        units: list[HeadId | LayerId] = []
        for layer in range(n_layers):
            units += [*(HeadId(layer, index) for index in range(n_heads)), LayerId(layer, "mlp")]
        self.n_pos, self.n_units = n_pos, len(units)
        self.senders: tuple[Sender, ...] = (*map(TokenAt, range(n_pos)), *units)
        self.receivers: tuple[Receiver, ...] = (*units, Logits())
        self.whole: Keep = np.zeros((len(self.senders), len(self.receivers)), dtype=bool)
        tokens = sorted(sources)
        self.whole[np.ix_(tokens, range(self.n_units - 1))] = True
        self.whole[n_pos - 1, -2:] = n_pos - 1 in tokens
        for number, one in enumerate(units):
            after_heads = (one.layer + 1) * (n_heads + 1)
            self.whole[n_pos + number, after_heads:] = True
            self.whole[n_pos + number, after_heads - 1] = isinstance(one, HeadId)  # the MLP of its layer
        self.whole = self.on_paths(self.whole)
        receiver, sender = self.whole.T.nonzero()
        self.edges: Int[np.ndarray, "edge 2"] = np.stack([sender, receiver], 1)

    def on_paths(self, keep: Keep) -> Keep:
        """The edges of ``keep`` that lie on a path of kept edges from a token to the logits."""
        keep, n_pos = keep & self.whole, self.n_pos
        reached = np.ones(len(self.senders), dtype=bool)
        for unit in range(self.n_units):
            reached[n_pos + unit] = (keep[: n_pos + unit, unit] & reached[: n_pos + unit]).any()
        linked = np.ones(len(self.receivers), dtype=bool)
        for unit in reversed(range(self.n_units)):
            linked[unit] = (keep[n_pos + unit, unit:] & linked[unit:]).any()
        found: Keep = keep & reached[:, None] & linked
        return found

    def chosen(self, keep: Keep) -> Int[np.ndarray, " kept"]:
        """Numbers, in ``edges``, of the edges that are kept."""
        return np.flatnonzero(keep[self.edges[:, 0], self.edges[:, 1]])

    def without(self, keep: Keep, edges: Int[np.ndarray, " cut"]) -> Keep:
        """``keep`` with these edges cut, by their numbers."""
        left = keep.copy()
        left[tuple(self.edges[edges].T)] = False
        return left

    def draw(self, n_edges: int, generator: np.random.Generator) -> Keep:
        """A random set of so many edges, each on a path within the set from a token to the logits.

        Edges are taken in random order, each with a random walk from its sender back to a node that is reached already
        (tokens are) and one from its receiver on to a node that is linked (the logits are), where all of that still
        fits. A set that cannot be filled is thrown away. Raises ValueError if a thousand were.
        """
        for _ in range(1000):
            drawn = self._grow(n_edges, generator)
            if drawn is not None:
                return drawn
        raise ValueError(f"no set of {n_edges} edges was found")

    def _grow(self, n_edges: int, generator: np.random.Generator) -> Keep | None:
        keep: Keep = np.zeros_like(self.whole)
        reached = np.arange(len(self.senders)) < self.n_pos
        linked = np.arange(len(self.receivers)) == self.n_units
        n_left, has_grown = n_edges, True
        while n_left and has_grown:
            has_grown = False
            for sender, receiver in generator.permutation(self.edges).tolist():
                if keep[sender, receiver]:
                    continue
                path = self._through(sender, receiver, reached, linked, generator)
                if len(path) > n_left:
                    continue
                n_left, has_grown = n_left - len(path), True
                for start, end in path:
                    keep[start, end] = True
                    linked[max(start - self.n_pos, 0)] |= start >= self.n_pos
                    reached[self.n_pos + end :][:1] = True
                if not n_left:
                    return keep
        return keep if not n_left else None

    def _through(
        self,
        sender: int,
        receiver: int,
        reached: Bool[np.ndarray, " sender"],
        linked: Bool[np.ndarray, " receiver"],
        generator: np.random.Generator,
    ) -> list[tuple[int, int]]:
        """An edge with the walks that join it to what is reached and linked."""
        path = [(sender, receiver)]
        while not reached[sender]:
            unit = sender - self.n_pos
            sender = int(generator.choice(self.whole[:, unit].nonzero()[0]))
            path.append((sender, unit))
        while not linked[receiver]:
            start = self.n_pos + receiver
            receiver = int(generator.choice(self.whole[start].nonzero()[0]))
            path.append((start, receiver))
        return path
