"""Several models from their sources to files: what ``tslens match`` does between two prints, and studies as well."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from tslens.cli.opening import Opened, open_for_scan, record_of
from tslens.errors import UsageError
from tslens.model.load import ModelSource, open_model
from tslens.probes.held_out import loss_on
from tslens.probes.matching.match import match_models
from tslens.probes.matching.reading import check_tokenizers
from tslens.probes.matching.report import Component, MatchReport
from tslens.probes.matching.results import save_match
from tslens.types import Provenance, Story


@dataclass(frozen=True)
class MatchScan:
    """What was measured, of which models, and where it comes from."""

    opened: Sequence[Opened]
    report: MatchReport
    record: Provenance

    def save(self, path: Path) -> None:
        """Write the rows and their provenance."""
        checkpoints = [one.source.path.name for one in self.opened]
        save_match(self.report, path, checkpoints=checkpoints, record=self.record)


def open_together(
    sources: Sequence[ModelSource], stories: str | None, n_stories: int, *, device: str
) -> list[Opened]:
    """Open models, and the stories that none of them was trained on; each one's loss on the first of them.

    All share the stories of the first. Raises UsageError for one model, or for two of the same name; ModelError where
    tokenizers differ; else what loading and reading raise.
    """
    labels = [source.label for source in sources]
    if len(labels) < 2:
        raise UsageError(
            f"{len(labels)} model cannot be matched.",
            "Name two models or more, as in l2_h128@seed0 l2_h128@seed1.",
        )
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise UsageError(f"{twice} is named twice.", "Name each model once, seeds as in l2_h128@seed1.")
    models = [open_model(source, device=device) for source in sources]
    check_tokenizers(dict(zip(labels, models, strict=True)))
    first = open_for_scan(sources[0], stories, n_stories, device=device)
    return [
        first,
        *(
            replace(first, source=source, model=model, loss=loss_on(model, first.held_out.first))
            for source, model in zip(sources[1:], models[1:], strict=True)
        ),
    ]


def unseen_stories(opened: Sequence[Opened]) -> list[Story]:
    """The stories that no model was trained on; those of another model than the first are counted as left out."""
    held_out = opened[0].held_out
    seen = frozenset(chain.from_iterable(one.model.train_digests for one in opened))
    kept = []
    for story in held_out:
        if story.digest in seen:
            held_out.n_excluded += 1
        else:
            kept.append(story)
    return kept


def scan_match(
    opened: Sequence[Opened],
    *,
    components: Sequence[Component],
    roles: bool,
    seed: int,
    command: str,
    progress: Callable[[str, int, int], None] = lambda what, n_done, n_total: None,
) -> MatchScan:
    """Match opened models; their stories are read once. ``command``: for the record. The rest: ``match_models``."""
    report = match_models(
        {one.source.label: one.model for one in opened},
        unseen_stories(opened),
        seed=seed,
        components=components,
        roles=roles,
        exclude=(),
        progress=progress,
    )
    report = replace(report, n_excluded=opened[0].held_out.n_excluded)
    return MatchScan(opened, report, record_of(opened[0], command=command, seed=seed))
