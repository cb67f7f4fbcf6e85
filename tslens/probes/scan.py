"""One streaming pass of stories past all probes, for a model, and of the first of them for its random twins.

1. The first stories are read as text only: token frequencies, most frequent offsets (``Calibration``).
2. Each batch of stories becomes a plan: the (query, key) pairs of all probes and nulls.
3. For each layer the pattern is computed, read off, and dropped. The unembedding never runs.
4. What was read goes into weighted sums for the bootstrap (``stats``): memory does not grow with the stories.

``verdict`` turns the sums into intervals, nulls and statuses; ``explain`` then asks of the candidates what explains
them and whether the model uses them, on the first stories, which are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tslens.allocator import keep_freed_memory
from tslens.corpus.labelled import read_labels
from tslens.corpus.stories import normalise
from tslens.errors import ModelError, ProbeInputError
from tslens.model.attention import Scratch
from tslens.model.story_model import StoryModel
from tslens.probes.base import Calibration, Probe, choose_probes
from tslens.probes.batch import TokenBatch, story_batches
from tslens.probes.explain import explain
from tslens.probes.labels import needs_of, parser_is_missing, with_labels
from tslens.probes.plan import Measure, Plan, make_plan
from tslens.probes.profile import DistanceProfile, heads_last, read_profile
from tslens.probes.strata import Texts
from tslens.probes.twins import random_twins
from tslens.probes.verdict import HeadsReport, judge
from tslens.stats import MIN_HALF, BootstrapSums, poisson_weights, second_half
from tslens.types import Story

BATCH_TOKENS = 1536  # small, so that the patterns of a batch stay near a CPU's cache
CALIBRATION_STORIES = 500
EXPLAINED_STORIES = 200
TWIN_STORIES = 18  # their heads differ far more from each other than from story to story
MOST_TWIN_STORIES = 200  # read by the twins where fewer than five of the first have a query of some probe


@dataclass
class Stream:
    """Sums of one kind of input (stories, or a probe's own sequences) for a model, and for its twins side by side."""

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
    n_explain: int = EXPLAINED_STORIES,
    others: Sequence[str] = (),
    progress: Callable[[int], None] = lambda n_stories: None,
    explaining: Callable[[int], None] = lambda n_stories: None,
) -> HeadsReport:
    """Score every attention head by every probe on stories, with intervals, nulls and statuses.

    ``stories``: read once; those whose digest is in ``exclude`` are left out and counted: by default the stories
    that the model was trained on, where its run is known. Labels are their own, else the annotator's.
    ``probes``: names or objects, all of the package if None; without a parser, and without labels, those that need
    labels are left out and named in the report. ``seed``: of resampling, twins and random tokens.
    ``n_explain``: the first stories, on which basis and cause of each candidate are measured; 0 for none: then no row
    is a role. ``others``: texts of the same kind that are not among the stories, looked at when all stories are read:
    with 1,000 or more the 4-gram beside causes is counted on them. ``progress`` and ``explaining`` are called with the
    number of stories done, of the scan and of causes. The process keeps the memory that it frees (``allocator``).
    Raises ProbeInputError if no story is left, or if one is too short; DataError if a probe that was asked for needs
    labels that cannot be had.
    """
    keep_freed_memory()
    if model.tokenizer is None:
        raise ModelError(
            "This model has no tokenizer, so it cannot read stories.", "Give one with a tokenizer.json."
        )
    if any(model.list_hooks()):
        raise ModelError(
            "The model has hooks, which a scan does not run.", "Remove them with model.reset_hooks()."
        )
    source = Source(stories, model.train_digests if exclude is None else exclude)
    chosen, left_out = _probes_that_can_read(choose_probes(probes), source, asked=probes is not None)
    scan = _Scan(model, seed)
    streams = []
    on_stories = [probe for probe in chosen if own_sequences(probe, model, seed) is None]
    batches = _batches(model, source, on_stories or chosen)
    first = list(_first_batches(batches, CALIBRATION_STORIES))
    if not first:
        raise ProbeInputError(
            f"There is no story to read ({source.n_excluded} were training stories of this model).",
            "Give other stories with --stories.",
        )
    scan.calibration = calibrate(first, on_stories, model.cfg.d_vocab, window=window_of(model))
    kept = _Kept(chain(first, batches), n_explain)
    if on_stories:
        streams.append(scan.run(kept, on_stories, progress, scan.profile))
    else:  # the stories are read for the basis alone
        kept.take()
    for probe in chosen:
        sequences = own_sequences(probe, model, seed)
        if sequences is not None:
            streams.append(scan.run(sequences, [probe], lambda n: None, None))
    report = judge(
        model, chosen, streams, source.n_read, source.n_excluded, seed, scan.profile.mean(), left_out
    )
    if not n_explain:
        return report
    encode = partial(model.tokenizer.encode_story, context=model.cfg.n_ctx)
    counted = [encode(text).astype(np.int64) for text in others]
    stories_read = Texts(kept.batches, on_stories, scan.calibration, has_ends=True, others=counted)
    own = {
        probe.name: Texts(list(sequences), [probe], scan.calibration, has_ends=False)
        for probe in chosen
        if (sequences := own_sequences(probe, model, seed)) is not None
    }
    return explain(report, model, stories_read, own, seed=seed, progress=explaining)


