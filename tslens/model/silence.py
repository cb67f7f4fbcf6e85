"""A hook that puts something fixed in place of what components give: what an ablation puts on a model.

What is fixed can be folded into the output weights and the bias behind them. So a decoder, which puts its weights
together before it writes, needs no hook for it, and writes as fast as without.

Axes: unit (head and d_head, or neuron; all of an activation as one), d_model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Silence:
    """Hook function that moves some units of an activation towards something fixed.

    ``units``: heads or neurons; None: all that passes. ``n_units``: how many the activation holds, side by side.
    ``value``: where each of ``units`` goes, the same at all positions; None: zero. ``share``: how far it goes, 1 all
    the way.
    """

    units: tuple[int, ...] | None
    n_units: int
    value: Float[Tensor, "unit ..."] | None = None
    share: float = 1.0

    def __call__(self, activation: Float[Tensor, "row pos ..."], hook: Any) -> Tensor:
        """The activation with these units moved; the one that is given stays as it is."""
        if self.units is None:
            return activation * (1 - self.share)
        by_unit = activation.clone().reshape(*activation.shape[:2], self.n_units, -1)
        units = list(self.units)
        if self.share == 1:
            by_unit[:, :, units] = 0
        else:
            by_unit[:, :, units] *= 1 - self.share
        if self.value is not None:
            by_unit[:, :, units] += self.share * self.value.reshape(len(units), -1).to(by_unit)
        return by_unit.reshape(activation.shape)


def silences_on(point: Any) -> dict[int, Silence]:
    """The hooks of this kind that are on a hook point, by the number that PyTorch gives a hook."""
    return {
        handle.hook.id: handle.user_hook
        for handle in point.fwd_hooks
        if isinstance(handle.user_hook, Silence)
    }


def folded(
    weight: Float[Tensor, "unit *inner d_model"],
    bias: Float[Tensor, " d_model"],
    silences: Sequence[Silence],
) -> tuple[Float[Tensor, "unit *inner d_model"], Float[Tensor, " d_model"]]:
    """Output weights and bias that write what units moved by these hooks, one after another, would have written.

    Those that are given stay as they are. A unit that is moved to zero has weights of zero.
    """
    if not silences:
        return weight, bias
    inner = weight.shape[:-1]
    gain = weight.new_ones(inner[:1] + (1,) * (len(inner) - 1))
    offset = weight.new_zeros(inner)
    for one in silences:
        units = list(range(inner[0])) if one.units is None else list(one.units)
        gain[units] *= 1 - one.share
        offset[units] *= 1 - one.share
        if one.value is not None:
            offset[units] += one.share * one.value.reshape(offset[units].shape).to(offset)
    if offset.any():
        bias = bias + torch.einsum("...,...d->d", offset, weight)
    return weight * gain[..., None], bias
