"""What sets of components cost and take: loss on stories, and the drop of every item of every readout.

Axes: item, column (set of components), pair, variant (0: the untouched model).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from tslens.causal.ablation import Component
from tslens.causal.ablator import Ablator, Intervention
from tslens.causal.replacement import Replacement
from tslens.link.batches import ReadoutBatch, pack
from tslens.link.drops import ItemTable
from tslens.link.measure import differences_of
from tslens.link.pairs import Readout
from tslens.link.story_costs import CostStories
from tslens.model.story_model import StoryModel


@dataclass(frozen=True, eq=False)
class Taken:
    """What sets of components cost and take. ``drops``: of each readout, of every item."""

    costs: list[float]
    drops: list[Float[np.ndarray, "item column"]]

    def at(self, columns: Sequence[int]) -> Taken:
        """Some of the sets."""
        return Taken([self.costs[i] for i in columns], [of_one[:, list(columns)] for of_one in self.drops])


class MapRun:
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

    def read(self, sets: Sequence[tuple[Component, ...]], method: Replacement) -> Taken:
        """Costs and drops of sets of components by one way."""
        interventions = [Intervention(components, method) for components in sets]
        n_parts, n_stories = len(self.batches), self.stories.n_stories
        step = f"{len(sets)} sets by {method}"

        def read_stories(n_done: int) -> None:
            self.progress(step, n_done, n_stories + n_parts)

        costs = self.stories.costs(self.ablator, interventions, seed=self.seed, progress=read_stories)
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
        return Taken(costs.mean, [(of_one[0] - of_one[1:]).T for of_one in by_item])

    def tables(self, drops: Sequence[Float[np.ndarray, "item column"]]) -> list[ItemTable]:
        """The items of each readout with their clusters."""
        return [
            ItemTable([item[0].cluster for item in readout.items], of_one)
            for readout, of_one in zip(self.readouts, drops, strict=True)
        ]
