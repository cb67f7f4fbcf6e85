"""From what two groups of heads take to the interaction, its p where labels mean nothing, and the verdict.

A group's effect on a measure is what it takes over what there is (of a readout the whole model's difference, of a grade
one planted fault); on a capability it is the mean over its measures. The interaction is distance heads' grammar minus
consistency, minus the same of semantic heads.

Axes: item, group (distance, semantic), measure, replicate (row 0: the sample itself), cluster.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from scipy.stats import t

from tslens.link.conjecture.labels import LEAST_LABELLINGS
from tslens.link.pairs import Capability
from tslens.probes.programs.report import Estimate
from tslens.stats import LEVEL, poisson_weights

OF_CONJECTURE: tuple[Capability, Capability] = ("grammar", "consistency")
LEAST_MODELS = 6
LEAST_SIZE = 0.1  # of what there is, or of a planted fault: an interaction that is smaller matters to nobody
ALPHA = 0.05
N_SUMS = 99_999
ROUNDING = 1e-12

Verdict = Literal["holds", "fails", "cannot be told"]


@dataclass(frozen=True, eq=False)
class Measure:
    """``taken``: what each group takes of each item; ``there``: what there is of it; ``cluster``: key of its story."""

    name: str
    capability: Capability
    cluster: Sequence[int]
    taken: Float[np.ndarray, "group item"]
    there: Float[np.ndarray, " item"]


# One model --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ContrastValues:
    """``by_capability``: effect of a group on a capability, as in ``("distance", "grammar")``; arrays of one shape."""

    interaction: Float[np.ndarray, "*replicate"]
    distance: Float[np.ndarray, "*replicate"]
    semantic: Float[np.ndarray, "*replicate"]
    by_capability: Mapping[tuple[str, str], Float[np.ndarray, "*replicate"]]


def contrast_values(
    effects: Float[np.ndarray, "*replicate measure group"], capabilities: Sequence[Capability]
) -> ContrastValues:
    """The interaction and its parts; each capability has one measure at least."""
    found: dict[tuple[str, str], np.ndarray] = {}
    for group, name in enumerate(("distance", "semantic")):
        for capability in OF_CONJECTURE:
            chosen = [i for i, one in enumerate(capabilities) if one == capability]
            found[name, capability] = effects[..., chosen, group].mean(-1)
    parts = [found[name, "grammar"] - found[name, "consistency"] for name in ("distance", "semantic")]
    return ContrastValues(parts[0] - parts[1], parts[0], parts[1], found)


@dataclass(frozen=True)
class Contrast:
    """What was found of one model, with 95% intervals over clusters.

    ``distance``, ``semantic``: grammar minus consistency. ``effects``: of each group on each capability ("distance
    grammar") and on each measure ("distance: tense"). ``n_items``: of each measure.
    """

    interaction: Estimate
    distance: Estimate
    semantic: Estimate
    effects: Mapping[str, Estimate]
    n_items: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Contrast:
        """Inverse of :meth:`to_json`. Raises KeyError or TypeError for another record."""
        effects = {name: Estimate(**one) for name, one in row["effects"].items()}
        interaction, distance, semantic = (
            Estimate(**row[name]) for name in ("interaction", "distance", "semantic")
        )
        return cls(interaction, distance, semantic, effects, row["n_items"])


def contrast_of(measures: Sequence[Measure], *, seed: int) -> Contrast | None:
    """The interaction from measures of two groups; None where a capability has none. ``seed``: of the bootstrap.

    Intervals are percentiles of Poisson replicates; a cluster is drawn alike for all measures.
    """
    capabilities = [one.capability for one in measures]
    if not set(OF_CONJECTURE) <= set(capabilities):
        return None
    clusters = sorted({key for one in measures for key in one.cluster})
    weights = poisson_weights(seed, clusters)
    place = {key: i for i, key in enumerate(clusters)}
    effects = np.stack([_effects(one, weights, place) for one in measures], 1)  # [replicate measure group]
    values = contrast_values(effects, capabilities)
    by_name = {f"{group} {capability}": of for (group, capability), of in values.by_capability.items()}
    for number, one in enumerate(measures):
        for group, name in enumerate(("distance", "semantic")):
            by_name[f"{name}: {one.name}"] = effects[:, number, group]
    return Contrast(
        _estimate(values.interaction),
        _estimate(values.distance),
        _estimate(values.semantic),
        {name: _estimate(of) for name, of in by_name.items()},
        {one.name: len(one.cluster) for one in measures},
    )


def _effects(
    one: Measure, weights: Float[np.ndarray, "replicate cluster"], place: Mapping[int, int]
) -> Float[np.ndarray, "replicate group"]:
    """What each group takes over what there is, summed over the same items."""
    index = [place[key] for key in one.cluster]
    taken, there = (
        np.stack([np.bincount(index, weights=row, minlength=len(place)) for row in rows], 1)
        for rows in (one.taken, one.there[None])
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        found: np.ndarray = (weights @ taken) / (weights @ there)
    return found


def _estimate(values: Float[np.ndarray, " replicate"]) -> Estimate:
    tail = (1 - LEVEL) / 2
    low, high = np.nanquantile(values[1:], [tail, 1 - tail])
    return Estimate(float(values[0]), float(low), float(high))


# Permutation ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Permutation:
    """The interaction of the labels that were found and of others, all at one cost.

    ``cost``: nats per token. ``n_possible``: labellings of these sizes; ``n_left_out``: of those drawn, that cost next
    to nothing or could not be matched.
    """

    found: float
    others: tuple[float, ...]
    cost: float
    n_possible: int
    n_left_out: int

    @property
    def p(self) -> float:
        """Share of labellings, the one found included, whose interaction is at least that found."""
        return (1 + self._n_above) / (1 + len(self.others))

    @property
    def can_tell(self) -> bool:
        """Whether there are labellings enough."""
        return 1 + len(self.others) >= LEAST_LABELLINGS

    @property
    def _n_above(self) -> int:
        return sum(one >= self.found - ROUNDING for one in self.others)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {**asdict(self), "others": list(self.others), "p": self.p}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Permutation:
        """Inverse of :meth:`to_json`. Raises KeyError or TypeError for another record."""
        return cls(row["found"], tuple(row["others"]), row["cost"], row["n_possible"], row["n_left_out"])


def joint_p(models: Sequence[Permutation], *, seed: int, n_sums: int = N_SUMS) -> float:
    """One-sided p of the sum over models: each sum has one labelling of each model, the one found among them.

    Raises ValueError if there is no model.
    """
    if not models:
        raise ValueError("no model was permuted")
    rng = np.random.default_rng([seed, 0x50])
    sums = np.zeros(n_sums)
    for one in models:
        sums += rng.choice([one.found, *one.others], n_sums)
    found = sum(one.found for one in models)
    return float((1 + (sums >= found - ROUNDING * len(models)).sum()) / (1 + n_sums))


# Over models ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OverModels:
    """Mean over models with its 95% interval by Student's t; the same of the means of shapes, None of one shape.

    ``by_shape``: mean and number of models of each.
    """

    mean: Estimate
    of_shapes: Estimate | None
    by_shape: Mapping[str, tuple[float, int]]
    n_models: int


def over_models(values: Mapping[str, float], shapes: Mapping[str, str]) -> OverModels | None:
    """Values by model, and the shape of each; None of fewer than two models."""
    if len(values) < 2:
        return None
    by_shape: dict[str, list[float]] = defaultdict(list)
    for model, value in values.items():
        by_shape[shapes[model]].append(value)
    means = {shape: float(np.mean(of_shape)) for shape, of_shape in by_shape.items()}
    return OverModels(
        _by_t(list(values.values())),
        _by_t(list(means.values())) if len(means) > 1 else None,
        {shape: (means[shape], len(of_shape)) for shape, of_shape in by_shape.items()},
        len(values),
    )


def _by_t(values: Sequence[float]) -> Estimate:
    n, mean = len(values), float(np.mean(values))
    half = float(t.ppf((1 + LEVEL) / 2, n - 1) * np.std(values, ddof=1) / n**0.5)
    return Estimate(mean, mean - half, mean + half)


def verdict_of(
    readouts: OverModels | None, grades: OverModels | None, p: float | None, *, n_shapes: int
) -> Verdict:
    """What the interactions over models say. ``p``: of the permutation. ``n_shapes``: that were asked.

    - ``holds``: both intervals lie above zero, and ``p`` is below 0.05;
    - ``fails``: both upper ends are below the size that matters;
    - ``cannot be told``: otherwise, and where fewer than 6 models count, or a shape has none.
    """
    found = []
    for one in (readouts, grades):
        if one is None or one.n_models < LEAST_MODELS or len(one.by_shape) < n_shapes:
            return "cannot be told"
        found.append(one.mean)
    if all(one.low > 0 for one in found) and p is not None and p < ALPHA:
        return "holds"
    return "fails" if all(one.high < LEAST_SIZE for one in found) else "cannot be told"
