"""What explains a candidate, and whether the model uses it: basis and cause of each row that the scan found.

Basis: see ``beyond``; cause: see ``cause``. A candidate whose cause holds is a ``role``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy.stats import spearmanr

from tslens.model.story_model import StoryModel
from tslens.probes.beside import score_beside
from tslens.probes.beyond import Explained, bases
from tslens.probes.cause import METHODS, Cause, measure_causes
from tslens.probes.strata import Texts
from tslens.probes.verdict import HeadsReport
from tslens.types import HeadId, HeadScore, Position, Status


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
    explained = bases(model, stories, own, candidates, seed=seed)
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
        lexical_limit=explained.limit,
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
