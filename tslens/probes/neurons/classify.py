"""``classify_neurons``: every MLP neuron of a model: what makes it fire, what it writes, whether the model uses it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import chain, islice

import numpy as np
import torch

from tslens.errors import ModelError, ProbeInputError
from tslens.model.story_model import StoryModel
from tslens.probes.labels import with_labels
from tslens.probes.neurons.cause import NeuronCause, neuron_causes
from tslens.probes.neurons.choice import Halves, TwinNull, choose
from tslens.probes.neurons.dose import dose_effects
from tslens.probes.neurons.kinds import kind_of
from tslens.probes.neurons.reader import Explained, Reader
from tslens.probes.neurons.report import LabelFacts, NeuronsReport
from tslens.probes.neurons.roles import NEURON_FLOOR, judge_neurons, reach_floor
from tslens.probes.neurons.sample import SAMPLE_TOKENS
from tslens.probes.neurons.stream import LabelledBatch, labelled_batches, read_neurons
from tslens.probes.neurons.token_labels import TOKEN_LABELS
from tslens.probes.neurons.writes import Writes, read_writes
from tslens.probes.scan import Source
from tslens.probes.twins import random_twins
from tslens.types import NeuronRole, Story

N_TWINS = (
    10  # one fresh, the others redrawn: with fewer, no p-value could be small enough for a model of few roles
)
TWIN_STORIES = 100
EXPLAINED_STORIES = 100
CHANCE = 0.5


@torch.inference_mode()
def classify_neurons(
    model: StoryModel,
    stories: Iterable[Story | str],
    *,
    seed: int,
    layers: Sequence[int] | None = None,
    labels: Sequence[str] = (),
    exclude: Collection[int] | None = None,
    sample_tokens: int = SAMPLE_TOKENS,
    n_explain: int = EXPLAINED_STORIES,
    progress: Callable[[int], None] = lambda n_stories: None,
    judging: Callable[[int], None] = lambda n_neurons: None,
    explaining: Callable[[int], None] = lambda n_stories: None,
) -> NeuronsReport:
    """Say of every MLP neuron which label makes it fire, with interval, nulls, basis, cause and status.

    ``stories``: read once; those whose digest is in ``exclude`` are left out and counted: by default the stories that
    the model was trained on, where its run is known. Labels are their own, else the annotator's. ``layers``: all if
    None. ``labels``: of a user, beside those of the package. ``sample_tokens``: tokens on which roles are decided;
    two bytes for each of them and each neuron are held. ``n_explain``: the first stories, on which candidates are
    ablated; 0 for none: then no neuron is a role. ``seed``: of sample, moved labels, twins, lots of tokens.
    ``progress`` is called with the stories read, ``judging`` with the neurons judged, ``explaining`` with the stories
    of the ablations.
    Raises ModelError for a model without tokenizer or layer, ProbeInputError if no story is left or no label has
    enough tokens, DataError for stories without labels where no parser is installed.
    """
    if model.tokenizer is None:
        raise ModelError(
            "This model has no tokenizer, so it cannot read stories.", "Give one with a tokenizer.json."
        )
    if layers is not None:
        layers = sorted(set(layers))
        absent = [layer for layer in layers if not 0 <= layer < model.cfg.n_layers]
        if absent or not layers:
            raise ModelError(
                f"There is no layer {absent[0]}: the model has {model.cfg.n_layers}."
                if absent
                else "No layer was chosen.",
                f"Choose from 0 to {model.cfg.n_layers - 1}.",
            )
    source = Source(stories, model.train_digests if exclude is None else exclude)
    batches = labelled_batches(
        with_labels(source), model.tokenizer, n_ctx=model.cfg.n_ctx, seed=seed, users=labels
    )
    first = list(_first(batches, max(TWIN_STORIES, n_explain)))
    if not first:
        raise ProbeInputError(
            f"There is no story to read ({source.n_excluded} were training stories of this model).",
            "Give other stories with --stories.",
        )
    read = read_neurons(
        model,
        chain(first, batches),
        layers=layers,
        users=labels,
        sample_tokens=sample_tokens,
        progress=progress,
    )
    halves = Halves.of(read.sample)
    eligible = halves.eligible()
    if not eligible.any():
        raise ProbeInputError(
            f"{read.n_stories} stories are too few: no label is on enough tokens of enough of them.",
            "Give more stories (--n-stories); those that the model was trained on are left out.",
        )
    for_twins = list(_first(iter(first), TWIN_STORIES))
    twins = TwinNull.of((_of_twin(twin, for_twins, layers, labels) for twin in _twins(model, seed)), eligible)
    reader = Reader(halves, twins, seed=seed)
    readings = reader.read(choose(halves.first, eligible), judging)
    found = [reading.found for reading in readings]
    names = read.labels
    judged = judge_neurons(read.neurons, names, found)
    asked = {
        column: names.index(role.role)
        for column, role in enumerate(judged)
        if role.status == "candidate" and role.role is not None
    }
    explained_on = list(_first(iter(first), n_explain))
    causes = neuron_causes(model, explained_on, read, asked, seed=seed, progress=explaining)
    roles = [
        _complete(role, reading.explained, writes, causes.get(column), read.sums.positive[column])
        for column, (role, reading, writes) in enumerate(
            zip(judged, readings, read_writes(model, read, seed=seed), strict=True)
        )
    ]
    return NeuronsReport(
        roles=tuple(roles),
        doses=tuple(dose_effects(model, explained_on, read, roles)),
        labels=tuple(_facts(reader, label, name, eligible[label]) for label, name in enumerate(names)),
        n_stories=source.n_read,
        n_excluded=source.n_excluded,
        n_tokens=read.sums.n,
        n_sampled=len(read.sample),
        n_explained=sum(len(batch.stories) for batch in explained_on),
        seed=seed,
        floor=NEURON_FLOOR,
        counts_at_floors={
            name: reach_floor(found, CHANCE + factor * (NEURON_FLOOR - CHANCE))
            for name, factor in (("half", 0.5), ("floor", 1.0), ("double", 2.0))
        },
        read=read,
    )


def _complete(
    role: NeuronRole, explained: Explained, writes: Writes, cause: NeuronCause | None, n_positive: float
) -> NeuronRole:
    """With what does not depend on a label, and with its cause: a candidate that is confirmed is a role."""
    return replace(
        role,
        status="role" if cause is not None and cause.holds else role.status,
        kind=kind_of(n_positive, explained, writes),
        explained=asdict(explained),
        writes=writes.to_json(),
        cause=None if cause is None else cause.to_json(),
    )


def _first(batches: Iterator[LabelledBatch], n_stories: int) -> Iterator[LabelledBatch]:
    while n_stories > 0 and (batch := next(batches, None)) is not None:
        n_stories -= len(batch.stories)
        yield batch


def _twins(model: StoryModel, seed: int) -> Iterator[StoryModel]:
    return islice(random_twins(model, seed=seed), N_TWINS)


def _of_twin(
    twin: StoryModel, batches: Sequence[LabelledBatch], layers: Sequence[int] | None, users: Sequence[str]
) -> Halves:
    """What a random twin's neurons do on the first stories."""
    n_tokens = sum(len(batch.tokens) for batch in batches)
    return Halves.of(read_neurons(twin, batches, layers=layers, users=users, sample_tokens=n_tokens).sample)


def _facts(reader: Reader, label: int, name: str, is_read: np.bool_) -> LabelFacts:
    flag = reader.halves.second.tokens.flags[:, label]
    word, bigram = reader.word_alone(label)
    return LabelFacts(
        name=name,
        description=TOKEN_LABELS.get(name, "a label of yours"),
        n_tokens=int(flag.sum()),
        n_ambiguous=int((reader.ambiguous(label) & flag).sum()),
        word_alone=word,
        bigram_alone=bigram,
        twins=reader.twins.level(label),
        is_read=bool(is_read),
    )
