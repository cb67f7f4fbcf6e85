"""``tslens data download``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tslens.cli import options
from tslens.cli.console import say, show, show_json, show_table


def download(
    release: Annotated[
        str,
        typer.Argument(help="v1 (the paper's), v2 (GPT-4 alone), instruct (stories behind instructions)."),
    ],
    out: Annotated[Path, typer.Option("--out", help="The folder to put the files in.")] = Path("data"),
    side: Annotated[
        str, typer.Option("--side", help="train (2 GB and more), validation (20 to 30 MB) or both.")
    ] = "both",
    as_json: options.Json = False,
) -> None:
    """Fetch the published TinyStories from the Hugging Face hub. What was fetched before is not fetched again.

    Any data set of the hub with a column "text" can also be read where a command takes stories: hub:OWNER/NAME:SPLIT

    Example: tslens data download v2 --side validation --out data
    """
    say(f"tslens data download: asking the Hugging Face hub for {release}")
    from tslens.corpus.hub import RELEASES, fetch, find_release
    from tslens.files import check_writable

    files = find_release(release, side)
    check_writable(out)
    total = sum(file.n_bytes or 0 for file in files)
    say(f"tslens data download: {total / 1e6:,.0f} MB into {out} ({RELEASES[release].about})")
    out.mkdir(parents=True, exist_ok=True)
    paths = [fetch(file, out) for file in files]
    facts = [
        {
            "file": str(path),
            "bytes": path.stat().st_size,
            "repository": file.repository,
            "commit": file.revision,
        }
        for path, file in zip(paths, files, strict=True)
    ]
    if as_json:
        show_json({"release": release, "files": facts})
        return
    show_table(["<file>", "bytes"], [[str(fact["file"]), f"{fact['bytes']:,}"] for fact in facts])
    show(f"Read on with: tslens train --model l1_h256 --data {paths[0]}")
