"""``match_models``: heads and neurons of several models held against each other, two at a time."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import chain, combinations

from tslens.allocator import keep_freed_memory
from tslens.errors import ProbeInputError
from tslens.model.story_model import StoryModel
from tslens.probes.matching.heads import fit_program, heads_of, measure_heads
from tslens.probes.matching.neurons import measure_neurons
from tslens.probes.matching.reading import StoryHalves, split_stories
from tslens.probes.matching.report import Component, MatchReport, PairMatch
from tslens.probes.matching.roles import RoleHolders, head_roles, neuron_roles, role_agreements
from tslens.probes.matching.verdict import judge_pairs
from tslens.probes.neurons.classify import classify_neurons
from tslens.probes.neurons.stream import neurons_of
from tslens.probes.scan import Source, score_heads
from tslens.stats import MIN_CLUSTERS
from tslens.types import Story

Progress = Callable[[str, int, int], None]


def match_models(
    models: Mapping[str, StoryModel],
    stories: Iterable[Story | str],
    *,
    seed: int,
    components: Sequence[Component] = ("head", "neuron"),
    roles: bool = True,
    exclude: Collection[int] | None = None,
    progress: Progress = lambda what, n_done, n_total: None,
) -> MatchReport:
    """Match the heads and neurons of every two models, and say which roles replicate.

    ``models``: two or more with the same tokenizer, by name, of any sizes. ``stories``: read into memory; those whose
    digest is in ``exclude`` are left out and counted: by default the training stories of any of the models.
    ``components``: which units. ``roles``: score heads and classify neurons on the same stories as well, without
    causes, and ask whether matched units hold the same roles; stories without labels are annotated for that.
    ``seed``: of everything that is drawn. ``progress`` is given what is being done, stories done, and all there are.
    Raises ModelError if tokenizers differ, ProbeInputError for one model or for too few stories; with ``roles`` what
    ``score_heads`` and ``classify_neurons`` raise.
    """
    keep_freed_memory()
    if len(models) < 2:
        raise ProbeInputError(f"{len(models)} model cannot be matched.", "Give two models or more.")
    if exclude is None:
        exclude = frozenset(chain.from_iterable(model.train_digests for model in models.values()))
    source = Source(stories, exclude)
    kept = list(source)
    halves = split_stories(dict(models), kept, seed=seed)
    if halves.n_read < MIN_CLUSTERS:
        warnings.warn(
            f"One half of the stories, where values are read, has only {halves.n_read}; below {MIN_CLUSTERS} intervals "
            "are too narrow.",
            stacklevel=2,
        )
    held = tuple(_roles(models, kept, components, seed, progress)) if roles else ()
    pairs = tuple(_pairs(models, halves, components, seed, progress))
    return MatchReport(
        models=tuple(models),
        pairs=pairs,
        n_stories=len(kept),
        n_read=halves.n_read,
        n_excluded=source.n_excluded,
        seed=seed,
        roles=held,
        agreements=tuple(
            one for pair in pairs for one in (role_agreements(pair, held, seed=seed) if roles else ())
        ),
    )


def _told(progress: Progress, what: str, n_total: int) -> Callable[[int], None]:
    """What is told the number of stories done."""
    return lambda n_done: progress(what, n_done, n_total)


def _pairs(
    models: Mapping[str, StoryModel],
    halves: StoryHalves,
    components: Sequence[Component],
    seed: int,
    progress: Progress,
) -> Iterable[PairMatch]:
    n_stories = halves.n_chosen_on + halves.n_read
    if "head" in components:
        programs = {}
        for name, model in models.items():
            progress(f"programs of {name}", 0, n_stories)
            programs[name] = fit_program(model, halves, seed=seed)
        for a, b in combinations(models, 2):
            measured = measure_heads(
                models[a],
                models[b],
                halves,
                (programs[a], programs[b]),
                seed=seed,
                progress=_told(progress, f"heads of {a} and {b}", n_stories),
            )
            n_units = (len(heads_of(models[a])), len(heads_of(models[b])))
            yield judge_pairs(measured, "head", (a, b), n_units)
    if "neuron" in components:
        for a, b in combinations(models, 2):
            measured = measure_neurons(
                models[a],
                models[b],
                halves,
                seed=seed,
                progress=_told(progress, f"neurons of {a} and {b}", n_stories),
            )
            n_units = (len(neurons_of(models[a])), len(neurons_of(models[b])))
            yield judge_pairs(measured, "neuron", (a, b), n_units)


def _roles(
    models: Mapping[str, StoryModel],
    stories: Sequence[Story],
    components: Sequence[Component],
    seed: int,
    progress: Progress,
) -> Iterable[RoleHolders]:
    """Who holds which role in every model."""
    for name, model in models.items():
        if "head" in components:
            told = _told(progress, f"roles of heads of {name}", len(stories))
            report = score_heads(model, stories, seed=seed, exclude=(), n_explain=0, progress=told)
            yield from head_roles(name, report.scores)
        if "neuron" in components:
            told = _told(progress, f"roles of neurons of {name}", len(stories))
            found = classify_neurons(model, stories, seed=seed, exclude=(), n_explain=0, progress=told)
            yield from neuron_roles(name, found.roles)
