"""``tslens train``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tslens.cli import options
from tslens.cli.console import progress_bar, say, show, show_json, show_table

if TYPE_CHECKING:
    from tslens.config import TrainConfig
    from tslens.corpus.shards import Corpus
    from tslens.files import RunFolder
    from tslens.train.loop import TrainResult

CORPORA = Path("runs/.corpora")


def train(
    model: Annotated[
        str, typer.Option("--model", help="Shape: l1_h256 is 1 layer, width 256; _a4 for 4 heads.")
    ],
    data: Annotated[
        str, typer.Option("--data", help="Stories (.jsonl, .jsonl.gz, .txt, author:N) or an imported folder.")
    ],
    steps: Annotated[int | None, typer.Option("--steps", help="Budget: optimizer steps.")] = None,
    tokens: Annotated[int | None, typer.Option("--tokens", help="Budget: training tokens.")] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", help="Budget: minutes; 10 if no budget is given.")
    ] = None,
    vocab_size: Annotated[
        int | None, typer.Option("--vocab-size", help="Tokens of the tokenizer; 4096.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", help="AdamW's peak rate.")] = None,
    matrix_learning_rate: Annotated[
        float | None, typer.Option("--matrix-learning-rate", help="Muon's peak rate.")
    ] = None,
    batch_tokens: Annotated[int | None, typer.Option("--batch-tokens", help="Tokens a step.")] = None,
    seed: options.Seed = 0,
    out: Annotated[Path | None, typer.Option("--out", help="Run folder; runs/MODEL/seedS if absent.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Train a story model. Ctrl-C leaves a run that --resume continues.

    Example: tslens train --model l1_h256 --data stories.jsonl.gz --minutes 10
    """
    say(f"tslens train: {model} on {data} (seed {seed})")
    from tslens.config import train_config
    from tslens.files import RunFolder, read_json
    from tslens.model.spec import ModelSpec

    run = RunFolder(out or Path("runs") / ModelSpec.from_name(model).name / f"seed{seed}")
    saved = read_json(run.config) if resume and run.config.exists() else None
    config = train_config(
        saved,
        model=model,
        seed=seed,
        steps=steps,
        tokens=tokens,
        minutes=minutes,
        vocab_size=vocab_size,
        learning_rate=learning_rate,
        matrix_learning_rate=matrix_learning_rate,
        batch_tokens=batch_tokens,
    )
    corpus = open_corpus(data, config.vocab_size)
    result = run_training(config, corpus, run, resume=resume, device=options.resolve_device(device))
    show_result(result, corpus, as_json)


def open_corpus(data: str, vocab_size: int, folder: Path = CORPORA) -> Corpus:
    """Import the stories, or open them if that was done before."""
    from tslens.corpus.shards import corpus_for

    with progress_bar("importing stories", None) as (bar, task):
        corpus = corpus_for(
            data, folder, vocab_size=vocab_size, progress=lambda n: bar.update(task, note=f"{n} stories")
        )
    facts = corpus.facts
    say(
        f"stories: {len(corpus.train)} to train on, {len(corpus.validation)} held out, {facts['n_cut']} cut at "
        f"{facts['context']} tokens, {facts['n_duplicates']} duplicates dropped, in {corpus.folder}"
    )
    return corpus


def run_training(
    config: TrainConfig, corpus: Corpus, run: RunFolder, *, resume: bool, device: str
) -> TrainResult:
    """Train with a progress bar."""
    from tslens.model.spec import ModelSpec
    from tslens.train.loop import TrainProgress, train_model

    n_params = ModelSpec.from_name(config.model).n_params(corpus.tokenizer.vocab_size)
    say(
        f"training {config.model}: {n_params:,} parameters, {config.amount:g} {config.budget}, into {run.path}"
    )
    with progress_bar(config.model, 1.0) as (bar, task):

        def report(now: TrainProgress) -> None:
            val = f", val {now.val.loss_nats:.3f} ({now.val.bits_per_byte:.3f} bits/byte)" if now.val else ""
            note = f"step {now.step}  loss {now.loss_nats:.3f}{val}  {now.tokens_per_second:,.0f} tokens/s"
            bar.update(task, completed=now.fraction, note=note)

        return train_model(
            config,
            corpus,
            run,
            resume=resume,
            device=device,
            command=shlex.join(["tslens", *sys.argv[1:]]),
            report=report,
        )


def show_result(result: TrainResult, corpus: Corpus, as_json: bool) -> None:
    """Losses beside the 4-gram's; exit code 3 if the run was interrupted."""
    from tslens.train.yardstick import ngram_yardstick

    facts: dict[str, Any] = {
        "run": str(result.run.path),
        "steps": result.steps,
        "tokens": result.n_tokens,
        "seconds": round(result.seconds, 1),
        "val_loss_nats": result.val.loss_nats if result.val else None,
        "val_bits_per_byte": result.val.bits_per_byte if result.val else None,
    }
    if result.val is None:
        if as_json:
            show_json(facts)
        say(f"Stopped after step {result.steps}. Go on with the same command (tslens train: and --resume).")
        raise typer.Exit(3)
    say("counting 4-grams, the yardstick ...")
    ngram = ngram_yardstick(corpus, result.run)
    if as_json:
        show_json(facts)
        return
    show_table(
        ["<validation loss>", "nats per token", "bits per byte"],
        [
            [result.run.label(), f"{result.val.loss_nats:.3f}", f"{result.val.bits_per_byte:.3f}"],
            ["4-gram (Kneser-Ney), same stories", f"{ngram.loss_nats:.3f}", f"{ngram.bits_per_byte:.3f}"],
        ],
    )
    if result.val.bits_per_byte > ngram.bits_per_byte:
        show("The 4-gram is still better: a longer training will show more in the heads.")
    show(f"{result.steps} steps, {result.n_tokens:,} tokens, {result.seconds:.0f} s. Wrote {result.run.path}")
    show(f"Next: tslens heads --model {result.run.path} --html heads.html")
