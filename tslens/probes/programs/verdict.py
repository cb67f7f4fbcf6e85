"""From readings to records: intervals over stories, corrected lower ends, statuses.

Floors, written down before any shipped model was read: a head is a ``candidate`` if its composed program explains half
of its attention (``share``, lower end corrected over heads by the largest deviation, Chernozhukov et al. 2013) and more
than it does of any head of the random twins, and if its intersection over union with the head exceeds every null of its
own (``uniform``, ``base``, ``shifted``; corrected lower end above zero). It is a ``role`` if, besides, the loss is
lower with the program in the head's place than with every other pattern there: uniform attention, its distances alone,
its mean pattern, its pattern in another story, its own weights shuffled (lower ends corrected over heads and all five).
A program without steps is its distances alone, so such a head is a candidate at most. ``unclear``: a share whose lower
end exceeds zero and the twins. ``no``: the rest, among them heads with less than 0.1 nats to explain.

The floors of ``role`` were raised once after a reading: at first it asked for uniform attention, and for the mean
pattern only where there were steps, which a program without steps could not fail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Float

from tslens.probes.programs.estimates import (
    DISTANCE,
    DIVERGENCE,
    IOU,
    ReadMeans,
    means_over_stories,
    percentile_interval,
)
from tslens.probes.programs.fit import LayerFit
from tslens.probes.programs.reading import COMPOSED, NullOf, Readings
from tslens.probes.programs.report import Estimate, GroupSwap, HeadPrograms, ProgramScore, SwapEffect
from tslens.probes.programs.roles import Role
from tslens.probes.programs.swaps import OF_HEAD_READOUTS, READOUTS, Method, SwapReadings
from tslens.stats import scaled_deviations
from tslens.types import HeadId, Status

Whose = TypeVar("Whose", HeadId, str)  # a head, or a group
SHARE_FLOOR = 0.5  # least share of a head's attention that its program explains
FLOORS = (0.25, SHARE_FLOOR, 0.75)
AGAINST: tuple[Method, ...] = (
    "uniform",
    "profile",
    "mean",
    "other",
    "shuffled",
)  # a role is better than these
SAVED: tuple[tuple[Method, Method], ...] = (("mean", "role"), ("mean", "program"), ("profile", "program"))


def program_scores(
    readings: Readings, read: ReadMeans, fits: Sequence[LayerFit], *, seed: int
) -> list[tuple[ProgramScore, ...]]:
    """Every program of every head."""
    n_heads = len(fits[0].composed)
    keys = list(readings.nulls)
    contrasts = np.stack([readings.likeness[key.program][IOU] - readings.nulls[key] for key in keys], 1)
    n_columns = len(keys) * contrasts.shape[2]  # each head has a column of its own: not all have every null
    means = means_over_stories(contrasts.reshape(len(contrasts), n_columns, 1), readings.cluster, seed=seed)
    shape = (-1, len(keys), contrasts.shape[2])
    mean, se = (x[:, :, 0].reshape(shape) for x in (means.mean, means.se))
    deviations = scaled_deviations(mean[1:], mean[0], se[0]).reshape(len(mean) - 1, -1)
    critical = float(np.quantile(deviations.max(1), 0.95))
    low = mean[0] - critical * se[0]
    return [
        tuple(
            _score(name, head, fits[head // n_heads], read, keys, mean[0, :, head], low[:, head])
            for name in read.names
        )
        for head in range(contrasts.shape[2])
    ]


def _score(
    name: str,
    head: int,
    fit: LayerFit,
    read: ReadMeans,
    keys: Sequence[NullOf],
    contrast: Float[np.ndarray, " null"],
    low: Float[np.ndarray, " null"],
) -> ProgramScore:
    mine = [i for i, key in enumerate(keys) if key.program == name and np.isfinite(contrast[i])]
    gates = [i for i in mine if keys[i].null != "other"]
    iou = read.estimate(name, IOU, head)
    share = percentile_interval(read.shares(name)[:, head]) if read.has_total[head] else None
    return ProgramScore(
        name=name,
        program=_in_words(name, fit, head % len(fit.composed)),
        iou=iou,
        distance=read.estimate(name, DISTANCE, head),
        divergence=float(read.replicates(name, DIVERGENCE)[0, head]),
        share=share,
        nulls={keys[i].null: iou.value - float(contrast[i]) for i in mine},
        excess=min((float(contrast[i]) for i in gates), default=None),
        excess_low=min((float(low[i]) for i in gates), default=None),
    )


def _in_words(name: str, fit: LayerFit, head: int) -> str:
    if name == COMPOSED:
        return str(fit.composed[head])
    for role in fit.alphas:
        if str(role) == name:
            return str(fit.single(role, head))
    return name


def head_effects(
    swaps: SwapReadings, heads: Sequence[HeadId], *, seed: int
) -> dict[HeadId, tuple[SwapEffect, ...]]:
    """What each swap of one head costs, at each readout, and what programs save, paired by story."""
    one = _with_saved(swaps.one)
    keys = [(key, i) for key in one for i in range(len(OF_HEAD_READOUTS))]
    table = np.stack([one[key][:, i] for key, i in keys], 1)
    effects = _effects(table, swaps.cluster, seed=seed)
    found: dict[HeadId, list[SwapEffect]] = {head: [] for head in heads}
    for ((head, method), i), (effect, n) in zip(keys, effects, strict=True):
        if effect is not None:
            found[head].append(SwapEffect(method, OF_HEAD_READOUTS[i], effect, n))
    return {head: tuple(rows) for head, rows in found.items()}


def _with_saved(
    found: Mapping[tuple[Whose, Method], Float[np.ndarray, "story readout"]],
) -> dict[tuple[Whose, str], Float[np.ndarray, "story readout"]]:
    """The effects, and after them the differences of ``SAVED`` of heads or groups that have both."""
    every: dict[tuple[Whose, str], np.ndarray] = {(whose, method): x for (whose, method), x in found.items()}
    for whose in dict.fromkeys(whose for whose, _ in found):
        for worse, better in SAVED:
            if (whose, worse) in found and (whose, better) in found:
                every[whose, f"{worse} - {better}"] = found[whose, worse] - found[whose, better]
    return every


def group_effects(
    swaps: SwapReadings, sizes: Mapping[str, int], *, seed: int
) -> tuple[tuple[GroupSwap, ...], dict[str, float]]:
    """What each swap of a group costs, at each readout; what programs save, paired by story; the clean losses."""
    groups = _with_saved(swaps.groups)
    keys = [(key, i) for key in groups for i in range(len(READOUTS))]
    table = np.stack([groups[key][:, i] for key, i in keys], 1)
    effects = _effects(table, swaps.cluster, seed=seed)
    rows = [
        GroupSwap(group, sizes[group], SwapEffect(method, READOUTS[i], effect, n))
        for ((group, method), i), (effect, n) in zip(keys, effects, strict=True)
        if effect is not None
    ]
    clean = {
        name: float(np.nanmean(swaps.clean[:, i]))
        for i, name in enumerate(READOUTS)
        if np.isfinite(swaps.clean[:, i]).any()
    }
    return tuple(rows), clean


def _effects(
    table: Float[np.ndarray, "story column"], clusters: Sequence[int], *, seed: int
) -> list[tuple[Estimate | None, int]]:
    """Mean and interval of each column, and its stories; None where no story has it."""
    means = means_over_stories(table[:, :, None], clusters, seed=seed)
    ends = (means.mean[0], *means.interval())
    return [
        (Estimate(*(float(end[i, 0]) for end in ends)) if n > 0 else None, int(n))
        for i, n in enumerate(means.n)
    ]


def causes(swaps: SwapReadings, heads: Sequence[HeadId], *, seed: int) -> dict[HeadId, dict[str, float]]:
    """What the composed program saves against other patterns, with corrected lower ends; nothing against itself."""
    keys = [(head, method) for head in heads for method in AGAINST]
    programs = {head: swaps.one[head, "program"] for head in heads}
    saved = [
        (swaps.one.get((head, method), programs[head]) - programs[head])[:, 0]  # no steps: the profile is it
        for head, method in keys
    ]
    means = means_over_stories(np.stack(saved, 1)[:, :, None], swaps.cluster, seed=seed)
    mean, se = means.mean[:, :, 0], means.se[0, :, 0]
    critical = float(np.quantile(scaled_deviations(mean[1:], mean[0], se).max(1), 0.95))
    found: dict[HeadId, dict[str, float]] = {head: {} for head in heads}
    for (head, method), value, error in zip(keys, mean[0], se, strict=True):
        found[head] |= {method: float(value), f"{method}_low": float(value - critical * error)}
    return found


def status_of(
    composed: ProgramScore,
    support: float | None,
    twins: float,
    cause: Mapping[str, float] | None,
) -> Status:
    """By the floors above."""
    if support is None or support <= max(0.0, twins):
        return "no"
    beyond_nulls = composed.excess_low is not None and composed.excess_low > 0
    if support < SHARE_FLOOR or not beyond_nulls:
        return "unclear"
    if cause is not None and all(cause[f"{method}_low"] > 0 for method in AGAINST):
        return "role"
    return "candidate"


def head_rows(
    heads: Sequence[HeadId],
    scores: Sequence[tuple[ProgramScore, ...]],
    read: ReadMeans,
    roles: Mapping[HeadId, Role],
    effects: Mapping[HeadId, tuple[SwapEffect, ...]],
    saved: Mapping[HeadId, Mapping[str, float]],
    twins: float,
) -> tuple[HeadPrograms, ...]:
    """The record of every head."""
    supports = read.support()
    rows = []
    for i, head in enumerate(heads):
        support = float(supports[i]) if np.isfinite(supports[i]) else None
        composed = next(score for score in scores[i] if score.name == COMPOSED)
        cause = saved.get(head)
        rows.append(
            HeadPrograms(
                head=head,
                status=status_of(composed, support, twins, cause),
                total=read.estimate("uniform", DIVERGENCE, i),
                role=str(roles[head]) if head in roles else None,
                support=support,
                programs=scores[i],
                swaps=effects.get(head, ()),
                cause=cause,
            )
        )
    return tuple(rows)
