"""The basis of a candidate: distance, token identities, or what is beyond both.

``positional`` by construction of the probe. In layer 0 the scores before the softmax are an exact function of both
tokens and both positions, so that what distance does not explain is ``lexical``. Above it, the best predictor from
token identities and distance (``basis``) is fitted on either half of the stories and read on the other: ``contextual``
where the value beyond it reaches the floor (lower end, corrected for all rows that are so tested), else ``lexical``.

A predictor of few stories misses what more stories would teach it. So it is fitted twice, on n stories and on half as
many, and the value must lie the floor beyond its *limit* too: what it would reach if its error fell as 1 / sqrt(n).
Heads of layer 0, where the truth is known, reach no more than that limit (``docs/methods.md``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tslens.model.story_model import StoryModel
from tslens.probes.basis import Rows, TokenPredictor, fit_predictor
from tslens.probes.batch import TokenBatch
from tslens.probes.plan import Plan, make_plan
from tslens.probes.strata import Texts
from tslens.stats import MIN_HALF, BootstrapSums, poisson_weights, scaled_deviations, second_half
from tslens.types import Basis, HeadId, HeadScore, Position

FITTED_STORIES = 250  # of each half, for the predictor from token identities: more still help a little
GROWTH = 1 / (
    2**0.5 - 1
)  # from the gain of twice the stories to the gain of endless ones, as errors of 1 / sqrt(n) fall

_Key = tuple[HeadId, str, Position]
_Side = tuple[TokenPredictor, TokenPredictor]  # fitted on all stories of one half, and on half of them


@dataclass(frozen=True)
class Explained:
    """``lexical``: what token identities and distance give by the predictor; ``limit``: with endless stories.

    Both are None where that is not asked; ``basis`` where there are too few stories to say.
    """

    basis: Basis | None
    lexical: float | None
    limit: float | None = None


def bases(
    model: StoryModel, stories: Texts, own: Mapping[str, Texts], rows: Sequence[HeadScore], *, seed: int
) -> list[Explained]:
    """The basis of each row. ``own``: the sequences of each probe that reads no stories."""
    known = {probe.name: probe for texts in (stories, *own.values()) for probe in texts.probes}
    asked = [row for row in rows if known[row.probe].basis is None and row.head.layer > 0]
    half = [second_half(key) for batch in stories.batches for key in batch.cluster]
    enough = min(sum(half), len(half) - sum(half)) >= 2 * MIN_HALF
    beyond = beyond_tokens(model, stories, own, asked, seed=seed) if asked and enough else {}
    found: list[Explained] = []
    for row in rows:
        by_construction = known[row.probe].basis
        if by_construction is not None:
            found.append(Explained(by_construction, None))
        elif row.head.layer == 0:
            found.append(Explained("lexical", row.value))
        elif (rest := beyond.get((row.head, row.probe, row.position))) is None:
            found.append(Explained(None, None))
        else:
            contextual = rest.low >= known[row.probe].floor
            found.append(Explained("contextual" if contextual else "lexical", rest.predicted, rest.limit))
    return found


@dataclass(frozen=True)
class Beyond:
    """Lower end of the value beyond the predicted one and beyond its limit, and these two."""

    low: float
    predicted: float
    limit: float


def beyond_tokens(
    model: StoryModel, stories: Texts, own: Mapping[str, Texts], rows: Sequence[HeadScore], *, seed: int
) -> dict[_Key, Beyond]:
    """What the predictor leaves of each row."""
    heads = sorted({row.head for row in rows})
    sides = {side: _fitted(model, stories, heads, side=side, seed=seed) for side in (False, True)}
    found, deviations = [], []
    for texts in (stories, *own.values()):
        names = [probe.name for probe in texts.probes]
        mine = [row for row in rows if row.probe in names]
        if mine and texts.batches:
            means = _contrasts(model, texts, mine, sides, heads, seed=seed).means()
            mean, se, n = means.mean[:, :, 0], means.se[0, :, 0], 2 * len(mine)
            found.append((mine, mean[0], se))
            deviations.append(scaled_deviations(mean[1:, :n], mean[0, :n], se[:n]).max(1))
    critical = float(np.quantile(np.max(deviations, axis=0), 0.95))
    beyond = {}
    for mine, mean, se in found:
        low = (mean - critical * se)[: 2 * len(mine)].reshape(2, -1).min(0)
        predicted, limit = mean[2 * len(mine) :].reshape(2, -1)
        for i, row in enumerate(mine):
            beyond[row.head, row.probe, row.position] = Beyond(
                float(low[i]), float(predicted[i]), float(max(predicted[i], limit[i]))
            )
    return beyond


def _fitted(model: StoryModel, stories: Texts, heads: Sequence[HeadId], *, side: bool, seed: int) -> _Side:
    """The predictors that read one side of the stories, fitted on the first of the other and on half of these."""
    n = sum(second_half(key) != side for batch in stories.batches for key in batch.cluster)
    n = min(n, FITTED_STORIES)
    whole, half = (
        fit_predictor(model, _first(stories, n_stories, side=side), heads, seed=seed)
        for n_stories in (n, n // 2)
    )
    return whole, half


def _first(stories: Texts, n_stories: int, *, side: bool) -> list[Rows]:
    """The first stories that are not of a side."""
    rows, n_left = [], n_stories
    for batch in stories.batches:
        chosen = np.flatnonzero([second_half(key) != side for key in batch.cluster])[:n_left]
        if len(chosen):
            rows.append(_rows(batch, chosen))
            n_left -= len(chosen)
    return rows


def _rows(batch: TokenBatch, chosen: np.ndarray) -> Rows:
    return Rows(torch.from_numpy(batch.tokens[chosen]), torch.from_numpy(batch.length[chosen]))


def _contrasts(
    model: StoryModel,
    texts: Texts,
    rows: Sequence[HeadScore],
    sides: Mapping[bool, _Side],
    heads: Sequence[HeadId],
    *,
    seed: int,
) -> BootstrapSums:
    """Sums of four numbers of each row: value minus predicted, value minus limit, predicted, limit."""
    sums = BootstrapSums(4 * len(rows), 1)
    probes = [probe for probe in texts.probes if probe.name in {row.probe for row in rows}]
    for batch in texts.batches:
        plan = make_plan(batch, probes, texts.calibration).values_only()
        column = {(m.probe, m.position): i for i, m in enumerate(plan.measures)}
        at = [column[row.probe, row.position] for row in rows]
        which = torch.tensor([heads.index(row.head) for row in rows])
        patterns = model.attention_patterns(plan.tokens.to(model.device))
        value = _read(plan, dict(enumerate(patterns)), model, heads)[:, at, which]
        half = torch.tensor([second_half(key) for key in plan.cluster])
        whole_fit, half_fit = (
            torch.where(
                half[:, None],
                _read(plan, sides[True][fit].pattern(plan.tokens), model, None)[:, at, which],
                _read(plan, sides[False][fit].pattern(plan.tokens), model, None)[:, at, which],
            )
            for fit in (0, 1)
        )
        limit = whole_fit + GROWTH * (whole_fit - half_fit)
        weights = torch.from_numpy(poisson_weights(seed, plan.cluster))
        table = torch.cat([value - whole_fit, value - limit, whole_fit, limit], 1)[:, :, None]
        sums.add(table, plan.present[:, at].repeat(1, 4), weights, half)
    return sums


def _read(
    plan: Plan, patterns: Mapping[int, Tensor], model: StoryModel, heads: Sequence[HeadId] | None
) -> Float[Tensor, "cluster measure head"]:
    """Values of the heads, in their order, from patterns by layer; ``heads`` is None where these hold no others."""
    read = []
    for layer, pattern in sorted(patterns.items()):
        chosen = None if heads is None else [head.index for head in heads if head.layer == layer]
        if chosen == []:
            continue
        of_heads = pattern.float().cpu() if chosen is None else pattern[:, chosen].float().cpu()
        read.append(plan.read(of_heads, local=model.window(layer) is not None))
    return torch.cat(read, -1)
