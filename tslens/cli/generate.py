"""``tslens generate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tslens.cli import options
from tslens.cli.console import say, show, show_json


def generate(
    model: options.Model,
    prompt: Annotated[str | None, typer.Option("--prompt", help="Beginning of the story.")] = None,
    prompts: Annotated[
        Path | None, typer.Option("--prompts", help='A JSONL file with one {"prompt": ...} a line.')
    ] = None,
    samples: Annotated[int, typer.Option("--samples", help="Completions of each prompt.")] = 1,
    max_tokens: Annotated[int, typer.Option("--max-tokens", help="New tokens at most.")] = 200,
    temperature: Annotated[float, typer.Option("--temperature", help="0 takes the likeliest token.")] = 1.0,
    top_k: Annotated[int | None, typer.Option("--top-k", help="Sample among so many tokens only.")] = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Write completions with a trained model.

    Example: tslens generate --model l1_h256 --prompt "Once upon a time" --samples 3
    """
    say(f"tslens generate: loading {model} (seed {seed})")
    from tslens.errors import UsageError
    from tslens.model.generate import generate as complete
    from tslens.model.load import find_model, open_model

    if prompt is not None and prompts is not None:
        raise UsageError("Both --prompt and --prompts were given.", "Give one of them.")
    texts = _read_prompts(prompts) if prompts is not None else [prompt or "Once upon a time"]
    source = find_model(model)
    say(source.note)
    loaded = open_model(source, device=options.resolve_device(device))
    done = complete(
        loaded,
        texts,
        samples=samples,
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        seed=seed,
    )
    if as_json:
        rows = [
            {"prompt": c.prompt, "completion": c.completion, "sample": c.sample, "seed": c.seed} for c in done
        ]
        show_json({"schema": "tslens.completions/1", "model": source.label, "completions": rows})
        return
    for one in done:
        ending = "" if one.ended else " ..."
        show(f"{one.prompt}{one.completion}{ending}\n")


def _read_prompts(path: Path) -> list[str]:
    from tslens.errors import DataError

    try:
        lines = path.read_text(encoding="utf-8").split("\n")
        found = [json.loads(line)["prompt"] for line in lines if line.strip()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is no file of prompts: {error}.", 'Write one {"prompt": "..."} a line.'
        ) from error
    if not found or not all(isinstance(text, str) for text in found):
        raise DataError(f"{path} holds no prompts.", 'Write one {"prompt": "..."} a line.')
    return found
