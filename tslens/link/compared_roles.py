"""Two models read the same stories, role by role: who holds it, how strongly, and is the difference real?

1. Both are scanned as any model is (``probes.scan``), without causes: which heads hold a role, and the twins' null.
2. Both are read once more, and what every story says of every head is kept (``probes.matching.role_tables``).
3. On one half of the stories (``stats.second_half``) a model's best head of a role is chosen, that of the largest mean
   excess, and the null that is largest for it; on the other half both are measured. Then the halves change places.
   An excess is the mean of the two, so that the best of many heads is not measured where it was chosen.
4. B less A, story by story, with a bootstrap over stories: each has the same weight in both models (``stats``).

Where the halves choose different heads or nulls, what is measured on one leans on what the other chose; their errors
are then added as if they were one, which is the most that they can be. The twins' null is a threshold, whose own error
is not counted: both models are held against the larger of theirs, so that no difference is one of twins.

Differences are corrected for all roles that are compared, by the largest deviation over roles, as a number of standard
errors; each role takes Student's quantile of its probability for its stories.

Axes: replicate (row 0: the sample itself), story, half (on which is measured), role, column (value and excess of a, of
b, the difference of the excess), key (of a story).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.stats import norm, t

from tslens.corpus.labelled import read_labels
from tslens.link.clustered import ClusteredMeans
from tslens.link.sizes.read_model import read_losses
from tslens.model.story_model import StoryModel
from tslens.probes.base import choose_probes
from tslens.probes.labels import parser_is_missing, with_labels
from tslens.probes.matching.role_tables import Choice, RoleTable, have_same_tokens, read_tables, role_of
from tslens.probes.matching.roles import head_roles
from tslens.probes.scan import score_heads
from tslens.probes.verdict import TWINS, HeadsReport
from tslens.stats import LEVEL, MIN_HALF, poisson_weights, scaled_deviations, second_half
from tslens.types import HeadId, Story

ROUNDING = 1e-5  # of attention, or of loss: a difference that is smaller is none


@dataclass(frozen=True)
class Mean:
    """A mean over stories and its 95% interval, by studentised bootstrap."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class RoleInModel:
    """A role in one model. ``holders``: heads that hold it, strongest first, of ``n_heads``; causes are not tested.

    ``best``: the best head as the second half of the stories chose it, and as the first did; ``nulls``: the largest
    null of each. ``value``, ``excess``: of the best, each measured on the half that did not choose it; attention.
    """

    n_heads: int
    holders: tuple[str, ...]
    best: tuple[str, str]
    nulls: tuple[str, str]
    value: Mean
    excess: Mean


@dataclass(frozen=True)
class RoleDifference:
    """A role in both models. ``difference``: excess of the best head of b less that of a, on the same stories.

    ``corrected_low``, ``corrected_high``: ends that hold for all compared roles together with 95% probability; ``p``:
    likewise. ``n_stories``: that have a query in both; of a probe with sequences of its own, those.
    """

    role: str
    a: RoleInModel
    b: RoleInModel
    difference: Mean
    corrected_low: float
    corrected_high: float
    p: float
    n_stories: int

    @property
    def is_real(self) -> bool:
        """Whether the corrected interval leaves 0 out, by more than rounding."""
        is_clear = self.corrected_low > 0 or self.corrected_high < 0
        return is_clear and abs(self.difference.mean) >= ROUNDING

    @property
    def is_held(self) -> bool:
        """Whether a head of either model holds the role."""
        return bool(self.a.holders or self.b.holders)

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON types."""
        return {**asdict(self), "is_held": self.is_held, "is_real": self.is_real}


@dataclass(frozen=True)
class LossDifference:
    """Loss of both models on the same stories; ``difference``: that of b less that of a, story by story.

    ``unit``: ``bits per byte``, or ``nats per token``.
    """

    unit: str
    a: Mean
    b: Mean
    difference: Mean

    @property
    def is_real(self) -> bool:
        """Whether the interval leaves 0 out, by more than rounding."""
        is_clear = self.difference.low > 0 or self.difference.high < 0
        return is_clear and abs(self.difference.mean) >= ROUNDING

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON types."""
        return {**asdict(self), "is_real": self.is_real}


@dataclass(frozen=True)
class RolesComparison:
    """All roles of two models. ``too_few``: roles that too few stories of a half have to tell a difference.

    ``left_out``: probes that need labels, where none could be had. ``n_stories``: that both read.
    """

    roles: tuple[RoleDifference, ...]
    too_few: tuple[str, ...]
    left_out: tuple[str, ...]
    n_stories: int


