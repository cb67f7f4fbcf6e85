"""``tslens describe``: words for neurons by a large model, scored on passages that it has not seen."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tslens.cli import options
from tslens.cli.asking import LEDGERS, Terms, open_client, show_estimate
from tslens.cli.console import say, show, show_json, show_table
from tslens.provenance import command_line, provenance, utc_now

if TYPE_CHECKING:
    from tslens.llm.client import Client
    from tslens.probes.neurons.describe import NeuronWords

SCHEMA = "tslens.neuron_words/1"
TWIN = "redrawn"
N_STORIES = 400


def describe(
    model: options.NamedModel,
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
    from tslens.cli.describe_neurons import answered, calls_at_most, chosen_neurons, subjects_of
    from tslens.cli.story_rows import check_name
    from tslens.errors import ModelError, UsageError
    from tslens.files import check_writable, refuse_replacing, write_results
    from tslens.llm.connect import server_name
    from tslens.model.load import find_model, open_model
    from tslens.probes.held_out import HeldOut
    from tslens.probes.neurons.describe import Asked

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
    neurons = chosen_neurons(opened, source, neuron, roles)
    held_out = HeldOut(opened, stories, n_stories)
    read = list(held_out)
    subjects = subjects_of(opened, read, neurons, seed)
    asked = Asked(by, seed, server_name(base_url))
    terms = Terms(by, base_url, budget, price, concurrency, timeout, ledger, retry_failed, batch, poll)
    if dry_run:
        with open_client(terms, out, read_only=True) as client:
            calls = list(calls_at_most(client.ledger, subjects.values(), asked))
        if not calls:
            raise UsageError("No neuron fires in enough stories.", "Read more with --n-stories.")
        show_estimate(calls, calls[0], terms, out, as_json=as_json)
        return
    with open_client(terms, out) as client:
        words, models = answered(client, subjects, neurons, asked, terms)
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
        record = provenance(
            command=command_line(),
            seed=seed,
            data=held_out.source,
            data_sha256=held_out.sha256,
            started=started,
            seconds=time.monotonic() - clock,
        )
        write_results(out, SCHEMA, header, (one.to_json() for one in words), record)
        _report(words, source.label, client, out, as_json)


def _report(words: Sequence[NeuronWords], label: str, client: Client, out: Path, as_json: bool) -> None:
    """Print words and scores, and end with code 3 where something is missing."""
    from tslens.cli.describe_neurons import TOO_FEW
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
