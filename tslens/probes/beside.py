"""Other ways to score the same rows, beside the value: descriptions, without nulls and intervals.

- ``most_attended`` (relations; Clark et al. 2019): share of queries whose most attended earlier word or mark, all its
  pieces together, is a target. Clark averages the attention of all pieces of a split query word; here its last piece
  is read. ``best_offset``, their baseline: the same of a head that always looks a fixed number of words and marks
  back, the number that scores highest over all stories. ``nearest``: the same of a head that always looks at the
  nearest unit that could stand for a target or is one. Where it is near 1, the text cannot tell the relation from "the
  nearest noun".
- ``value_weighted`` (Kobayashi et al. 2020): the value where each attention counts with the norm of what is written for
  it, ``pattern x |v W_O|``, summing to 1 over keys.
- ``next_noun`` (from determiners to topic nouns; Eldan and Li 2023): of the attention on topic nouns, the share on
  mentions of the noun that is the next word. ``next_noun_even``: the same of a head that pays every mention alike. Both
  are read only at queries with mentions of that noun and of another in the layer's sight: where there is a choice.
- ``without_sink``: the value where position 0 is left out and the rest sums to 1 again.

But for ``next_noun``, all queries are read, those at the most frequent offset too. Each score is a mean over a story's
queries, then over the stories that have one; where none has, the score is absent.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from tslens.model.story_model import StoryModel
from tslens.probes.batch import TokenBatch
from tslens.probes.pairs import StandIns, asked_at, distinct, pieces
from tslens.probes.plan import make_plan
from tslens.probes.relation import RelationProbe
from tslens.probes.strata import Texts
from tslens.probes.units import Asked
from tslens.types import HeadId, Position

Key = tuple[HeadId, str, Position]
Row = tuple[str, Position]
NO_ATTENTION = 1e-30  # what a mention counts at least, so that a head that pays none counts as even


@torch.inference_mode()
def score_beside(model: StoryModel, texts: Texts) -> dict[Key, Mapping[str, float]]:
    """The other scores of every head and row, on some stories."""
    totals = _Totals(model.cfg.n_layers, model.cfg.n_heads)
    relations = [probe for probe in texts.probes if isinstance(probe, RelationProbe)]
    kinds = {probe.name: probe.kinds() for probe in relations}
    for batch in texts.batches:
        plan = make_plan(batch, texts.probes, texts.calibration)
        with_all = {(m.probe, m.position) for m in plan.measures if m.kind == "all"}
        plan = plan.select(
            [
                m.kind == "all" or (m.kind == "value" and (m.probe, m.position) not in with_all)
                for m in plan.measures
            ]
        )
        rows: list[Row] = [(m.probe, m.position) for m in plan.measures]
        asked = {
            (probe.name, position): asked_at(probe.pairs(batch), batch, position)
            for probe in relations
            for position in probe.positions
        }
        parts = {
            (name, (probe.name, position)): asked_at(batch.relations[relation], batch, position)
            for probe in relations
            for position in probe.positions
            for name, relation in probe.parts.items()
        }
        for row, pairs in asked.items():
            nearest = _nearest(pairs, batch, row[1], kinds[row[0]])
            totals.add_fixed(row, by_offset=_by_offset(pairs, batch), nearest=nearest)
        prefix = model.prefix(plan.tokens.to(model.device))
        for layer in range(model.cfg.n_layers):
            pattern = prefix.pattern(layer).float()
            local = model.window(layer) is not None
            norm = _norms(prefix.values(layer), prefix.output(layer)).float()
            other = {
                "value_weighted": _sums_to_one(pattern * norm[:, :, None]),
                "without_sink": _sums_to_one(
                    pattern.index_fill(3, torch.tensor([0], device=pattern.device), 0.0)
                ),
            }
            for name, weighed in other.items():
                read = plan.read(weighed.cpu(), local=local).double().numpy()
                for column, row in enumerate(rows):
                    totals.add(name, row, layer, read[plan.present[:, column].numpy(), column])
            mass = _unit_mass(pattern, batch)
            for row, pairs in asked.items():
                totals.add("most_attended", row, layer, _most_attended(mass, pairs, batch))
            for (name, row), part in parts.items():
                shares = _on_part(pattern, part, asked[row], batch, model.window(layer))
                for ending, per_story in shares.items():
                    totals.add(name + ending, row, layer, per_story)
    return totals.means()


@dataclass
class _Totals:
    """Sums over stories by score, row and head."""

    n_layers: int
    n_heads: int
    sums: dict[tuple[str, Row], np.ndarray] = field(default_factory=dict)
    n: Counter[tuple[str, Row, int]] = field(default_factory=Counter)
    offsets: dict[Row, dict[int, float]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(float))
    )
    nearest: dict[Row, float] = field(default_factory=lambda: defaultdict(float))
    n_stories: Counter[Row] = field(default_factory=Counter)

    def add(self, name: str, row: Row, layer: int, per_story: Float[np.ndarray, "story head"]) -> None:
        """Stories of one batch, which have a query."""
        total = self.sums.setdefault((name, row), np.zeros((self.n_layers, self.n_heads)))
        total[layer] += per_story.sum(0)
        self.n[name, row, layer] += len(per_story)

    def add_fixed(
        self, row: Row, *, by_offset: Float[np.ndarray, " offset"], nearest: Float[np.ndarray, " story"]
    ) -> None:
        """What no pattern decides: of each offset the sum over stories, of the nearest unit each story's share."""
        for offset in np.flatnonzero(by_offset).tolist():
            self.offsets[row][offset] += float(by_offset[offset])
        self.nearest[row] += float(nearest.sum())
        self.n_stories[row] += len(nearest)

    def means(self) -> dict[Key, Mapping[str, float]]:
        """Every score of every head and row."""
        found: dict[Key, dict[str, float]] = defaultdict(dict)
        for (name, row), total in self.sums.items():
            for layer, head in np.ndindex(self.n_layers, self.n_heads):
                if (n := self.n[name, row, layer]) > 0:
                    found[HeadId(layer, head), *row][name] = float(total[layer, head] / n)
        for (_, probe, position), scores in found.items():
            if offsets := self.offsets.get((probe, position)):
                n_stories = self.n_stories[probe, position]
                scores["best_offset"] = max(offsets.values()) / n_stories
                scores["nearest"] = self.nearest[probe, position] / n_stories
        return dict(found)


