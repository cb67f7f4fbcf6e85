"""What heads and neurons give on average at each position: what an ablation by the mean puts in their place.

The mean is positional, because much of what a component gives follows the position alone: the mean over all positions
would take that away too.

Axes: layer, row, pos, unit (head and d_head, or neuron).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import repeat
from jaxtyping import Float, Int
from torch import Tensor

from tslens.model.story_model import StoryModel


class PositionMean:
    """Running mean at each position of something that every layer gives, over the rows that reach it."""

    def __init__(self) -> None:
        self._sum: Float[Tensor, "layer pos *unit"] | None = None
        self._n: Int[Tensor, " pos"] = torch.zeros(0, dtype=torch.long)

    @torch.no_grad()
    def add(self, of_layers: Sequence[Float[Tensor, "row pos *unit"]], length: Int[Tensor, " row"]) -> None:
        """Add the rows of a batch; ``length``: positions of each that are real."""
        n_pos = of_layers[0].shape[1]
        is_real = torch.arange(n_pos) < length.cpu()[:, None]
        of_batch = torch.stack(
            [torch.einsum("rp...,rp->p...", given.double().cpu(), is_real.double()) for given in of_layers]
        )
        if self._sum is None:
            self._sum = of_batch[:, :0]
        longest = max(n_pos, len(self._n))
        self._sum, of_batch = (_lengthened(total, 1, longest) for total in (self._sum, of_batch))
        self._sum = self._sum + of_batch
        self._n = _lengthened(self._n, 0, longest) + _lengthened(is_real.sum(0), 0, longest)

    def overall(self) -> Float[Tensor, "layer *unit"]:
        """The mean over all positions of all rows, float64. Raises ValueError if nothing was added."""
        if self._sum is None or not self._n.sum():
            raise ValueError("no story was added")
        return self._sum.sum(1) / self._n.sum()

    def mean(self, n_pos: int) -> Float[Tensor, "layer pos *unit"]:
        """The mean at the first ``n_pos`` positions, float64; where no row reached, over all positions.

        Raises ValueError if nothing was added.
        """
        overall = self.overall()[:, None]
        assert self._sum is not None
        n = self._n.reshape(1, -1, *[1] * (self._sum.ndim - 2))
        reached = torch.where(n > 0, self._sum / n.clamp(min=1), overall)[:, :n_pos]
        beyond = overall.expand(-1, n_pos - reached.shape[1], *overall.shape[2:])
        return torch.cat([reached, beyond], 1)


def _lengthened(total: Tensor, axis: int, size: int) -> Tensor:
    """With zeros behind, along one axis."""
    behind = [0, 0] * (total.ndim - 1 - axis)
    return F.pad(total, (*behind, 0, size - total.shape[axis]))


@dataclass(frozen=True, eq=False)
class Means:
    """``z``: what each head has mixed at each position on average; ``post``: what each neuron gives. Float64.

    ``z_overall``, ``post_overall``: the same over all positions.
    """

    z: Float[Tensor, "layer pos head d_head"]
    post: Float[Tensor, "layer pos neuron"]
    z_overall: Float[Tensor, "layer head d_head"]
    post_overall: Float[Tensor, "layer neuron"]

    def everywhere(self) -> Means:
        """Means that know no position: at each that over all, as text that is being written is ablated."""
        n_pos = self.z.shape[1]
        return Means(
            repeat(self.z_overall, "l h e -> l p h e", p=n_pos),
            repeat(self.post_overall, "l n -> l p n", p=n_pos),
            self.z_overall,
            self.post_overall,
        )


@torch.no_grad()
def read_means(
    model: StoryModel,
    batches: Iterable[tuple[Int[Tensor, "row pos"], Int[Tensor, " row"]]],
    *,
    n_pos: int,
) -> Means:
    """Means over rows of tokens, each batch with how many positions of each row are real.

    ``n_pos``: positions of the longest rows that will be ablated. Raises ValueError if there is no row.
    """
    z, post = PositionMean(), PositionMean()
    for tokens, length in batches:
        tokens = tokens.to(model.device)
        prefix = model.prefix(tokens)
        z.add([prefix.z(layer) for layer in range(prefix.n_layers)], length)
        post.add(list(model.neuron_activations(tokens)), length)
    return Means(z.mean(n_pos), post.mean(n_pos), z.overall(), post.overall())
