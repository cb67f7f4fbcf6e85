"""Random sets of heads and neurons beside a component: what is lost with any components that cost as much in all.

Whatever harms a model lowers its readouts and its grades. So a component that costs much is held against random sets
that cost as much total loss. A *draw* is a random order of all heads and of all neurons; its *rungs* are growing shares
of both, one inside the next. What a draw loses at a total loss between two rungs is interpolated between them, from
nothing at no loss. A rung that holds half of a component or more is no null of it.

Axes: item, column (what was ablated).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from tslens.causal.ablation import Component, LayerId
from tslens.model.story_model import StoryModel
from tslens.types import HeadId, NeuronId

N_DRAWS = 4
SHARES = (0.03, 0.06, 0.125, 0.25, 0.5)
MOST_HELD = 0.5  # of a component, from which on a rung is no null of it
Unit = HeadId | NeuronId


@dataclass(frozen=True)
class Rung:
    """So large a share of all heads and of all neurons. ``draw``: number of the random order."""

    draw: int
    share: float
    components: tuple[Component, ...]

    @property
    def name(self) -> str:
        """As in ``random0:0.125``."""
        return f"random{self.draw}:{self.share:g}"


def random_rungs(
    model: StoryModel, *, seed: int, n_draws: int = N_DRAWS, shares: Sequence[float] = SHARES
) -> list[Rung]:
    """The rungs of each draw, growing; each has at least one head."""
    cfg = model.cfg
    found = []
    for draw in range(n_draws):
        rng = np.random.default_rng([seed, draw, 0x1ADDE2])
        heads, neurons = (rng.permutation(cfg.n_layers * n) for n in (cfg.n_heads, cfg.d_mlp))
        for share in shares:
            chosen: list[Component] = [
                HeadId(*divmod(i, cfg.n_heads)) for i in heads[: max(1, round(share * len(heads)))].tolist()
            ]
            n_neurons = round(share * len(neurons))
            chosen += [NeuronId(*divmod(i, cfg.d_mlp)) for i in neurons[:n_neurons].tolist()]
            found.append(Rung(draw, share, tuple(chosen)))
    return found


def expected_of(
    rungs: Sequence[Rung],
    costs: Sequence[float],
    component: Sequence[Component],
    cost: float,
    model: StoryModel,
) -> Float[np.ndarray, " rung"] | None:
    """How what the rungs lose is weighted, to give what is expected of a component of this cost; None: nothing reaches.

    ``costs``: total loss that each rung costs, ``cost``: that the component does, in nats per token. A component that
    costs nothing is expected to lose nothing: all weights are zero.
    """
    own = _units(component, model)
    weights = np.zeros(len(rungs))
    n_reach = 0
    for draw in sorted({rung.draw for rung in rungs}):
        usable = [
            (costs[i], i)
            for i, rung in enumerate(rungs)
            if rung.draw == draw
            and costs[i] > 0
            and len(own & set(rung.components)) < MOST_HELD * max(len(own), 1)
        ]
        of_draw = _between(sorted(usable), max(cost, 0.0))
        if of_draw is None:
            continue
        n_reach += 1
        for i, weight in of_draw:
            weights[i] += weight
    return weights / n_reach if n_reach else None


def _between(rungs: Sequence[tuple[float, int]], cost: float) -> list[tuple[int, float]] | None:
    """Weights of the two rungs around a cost; of one where it lies below the first; None above the last."""
    if cost == 0:
        return []
    below = (0.0, -1)
    for rung in rungs:
        if rung[0] >= cost:
            part = (cost - below[0]) / (rung[0] - below[0])
            found = [(rung[1], part)]
            return found if below[1] < 0 else [*found, (below[1], 1 - part)]
        below = rung
    return None


def _units(component: Sequence[Component], model: StoryModel) -> set[Component]:
    """Heads and neurons of components, those of whole layers too."""
    found: set[Component] = set()
    for one in component:
        if isinstance(one, LayerId):
            if one.part != "mlp":
                found |= {HeadId(one.layer, index) for index in range(model.cfg.n_heads)}
            if one.part != "attn":
                found |= {NeuronId(one.layer, index) for index in range(model.cfg.d_mlp)}
        else:
            found.add(one)
    return found
