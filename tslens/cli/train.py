"""``tslens train``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tslens.cli import options
from tslens.cli.console import progress_bar, say, show, show_json, show_table
from tslens.provenance import command_line

if TYPE_CHECKING:
    from tslens.config import TrainConfig
    from tslens.corpus.shards import Corpus
    from tslens.run_folder import RunFolder
    from tslens.train.loop import TrainResult

CORPORA = Path("runs/.corpora")


def train(
    data: Annotated[
        list[str],
        typer.Option(
            "--data",
            help="Stories (.jsonl, .jsonl.gz, .txt, author:N) or an imported folder; repeat it to take several.",
        ),
    ],
    model: Annotated[
        str | None, typer.Option("--model", help="Shape: l1_h256 is 1 layer, width 256; _a4 for 4 heads.")
    ] = None,
    grid: Annotated[
        str | None,
        typer.Option(
            "--grid",
            help='Instead of --model: "layers=1,2 hidden=64,128", with heads= and seed= where wanted; or paper '
            "(layers 2, 4, 8, 12; width 64 to 2048). Finished cells are skipped, unfinished ones go on.",
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Budget: optimizer steps.")] = None,
    tokens: Annotated[int | None, typer.Option("--tokens", help="Budget: training tokens.")] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", help="Budget: minutes; 10 if no budget is given.")
    ] = None,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Say what it takes (parameters, FLOPs, memory, time) and train nothing."),
    ] = False,
    gpu: Annotated[
        str | None,
        typer.Option("--gpu", help="With --plan: hours on a GPU that is not here: a100, h100, v100."),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe", help="muon (the default), adamw, or paper: AdamW at the paper's constant rate."
        ),
    ] = None,
    vocab_size: Annotated[
        int | None, typer.Option("--vocab-size", help="Tokens of the tokenizer; 4096.")
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            "--learning-rate",
            help="Adam's peak rate, of the embedding at width 256; with adamw and paper of everything.",
        ),
    ] = None,
    matrix_learning_rate: Annotated[
        float | None, typer.Option("--matrix-learning-rate", help="Muon's peak rate.")
    ] = None,
    decay: Annotated[
        str | None,
        typer.Option(
            "--decay", help="linear: rates fall to zero; constant: they stay, as tslens scaling wants."
        ),
    ] = None,
    batch_tokens: Annotated[
        int | None, typer.Option("--batch-tokens", help="Tokens a step; 1024, with adamw and paper 2048.")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision", help="Of matrix products: auto (the faster one here), float32 or bfloat16."
        ),
    ] = None,
    compiled: Annotated[
        bool | None,
        typer.Option("--compile/--no-compile", help="Compile the model first, which takes a minute."),
    ] = None,
    seed: options.Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Run folder; runs/MODEL/seedS if absent. Of a grid: the folder in place of runs."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run; a grid does so by itself.")
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write logs for TensorBoard too (extra tensorboard).")
    ] = False,
    launcher: Annotated[
        str, typer.Option("--launcher", help="Where a grid runs: process (this one) or ray (extra ray).")
    ] = "process",
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="With ray: cells at once; as many as there is room for."),
    ] = None,
    gpu_fraction: Annotated[
        float | None,
        typer.Option("--gpu-fraction", min=0.01, max=1, help="With ray: share of a GPU that a cell gets; 1."),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            "--address", help="With ray: a running cluster (auto, HOST:PORT); else one is started here."
        ),
    ] = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Train a story model, or a grid of them. Ctrl-C leaves what --resume, or the same grid again, continues.

    Example: tslens train --model l1_h256 --data stories.jsonl.gz --minutes 10

    Example: tslens train --grid "layers=1,2 hidden=64,128 seed=0,1" --data stories.jsonl.gz --tokens 5000000
    """
    of_seed = "" if grid and "seed=" in grid else f" (seed {seed})"
    say(f"tslens train: {model or grid} on {', '.join(data)}{of_seed}")
    from tslens.cli.train_cells import cells_of_grid, check_options, one_cell
    from tslens.cli.train_grid import RayOptions, run_cells
    from tslens.cli.train_plan import show_plan
    from tslens.errors import UsageError
    from tslens.files import check_writable
    from tslens.train.record import is_begun

    check_options(model, grid, plan, gpu, launcher, (workers, gpu_fraction, address), tensorboard=tensorboard)
    given = {
        "recipe": recipe,
        "steps": steps,
        "tokens": tokens,
        "minutes": minutes,
        "vocab_size": vocab_size,
        "learning_rate": learning_rate,
        "matrix_learning_rate": matrix_learning_rate,
        "decay": decay,
        "batch_tokens": batch_tokens,
        "precision": precision,
        "compile": compiled,
    }
    if grid is None:
        cells = [one_cell(model or "", seed, out, resume, given)]
    else:
        cells = cells_of_grid(grid, seed, out, given)
    first = cells[0].config
    on_ray = launcher == "ray"
    if on_ray and not plan and device not in {"auto", "cpu", "cuda"}:
        raise UsageError(f'A cell on Ray has no device "{device}".', "Use one of: auto, cpu, cuda.")
    where = device if on_ray and not plan else options.resolve_device(device)
    if grid is None and not plan:
        is_begun(cells[0].run, resume)  # what would be refused is, before the stories are read
    if not plan and "WORLD_SIZE" not in os.environ:  # processes of torchrun would be in each other's way
        check_writable(cells[0].run.path)
    corpus = open_corpus(data, first.vocab_size)
    if plan:
        show_plan(cells, corpus, device=where, gpu=gpu, as_json=as_json)
    elif grid is None:
        result = run_training(
            first, corpus, cells[0].run, resume=resume, device=where, tensorboard=tensorboard
        )
        show_result(result, corpus, as_json, resumed=resume)
    else:
        run_cells(
            cells,
            corpus,
            ray=RayOptions(workers, gpu_fraction, address) if on_ray else None,
            device=where,
            command=command_line(),
            tensorboard=tensorboard,
            as_json=as_json,
        )


