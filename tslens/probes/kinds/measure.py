"""``head_kinds``: of every attention head, how much distance and tokens explain of it, and what kind of head that is.

1. Stories are held in memory, in two halves by their hash.
2. Layer by layer, four predictors of its heads are fitted on each half (``deviance.fit_forms``, ``probes.basis``).
3. Each story is read by the predictors of the other half; ``rule`` makes shares, intervals and kinds of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice

import numpy as np
import torch
from jaxtyping import Float

from tslens.allocator import keep_freed_memory
from tslens.errors import ModelError, ProbeInputError
from tslens.model.story_model import StoryModel
from tslens.probes.basis import Rows, TokenPredictor
from tslens.probes.batch import TokenBatch, story_batches
from tslens.probes.kinds.deviance import (
    FORMS,
    Deviances,
    Form,
    fit_forms,
    read_deviances,
    total_deviance,
)
from tslens.probes.kinds.parts import token_classes
from tslens.probes.kinds.report import KindsReport
from tslens.probes.kinds.rule import judge_kinds
from tslens.probes.labels import with_labels
from tslens.probes.scan import BATCH_TOKENS, Source
from tslens.probes.twins import random_twins
from tslens.probes.units import LabelNeeds
from tslens.stats import MIN_HALF, second_half
from tslens.types import HeadId, Story

N_TWINS = 5  # the first is fresh, the others redrawn
TWIN_STORIES = 18


@torch.inference_mode()
def head_kinds(
    model: StoryModel,
    stories: Iterable[Story | str],
    *,
    seed: int,
    exclude: Collection[int] | None = None,
    fitting: Callable[[int], None] = lambda n_layers: None,
) -> KindsReport:
    """Say of every attention head how far it is from even attention, what explains that, and its kind.

    ``stories``: held in memory; those whose digest is in ``exclude`` are left out and counted: by default the stories
    that the model was trained on, where its run is known. Parts of speech are their own, else the annotator's.
    ``seed``: of fits, resampling, twins. ``fitting`` is called with the layers fitted, each on both halves.
    Raises ModelError for a model without tokenizer, ProbeInputError with fewer than five stories in a half, DataError
    for stories without labels where no parser is installed. The process keeps the memory that it frees.
    """
    keep_freed_memory()
    source = Source(stories, model.train_digests if exclude is None else exclude)
    halves: tuple[list[Story], list[Story]] = [], []
    for story in with_labels(source):
        halves[second_half(story.digest)].append(story)
    n_first, n_second = map(len, halves)
    if min(n_first, n_second) < MIN_HALF:
        raise ProbeInputError(
            f"The halves of the stories have {n_first} and {n_second}; each needs {MIN_HALF} or more.",
            "Give more stories with --n-stories.",
        )
    first, second = (_batches(model, half) for half in halves)
    fits = _fitted(model, (first, second), seed=seed, fitting=fitting)
    read = [read_deviances(model, _rows(batch), fits[1]) for batch in first]
    read += [read_deviances(model, _rows(batch), fits[0]) for batch in second]
    clusters = [key for batch in (*first, *second) for key in batch.cluster]
    heads = [head for layer in range(model.cfg.n_layers) for head in _heads_of(model, layer)]
    twins = _largest_of_twins(model, first, seed=seed)
    return KindsReport(
        heads=judge_kinds(heads, _together(read), clusters, twins=twins, seed=seed),
        n_stories=len(clusters),
        n_fitted=(n_first, n_second),
        n_excluded=source.n_excluded,
        n_cut=sum(batch.n_cut for batch in (*first, *second)),
        seed=seed,
        twins=twins,
    )


def _batches(model: StoryModel, stories: Sequence[Story]) -> list[TokenBatch]:
    if model.tokenizer is None:
        raise ModelError(
            "This model has no tokenizer, so it cannot read stories.", "Give one with a tokenizer.json."
        )
    needs, n_ctx = LabelNeeds(scheme=True), model.cfg.n_ctx
    return list(story_batches(stories, model.tokenizer, n_ctx=n_ctx, batch_tokens=BATCH_TOKENS, labels=needs))


def _rows(batch: TokenBatch) -> Rows:
    return Rows(torch.from_numpy(batch.tokens), torch.from_numpy(batch.length))


def _heads_of(model: StoryModel, layer: int) -> list[HeadId]:
    return [HeadId(layer, index) for index in range(model.cfg.n_heads)]


def _fitted(
    model: StoryModel,
    halves: Sequence[Sequence[TokenBatch]],
    *,
    seed: int,
    fitting: Callable[[int], None],
) -> list[list[Mapping[Form, TokenPredictor]]]:
    """Predictors by half and layer. One layer at a time: the true patterns of a fit are held in memory."""
    rows = [[_rows(batch) for batch in half] for half in halves]
    classes = [token_classes(half, model.cfg.d_vocab) for half in halves]
    found: list[list[Mapping[Form, TokenPredictor]]] = [[] for _ in halves]
    for layer in range(model.cfg.n_layers):
        for side, of_half in enumerate(found):
            of_half.append(fit_forms(model, rows[side], _heads_of(model, layer), classes[side], seed=seed))
        fitting(layer + 1)
    return found


def _together(read: Sequence[Deviances]) -> Deviances:
    """All stories, in the order of the batches."""

    def joined(parts: Iterator[np.ndarray]) -> Float[np.ndarray, "story head"]:
        return np.concatenate(list(parts))

    return Deviances(
        joined(one.total for one in read),
        {form: joined(one.left[form] for one in read) for form in FORMS},
        joined(one.first for one in read),
    )


def _largest_of_twins(model: StoryModel, batches: Sequence[TokenBatch], *, seed: int) -> float:
    """The largest total over heads of random twins, each a mean over the first stories, in nats per query."""
    largest = 0.0
    for twin in islice(random_twins(model, seed=seed), N_TWINS):
        found: list[np.ndarray] = []
        for batch in batches:
            if sum(map(len, found)) >= TWIN_STORIES:
                break
            found.append(total_deviance(twin, _rows(batch)))
        largest = max(largest, float(np.concatenate(found).mean(0).max()))
    return largest
