"""Scores from weights for every head and relation, beside what attention and intervention say of the same.

1. The stories are read as text: token pairs of each relation (``relations``).
2. Every head's QK and OV circuit is a table over tokens; each pair is held against like tokens (``contrast``). No
   attention is read. Random twins give the null.
3. Attention scores come from a scan, or from rows that one made; causes are measured for every head (``probes.cause``).
4. Heads are ranked by both, and the rankings compared (``agreement``).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from tslens.corpus.labelled import read_labels
from tslens.errors import ModelError, ProbeInputError
from tslens.model.story_model import StoryModel
from tslens.model.transformer import TinyTransformer
from tslens.probes.base import Calibration, Probe, choose_probes
from tslens.probes.batch import TokenBatch, story_batches
from tslens.probes.cause import Cause, measure_causes
from tslens.probes.labels import needs_of, parser_is_missing, with_labels
from tslens.probes.scan import BATCH_TOKENS, Source, calibrate, own_sequences, score_heads, window_of
from tslens.probes.strata import Texts
from tslens.probes.twins import N_TWINS
from tslens.probes.weights.agreement import rank_agreements
from tslens.probes.weights.measured import Key, measured_rows, quantities_of
from tslens.probes.weights.reading import columns_of, head_ids, largest_of_twins, mean_contrasts, read_heads
from tslens.probes.weights.relations import SeenTokens, count_relations
from tslens.probes.weights.report import WeightsReport
from tslens.probes.weights.vectors import stream_vectors
from tslens.probes.weights.verdict import FLOOR, judge
from tslens.stats import MIN_CLUSTERS
from tslens.types import HeadScore, Story

N_EXPLAIN = 40
Progress = Callable[[str, int, int], None]


def token_probes(model: StoryModel, probes: Sequence[str | Probe] | None, *, seed: int) -> list[Probe]:
    """Probes whose pairs are relations between tokens: of families relational and identity, and reading stories.

    Of all probes if None. Raises ProbeInputError where none of those asked for is one.
    """
    found = [
        probe
        for probe in choose_probes(probes)
        if probe.family != "positional" and own_sequences(probe, model, seed) is None
    ]
    if not found:
        raise ProbeInputError(
            "None of these probes is about which tokens stand where.",
            "Ask for a relation, as in: --probe subject",
        )
    return found


def score_weights(
    model: StoryModel,
    stories: Iterable[Story | str],
    *,
    seed: int,
    probes: Sequence[str | Probe] | None = None,
    heads: Sequence[HeadScore] | None = None,
    exclude: Collection[int] | None = None,
    n_explain: int = N_EXPLAIN,
    others: Sequence[str] = (),
    progress: Progress = lambda part, done, total: None,
) -> WeightsReport:
    """Score every head by its weights alone, and rank it beside attention and cause.

    ``stories``: kept in memory; those whose digest is in ``exclude`` are left out: by default the stories that the
    model was trained on. ``probes``: relations, all that are about tokens if None. ``heads``: attention scores of this
    model, as ``score_heads`` gives; None: scanned here on the same stories. ``n_explain``: first stories, on which the
    causes of every head are measured; 0: none. ``others``: other texts of the kind, for the 4-gram beside causes.
    ``progress``: part, done, total. ``seed``: of resampling, twins and permutations.
    Raises ModelError for a model that is no GPT-Neo of the paper; ProbeInputError where no story or relation is left.
    """
    if not isinstance(model, TinyTransformer):
        raise ModelError(
            "The weights of this model are not read: tslens weights knows the GPT-Neo of the paper alone.",
            "Use tslens heads, which reads attention.",
        )
    if model.tokenizer is None:
        raise ModelError(
            "This model has no tokenizer, so it cannot read stories.", "Give one with a tokenizer.json."
        )
    source = Source(stories, model.train_digests if exclude is None else exclude)
    asked = token_probes(model, probes, seed=seed)
    left_out: tuple[str, ...] = ()
    first = source.first()
    if probes is None and first is not None and read_labels(first) is None and parser_is_missing():
        left_out = tuple(probe.name for probe in asked if probe.labels.scheme)
        asked = [probe for probe in asked if not probe.labels.scheme]
    needs = needs_of(asked)
    kept = list(with_labels(source) if needs.scheme else source)
    if not kept:
        raise ProbeInputError(
            f"There is no story to read ({source.n_excluded} were training stories of this model).",
            "Give other stories with --stories.",
        )
    if len(kept) < MIN_CLUSTERS:
        warnings.warn(
            f"Intervals of {len(kept)} stories are not to be trusted; read {MIN_CLUSTERS}.", stacklevel=2
        )
    n_ctx = model.cfg.n_ctx
    batches = list(story_batches(kept, model.tokenizer, n_ctx=n_ctx, batch_tokens=BATCH_TOKENS, labels=needs))
    text = _Text(batches, asked, calibrate(batches, asked, model.cfg.d_vocab, window=window_of(model)))
    if heads is None:
        scan = score_heads(
            model, kept, seed=seed, probes=asked, exclude=(), n_explain=0,
            progress=lambda n: progress("scanning", n, len(kept)),
        )  # fmt: skip
        heads, n_attended = scan.scores, scan.n_stories
    else:
        n_attended = max((score.n_stories for score in heads), default=0)
    return _Scored(model, text, seed, progress).report(
        heads=heads,
        others=others,
        n_explain=n_explain,
        n_attended=n_attended,
        n_excluded=source.n_excluded,
        left_out=left_out,
    )


@dataclass(frozen=True)
class _Text:
    """Stories as batches, the probes that read them, and facts of the text."""

    batches: list[TokenBatch]
    probes: list[Probe]
    calibration: Calibration

    def first(self, n_stories: int) -> list[TokenBatch]:
        """Batches until they hold so many stories."""
        before = np.cumsum([0, *(len(batch.length) for batch in self.batches)])[:-1]
        return [batch for batch, n in zip(self.batches, before.tolist(), strict=True) if n < n_stories]

    @property
    def clusters(self) -> list[int]:
        """Keys of the stories in the order of the batches."""
        return [key for batch in self.batches for key in batch.cluster]


class _Scored:
    """One model and one text."""

    def __init__(self, model: TinyTransformer, text: _Text, seed: int, progress: Progress) -> None:
        self.model, self.text, self.seed, self.progress = model, text, seed, progress

    @torch.inference_mode()
    def report(
        self,
        *,
        heads: Sequence[HeadScore],
        others: Sequence[str],
        n_explain: int,
        n_attended: int,
        n_excluded: int,
        left_out: tuple[str, ...],
    ) -> WeightsReport:
        """All numbers."""
        model, text, seed = self.model, self.text, self.seed
        seen = SeenTokens.of(text.calibration)
        relations = count_relations(text.batches, text.probes, text.calibration, seen)
        if not relations:
            raise ProbeInputError(
                "No relation of these stories has pairs with like tokens.",
                "Read more stories with --n-stories.",
            )
        columns, ids = columns_of(relations), head_ids(model)
        n_twins = sum(N_TWINS.values())
        reading = read_heads(model, columns, seen, progress=lambda n: self.progress("weights", n, len(ids)))
        twins = largest_of_twins(
            model, columns, seen, seed=seed, progress=lambda n: self.progress("random twins", n, n_twins)
        )
        stream = mean_contrasts(model, columns, seen, stream_vectors(model, text.batches, seen))
        verdict = judge(ids, columns, reading, twins, stream, text.clusters, seed=seed)
        rows = {(s.head, s.probe, s.position): s for s in heads if (s.probe, s.position) in relations}
        explained = text.first(n_explain)
        causes = self._causes(list(rows.values()), explained, others)
        quantities = quantities_of(verdict.scores, rows, causes, ids, list(relations))
        return WeightsReport(
            scores=measured_rows(verdict.scores, rows, causes, quantities),
            agreements=tuple(rank_agreements(quantities, seed=seed)),
            n_stories=len(text.clusters),
            n_excluded=n_excluded,
            n_explained=sum(len(batch.length) for batch in explained),
            n_attended=n_attended,
            n_tokens=len(seen.ids),
            seed=seed,
            floor=FLOOR,
            counts_at_floors=verdict.counts_at_floors,
            left_out=left_out,
            unmatched=tuple(
                dict.fromkeys(p.name for p in text.probes if p.name not in {name for name, _ in relations})
            ),
        )

    def _causes(
        self, rows: Sequence[HeadScore], batches: Sequence[TokenBatch], others: Sequence[str]
    ) -> Mapping[Key, Cause]:
        """Effects of every head, also of those whose attention is nothing."""
        if not batches or not rows:
            return {}
        tokenizer = self.model.tokenizer
        assert tokenizer is not None
        encode = partial(tokenizer.encode_story, context=self.model.cfg.n_ctx)
        counted = [encode(text).astype(np.int64) for text in others]
        texts = Texts(batches, self.text.probes, self.text.calibration, has_ends=True, others=counted)
        total = sum(len(batch.length) for batch in batches)
        found = measure_causes(
            self.model, texts, rows, seed=self.seed,
            progress=lambda n: self.progress("explaining", n, total),
        )  # fmt: skip
        return {
            (row.head, row.probe, row.position): cause
            for row, cause in zip(rows, found, strict=True)
            if cause is not None
        }
