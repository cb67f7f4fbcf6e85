"""From bootstrap sums to scores: value and interval, nulls, corrected excess, confirmation, status.

For each row (head x probe x position) and each null the contrast is the mean over stories of value minus null. The
random twins give one more null: the largest over the heads of all of them of the lower end (one-sided, 95%) of their
value, so that it picks a head and not the noise of one; a threshold, whose own error is not counted. Then

    c           = 95th percentile over replicates of the largest (contrast_b - contrast) / se of all contrasts
    excess_low  = least over the row's nulls of contrast - c * se
    p           = largest over the row's nulls of the share of replicates whose largest deviation reaches it

so that with 95% probability no ``excess_low`` is too high (Chernozhukov et al. 2013). ``candidate``: ``excess_low``
reaches the floor, and on either half of the stories the one-sided 95% lower end does too. ``unclear``: ``excess_low``
above zero. ``no``: the rest. Where the value or a null was measured on fewer than five stories of a half, no error can
be told: ``excess_low`` is then -1, below which no excess lies, and ``p`` is 1.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tslens.errors import ProbeInputError
from tslens.model.story_model import StoryModel
from tslens.probes.base import Probe
from tslens.stats import MIN_CLUSTERS, MIN_HALF, Means, one_sided, scaled_deviations
from tslens.types import HeadId, HeadScore, Position, Status

if TYPE_CHECKING:
    import pandas as pd

    from tslens.probes.scan import Stream

TWINS = "twins"
_RANK = {"role": 3, "candidate": 2, "unclear": 1, "no": 0}


@dataclass(frozen=True)
class HeadsReport:
    """Scores of all heads of a model; shows as a table in a notebook.

    ``n_excluded``: training stories that were left out. ``critical``: the c of the corrected intervals.
    ``n_cut``: stories longer than the context. ``counts_at_floors``: heads that would be candidates at ``half`` the
    floor, the ``floor``, and ``double``. ``distance_profiles``: [distance] mean attention per head.
    ``probes``, ``served``: of each probe its description, and which predictions its role serves. ``left_out``: probes
    that need labels, where none could be had. ``n_explained``: stories on which basis and cause of the candidates
    were measured. ``n_counted``: stories that the 4-gram beside causes was counted on. ``agreement``: rank
    correlations of the ways to take a head away.
    """

    scores: tuple[HeadScore, ...]
    n_stories: int
    n_excluded: int
    n_cut: int
    seed: int
    critical: float
    floor: float
    counts_at_floors: Mapping[str, int]
    probes: Mapping[str, str]
    served: Mapping[str, str]
    distance_profiles: Mapping[HeadId, np.ndarray]
    left_out: tuple[str, ...] = ()
    n_explained: int = 0
    n_counted: int = 0
    agreement: Mapping[str, float] = field(default_factory=dict)

    def status_of(self, head: HeadId) -> Status:
        """A head's status is its best row's."""
        return max((s.status for s in self.scores if s.head == head), key=_RANK.__getitem__)

    def best_first(self) -> list[HeadScore]:
        """Rows by status, then by excess."""
        return sorted(self.scores, key=lambda s: (-_RANK[s.status], -s.excess, s.head, s.probe, s.position))

    def to_pandas(self) -> pd.DataFrame:
        """One row per head, probe and position."""
        import pandas as pd

        return pd.DataFrame([score.to_json() for score in self.scores])

    def _repr_html_(self) -> str:
        columns = ["head", "probe", "position", "value", "low", "high", "excess", "excess_low", "p", "status"]
        frame = self.to_pandas()[columns]
        html: str = frame.to_html(index=False, float_format="{:.3f}".format, escape=True)
        return html


@dataclass(frozen=True)
class _Row:
    """One probe at one position in one stream: columns of its measures, and all its contrasts."""

    probe: Probe
    position: Position
    stream: int
    value: int
    everywhere: int | None
    mul: int | None
    nulls: Mapping[str, int]
    n_least: int  # stories of the value, or of the null that has fewest
    contrast: np.ndarray  # [replicate, null, head]
    se: np.ndarray  # [null, head]
    halves: np.ndarray  # [half, null, head]
    halves_se: np.ndarray  # [half, null, head]
    value_halves: np.ndarray  # [half, head]
    n_half: int  # stories of the value, or of the null that has fewest, on the half that has fewer
    quantile: np.ndarray  # [half, null] of the one-sided lower end

    def lows(self, critical: float) -> np.ndarray:
        """[head] corrected lower end of the excess."""
        low: np.ndarray = (self.contrast[0] - critical * self.se).min(0)
        return low

    def support(self, critical: float) -> np.ndarray:
        """[head] what the floor is held against: the least of the lower ends, corrected on all stories, on either half.

        Minus infinity where the value or a null of the family was measured on fewer than five stories of a half: then
        nothing is shown.
        """
        if self.n_half < MIN_HALF:
            return np.full(self.contrast.shape[2], -np.inf)
        halves = (self.halves - self.quantile[:, :, None] * self.halves_se).min((0, 1))
        return np.nan_to_num(np.minimum(self.lows(critical), halves), nan=-np.inf)


def judge(
    model: StoryModel,
    probes: Sequence[Probe],
    streams: Sequence[Stream],
    n_stories: int,
    n_excluded: int,
    seed: int,
    distance_profiles: Mapping[HeadId, np.ndarray],
    left_out: tuple[str, ...] = (),
) -> HeadsReport:
    """Scores of every head, probe and position. Warns below 30 stories, where intervals are not to be trusted."""
    rows, means = [], []
    for index, stream in enumerate(streams):
        whole = stream.model.means()
        means.append((whole, *whole.interval()))
        rows += _rows(probes, stream, index, whole)
    if not rows:
        raise ProbeInputError("No story has a query for these probes.", "Give longer stories, or more.")
    few = min((row.n_least, row.probe.name) for row in rows)
    if few[0] < MIN_CLUSTERS:
        others = f" ({n_excluded} more were training stories of this model)" if n_excluded else ""
        what = (
            f"There are only {n_stories} stories{others}"
            if n_stories < MIN_CLUSTERS
            else f"{few[1]} or one of its nulls has queries in only {few[0]} stories"
        )
        warnings.warn(
            f"{what}; below {MIN_CLUSTERS} intervals are too narrow, and without {MIN_HALF} on either half nothing is "
            "a candidate.",
            stacklevel=3,
        )
    deviations = [scaled_deviations(row.contrast[1:], row.contrast[0], row.se) for row in rows]
    largest = np.max([deviation.max((1, 2)) for deviation in deviations], axis=0)
    critical = float(np.quantile(largest, 0.95))
    heads = [HeadId(la, h) for la in range(model.cfg.n_layers) for h in range(model.cfg.n_heads)]
    order = {probe.name: i for i, probe in enumerate(probes)}
    rows.sort(key=lambda row: order[row.probe.name])
    scores = [
        _score(row, head, index, means[row.stream], largest, critical)
        for index, head in enumerate(heads)
        for row in rows
    ]
    return HeadsReport(
        scores=tuple(scores),
        n_stories=n_stories,
        n_excluded=n_excluded,
        n_cut=sum(stream.n_cut for stream in streams),
        seed=seed,
        critical=critical,
        floor=max(probe.floor for probe in probes),
        counts_at_floors={
            name: int(
                np.any([row.support(critical) >= factor * row.probe.floor for row in rows], axis=0).sum()
            )
            for name, factor in (("half", 0.5), ("floor", 1.0), ("double", 2.0))
        },
        probes={probe.name: probe.description for probe in probes},
        served={probe.name: probe.served for probe in probes},
        distance_profiles=distance_profiles,
        left_out=left_out,
    )


def _rows(probes: Sequence[Probe], stream: Stream, index: int, whole: Means) -> list[_Row]:
    """The rows of one stream that have a query in some story."""
    sides, twins = (whole, stream.model.means(0), stream.model.means(1)), stream.twins.means()
    by_name = {probe.name: probe for probe in probes}
    values = [measure for measure in stream.measures if measure.kind == "value"]
    rows = []
    for twin_column, value in enumerate(values):
        same = [
            (i, m)
            for i, m in enumerate(stream.measures)
            if (m.probe, m.position) == (value.probe, value.position)
        ]
        column = {m.kind: i for i, m in same if m.kind != "null"}
        all_nulls = {m.null: i for i, m in same if m.kind == "null"}
        nulls = {name: i for name, i in all_nulls.items() if whole.n[i] > 0}
        if whole.n[column["value"]] == 0:
            continue
        (contrast, se), *halves = (
            _contrasts(mean, twins, column["value"], list(nulls.values()), twin_column) for mean in sides
        )
        rows.append(
            _Row(
                probe=by_name[value.probe],
                position=value.position,
                stream=index,
                value=column["value"],
                everywhere=column.get("all"),
                mul=column.get("mul"),
                nulls=nulls,
                n_least=int(min(whole.n[i] for i in (column["value"], *all_nulls.values()))),
                contrast=contrast,
                se=se,
                halves=np.stack([half[0][0] for half in halves]),
                halves_se=np.stack([half[1] for half in halves]),
                value_halves=np.stack([side.mean[0, column["value"]] for side in sides[1:]]),
                n_half=int(
                    min(side.n[i] for side in sides[1:] for i in (column["value"], *all_nulls.values()))
                ),
                quantile=one_sided(
                    np.array([[side.n[i] for i in (*nulls.values(), column["value"])] for side in sides[1:]])
                ),
            )
        )
    return rows


def _threshold(twins: Means, column: int) -> float:
    """The null of the twins: the largest lower end over their heads.

    On fewer than five stories no lower end can be trusted, and the largest value itself, which noise makes too high,
    stands for it; on none, 1.
    """
    n = twins.n[column]
    if n == 0:
        return 1.0
    error = one_sided(n) * twins.se[0, column] if n >= MIN_HALF else 0.0
    return float((twins.mean[0, column] - error).max())


def _contrasts(
    means: Means, twins: Means, value: int, nulls: list[int], twin_column: int
) -> tuple[np.ndarray, np.ndarray]:
    """Value minus each null, the twins last: [replicate, null, head], and standard errors [null, head]."""
    from_twin = means.mean[:, value] - _threshold(twins, twin_column)
    contrast = np.concatenate([means.mean[:, nulls], from_twin[:, None]], axis=1)
    return contrast, np.concatenate([means.se[0, nulls], means.se[0, [value]]], axis=0)


def _score(
    row: _Row,
    head: HeadId,
    i: int,
    means: tuple[Means, np.ndarray, np.ndarray],
    largest: np.ndarray,
    critical: float,
) -> HeadScore:
    whole, low, high = means
    contrast, se = row.contrast[0, :, i], row.se[:, i]
    value = float(whole.mean[0, row.value, i])
    names = [*row.nulls, TWINS]
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(se > 0, contrast / se, np.where(contrast > 0, np.inf, -np.inf))
    p = max(float((1 + (largest >= one).sum()) / (1 + len(largest))) for one in t)
    excess_low = float(row.lows(critical)[i])
    if row.n_half < MIN_HALF:
        p, excess_low = 1.0, -1.0
    halves = row.halves[:, :, i].min(1)
    if row.support(critical)[i] >= row.probe.floor:
        status: Status = "candidate"
    else:
        status = "unclear" if excess_low > 0 else "no"
    return HeadScore(
        head=head,
        probe=row.probe.name,
        position=row.position,
        value=value,
        low=float(low[row.value, i]),
        high=float(high[row.value, i]),
        mul=None if row.mul is None else float(whole.mean[0, row.mul, i]),
        nulls={name: value - float(c) for name, c in zip(names, contrast, strict=True)},
        excess=float(contrast.min()),
        excess_low=excess_low,
        p=p,
        status=status,
        basis=row.probe.basis,
        cause=None,
        value_all=None if row.everywhere is None else float(whole.mean[0, row.everywhere, i]),
        excess_halves=(_number(halves[0]), _number(halves[1])),
        value_halves=(_number(row.value_halves[0, i]), _number(row.value_halves[1, i])),
        n_stories=int(whole.n[row.value]),
    )


def _number(x: float) -> float | None:
    return float(x) if np.isfinite(x) else None
