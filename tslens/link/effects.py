"""What a model loses without its components: every group of ``groups``, ablated in three ways, on stories.

1. A first pass reads the mean of every head and neuron at each position (``causal.means``).
2. In a second, each batch runs under every intervention (``causal.ablator``). The next token's loss is read at every
   position, and what it rises by, paired token by token, is averaged over the tokens of a story: all of them, and those
   whose next token is of a class.
3. Means over stories, with intervals by bootstrap over stories, and the same corrected for all that was ablated: the
   largest deviation over groups and methods (``stats``); of classes, over groups, methods and classes.

Per-story means are kept until the end: 8 bytes for each story, class and intervention.

Axes: story, class (0: all tokens), intervention, row of the report.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tslens.allocator import keep_freed_memory
from tslens.causal.ablator import Ablator, Intervention
from tslens.causal.means import read_means
from tslens.causal.replacement import Replacement, other_rows
from tslens.corpus.labelled import read_labels
from tslens.errors import ModelError, ProbeInputError, UsageError
from tslens.link.ablation_report import AblationReport, AblationRow, MethodAgreement
from tslens.link.effect_sizes import EffectSizes
from tslens.link.groups import Group
from tslens.model.batches import IGNORED
from tslens.model.story_model import StoryModel
from tslens.probes.batch import TokenBatch, story_batches
from tslens.probes.labels import parser_is_missing, with_labels
from tslens.probes.scan import Source
from tslens.probes.strata import targets_of
from tslens.probes.units import KINDS, NO_LABELS, LabelNeeds
from tslens.stats import MIN_CLUSTERS
from tslens.types import Story

METHODS: tuple[Replacement, ...] = ("zero", "mean", "resample")
CLASSES = (*KINDS, "end", "other")
"""Classes of next tokens: what the word or mark is that it holds a piece of; the end of the story; none of these."""
BATCH_TOKENS = 1536
LEAST_RANKED = 4  # components, for a rank correlation of two methods


@torch.inference_mode()
def ablate(
    model: StoryModel,
    stories: Iterable[Story | str],
    groups: Sequence[Group],
    *,
    seed: int,
    methods: Sequence[Replacement] = METHODS,
    exclude: Collection[int] | None = None,
    progress: Callable[[int], None] = lambda n_stories: None,
) -> AblationReport:
    """What each group costs, ablated by each method, in nats per token of loss.

    ``stories``: read once and kept; those whose digest is in ``exclude`` are left out: by default the stories that the
    model was trained on, where its run is known. Parts of speech are from their own labels, else from the annotator's;
    without a parser there are classes of marks and words only. ``groups``: see ``link.groups``. ``seed``: of
    resampling, of rows that stand in for others and of the bootstrap. ``progress``: stories done, in the second pass.
    Raises UsageError if there is nothing to ablate, ProbeInputError if no story is left or one is too short, ModelError
    for a model without tokenizer or with hooks.
    """
    keep_freed_memory()
    if not groups or not methods:
        raise UsageError("There is nothing to ablate.", "Give at least one group and one method.")
    source = Source(stories, model.train_digests if exclude is None else exclude)
    batches, left_out = _read(model, source)
    interventions = [
        Intervention(components, method)
        for group in groups
        for method in methods
        for components in (*group.draws, *group.like)
    ]
    tables = _measure(model, batches, interventions, seed, progress)
    if len(tables.clean) < MIN_CLUSTERS:
        warnings.warn(
            f"Intervals of {len(tables.clean)} stories are not to be trusted; read {MIN_CLUSTERS}.",
            stacklevel=2,
        )
    report = _Judge(tables, groups, methods, seed)
    return AblationReport(
        rows=report.rows(),
        agreement=report.agreement(),
        members={
            group.name: [str(one) for one in group.draws[0]] for group in groups if group.kind == "role"
        },
        loss_nats=float(tables.clean.mean()),
        n_stories=source.n_read,
        n_excluded=source.n_excluded,
        n_cut=sum(batch.n_cut for batch in batches),
        seed=seed,
        left_out=left_out,
    )


# Reading --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class StoryRows:
    """Rows of a batch of stories, every next token read; satisfies ``causal.ablator.ReadRows``."""

    tokens: Int[Tensor, "row pos"]
    targets: Int[Tensor, "row pos"]
    at: Bool[Tensor, "row pos"]
    length: Int[Tensor, " row"]
    other: Int[Tensor, " row"] | None

    @classmethod
    def of(cls, batch: TokenBatch, n_ctx: int, other: Int[Tensor, " row"] | None) -> StoryRows:
        """``other``: the row whose activations stand in for each row's."""
        targets = torch.from_numpy(targets_of(batch, n_ctx, has_ends=True))
        tokens, length = torch.from_numpy(batch.tokens), torch.from_numpy(batch.length)
        return cls(tokens, targets, targets != IGNORED, length, other)


