"""``tslens data diversity``: how diverse stories are, and whether a model copies those it was trained on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from tslens.cli import options
from tslens.cli.console import say, show, show_json
from tslens.provenance import command_line, provenance, utc_now

FEW = 30


def diversity(
    source: Annotated[str, typer.Argument(help=options.SOURCES)],
    other: Annotated[str | None, typer.Argument(help="A second corpus, to compare with.")] = None,
    stories: Annotated[
        int | None,
        typer.Option(
            "--stories", help="Stories to draw: 100 with --model, else 500; of a file, the first N."
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Measure its completions; SOURCE is what it was trained on.")
    ] = None,
    completions: Annotated[
        Path | None,
        typer.Option("--completions", help='A JSONL file with one {"prompt", "completion"} a line.'),
    ] = None,
    seed: options.Seed = 0,
    html: options.Html = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Measure diversity: of a corpus, of two compared, or of a model's completions against its training stories.

    The first call builds an index of SOURCE under runs/.indexes; later ones open it.

    Example: tslens data diversity stories.jsonl.gz --model l1_h256 --html diversity.html

    Example: tslens data diversity stories.jsonl.gz author:5000
    """
    say(f"tslens data diversity: reading {source} (seed {seed})")
    from tslens.cli.diversity_results import N_STORIES, compare, complete, profile
    from tslens.errors import UsageError
    from tslens.files import check_page

    if model is not None and completions is not None:
        raise UsageError("Both --model and --completions were given.", "Give one of them.")
    if other is not None and (model is not None or completions is not None):
        raise UsageError("Two corpora and completions were given.", "Compare two corpora without a model.")
    if stories is not None and stories < 1:
        raise UsageError(f"{stories} stories are none.", "Ask for one or more.")
    check_page(html, source)
    started, clock = utc_now(), time.monotonic()
    if other is not None:
        facts = compare(source, other, stories or N_STORIES, seed)
    elif model is None and completions is None:
        facts = profile(source, stories or N_STORIES, seed)
    else:
        facts = complete(source, model, completions, stories, seed, device)
    few = [f"under {FEW} stories: the intervals are too narrow"] if facts["n"] < FEW else []
    facts["warnings"] = [*facts["warnings"], *few]
    for warning in facts["warnings"]:
        say(f"warning: {warning}")
    if html is not None:
        from tslens.viz.diversity_page import write_diversity_page

        record = provenance(
            command=command_line(),
            seed=seed,
            data=" and ".join(row["name"] for row in facts["sources"]),
            data_sha256=" and ".join(row["sha256"] for row in facts["sources"]),
            started=started,
            seconds=time.monotonic() - clock,
        )
        header = {"version": record.version, "command": record.command, "data sha256": record.data_sha256}
        write_diversity_page(html, facts=facts, header={"seed": str(seed), **header})
    if as_json:
        show_json({key: value for key, value in facts.items() if key != "shown"})
        return
    from tslens.cli.diversity_tables import show_diversity

    show_diversity(facts)
    if html is not None:
        show(f"wrote {html}")
