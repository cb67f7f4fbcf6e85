"""Fitting programs to heads, on one half of the stories.

1. One pass gives the bases (mean attention by distance and at position 0), the mean pattern by position, and for each
   role the mean attention on its keys at queries that have some: the ``alpha`` of greatest likelihood, whatever is
   under it. So each role is a program of one step, on ``profile``; where the role is a matter of distance, which the
   profile knows already, on ``even``.
2. *Composed*: begun with the profile; the role that lowers the divergence KL(head || program) most is added as a step,
   evenly spread over its keys or as before, as long as it takes away a hundredth of KL(head || uniform), three at
   most. One pass for each step.

Stories count alike, whatever their length.
Axes: query (those of all rows of a text, one after the other), head, key, slot, band (see ``probes.profile``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tslens.model.attention import Scratch
from tslens.model.story_model import StoryModel
from tslens.probes.profile import n_slots, octave, read_profile, slot_queries
from tslens.probes.programs.compose import Gains, alpha_of, by_pair, on_keys, query_weights
from tslens.probes.programs.pattern import (
    Base,
    DistanceTable,
    Program,
    Step,
    by_query,
    n_bands,
)
from tslens.probes.programs.roles import Role, RoleText

MOST_STEPS = 3


@dataclass(frozen=True, eq=False)
class LayerFit:
    """What was fitted to the heads of a layer.

    ``table``: bases. ``mean``: mean pattern by position, zero where no story reached. ``alphas``: per role, of each
    head. ``positional``: roles that are a matter of distance. ``composed``: of each head. ``share``: of the divergence
    from uniform attention that the composed program takes away on the stories of the fit, 0 where there is none.
    """

    layer: int
    table: DistanceTable
    mean: Float[Tensor, "head query_pos key_pos"]
    alphas: Mapping[Role, Float[Tensor, " head"]]
    positional: frozenset[Role]
    composed: tuple[Program, ...]
    share: Float[Tensor, " head"]

    def base_of(self, role: Role) -> Base:
        """What a role's program of one step begins with."""
        return "even" if role in self.positional else "profile"

    def single(self, role: Role, head: int) -> Program:
        """The program of one step."""
        return Program(self.base_of(role)).then(Step(role, float(self.alphas[role][head])))


@torch.no_grad()
def fit_programs(
    model: StoryModel,
    texts: Sequence[RoleText],
    positional: frozenset[Role],
    progress: Callable[[int], None] = lambda n_stories: None,
) -> list[LayerFit]:
    """Programs of every head, by layer. ``positional``: roles that are a matter of distance.

    Up to four passes over the texts; ``progress`` is called with the stories done, of all passes.
    """
    first = [_FirstPass(model, layer, texts) for layer in range(model.cfg.n_layers)]
    done = _Counter(progress)
    for text, layer, pattern in _patterns(model, texts, done):
        first[layer].add(text, pattern)
    tables = [one.table() for one in first]
    composed = [[Program("profile")] * model.cfg.n_heads for _ in tables]
    share = [torch.zeros(model.cfg.n_heads) for _ in tables]
    for n_steps in range(1, MOST_STEPS + 1):
        gains = [Gains(model.cfg.n_heads, table) for table in tables]
        for text, layer, pattern in _patterns(model, texts, done):
            gains[layer].add(text, by_query(pattern), composed[layer])
        for layer, gain in enumerate(gains):
            composed[layer], share[layer] = gain.longer(composed[layer])
        if all(len(program.steps) < n_steps for layer in composed for program in layer):
            break
    return [
        LayerFit(layer, table, one.mean(), one.alphas(), positional, tuple(composed[layer]), share[layer])
        for layer, (one, table) in enumerate(zip(first, tables, strict=True))
    ]


class _Counter:
    """Adds up the stories of all passes."""

    def __init__(self, progress: Callable[[int], None]) -> None:
        self.n, self._progress = 0, progress

    def add(self, n_stories: int) -> None:
        self.n += n_stories
        self._progress(self.n)


