"""Which stories a model is measured on: of a source, or the offline author's, never its training stories."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import numpy as np

from tslens.corpus.stories import describe_source, is_validation, read_stories
from tslens.errors import DataError, ModelError
from tslens.files import RunFolder
from tslens.model.loss import LossReport, evaluate, loss_per_target
from tslens.model.transformer import TinyTransformer
from tslens.types import Story

AUTHOR_STORIES = 40  # read for each story that is wanted: 5% are of the validation side
LOSS_STORIES = 200


@dataclass(frozen=True)
class HeldOut:
    """Stories to measure a model on. ``n_excluded``: training stories that were left out before."""

    source: str
    sha256: str
    stories: list[Story]
    n_excluded: int


def held_out_stories(run: RunFolder | None, source: str | None, n_stories: int) -> HeldOut:
    """The first stories of a source that the run was not trained on.

    Without a source: the validation side of the offline author. Raises DataError if none are left.
    """
    excluded = training_digests(run)
    asked = source or f"author:{n_stories * AUTHOR_STORIES}"
    stories: list[Story] = []
    n_excluded = 0
    for story in read_stories(asked):
        if story.digest in excluded:
            n_excluded += 1
        elif source is not None or is_validation(story):
            stories.append(story)
        if len(stories) == n_stories:
            break
    if not stories:
        raise DataError(
            f"All {n_excluded} stories of {asked} are training stories of this model.", "Give other stories."
        )
    return HeldOut(*describe_source(asked), stories, n_excluded)


def training_digests(run: RunFolder | None) -> frozenset[int]:
    """Digests of the stories a run was trained on; none without a run."""
    if run is None or not run.train_digests.exists():
        return frozenset()
    return frozenset(np.load(run.train_digests, allow_pickle=False).tolist())


def loss_on(model: TinyTransformer, stories: list[Story]) -> LossReport:
    """Loss of the model on the first 200 of the stories. Raises ModelError without a tokenizer."""
    tokenizer = model.tokenizer
    if tokenizer is None:
        raise ModelError(
            "This model has no tokenizer, so it cannot read stories.", "Put a tokenizer.json beside it."
        )
    encoded = (tokenizer.encode_story(s.text, context=model.cfg.n_ctx) for s in islice(stories, LOSS_STORIES))
    return evaluate(lambda group: loss_per_target(model, group), encoded, tokenizer.n_bytes)
