"""What every story says of every head, for each role: what two models on the same stories are compared by.

A scan keeps sums over stories; to compare models story by story the values are kept themselves, of the same plans.

Axes: story (of a probe with sequences of its own, a sequence), null, head (layer by layer), measure (of a plan).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from tslens.errors import ProbeInputError
from tslens.model.attention import Scratch
from tslens.model.story_model import StoryModel
from tslens.probes.base import Probe
from tslens.probes.batch import TokenBatch, story_batches
from tslens.probes.labels import needs_of
from tslens.probes.plan import Measure, make_plan
from tslens.probes.scan import (
    BATCH_TOKENS,
    CALIBRATION_STORIES,
    calibrate,
    own_sequences,
    read_all,
    window_of,
)
from tslens.probes.verdict import TWINS
from tslens.stats import second_half
from tslens.types import HeadScore, Story


@dataclass(frozen=True)
class Choice:
    """A head, by its place among all heads, and a null, by its place among those of a role."""

    head: int
    null: int


@dataclass(frozen=True, eq=False)
class RoleTable:
    """What each story says of each head for one role; NaN where it has no query.

    ``cluster``: key of each story, each once. ``contrast``: value less each null; ``nulls``: their names.
    """

    cluster: tuple[int, ...]
    value: Float[np.ndarray, "story head"]
    nulls: tuple[str, ...]
    contrast: Float[np.ndarray, "story null head"]

    def choose(self, half: int) -> Choice | None:
        """The head of the largest mean excess on a half of the stories, and its largest null there.

        None where no story of the half has a query.
        """
        mine = np.array([second_half(key) == bool(half) for key in self.cluster], dtype=bool)
        n = np.isfinite(self.contrast[mine]).sum(0)
        mean = np.where(n > 0, np.nansum(self.contrast[mine], 0) / np.maximum(n, 1), np.inf)
        excess = mean.min(0)
        if not np.isfinite(excess).any():
            return None
        head = int(np.where(np.isfinite(excess), excess, -np.inf).argmax())
        return Choice(head, int(mean[:, head].argmin()))


def role_of(row: HeadScore | Measure) -> str:
    """Name of a probe at a position, as in ``roles.head_roles``."""
    return row.probe + (" before" if row.position == "before" else "")


def stories_of_both(a: StoryModel, b: StoryModel, stories: Sequence[Story]) -> list[Story]:
    """The stories, each once, of which both models read the same.

    Of models that differ in tokenizer or context: those that neither has to cut. Raises ProbeInputError if none is.
    """
    once = list({story.digest: story for story in stories}.values())
    if have_same_tokens(a, b) and a.cfg.n_ctx == b.cfg.n_ctx:
        return once
    kept = [story for story in once if _fits(a, story) and _fits(b, story)]
    if not kept:
        raise ProbeInputError(
            f"None of {len(once)} stories fits the contexts of both models, {a.cfg.n_ctx} and {b.cfg.n_ctx} tokens.",
            "Give shorter stories with --stories.",
        )
    return kept


def have_same_tokens(a: StoryModel, b: StoryModel) -> bool:
    """Whether both models cut texts into the same tokens."""
    return a.tokenizer is not None and b.tokenizer is not None and a.tokenizer.sha256 == b.tokenizer.sha256


def _fits(model: StoryModel, story: Story) -> bool:
    return model.tokenizer is None or len(model.tokenizer.encode(story.text)) < model.cfg.n_ctx


@torch.inference_mode()
def read_tables(
    model: StoryModel,
    stories: Sequence[Story],
    probes: Sequence[Probe],
    twins: Mapping[str, float],
    *,
    seed: int,
) -> dict[str, RoleTable]:
    """The table of each role of ``twins``, which says the threshold that stands for the null of the twins.

    ``stories``: each once, with the labels that the probes need. ``seed``: of a probe's own sequences. The model has a
    tokenizer.
    """
    assert model.tokenizer is not None
    on_stories = [probe for probe in probes if own_sequences(probe, model, seed) is None]
    found: dict[str, RoleTable] = {}
    if on_stories:
        batches = story_batches(
            stories,
            model.tokenizer,
            n_ctx=model.cfg.n_ctx,
            batch_tokens=BATCH_TOKENS,
            labels=needs_of(on_stories),
        )
        found |= _read(model, list(batches), on_stories, twins)
    for probe in probes:
        sequences = own_sequences(probe, model, seed)
        if sequences is not None:
            found |= _read(model, list(sequences), [probe], twins)
    return {role: found[role] for role in twins}


def _read(
    model: StoryModel, batches: Sequence[TokenBatch], probes: Sequence[Probe], twins: Mapping[str, float]
) -> dict[str, RoleTable]:
    """Tables of the probes on batches of one kind, of the roles that have a threshold."""
    n_first = int(np.searchsorted(np.cumsum([len(one.cluster) for one in batches]), CALIBRATION_STORIES)) + 1
    calibration = calibrate(batches[:n_first], probes, model.cfg.d_vocab, window=window_of(model))
    scratch, parts = Scratch(), []
    cluster: list[int] = []
    for batch in batches:
        plan = make_plan(batch, probes, calibration)
        plan = plan.select([measure.kind in {"value", "null"} for measure in plan.measures])
        read, present = read_all(model, plan, scratch).numpy(), plan.present.numpy()
        parts.append(np.where(present[:, :, None], read, np.nan))
        cluster += plan.cluster
        measures = plan.measures
    told = np.concatenate(parts)
    place_of: dict[str, dict[str, int]] = {}
    for place, measure in enumerate(measures):  # the value has no null, and the empty name
        place_of.setdefault(role_of(measure), {})[measure.null] = place
    tables = {}
    for role, places in place_of.items():
        if role in twins:
            value = told[:, places.pop("")]
            contrast = [*(told[:, place] for place in places.values()), value - twins[role]]
            tables[role] = RoleTable(tuple(cluster), value, (*places, TWINS), np.stack(contrast, 1))
    return tables
