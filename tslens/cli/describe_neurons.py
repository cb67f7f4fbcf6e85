"""What ``tslens describe`` does between two prints: which neurons, what is asked of each, what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, cast

from tslens.causal.ablation import check_component
from tslens.cli.asking import Terms, answer_all
from tslens.cli.console import progress_bar
from tslens.errors import UsageError
from tslens.llm.calls import Call, CallFailure, Reply
from tslens.llm.client import Client
from tslens.llm.ledger import Ledger
from tslens.model.load import ModelSource
from tslens.model.story_model import StoryModel
from tslens.probes.neurons.describe import (
    MOST_CHARACTERS,
    Asked,
    NeuronWords,
    Score,
    Subject,
    detect_calls,
    explain_call,
    read_description,
    read_hits,
)
from tslens.probes.neurons.evidence import evidence_of, read_tracks
from tslens.probes.neurons.results import load_neuron_roles
from tslens.probes.twins import random_twins
from tslens.types import NeuronId, Story

TOO_FEW = "it fires in too few stories"


def chosen_neurons(
    model: StoryModel, source: ModelSource, names: list[str] | None, roles: Path | None
) -> list[NeuronId]:
    """The neurons that were asked for, each once, in order. Raises UsageError for one that is not there."""

    if roles is not None:
        header, rows = load_neuron_roles(roles)
        if (header.get("model"), header.get("checkpoint")) != (source.label, source.path.name):
            raise UsageError(
                f"The rows of {roles} are of {header.get('model')}, not of {source.label}.",
                "Give that model's rows, or name neurons with --neuron.",
            )
        chosen = list(dict.fromkeys(role.neuron for role in rows if role.status == "role"))
        if not chosen:
            raise UsageError(f"No neuron of {roles} is a role.", "Name some with --neuron.")
    else:
        chosen = list(dict.fromkeys(NeuronId.parse(name) for name in names or ()))
    for one in chosen:
        check_component(cast("Any", model), one)
    return chosen


def subjects_of(
    model: StoryModel, read: Sequence[Story], neurons: Sequence[NeuronId], seed: int
) -> dict[str, Subject | None]:
    """What is asked of each neuron, and of the one in its place in a twin; None where it fires too rarely."""

    assert model.tokenizer is not None
    twin = next(islice(random_twins(model, seed=seed), 1, None))  # the first is fresh, the others redrawn
    found: dict[str, Subject | None] = {}
    with progress_bar("reading", 2 * len(read)) as (bar, task):
        for before, (name, one) in enumerate((("", model), ("twin ", twin))):

            def tell(n: int, before: int = before) -> None:
                bar.update(task, completed=before * len(read) + n, note=f"{n} stories")

            tracks = read_tracks(one, read, neurons, tell)
            for column, neuron in enumerate(neurons):
                evidence = evidence_of(tracks, column, neuron, model.tokenizer, seed=seed)
                key = f"{name}{neuron}"
                found[key] = None if evidence is None else Subject(key, evidence)
            del tracks
    return found


def calls_at_most(ledger: Ledger, subjects: Iterable[Subject | None], asked: Asked) -> Iterator[Call]:
    """All calls; where the words are not known yet, the second ones have as many characters as are allowed."""

    there = [one for one in subjects if one is not None]
    yield from (explain_call(one, asked) for one in there)
    for one in there:
        words = read_description(ledger.outcome(explain_call(one, asked), {}))
        yield from detect_calls(one, words or "?" * MOST_CHARACTERS, asked)


def answered(
    client: Client,
    subjects: Mapping[str, Subject | None],
    neurons: Sequence[NeuronId],
    asked: Asked,
    terms: Terms,
) -> tuple[list[NeuronWords], list[str]]:
    """Have both rounds of calls answered; what came of each neuron, and the names of the models that answered."""

    there = [one for one in subjects.values() if one is not None]
    unkept: dict[str, CallFailure] = {}

    def ask(calls: list[Call]) -> None:
        unkept.update(
            {failure.key: failure for failure in answer_all(client, calls, terms, total=len(calls))}
        )

    ask([explain_call(one, asked) for one in there])
    first = {one.name: client.ledger.outcome(explain_call(one, asked), unkept) for one in there}
    words = {name: read_description(found) for name, found in first.items()}
    calls = {
        one.name: list(detect_calls(one, described, asked))
        for one in there
        if (described := words[one.name]) is not None
    }
    ask([call for of_one in calls.values() for call in of_one])
    second = {name: [client.ledger.outcome(call, unkept) for call in made] for name, made in calls.items()}

    def score(name: str) -> Score | None:
        subject = subjects[name]
        if subject is None or name not in second:
            return None
        right, n = read_hits(subject, second[name])
        return Score(right, n) if n else None

    def missing(name: str) -> str | None:
        if subjects[name] is None:
            return TOO_FEW
        failed = [one for one in (first[name], *second.get(name, ())) if isinstance(one, CallFailure)]
        return f"{failed[0].reason}: {failed[0].detail}" if failed else None

    found = [
        NeuronWords(
            one,
            words.get(str(one)),
            score(str(one)),
            words.get(f"twin {one}"),
            score(f"twin {one}"),
            missing(str(one)),
            missing(f"twin {one}"),
        )
        for one in neurons
    ]
    replies = [*first.values(), *(one for of_one in second.values() for one in of_one)]
    return found, sorted({one.model for one in replies if isinstance(one, Reply)})
