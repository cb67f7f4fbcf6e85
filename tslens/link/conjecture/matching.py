"""Do distance heads carry grammar and semantic heads consistency? Two groups of heads, matched by loss, read alike.

1. Heads of a model are split by their kind (``probes.kinds``): distance and semantic (``groups_of``).
2. Each group is ablated by its mean. The group that costs more loss goes only a share of the way there, such that both
   cost the same (``find_shares``).
3. What each takes of readouts that the model passes (``Readings``) becomes the interaction (``figures``).
4. The same with the labels of the included heads drawn anew (``permute_labels``), all at one cost.

What counts, and the numbers, were written before anything was run (``docs/methods.md``, The authors' conjecture).

Axes: item (of a readout), group, intervention.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float

from tslens.causal.ablator import Ablator, Intervention
from tslens.link.batches import ReadoutBatch, pack
from tslens.link.conjecture.figures import (
    OF_CONJECTURE,
    Measure,
    Permutation,
    contrast_values,
)
from tslens.link.conjecture.labels import Heads, Labelling
from tslens.link.measure import ReadoutScore, differences_of
from tslens.link.pairs import Item, Readout
from tslens.link.story_costs import CostStories

LEAST_COST = 0.01  # nats per token, of a group ablated whole: below it there is nothing to match
TOLERANCE = 0.02  # of the cost that is sought
MOST_STEPS = 20

Costs = Callable[[Sequence[Intervention]], Sequence[float]]
"""What interventions cost in loss, nats per token."""


def costs_on(stories: CostStories, ablator: Ablator) -> Costs:
    """Costs on stories, by the means of an ablator."""
    return lambda interventions: stories.costs(ablator, interventions, seed=0).mean


def intervention(heads: Heads, share: float = 1.0) -> Intervention:
    """Heads that go a share of the way to their mean."""
    return Intervention(heads, "mean", share)


# Matching ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Matched:
    """Distance and semantic heads at the same cost.

    ``whole``: cost of each group ablated whole; ``shares``: how far each goes; ``costs``: then. Nats per token.
    """

    whole: tuple[float, float]
    shares: tuple[float, float]
    costs: tuple[float, float]

    def interventions(self, labelling: Labelling) -> list[Intervention]:
        """Of the distance heads and of the semantic ones."""
        return [intervention(heads, share) for heads, share in zip(labelling, self.shares, strict=True)]


def match_groups(costs_of: Costs, labelling: Labelling) -> Matched | str:
    """The share of the dearer group at which both cost the same; or why there is none."""
    first, second = costs_of([intervention(heads) for heads in labelling])
    cheaper = min(first, second)
    if cheaper < LEAST_COST:
        return f"a group costs {cheaper:.4f} nats, below {LEAST_COST}: there is nothing to match"
    distance, semantic = find_shares(costs_of, list(labelling), [first, second], cheaper)
    if distance is None or semantic is None:
        return f"no share of the dearer group costs {cheaper:.4f} nats within {TOLERANCE:.0%}"
    return Matched((first, second), *zip(distance, semantic, strict=True))


def find_shares(
    costs_of: Costs, groups: Sequence[Heads], whole: Sequence[float], target: float
) -> list[tuple[float, float] | None]:
    """Share of each group at which it costs ``target``, and its cost there; None where none is found.

    ``whole``: what each costs whole. Regula falsi (Illinois) on the square of the share, all groups at once.
    """
    found: list[tuple[float, float] | None] = [
        (1.0, cost) if abs(cost - target) <= TOLERANCE * target else None for cost in whole
    ]
    sought = {
        i: _Bracket(target, cost - target)
        for i, cost in enumerate(whole)
        if found[i] is None and cost > target
    }
    for _ in range(MOST_STEPS):
        if not sought:
            break
        shares = {i: bracket.next_share() for i, bracket in sought.items()}
        costs = costs_of([intervention(groups[i], share) for i, share in shares.items()])
        for (i, share), cost in zip(shares.items(), costs, strict=True):
            if abs(cost - target) <= TOLERANCE * target:
                found[i] = (share, cost)
                del sought[i]
            else:
                sought[i].take(share, cost)
    return found


class _Bracket:
    """Squares of two shares, one that costs too little and one that costs too much."""

    def __init__(self, target: float, above: float) -> None:
        self._target = target
        self._low, self._high = 0.0, 1.0
        self._below, self._above = -target, above  # a group that does not move costs nothing
        self._last: str | None = None

    def next_share(self) -> float:
        """Where the line between the two ends costs what is sought."""
        square = (self._low * self._above - self._high * self._below) / (self._above - self._below)
        return float(square**0.5)

    def take(self, share: float, cost: float) -> None:
        """Move an end; an end that stays twice counts half, so that neither stays for good."""
        side = "low" if cost < self._target else "high"
        if side == "low":
            self._low, self._below = share**2, cost - self._target
            self._above /= 2 if self._last == side else 1
        else:
            self._high, self._above = share**2, cost - self._target
            self._below /= 2 if self._last == side else 1
        self._last = side


# Readouts ---------------------------------------------------------------------------------------------------


def counted(readouts: Sequence[Readout], scores: Sequence[ReadoutScore]) -> list[Readout]:
    """Readouts of grammar and consistency that a model passes, by more than random models do.

    ``scores``: of the untouched model on all its readouts.
    """
    passed = {one.readout for one in scores if one.is_asked}
    return [one for one in readouts if one.name in passed and one.capability in OF_CONJECTURE]


def first_pairs(readout: Readout, n_pairs: int) -> Readout:
    """The readout with the items of its first pairs, up to ``n_pairs``."""
    taken: list[Item] = []
    n_taken = 0
    for item in readout.items:
        if n_taken + len(item) > n_pairs:
            break
        taken.append(item)
        n_taken += len(item)
    return replace(readout, items=tuple(taken))


class Readings:
    """Readouts, packed, that a model reads under interventions."""

    def __init__(self, ablator: Ablator, readouts: Sequence[Readout]) -> None:
        self.ablator, self.readouts = ablator, readouts
        self._batches = pack(readouts, seed=0)

    @torch.inference_mode()
    def measures(self, interventions: Sequence[Intervention]) -> list[Measure]:
        """Of each readout what each intervention takes, item by item, and what there is."""

        def losses_of(batch: ReadoutBatch) -> Float[np.ndarray, "variant position"]:
            losses = self.ablator.losses_of(batch, interventions)
            return np.concatenate([losses.clean[None], losses.under])

        differences = differences_of(self.readouts, self._batches, losses_of)
        found = []
        for readout, of_pairs in zip(self.readouts, differences, strict=True):
            by_item = readout.by_item(of_pairs)
            clusters = [item[0].cluster for item in readout.items]
            taken = by_item[0] - by_item[1:]
            found.append(Measure(readout.name, readout.capability, clusters, taken, by_item[0]))
        return found


# Permutation ------------------------------------------------------------------------------------------------


def permute_labels(
    readings: Readings,
    costs_of: Costs,
    labellings: Sequence[Labelling],
    whole: Sequence[float],
    n_possible: int,
) -> Permutation | str:
    """The interaction of labellings, the one that was found first, all matched at one cost; or why there is none.

    That cost is the least of all groups that are read; labellings with a group that costs next to nothing are left out.
    ``whole``: the untouched model's mean difference in each readout of ``readings``, what an effect is a share of.
    ``n_possible``: how many labellings there are.
    """
    groups = sorted({heads for one in labellings for heads in one})
    costs = dict(zip(groups, costs_of([intervention(heads) for heads in groups]), strict=True))
    usable = [one for one in labellings if min(costs[heads] for heads in one) >= LEAST_COST]
    if not usable or usable[0] != labellings[0]:
        return f"a group costs less than {LEAST_COST} nats on the stories of the permutation"
    groups = sorted({heads for one in usable for heads in one})
    target = min(costs[heads] for heads in groups)
    matched = find_shares(costs_of, groups, [costs[heads] for heads in groups], target)
    shares = {heads: one[0] for heads, one in zip(groups, matched, strict=True) if one is not None}
    usable = [one for one in usable if all(heads in shares for heads in one)]
    if not usable or usable[0] != labellings[0]:
        return f"no share of a group costs {target:.4f} nats"
    column = {heads: i for i, heads in enumerate(shares)}
    measures = readings.measures([intervention(heads, share) for heads, share in shares.items()])
    taken = np.stack(
        [one.taken.mean(1) / there for one, there in zip(measures, whole, strict=True)]
    )  # [readout, group]
    capabilities = [one.capability for one in measures]
    at = [[column[heads] for heads in one] for one in usable]
    values = [float(contrast_values(taken[:, pair], capabilities).interaction) for pair in at]
    return Permutation(values[0], tuple(values[1:]), target, n_possible, len(labellings) - len(usable))