def next_classes(batch: TokenBatch, targets: Int[np.ndarray, "row pos"]) -> Int[np.ndarray, "row pos"]:
    """Number in ``CLASSES`` of what the next token is; -1 where there is none.

    A token over several words or marks is of the last of them.
    """
    kind = np.full(targets.shape, CLASSES.index("other"))
    units = batch.units
    for row, unit in zip(*(units.kind >= 0).nonzero(), strict=True):
        kind[row, units.first[row, unit] - 1 : units.last[row, unit]] = units.kind[row, unit]
    rows = np.arange(len(targets))
    kind[rows, batch.length - 1] = CLASSES.index("end")  # of a story that was cut there is no target
    return np.where(targets == IGNORED, -1, kind)


def _read(model: StoryModel, source: Source) -> tuple[list[TokenBatch], str]:
    """All batches, and why they have no parts of speech."""
    if model.tokenizer is None:
        raise ModelError(
            "This model has no tokenizer, so it cannot read stories.", "Give one with a tokenizer.json."
        )
    first = source.first()
    if first is None:
        raise ProbeInputError(
            f"There is no story to read ({source.n_excluded} were training stories of this model).",
            "Give other stories with --stories.",
        )
    left_out = parser_is_missing() if read_labels(first) is None else ""
    read = partial(story_batches, tokenizer=model.tokenizer, n_ctx=model.cfg.n_ctx, batch_tokens=BATCH_TOKENS)
    if left_out:
        return list(read(source, labels=NO_LABELS)), left_out
    return list(read(with_labels(source), labels=LabelNeeds(scheme=True))), ""


# Measuring ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Tables:
    """What every story says. ``clean``: its loss. ``delta``: means over its tokens of a class, 0 where it has none."""

    clean: Float[np.ndarray, " story"]
    delta: Float[np.ndarray, "story class intervention"]
    present: Bool[np.ndarray, "story class"]
    clusters: Sequence[int]


def _measure(
    model: StoryModel,
    batches: Sequence[TokenBatch],
    interventions: Sequence[Intervention],
    seed: int,
    progress: Callable[[int], None],
) -> _Tables:
    means = None
    if any(one.method != "zero" for one in interventions):
        rows = ((torch.from_numpy(batch.tokens), torch.from_numpy(batch.length)) for batch in batches)
        means = read_means(model, rows, n_pos=max(batch.tokens.shape[1] for batch in batches))
    ablator = Ablator(model, means)
    found: list[_Tables] = []
    n_done = 0
    for number, batch in enumerate(batches):
        other = other_rows(len(batch.length), np.random.default_rng([seed, number]))
        story_rows = StoryRows.of(batch, model.cfg.n_ctx, other)
        losses = ablator.losses_of(story_rows, interventions)
        classes = next_classes(batch, story_rows.targets.numpy())
        found.append(_per_story(losses.clean, losses.delta, story_rows.at.numpy(), classes, batch.cluster))
        n_done += len(batch.length)
        progress(n_done)
    return _Tables(
        np.concatenate([one.clean for one in found]),
        np.concatenate([one.delta for one in found]),
        np.concatenate([one.present for one in found]),
        [key for one in found for key in one.clusters],
    )


