"""``tslens demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tslens.cli import options
from tslens.cli.console import say, show

MODEL = "l2_h64"
N_EXPLAIN = 60  # stories: a first page soon


def demo(
    out: Annotated[Path, typer.Option("--out", help="A folder for everything the demo writes.")] = Path(
        "demo"
    ),
    minutes: Annotated[float, typer.Option("--minutes", help="Training time.")] = 1.0,
    stories: Annotated[int, typer.Option("--stories", help="Stories the offline author writes.")] = 20_000,
    seed: options.Seed = 0,
    device: options.Device = "auto",
) -> None:
    """From nothing to the first page: write stories, train a small model on them, see what its heads do.

    Example: tslens demo
    """
    say(f"tslens demo: {stories} stories, then {minutes:g} min of training (seed {seed})")
    from tslens.cli.heads import N_STORIES, scan_model
    from tslens.cli.train import open_corpus, run_training, show_result
    from tslens.config import train_config
    from tslens.run_folder import RunFolder

    run = RunFolder(out / MODEL / f"seed{seed}")
    if run.done.exists():
        say(f"{run.path} is trained already; remove {out} to begin anew.")
    else:
        config = train_config(None, model=MODEL, seed=seed, minutes=minutes, vocab_size=2048)
        corpus = open_corpus(f"author:{stories}:{seed}", config.vocab_size, out / "corpora")
        result = run_training(
            config, corpus, run, resume=run.config.exists(), device=options.resolve_device(device)
        )
        show_result(result, corpus, as_json=False, resumed=True)
    page = out / "heads.html"
    source = str(run.path)
    scan_model(source, None, N_STORIES, None, page, None, seed, device, as_json=False, n_explain=N_EXPLAIN)
    show(
        f"\nOpen {page} in a browser: what each of the heads looks at.\n"
        "Try next:\n"
        f'  tslens generate --model {run.path} --prompt "Once upon a time" --samples 3\n'
        f'  tslens look "One day, Tom ate a banana in the park." --model {run.path} --html look.html\n'
        "  tslens train --model l1_h256 --data YOUR_STORIES.jsonl --minutes 10"
    )
