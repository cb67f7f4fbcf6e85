"""Which stories a model is measured on: of a source, or the offline author's, never its training stories."""

from __future__ import annotations

from collections.abc import Iterator, Set
from itertools import chain, islice

from tslens.corpus.stories import describe_source, is_validation, read_stories
from tslens.errors import DataError, ModelError
from tslens.model.loss import LossReport, loss_per_target
from tslens.model.story_model import StoryModel
from tslens.types import Story

AUTHOR_STORIES = 40  # written for each story that is wanted: 5% are of the validation side
SPARE_STORIES = 10
OTHER_STORIES = 4000  # kept of those that are left out
FIRST_STORIES = 200  # held in memory: the model's loss is read on them, pages show some


class HeldOut:
    """The first ``n_stories`` of a source that a model was not trained on, as a stream that is read once.

    ``source``, ``sha256``: what they are of; without a source, the validation side of the offline author.
    ``first``: up to 200 of them. ``n_excluded``: training stories left out so far. ``others``: texts of the source that
    were left out so far, up to 4,000: what an n-gram may be counted on. ``exclude``: digests of what is left out; the
    model's training stories if None. Raises DataError if none is left.
    """

    def __init__(
        self,
        model: StoryModel,
        source: str | None,
        n_stories: int,
        *,
        exclude: Set[int] | None = None,
    ) -> None:
        asked = source or f"author:{(n_stories + SPARE_STORIES) * AUTHOR_STORIES}"
        self.n_excluded = 0
        self.others: list[str] = []
        self._stories = islice(
            self._kept(asked, model.train_digests if exclude is None else exclude, own=source is None),
            n_stories,
        )
        self.first = list(islice(self._stories, FIRST_STORIES))
        if not self.first:
            raise DataError(
                f"All {self.n_excluded} stories of {asked} are training stories of this model.",
                "Give other stories.",
            )
        self.source, self.sha256 = describe_source(asked)

    def _kept(self, source: str, exclude: Set[int], *, own: bool) -> Iterator[Story]:
        def keep(story: Story) -> bool:
            if not own or is_validation(story):
                return True
            self._leave_out(story)
            return False

        for story in read_stories(source, keep=keep):
            if story.digest in exclude:
                self.n_excluded += 1
                self._leave_out(story)
            else:
                yield story

    def _leave_out(self, story: Story) -> None:
        if len(self.others) < OTHER_STORIES:
            self.others.append(story.text)

    def __iter__(self) -> Iterator[Story]:
        return chain(self.first, self._stories)


def loss_on(model: StoryModel, stories: list[Story]) -> LossReport:
    """Loss of the model on stories. Raises ModelError without a tokenizer."""
    tokenizer = model.tokenizer
    if tokenizer is None:
        raise ModelError(
            "This model has no tokenizer, so it cannot read stories.", "Put a tokenizer.json beside it."
        )
    n_ctx = model.cfg.n_ctx
    losses = loss_per_target(model, [tokenizer.encode_story(story.text, context=n_ctx) for story in stories])
    return LossReport(
        nats=sum(float(loss.sum()) for loss in losses),
        n_targets=sum(map(len, losses)),
        n_bytes=sum(tokenizer.story_bytes(story.text, context=n_ctx) for story in stories),
    )
