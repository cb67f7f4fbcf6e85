"""The scan as an audit calls it: the very function that ``tslens heads`` calls, and quiet about small samples."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from tslens.model.story_model import StoryModel
from tslens.probes.base import Probe
from tslens.probes.scan import score_heads
from tslens.probes.verdict import HeadsReport
from tslens.types import Story

if TYPE_CHECKING:
    from tslens.audit.planted import PlantedHeads


def scan(
    model: StoryModel | PlantedHeads,
    stories: Sequence[Story],
    probes: Sequence[Probe],
    *,
    seed: int,
    n_explain: int = 0,
) -> HeadsReport:
    """Scores of a model. How many stories have a query stands in each case, so the warning about it is not given.

    ``n_explain``: stories on which the cause of candidates is measured; of none, no row is a role. Planted heads have
    no weights, so that nothing is caused by them.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*has queries in only", category=UserWarning)
        return score_heads(
            cast(StoryModel, model), stories, seed=seed, probes=probes, exclude=(), n_explain=n_explain
        )
