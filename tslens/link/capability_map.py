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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import spearmanr

from tslens.causal.replacement import Replacement
from tslens.errors import UsageError
from tslens.link.drops import Drop, drops_of
from tslens.link.groups import Group
from tslens.link.map_reading import MapRun, Taken
from tslens.link.map_report import MapRow
from tslens.link.map_status import DECIDES, OTHER_METHODS, status_of, with_statuses
from tslens.link.measure import ReadoutScore, read_readouts
from tslens.link.pairs import Readout
from tslens.link.random_sets import Expected, Rung, expected_of, random_rungs
from tslens.link.story_costs import CostStories
from tslens.model.story_model import StoryModel
from tslens.types import HeadId

N_OTHERS = 10  # random components beside those that pass, ablated in all ways
LEAST_RANKED = 4  # components, for a rank correlation


@dataclass(frozen=True)
class WaysAgree:
    """Spearman's rank correlation of two ways of ablating over heads and MLPs, on the loss or on a readout.

    None where all are alike.
    """

    methods: tuple[Replacement, Replacement]
    measure: str
    spearman: float | None
    n_components: int


@dataclass(frozen=True)
class RandomRate:
    """Random sets held against those of the other draws. ``n``: sets times readouts; ``n_more``: that would count."""

    n: int
    n_more: int


@dataclass(frozen=True)
class ReadoutMap:
    """``scores``: of all readouts. ``rows``: of those passed. ``agreement``: over the components of step 3.

    ``random``: how often random sets pass for more than random.
    """

    scores: tuple[ReadoutScore, ...]
    rows: tuple[MapRow, ...]
    agreement: tuple[WaysAgree, ...]
    random: RandomRate


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
    asked = {one.readout for one in scores if one.is_asked}
    passed = [one for one in readouts if one.name in asked]
    if not passed:
        return ReadoutMap(scores, (), (), RandomRate(0, 0))
    rungs = random_rungs(model, seed=seed) if rungs is None else rungs
    run = MapRun(model, passed, stories, seed, progress)
    sets = [group.draws[0] for group in groups]
    first = run.read([*sets, *(rung.components for rung in rungs)], DECIDES)
    rows = _decide(run, first, groups, rungs, model, seed)
    chosen = _chosen(groups, rows, seed)
    again = [group for group in groups if group.name in chosen]
    others = {method: run.read([group.draws[0] for group in again], method) for method in OTHER_METHODS}
    rate = _rate_of_random(run, first.at(range(len(groups), len(groups) + len(rungs))), rungs, model, seed)
    more = [row for method, read in others.items() for row in _plain_rows(run, read, again, method, seed)]
    single = [i for i, group in enumerate(again) if _is_single(group)]
    ways = {DECIDES: first.at([groups.index(one) for one in again]), **others}
    agreement = _agreement({method: read.at(single) for method, read in ways.items()}, passed)
    return ReadoutMap(scores, tuple(with_statuses([*rows, *more])), agreement, rate)


# Deciding -------------------------------------------------------------------------------------------------


def _decide(
    run: MapRun,
    read: Taken,
    groups: Sequence[Group],
    rungs: Sequence[Rung],
    model: StoryModel,
    seed: int,
) -> list[MapRow]:
    """Rows by the mean, without status."""
    n = len(groups)
    nulls = [
        expected_of(rungs, read.costs[n:], group.draws[0], read.costs[i], model)
        for i, group in enumerate(groups)
    ]
    own = [of_one[:, :n] for of_one in read.drops]
    taken = [of_one[:, n:] for of_one in read.drops]
    beside = [_expected(of_one, nulls) for of_one in taken]
    drops = drops_of(run.tables(own), seed=seed)
    beyond = drops_of(run.tables([one - other for one, other in zip(own, beside, strict=True)]), seed=seed)
    rows = []
    for r in range(len(run.readouts)):
        for i, group in enumerate(groups):
            drop, null = drops[r][i], nulls[i]
            if drop is not None:
                reach = None if null is None else null.reach(taken[r])
                rows.append(_row(run, r, group, read.costs[i], DECIDES, drop, beyond[r][i], reach))
    return rows


def _expected(
    taken: Float[np.ndarray, "item rung"], nulls: Sequence[Expected | None]
) -> Float[np.ndarray, "item column"]:
    """What random sets take of each item at the cost of each component, NaN where none reach."""
    return np.stack([np.full(len(taken), np.nan) if null is None else null.of(taken) for null in nulls], 1)


def _rate_of_random(
    run: MapRun, read: Taken, rungs: Sequence[Rung], model: StoryModel, seed: int
) -> RandomRate:
    """How often a random set itself takes more than the other draws' sets of like cost, by the same rule."""
    nulls = [
        expected_of(rungs, read.costs, (), read.costs[i], model, without=rung.draw)
        for i, rung in enumerate(rungs)
    ]
    beside = [_expected(of_one, nulls) for of_one in read.drops]
    drops = drops_of(run.tables(read.drops), seed=seed)
    beyond = drops_of(
        run.tables([one - other for one, other in zip(read.drops, beside, strict=True)]), seed=seed
    )
    n_read = n_more = 0
    for r, of_readout in enumerate(read.drops):
        for i, rung in enumerate(rungs):
            drop, null = drops[r][i], nulls[i]
            if drop is None or null is None:
                continue
            group = Group(rung.name, "share", (rung.components,))
            reach = null.reach(of_readout)
            row = _row(run, r, group, read.costs[i], DECIDES, drop, beyond[r][i], reach)
            n_read += 1
            n_more += status_of(row, None) == "candidate"
    return RandomRate(n_read, n_more)


def _plain_rows(
    run: MapRun, read: Taken, groups: Sequence[Group], method: Replacement, seed: int
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
    run: MapRun,
    r: int,
    group: Group,
    cost: float,
    method: Replacement,
    drop: Drop,
    beyond: Drop | None,
    reach: float | None,
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
        expected=None if beyond is None else drop.value - beyond.value,
        beyond=beyond,
        reach=reach,
        status=None,
    )


def _chosen(groups: Sequence[Group], rows: Sequence[MapRow], seed: int) -> set[str]:
    """Names of the groups that take something for sure, and of ten random others."""
    passing = {row.component for row in rows if row.drop.low_corrected > 0}
    rest = [group.name for group in groups if group.name not in passing]
    drawn = np.random.default_rng([seed, 0x0E4]).permutation(len(rest))[:N_OTHERS]
    return passing | {rest[i] for i in drawn.tolist()}


def _is_single(group: Group) -> bool:
    """Whether it is a head or an MLP: no part of another."""
    (component, *rest) = group.draws[0]
    return not rest and (isinstance(component, HeadId) or getattr(component, "part", None) == "mlp")


def _agreement(by_method: Mapping[Replacement, Taken], readouts: Sequence[Readout]) -> tuple[WaysAgree, ...]:
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
        found += [WaysAgree((one, other), name, _spearman(x, y), n_components) for name, x, y in pairs]
    return tuple(found)


def _spearman(x: Float[np.ndarray, " component"], y: Float[np.ndarray, " component"]) -> float | None:
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(spearmanr(x, y).statistic)