def compare_roles(
    a: StoryModel,
    b: StoryModel,
    stories: Sequence[Story],
    *,
    seed: int,
    probes: Sequence[str] | None = None,
    progress: Callable[[int], None] = lambda n_read: None,
) -> RolesComparison:
    """Every role of two models on the same stories. Roles are patterns of attention; causes are not tested.

    ``stories``: of ``role_tables.stories_of_both``, none that a model was trained on, which is not looked at. Labels
    are their own, else the annotator's. ``probes``: names; all if None. ``seed``: of the bootstrap, of twins, of random
    tokens. ``progress``: stories read so far, each of them twice. Raises what ``score_heads`` raises.
    """
    if stories and read_labels(stories[0]) is None and not parser_is_missing():
        stories = list(with_labels(stories))  # once, not for each reading
    scans: list[HeadsReport] = []
    for model in (a, b):
        n_before = len(scans) * len(stories)

        def told(n: int, n_before: int = n_before) -> None:
            progress(n_before + n)

        scans.append(
            score_heads(model, stories, seed=seed, probes=probes, exclude=(), n_explain=0, progress=told)
        )
    twins = [{role_of(one): one.nulls[TWINS] for one in scan.scores} for scan in scans]
    larger = {role: max(null, twins[1][role]) for role, null in twins[0].items() if role in twins[1]}
    tables = [
        read_tables(model, stories, choose_probes([*scan.probes]), larger, seed=seed)
        for model, scan in zip((a, b), scans, strict=True)
    ]
    holders = [{one.role: one.holders for one in head_roles("", scan.scores)} for scan in scans]
    heads = [sorted({score.head for score in scan.scores}) for scan in scans]
    shared = {role: (tables[0][role], tables[1][role]) for role in larger}
    found = compare_tables(shared, holders, heads, seed=seed)
    names = {one.role for one in found}
    few = tuple(role for role in {**twins[0], **twins[1]} if role not in names)
    return RolesComparison(tuple(found), few, scans[0].left_out, len(stories))


def compare_losses(
    a: StoryModel, b: StoryModel, stories: Sequence[Story], *, seed: int
) -> list[LossDifference]:
    """Bits per byte, and nats per token where both have the same tokens. ``stories``: as in :func:`compare_roles`.

    Raises ModelError without a tokenizer.
    """
    one, other = read_losses(a, stories), read_losses(b, stories)
    weights = poisson_weights(seed, [story.digest for story in stories])
    found = []
    for name, unit in (("bits", "bits per byte"), ("loss", "nats per token")):
        if name == "loss" and not have_same_tokens(a, b):
            continue
        mine, theirs = one[name].sums, other[name].sums
        counts = np.repeat(one[name].counts[:, None], 3, axis=1)
        told = ClusteredMeans.of(weights, np.stack([mine, theirs, theirs - mine], axis=1), counts)
        ends = [told.interval(column) for column in range(3)]
        means = [Mean(float(x), end.low, end.high) for x, end in zip(told.mean[0], ends, strict=True)]
        found.append(LossDifference(unit, *means))
    return found


# Differences ------------------------------------------------------------------------------------------------


