"""One streaming pass of stories past all probes, for a model and its two random twins.

1. The first stories are read as text only: token frequencies, most frequent offsets (``Calibration``).
2. Each batch of stories becomes a plan: the (query, key) pairs of all probes and nulls.
3. For each layer the pattern is computed, read off, and dropped. The unembedding never runs.
4. What was read goes into weighted sums for the bootstrap (``stats``): memory does not grow with the stories.

``verdict`` turns the sums into intervals, nulls and statuses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tslens.corpus.stories import normalise
from tslens.errors import ModelError, ProbeInputError
from tslens.model.attention import Scratch
from tslens.model.story_model import StoryModel
from tslens.probes.base import Calibration, Probe, choose_probes
from tslens.probes.batch import TokenBatch, story_batches
from tslens.probes.plan import Measure, Plan, make_plan
from tslens.probes.twins import random_twins
from tslens.probes.verdict import HeadsReport, judge
from tslens.stats import BootstrapSums, poisson_weights
from tslens.types import HeadId, Story

BATCH_TOKENS = 1536  # small, so that the patterns of a batch stay near a CPU's cache
CALIBRATION_STORIES = 500
PROFILE_STORIES = 100
PROFILE_DISTANCES = 64


@dataclass
class Stream:
    """Sums of one kind of input (stories, or a probe's own sequences) for a model and its twins."""

    measures: tuple[Measure, ...]
    model: BootstrapSums
    twins: BootstrapSums
    n_cut: int = 0


@torch.inference_mode()
def score_heads(
    model: StoryModel,
    stories: Iterable[Story | str],
    *,
    seed: int,
    probes: Sequence[str | Probe] | None = None,
    exclude: Collection[int] | None = None,
    progress: Callable[[int], None] = lambda n_stories: None,
) -> HeadsReport:
    """Score every attention head by every probe on stories, with intervals, nulls and statuses.

    ``stories``: read once; those whose digest is in ``exclude`` are left out and counted: by default the stories
    that the model was trained on, where its run is known.
    ``probes``: names or objects, all of the package if None. ``seed``: of resampling, twins and random tokens.
    ``progress`` is called with the number of stories done.
    Raises ProbeInputError if no story is left, or if one is too short.
    """
    if model.tokenizer is None:
        raise ModelError(
            "This model has no tokenizer, so it cannot read stories.", "Give one with a tokenizer.json."
        )
    chosen = choose_probes(probes)
    twins = list(random_twins(model, seed=seed).values())
    if any(model.list_hooks()):
        raise ModelError(
            "The model has hooks, which a scan does not run.", "Remove them with model.reset_hooks()."
        )
    source = _Source(stories, model.train_digests if exclude is None else exclude)
    n_ctx, tokenizer = model.cfg.n_ctx, model.tokenizer
    batches = story_batches(source, tokenizer, n_ctx=n_ctx, batch_tokens=BATCH_TOKENS)
    first, n_first = [], 0
    while n_first < CALIBRATION_STORIES and (batch := next(batches, None)) is not None:
        first.append(batch)
        n_first += len(batch.length)
    if not first:
        raise ProbeInputError(
            f"There is no story to read ({source.n_excluded} were training stories of this model).",
            "Give other stories with --stories.",
        )
    own = [
        probe.own_batches(
            d_vocab=model.cfg.d_vocab,
            start_id=tokenizer.start_id,
            n_ctx=n_ctx,
            seed=seed,
            batch_tokens=BATCH_TOKENS,
        )
        for probe in chosen
    ]
    on_stories = [probe for probe, sequences in zip(chosen, own, strict=True) if sequences is None]
    calibration = calibrate(first, on_stories, model.cfg.d_vocab, window=window_of(model))
    profile = DistanceProfile(model)
    streams = []
    if on_stories:
        streams.append(
            _run(model, twins, chain(first, batches), on_stories, calibration, seed, progress, profile)
        )
    for probe, sequences in zip(chosen, own, strict=True):
        if sequences is not None:
            streams.append(_run(model, twins, sequences, [probe], calibration, seed, lambda n: None, None))
    return judge(model, chosen, streams, source.n_read, source.n_excluded, seed, profile.mean())


class _Source:
    """Stories with the excluded ones left out, counted."""

    def __init__(self, stories: Iterable[Story | str], exclude: Collection[int]) -> None:
        self.stories, self.exclude = stories, exclude
        self.n_read = self.n_excluded = 0

    def __iter__(self) -> Iterator[Story]:
        for item in self.stories:
            story = Story(normalise(item)) if isinstance(item, str) else item
            if story.digest in self.exclude:
                self.n_excluded += 1
            else:
                self.n_read += 1
                yield story


def window_of(model: StoryModel) -> int | None:
    """The window of the layers that have one, None where every layer sees all; no architecture here has two."""
    windows = (model.window(layer) for layer in range(model.cfg.n_layers))
    return next((window for window in windows if window is not None), None)


def calibrate(
    batches: Sequence[TokenBatch], probes: Sequence[Probe], d_vocab: int, *, window: int | None
) -> Calibration:
    """Count tokens, and distances from query to target, on some batches."""
    counts = np.zeros(d_vocab, dtype=np.int64)
    distances: dict[tuple[str, str], Counter[int]] = {}
    for batch in batches:
        counts += np.bincount(batch.tokens[batch.is_query], minlength=d_vocab)
        for probe in probes:
            for position, pairs in probe.calibrate(batch).items():
                distances.setdefault((probe.name, position), Counter()).update(pairs.distance.tolist())
    offsets = {key: [d for d, _ in c.most_common()] for key, c in distances.items()}
    return Calibration(counts, offsets, window)


def _run(
    model: StoryModel,
    twins: Sequence[StoryModel],
    batches: Iterable[TokenBatch],
    probes: Sequence[Probe],
    calibration: Calibration,
    seed: int,
    progress: Callable[[int], None],
    profile: DistanceProfile | None,
) -> Stream:
    """All probes of one kind over all batches."""
    stream, n_done, scratch = None, 0, Scratch()
    for batch in batches:
        plan = make_plan(batch, probes, calibration)
        if stream is None:
            stream = _empty_stream(plan, model, len(twins))
        weights = torch.from_numpy(poisson_weights(seed, plan.cluster))
        half = torch.tensor([second_half(key) for key in plan.cluster])
        watch = profile.watch(batch) if profile is not None else None
        stream.model.add(read_all(model, plan, scratch, watch), plan.present, weights, half)
        values = plan.values_only()
        read = torch.cat([read_all(twin, values, scratch) for twin in twins], dim=-1)
        stream.twins.add(read, values.present, weights, half)
        n_done += len(plan.cluster)
        stream.n_cut += batch.n_cut
        progress(n_done)
    assert stream is not None  # both kinds of batches are never empty
    return stream


def second_half(cluster: int) -> bool:
    """Which half of the stories one belongs to: the top bit of its key, mixed (Knuth 1973), as sides use low bits."""
    return bool(cluster * 0x9E3779B97F4A7C15 >> 63 & 1)


def _empty_stream(plan: Plan, model: StoryModel, n_twins: int) -> Stream:
    n_heads = model.cfg.n_layers * model.cfg.n_heads
    n_values = sum(measure.kind == "value" for measure in plan.measures)
    sums = BootstrapSums(len(plan.measures), n_heads), BootstrapSums(n_values, n_heads * n_twins)
    return Stream(plan.measures, *sums)


def read_all(
    model: StoryModel,
    plan: Plan,
    scratch: Scratch | None = None,
    watch: Callable[[int, Tensor], None] | None = None,
) -> Float[Tensor, "cluster measure layer_head"]:
    """All measures of all heads, layer by layer; no two patterns exist at once."""
    read = []
    for layer, pattern in enumerate(model.attention_patterns(plan.tokens.to(model.device), scratch)):
        pattern = pattern.cpu()
        read.append(plan.read(pattern, local=model.window(layer) is not None))
        if watch is not None:
            watch(layer, pattern)
    return torch.cat(read, dim=-1)


class DistanceProfile:
    """Mean attention at each distance, over all queries that have a key there, on the first stories."""

    def __init__(self, model: StoryModel) -> None:
        self.sum = np.zeros((model.cfg.n_layers, model.cfg.n_heads, PROFILE_DISTANCES))
        self.n_queries = np.zeros(PROFILE_DISTANCES)
        self.n_stories = 0

    def watch(self, batch: TokenBatch) -> Callable[[int, Tensor], None] | None:
        """A function that adds one layer's pattern of this batch; None once enough stories were seen."""
        if self.n_stories >= PROFILE_STORIES:
            return None
        self.n_stories += len(batch.length)
        is_query = torch.from_numpy(batch.is_query).float()
        reach = min(PROFILE_DISTANCES, batch.tokens.shape[1])
        for distance in range(reach):
            self.n_queries[distance] += float(is_query[:, distance:].sum())

        def add(layer: int, pattern: Tensor) -> None:
            for distance in range(reach):
                diagonal = pattern.diagonal(-distance, 2, 3)
                mass = torch.einsum("shq,sq->h", diagonal, is_query[:, distance:])
                self.sum[layer, :, distance] += mass.double().numpy()

        return add

    def mean(self) -> dict[HeadId, np.ndarray]:
        """Per head, [distance] mean attention."""
        mean = self.sum / np.maximum(self.n_queries, 1)
        n_layers, n_heads, _ = mean.shape
        return {
            HeadId(layer, head): mean[layer, head] for layer in range(n_layers) for head in range(n_heads)
        }
