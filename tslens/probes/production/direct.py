"""What a head adds to the logits by itself: direct logit attribution with a frozen LayerNorm.

1. What a head writes is linear in what it has mixed, z: z W_O.
2. The last normalisation divides by the scale of the whole residual stream at the position. That scale is taken as it
   is, as if it did not depend on the head ("frozen"; Elhage et al. 2021, A Mathematical Framework for Transformer
   Circuits). What is left, to centre and to weigh, is linear too, and so is the unembedding.
3. So what a head does for a class of tokens is one product: z with a vector of the head and the class, over the scale.

Later layers may undo it or build on it; none of that is in it.

Axes: row, pos, place, head (layer by layer), d_head, d_model, vocab, class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor

from tslens.model.story_model import StoryModel
from tslens.probes.production.classes import Classes
from tslens.probes.production.copying import copied, eigenvalue_shares
from tslens.probes.production.places import Places

FAR = 1e4  # deviations: against them the small constant of a normalisation is nothing


@dataclass(frozen=True)
class Run:
    """One pass over rows of tokens. ``z``, ``pattern``: of each layer. ``scale``: what the last normalisation divides
    by."""

    z: list[Float[Tensor, "row pos head d_head"]]
    pattern: list[Float[Tensor, "row head query_pos key_pos"]]
    scale: Float[Tensor, "row pos 1"]

    @classmethod
    @torch.no_grad()
    def of(cls, model: StoryModel, tokens: Int[Tensor, "row pos"]) -> Run:
        """Run a model and keep what its hook points see."""
        hooked: Any = getattr(model, "bridge", model)
        seen: dict[str, Tensor] = {}
        layers = range(model.cfg.n_layers)
        names = [f"blocks.{layer}.attn.{point}" for layer in layers for point in ("hook_z", "hook_pattern")]
        names.append("ln_final.hook_scale")
        with hooked.hooks(fwd_hooks=[(name, _keep(seen, name)) for name in names]):
            model.final_residual(tokens.to(model.device))
        return cls(
            [seen[f"blocks.{layer}.attn.hook_z"] for layer in layers],
            [seen[f"blocks.{layer}.attn.hook_pattern"] for layer in layers],
            seen["ln_final.hook_scale"],
        )


def _keep(seen: dict[str, Tensor], name: str) -> Callable[..., None]:
    def hook_fn(activation: Tensor, hook: Any) -> None:
        seen[name] = activation

    return hook_fn


@torch.no_grad()
def behind_final_norm(model: StoryModel, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
    """What the last normalisation makes of a part of the residual stream, but for its bias, at a scale of one.

    Linear. A normalisation that centres (LayerNorm) is told from one that does not (RMSNorm) by what it makes of ones.
    """
    zero = model.final_norm(torch.zeros_like(x[..., :1, :]))
    centres = torch.allclose(model.final_norm(torch.ones_like(zero)), zero, atol=1e-5)
    centred = x - x.mean(-1, keepdim=True) if centres else x
    size = centred.pow(2).mean(-1, keepdim=True).sqrt()
    far = torch.where(size > 0, centred / size.clamp(min=1e-30) * FAR, 0.0)
    found: Tensor = size * (model.final_norm(far) - zero)
    return found


@torch.no_grad()
def unembedding(model: StoryModel) -> Float[Tensor, "d_model vocab"]:
    """W_U, whatever the model calls it."""
    basis = torch.eye(model.cfg.d_model, device=model.device, dtype=model.cfg.dtype)
    return model.unembed(basis) - model.unembed(torch.zeros_like(basis[:1]))


@torch.no_grad()
def written_by_heads(model: StoryModel, layer: int) -> Float[Tensor, "head d_head d_model"]:
    """W_O of a layer behind the last normalisation, at a scale of one."""
    hooked: Any = getattr(model, "bridge", model)
    return behind_final_norm(model, hooked.blocks[layer].attn.W_O.detach())


class DirectReader:
    """Reads what the heads of a model do for classes of next tokens.

    ``n_columns``: the classes, and copying as the last. The model may not change in between.
    """

    def __init__(self, model: StoryModel, classes: Classes) -> None:
        self.model, self.n_columns = model, len(classes) + 1
        W_U = unembedding(model)
        profile = torch.from_numpy(classes.profile).to(W_U)
        share = torch.from_numpy(classes.share).to(W_U)
        self._written = [written_by_heads(model, layer) for layer in range(model.cfg.n_layers)]
        self._of_class = W_U @ profile
        self._maps = [einsum(written, self._of_class, "h e d, d c -> h e c") for written in self._written]
        self._W_U = W_U
        self._beyond_mean = rearrange(W_U - (W_U @ share)[:, None], "d v -> v d")

    def eigenvalue_shares(self) -> Float[np.ndarray, " head"] | None:
        """See ``copying.eigenvalue_shares``."""
        return eigenvalue_shares(self.model, self._written, self._W_U)

    @torch.no_grad()
    def read(
        self, tokens: Int[np.ndarray, "row pos"], places: Places, moved: Int[np.ndarray, "move row pos"]
    ) -> tuple[Float[Tensor, "place head column"], Float[Tensor, "place head"]]:
        """Contributions in nats at the places of a batch: to each class, and to what is attended to.

        The second is what the last column would be if the keys' tokens stood elsewhere (``copying.moved_keys``).
        """
        ids = torch.from_numpy(tokens)
        run = Run.of(self.model, ids)
        directions = self._beyond_mean[ids.to(self.model.device)]
        row, pos = (torch.from_numpy(index).to(self.model.device) for index in (places.row, places.pos))
        scale = run.scale[row, pos]
        to_classes: list[Tensor] = []
        own: list[Tensor] = []
        other: list[Tensor] = []
        for layer, written in enumerate(self._written):
            z = run.z[layer]
            here = einsum(z[row, pos], self._maps[layer], "p h e, h e c -> p h c")
            to_classes.append((here / scale[:, :, None]).cpu())
            out = einsum(z, written, "r q h e, h e d -> r q h d")
            both = copied(run.pattern[layer], out, directions, torch.from_numpy(moved))
            for found, raised in zip((own, other), both, strict=True):
                found.append((raised[row, pos] / scale).cpu())
        attended = torch.cat(own, 1)
        return torch.cat([torch.cat(to_classes, 1), attended[:, :, None]], 2), torch.cat(other, 1)
