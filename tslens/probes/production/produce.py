"""``score_production``: what every attention head of a model produces, with nulls, verdicts, basis and cause.

1. All stories are read as text: places, classes of next tokens, a 4-gram's loss, and from these the weights of every
   place in every value (``places``, ``classes``, ``contrast``).
2. The model runs over them once; what each head does at each place (``direct``) is summed with these weights. Its
   random twins do the same on the first stories.
3. ``verdict`` makes rows of the sums, ``explain`` asks of the candidates what explains them and whether they matter.

Sums are kept for each of 1,000 bootstrap replicates; texts and places are kept for all stories, activations for none.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tslens.allocator import keep_freed_memory
from tslens.errors import ModelError, ProbeInputError
from tslens.model.story_model import StoryModel
from tslens.probes.base import Calibration
from tslens.probes.batch import TokenBatch, story_batches
from tslens.probes.labels import with_labels
from tslens.probes.production.classes import Classes
from tslens.probes.production.contrast import Weights
from tslens.probes.production.copying import moved_keys
from tslens.probes.production.direct import DirectReader
from tslens.probes.production.explain import explain
from tslens.probes.production.places import Places
from tslens.probes.production.report import Produced, ProductionReport, Way
from tslens.probes.production.total import TotalReader
from tslens.probes.production.verdict import FLOOR, judge, threshold
from tslens.probes.scan import Source
from tslens.probes.strata import Strata, Texts
from tslens.probes.twins import random_twins
from tslens.probes.units import LabelNeeds
from tslens.stats import MIN_CLUSTERS, MIN_HALF, BootstrapSums, poisson_weights, second_half
from tslens.types import HeadId, Story

BATCH_TOKENS = 2048  # small, as all patterns of a batch are there at once
TWIN_STORIES = 18  # their heads differ far more from each other than from story to story
MOST_TWIN_STORIES = 30  # read by the twins where fewer than five of the first have some class
EXPLAINED_STORIES = 100
NEEDS = LabelNeeds(scheme=True)


@dataclass(frozen=True)
class _Batch:
    """A batch with all that text decides. ``moved``: see ``copying.moved_keys``."""

    tokens: TokenBatch
    places: Places
    weights: Weights
    moved: np.ndarray


@torch.inference_mode()
def score_production(
    model: StoryModel,
    stories: Iterable[Story | str],
    *,
    seed: int,
    exclude: Collection[int] | None = None,
    way: Way = "direct",
    n_explain: int = EXPLAINED_STORIES,
    others: Sequence[str] = (),
    progress: Callable[[int], None] = lambda n_stories: None,
    explaining: Callable[[int], None] = lambda n_stories: None,
) -> ProductionReport:
    """Say of every head and every class of next tokens how far the head raises it where it comes, in nats of logit.

    ``stories``: read once; those whose digest is in ``exclude`` are left out and counted: by default the stories that
    the model was trained on, where its run is known. Labels are their own, else the annotator's. ``seed``: of
    resampling, moved labels and twins. ``way``: what the head adds to logits by itself (``direct``), or what they lose
    without it, later parts of the model included (``total``). ``n_explain``: the first stories, on which basis and
    cause of candidates are measured; 0 for none: then no row is a role. ``others``: texts of the same kind that are
    not among the stories, looked at when all stories are read: with 1,000 or more the 4-gram that matches places is
    counted on them. ``progress`` is called with the stories read, ``explaining`` with those of the ablations. The
    process keeps the memory that it frees (``allocator``).
    Raises ModelError for a model without tokenizer or with hooks, ProbeInputError if no story or no class of next
    tokens is left, DataError for stories without labels where no parser is installed.
    """
    keep_freed_memory()
    if model.tokenizer is None:
        raise ModelError(
            "This model has no tokenizer, so it cannot read stories.", "Give one with a tokenizer.json."
        )
    if any(model.list_hooks()):
        raise ModelError(
            "The model has hooks, which would change what is read.", "Remove them with model.reset_hooks()."
        )
    source = Source(stories, model.train_digests if exclude is None else exclude)
    n_ctx = model.cfg.n_ctx
    read = list(
        story_batches(
            with_labels(source), model.tokenizer, n_ctx=n_ctx, batch_tokens=BATCH_TOKENS, labels=NEEDS
        )
    )
    if not read:
        raise ProbeInputError(
            f"There is no story to read ({source.n_excluded} were training stories of this model).",
            "Give other stories with --stories.",
        )
    encode = partial(model.tokenizer.encode_story, context=n_ctx)
    counted = [encode(text).astype(np.int64) for text in others]
    unused = Calibration(np.zeros(model.cfg.d_vocab, dtype=np.int64))
    texts = Texts(read, (), unused, has_ends=True, others=counted)
    strata = Strata.of(texts, model.cfg.d_vocab, n_ctx)
    places = [Places.of(batch, alike) for batch, alike in zip(read, strata.of_batch, strict=True)]
    n_rows = [len(batch.length) for batch in read]
    classes, weights, left_out = _measured(
        Classes.count(places, n_rows, model.tokenizer, model.cfg.d_vocab), read, places, seed
    )
    batches = [
        _Batch(batch, here, of_batch, moved_keys(batch, seed))
        for batch, here, of_batch in zip(read, places, weights, strict=True)
    ]

    n_heads = model.cfg.n_layers * model.cfg.n_heads
    reader = _reader(model, classes, batches, way)
    sums = BootstrapSums(2 * reader.n_columns, n_heads)
    n_done = 0
    for one in batches:
        of_replicates = torch.from_numpy(poisson_weights(seed, one.tokens.cluster))
        half = torch.tensor([second_half(key) for key in one.tokens.cluster])
        sums.add(*_per_story(reader, one), of_replicates, half)
        n_done += len(one.tokens.length)
        progress(n_done)
    of_twins, twin_shares = _read_twins(model, classes, batches, way, seed)
    heads = [HeadId(layer, h) for layer in range(model.cfg.n_layers) for h in range(model.cfg.n_heads)]
    verdict = judge(heads, classes, sums, threshold(of_twins))
    first = _first(batches, n_explain)
    rows = explain(
        model,
        reader,
        classes,
        [one.tokens for one in first],
        [one.places for one in first],
        verdict.rows,
        seed=seed,
        progress=explaining,
    )
    return ProductionReport(
        way=way,
        rows=tuple(_with_shares(rows, heads, reader.eigenvalue_shares(), twin_shares)),
        classes=tuple(one.to_json() for one in classes.all),
        left_out=tuple(left_out),
        n_stories=source.n_read,
        n_excluded=source.n_excluded,
        n_cut=sum(batch.n_cut for batch in read),
        seed=seed,
        critical=verdict.critical,
        floor=FLOOR,
        counts_at_floors=verdict.counts_at_floors,
        n_explained=sum(len(one.tokens.length) for one in first),
        n_counted=texts.n_counted,
    )


def _measured(
    classes: Classes, batches: Sequence[TokenBatch], places: Sequence[Places], seed: int
) -> tuple[Classes, list[Weights], list[str]]:
    """The classes that enough stories have with a match, their weights, and the names of the others.

    Enough: 30, or half of the stories where there are fewer than 60. A word that is nearly all of its part of speech
    has few matches. Raises ProbeInputError if no class is left.
    """
    found = [
        Weights.of(classes, here, batch.cluster, seed) for batch, here in zip(batches, places, strict=True)
    ]
    n_stories = np.sum([len(one.has_both) for one in found])
    chosen = np.sum([one.has_both.sum(0) for one in found], 0) >= min(MIN_CLUSTERS, max(1, n_stories // 2))
    if not chosen.any():
        raise ProbeInputError("No class of next tokens is in enough stories.", "Give longer stories.")
    left_out = [one.name for one, keep in zip(classes.all, chosen.tolist(), strict=True) if not keep]
    return classes.only(chosen), [one.only(chosen) for one in found], left_out


def _reader(model: StoryModel, classes: Classes, batches: Sequence[_Batch], way: Way) -> DirectReader:
    if way == "direct":
        return DirectReader(model, classes)
    return TotalReader(model, classes, [batch.tokens for batch in _first(batches, EXPLAINED_STORIES)])


def _per_story(
    reader: DirectReader, batch: _Batch
) -> tuple[Float[Tensor, "row column head"], Float[Tensor, "row column"]]:
    """Values of the stories of a batch, then as many less those where moved; and which of them there are.

    The last column of either is copying.
    """
    places, weights, n_rows = batch.places, batch.weights, len(batch.tokens.length)
    does, elsewhere = reader.read(batch.tokens.tokens, places, batch.moved)
    n_places = np.bincount(places.row, minlength=n_rows)
    evenly = (1 / np.maximum(n_places, 1))[places.row][:, None]
    beyond = does.clone()
    beyond[:, :, -1] -= elsewhere
    sides = []
    for values, of_classes in ((does, weights.value), (beyond, weights.less_moved)):
        by = torch.from_numpy(np.concatenate([of_classes, evenly], 1))
        total = torch.zeros(n_rows, values.shape[2], values.shape[1], dtype=torch.float64)
        weighed = values.double().transpose(1, 2) * by[:, :, None]
        sides.append(total.index_add_(0, torch.from_numpy(places.row), weighed))
    is_there = (n_places > 0)[:, None]
    present = np.concatenate([weights.has_value, is_there, weights.has_both, is_there], 1)
    return torch.cat(sides, 1), torch.from_numpy(present)


def _read_twins(
    model: StoryModel, classes: Classes, batches: Sequence[_Batch], way: Way, seed: int
) -> tuple[Float[np.ndarray, "story column head"], Float[np.ndarray, " head"] | None]:
    """Values of the heads of all twins on the first stories, NaN where a story has no place; shares of eigenvalues."""
    first = _for_twins(batches)
    found, shares = [], []
    for twin in random_twins(model, seed=seed):
        reader = _reader(twin, classes, first, way)
        parts = []
        for batch in first:
            values, present = _per_story(reader, batch)
            missing = torch.where(present[:, :, None], values, torch.nan)
            parts.append(missing[:, : reader.n_columns])
        found.append(torch.cat(parts))
        shares.append(reader.eigenvalue_shares())
    known = [share for share in shares if share is not None]
    return torch.cat(found, 2).numpy(), np.concatenate(known) if known else None


def _for_twins(batches: Sequence[_Batch]) -> list[_Batch]:
    """The first batches, and more until five stories have each class."""
    taken: list[_Batch] = []
    n_stories, n_having = 0, np.zeros(1, dtype=np.int64)
    for batch in batches:
        if n_stories >= (TWIN_STORIES if n_having.min() >= MIN_HALF else MOST_TWIN_STORIES):
            break
        taken.append(batch)
        n_stories += len(batch.tokens.length)
        n_having = n_having + batch.weights.has_value.sum(0)
    return taken


def _first(batches: Sequence[_Batch], n_stories: int) -> list[_Batch]:
    """Batches until they hold so many stories."""
    before = np.cumsum([0, *(len(batch.tokens.length) for batch in batches)])
    return [batch for batch, n in zip(batches, before[:-1], strict=True) if n < n_stories]


def _with_shares(
    rows: Sequence[Produced],
    heads: Sequence[HeadId],
    shares: Float[np.ndarray, " head"] | None,
    of_twins: Float[np.ndarray, " head"] | None,
) -> list[Produced]:
    """Rows of copying with the shares of eigenvalues beside them, where these are known."""
    if shares is None or of_twins is None:
        return list(rows)
    known = {head: float(share) for head, share in zip(heads, shares, strict=True) if np.isfinite(share)}
    most = float(np.nanmax(of_twins))
    return [
        replace(row, beside={"eigenvalues": known[row.head], "eigenvalues_twins": most})
        if row.kind == "copying" and row.head in known
        else row
        for row in rows
    ]