def compare_tables(
    tables: Mapping[str, tuple[RoleTable, RoleTable]],
    holders: Sequence[Mapping[str, tuple[str, ...]]],
    heads: Sequence[Sequence[HeadId]],
    *,
    seed: int,
) -> list[RoleDifference]:
    """The difference of each role that enough stories of either half have. ``holders``, ``heads``: of a, of b."""
    halves = [one for role, pair in tables.items() if (one := _measured(role, *pair)) is not None]
    if not halves:
        return []
    keys = sorted({key for one in halves for part in one.cluster for key in part})
    place, weights = {key: i for i, key in enumerate(keys)}, poisson_weights(seed, keys)
    means, errors = zip(*(one.means(weights, place) for one in halves), strict=True)
    mean, se = np.stack(means, 1), np.stack(errors, 1)
    scaled = scaled_deviations(mean[1:], mean[0], se[1:])
    low_t, high_t = np.quantile(scaled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    wide = se[0] * np.stack([one.widening for one in halves])
    ends = np.stack([mean[0], mean[0] - high_t * wide, mean[0] - low_t * wide], axis=-1)
    of_roles = scaled_deviations(mean[1:, :, -1], mean[0, :, -1], se[0, :, -1])
    largest = np.abs(of_roles).max(1)
    critical = norm.cdf(np.quantile(largest, LEVEL))
    found = []
    for i, one in enumerate(halves):
        told = [Mean(*numbers) for numbers in ends[i].tolist()]
        sides = [
            RoleInModel(
                len(heads[side]),
                holders[side].get(one.role, ()),
                *one.names(side, heads[side]),
                *told[2 * side : 2 * side + 2],
            )
            for side in (0, 1)
        ]
        difference, error, df = told[-1], float(wide[i, -1]), one.n_stories - 2
        reach = float(t.ppf(critical, df)) * error
        p = 1.0
        if abs(difference.mean) >= ROUNDING:
            deviation = norm.isf(t.sf(abs(difference.mean) / error, df)) if error else np.inf
            p = float(1 + (largest >= deviation).sum()) / (1 + len(largest))
        corrected = (difference.mean - reach, difference.mean + reach)
        found.append(RoleDifference(one.role, sides[0], sides[1], difference, *corrected, p, one.n_stories))
    return found


@dataclass(frozen=True, eq=False)
class _Halves:
    """A role in both models. ``chosen``: by model, then by the half that is measured.

    ``cluster``, ``told``: of each half, its stories that have a query in both models: keys, and columns.
    """

    role: str
    tables: tuple[RoleTable, RoleTable]
    chosen: Sequence[Sequence[Choice]]
    cluster: Sequence[Sequence[int]]
    told: Sequence[Float[np.ndarray, "story column"]]

    @property
    def n_stories(self) -> int:
        """On both halves."""
        return sum(map(len, self.cluster))

    @property
    def widening(self) -> Float[np.ndarray, " column"]:
        """What errors are multiplied by where the halves chose differently: as if both were one error."""
        a, b = (first != second for first, second in self.chosen)
        errors = np.stack([x.std(0, ddof=1) / len(x) ** 0.5 for x in self.told])
        joined = np.sqrt((errors**2).sum(0))
        whole = np.where(joined > 0, errors.sum(0) / np.where(joined > 0, joined, 1.0), 1.0)
        return np.where([a, a, b, b, a or b], whole, 1.0)

    def means(
        self, weights: Float[np.ndarray, "replicate key"], place: Mapping[int, int]
    ) -> tuple[Float[np.ndarray, "replicate column"], Float[np.ndarray, "replicate column"]]:
        """Means of the two halves' means and their standard errors; ``place``: of each key among the weights."""
        means, squares = [], []
        for cluster, x in zip(self.cluster, self.told, strict=True):
            one = ClusteredMeans.of(weights[:, [place[key] for key in cluster]], x, np.ones_like(x))
            means.append(one.mean)
            squares.append(one.se**2)
        return np.mean(means, 0), np.sqrt(np.sum(squares, 0)) / 2

    def names(self, side: int, heads: Sequence[HeadId]) -> tuple[tuple[str, str], tuple[str, str]]:
        """Heads and nulls that were chosen in a model."""
        first, second = self.chosen[side]
        nulls = self.tables[side].nulls
        return (str(heads[first.head]), str(heads[second.head])), (nulls[first.null], nulls[second.null])


def _measured(role: str, a: RoleTable, b: RoleTable) -> _Halves | None:
    """What each half measures of what the other chose; None where it has too few stories."""
    rows = {key: i for i, key in enumerate(b.cluster)}
    pairs = [(key, i, rows[key]) for i, key in enumerate(a.cluster) if key in rows]
    chosen: list[list[Choice]] = [[], []]
    clusters, told = [], []
    for half in (0, 1):
        mine = [pair for pair in pairs if second_half(pair[0]) == bool(half)]
        columns = []
        for side, table in enumerate((a, b)):
            choice = table.choose(1 - half)
            if choice is None:
                return None
            chosen[side].append(choice)
            at = [pair[1 + side] for pair in mine]
            columns += [table.value[at, choice.head], table.contrast[at, choice.null, choice.head]]
        x = np.stack([*columns, columns[3] - columns[1]], axis=1).astype(np.float64)
        there = np.flatnonzero(np.isfinite(x).all(axis=1))
        if len(there) < MIN_HALF:
            return None
        clusters.append([mine[i][0] for i in there])
        told.append(x[there])
    return _Halves(role, (a, b), chosen, clusters, told)
