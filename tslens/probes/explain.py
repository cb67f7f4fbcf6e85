"""What explains a candidate, and whether the model uses it: basis and cause of each row that the scan found.

**Basis** (DESIGN 7.6). ``positional`` by construction of the probe. In layer 0 the scores before the softmax are an
exact function of both tokens and both positions, so that what distance does not explain is ``lexical``. Above it, the
best predictor from token identities and distance (``basis``) is fitted on either half of the stories and read on the
other. What it misses for want of stories is seen in layer 0, where nothing can be missed: the largest share of a value
that it misses there, of the same probe and position, is allowed for. ``contextual`` where the value beyond it reaches
the floor plus that allowance (lower end, corrected for all rows that are so tested), else ``lexical``.

**Cause** (DESIGN 7.7): see ``cause``. A candidate whose cause holds is a ``role``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import spearmanr
from torch import Tensor

from tslens.model.story_model import StoryModel
from tslens.probes.base import ATTENTION_FLOOR
from tslens.probes.basis import Rows, TokenPredictor, fit_predictor
from tslens.probes.batch import TokenBatch
from tslens.probes.beside import score_beside
from tslens.probes.cause import METHODS, Cause, measure_causes
from tslens.probes.plan import Plan, make_plan
from tslens.probes.strata import Texts
from tslens.probes.verdict import HeadsReport
from tslens.stats import MIN_HALF, BootstrapSums, poisson_weights, scaled_deviations, second_half
from tslens.types import Basis, HeadId, HeadScore, Position, Status

FITTED_STORIES = 250  # of each half, for the predictor from token identities: more still help a little


@dataclass(frozen=True)
class Explained:
    """``lexical``: what token identities and distance would give, None where that is not asked.

    ``basis``: None where there are too few stories to say. ``missed``: share of a value, see ``HeadScore``.
    """

    basis: Basis | None
    lexical: float | None
    missed: float | None = None


def explain(
    report: HeadsReport,
    model: StoryModel,
    stories: Texts,
    own: Mapping[str, Texts],
    *,
    seed: int,
    progress: Callable[[int], None] = lambda n_stories: None,
) -> HeadsReport:
    """The report with the basis and cause of every candidate row.

    ``stories``: those that were kept, with the probes that read stories. ``own``: the sequences of each other probe.
    """
    candidates = [score for score in report.scores if score.status == "candidate"]
    explained = bases(model, stories, own, candidates, report.scores, seed=seed)
    causes: dict[int, Cause | None] = {}
    for texts in (stories, *own.values()):
        names = {probe.name for probe in texts.probes}
        mine = [i for i, score in enumerate(candidates) if score.probe in names]
        if mine and texts.batches:
            found = measure_causes(model, texts, [candidates[i] for i in mine], seed=seed, progress=progress)
            causes |= dict(zip(mine, found, strict=True))
    settled = {
        _key(score): _settled(score, explained[i], causes.get(i)) for i, score in enumerate(candidates)
    }
    others = score_beside(model, stories) if stories.batches and stories.probes else {}
    scores = tuple(
        replace(settled.get(_key(score), score), beside=others.get(_key(score))) for score in report.scores
    )
    n_explained = sum(len(batch.length) for batch in stories.batches)
    return replace(
        report,
        scores=scores,
        n_explained=n_explained,
        n_counted=stories.n_counted,
        agreement=agreement(list(settled.values())),
    )


def _key(score: HeadScore) -> tuple[HeadId, str, Position]:
    return score.head, score.probe, score.position


def _settled(score: HeadScore, explained: Explained, cause: Cause | None) -> HeadScore:
    status: Status = "role" if cause is not None and cause.holds else "candidate"
    effects = None if cause is None else dict(cause.effects)
    return replace(
        score,
        basis=explained.basis,
        lexical=explained.lexical,
        missed=explained.missed,
        cause=effects,
        status=status,
    )


def agreement(rows: Sequence[HeadScore]) -> dict[str, float]:
    """Spearman's correlation over rows of each two ways to take a head away, as "edge~zero"; none below four rows."""
    tested = [score.cause for score in rows if score.cause is not None]
    names = ("edge", *METHODS)
    if len(tested) < 4:
        return {}
    table = np.array([[cause[name] for name in names] for cause in tested])
    return {
        f"{a}~{b}": float(spearmanr(table[:, i], table[:, j]).statistic)
        for i, a in enumerate(names)
        for j, b in enumerate(names)
        if i < j and np.ptp(table[:, i]) > 0 and np.ptp(table[:, j]) > 0
    }


# Basis ------------------------------------------------------------------------------------------------------


