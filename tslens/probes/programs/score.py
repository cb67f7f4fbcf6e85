"""Programs of all heads of a model: fitted on one half of the stories, read and swapped in on the other.

1. Stories are read into memory with their labels and split by the hash of their text; the keys of every role are found.
2. Programs are fitted on the first half (``fit``), for the model and for its random twins.
3. On the second half they are held against the heads (``reading``), and on the first stories of it put in their place
   (``swaps``).
4. ``verdict`` makes records of it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from tslens.allocator import keep_freed_memory
from tslens.corpus.labelled import read_labels
from tslens.errors import ModelError, ProbeInputError
from tslens.model.story_model import StoryModel
from tslens.probes.base import Probe, choose_probes
from tslens.probes.basis import Rows, TokenPredictor, fit_predictor
from tslens.probes.batch import TokenBatch, story_batches
from tslens.probes.labels import needs_of, parser_is_missing, with_labels
from tslens.probes.programs.estimates import ReadMeans, explained_rows, twins_threshold
from tslens.probes.programs.fit import LayerFit, fit_programs
from tslens.probes.programs.reading import read_programs
from tslens.probes.programs.report import RANK, GroupSwap, ProgramsReport, SwapEffect
from tslens.probes.programs.roles import Role, RoleText, readable
from tslens.probes.programs.swaps import read_swaps
from tslens.probes.programs.verdict import (
    FLOORS,
    SHARE_FLOOR,
    causes,
    group_effects,
    head_effects,
    head_rows,
    program_scores,
)
from tslens.probes.scan import BATCH_TOKENS, Source, calibrate, window_of
from tslens.probes.twins import FIRST_SEED
from tslens.probes.units import LabelNeeds
from tslens.stats import MIN_CLUSTERS, second_half
from tslens.types import HeadId, HeadScore, Story

N_TWINS = 2  # redrawn
TOKEN_STORIES = 50  # of the fitting half, for the predictor from token identities and distance
LEAST_HALF = 10  # stories of either half
QUARTER = 4

Progress = Callable[[str, int], None]


def roles_of(scores: Sequence[HeadScore]) -> dict[HeadId, Role]:
    """The role of each head that has one: its best row that is a role or a candidate, by status, then by excess."""
    best: dict[HeadId, HeadScore] = {}
    for score in scores:
        if score.status in ("role", "candidate"):
            known = best.get(score.head)
            if known is None or _strength(score) > _strength(known):
                best[score.head] = score
    return {head: Role(score.probe, score.position) for head, score in sorted(best.items())}


def _strength(score: HeadScore) -> tuple[int, float]:
    return RANK[score.status], score.excess


@torch.inference_mode()
def score_programs(
    model: StoryModel,
    stories: Iterable[Story | str],
    *,
    seed: int,
    scores: Sequence[HeadScore] = (),
    probes: Sequence[str | Probe] | None = None,
    exclude: Collection[int] | None = None,
    n_tokens: int = TOKEN_STORIES,
    n_swap: int = TOKEN_STORIES,
    progress: Progress = lambda what, n_stories: None,
) -> ProgramsReport:
    """How much of every head's attention is a program that reads text only, and what the program loses in its place.

    ``stories``: read once and kept in memory; those whose digest is in ``exclude`` are left out and counted, by default
    the model's training stories. ``scores``: of ``score_heads`` for this model; heads with a role or a candidate are
    the labelled ones. ``probes``: names or objects whose roles become programs, all of the package if None; without a
    parser, and without labels, those that need labels are left out. ``seed``: of resampling, twins, and what is drawn.
    ``n_tokens``: stories of the fit that the predictor from tokens and distance is fitted on; 0: none.
    ``n_swap``: stories that are run with swaps; 0: none, and then no head is a ``role``. ``progress`` is called with
    what is done ("fitting", "tokens", "reading", "twins", "swapping") and the stories that are done.
    Warns below 30 stories read or run with swaps. Raises ProbeInputError with fewer than ten stories on a half;
    ModelError for a model without tokenizer or with hooks; DataError if a probe that was asked for needs labels that
    cannot be had.
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
    chosen, left_out = _with_labels_there(readable(choose_probes(probes), model), source, asked=bool(probes))
    fitting, reading = _halves(model, source, chosen)
    calibration = calibrate(fitting, chosen, model.cfg.d_vocab, window=window_of(model))
    fit_texts, read_texts = (
        [RoleText.of(batch, chosen, calibration) for batch in batches] for batches in (fitting, reading)
    )
    positional = frozenset(
        role for role in fit_texts[0].at for probe in chosen
        if probe.name == role.probe and probe.basis == "positional"
    )  # fmt: skip
    heads = [HeadId(layer, head) for layer in range(model.cfg.n_layers) for head in range(model.cfg.n_heads)]
    known = fit_texts[0].at
    roles = {head: role for head, role in roles_of(scores).items() if role in known and head in heads}
    fits = fit_programs(model, fit_texts, positional, lambda n: progress("fitting", n))
    predictor = _predictor(model, fit_texts, heads, n_tokens, seed, progress)
    readings = read_programs(model, read_texts, fits, predictor, progress=lambda n: progress("reading", n))
    read = ReadMeans.of(readings, seed=seed)
    twins = _read_twins(model, fit_texts, read_texts, positional, seed, progress)
    threshold = twins_threshold(twins)
    swapped = _first(read_texts, n_swap)
    _warn_of_few(read_texts, swapped)
    done = _swapped(model, swapped, fits, roles, heads, predictor, seed, progress)
    rows = head_rows(
        heads,
        program_scores(readings, read, fits, seed=seed),
        read,
        roles,
        done.effects,
        done.saved,
        threshold,
    )
    supports = [row.support for row in rows if row.support is not None and row.support > threshold]
    return ProgramsReport(
        heads=rows,
        groups=done.groups,
        explained=explained_rows(read, twins, {heads.index(head): role for head, role in roles.items()}),
        clean=done.clean,
        twins=threshold,
        n_stories=source.n_read,
        n_excluded=source.n_excluded,
        n_fitted=sum(len(batch.length) for batch in fitting),
        n_read=sum(len(batch.length) for batch in reading),
        n_tokens=sum(len(text.batch.length) for text in _first(fit_texts, n_tokens)),
        n_swapped=sum(len(text.batch.length) for text in swapped),
        seed=seed,
        floor=SHARE_FLOOR,
        counts_at_floors={f"{floor:g}": sum(s >= floor for s in supports) for floor in FLOORS},
        left_out=left_out,
    )