class _Kept:
    """Batches that pass by, the first ``n_stories`` stories of them kept."""

    def __init__(self, batches: Iterable[TokenBatch], n_stories: int) -> None:
        self.batches: list[TokenBatch] = []
        self._source, self._n_left = batches, n_stories

    def take(self) -> None:
        """Keep them without handing them on."""
        for _ in self:
            if self._n_left <= 0:
                return

    def __iter__(self) -> Iterator[TokenBatch]:
        for batch in self._source:
            if self._n_left > 0:
                self.batches.append(batch)
                self._n_left -= len(batch.length)
            yield batch


class Source:
    """Stories with the excluded ones left out, counted; ``first`` looks at one without taking it."""

    def __init__(self, stories: Iterable[Story | str], exclude: Collection[int]) -> None:
        self.exclude = exclude
        self.n_read = self.n_excluded = 0
        self._kept = self._read(stories)

    def first(self) -> Story | None:
        """The story that comes next, None at the end."""
        story = next(self._kept, None)
        if story is not None:
            self._kept = chain([story], self._kept)
        return story

    def _read(self, stories: Iterable[Story | str]) -> Iterator[Story]:
        for item in stories:
            story = Story(normalise(item)) if isinstance(item, str) else item
            if story.digest in self.exclude:
                self.n_excluded += 1
            else:
                self.n_read += 1
                yield story

    def __iter__(self) -> Iterator[Story]:
        return iter(self._kept)


def _probes_that_can_read(
    probes: list[Probe], source: Source, *, asked: bool
) -> tuple[list[Probe], tuple[str, ...]]:
    """The probes whose labels can be had, and the names of the others; where probes were asked for, all of them."""
    first = source.first()
    if asked or first is None or read_labels(first) is not None or not parser_is_missing():
        return probes, ()
    kept = [probe for probe in probes if not probe.labels.scheme]
    return kept, tuple(probe.name for probe in probes if probe.labels.scheme)


def _batches(model: StoryModel, source: Iterable[Story], probes: Sequence[Probe]) -> Iterator[TokenBatch]:
    needs = needs_of(probes)
    tokenizer = model.tokenizer
    assert tokenizer is not None
    stories = with_labels(source) if needs.scheme else source
    return story_batches(stories, tokenizer, n_ctx=model.cfg.n_ctx, batch_tokens=BATCH_TOKENS, labels=needs)


def own_sequences(probe: Probe, model: StoryModel, seed: int) -> Iterator[TokenBatch] | None:
    """Sequences of a probe's own making, None if it reads stories."""
    assert model.tokenizer is not None
    return probe.own_batches(
        d_vocab=model.cfg.d_vocab,
        start_id=model.tokenizer.start_id,
        n_ctx=model.cfg.n_ctx,
        seed=seed,
        batch_tokens=BATCH_TOKENS,
    )


def window_of(model: StoryModel) -> int | None:
    """The window of the layers that have one, None where every layer sees all; no architecture here has two."""
    windows = (model.window(layer) for layer in range(model.cfg.n_layers))
    return next((window for window in windows if window is not None), None)


def calibrate(
    batches: Sequence[TokenBatch], probes: Sequence[Probe], d_vocab: int, *, window: int | None
) -> Calibration:
    """Count tokens, and distances from query to target, on some batches."""
    counts = np.zeros(d_vocab, dtype=np.int64)
    furthest = max(batch.tokens.shape[1] for batch in batches)
    distances: dict[tuple[str, str], np.ndarray] = {}
    for batch in batches:
        counts += np.bincount(batch.tokens[batch.is_query], minlength=d_vocab)
        for probe in probes:
            for position, found in probe.calibrate(batch).items():
                seen = distances.setdefault((probe.name, position), np.zeros(furthest, dtype=np.int64))
                seen += np.bincount(found, minlength=furthest)
    offsets = {  # most frequent first, of two alike the nearer
        key: [int(distance) for distance in np.argsort(-seen, kind="stable") if seen[distance]]
        for key, seen in distances.items()
    }
    return Calibration(counts, offsets, window)


