"""``tslens describe``: words for neurons by a large model, scored on passages that it has not seen."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tslens.cli import options
from tslens.cli.asking import LEDGERS, Terms, answer_all, open_client, show_estimate
from tslens.cli.console import progress_bar, say, show, show_json, show_table

if TYPE_CHECKING:
    from tslens.llm.calls import Call, CallFailure
    from tslens.llm.client import Client
    from tslens.llm.ledger import Ledger
    from tslens.model.load import ModelSource
    from tslens.model.story_model import StoryModel
    from tslens.probes.neurons.describe import Asked, NeuronWords, Subject
    from tslens.types import NeuronId, Story

SCHEMA = "tslens.neuron_words/1"
TWIN = "redrawn"
TOO_FEW = "it fires in too few stories"
N_STORIES = 400


def describe(
    model: options.Model,
    by: Annotated[str, typer.Option("--by", help="The large model's name at its server, as in gpt-4o-mini.")],
    out: Annotated[Path, typer.Option("--out", help="A .jsonl file to write.")],
    neuron: Annotated[
        list[str] | None, typer.Option("--neuron", help="One neuron, as in L0N18; may be repeated.")
    ] = None,
    roles: Annotated[
        Path | None,
        typer.Option("--roles", help="Rows of tslens neurons: every neuron that is a role there."),
    ] = None,
    stories: options.Stories = None,
    n_stories: Annotated[int, typer.Option("--n-stories", min=60, help="Stories to read.")] = N_STORIES,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    base_url: options.BaseUrl = None,
    budget: options.Budget = None,
    price: options.Price = None,
    dry_run: options.DryRun = False,
    batch: options.Batch = False,
    poll: options.Poll = None,
    concurrency: options.Concurrency = 32,
    timeout: options.Timeout = 120.0,
    ledger: options.LedgerFolder = LEDGERS,
    retry_failed: options.RetryFailed = False,
    as_json: options.Json = False,
) -> None:
    """Ask a large model what makes neurons fire, and test its words on passages of other stories.

    It is shown passages in which a neuron fires and some in which it is quiet. With its own words alone it is then
    asked in which of 20 others the neuron fires. The same is asked of the neuron in the same place of a random twin.
    The key is read from $OPENAI_API_KEY; every reply is kept at once, and the same command goes on from there.

    Example: tslens describe --model l1_h64 --by gpt-4o-mini --neuron L0N18 --budget 0.1 --out words.jsonl
    """
    say(f"tslens describe: loading {model} (seed {seed})")
    from tslens.cli.story_rows import check_name
    from tslens.errors import ModelError, UsageError
    from tslens.files import check_writable, refuse_replacing, write_json, write_jsonl
    from tslens.llm.connect import server_name
    from tslens.model.load import find_model, open_model
    from tslens.probes.held_out import HeldOut
    from tslens.probes.neurons.describe import Asked
    from tslens.provenance import provenance, utc_now

    if (neuron is None) == (roles is None):
        raise UsageError("It is not clear which neurons to describe.", "Give either --neuron or --roles.")
    check_name(out)
    if out.name.endswith(".gz"):
        raise UsageError(f"{out} would be packed.", "Name a .jsonl file.")
    refuse_replacing(out, stories)
    if roles is not None and roles.exists() and out.exists() and out.samefile(roles):
        raise UsageError(f"{out} would replace the rows that are read.", "Choose another name.")
    if not dry_run:
        check_writable(out.parent)
    source = find_model(model)
    say(source.note)
    started, clock = utc_now(), time.monotonic()
    opened = open_model(source, device=options.resolve_device(device))
    if opened.tokenizer is None:
        raise ModelError(
            "This model has no tokenizer, so it cannot read stories.", "Give one with a tokenizer.json."
        )
    neurons = _chosen(opened, source, neuron, roles)
    held_out = HeldOut(opened, stories, n_stories)
    read = list(held_out)
    subjects = _subjects(opened, read, neurons, seed)
    asked = Asked(by, seed, server_name(base_url))
    terms = Terms(by, base_url, budget, price, concurrency, timeout, ledger, retry_failed, batch, poll)
    if dry_run:
        with open_client(terms, out, read_only=True) as client:
            calls = list(_calls_at_most(client.ledger, subjects.values(), asked))
        if not calls:
            raise UsageError("No neuron fires in enough stories.", "Read more with --n-stories.")
        show_estimate(calls, calls[0], terms, out, as_json=as_json)
        return
    with open_client(terms, out) as client:
        words, models = _answered(client, subjects, neurons, asked, terms)
        header = {
            "model": source.label,
            "checkpoint": source.path.name,
            "stories": held_out.source,
            "data_sha256": held_out.sha256,
            "n_stories": len(read),
            "n_excluded": held_out.n_excluded,
            "twin": TWIN,
            "by": by,
            "answered_by": models,
            "seed": seed,
        }
        write_jsonl(out, SCHEMA, header, (one.to_json() for one in words))
        record = provenance(
            command=shlex.join(["tslens", *sys.argv[1:]]),
            seed=seed,
            data=held_out.source,
            data_sha256=held_out.sha256,
            started=started,
            seconds=time.monotonic() - clock,
        )
        write_json(out.with_suffix(".provenance.json"), record.to_json())
        _report(words, source.label, client, out, as_json)


def _chosen(
    model: StoryModel, source: ModelSource, names: list[str] | None, roles: Path | None
) -> list[NeuronId]:
    """The neurons that were asked for, each once, in order. Raises UsageError for one that is not there."""
    from typing import Any, cast

    from tslens.causal.ablation import check_component
    from tslens.errors import UsageError
    from tslens.probes.neurons.results import load_neuron_roles
    from tslens.types import NeuronId

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


def _subjects(
    model: StoryModel, read: Sequence[Story], neurons: Sequence[NeuronId], seed: int
) -> dict[str, Subject | None]:
    """What is asked of each neuron, and of the one in its place in a twin; None where it fires too rarely."""
    from itertools import islice

    from tslens.probes.neurons.describe import Subject
    from tslens.probes.neurons.evidence import evidence_of, read_tracks
    from tslens.probes.twins import random_twins

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


def _calls_at_most(ledger: Ledger, subjects: Iterable[Subject | None], asked: Asked) -> Iterator[Call]:
    """All calls; where the words are not known yet, the second ones have as many characters as are allowed."""
    from tslens.probes.neurons.describe import (
        MOST_CHARACTERS,
        detect_calls,
        explain_call,
        read_description,
    )

    there = [one for one in subjects if one is not None]
    yield from (explain_call(one, asked) for one in there)
    for one in there:
        words = read_description(ledger.outcome(explain_call(one, asked), {}))
        yield from detect_calls(one, words or "?" * MOST_CHARACTERS, asked)


def _answered(
    client: Client,
    subjects: Mapping[str, Subject | None],
    neurons: Sequence[NeuronId],
    asked: Asked,
    terms: Terms,
) -> tuple[list[NeuronWords], list[str]]:
    """Have both rounds of calls answered; what came of each neuron, and the names of the models that answered."""
    from tslens.llm.calls import CallFailure, Reply
    from tslens.probes.neurons.describe import (
        NeuronWords,
        Score,
        detect_calls,
        explain_call,
        read_description,
        read_hits,
    )

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


def _report(words: Sequence[NeuronWords], label: str, client: Client, out: Path, as_json: bool) -> None:
    """Print words and scores, and end with code 3 where something is missing."""
    from tslens.probes.neurons.describe import beyond_twins

    summary, spent = beyond_twins(words), client.ledger.spent_usd
    if as_json:
        rows = [one.to_json() for one in words]
        show_json({"schema": SCHEMA, "model": label, "neurons": rows, "summary": summary, "spent_usd": spent})
    else:
        show_table(
            ["<neuron>", "<fires at, in the model's words>", "score", "low", "twin"],
            [_cells(one) for one in words],
        )
        show(
            "score: share of passages of other stories that these words tell right, half of which it fires in;\n"
            "low: the lower end of its exact 95% interval; twin: the same of the neuron in its place in a\n"
            "random twin."
        )
        if summary["low"] is not None:
            show(
                f"Over {summary['n']} neurons {summary['mean']:.2f}, twins {summary['twins']:.2f}: "
                f"{summary['difference']:+.2f} ({summary['low']:+.2f} to {summary['high']:+.2f})."
            )
        show(f"wrote {out}")
    missing = [(one, reason) for one in words for reason in (one.missing, one.twin_missing) if reason]
    if missing:
        first, reason = missing[0]
        n_rare = sum(reason == TOO_FEW for _, reason in missing)
        again = "The same command asks again for what did not come; --retry-failed also for what was refused."
        rare = f"{n_rare} of these fire in too few stories: read more with --n-stories." if n_rare else ""
        say(
            f"warning: {len(missing)} of {2 * len(words)} neurons and twins are not complete ({first.neuron}: "
            f"{reason}). {again if n_rare < len(missing) else ''} {rare}"
        )
        raise typer.Exit(3)


def _cells(one: NeuronWords) -> list[str]:
    score = None if one.score is None else one.score.to_json()
    told = ["", ""] if score is None else [f"{score['share']:.2f}", f"{score['low']:.2f}"]
    twin = "" if one.twin_score is None else f"{one.twin_score.share:.2f}"
    return [str(one.neuron), one.description or "", *told, twin]