def _with_labels_there(
    probes: list[Probe], source: Source, *, asked: bool
) -> tuple[list[Probe], tuple[str, ...]]:
    """The probes whose labels can be had, and the names of the others; where probes were asked for, all of them."""
    first = source.first()
    if asked or first is None or read_labels(first) is not None or not parser_is_missing():
        return probes, ()
    kept = [probe for probe in probes if not probe.labels.scheme]
    return kept, tuple(probe.name for probe in probes if probe.labels.scheme)


def _halves(
    model: StoryModel, source: Source, probes: Sequence[Probe]
) -> tuple[list[TokenBatch], list[TokenBatch]]:
    """Batches of the stories of either half, those of like length together, in an order drawn by no length."""
    needs = needs_of(probes)
    stories = list(with_labels(source) if needs.scheme else source)
    sides: tuple[list[Story], list[Story]] = [], []
    for story in stories:
        sides[second_half(story.digest)].append(story)
    if min(map(len, sides)) < LEAST_HALF:
        raise ProbeInputError(
            f"There are {len(sides[0])} stories to fit programs on and {len(sides[1])} to read them on "
            f"({source.n_excluded} more were training stories of this model).",
            f"Give more stories: {LEAST_HALF} are needed on either half.",
        )
    first, second = (list(_batches(model, side, needs)) for side in sides)
    return first, second


def _batches(model: StoryModel, stories: Sequence[Story], needs: LabelNeeds) -> Iterable[TokenBatch]:
    tokenizer = model.tokenizer
    assert tokenizer is not None
    return story_batches(stories, tokenizer, n_ctx=model.cfg.n_ctx, batch_tokens=BATCH_TOKENS, labels=needs)