class _Scan:
    """A model and its twins, read by the same plans."""

    def __init__(self, model: StoryModel, seed: int) -> None:
        self.model, self.seed = model, seed
        self.n_heads = model.cfg.n_layers * model.cfg.n_heads
        self.calibration = Calibration(np.zeros(model.cfg.d_vocab, dtype=np.int64))
        self.profile = DistanceProfile(model)

    def run(
        self,
        batches: Iterable[TokenBatch],
        probes: Sequence[Probe],
        progress: Callable[[int], None],
        profile: DistanceProfile | None,
    ) -> Stream:
        """All probes of one kind over all batches; the twins read the first of them."""
        source, scratch, n_done = iter(batches), Scratch(), 0
        planned = ((batch, make_plan(batch, probes, self.calibration)) for batch in source)
        first = list(_for_twins(planned))
        measures = first[0][1].measures  # batches are never none
        twins = self._read_twins([plan for _, plan in first])
        stream = Stream(measures, BootstrapSums(len(measures), self.n_heads), twins)
        for batch, plan in chain(first, planned):
            watch = profile.watch(batch) if profile is not None else None
            self._add(stream.model, plan, read_all(self.model, plan, scratch, watch))
            stream.n_cut += batch.n_cut
            n_done += len(plan.cluster)
            progress(n_done)
        return stream

    def _read_twins(self, plans: Sequence[Plan]) -> BootstrapSums:
        """Values of the heads of all twins, of which one at a time is held."""
        values, scratch = [plan.values_only() for plan in plans], Scratch()
        read: list[list[Tensor]] = [[] for _ in plans]
        for twin in random_twins(self.model, seed=self.seed):
            for plan, found in zip(values, read, strict=True):
                found.append(read_all(twin, plan, scratch))
        sums = BootstrapSums(len(values[0].measures), self.n_heads * len(read[0]))
        for plan, found in zip(values, read, strict=True):
            self._add(sums, plan, torch.cat(found, dim=-1))
        return sums

    def _add(self, sums: BootstrapSums, plan: Plan, read: Float[Tensor, "cluster measure head"]) -> None:
        weights = torch.from_numpy(poisson_weights(self.seed, plan.cluster))
        half = torch.tensor([second_half(key) for key in plan.cluster])
        sums.add(read, plan.present, weights, half)


def _for_twins(planned: Iterator[tuple[TokenBatch, Plan]]) -> Iterator[tuple[TokenBatch, Plan]]:
    """The first batches, and more until every value has a query in five stories."""
    n_stories, n_asking = 0, np.zeros(1, dtype=np.int64)
    for batch, plan in planned:
        yield batch, plan
        is_value = [measure.kind == "value" for measure in plan.measures]
        n_asking = n_asking + plan.present.numpy()[:, is_value].sum(0)
        n_stories += len(plan.cluster)
        if n_stories >= (TWIN_STORIES if n_asking.min() >= MIN_HALF else MOST_TWIN_STORIES):
            return


def _first_batches(batches: Iterator[TokenBatch], n_stories: int) -> Iterator[TokenBatch]:
    """Batches until they hold so many stories."""
    while n_stories > 0 and (batch := next(batches, None)) is not None:
        n_stories -= len(batch.length)
        yield batch


def read_all(
    model: StoryModel,
    plan: Plan,
    scratch: Scratch | None = None,
    watch: Callable[[int, Tensor], None] | None = None,
) -> Float[Tensor, "cluster measure layer_head"]:
    """All measures of all heads, layer by layer; no two patterns exist at once.

    ``watch`` is given each layer's distance profile.
    """
    read = []
    for layer, pattern in enumerate(model.attention_patterns(plan.tokens.to(model.device), scratch)):
        pattern = heads_last(pattern.float().cpu())
        profile = read_profile(pattern, plan.length) if watch or plan.needs_profile else None
        read.append(plan.read_with(pattern, profile, local=model.window(layer) is not None))
        if watch is not None and profile is not None:
            watch(layer, profile)
    return torch.cat(read, dim=-1)
