"""Losses of a model without some of its components: heads, neurons, layers, alone or together, in three ways.

An intervention replaces components at all positions: by zero, by their mean at the position, or by what they give at
the position in another row, where the model is untouched. Zero takes away what they write, the biases of a whole
attention or MLP too, as ``ablation.ablated`` does; by mean or resampling a whole attention is all of its heads, a whole
MLP all of its neurons.

1. The rows run once (``model.prefix``).
2. Heads of one layer, or neurons of one, need only what lies behind them: the change of what they write, a sum over
   them, is added there, and many interventions run at once as variants of the rows (``Prefix.rerun``).
3. Components of several layers, and layers that write nothing, run from the first of them on (``TinyPrefix.replay``;
   other people's models by hooks on the whole): a later component is replaced whatever an earlier one made of it.

Axes: row, pos, unit (head and d_head, or neuron), d_model; position: the places whose losses are read, in row-major
order; option: targets of a position; loss: of all of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from einops import einsum, rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tslens.causal.ablation import Component, LayerId, check_component
from tslens.causal.means import Means
from tslens.causal.replacement import Replacement, replaced
from tslens.causal.rerun import losses_at
from tslens.errors import ModelError, ProbeInputError
from tslens.model.batches import IGNORED
from tslens.model.prefix import Edit, Part, Prefix, TinyPrefix
from tslens.model.story_model import StoryModel
from tslens.types import HeadId

MAX_VARIANTS = 8  # copies of a batch that run at once


@dataclass(frozen=True)
class Intervention:
    """Components that are replaced together, at all positions, in one way.

    ``share``: how far they go to what replaces them, from 0, not at all, to 1.
    """

    components: tuple[Component, ...]
    method: Replacement
    share: float = 1.0


class ReadRows(Protocol):
    """Rows of tokens, and where losses are read.

    ``tokens``: padded on the right with any token. ``targets``: next token, or several tokens whose losses are read
    there; ``IGNORED`` where there is none, or fewer. ``at``: positions whose losses are read; each has a target.
    ``length``: positions of each row that are real. ``other``: the row whose activations stand in for each row's when
    resampled (``replacement.other_rows``); None: there is none, and the mean does.
    """

    @property
    def tokens(self) -> Int[Tensor, "row pos"]: ...  # noqa: D102
    @property
    def targets(self) -> Int[Tensor, "row pos *option"]: ...  # noqa: D102
    @property
    def at(self) -> Bool[Tensor, "row pos"]: ...  # noqa: D102
    @property
    def length(self) -> Int[Tensor, " row"]: ...  # noqa: D102
    @property
    def other(self) -> Int[Tensor, " row"] | None: ...  # noqa: D102


@dataclass(frozen=True, eq=False)
class AblatedLosses:
    """Losses in nats of the next token. ``clean``: of the untouched model; ``under``: of each intervention."""

    clean: Float[np.ndarray, " loss"]
    under: Float[np.ndarray, "intervention loss"]

    @property
    def delta(self) -> Float[np.ndarray, "intervention position"]:
        """What each intervention costs."""
        return self.under - self.clean


class Ablator:
    """Losses of a model under interventions.

    ``means``: what "mean" and "resample" put in place (``means.read_means``); None where only "zero" is asked.
    ``max_variants``: copies of a batch that run at once; results do not depend on it.
    """

    def __init__(
        self, model: StoryModel, means: Means | None = None, *, max_variants: int = MAX_VARIANTS
    ) -> None:
        self.model, self.means, self.max_variants = model, means, max_variants

    @torch.no_grad()
    def losses_of(self, rows: ReadRows, interventions: Sequence[Intervention]) -> AblatedLosses:
        """Losses at the positions of ``rows.at``, of the untouched model and under each intervention.

        Raises UsageError for a component that the model lacks, or where means are missing; ProbeInputError for a
        position without target; ModelError if the model has hooks, or lacks a hook point.
        """
        halves = [_halves(self.model, one) for one in interventions]
        run = _Run(self.model, rows, self.means)
        clean = run.losses(run.prefix.final[run.at])
        under = np.empty((len(interventions), len(clean)))
        together: dict[tuple[int, Part], list[int]] = defaultdict(list)
        for i, of_one in enumerate(halves):
            if len(of_one) == 1 and not of_one[0].is_silent:
                together[of_one[0].layer, of_one[0].part].append(i)
            else:
                under[i] = run.several(of_one, interventions[i])
        step = max(1, self.max_variants)
        for (layer, part), index in sorted(together.items()):
            for first in range(0, len(index), step):
                chosen = index[first : first + step]
                changes = torch.stack([run.change(halves[i][0], interventions[i]) for i in chosen])
                under[chosen] = clean
                changed = changes.flatten(1).any(1).nonzero()[:, 0].tolist()  # the others give what they gave
                if changed:
                    under[[chosen[i] for i in changed]] = run.rerun(layer, part, changes[changed])
        return AblatedLosses(clean, under)


# What an intervention replaces ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Half:
    """What is replaced in the attention or the MLP of one layer: some heads or neurons (``units``).

    ``is_silent``: all that it writes is zero instead, its bias too.
    """

    layer: int
    part: Part
    units: list[int]
    is_silent: bool


def _halves(model: StoryModel, intervention: Intervention) -> list[_Half]:
    """Components by layer and half of it. A component that is named twice counts once."""
    cfg, hookable = model.cfg, _hookable(model)
    units: dict[tuple[int, Part], set[int]] = defaultdict(set)
    silent: set[tuple[int, Part]] = set()
    for component in intervention.components:
        check_component(hookable, component)
        if isinstance(component, LayerId):
            parts: tuple[Part, ...] = (component.part,) if component.part else ("attn", "mlp")
            for part in parts:
                units[component.layer, part] |= set(range(cfg.n_heads if part == "attn" else cfg.d_mlp))
                if intervention.method == "zero":
                    silent.add((component.layer, part))
        elif isinstance(component, HeadId):
            units[component.layer, "attn"].add(component.index)
        else:
            units[component.layer, "mlp"].add(component.index)
    return [_Half(*place, sorted(found), place in silent) for place, found in sorted(units.items())]


def _hookable(model: StoryModel) -> Any:
    return getattr(model, "bridge", model)


# One batch --------------------------------------------------------------------------------------------------


class _Run:
    """A batch of rows: run once, and again with something replaced."""

    def __init__(self, model: StoryModel, rows: ReadRows, means: Means | None) -> None:
        self.model, self.means = model, means
        tokens = rows.tokens.to(model.device)
        self.prefix: Prefix = model.prefix(tokens)
        self.at = rows.at.to(model.device)
        self.targets = rows.targets.to(model.device)[self.at]
        if (self.targets.reshape(len(self.targets), -1)[:, :1] == IGNORED).any():
            raise ProbeInputError(
                "A loss is asked for where there is no next token.", "Leave such positions out."
            )
        self._is_real = (torch.arange(tokens.shape[1]) < rows.length.cpu()[:, None]).to(model.device)
        self._other = torch.arange(len(tokens)) if rows.other is None else rows.other
        self._post: list[Tensor] = []

    def losses(self, final: Float[Tensor, "position d_model"]) -> Float[np.ndarray, " loss"]:
        """Losses from the residual stream at the positions that are read."""
        return losses_at(self.model, final, self.targets)

    def rerun(
        self, layer: int, part: Part, change: Float[Tensor, "variant row pos d_model"]
    ) -> Float[np.ndarray, "variant loss"]:
        """Losses where each change is added to what a half of a layer writes."""
        final = self.prefix.rerun(layer, change, self.at, part=part)
        flat = losses_at(
            self.model, final.flatten(0, 1), repeat(self.targets, "p ... -> (v p) ...", v=len(change))
        )
        return rearrange(flat, "(v p) -> v p", v=len(change))

    def change(self, half: _Half, how: Intervention) -> Float[Tensor, "row pos d_model"]:
        """How what a half of a layer writes changes."""
        missing = how.share * (self._replaced(half, how.method) - self._given(half))
        if half.part == "attn":
            return einsum(missing, self.prefix.output(half.layer)[half.units], "r p h e, h e d -> r p d")
        return missing @ self.model.mlp_output(half.layer)[half.units]

    def several(self, halves: Sequence[_Half], how: Intervention) -> Float[np.ndarray, " loss"]:
        """Losses with several halves replaced, or one that writes nothing."""
        if not isinstance(self.prefix, TinyPrefix):
            return self.hooked(halves, how)
        edits = {
            (half.layer, half.part): Edit((), None, scale=1 - how.share)
            if half.is_silent
            else Edit(half.units, self._replaced(half, how.method), how.share)
            for half in halves
        }
        return self.losses(self.prefix.replay(edits, self.at))

    def hooked(self, halves: Sequence[_Half], how: Intervention) -> Float[np.ndarray, " loss"]:
        """Losses of the whole model, every half replaced by a hook."""
        hooked = _hookable(self.model)
        hooks = [self._hook(half, how) for half in halves]
        missing = [name for name, _ in hooks if name not in hooked.hook_dict]
        if missing:
            raise ModelError(
                f"This model has no hook point {missing[0]}, which the ablation needs.",
                "Ablate other components, or use a model that has it.",
            )
        with hooked.hooks(fwd_hooks=hooks):
            final = self.model.final_residual(self.prefix.tokens)
        return self.losses(final[self.at])

    def _hook(self, half: _Half, how: Intervention) -> tuple[str, Callable[..., Tensor]]:
        block = f"blocks.{half.layer}"
        if half.is_silent:
            return f"{block}.hook_{half.part}_out", lambda written, hook: written * (1 - how.share)
        new = self._replaced(half, how.method)
        shape = (*new.shape[:2], -1, *new.shape[3:])  # some models hold the heads of z side by side

        def replace(given: Tensor, hook: Any) -> Tensor:
            by_unit = given.clone().reshape(shape)
            by_unit[:, :, half.units] = torch.lerp(by_unit[:, :, half.units], new, how.share)
            return by_unit.reshape(given.shape)

        return f"{block}.attn.hook_z" if half.part == "attn" else f"{block}.mlp.hook_post", replace

    def _given(self, half: _Half) -> Float[Tensor, "row pos *unit"]:
        """What the units of a half give in the untouched model."""
        if half.part == "attn":
            return self.prefix.z(half.layer)[:, :, half.units]
        if not self._post:
            self._post = list(self.model.neuron_activations(self.prefix.tokens))
        return self._post[half.layer][:, :, half.units]

    def _replaced(self, half: _Half, method: Replacement) -> Float[Tensor, "row pos *unit"]:
        """What stands in their place."""
        mean = None
        if self.means is not None:
            of_layers = self.means.z if half.part == "attn" else self.means.post
            mean = of_layers[half.layer][:, half.units]
        return replaced(self._given(half), method, self._is_real, mean=mean, other=self._other)