def _per_story(
    clean: Float[np.ndarray, " position"],
    delta: Float[np.ndarray, "intervention position"],
    at: Bool[np.ndarray, "row pos"],
    classes: Int[np.ndarray, "row pos"],
    clusters: Sequence[int],
) -> _Tables:
    """Means over the tokens of each story, all of them first, then of each class."""
    n_rows, n_columns = len(at), 1 + len(CLASSES)
    row = np.broadcast_to(np.arange(n_rows)[:, None], at.shape)[at]
    belongs = np.zeros((n_rows * n_columns, len(row)))  # which column of which story each token counts in
    for column in (np.zeros_like(row), 1 + classes[at]):
        belongs[row * n_columns + column, np.arange(len(row))] = 1
    n = belongs.sum(1)
    belongs /= np.maximum(n, 1)[:, None]
    shape = (n_rows, n_columns)
    means = (belongs @ delta.T).reshape(*shape, -1)
    return _Tables((belongs @ clean).reshape(shape)[:, 0], means, n.reshape(shape) > 0, clusters)


# Judging --------------------------------------------------------------------------------------------------


class _Judge:
    """From per-story effects of interventions to the rows of a report."""

    def __init__(
        self, tables: _Tables, groups: Sequence[Group], methods: Sequence[Replacement], seed: int
    ) -> None:
        self._asked = [(group, method) for group in groups for method in methods]
        own: list[np.ndarray] = []
        beyond: list[np.ndarray] = []
        self._spread: list[float | None] = []
        self._beyond_of: list[int | None] = []  # place of each among those beside random groups
        places = iter(range(tables.delta.shape[2]))
        for group, _ in self._asked:
            drawn, like = ([next(places) for _ in some] for some in (group.draws, group.like))
            each = tables.delta[:, :, drawn]
            own.append(each.mean(2))
            over_draws = each[:, 0].mean(0)
            self._spread.append(float(over_draws.std(ddof=1)) if len(drawn) > 1 else None)
            self._beyond_of.append(len(beyond) if like else None)
            if like:
                beyond.append(own[-1][:, :1] - tables.delta[:, :1, like].mean(2))
        self._own = EffectSizes.of(np.stack(own, 2), tables.present, tables.clusters, seed=seed)
        self._beyond = (
            EffectSizes.of(np.stack(beyond, 2), tables.present[:, :1], tables.clusters, seed=seed)
            if beyond
            else None
        )

    def rows(self) -> tuple[AblationRow, ...]:
        """One for each group and method."""
        found = []
        for i, (group, method) in enumerate(self._asked):
            classes = {
                name: self._own.effect(column, i)
                for column, name in enumerate(CLASSES, 1)
                if self._own.n[column]
            }
            place = self._beyond_of[i]
            beyond = None if self._beyond is None or place is None else self._beyond.effect(0, place)
            found.append(
                AblationRow(
                    group.name,
                    method,
                    group.n_components,
                    self._own.effect(0, i),
                    self._own.halves(i),
                    classes,
                    self._spread[i],
                    beyond,
                )
            )
        return tuple(found)

    def agreement(self) -> tuple[MethodAgreement, ...]:
        """Rank correlation of each two methods over the single components."""
        by_method: dict[Replacement, list[int]] = {}
        for i, (group, method) in enumerate(self._asked):
            if group.kind == "component":
                by_method.setdefault(method, []).append(i)
        return tuple(
            MethodAgreement(
                (one, other),
                *self._own.spearman(by_method[one], by_method[other]),
                n_components=len(by_method[one]),
            )
            for one, other in combinations(by_method, 2)
            if len(by_method[one]) >= LEAST_RANKED
        )
