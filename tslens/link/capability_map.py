"""The map by readouts: what every component takes from every readout that a model passes.

1. The model reads all readouts; only those that it passes (``measure``) are asked further.
2. Every component, and random sets beside them (``random_sets``), is ablated by its mean at the position: loss on
   stories, and the difference of every pair of every readout. A drop is the untouched model's difference minus that
   under the ablation, a mean over items; intervals and ``p`` are corrected for all components and readouts at once.
3. Components whose drop is above zero for sure and ten random others are ablated by zero and by resampling too.
4. ``map_status`` says what it comes to.

Axes: item, column (component), pair, rung.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import spearmanr

from tslens.causal.ablation import Component
from tslens.causal.ablator import Ablator, Intervention
from tslens.causal.replacement import Replacement
from tslens.errors import UsageError
from tslens.link.batches import ReadoutBatch, pack
from tslens.link.drops import Drop, ItemTable, drops_of
from tslens.link.effects import METHODS
from tslens.link.groups import Group
from tslens.link.map_report import MapRow
from tslens.link.map_status import status_of
from tslens.link.measure import ReadoutScore, differences_of, read_readouts
from tslens.link.pairs import Readout
from tslens.link.random_sets import Rung, expected_of, random_rungs
from tslens.link.story_costs import CostStories
from tslens.model.story_model import StoryModel

N_OTHERS = 10  # random components beside those that pass, ablated in all ways
DECIDES: Replacement = "mean"
OTHER_METHODS: tuple[Replacement, ...] = tuple(one for one in METHODS if one != DECIDES)
LEAST_RANKED = 4  # components, for a rank correlation


@dataclass(frozen=True)
class WaysAgree:
    """Spearman's rank correlation of two ways of ablating over components, on the loss or on a readout."""

    methods: tuple[Replacement, Replacement]
    measure: str
    spearman: float
    n_components: int


@dataclass(frozen=True)
class ReadoutMap:
    """``scores``: of all readouts. ``rows``: of those passed. ``agreement``: over the components of step 3.

    ``loss_nats``: of the untouched model, mean over a story's tokens, then over stories; None where nothing is passed.
    """

    scores: tuple[ReadoutScore, ...]
    rows: tuple[MapRow, ...]
    agreement: tuple[WaysAgree, ...]
    loss_nats: float | None


@torch.inference_mode()
def map_readouts(
    model: StoryModel,
    readouts: Sequence[Readout],
    stories: CostStories,
    groups: Sequence[Group],
    *,
    seed: int,
    rungs: Sequence[Rung] | None = None,
    progress: Callable[[str, int, int], None] = lambda step, n_done, n_in_all: None,
) -> ReadoutMap:
    """What every group takes from the readouts that a model passes.

    ``groups``: of one draw each (``link.groups``). ``seed``: of random sets, resampling and bootstrap. ``rungs``:
    random sets, by default ``random_rungs``. ``progress``: the step, parts done, parts in all.
    Raises UsageError where there is nothing to ablate, or a group has several draws.
    """
    if not groups or any(len(group.draws) != 1 for group in groups):
        raise UsageError("There is nothing to map.", "Give groups of one draw each.")
    scores = tuple(read_readouts(model, readouts, seed=seed))
    asked = {one.readout for one in scores if one.passes and one.difference > 0}
    passed = [one for one in readouts if one.name in asked]
    if not passed:
        return ReadoutMap(scores, (), (), None)
    rungs = random_rungs(model, seed=seed) if rungs is None else rungs
    run = _Run(model, passed, stories, seed, progress)
    sets = [group.draws[0] for group in groups]
    first = run.read([*sets, *(rung.components for rung in rungs)], DECIDES)
    rows = _decide(run, first, groups, rungs, model, seed)
    chosen = _chosen(groups, rows, seed)
    again = [group for group in groups if group.name in chosen]
    others = {method: run.read([group.draws[0] for group in again], method) for method in OTHER_METHODS}
    more = [row for method, read in others.items() for row in _plain_rows(run, read, again, method, seed)]
    agreement = _agreement({DECIDES: first.at([groups.index(one) for one in again]), **others}, passed)
    return ReadoutMap(scores, tuple(_with_status(rows, more)), agreement, run.loss_nats)


# Reading --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Read:
    """What sets of components cost and take. ``drops``: of each readout, of every item."""

    costs: list[float]
    drops: list[Float[np.ndarray, "item column"]]

    def at(self, columns: Sequence[int]) -> _Read:
        """Some of the sets."""
        return _Read([self.costs[i] for i in columns], [of_one[:, list(columns)] for of_one in self.drops])