def _first(texts: Sequence[RoleText], n_stories: int) -> list[RoleText]:
    """Texts until they hold so many stories."""
    kept, n_left = [], n_stories
    for text in texts:
        if n_left <= 0:
            break
        kept.append(text)
        n_left -= len(text.batch.length)
    return kept


def _warn_of_few(read: Sequence[RoleText], swapped: Sequence[RoleText]) -> None:
    """Below 30 stories intervals are not to be trusted."""
    for texts, what in ((read, "read"), (swapped, "run with swaps")):
        n_stories = sum(len(text.batch.length) for text in texts)
        if 0 < n_stories < MIN_CLUSTERS:
            warnings.warn(
                f"Only {n_stories} stories are {what}; below {MIN_CLUSTERS} intervals are too narrow.",
                stacklevel=3,
            )


def _predictor(
    model: StoryModel,
    texts: Sequence[RoleText],
    heads: Sequence[HeadId],
    n_stories: int,
    seed: int,
    progress: Progress,
) -> TokenPredictor | None:
    """The best predictor from token identities and distance, fitted on some stories of the fit."""
    some = _first(texts, n_stories)
    if not some:
        return None
    rows = [Rows(text.tokens, torch.from_numpy(text.batch.length)) for text in some]
    predictor = fit_predictor(model, rows, heads, seed=seed)
    progress("tokens", sum(len(text.batch.length) for text in some))
    return predictor


def _read_twins(
    model: StoryModel,
    fit_texts: Sequence[RoleText],
    read_texts: Sequence[RoleText],
    positional: frozenset[Role],
    seed: int,
    progress: Progress,
) -> list[ReadMeans]:
    """Composed programs of models that learned nothing, fitted and read in the same way."""
    found = []
    for index in range(N_TWINS):
        twin = model.random_twin("redrawn", seed=FIRST_SEED + N_TWINS * seed + index)
        fits = fit_programs(twin, fit_texts, positional)
        readings = read_programs(twin, read_texts, fits, None, singles=False)
        found.append(ReadMeans.of(readings, seed=seed))
        progress("twins", (index + 1) * sum(len(text.batch.length) for text in read_texts))
    return found


@dataclass(frozen=True)
class _Swapped:
    """What swaps did: to heads alone, what programs save, to groups, and the clean losses. Empty without swaps."""

    effects: Mapping[HeadId, tuple[SwapEffect, ...]] = field(default_factory=dict)
    saved: Mapping[HeadId, Mapping[str, float]] = field(default_factory=dict)
    groups: tuple[GroupSwap, ...] = ()
    clean: Mapping[str, float] = field(default_factory=dict)


def _swapped(
    model: StoryModel,
    texts: Sequence[RoleText],
    fits: Sequence[LayerFit],
    roles: Mapping[HeadId, Role],
    heads: Sequence[HeadId],
    predictor: TokenPredictor | None,
    seed: int,
    progress: Progress,
) -> _Swapped:
    """Heads and groups of heads swapped on some texts."""
    if not texts:
        return _Swapped()
    groups = _groups(fits, heads, roles)
    swaps = read_swaps(
        model, texts, fits, roles, groups, predictor, seed=seed, progress=lambda n: progress("swapping", n)
    )
    sizes = {name: len(members) for name, members in groups.items()}
    return _Swapped(
        head_effects(swaps, heads, seed=seed),
        causes(swaps, heads, seed=seed),
        *group_effects(swaps, sizes, seed=seed),
    )


def _groups(
    fits: Sequence[LayerFit], heads: Sequence[HeadId], roles: Mapping[HeadId, Role]
) -> dict[str, list[HeadId]]:
    """Heads that are swapped at once: the quarter best explained on the fit, the labelled ones, all."""
    share = torch.cat([fit.share for fit in fits]).numpy()
    best = np.argsort(-share, kind="stable")[: max(1, len(heads) // QUARTER)]
    return {
        "best quarter": sorted(heads[i] for i in best),
        "labelled": sorted(roles),
        "all": list(heads),
    }
