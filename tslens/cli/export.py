"""``tslens export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tslens.cli import options
from tslens.cli.console import say, show, show_json


def export(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    model: options.NamedModel,
    to: Annotated[
        Literal["huggingface", "hooked-transformer"],
        typer.Option(
            "--to",
            help="huggingface: transformers and TransformerLens 4; hooked-transformer: TransformerLens 3.",
        ),
    ],
    as_json: options.Json = False,
) -> None:
    """Write a model in the format of another library.

    Example: tslens export --model l1_h256 --to huggingface exported/l1_h256
    """
    say(f"tslens export: loading {model}")
    from tslens.model.export import export_model
    from tslens.model.load import find_model, open_model

    source = find_model(model)
    say(source.note)
    export_model(open_model(source), to, folder)
    if as_json:
        show_json({"model": source.label, "to": to, "folder": str(folder)})
    else:
        show(f"wrote {folder}")