class _Run:
    """A model, its readouts and its stories."""

    def __init__(
        self,
        model: StoryModel,
        readouts: Sequence[Readout],
        stories: CostStories,
        seed: int,
        progress: Callable[[str, int, int], None],
    ) -> None:
        self.readouts, self.stories, self.seed, self.progress = readouts, stories, seed, progress
        self.ablator = Ablator(model, stories.means)
        self.batches = pack(readouts, seed=seed)
        self.whole: list[float] = []  # difference of the untouched model
        self.loss_nats = float("nan")  # and its loss on the stories

    def read(self, sets: Sequence[tuple[Component, ...]], method: Replacement) -> _Read:
        """Costs and drops of sets of components by one way."""
        interventions = [Intervention(components, method) for components in sets]
        n_parts, n_stories = len(self.batches), self.stories.n_stories
        step = f"{len(sets)} sets by {method}"

        def read_stories(n_done: int) -> None:
            self.progress(step, n_done, n_stories + n_parts)

        costs = self.stories.costs(self.ablator, interventions, seed=self.seed, progress=read_stories)
        self.loss_nats = float(costs.clean.mean())
        done = [n_stories]

        def losses_of(batch: ReadoutBatch) -> Float[np.ndarray, "variant position"]:
            losses = self.ablator.losses_of(batch, interventions)
            done[0] += 1
            self.progress(step, done[0], n_stories + n_parts)
            return np.concatenate([losses.clean[None], losses.under])

        by_item = [
            readout.by_item(of_pairs)
            for readout, of_pairs in zip(
                self.readouts, differences_of(self.readouts, self.batches, losses_of), strict=True
            )
        ]
        self.whole = [float(of_one[0].mean()) for of_one in by_item]
        return _Read(costs.mean, [(of_one[0] - of_one[1:]).T for of_one in by_item])

    def tables(self, drops: Sequence[Float[np.ndarray, "item column"]]) -> list[ItemTable]:
        """The items of each readout with their clusters."""
        return [
            ItemTable([item[0].cluster for item in readout.items], of_one)
            for readout, of_one in zip(self.readouts, drops, strict=True)
        ]


# Deciding -------------------------------------------------------------------------------------------------


def _decide(
    run: _Run,
    read: _Read,
    groups: Sequence[Group],
    rungs: Sequence[Rung],
    model: StoryModel,
    seed: int,
) -> list[MapRow]:
    """Rows by the mean, without status."""
    n = len(groups)
    weights = [
        expected_of(rungs, read.costs[n:], group.draws[0], read.costs[i], model)
        for i, group in enumerate(groups)
    ]
    expected = [
        np.stack(
            [np.full(len(of_one), np.nan) if w is None else of_one[:, n:] @ w for w in weights],
            1,
        )
        for of_one in read.drops
    ]
    own = [of_one[:, :n] for of_one in read.drops]
    drops = drops_of(run.tables(own), seed=seed)
    beyond = drops_of(run.tables([one - other for one, other in zip(own, expected, strict=True)]), seed=seed)
    rows = []
    for r in range(len(run.readouts)):
        for i, group in enumerate(groups):
            drop = drops[r][i]
            if drop is None:
                continue
            mean = None if weights[i] is None else float(expected[r][:, i].mean())
            rows.append(_row(run, r, group, read.costs[i], DECIDES, drop, mean, beyond[r][i]))
    return rows


def _plain_rows(
    run: _Run, read: _Read, groups: Sequence[Group], method: Replacement, seed: int
) -> list[MapRow]:
    """Rows by another way: what is lost, beside nothing."""
    drops = drops_of(run.tables(read.drops), seed=seed)
    return [
        _row(run, r, group, read.costs[i], method, drop, None, None)
        for r in range(len(run.readouts))
        for i, group in enumerate(groups)
        if (drop := drops[r][i]) is not None
    ]


def _row(
    run: _Run,
    r: int,
    group: Group,
    cost: float,
    method: Replacement,
    drop: Drop,
    expected: float | None,
    beyond: Drop | None,
) -> MapRow:
    readout = run.readouts[r]
    return MapRow(
        component=group.name,
        n_components=group.n_components,
        delta_loss_nats=cost,
        evidence="readout",
        measure=readout.name,
        capability=readout.capability,
        method=method,
        drop=drop,
        whole=run.whole[r],
        expected=expected,
        beyond=beyond,
        status=None,
    )


def _chosen(groups: Sequence[Group], rows: Sequence[MapRow], seed: int) -> set[str]:
    """Names of the groups that take something for sure, and of ten random others."""
    passing = {row.component for row in rows if row.drop.low_corrected > 0}
    rest = [group.name for group in groups if group.name not in passing]
    drawn = np.random.default_rng([seed, 0x0E4]).permutation(len(rest))[:N_OTHERS]
    return passing | {rest[i] for i in drawn.tolist()}


def _with_status(rows: Sequence[MapRow], more: Sequence[MapRow]) -> list[MapRow]:
    """All rows, those by the mean with their status."""
    other = {(row.component, row.measure, row.method): row.drop for row in more}
    found = []
    for row in rows:
        ways = [other.get((row.component, row.measure, method)) for method in OTHER_METHODS]
        read = tuple(way for way in ways if way is not None)
        beyond = None if row.beyond is None else row.beyond.scaled(1 / row.whole)
        others = read if len(read) == len(ways) else None
        found.append(replace(row, status=status_of(row.share, beyond, others, "readout")))
    return [*found, *more]


def _agreement(by_method: dict[Replacement, _Read], readouts: Sequence[Readout]) -> tuple[WaysAgree, ...]:
    """Rank correlations of the ways over the same components, on the loss and on each readout."""
    n_components = len(next(iter(by_method.values())).costs)
    if n_components < LEAST_RANKED:
        return ()
    found = []
    for one, other in combinations(by_method, 2):
        a, b = by_method[one], by_method[other]
        pairs = [("loss", np.array(a.costs), np.array(b.costs))]
        pairs += [
            (readout.name, a.drops[r].mean(0), b.drops[r].mean(0)) for r, readout in enumerate(readouts)
        ]
        found += [
            WaysAgree((one, other), name, float(spearmanr(x, y).statistic), n_components)
            for name, x, y in pairs
        ]
    return tuple(found)
