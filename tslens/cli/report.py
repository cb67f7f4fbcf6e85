"""``tslens report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tslens.cli import options
from tslens.cli.console import counted, say, show, show_json
from tslens.provenance import command_line

JSON_SCHEMA = "tslens.report/1"


def report(
    models: Annotated[
        list[str], typer.Argument(help="Models, as after --model of other commands.", show_default=False)
    ],
    results: Annotated[
        list[Path] | None,
        typer.Option(
            "--results", help="A folder with more results and drawings, as reports; may be repeated."
        ),
    ] = None,
    texts: Annotated[
        int, typer.Option("--texts", min=0, max=40, help="Texts of each model that are read token by token.")
    ] = 8,
    html: Annotated[Path, typer.Option("--html", help="Where to write the page.")] = Path("report.html"),
    seed: options.Seed = 0,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Join what was measured of some models in one page: heads, neurons, maps, grades, texts, size and time.

    Models stand in the order given. Nothing is measured anew but the texts, token by token; what a model lacks is
    said with the command that makes it.

    Example: tslens report l1_h256 l2_h128 l4_h128 --results reports --html report.html
    """
    say(f"tslens report: {counted(len(models), 'model')} (seed {seed})")
    import tslens
    from tslens.cli.report_find import gather_model, index_results
    from tslens.errors import UsageError
    from tslens.files import check_page
    from tslens.link.joined.model_part import ModelPart
    from tslens.viz.report.page import write_report_page
    from tslens.viz.report.studies import find_studies

    check_page(html)
    folders = results or []
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"{folder} is no folder.", "Name one with results, as reports.")
    named = index_results(folders)
    parts: list[ModelPart] = []
    for number, model in enumerate(models, 1):
        say(f"{number} of {len(models)}: {model}")
        part = gather_model(model, named, n_texts=texts, seed=seed, device=options.resolve_device(device))
        if any(part.label == other.label for other in parts):
            raise UsageError(f"{part.label} is named twice.", "Name each model once.")
        parts.append(part)
    header = {
        "models": str(len(parts)),
        "seed": str(seed),
        "version": tslens.__version__,
        "command": command_line(),
    }
    write_report_page(html, parts, find_studies(folders), header=header)
    size = html.stat().st_size
    if as_json:
        rows = [
            {
                "model": part.label,
                "has": sorted(part.origins.keys() - {"model"}),
                "n_texts": len(part.samples),
            }
            for part in parts
        ]
        show_json({"schema": JSON_SCHEMA, "models": rows, "file": str(html), "bytes": size})
        return
    show(f"wrote {html} ({size / 1e6:.1f} MB)")
