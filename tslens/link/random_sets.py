"""Random sets of heads and neurons beside a component: what is lost with any components that cost as much in all.

Whatever harms a model lowers its readouts and its grades. So a component that costs much is held against random sets
that cost as much total loss. A *draw* is a random order of all heads and of all neurons; its *rungs* are growing shares
of both, one inside the next. What a draw loses at a total loss between two rungs is interpolated between them, from
nothing at no loss, on the square root of the loss: cost grows about as the square of how far a model is moved, what is
lost of a readout about as how far. A rung that holds more than half of a component is no null of it.

Draws differ, so one more random set may take more than their mean: ``Expected.reach`` says how much.

Axes: draw, rung, item, column (what was ablated).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import t

from tslens.causal.ablation import Component, LayerId
from tslens.model.story_model import StoryModel
from tslens.stats import LEVEL
from tslens.types import HeadId, NeuronId

N_DRAWS = 6
SHARES = (0.03, 0.1, 0.25, 0.5)
MOST_HELD = 0.5  # of a component: a rung that holds more is no null of it
LEAST_DRAWS = 3  # that reach the cost of a component, or it has no null
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
    """The rungs of each draw, growing; each has at least one head. Draws begin with different heads, if there are."""
    cfg = model.cfg
    found = []
    firsts = np.random.default_rng([seed, 0xF1257]).permutation(cfg.n_layers * cfg.n_heads)
    for draw in range(n_draws):
        rng = np.random.default_rng([seed, draw, 0x1ADDE2])
        heads, neurons = (rng.permutation(cfg.n_layers * n) for n in (cfg.n_heads, cfg.d_mlp))
        first = firsts[draw % len(firsts)]
        heads = np.concatenate([[first], heads[heads != first]])
        for share in shares:
            chosen: list[Component] = [
                HeadId(*divmod(i, cfg.n_heads)) for i in heads[: max(1, round(share * len(heads)))].tolist()
            ]
            n_neurons = round(share * len(neurons))
            chosen += [NeuronId(*divmod(i, cfg.d_mlp)) for i in neurons[:n_neurons].tolist()]
            found.append(Rung(draw, share, tuple(chosen)))
    return found


@dataclass(frozen=True, eq=False)
class Expected:
    """How what the rungs take is weighted, to give what each draw takes at a component's cost."""

    weights: Float[np.ndarray, "draw rung"]

    def of(self, taken: Float[np.ndarray, "item rung"]) -> Float[np.ndarray, " item"]:
        """What is expected of each item, the mean over draws."""
        used = self.weights.any(0)  # a rung that counts for nothing may lack the item
        mean: np.ndarray = taken[:, used] @ self.weights[:, used].mean(0)
        return mean

    def reach(self, taken: Float[np.ndarray, "item rung"]) -> float:
        """How far above the mean one more random set may lie: 95%, one-sided, by Student's t over draws."""
        n_draws = len(self.weights)
        used = self.weights.any(0)
        of_draws = (
            np.nanmean(taken[:, used], axis=0) @ self.weights[:, used].T if used.any() else np.zeros(n_draws)
        )
        return float(t.ppf(LEVEL, n_draws - 1) * of_draws.std(ddof=1) * np.sqrt(1 + 1 / n_draws))


def expected_of(
    rungs: Sequence[Rung],
    costs: Sequence[float],
    component: Sequence[Component],
    cost: float,
    model: StoryModel,
    *,
    without: int | None = None,
) -> Expected | None:
    """What random sets take at the cost of a component; None where fewer than ``LEAST_DRAWS`` draws reach it.

    ``costs``: total loss that each rung costs, ``cost``: that the component does, in nats per token. A component that
    costs nothing is expected to lose nothing: all weights are zero. ``without``: a draw that is left out.
    """
    own = _units(component, model)
    found = []
    for draw in sorted({rung.draw for rung in rungs} - {without}):
        usable = [
            (costs[i], i)
            for i, rung in enumerate(rungs)
            if rung.draw == draw and costs[i] > 0 and len(own & set(rung.components)) <= MOST_HELD * len(own)
        ]
        of_draw = _between(sorted(usable), max(cost, 0.0))
        if of_draw is not None:
            found.append(np.zeros(len(rungs)))
            for i, weight in of_draw:
                found[-1][i] = weight
    return Expected(np.stack(found)) if len(found) >= LEAST_DRAWS else None


def _between(rungs: Sequence[tuple[float, int]], cost: float) -> list[tuple[int, float]] | None:
    """Weights of the two rungs around a cost; of one where it lies below the first; None above the last."""
    if cost == 0:
        return []
    below = (0.0, -1)
    for rung in rungs:
        if rung[0] >= cost:
            low, high = np.sqrt([below[0], rung[0]]).tolist()
            part = (cost**0.5 - low) / (high - low) if high > low else 1.0
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
