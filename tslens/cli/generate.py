"""``tslens generate``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tslens.cli import options
from tslens.cli.console import counted, progress_bar, say, show, show_json

DEFAULT_PROMPT = "Once upon a time"


def generate(
    model: options.Model = options.NEWEST,
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt", help=f'Beginning of the story, by default "{DEFAULT_PROMPT}"; "" for none at all.'
        ),
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option("--prompts", help='A JSONL file with one {"prompt": ...} a line.')
    ] = None,
    samples: Annotated[int, typer.Option("--samples", help="Completions of each prompt.")] = 1,
    max_tokens: Annotated[int, typer.Option("--max-tokens", help="New tokens at most.")] = 200,
    temperature: Annotated[float, typer.Option("--temperature", help="0 takes the likeliest token.")] = 1.0,
    top_k: Annotated[int | None, typer.Option("--top-k", help="Sample among so many tokens only.")] = None,
    ablate: Annotated[
        list[str] | None,
        typer.Option(
            "--ablate", help="Write without a head (L0H3), neuron (L0N117) or layer (L0); may be repeated."
        ),
    ] = None,
    seed: options.Seed = 0,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the completions to a JSONL file, one a line.")
    ] = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Write completions with a trained model.

    Ctrl-C writes nothing: the same command gives the same completions again.

    Example: tslens generate --model l1_h256 --prompt "Once upon a time" --samples 3

    Example: tslens generate --model l1_h256 --prompts prompts.jsonl --ablate L0H3 --out without_L0H3.jsonl
    """
    say(f"tslens generate: loading {model} (seed {seed})")
    from tslens.causal.ablation import ablated, parse_component
    from tslens.errors import UsageError
    from tslens.files import check_writable
    from tslens.model.generate import generate as complete
    from tslens.model.load import find_model, open_model

    if prompt is not None and prompts is not None:
        raise UsageError("Both --prompt and --prompts were given.", "Give one of them.")
    texts = _read_prompts(prompts) if prompts is not None else [DEFAULT_PROMPT if prompt is None else prompt]
    components = [parse_component(text) for text in ablate or ()]
    if out is not None:
        check_writable(out.parent)
    source = find_model(model)
    say(source.note)
    loaded = open_model(source, device=options.resolve_device(device))
    names = [str(one) for one in components]
    n_asked = len(texts) * max(samples, 0)
    with ablated(loaded, components):
        if names:
            say(f"written without {', '.join(names)}")
        with progress_bar("writing", n_asked) as (bar, task):
            done = complete(
                loaded,
                texts,
                samples=samples,
                max_tokens=max_tokens,
                temperature=temperature,
                top_k=top_k,
                seed=seed,
                progress=lambda n: bar.update(task, completed=n, note=f"{n} of {n_asked}"),
            )
    without: dict[str, Any] = {"ablated": names} if names else {}
    rows = [
        {"prompt": c.prompt, "completion": c.completion, "sample": c.sample, "seed": c.seed} for c in done
    ]
    if out is not None:
        _write_rows(out, rows, {"model": source.label, **without})
    if as_json:
        show_json({"schema": "tslens.completions/1", "model": source.label, **without, "completions": rows})
    elif out is not None:
        n_ended = sum(one.ended for one in done)
        how = f" without {', '.join(names)}" if names else ""
        show(f"{counted(len(done), 'completion')}{how}, {n_ended} of them ended by the model. Wrote {out}")
    else:
        for one in done:
            ending = "" if one.ended else " ..."
            show(f"{one.prompt}{one.completion}{ending}\n")


def _write_rows(path: Path, rows: Sequence[Mapping[str, Any]], origin: Mapping[str, Any]) -> None:
    """One completion a line, whole or not at all, and no header: a file of completions is that of anybody."""
    from tslens.files import atomic_write

    with atomic_write(path) as file:
        for row in rows:
            file.write(json.dumps({**row, **origin}, ensure_ascii=False) + "\n")


def _read_prompts(path: Path) -> list[str]:
    from tslens.errors import DataError
    from tslens.reading import BROKEN, exists, parse_row, read_text, split_rows

    if not exists(path):
        raise DataError(f"There is no file {path}.", "Check the path.")
    try:
        lines = split_rows(read_text(path))
        found = [parse_row(line)["prompt"] for line in lines if line.strip()]
    except (OSError, *BROKEN) as error:
        raise DataError(
            f"{path} is no file of prompts: {error}.", 'Write one {"prompt": "..."} a line.'
        ) from error
    if not found or not all(isinstance(text, str) for text in found):
        raise DataError(f"{path} holds no prompts.", 'Write one {"prompt": "..."} a line.')
    return found