def _per_story(
    row: Int[np.ndarray, " query"], values: Shaped[np.ndarray, "query *head"]
) -> Float[np.ndarray, "story *head"]:
    """Mean over the queries of each story that has one."""
    stories, of_story, n_queries = np.unique(row, return_inverse=True, return_counts=True)
    total = np.zeros((len(stories), *values.shape[1:]))
    np.add.at(total, of_story, values)
    return (total.T / n_queries).T


def _by_offset(pairs: Asked, batch: TokenBatch) -> Float[np.ndarray, " offset"]:
    """At each offset in units, the share of a story's queries that have a target there, summed over the stories."""
    size, n_units = batch.tokens.shape[1], batch.units.kind.shape[1]
    query = pairs.row * size + pairs.query
    n_queries = np.bincount(distinct(query) // size)
    code = distinct(query * n_units + pairs.asker - pairs.unit)
    return np.bincount(code % n_units, weights=1.0 / n_queries[code // n_units // size])


def _nearest(
    pairs: Asked, batch: TokenBatch, position: Position, kinds: StandIns
) -> Float[np.ndarray, " story"]:
    """Share of a story's queries of which the nearest unit that is a target or may stand for one is a target."""
    every, kind = batch.units.asked(batch.units.lag(position) > 0, position), batch.units.kind
    size, n_units = batch.tokens.shape[1], kind.shape[1]
    code = np.unique(pairs.row * size + pairs.query)
    wanted = np.zeros((len(kind), size, n_units), dtype=bool)
    wanted[pairs.row, pairs.query, pairs.unit] = True
    classes = np.zeros((len(kind), size, int(kinds.wanted.max()) + 2), dtype=bool)  # -1 is the last
    classes[pairs.row, pairs.query, kinds.wanted[kind[pairs.row, pairs.unit]]] = True
    is_target = wanted[every.row, every.query, every.unit]
    group = kinds.of[kind[every.row, every.unit]]
    like = (group >= 0) & classes[every.row, every.query, group]
    near = every.select(is_target | like)
    hit = is_target[is_target | like]
    order = np.lexsort((near.distance, near.row * size + near.query))
    at_query, first = np.unique((near.row * size + near.query)[order], return_index=True)
    asking = np.isin(at_query, code)
    return _per_story(at_query[asking] // size, hit[order][first][asking])


def _norms(
    values: Float[Tensor, "row head key_pos d_head"], output: Float[Tensor, "head d_head d_model"]
) -> Float[Tensor, "row head key_pos"]:
    """Norm of what each key would write to the residual stream."""
    gram = output @ output.mT
    return torch.einsum("rhke,hef,rhkf->rhk", values, gram, values).clamp(min=0).sqrt()


def _sums_to_one(weights: Float[Tensor, "*row key"]) -> Float[Tensor, "*row key"]:
    return weights / weights.sum(-1, keepdim=True).clamp(min=1e-12)


def _unit_mass(pattern: Float[Tensor, "row head query_pos key_pos"], batch: TokenBatch) -> np.ndarray:
    """[row head query_pos unit] attention to all pieces of each unit; 0 where padding."""
    total = torch.nn.functional.pad(pattern.cpu().cumsum(-1), (1, 0)).numpy()
    first, last = batch.units.first, batch.units.last
    row = np.arange(len(first))[:, None]
    mass: np.ndarray = np.moveaxis(total[row, :, :, last + 1] - total[row, :, :, np.maximum(first, 0)], 1, 3)
    mass[np.broadcast_to((batch.units.kind < 0)[:, None, None], mass.shape)] = 0.0
    return mass


def _most_attended(mass: np.ndarray, pairs: Asked, batch: TokenBatch) -> Float[np.ndarray, "story head"]:
    """Of each story with a query, the share of queries whose most attended earlier unit is a target."""
    if not len(pairs.row):
        return np.zeros((0, mass.shape[1]))
    size = batch.tokens.shape[1]
    code, at = np.unique(pairs.row * size + pairs.query, return_inverse=True)
    row, query = code // size, code % size
    is_target: Bool[np.ndarray, "query unit"] = np.zeros((len(code), mass.shape[3]), dtype=bool)
    is_target[at, pairs.unit] = True
    earlier = (batch.units.last[row] < query[:, None]) & (batch.units.kind[row] >= 0)
    of_query = np.where(earlier[:, None], mass[row, :, query], -1.0)  # [query head unit]
    hit = np.take_along_axis(is_target[:, None], of_query.argmax(-1)[:, :, None], axis=2)[:, :, 0]
    return _per_story(row, hit)


def _on_part(
    pattern: Float[Tensor, "row head query_pos key_pos"],
    part: Asked,
    whole: Asked,
    batch: TokenBatch,
    window: int | None,
) -> dict[str, Float[np.ndarray, "story head"]]:
    """Of the attention on all pairs of a query, the share on a part of them, by the ending of the score's name.

    ``_even``: the share of pairs. Only queries that see pairs of the part and others; stories that have one.
    """
    if window is not None:
        part, whole = (pairs.select(pairs.distance < window) for pairs in (part, whole))
    n_rows, n_heads, size, _ = pattern.shape
    n_part, n_whole = (
        np.bincount(pairs.row * size + pairs.query, minlength=n_rows * size) for pairs in (part, whole)
    )
    chosen = np.flatnonzero((n_part > 0) & (n_part < n_whole))

    def attention(pairs: Asked, n_pairs: Int[np.ndarray, " place"]) -> Float[np.ndarray, "query head"]:
        row, query, key, _ = (torch.from_numpy(array) for array in pieces(pairs, batch))
        total = np.zeros((n_rows * size, n_heads))
        np.add.at(total, (row * size + query).numpy(), pattern[row, :, query, key].cpu().numpy())
        return total[chosen] + NO_ATTENTION * n_pairs[chosen, None]

    shares = attention(part, n_part) / attention(whole, n_whole)
    even = np.broadcast_to((n_part[chosen] / n_whole[chosen])[:, None], shares.shape)
    return {"": _per_story(chosen // size, shares), "_even": _per_story(chosen // size, even)}
