"""Do heads fall into two kinds, clearly apart? A test over the heads of many models, and what it could have seen.

1. Each head has a place on an axis from -1 (tokens) to 1 (distance); each shape of model is a stratum.
2. The dips of the strata, weighted by their heads, are held against those of even spreads of the same sizes. An even
   spread is the worst case of a distribution with one mode.
3. How many heads lie in the middle third, with an interval over shapes.
4. Whether two normal distributions describe the places better than one, by parametric bootstrap.
5. What the first test finds where two clusters are planted at growing distance, with the errors that were measured.

The rule of the verdict was written down before any shipped model was looked at (``docs/methods.md``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from sklearn.mixture import GaussianMixture

from tslens.errors import ProbeInputError
from tslens.probes.kinds.dip import dip
from tslens.probes.kinds.report import HeadKind, Interval
from tslens.stats import share_interval

LEAST_HEADS = 4  # of a stratum: of three the dip is always the same
N_NULL = 999
N_BOOTSTRAP = 200  # of heads, and of one normal distribution
N_PLANTED = 200  # of each truth
DISTANCES = (2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0)  # of two clusters, in deviations of one
SIGNIFICANT = 0.05
CLEARLY_APART = 4.0  # then one head in 44 lies on the wrong side of the middle
ENOUGH_POWER = 0.8
THIRD = 1 / 3
MOST_BETWEEN = 1 / 6  # of the heads, half of what an even spread has in the middle third

Axis = Literal["balance", "difference"]
Verdict = Literal["two kinds", "no two kinds", "not settled"]


@dataclass(frozen=True)
class Places:
    """Where the heads of one shape lie on an axis, and their standard errors."""

    values: Float[np.ndarray, " head"]
    errors: Float[np.ndarray, " head"]


@dataclass(frozen=True)
class Planted:
    """A truth that was simulated, and in what share of the simulations the dip test rejected one mode.

    ``distance``: of two clusters, in deviations of one; None where there is one mode.
    """

    truth: str
    distance: float | None
    found: float


@dataclass(frozen=True)
class TwoKinds:
    """What was found (``docs/methods.md``, *Kinds of head*).

    ``statistic``: sum over strata of heads times dip; ``p``: of one mode; ``pooled_p``: of one mode by the dip of all
    heads as one sample, where shapes that differ may look like kinds. ``between``: share of heads in the middle third.
    ``components_p``: of one normal distribution, against two; ``ashman``: how far the two are apart, in
    deviations. ``planted``: false alarms first. ``seen_from``: least distance of two clusters at which, and at all
    greater ones, 80% of the simulations are found; None: at no distance.
    """

    n_heads: int
    n_strata: int
    statistic: float
    p: float
    pooled_p: float
    between: Interval
    components_p: float
    ashman: Interval
    planted: tuple[Planted, ...]
    seen_from: float | None
    verdict: Verdict

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON types."""
        return asdict(self)


def places(heads: Mapping[str, Sequence[HeadKind]], axis: Axis) -> dict[str, Places]:
    """Places of the heads of each shape that are not even and, on the balance, have one."""
    found = {}
    for shape, rows in heads.items():
        on_axis = [getattr(row, axis) for row in rows if row.nearest != "even"]
        kept = [place for place in on_axis if place is not None]
        values, errors = np.array([one.value for one in kept]), np.array([one.error for one in kept])
        found[shape] = Places(values, errors)
    return found


def beyond_twins(heads: Mapping[str, Sequence[HeadKind]]) -> dict[str, list[HeadKind]]:
    """The heads that are farther from even attention than every head of their model's random twins."""
    return {name: [row for row in rows if row.beyond_twins] for name, rows in heads.items()}


def judge_two_kinds(
    shapes: Mapping[str, Places], *, seed: int, progress: Callable[[int], None] = lambda n_truths: None
) -> TwoKinds:
    """Whether the heads are of two kinds. ``progress`` is called with the truths that were simulated.

    Raises ProbeInputError without a shape of four heads.
    """
    kept = [one for one in shapes.values() if len(one.values) >= LEAST_HEADS]
    if not kept:
        raise ProbeInputError(
            f"No shape has {LEAST_HEADS} heads that have a place on the axis.", "Give more models."
        )
    rng = np.random.default_rng(seed)
    values = [one.values for one in kept]
    null = np.array([_statistic([rng.random(len(one)) for one in values]) for _ in range(N_NULL)])
    statistic = _statistic(values)
    p, between = _p_value(statistic, null), _between(values)
    n_heads = sum(map(len, values))
    pooled = np.array([dip(rng.random(n_heads)) for _ in range(N_NULL)])
    components_p, ashman = _components(values, rng)
    planted = []
    for truth, distance in (("an even spread", None), ("one cluster", None), *_two_clusters()):
        draw = _Simulated(kept, truth, distance)
        found = [_p_value(_statistic(draw(rng)), null) < SIGNIFICANT for _ in range(N_PLANTED)]
        planted.append(Planted(truth, distance, float(np.mean(found))))
        progress(len(planted))
    power = next(one.found for one in planted if one.distance == CLEARLY_APART)
    return TwoKinds(
        n_heads=n_heads,
        n_strata=len(kept),
        statistic=statistic,
        p=p,
        pooled_p=_p_value(dip(np.concatenate(values)), pooled),
        between=between,
        components_p=components_p,
        ashman=ashman,
        planted=tuple(planted),
        seen_from=_seen_from(planted),
        verdict=verdict(p, between, power),
    )


