"""From readings to means with intervals over stories, of single heads and of groups of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from tslens.probes.programs.compose import LEAST_TOTAL
from tslens.probes.programs.reading import COMPOSED, MEASURES, TOKENS, Readings
from tslens.probes.programs.report import Estimate, Explained
from tslens.probes.programs.roles import Role
from tslens.stats import BootstrapSums, Means, one_sided, poisson_weights, scaled_deviations, second_half

IOU, DISTANCE, DIVERGENCE = map(MEASURES.index, ("iou", "distance", "divergence"))


def means_over_stories(
    values: Float[np.ndarray, "story column head"], clusters: Sequence[int], *, seed: int
) -> Means:
    """Bootstrap of the mean over stories of each number; a column that is NaN in a story lacks it there."""
    sums = BootstrapSums(values.shape[1], values.shape[2])
    x = torch.from_numpy(values)
    half = torch.tensor([second_half(key) for key in clusters])
    weights = torch.from_numpy(poisson_weights(seed, clusters))
    sums.add(x.nan_to_num(), torch.isfinite(x).all(2), weights, half)
    return sums.means()


def percentile_interval(replicates: Float[np.ndarray, " replicate"]) -> Estimate:
    """Of a number that is no mean: the sample itself first, then its replicates; 2.5% and 97.5%."""
    low, high = np.nanquantile(replicates[1:], [0.025, 0.975])
    return Estimate(float(replicates[0]), float(low), float(high))


@dataclass(frozen=True, eq=False)
class ReadMeans:
    """Bootstrap means of all programs. ``names``: the columns are measures x programs, programs running fastest."""

    names: tuple[str, ...]
    means: Means
    low: Float[np.ndarray, "column head"]
    high: Float[np.ndarray, "column head"]

    @classmethod
    def of(cls, readings: Readings, *, seed: int) -> ReadMeans:
        """Of what was read."""
        names = tuple(readings.likeness)
        table = np.concatenate(
            [readings.likeness[name] for name in names], 0
        )  # [program x measure, story, head]
        means = means_over_stories(table.transpose(1, 0, 2), readings.cluster, seed=seed)
        return cls(names, means, *means.interval())

    def column(self, name: str, measure: int) -> int:
        """Of one program."""
        return self.names.index(name) * len(MEASURES) + measure

    def estimate(self, name: str, measure: int, head: int) -> Estimate:
        """A mean with its interval."""
        column = self.column(name, measure)
        ends = self.means.mean[0], self.low, self.high
        return Estimate(*(float(end[column, head]) for end in ends))

    def replicates(self, name: str, measure: int) -> Float[np.ndarray, "replicate head"]:
        """The sample first."""
        return self.means.mean[:, self.column(name, measure)]

    def shares(self, name: str) -> Float[np.ndarray, "replicate head"]:
        """Of the divergence from uniform attention, the share that a program takes away; the sample first."""
        total = self.replicates("uniform", DIVERGENCE)
        known = np.where(total > 0, total, np.nan)  # an even head has nothing to explain
        return 1 - self.replicates(name, DIVERGENCE) / known

    @property
    def has_total(self) -> np.ndarray:
        """[head] whether there is something to explain."""
        found: np.ndarray = self.replicates("uniform", DIVERGENCE)[0] >= LEAST_TOTAL
        return found

    def support(self) -> Float[np.ndarray, " head"]:
        """Lower end of the share that the composed program explains, corrected over heads; NaN without a total."""
        shares = self.shares(COMPOSED)
        spread = shares[1:].std(0)
        deviations = scaled_deviations(shares[1:], shares[0], spread)[:, self.has_total]
        critical = np.quantile(deviations.max(1), 0.95) if deviations.size else 0.0
        found: np.ndarray = np.where(self.has_total, shares[0] - critical * spread, np.nan)
        return found


def twins_threshold(twins: Sequence[ReadMeans]) -> float:
    """The largest lower end (one-sided, 95%) of the share explained over all heads of the twins; 0 at least.

    Heads with nothing to explain do not count.
    """
    lows = []
    for twin in twins:
        shares = twin.shares(COMPOSED)
        error = one_sided(twin.means.n[:1]) * shares[1:].std(0)
        lows += (shares[0] - error)[twin.has_total].tolist()
    return max([0.0, *lows])


def explained(
    group: str, program: str, names: Sequence[str], heads: Sequence[int], readings: Sequence[ReadMeans]
) -> Explained:
    """A kind of program over some heads. ``names``: the program of each head. Several readings count alike."""

    def over(measure: int, names: Sequence[str]) -> np.ndarray:
        columns = [
            read.replicates(name, measure)[:, head]
            for read in readings
            for name, head in zip(names, heads, strict=True)
        ]
        mean: np.ndarray = np.mean(columns, axis=0)
        return mean

    share = 1 - over(DIVERGENCE, names) / over(DIVERGENCE, ["uniform"] * len(heads))
    iou, distance, pooled = map(percentile_interval, (over(IOU, names), over(DISTANCE, names), share))
    return Explained(group, program, len(heads) * len(readings), iou, distance, pooled)


def explained_rows(
    read: ReadMeans, twins: Sequence[ReadMeans], roles: Mapping[int, Role]
) -> tuple[Explained, ...]:
    """All kinds of programs over all heads, over the labelled ones (``roles``: of heads by number), over the twins."""
    every = list(range(read.means.mean.shape[2]))
    kinds = [name for name in ("even", "profile", COMPOSED, TOKENS) if name in read.names]
    rows = [explained("all", kind, [kind] * len(every), every, [read]) for kind in kinds]
    if roles:
        labelled = list(roles)
        names = [str(role) for role in roles.values()]
        rows.append(explained("labelled", "role", names, labelled, [read]))
        rows += [explained("labelled", kind, [kind] * len(labelled), labelled, [read]) for kind in kinds]
    rows += [explained("twins", kind, [kind] * len(every), every, twins) for kind in ("profile", COMPOSED)]
    return tuple(rows)
