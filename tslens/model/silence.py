"""A hook that gives zero: what an ablation puts on a model, and what a decoder can do without running it.

Zero in place of what a component gives is the same as zero output weights. So a decoder, which puts its weights
together before it writes, leaves the component out of them, and writes as fast as without the hook.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Silence:
    """Hook function that gives zero in place of some units of an activation.

    ``units``: heads or neurons; None: all that passes. ``n_units``: how many the activation holds, side by side.
    """

    units: tuple[int, ...] | None
    n_units: int

    def __call__(self, activation: Float[Tensor, "row pos ..."], hook: Any) -> Tensor:
        """The activation with zeros; the one that is given stays as it is."""
        if self.units is None:
            return activation.new_zeros(activation.shape)
        by_unit = activation.clone().reshape(*activation.shape[:2], self.n_units, -1)
        by_unit[:, :, list(self.units)] = 0
        return by_unit.reshape(activation.shape)


def silences_on(point: Any) -> dict[int, Silence]:
    """The hooks of this kind that are on a hook point, by the number that PyTorch gives a hook."""
    return {
        handle.hook.id: handle.user_hook
        for handle in point.fwd_hooks
        if isinstance(handle.user_hook, Silence)
    }
