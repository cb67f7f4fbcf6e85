"""Programs in the place of heads: what the loss becomes when heads attend as their programs say, or otherwise.

The patterns that a head, or a group of heads in all layers at once, is given (``causal.swap``):

| method | pattern |
|---|---|
| ``role`` | of the role that the scan of heads gave it, as a program of one step |
| ``program`` | of its composed program |
| ``tokens`` | of the predictor from token identities and distance: the ceiling of what needs no context |
| ``profile`` | of its distances alone |
| ``mean`` | its mean pattern by position, over the stories of the fit; its profile where none of them reached |
| ``other`` | its pattern in another story of the batch, at the same positions; its mean where that story is shorter |
| ``shuffled`` | its own, the weights of each query dealt anew among the keys that it may look at: equal entropy |
| ``uniform`` | every position alike |
| ``zero`` | none: it mixes nothing |

Axes: row (a story), pos (query_pos, key_pos), head, key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tslens.causal.replacement import other_rows
from tslens.causal.swap import Swap, losses_of_each, swapped_losses
from tslens.model.attention import Pattern, allowed_pairs
from tslens.model.batches import IGNORED
from tslens.model.story_model import StoryModel
from tslens.probes.basis import TokenPredictor
from tslens.probes.batch import TokenBatch
from tslens.probes.programs.fit import LayerFit
from tslens.probes.programs.pattern import Canvas, by_row
from tslens.probes.programs.roles import Role, RoleText
from tslens.probes.relation import next_token, pieces_of
from tslens.probes.strata import targets_of
from tslens.probes.units import KIND
from tslens.types import HeadId

Method = Literal["role", "program", "tokens", "profile", "mean", "other", "shuffled", "uniform", "zero"]
METHODS: tuple[Method, ...] = get_args(Method)
READOUTS = ("all", "names", "pronouns", "closing marks")
OF_HEAD_READOUTS = (*READOUTS, "served")
MOST_TARGETS = 64  # of each story, drawn by lot, at which the loss with one head swapped is read
MAX_VARIANTS = 12  # copies of a batch that run at once


@dataclass(frozen=True, eq=False)
class SwapReadings:
    """Losses with a swap minus the clean ones, means over the targets of each story; NaN where it has none.

    ``cluster``: 64-bit keys of the stories. ``clean``: the clean losses at ``READOUTS``. ``one``: each head alone, at
    64 targets of each story, drawn by lot, and at those of them that are a readout's, or that its role serves
    (``OF_HEAD_READOUTS``); all methods but ``tokens``, and ``profile`` only where the composed program has steps, as
    it is the program elsewhere.
    ``groups``: by group and method, at ``READOUTS``.
    """

    cluster: tuple[int, ...]
    clean: Float[np.ndarray, "story readout"]
    one: Mapping[tuple[HeadId, Method], Float[np.ndarray, "story readout"]]
    groups: Mapping[tuple[str, Method], Float[np.ndarray, "story readout"]]


def readouts(batch: TokenBatch) -> Bool[np.ndarray, "readout row pos"]:
    """Where the next token begins a name, a pronoun, or holds a closing mark; all positions first."""
    kind = batch.units.kind
    names, pronouns = (pieces_of(kind == KIND[part], batch) for part in ("PROPN", "PRON"))
    every = np.ones(batch.tokens.shape, dtype=bool)
    return np.stack([every, *map(next_token, (names, pronouns, batch.sentence_end))])


class SwapPatterns:
    """The patterns of every method for all heads, on one text.

    ``roles``: of heads that have one. ``predictor``: of all heads, or None.
    """

    def __init__(
        self,
        model: StoryModel,
        text: RoleText,
        fits: Sequence[LayerFit],
        roles: Mapping[HeadId, Role],
        predictor: TokenPredictor | None,
        *,
        seed: Sequence[int],
    ) -> None:
        self.text, self.fits, self.roles = text, fits, roles
        self._n_rows = len(text.batch.length)
        patterns = model.attention_patterns(text.tokens.to(model.device))
        self._true = [pattern.float().cpu().clone() for pattern in patterns]
        self._predicted = None if predictor is None else predictor.pattern(text.tokens)
        self._canvases = [Canvas(text, fit.table) for fit in fits]
        self._other = other_rows(self._n_rows, np.random.default_rng(seed))
        self._generator = torch.Generator().manual_seed(int(np.random.default_rng(seed).integers(2**62)))

    def of(self, method: Method, layer: int) -> Pattern:
        """The pattern of all heads of a layer; with ``role``, of a head without one its own."""
        canvas, true = self._canvases[layer], self._true[layer]
        if method == "zero":
            return torch.zeros_like(true)
        if method == "uniform" or method == "profile":
            return by_row(canvas.base_rows(method), self._n_rows)
        if method == "tokens":
            assert self._predicted is not None
            return self._predicted[layer]
        if method == "mean":
            return self._mean(layer)
        if method == "other":
            return self._of_other(layer)
        if method == "shuffled":
            return self._shuffled(layer)
        return self._programs(method, layer)

    def _programs(self, method: Method, layer: int) -> Pattern:
        fit, canvas = self.fits[layer], self._canvases[layer]
        found = []
        for head, composed in enumerate(fit.composed):
            role = self.roles.get(HeadId(layer, head))
            if method == "program":
                rows = canvas.rows(composed, head)
            elif role is not None:
                rows = canvas.rows(fit.single(role, head), head)
            else:
                rows = self._true[layer][:, head].flatten(0, 1)
            found.append(rows)
        return by_row(torch.stack(found, 1), self._n_rows)

    def _mean(self, layer: int) -> Pattern:
        """Of every row the same."""
        n_pos, mean = self.text.n_pos, self.fits[layer].mean
        known = min(n_pos, mean.shape[1])
        rows = self._canvases[layer].base("profile").transpose(0, 1).clone()
        reached = mean[:, :known].sum(-1) > 0
        part = rows[:, :known, :known]
        rows[:, :known, :known] = torch.where(reached[..., None], mean[:, :known, :known], part)
        return rows.expand(self._n_rows, -1, -1, -1)

    def _of_other(self, layer: int) -> Pattern:
        length = torch.from_numpy(self.text.batch.length)
        own = torch.arange(len(length))
        there = (torch.arange(self.text.n_pos) < length[self._other][:, None]) & (self._other != own)[:, None]
        return torch.where(there[:, None, :, None], self._true[layer][self._other], self._mean(layer))

    def _shuffled(self, layer: int) -> Pattern:
        true, pos = self._true[layer], torch.arange(self.text.n_pos)
        hidden = ~allowed_pairs(pos, pos, self.fits[layer].table.window)
        in_order = (
            hidden.int().argsort(dim=-1, stable=True).expand(true.shape)
        )  # the keys it may look at first
        dealt = torch.rand(true.shape, generator=self._generator).masked_fill(hidden, 2.0).argsort(-1)
        return torch.zeros_like(true).scatter_(-1, dealt, true.gather(-1, in_order))


@torch.no_grad()
def read_swaps(
    model: StoryModel,
    texts: Sequence[RoleText],
    fits: Sequence[LayerFit],
    roles: Mapping[HeadId, Role],
    groups: Mapping[str, Sequence[HeadId]],
    predictor: TokenPredictor | None,
    *,
    seed: int,
    progress: Callable[[int], None] = lambda n_stories: None,
) -> SwapReadings:
    """Losses with each head swapped alone, and with each group swapped at once.

    ``roles``: of the labelled heads; ``role`` is read for them, and for groups of them alone. ``served`` is where the
    labelled role, or else the first step of the composed program, serves a prediction. ``progress`` is called with the
    stories done.
    """
    every = [HeadId(fit.layer, head) for fit in fits for head in range(model.cfg.n_heads)]
    one: dict[tuple[HeadId, Method], list[np.ndarray]] = {}
    of_group: dict[tuple[str, Method], list[np.ndarray]] = {}
    clean: list[np.ndarray] = []
    n_done = 0
    for index, text in enumerate(texts):
        patterns = SwapPatterns(model, text, fits, roles, predictor, seed=[seed, index])
        losses = _Losses(model, text)
        flags = readouts(text.batch)
        clean.append(losses.means(losses.clean, flags))
        for method in METHODS:
            if method == "tokens" and predictor is None:
                continue
            given = [patterns.of(method, fit.layer) for fit in fits]
            chosen = _alone(method, every, fits, roles)
            if chosen:
                lost = losses.of_each([Swap(head, given[head.layer][:, head.index]) for head in chosen])
                for head, of_head in zip(chosen, lost, strict=True):
                    served = _served(text, fits[head.layer], head, roles)
                    means = losses.means(of_head, np.concatenate([flags, served[None]]), losses.some)
                    one.setdefault((head, method), []).append(means)
            for group, heads in groups.items():
                if not heads or (method == "role" and not set(heads) <= set(roles)):
                    continue
                swaps = [Swap(head, given[head.layer][:, head.index]) for head in heads]
                of_group.setdefault((group, method), []).append(losses.means(losses.lost(swaps), flags))
        n_done += len(text.batch.length)
        progress(n_done)
    return SwapReadings(
        cluster=tuple(key for text in texts for key in text.batch.cluster),
        clean=np.concatenate(clean),
        one={key: np.concatenate(parts) for key, parts in one.items()},
        groups={key: np.concatenate(parts) for key, parts in of_group.items()},
    )


def _alone(
    method: Method, every: Sequence[HeadId], fits: Sequence[LayerFit], roles: Mapping[HeadId, Role]
) -> list[HeadId]:
    """The heads that are swapped alone."""
    if method == "tokens":
        return []
    if method == "role":
        return list(roles)
    if method == "profile":
        return [head for head in every if fits[head.layer].composed[head.index].steps]
    return list(every)


def _served(
    text: RoleText, fit: LayerFit, head: HeadId, roles: Mapping[HeadId, Role]
) -> Bool[np.ndarray, "row pos"]:
    """Where the role of a head serves a prediction; nowhere if it has none or serves none."""
    steps = fit.composed[head.index].steps
    role = roles.get(head, steps[0].role if steps else None)
    nowhere = np.zeros(text.batch.tokens.shape, dtype=bool)
    return nowhere if role is None else text.serves.get(role.probe, nowhere)


class _Losses:
    """Losses of one text, clean and with swaps. ``at``: every target; ``some``: those drawn for single heads."""

    def __init__(self, model: StoryModel, text: RoleText) -> None:
        self.model, self.tokens = model, text.tokens
        self.targets = torch.from_numpy(targets_of(text.batch, model.cfg.n_ctx, has_ends=True))
        self.at: Bool[Tensor, "row pos"] = self.targets != IGNORED
        self.some = torch.zeros_like(self.at)
        self.some.view(-1)[text.drawn(MOST_TARGETS)] = True
        self.some &= self.at
        self.clean = swapped_losses(model, self.tokens, [], self.targets, self.at)
        self._prefix = model.prefix(self.tokens.to(model.device))

    def lost(self, swaps: Sequence[Swap]) -> Float[np.ndarray, " position"]:
        """Loss with swaps minus the clean loss, at every target."""
        return swapped_losses(self.model, self.tokens, swaps, self.targets, self.at) - self.clean

    def of_each(self, swaps: Sequence[Swap]) -> Float[np.ndarray, "swap position"]:
        """The same of each swap alone, at some targets."""
        lost = losses_of_each(
            self.model, self._prefix, swaps, self.targets, self.some, max_variants=MAX_VARIANTS
        )
        clean: np.ndarray = self.clean[self.some[self.at].numpy()]
        return lost - clean

    def means(
        self,
        values: Float[np.ndarray, " position"],
        flags: Bool[np.ndarray, "readout row pos"],
        at: Bool[Tensor, "row pos"] | None = None,
    ) -> Float[np.ndarray, "story readout"]:
        """Means over the flagged targets of each story; ``at``: where the values are of, None: every target."""
        place = self.at if at is None else at
        n_stories, row = len(self.tokens), place.nonzero()[:, 0].numpy()
        chosen = flags[:, place.numpy()]
        sums, counts = (
            np.stack([np.bincount(row, weights=w, minlength=n_stories) for w in weights], 1)
            for weights in (chosen * values, chosen.astype(float))
        )
        with np.errstate(invalid="ignore"):
            return sums / np.where(counts > 0, counts, np.nan)