def _patterns(
    model: StoryModel, texts: Sequence[RoleText], done: _Counter
) -> Iterator[tuple[RoleText, int, Tensor]]:
    """Each text with each layer's pattern, which is valid until the next."""
    scratch = Scratch()
    for text in texts:
        for layer, pattern in enumerate(model.attention_patterns(text.tokens.to(model.device), scratch)):
            yield text, layer, pattern.float().cpu()
        done.add(len(text.batch.length))


class _FirstPass:
    """Sums for the bases, the mean pattern and the alphas of the heads of one layer."""

    def __init__(self, model: StoryModel, layer: int, texts: Sequence[RoleText]) -> None:
        n_heads, n_ctx = model.cfg.n_heads, model.cfg.n_ctx
        longest = max(text.n_pos for text in texts)
        self.window = model.window(layer)
        self._mass = torch.zeros(n_heads, n_slots(n_ctx), dtype=torch.float64)
        self._asked = np.zeros(n_slots(n_ctx))
        self._sink = torch.zeros(n_heads, n_bands(n_ctx), dtype=torch.float64)
        self._queries = np.zeros(n_bands(n_ctx))
        self._pattern = torch.zeros(n_heads, longest, longest)
        self._reached = torch.zeros(longest)
        self._on_keys: dict[Role, Tensor] = {}
        self._weight: dict[Role, float] = {}

    def add(self, text: RoleText, pattern: Float[Tensor, "row head query_pos key_pos"]) -> None:
        """One batch."""
        batch, n_pos = text.batch, text.n_pos
        length = torch.from_numpy(batch.length)
        asked = slot_queries(batch.length, n_pos)
        profile = read_profile(pattern, length)
        n_there = profile.shape[2]
        self._mass[:, :n_there] += torch.einsum(
            "rhs,rs->hs", profile.double(), torch.from_numpy(asked).double()
        )
        self._asked[:n_there] += asked.sum(0)
        is_query = torch.from_numpy(batch.is_query)
        band = torch.from_numpy(octave(np.arange(n_pos)))
        at_first = (pattern[..., 0] * is_query[:, None]).sum(0).double()  # [head query_pos]
        self._sink.index_add_(1, band, at_first)
        self._queries += np.bincount(band.numpy(), batch.is_query.sum(0), len(self._queries))
        is_real = torch.from_numpy(batch.is_token).float()
        self._pattern[:, :n_pos, :n_pos] += torch.einsum("rhqk,rq->hqk", pattern, is_real)
        self._reached[:n_pos] += is_real.sum(0)
        values, weights = by_pair(by_query(pattern)), query_weights(text)
        for role in text.at:
            pairs = text.pairs(role, self.window)
            asks = torch.zeros_like(weights, dtype=torch.bool)
            asks[pairs // n_pos] = True
            mass = on_keys(values, pairs, n_pos)
            total = torch.einsum("qh,q->h", mass, weights * asks)
            self._on_keys[role] = self._on_keys.get(role, torch.zeros_like(total)) + total
            self._weight[role] = self._weight.get(role, 0.0) + float((weights * asks).sum())

    def table(self) -> DistanceTable:
        """The bases."""
        slots = self._mass / torch.from_numpy(self._asked).clamp(min=1)
        sink = self._sink / torch.from_numpy(self._queries).clamp(min=1)
        return DistanceTable(self.window, slots.float(), sink.float())

    def mean(self) -> Float[Tensor, "head query_pos key_pos"]:
        """The mean pattern."""
        return self._pattern / self._reached.clamp(min=1)[:, None]

    def alphas(self) -> dict[Role, Float[Tensor, " head"]]:
        """Mean attention on the keys of each role; the least there is where no story has a query."""
        return {
            role: alpha_of(mass, torch.tensor(self._weight[role])) for role, mass in self._on_keys.items()
        }
