"""Reading programs on the other half of the stories: how like they are to the heads, story by story.

Of each head are read: the uniform pattern, the bases, every role as a program of one step, the composed program, and
where there is one the predictor from token identities and distance (``probes.basis``), as a ceiling. Nulls of the
intersection over union: ``uniform``; ``base``, what the program begins with; ``shifted``, the same program after the
labels of its roles are moved around their story (not of roles of distance, which moving leaves as they are); ``other``,
for composed programs, that of the next head of the layer.

Of each story up to 64 queries are read, drawn by lot: stories are what is resampled.

Axes: query (of a text, rows one after the other), head, key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tslens.model.attention import Scratch
from tslens.model.story_model import StoryModel
from tslens.probes.basis import TokenPredictor
from tslens.probes.programs.fit import LayerFit
from tslens.probes.programs.likeness import Likeness, intersection_over_union
from tslens.probes.programs.pattern import Base, Canvas, with_step
from tslens.probes.programs.roles import Role, RoleText

BASES: tuple[Base, ...] = ("uniform", "even", "profile")
COMPOSED, TOKENS = "composed", "tokens"
MOST_QUERIES = 64  # of each story
MEASURES = tuple(field.name for field in fields(Likeness))


class NullOf(NamedTuple):
    """A null of a program, by their names."""

    program: str
    null: str


@dataclass(frozen=True, eq=False)
class Readings:
    """Means over the queries of each story that are read, position 0 never among them.

    ``cluster``: 64-bit keys of the stories. ``likeness``: per program, measures as in ``MEASURES``, heads of all
    layers.
    ``nulls``: intersection over union of each null; NaN for heads that have none.
    """

    cluster: tuple[int, ...]
    likeness: Mapping[str, Float[np.ndarray, "measure story head"]]
    nulls: Mapping[NullOf, Float[np.ndarray, "story head"]]


@torch.no_grad()
def read_programs(
    model: StoryModel,
    texts: Sequence[RoleText],
    fits: Sequence[LayerFit],
    predictor: TokenPredictor | None,
    *,
    singles: bool = True,
    progress: Callable[[int], None] = lambda n_stories: None,
) -> Readings:
    """How like every program is to its head.

    ``predictor``: of all heads in order. ``singles``: programs of one step too. ``progress`` is called with the stories
    done.
    """
    scratch, n_done = Scratch(), 0
    likeness: dict[str, list[Tensor]] = {}
    nulls: dict[NullOf, list[Tensor]] = {}
    for text in texts:
        queries = text.drawn(MOST_QUERIES)
        predicted = None if predictor is None else predictor.pattern(text.tokens)
        layers = []
        for fit, pattern in zip(
            fits, model.attention_patterns(text.tokens.to(model.device), scratch), strict=True
        ):
            read = _LayerReading(text, fit, queries, pattern)
            if singles:
                read.singles()
            read.composed()
            if predicted is not None:
                read.add(TOKENS, rows_of(predicted[fit.layer], queries))
            layers.append(read)
        for name in layers[0].likeness:
            likeness.setdefault(name, []).append(torch.cat([one.likeness[name] for one in layers], -1))
        for key in layers[0].nulls:
            nulls.setdefault(key, []).append(torch.cat([one.nulls[key] for one in layers], -1))
        n_done += len(text.batch.length)
        progress(n_done)
    return Readings(
        cluster=tuple(key for text in texts for key in text.batch.cluster),
        likeness={name: torch.cat(parts, 1).double().numpy() for name, parts in likeness.items()},
        nulls={key: torch.cat(parts).double().numpy() for key, parts in nulls.items()},
    )


def rows_of(
    pattern: Float[Tensor, "row head query_pos key_pos"], queries: Int[Tensor, " query"]
) -> Float[Tensor, "query head key"]:
    """Some rows of a pattern, copied."""
    n_pos = pattern.shape[-1]
    place = queries.to(pattern.device)
    return pattern[place // n_pos, :, place % n_pos].float().cpu()


class _LayerReading:
    """All programs of one layer on one text."""

    def __init__(
        self,
        text: RoleText,
        fit: LayerFit,
        queries: Int[Tensor, " query"],
        pattern: Float[Tensor, "row head query_pos key_pos"],
    ) -> None:
        self.fit, self.rows = fit, rows_of(pattern, queries)
        self.canvas = Canvas(text, fit.table, queries)
        self.likeness: dict[str, Float[Tensor, "measure story head"]] = {}
        self.nulls: dict[NullOf, Float[Tensor, "story head"]] = {}
        self._of_base: dict[str, Likeness] = {}
        self._story = queries // text.n_pos
        self._n_queries = torch.bincount(self._story, minlength=len(text.batch.length))
        for base in BASES:
            self._of_base[base] = self.add(base, self.canvas.base_rows(base))
        for base in ("even", "profile"):
            self.nulls[NullOf(base, "uniform")] = self._mean(self._of_base["uniform"].iou)

    def _mean(self, values: Float[Tensor, "query head"]) -> Float[Tensor, "story head"]:
        sums = values.new_zeros(len(self._n_queries), values.shape[1]).index_add_(0, self._story, values)
        return sums / self._n_queries.clamp(min=1)[:, None]

    def _keep(self, name: str, found: Likeness) -> None:
        self.likeness[name] = torch.stack([self._mean(getattr(found, measure)) for measure in MEASURES])

    def add(self, name: str, rows: Float[Tensor, "query head key"]) -> Likeness:
        """A program of every head by its rows."""
        found = Likeness.of(self.rows, rows)
        self._keep(name, found)
        return found

    def singles(self) -> None:
        """Each role as one step; only queries with keys are computed anew."""
        for role, alpha in self.fit.alphas.items():
            name = str(role)
            base = self.fit.base_of(role)
            below = self._of_base[base]
            asked, rows = self._step(role, base, alpha, moved=False)
            found = Likeness.of(self.rows[asked], rows)
            whole = Likeness(*(getattr(below, measure).clone() for measure in MEASURES))
            for measure in MEASURES:
                getattr(whole, measure)[asked] = getattr(found, measure)
            self._keep(name, whole)
            self.nulls[NullOf(name, "uniform")] = self._mean(self._of_base["uniform"].iou)
            self.nulls[NullOf(name, "base")] = self._mean(below.iou)
            if role not in self.fit.positional:
                iou = below.iou.clone()
                asked, rows = self._step(role, base, alpha, moved=True)
                iou[asked] = intersection_over_union(self.rows[asked], rows)
                self.nulls[NullOf(name, "shifted")] = self._mean(iou)

    def _step(
        self, role: Role, base: Base, alpha: Float[Tensor, " head"], *, moved: bool
    ) -> tuple[Tensor, Tensor]:
        """Queries that have keys of a role, and what its program gives there."""
        keys = self.canvas.keys(role, moved=moved)
        asked = keys.any(1).nonzero()[:, 0]
        below = self.canvas.base(base)[self.canvas.pos[asked]]
        return asked, with_step(below, keys[asked], alpha)

    def composed(self) -> None:
        """The composed program of each head, and its nulls."""
        programs = self.fit.composed
        rows = torch.stack([self.canvas.rows(program, head) for head, program in enumerate(programs)], 1)
        self.add(COMPOSED, rows)
        iou = {
            "uniform": self._of_base["uniform"].iou,
            "base": torch.full_like(rows[..., 0], torch.nan),
            "shifted": torch.full_like(rows[..., 0], torch.nan),
            "other": torch.full_like(rows[..., 0], torch.nan),
        }
        if len(programs) > 1:
            iou["other"] = intersection_over_union(self.rows, rows.roll(1, 1))
        for head, program in enumerate(programs):
            if program.steps:
                iou["base"][:, head] = self._of_base["profile"].iou[:, head]
            moving = frozenset(step.role for step in program.steps) - self.fit.positional
            if moving:
                moved = self.canvas.rows(program, head, moved=moving)
                iou["shifted"][:, head] = intersection_over_union(self.rows[:, head], moved)
        for null, values in iou.items():
            self.nulls[NullOf(COMPOSED, null)] = self._mean(values)
