"""From what was measured of matched pairs to records: corrected excess, what is beyond the program, status.

For each pair and each null the contrast is value minus null. ``c`` is the 95th percentile over replicates of the
largest scaled deviation of all contrasts of all pairs (``stats``), so that with 95% probability no corrected lower end
is too high. ``same``: the lower end of the excess reaches the floor, and that of the contrast with the program is above
zero. ``like``: the floor alone is reached. ``unclear``: the lower end of the excess is above zero. ``no``: the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from tslens.probes.matching.report import Component, MatchStatus, Mean, PairMatch, UnitId, UnitMatch
from tslens.stats import percentile_ends, scaled_deviations

FLOORS: Mapping[Component, float] = {"head": 0.05, "neuron": 0.10}
UNIVERSAL = 0.5  # excess correlation of a neuron (Gurnee et al. 2024)
PROGRAM = "program"


@dataclass(frozen=True)
class Measured:
    """What was read of matched pairs; row 0 of a replicate axis is the sample.

    ``units``: the pairs. ``value``, ``low``, ``high``: and its interval. ``replicates``: of the value, over
    ``n_stories``. ``contrasts``: value minus each null and minus ``program``; ``errors``: their standard errors.
    ``other``, ``mutual``: see ``UnitMatch``.
    """

    units: Sequence[tuple[UnitId, UnitId]]
    replicates: Float[np.ndarray, "replicate pair"]
    n_stories: int
    low: Float[np.ndarray, " pair"]
    high: Float[np.ndarray, " pair"]
    contrasts: Mapping[str, Float[np.ndarray, "replicate pair"]]
    errors: Mapping[str, Float[np.ndarray, " pair"]]
    other: Float[np.ndarray, " pair"]
    mutual: Bool[np.ndarray, " pair"]

    @property
    def value(self) -> Float[np.ndarray, " pair"]:
        """On the sample."""
        return self.replicates[0]


def judge_pairs(
    measured: Measured, component: Component, models: tuple[str, str], n_units: tuple[int, int]
) -> PairMatch:
    """The records of all pairs of two models."""
    floor, names = FLOORS[component], list(measured.contrasts)
    contrast = np.stack([measured.contrasts[name] for name in names], 1)
    error = np.stack([measured.errors[name] for name in names])
    critical = float(np.quantile(scaled_deviations(contrast[1:], contrast[0], error).max((1, 2)), 0.95))
    lows = contrast[0] - critical * error
    gates = [i for i, name in enumerate(names) if name != PROGRAM]
    excess, excess_low = contrast[0][gates].min(0), lows[gates].min(0)
    program = names.index(PROGRAM)
    beyond, beyond_low = contrast[0, program], lows[program]
    matches = []
    for i, (a, b) in enumerate(measured.units):
        value = float(measured.value[i])
        matches.append(
            UnitMatch(
                a=a,
                b=b,
                value=value,
                low=float(measured.low[i]),
                high=float(measured.high[i]),
                nulls={names[gate]: value - float(contrast[0, gate, i]) for gate in gates},
                excess=float(excess[i]),
                excess_low=float(excess_low[i]),
                program=value - float(beyond[i]),
                beyond_program=float(beyond[i]),
                beyond_low=float(beyond_low[i]),
                other=float(measured.other[i]) if np.isfinite(measured.other[i]) else None,
                mutual=bool(measured.mutual[i]),
                status=_status(float(excess_low[i]), float(beyond_low[i]), floor),
            )
        )
    factors = {"half": 0.5 * floor, "floor": floor, "double": 2 * floor}
    if component == "neuron":
        factors["universal"] = UNIVERSAL
    return PairMatch(
        model_a=models[0],
        model_b=models[1],
        component=component,
        n_a=n_units[0],
        n_b=n_units[1],
        floor=floor,
        critical=critical,
        means=_means(measured, contrast, gates),
        counts_at_floors={name: int((excess_low >= level).sum()) for name, level in factors.items()},
        matches=tuple(matches),
    )


def _status(excess_low: float, beyond_low: float, floor: float) -> MatchStatus:
    if excess_low >= floor:
        return "same" if beyond_low > 0 else "like"
    return "unclear" if excess_low > 0 else "no"


def _means(
    measured: Measured, contrast: Float[np.ndarray, "replicate null pair"], gates: list[int]
) -> dict[str, Mean]:
    """Means over the pairs; of the excess, each pair keeps the null that is the largest on the sample."""
    value = measured.replicates
    of = {"value": value}
    of |= {name: value - one for name, one in measured.contrasts.items()}
    largest = np.array(gates)[contrast[0][gates].argmin(0)]
    of["excess"] = contrast[:, largest, np.arange(len(largest))]
    of["beyond_program"] = measured.contrasts[PROGRAM]
    return {name: _mean(one.mean(1), measured.n_stories) for name, one in of.items()}


def _mean(replicates: Float[np.ndarray, " replicate"], n_stories: int) -> Mean:
    low, high = percentile_ends(replicates, n_stories)
    return Mean(float(replicates[0]), float(low), float(high))