def verdict(p: float, between: Interval, power: float) -> Verdict:
    """``two kinds``: not one mode, and few heads between. ``no two kinds``: many are, or one mode stands where clusters
    that are clearly apart would have been seen (``power``)."""
    if p < SIGNIFICANT and between.high <= MOST_BETWEEN:
        return "two kinds"
    if between.low > MOST_BETWEEN or (p >= SIGNIFICANT and power >= ENOUGH_POWER):
        return "no two kinds"
    return "not settled"


def _two_clusters() -> list[tuple[str, float]]:
    return [("two clusters", distance) for distance in DISTANCES]


def _statistic(values: Sequence[np.ndarray]) -> float:
    return float(sum(len(one) * dip(one) for one in values))


def _p_value(statistic: float, null: Float[np.ndarray, " draw"]) -> float:
    return float((1 + (null >= statistic).sum()) / (1 + len(null)))


def _between(values: Sequence[np.ndarray]) -> Interval:
    """Share of heads in the middle third; 95% over shapes (``stats.share_interval``).

    The error is that of a ratio of sums over shapes (Cochran 1977, section 6.4). Shapes have from four heads to a
    hundred: they count as so many as would know as much if all had the same (Kish 1965, section 8.2). Where no head
    is inside, or each, shapes tell no error: the far end is that for one head of the largest shape.
    """
    inside = np.array([(np.abs(one) < THIRD).sum() for one in values])
    of = np.array([len(one) for one in values])
    n_heads, n_inside, n_shapes = int(of.sum()), int(inside.sum()), len(of)
    if n_inside in (0, n_heads):
        inside[of.argmax()] += 1 if n_inside == 0 else -1
    share = float(inside.sum() / n_heads)
    squares = float(((inside - share * of) ** 2).sum())
    se = (n_shapes / max(n_shapes - 1, 1) * squares) ** 0.5 / n_heads
    ends = share_interval(share, se, round(n_heads**2 / int((of**2).sum())), n_heads)
    low, high = (0.0 if n_inside == 0 else ends.low), (1.0 if n_inside == n_heads else ends.high)
    return Interval(n_inside / n_heads, low, high)


def _components(values: Sequence[np.ndarray], rng: np.random.Generator) -> tuple[float, Interval]:
    """P-value of one normal distribution about each shape's mean against two, and how far the two are apart.

    The p-value is by parametric bootstrap of the likelihood ratio.
    """
    centred = _about_means(values)
    ratio, apart = _two_against_one(centred, rng)
    null = [
        _two_against_one(rng.normal(scale=centred.std(), size=len(centred)), rng)[0]
        for _ in range(N_BOOTSTRAP)
    ]
    return _p_value(ratio, np.array(null)), _apart(values, apart, rng)


def _about_means(values: Sequence[np.ndarray]) -> Float[np.ndarray, " head"]:
    return np.concatenate([one - one.mean() for one in values])


def _apart(values: Sequence[np.ndarray], apart: float, rng: np.random.Generator) -> Interval:
    """95% by bootstrap of heads within shapes: from percentiles to basic ends on the scale of logarithms.

    Two clusters that are far apart are blurred by the means of few heads, in replicates once more, so that percentiles
    are too low; of two that overlap, a mixture finds more than there is, and basic ends are too high. The interval has
    both.
    """
    again = ([rng.choice(one, len(one)) for one in values] for _ in range(N_BOOTSTRAP))
    drawn = [_two_against_one(_about_means(one), rng)[1] for one in again]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(apart, float(min(low, apart**2 / high)), float(max(high, apart**2 / low)))


def _two_against_one(values: Float[np.ndarray, " head"], rng: np.random.Generator) -> tuple[float, float]:
    """Likelihood ratio (twice the difference of the logarithms), and Ashman's D of the two."""
    column, state = values[:, None], int(rng.integers(2**31))
    one, two = (GaussianMixture(n, n_init=n, max_iter=1000, random_state=state).fit(column) for n in (1, 2))
    ratio = 2 * len(values) * (two.score(column) - one.score(column))
    spread = np.sqrt(two.covariances_.mean())
    return float(ratio), float(abs(np.diff(two.means_[:, 0])[0]) / spread)


class _Simulated:
    """Heads of a known truth: shapes of the sizes, spread, share on either side and errors that were measured."""

    def __init__(self, shapes: Sequence[Places], truth: str, distance: float | None) -> None:
        everyone = np.concatenate([one.values for one in shapes])
        self.shapes, self.truth, self.distance = shapes, truth, distance
        self.share = float((everyone > 0).mean())
        of_values = np.concatenate([one.values - one.values.mean() for one in shapes]).var()
        of_errors = np.concatenate([one.errors**2 for one in shapes]).mean()
        self.deviation = float(np.sqrt(max(of_values - of_errors, of_values / 10)))

    def __call__(self, rng: np.random.Generator) -> list[Float[np.ndarray, " head"]]:
        """The heads of each shape, drawn anew."""
        return [self._true(len(one.values), rng) + rng.normal(scale=one.errors) for one in self.shapes]

    def _true(self, n: int, rng: np.random.Generator) -> Float[np.ndarray, " head"]:
        if self.distance is not None:
            apart = self.share * (1 - self.share) * self.distance**2  # variance between, in that of a cluster
            of_cluster = self.deviation / np.sqrt(1 + apart)
            return of_cluster * (self.distance * (rng.random(n) < self.share) + rng.normal(size=n))
        if self.truth == "one cluster":
            return rng.normal(scale=self.deviation, size=n)
        return rng.uniform(-1, 1, n) * self.deviation * np.sqrt(3)


def _seen_from(planted: Sequence[Planted]) -> float | None:
    """The least distance from which on enough simulations are found."""
    least = None
    for one in sorted((p for p in planted if p.distance is not None), key=lambda p: -(p.distance or 0)):
        if one.found < ENOUGH_POWER:
            break
        least = one.distance
    return least
