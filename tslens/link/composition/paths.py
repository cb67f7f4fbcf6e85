"""One path through a model, patched: from what a component writes to one input of one later head, nothing else.

1. A batch runs once: the residual stream that each layer reads, and what every head and neuron gives, are kept.
2. At chosen places the sender gives its mean at the position instead. How what it writes changes there is added to the
   residual stream that the receiver's layer reads, and the layer's LayerNorm is computed anew on the sum.
3. Of this the receiver takes one input, its queries, its keys or its values, at these places. All that lies between the
   two layers, and the receiver's other inputs, are as they were.

So only the direct path is cut: what the sender does to layers in between, and through them to the receiver, stays.
Source: Wang et al. 2023 (arXiv:2211.00593), path patching; Elhage et al. 2021, composition of heads.

Axes: variant (a change), group (of components), u (component of a group), e (of what it gives: d_head, or 1), row, pos
(query_pos, key_pos), place (of a sender's tokens, padded), d_model, d_head.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tslens.causal.means import Means
from tslens.model.attention import Attention
from tslens.model.prefix import refuse_hooks
from tslens.model.transformer import Block, TinyTransformer
from tslens.types import HeadId, NeuronId

Input = Literal["q", "k", "v"]
INPUTS: tuple[Input, ...] = ("q", "k", "v")
Unit = HeadId | NeuronId
Change = Float[Tensor, "variant row place d_model"]


@dataclass(frozen=True, eq=False)
class Places:
    """Some positions of each row, side by side. ``is_there``: the others fill up rows that have fewer."""

    index: Int[Tensor, "row place"]
    is_there: Bool[Tensor, "row place"]

    @classmethod
    def of(cls, flags: Bool[Tensor, "row pos"]) -> Places:
        """The flagged positions, in order."""
        n = flags.sum(1)
        most = max(1, int(n.max()))
        index = flags.int().argsort(dim=1, descending=True, stable=True)[:, :most]
        return cls(index, torch.arange(most, device=flags.device) < n[:, None])

    @property
    def row(self) -> Int[Tensor, "row 1"]:
        """Numbers of the rows, as they go with ``index``."""
        return torch.arange(len(self.index), device=self.index.device)[:, None]

    def take(self, x: Float[Tensor, "row pos d"]) -> Float[Tensor, "row place d"]:
        """What stands at them."""
        return x[self.row, self.index]

    def number(self, n_pos: int) -> Int[Tensor, "row pos"]:
        """Which of the places a position is, -1 where it is none."""
        found = torch.full((len(self.index), n_pos), -1, device=self.index.device)
        row, place = self.is_there.nonzero(as_tuple=True)
        found[row, self.index[row, place]] = place
        return found

    def put(
        self, new: Float[Tensor, "variant row place d"], into: Float[Tensor, "row pos d"]
    ) -> Float[Tensor, "variant row pos d"]:
        """A copy for each variant with something new at them."""
        whole = into.expand(len(new), *into.shape).clone()
        row, place = self.is_there.nonzero(as_tuple=True)
        whole[:, row, self.index[row, place]] = new[:, row, place]
        return whole


class PathRun:
    """A run of a model on rows of tokens: what paths begin with and end in. Its tensors are for reading.

    ``resid``: what each layer reads. ``z``, ``post``: what its heads have mixed, and what its neurons give.
    Raises ModelError if the model has hooks, which are not run here.
    """

    @torch.no_grad()
    def __init__(self, model: TinyTransformer, tokens: Int[Tensor, "row pos"]) -> None:
        refuse_hooks(model)
        self._blocks = [cast(Block, block) for block in model.blocks]
        self.resid: list[Float[Tensor, "row pos d_model"]] = []
        self.z: list[Float[Tensor, "row pos head d_head"]] = []
        self.post: list[Float[Tensor, "row pos neuron"]] = []
        self._projected: list[list[Float[Tensor, "row pos head d_head"]]] = []
        resid = model.embed_tokens(tokens)
        for block in self._blocks:
            q, k, v = block.attn.project(block.ln1(resid))
            z = block.attn.fused(q, k, v, None)
            mid = resid + block.attn.write(z)
            post = block.mlp.activations(block.ln2(mid))
            for kept, one in ((self.resid, resid), (self.z, z), (self.post, post)):
                kept.append(one)
            self._projected.append([q, k, v])
            resid = mid + block.mlp.write(post)

    def attention(self, layer: int) -> Attention:
        """Attention of a layer."""
        return self._blocks[layer].attn

    def projected(self, head: HeadId) -> list[Float[Tensor, "row pos d_head"]]:
        """Queries, keys and values of a head."""
        return [part[:, :, head.index] for part in self._projected[head.layer]]

    @torch.no_grad()
    def changes(
        self, groups: Sequence[Sequence[Unit]], means: Means, places: Places
    ) -> Float[Tensor, "group row place d_model"]:
        """What components would write with their means in place of what they give, minus what they write; of groups.

        A group's components change together. Zero where a row has no place.
        """
        n_rows, n_places = places.index.shape
        total = self.resid[0].new_zeros(len(groups), n_rows, n_places, self.resid[0].shape[2])
        for (kind, layer, _), members in _of_one_size(groups).items():
            given, mean, output = self._half(kind, layer, means)
            index = torch.tensor(list(members.values()), device=total.device)
            row, pos = places.row[:, :, None, None], places.index[:, :, None, None]
            missing = mean[pos, index].to(given) - given[row, pos, index]
            written = einsum(missing, output[index], "r p group u e, group u e d -> group r p d")
            total[list(members)] += written
        return total * places.is_there[:, :, None]

    def _half(
        self, kind: type, layer: int, means: Means
    ) -> tuple[Float[Tensor, "row pos u e"], Float[Tensor, "mean_pos u e"], Float[Tensor, "u e d_model"]]:
        """What heads of a layer, or its neurons, give, on average too, and what each number of it writes."""
        block = self._blocks[layer]
        if kind is HeadId:
            return self.z[layer], means.z[layer].to(self.z[layer].device), block.attn.W_O
        given = self.post[layer][..., None]
        return given, means.post[layer, :, :, None].to(given.device), block.mlp.W_out[:, None]

    @torch.no_grad()
    def project(
        self, layer: int, read: Change
    ) -> dict[Input, Float[Tensor, "variant row place head d_head"]]:
        """Queries, keys and values of all heads of a layer, from what they read."""
        n_variants = len(read)
        parts = self._blocks[layer].attn.project(rearrange(read, "v r p d -> (v r) p d"))
        of_variants = (rearrange(part, "(v r) p h e -> v r p h e", v=n_variants) for part in parts)
        return dict(zip(INPUTS, of_variants, strict=True))

    @torch.no_grad()
    def read(self, layer: int, places: Places, change: Change) -> Change:
        """What the heads of a layer read at these places, normalised, with each change added."""
        read: Tensor = self._blocks[layer].ln1(places.take(self.resid[layer]) + change)
        return read


def _of_one_size(groups: Sequence[Sequence[Unit]]) -> dict[tuple[type, int, int], dict[int, list[int]]]:
    """By kind and layer and how many of these a group has: the groups, and of each its components there."""
    found: dict[tuple[type, int, int], dict[int, list[int]]] = defaultdict(dict)
    for group, units in enumerate(groups):
        of_half: dict[tuple[type, int], list[int]] = defaultdict(list)
        for unit in units:
            of_half[type(unit), unit.layer].append(unit.index)
        for half, index in of_half.items():
            found[*half, len(index)][group] = index
    return found


@dataclass(frozen=True, eq=False)
class Controls:
    """What stands beside a sender: as large a change at each token, made by something else.

    ``groups``: as many components of the sender's layers without a role, each group in the direction in which it would
    change itself. Empty: the sender's own changes turned by random ``rotations``, so that their lengths and the angles
    between them stay.
    """

    groups: tuple[tuple[Unit, ...], ...]
    rotations: Float[Tensor, "control d_model d_model"]

    @property
    def kind(self) -> Literal["neurons", "heads", "directions"]:
        """What the controls are."""
        if not self.groups:
            return "directions"
        return "heads" if isinstance(self.groups[0][0], HeadId) else "neurons"

    @torch.no_grad()
    def changes(
        self, run: PathRun, change: Float[Tensor, "row place d_model"], means: Means, places: Places
    ) -> Float[Tensor, "control row place d_model"]:
        """The controls' changes, each as long at every place as the sender's."""
        if not self.groups:
            return einsum(change, self.rotations.to(change), "r p d, c d e -> c r p e")
        own = run.changes(self.groups, means, places)
        length = own.norm(dim=-1, keepdim=True)
        return own / torch.where(length > 0, length, 1.0) * change.norm(dim=-1, keepdim=True)


def random_rotations(n: int, d_model: int, *, seed: int) -> Float[Tensor, "control d_model d_model"]:
    """Orthogonal matrices, evenly distributed (QR of normal numbers, signs of the diagonal mended: Mezzadri 2007)."""
    generator = torch.Generator().manual_seed(seed)
    q, r = torch.linalg.qr(torch.randn(n, d_model, d_model, dtype=torch.float64, generator=generator))
    return q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None]
