"""Options that many commands share, written once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from tslens.cli.completion import complete_model as complete_model
from tslens.cli.console import say

NEWEST = ""
"""Default of a command's model: the newest finished run, which :data:`Model` puts in its place."""


def newest_unless(*others: str) -> Callable[[typer.Context, str | None], str | None]:
    """What fills in a model that was not named: the newest finished run, said on standard error.

    ``others``: parameters that name something else in its place; with any of them the model stays unnamed. For
    ``callback=`` of an option ``model``. Raises UsageError where there is no finished run.
    """

    def newest(context: typer.Context, value: str | None) -> str | None:
        source = context.get_parameter_source("model")
        is_named = source is None or source.name != "DEFAULT"
        if is_named or context.resilient_parsing or any(context.params.get(name) for name in others):
            return value  # what was given is read before what was not
        from tslens.model.run_list import newest_run

        run = newest_run()
        say(f"model: newest run, {run.path}")
        known, ngram = run.validation_bits(), run.ngram_bits()
        if known is not None and ngram is not None and known > ngram:
            say(
                f"warning: it has learned little: {known:.3f} bits per byte on its validation stories, where a "
                f"4-gram of them has {ngram:.3f}. For a model that comes with tslens: --model shipped:l1_h256"
            )
        return str(run.path)

    return newest


_MODEL = (
    "Name of a run or shipped model (l1_h256, l1_h256@seed2, shipped:l1_h256); a run folder, checkpoint, "
    "folder of transformers (GPT-Neo, GPT-2, Llama) or HookedTransformer, llama2.c .bin; or owner/name of the hub."
)
Model = Annotated[
    str,
    typer.Option(
        "--model",
        help=f"{_MODEL} Default: the newest finished run.",
        show_default=False,
        callback=newest_unless(),
        autocompletion=complete_model,
    ),
]
NamedModel = Annotated[str, typer.Option("--model", help=_MODEL, autocompletion=complete_model)]
"""Of commands that hand a model on, or pay for what is asked about it: there it is named."""
SOURCES = ".jsonl or .jsonl.gz, .txt with <|endoftext|>, .parquet, author:N, or hub:OWNER/NAME:SPLIT."
Stories = Annotated[
    str | None, typer.Option("--stories", help=f"Stories: {SOURCES} Default: the offline author.")
]


def _seed_in_range(value: int) -> int:
    if not 0 <= value < 2**63:
        raise typer.BadParameter(f"{value} is not in the range from 0 to {2**63 - 1}.")
    return value


Seed = Annotated[
    int, typer.Option("--seed", callback=_seed_in_range, help="Seed of everything that is drawn, 0 or more.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]
Html = Annotated[Path | None, typer.Option("--html", help="Where to write the page.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]

Corrupt = Annotated[
    str | None,
    typer.Option(
        "--corrupt",
        help="Write corrupted twins with one fault: KIND:STRENGTH, as in tense:low. Kinds: word_order, "
        "agreement, tense, "
        "swapped_names, changed_pronoun, object_back, repeated_sentence, sentence_order, missing_ending, "
        "ignored_instruction. Strengths: low (10% of the places), medium (25%, the default), high (50%), one.",
    ),
]
Processes = Annotated[
    int | None, typer.Option("--processes", min=1, help="How many. Default: one for each core.")
]

# Of commands that ask a large model ---------------------------------------------------------------------------

ASKING = "With a large model"
"""Panel of their help."""

BaseUrl = Annotated[
    str | None,
    typer.Option(
        "--base-url",
        rich_help_panel=ASKING,
        help="A server that answers like OpenAI's, as in http://localhost:8000/v1. "
        "On other machines https, or TSLENS_ALLOW_HTTP=1.",
    ),
]
Budget = Annotated[
    float | None,
    typer.Option(
        "--budget",
        min=0,
        rich_help_panel=ASKING,
        help="USD at most, all runs of this job together; the worst case counts.",
    ),
]
Price = Annotated[
    str | None,
    typer.Option(
        "--price",
        rich_help_panel=ASKING,
        help="IN,OUT in USD per million tokens, for a model whose price is not known.",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", rich_help_panel=ASKING, help="Say what would be asked and what it would cost."),
]
Batch = Annotated[
    bool,
    typer.Option(
        "--batch",
        rich_help_panel=ASKING,
        help="By the batch endpoint: half the price, answered within a day.",
    ),
]
Poll = Annotated[
    float | None,
    typer.Option(
        "--poll",
        min=0.01,
        rich_help_panel=ASKING,
        help="With --batch: seconds between two looks at the server. Default: 30.",
    ),
]
Concurrency = Annotated[
    int, typer.Option("--concurrency", min=1, rich_help_panel=ASKING, help="Calls in flight at most.")
]
Timeout = Annotated[
    float, typer.Option("--timeout", min=0.1, rich_help_panel=ASKING, help="Seconds to wait for one answer.")
]
LedgerFolder = Annotated[
    Path,
    typer.Option(
        "--ledger",
        rich_help_panel=ASKING,
        help="Folder of the replies so far; what is there when a job begins is not paid again.",
    ),
]
RetryFailed = Annotated[
    bool,
    typer.Option(
        "--retry-failed",
        rich_help_panel=ASKING,
        help="Ask again what was refused, rejected or could not be read.",
    ),
]


def count_processes(asked: int | None, n_stories: int | None = None) -> int:
    """Processes to use: those asked for, else one for each core, or one where there is little to do."""
    import os

    if asked:
        return asked
    if n_stories is not None and n_stories < 1000:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def resolve_device(name: str) -> str:
    """The device to use. Raises UsageError for one that is not there."""
    import torch

    from tslens.errors import UsageError

    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return "cuda" if there["cuda"] else "cpu"  # mps has not been tried yet
    if not there.get(name, False):
        known = ", ".join(device for device, is_there in there.items() if is_there)
        raise UsageError(f'There is no device "{name}" here.', f"Use one of: auto, {known}.")
    return name