def open_corpus(data: str | list[str], vocab_size: int, folder: Path = CORPORA) -> Corpus:
    """Import the stories, or open them if that was done before."""
    from tslens.corpus.shards import corpus_for

    with progress_bar("importing stories", None) as (bar, task):
        corpus = corpus_for(
            data,
            folder,
            vocab_size=vocab_size,
            wait="WORLD_SIZE" in os.environ,  # one of the processes that torchrun started imports
            progress=lambda n: bar.update(task, note=f"{n} stories"),
        )
    facts = corpus.facts
    say(
        f"stories: {len(corpus.train)} to train on, {len(corpus.validation)} held out, {facts['n_cut']} cut at "
        f"{facts['context']} tokens, {facts['n_duplicates']} duplicates dropped, in {corpus.folder}"
    )
    return corpus


def run_training(
    config: TrainConfig,
    corpus: Corpus,
    run: RunFolder,
    *,
    resume: bool,
    device: str,
    tensorboard: bool = False,
) -> TrainResult:
    """Train with a progress bar."""
    from tslens.cli.train_speed import Speedometer
    from tslens.model.spec import ModelSpec
    from tslens.train.loop import TrainProgress, train_model
    from tslens.train.yardstick import ngram_yardstick

    n_params = ModelSpec.from_name(config.model).n_params(corpus.tokenizer.vocab_size)
    say(
        f"training {config.model}: {n_params:,} parameters, {config.amount:g} {config.budget}, into {run.path}"
    )
    with progress_bar(config.model, 1.0) as (bar, task):
        speed = Speedometer(corpus, device, config.precision)

        def report(now: TrainProgress) -> None:
            val = f", val {now.val.loss_nats:.3f} ({now.val.bits_per_byte:.3f} bits/byte)" if now.val else ""
            share = speed.mfu(config.model, now.tokens_per_second)
            note = f"step {now.step}  loss {now.loss_nats:.3f}{val}  {now.tokens_per_second:,.0f} tokens/s"
            note += "" if share is None else f"  MFU {share:.0%}"
            bar.update(task, completed=now.fraction, note=note)

        def count_ngrams() -> None:
            say("counting 4-grams, the yardstick ...")
            ngram_yardstick(corpus, run)

        return train_model(
            config,
            corpus,
            run,
            resume=resume,
            device=device,
            command=command_line(),
            tensorboard=tensorboard,
            report=report,
            before_done=count_ngrams,
        )


def show_result(result: TrainResult, corpus: Corpus, as_json: bool, *, resumed: bool) -> None:
    """Losses beside the 4-gram's; exit code 3 if the run was interrupted.

    ``resumed``: whether the command goes on with an interrupted run as it was given, without --resume added.
    """
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
        added = "" if resumed else ", with --resume added"
        say(f"Stopped after step {result.steps}. Go on with the same command{added}.")
        raise typer.Exit(3)
    if os.environ.get("RANK", "0") != "0":
        return
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
