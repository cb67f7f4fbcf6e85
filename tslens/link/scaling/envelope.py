"""The lower envelope of loss over operations: which of the runs is best for each budget, no surface assumed.

Each run's loss is interpolated over the logarithm of operations within its own points. At a budget that at least three
sizes reach, a parabola of log loss in log size has its least value at the best size, where that lies between sizes that
were trained (Hoffmann et al. 2022, approach 2). The exponent is the slope of its logarithm on that of the budget.

Axes: budget, size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from tslens.link.scaling.points import ScalingRun
from tslens.link.scaling.surface import Count

N_BUDGETS = 20
LEAST_SIZES = 3  # of a parabola
ROUNDING = 1e-9  # of the first and last budget
LEAST_BUDGETS = 4  # with a best size inside, of an exponent


@dataclass(frozen=True)
class OnEnvelope:
    """One budget. ``label``: of the best run; ``best``: size by the parabola, None where it has none inside."""

    flops: float
    loss_nats: float
    label: str
    n_sizes: int
    best: float | None


@dataclass(frozen=True)
class Envelope:
    """``exponent``: of the best size by parabolas in operations; None with fewer than four budgets that have one.

    ``n_runs_on``: how many different runs are best at some budget.
    """

    budgets: tuple[OnEnvelope, ...]
    exponent: float | None

    @property
    def n_runs_on(self) -> int:
        """Different runs that are best somewhere."""
        return len({one.label for one in self.budgets})

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {**asdict(self), "n_runs_on": self.n_runs_on}


def read_envelope(runs: Sequence[ScalingRun], *, count: Count = "all") -> Envelope:
    """The envelope over the budgets that any run covers; runs of one size and several seeds are averaged.

    A budget at which every run is worse than some run at a smaller one is left out.
    """
    low = min(float(run.flops[0]) for run in runs)
    high = max(float(run.flops[-1]) for run in runs)
    found: list[OnEnvelope] = []
    for budget in np.geomspace(low, high, N_BUDGETS):
        told = [(run, _at(run, budget)) for run in runs]
        there = [(run, loss) for run, loss in told if loss is not None]
        if not there:
            continue
        best_run, least = min(there, key=lambda one: one[1])
        if found and found[-1].loss_nats < least:  # a smaller budget did better
            continue
        of_size: dict[int, list[float]] = {}
        for run, loss in there:
            of_size.setdefault(run.n_params if count == "all" else run.n_blocks, []).append(loss)
        sizes = np.array(sorted(of_size), dtype=float)
        losses = np.array([np.mean(of_size[int(size)]) for size in sizes])
        found.append(OnEnvelope(float(budget), least, best_run.label, len(sizes), _parabola(sizes, losses)))
    known = [(one.flops, one.best) for one in found if one.best is not None]
    exponent = None
    if len(known) >= LEAST_BUDGETS:
        logs = np.log(np.array(known))
        exponent = float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])
    return Envelope(tuple(found), exponent)


def _at(run: ScalingRun, budget: float) -> float | None:
    """Loss of a run at a budget within its points."""
    flops = run.flops
    if not flops[0] * (1 - ROUNDING) <= budget <= flops[-1] * (1 + ROUNDING):
        return None
    return float(np.exp(np.interp(np.log(budget), np.log(flops), np.log(run.loss))))


def _parabola(sizes: Float[np.ndarray, " size"], losses: Float[np.ndarray, " size"]) -> float | None:
    if len(sizes) < LEAST_SIZES:
        return None
    x = np.log(sizes)
    a, b, _ = np.polyfit(x - x.mean(), np.log(losses), 2)
    if a <= 0:
        return None
    place = float(x.mean() - b / (2 * a))
    return float(np.exp(place)) if x[0] < place < x[-1] else None