def bases(
    model: StoryModel,
    stories: Texts,
    own: Mapping[str, Texts],
    rows: Sequence[HeadScore],
    every: Sequence[HeadScore],
    *,
    seed: int,
) -> list[Explained]:
    """The basis of each row. ``every``: all rows of the scan, of which those of layer 0 calibrate the predictor."""
    known = {probe.name: probe for texts in (stories, *own.values()) for probe in texts.probes}
    asked = [row for row in rows if known[row.probe].basis is None and row.head.layer > 0]
    halves = Counter(second_half(key) for batch in stories.batches for key in batch.cluster)
    enough = min(halves[False], halves[True]) >= MIN_HALF
    calibrating = list({_key(below): below for row in asked for below in _in_layer_0(row, every)}.values())
    beyond = _beyond_tokens(model, stories, own, asked, calibrating, seed=seed) if asked and enough else {}
    found: list[Explained] = []
    for row in rows:
        by_construction = known[row.probe].basis
        if by_construction is not None:
            found.append(Explained(by_construction, None))
        elif row.head.layer == 0:
            found.append(Explained("lexical", row.value))
        elif _key(row) not in beyond:
            found.append(Explained(None, None))
        else:
            rest = beyond[_key(row)]
            missed = max(0.0, *(beyond[_key(below)].share for below in _in_layer_0(row, every)))
            allowed = known[row.probe].floor + missed * (rest.mean + rest.predicted)
            basis: Basis = "contextual" if rest.low >= allowed else "lexical"
            found.append(Explained(basis, rest.predicted, missed))
    return found


def _in_layer_0(row: HeadScore, every: Sequence[HeadScore]) -> list[HeadScore]:
    """The same row of heads of layer 0: those with a value of the floor or more, or the one of highest value."""
    same = [
        other for other in every
        if other.head.layer == 0 and (other.probe, other.position) == (row.probe, row.position)
    ]  # fmt: skip
    paid = [other for other in same if other.value >= ATTENTION_FLOOR]
    return paid or [max(same, key=lambda other: other.value)]


@dataclass(frozen=True)
class _Beyond:
    """Value minus predicted value, mean and corrected lower end, and the predicted value."""

    mean: float
    low: float
    predicted: float

    @property
    def share(self) -> float:
        """Of the value, what is not predicted."""
        return self.mean / max(self.mean + self.predicted, 1e-9)


def _beyond_tokens(
    model: StoryModel,
    stories: Texts,
    own: Mapping[str, Texts],
    asked: Sequence[HeadScore],
    calibrating: Sequence[HeadScore],
    *,
    seed: int,
) -> dict[tuple[HeadId, str, Position], _Beyond]:
    """What the predictor leaves of each row; lower ends are corrected for the rows that are ``asked``."""
    rows = [*asked, *calibrating]
    heads = sorted({row.head for row in rows})
    predictors = {side: _fitted(model, stories, heads, side=side, seed=seed) for side in (False, True)}
    found, deviations = [], []
    for texts in (stories, *own.values()):
        names = [probe.name for probe in texts.probes]
        mine = [row for row in rows if row.probe in names]
        if mine and texts.batches:
            means = _contrasts(model, texts, mine, predictors, heads, seed=seed).means()
            found.append((mine, means.mean[:, :, 0], means.se[0, :, 0]))
    for mine, mean, se in found:
        tested = [i for i, row in enumerate(mine) if row.head.layer > 0]
        if tested:
            deviations.append(scaled_deviations(mean[1:, tested], mean[0, tested], se[tested]).max(1))
    critical = float(np.quantile(np.max(deviations, axis=0), 0.95))
    return {
        _key(row): _Beyond(
            float(mean[0, i]), float(mean[0, i] - critical * se[i]), float(mean[0, len(mine) + i])
        )
        for mine, mean, se in found
        for i, row in enumerate(mine)
    }


def _fitted(
    model: StoryModel, stories: Texts, heads: Sequence[HeadId], *, side: bool, seed: int
) -> TokenPredictor:
    """The predictor that reads one side of the stories, fitted on the first of the other."""
    rows, n_left = [], FITTED_STORIES
    for batch in stories.batches:
        chosen = np.flatnonzero([second_half(key) != side for key in batch.cluster])[:n_left]
        if len(chosen):
            rows.append(_rows(batch, chosen))
            n_left -= len(chosen)
    return fit_predictor(model, rows, heads, seed=seed)


def _rows(batch: TokenBatch, chosen: np.ndarray) -> Rows:
    return Rows(torch.from_numpy(batch.tokens[chosen]), torch.from_numpy(batch.length[chosen]))


def _contrasts(
    model: StoryModel,
    texts: Texts,
    rows: Sequence[HeadScore],
    predictors: Mapping[bool, TokenPredictor],
    heads: Sequence[HeadId],
    *,
    seed: int,
) -> BootstrapSums:
    """Sums of value minus predicted value of each row, then of each predicted value."""
    sums = BootstrapSums(2 * len(rows), 1)
    probes = [probe for probe in texts.probes if probe.name in {row.probe for row in rows}]
    for batch in texts.batches:
        plan = make_plan(batch, probes, texts.calibration).values_only()
        column = {(m.probe, m.position): i for i, m in enumerate(plan.measures)}
        at = [column[row.probe, row.position] for row in rows]
        which = torch.tensor([heads.index(row.head) for row in rows])
        patterns = model.attention_patterns(plan.tokens.to(model.device))
        value = _read(plan, dict(enumerate(patterns)), model, heads)
        of_side = [_read(plan, predictors[side].pattern(plan.tokens), model, None) for side in (False, True)]
        half = torch.tensor([second_half(key) for key in plan.cluster])
        predicted = torch.where(half[:, None, None], of_side[1], of_side[0])
        value, predicted = value[:, at, which], predicted[:, at, which]
        weights = torch.from_numpy(poisson_weights(seed, plan.cluster))
        both = torch.cat([value - predicted, predicted], 1)[:, :, None]
        sums.add(both, plan.present[:, at].repeat(1, 2), weights, half)
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
