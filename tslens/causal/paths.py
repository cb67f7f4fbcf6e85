"""Path patching: a model that reads, along each edge of ``path_graph``, what the sender writes or what stands for it.

1. Every receiver reads the sum of what its senders write: a head by its queries, keys and values together, an MLP, the
   logits. Position embeddings and the biases of attention and MLP are in every sum.
2. Along a kept edge it is what the sender writes in this very run; along a cut one what the reference has in its place.
3. The LayerNorm of each receiver is of what it reads. Nothing is frozen and nothing is linear: the result is exact.

A reference is either the mean of what each sender writes at the position over stories, or what it writes on another
prompt of as many tokens. With all edges kept the logits are the model's own; with all cut, by another prompt, they are
its logits on that prompt, and by means those of the sum of all means.

Many sets of edges run at once, as rows. The rows of a batch begin at the first layer where one of them has a cut, as
below it all are the untouched model.

Sources: Wang et al. 2023 (arXiv:2211.00593) and Goldowsky-Dill et al. 2023 (arXiv:2304.05969), path patching; Conmy et
al. 2023 (arXiv:2304.14997), all edges of a model.

Axes: row (a set of edges), layer, pos, head, d_head, d_model, neuron, unit, sender, receiver (see ``path_graph``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor

from tslens.causal.means import PositionMean, read_means
from tslens.causal.path_graph import Keep, PathGraph
from tslens.errors import ModelError, UsageError
from tslens.model.batches import collate, cut_by_length
from tslens.model.prefix import refuse_hooks
from tslens.model.story_model import StoryModel
from tslens.model.transformer import TinyTransformer

MAX_ROWS = 16
MOST_NUMBERS = 2**22  # of the largest tensor of a batch of rows
BATCH_TOKENS = 4096


@dataclass(frozen=True, eq=False)
class Written:
    """What each sender writes to the residual stream. ``tokens``: embeddings; ``units``: heads and MLPs, no biases."""

    tokens: Float[Tensor, "pos d_model"]
    units: Float[Tensor, "unit pos d_model"]


def our_model(model: StoryModel) -> TinyTransformer:
    """The model, if its paths can be run. Raises ModelError for one that is not ours or has hooks."""
    if not isinstance(model, TinyTransformer):
        raise ModelError(
            "Paths are read of our own models only: this one has other weights.",
            "Give a model that tslens trained or ships.",
        )
    refuse_hooks(model)
    return model


@torch.no_grad()
def written_on(model: StoryModel, tokens: Int[Tensor, " pos"]) -> Written:
    """What each sender writes on a prompt: the reference of another prompt.

    Raises ModelError for a model that is not ours or has hooks.
    """
    ours = our_model(model)
    row = rearrange(tokens.to(ours.device), "pos -> 1 pos")
    prefix = ours.prefix(row)
    z = [prefix.z(layer)[0] for layer in range(prefix.n_layers)]
    return Written(ours.embed(row)[0], _units(ours, z, [post[0] for post in ours.neuron_activations(row)]))


@torch.no_grad()
def mean_written(model: StoryModel, rows: Sequence[Int[np.ndarray, " length"]], *, n_pos: int) -> Written:
    """Mean of what each sender writes at each of ``n_pos`` positions over stories: the reference of no prompt.

    ``rows``: stories as models read them (``TextTokenizer.encode_story``), whose last token is not read. Where no story
    reaches, the mean over all positions. Raises ValueError if there is no story, ModelError for a model that is not
    ours or has hooks.
    """
    ours = our_model(model)
    cut = [row[: n_pos + 1] for row in rows]
    length = np.array([len(row) - 1 for row in cut])
    batches = [
        (collate([cut[i] for i in index]).tokens, torch.from_numpy(length[index]))
        for index in cut_by_length(length, BATCH_TOKENS)
    ]
    means = read_means(ours, batches, n_pos=n_pos)
    embed = PositionMean()
    for tokens, n_real in batches:
        embed.add([ours.embed(tokens.to(ours.device))], n_real)
    like = ours.W_E
    units = _units(ours, [z.to(like) for z in means.z], [post.to(like) for post in means.post])
    return Written(embed.mean(n_pos)[0].to(like), units)


class PathPatcher:
    """Runs of a model on one prompt with any set of its edges kept, the others cut.

    ``tokens``: the prompt, the token that begins a story first. ``reference``: what cut edges carry, of as many
    positions. ``graph``: the edges; tokens that the reference has too are no sources.
    Raises ModelError for a model that is not ours (its weights are read one by one) or has hooks, UsageError for a
    reference of another length or a prompt that is longer than the context.
    """

    @torch.no_grad()
    def __init__(self, model: StoryModel, tokens: Int[Tensor, " pos"], reference: Written) -> None:
        self.model = ours = our_model(model)
        self.tokens = tokens
        if len(reference.tokens) != len(tokens):
            raise UsageError(
                f"The prompt has {len(tokens)} tokens, what stands in for them {len(reference.tokens)}.",
                "Give another prompt of as many tokens.",
            )
        row = rearrange(tokens.to(ours.device), "pos -> 1 pos")
        position = ours.embed_tokens(row)[0] - ours.embed(row)[0]
        self._token = ours.embed(row)[0] - reference.tokens
        sources = self._token.any(-1).nonzero().flatten().tolist()
        cfg = ours.cfg
        self.graph = PathGraph(cfg.n_layers, cfg.n_heads, len(tokens), sources)
        self._units = reference.units
        self._base = _bases(ours, position + reference.tokens, reference.units)
        largest = max(self.graph.n_units, 3 * cfg.n_heads, 4) * len(tokens) * cfg.d_model
        self._max_rows = min(max(MOST_NUMBERS // largest, 1), MAX_ROWS)
        self._changed = self._token.new_zeros(self.graph.n_units, len(tokens), cfg.d_model)
        self._run(torch.from_numpy(self.graph.whole[None]).to(ours.device), 0, save=True)

    @torch.no_grad()
    def logits(self, keeps: Iterable[Keep]) -> Float[Tensor, "row d_vocab"]:
        """Logits at the last position, for each set of edges that are kept."""
        rows = list(keeps)
        found = []
        for first in range(0, len(rows), self._max_rows):
            keep = np.stack(rows[first : first + self._max_rows])
            cut = (keep != self.graph.whole).any((0, 1)).nonzero()[0]
            layer = (cut[0] if len(cut) else self.graph.n_units) // (self.model.cfg.n_heads + 1)
            found.append(self._run(torch.from_numpy(keep).to(self.model.device), int(layer)))
        return torch.cat(found)

    def _run(self, keep: Tensor, first: int, *, save: bool = False) -> Float[Tensor, "row d_vocab"]:
        """Logits of rows [row sender receiver] that are untouched below a layer. ``save``: what the one row writes."""
        model, n_heads, n_pos = self.model, self.model.cfg.n_heads, self.graph.n_pos
        keep = keep.to(self._token)
        changed = self._changed.expand(len(keep), -1, -1, -1).clone()
        for layer in range(first, len(model.blocks)):
            block, unit = model.blocks[layer], layer * (n_heads + 1)
            heads = slice(unit, unit + n_heads)
            q, k, v = self._project(layer, self._read(keep, changed, unit, heads))
            z = block.attn.fused(q, k, v, None)
            written = einsum(z, block.attn.W_O, "row pos head e, head e d -> row head pos d")
            changed[:, heads] = written - self._units[heads]
            mlp, is_last = unit + n_heads, layer == len(model.blocks) - 1
            at = slice(n_pos - 1 if is_last else 0, n_pos)  # behind the last layer one position is read
            read = self._read(keep, changed, mlp, slice(mlp, mlp + 1), at)[:, 0]
            post = block.mlp.activations(block.ln2(read))
            changed[:, mlp, at] = post @ block.mlp.W_out - self._units[mlp, at]
        if save:
            self._changed = changed[0]
        n_units = self.graph.n_units
        final = self._read(keep, changed, n_units, slice(n_units, None), slice(n_pos - 1, n_pos))[:, 0, 0]
        logits: Tensor = model.unembed(model.ln_final(final))
        return logits

    def _read(
        self, keep: Tensor, changed: Tensor, n_before: int, receivers: slice, at: slice = slice(None)
    ) -> Float[Tensor, "row receiver pos d_model"]:
        """What receivers read at positions: what the reference writes, and along kept edges the change from it.

        ``n_before``: units that write before these receivers read.
        """
        n_pos = self.graph.n_pos
        base = self._base[receivers.start][at]
        tokens = einsum(
            keep[:, :n_pos, receivers][:, at], self._token[at], "row pos reads, pos d -> row reads pos d"
        )
        by_unit = keep[:, n_pos : n_pos + n_before, receivers]
        units = einsum(
            by_unit, changed[:, :n_before, at], "row unit reads, row unit pos d -> row reads pos d"
        )
        return base + tokens + units

    def _project(self, layer: int, read: Float[Tensor, "row head pos d_model"]) -> list[Tensor]:
        """Queries, keys and values [row pos head d_head] of heads that each read something else."""
        block = self.model.blocks[layer]
        weight = torch.cat([block.attn.W_Q, block.attn.W_K, block.attn.W_V], -1)
        projected = einsum(block.ln1(read), weight, "row head pos d, head d e -> row pos head e")
        return list(rearrange(projected, "row pos head (part e) -> part row pos head e", part=3).unbind())


def _units(
    model: TinyTransformer,
    z: Sequence[Float[Tensor, "pos head d_head"]],
    post: Sequence[Float[Tensor, "pos neuron"]],
) -> Float[Tensor, "unit pos d_model"]:
    """What heads and MLPs write for what each layer has mixed and what its neurons give."""
    parts = []
    for block, mixed, given in zip(model.blocks, z, post, strict=True):
        parts.append(einsum(mixed, block.attn.W_O, "pos head e, head e d -> head pos d"))
        parts.append(rearrange(given @ block.mlp.W_out, "pos d -> 1 pos d"))
    return torch.cat(parts)


def _bases(
    model: TinyTransformer, embed: Float[Tensor, "pos d_model"], units: Float[Tensor, "unit pos d_model"]
) -> dict[int, Float[Tensor, "pos d_model"]]:
    """What the reference gives to the first head of each layer, its MLP and the logits, by number of the receiver."""
    n_heads = model.cfg.n_heads
    found, resid = {}, embed
    for layer, block in enumerate(model.blocks):
        unit = layer * (n_heads + 1)
        found[unit] = resid
        resid = resid + units[unit : unit + n_heads].sum(0) + block.attn.b_O
        found[unit + n_heads] = resid
        resid = resid + units[unit + n_heads] + block.mlp.b_out
    found[len(units)] = resid
    return found
