"""Make the shipped models: corpora once, then cell after cell of shipped.toml, and the table in README.md.

    python training/make_models.py [--only NAME[@seedS]]... [--minutes M] [--list]

A call goes on where the last one stopped: Ctrl-C and the end of ``--minutes`` leave the run in training with its state
saved. A cell is done when its weights, rounded to float16, and their losses are written: into the package
(``tslens/assets/models``), or, where the weights are not packaged, to ``runs/shipped`` and the rest to
``training/results``, with what its attention heads look at (``tslens heads``). A cell that is done is passed over.

Each call trains on one thread, so that weights do not depend on the number of cores: two threads are half again as fast
as one, two calls side by side twice. A cell that another call is training is left to it.
"""

import argparse
import os
import shutil
import signal
import sys
import threading
import time
import tomllib
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
from model_texts import Corpora, Texts, held_out_losses, share_corpus, train_loss

from tslens.cli.main import app
from tslens.config import TrainConfig
from tslens.corpus.instructions.form import Instruction, write_prompt
from tslens.errors import RunError, TslensError, UsageError
from tslens.files import atomic_write, read_json, read_jsonl, write_jsonl
from tslens.model import shipped
from tslens.model.checkpoint import load_checkpoint
from tslens.model.generate import generate
from tslens.model.loss import loss_per_target
from tslens.model.shipped import ShippedFacts, TextLoss, shipped_models
from tslens.model.spec import ModelSpec
from tslens.run_folder import METRICS_SCHEMA, RunFolder
from tslens.train.loop import TrainProgress, train_model
from tslens.train.record import SAMPLE_PROMPT, SAMPLES_SCHEMA

HERE = Path(__file__).parent
RECIPE, README, RESULTS = HERE / "shipped.toml", HERE / "README.md", HERE / "results"
TABLE_BEGINS, TABLE_ENDS = "<!-- written by make_models.py -->", "<!-- end of what make_models.py writes -->"
ASKED = Instruction(kinds=("words", "features"), words=("find", "shell", "shiny"), features=("dialogue",))
SAMPLES = 3
HEADS_STORIES = 500


@dataclass(frozen=True)
class Cell:
    """A model to make. ``packaged``: its weights go into the package."""

    model: str
    seed: int
    packaged: bool

    @property
    def label(self) -> str:
        """As in ``l1_h256@seed0``."""
        return f"{self.model}@seed{self.seed}"

    @property
    def run(self) -> RunFolder:
        """Where it is trained."""
        return RunFolder(shipped.REBUILT / self.model / f"seed{self.seed}")

    @property
    def package(self) -> Path:
        """Its folder in the package."""
        return shipped.MODELS / self.model / f"seed{self.seed}"

    @property
    def results(self) -> Path:
        """Where all but the weights goes of a cell that is not packaged."""
        return RESULTS / self.model / f"seed{self.seed}"

    @property
    def heads(self) -> Path:
        """Where the rows of its attention heads go, if it is not packaged."""
        return self.results / "heads"

    @property
    def weights(self) -> Path:
        """Its rounded weights."""
        return (self.package if self.packaged else self.run.path) / "model.safetensors"

    @property
    def is_done(self) -> bool:
        """Whether weights and figures are there."""
        rows = self.packaged or any(self.heads.glob("*.jsonl"))
        return rows and self.weights.exists() and (self.package / "model.json").exists()


@dataclass(frozen=True)
class Recipe:
    """What shipped.toml says."""

    data: dict
    settings: dict
    cells: tuple[Cell, ...]

    @classmethod
    def read(cls, path: Path) -> "Recipe":
        """The recipe of a file."""
        found = tomllib.loads(path.read_text(encoding="utf-8"))
        cells = [Cell(row["model"], seed, row["packaged"]) for row in found["cells"] for seed in row["seeds"]]
        return cls(found["data"], found["settings"], tuple(cells))

    def config(self, cell: Cell) -> TrainConfig:
        """Settings of a cell's training."""
        given = {"model": cell.model, "seed": cell.seed, "vocab_size": self.data["vocab_size"]}
        return TrainConfig.from_json(self.settings | given)


# Cells ----------------------------------------------------------------------------------------------------


def train_cell(cell: Cell, recipe: Recipe, texts: Texts, ends: float) -> bool:
    """Train until it is done, or until a time of ``time.monotonic``; whether it is done."""
    run = cell.run
    if run.done.exists():
        return True
    if time.monotonic() >= ends:  # making the corpora took all of it
        return False
    said = [time.monotonic()]

    def report(now: TrainProgress) -> None:
        if time.monotonic() - said[0] > 60:
            said[0] = time.monotonic()
            print(
                f"  {now.fraction:.0%}, step {now.step}, loss {now.loss_nats:.3f}, "
                f"{now.tokens_per_second:,.0f} tokens/s",
                flush=True,
            )

    left = max(0.0, ends - time.monotonic())
    alarm = threading.Timer(left, os.kill, (os.getpid(), signal.SIGINT))  # the loop ends after its step
    if left < threading.TIMEOUT_MAX:
        alarm.start()
    try:
        result = train_model(
            recipe.config(cell), texts.corpus, run, resume=True, command=command_of(cell), report=report
        )
    finally:
        alarm.cancel()
    return result.val is not None


def finish_cell(cell: Cell, texts: Texts) -> ShippedFacts:
    """Round the best weights, measure them, and write the cell's folders, ``model.json`` last."""
    run, corpus = cell.run, texts.corpus
    folder = cell.package if cell.packaged else cell.results
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    weights = unfinished / "model.safetensors" if cell.packaged else cell.weights
    best = run.best if run.best.exists() else run.last_checkpoint()
    shipped.write_rounded(best, weights)
    model = load_checkpoint(weights, corpus.tokenizer)

    def loss_of(stories):
        return loss_per_target(model, stories)

    prompt = write_prompt(ASKED) if model.spec.instruct else SAMPLE_PROMPT
    samples = generate(model, [prompt], samples=SAMPLES, seed=cell.seed)
    rows = [{"prompt": s.prompt, "completion": s.completion, "sample": s.sample} for s in samples]
    header = {"model": cell.model, "seed": cell.seed, "temperature": 1.0}
    write_jsonl(unfinished / "samples.jsonl", SAMPLES_SCHEMA, header, rows)
    for path in (run.config, run.provenance, run.metrics):
        shutil.copyfile(path, unfinished / path.name)
    facts = ShippedFacts(
        name=cell.model,
        seed=cell.seed,
        corpus=corpus.source_sha256,
        tokenizer_sha256=corpus.tokenizer.sha256,
        n_parameters=model.spec.n_params(corpus.tokenizer.vocab_size),
        steps=read_json(run.done)["steps"],
        n_tokens=read_jsonl(run.metrics, METRICS_SCHEMA)[1][-1]["n_tokens"],
        seconds=read_json(run.provenance)["seconds"],
        train=train_loss(loss_of, texts),
        held_out=held_out_losses(loss_of, texts),
    )
    folder.mkdir(exist_ok=True)
    for path in unfinished.iterdir():
        path.replace(folder / path.name)
    unfinished.rmdir()
    facts.write(cell.package)
    if not cell.packaged:
        write_heads(cell)
    return facts


def write_heads(cell: Cell) -> None:
    """Have ``tslens heads`` write what the cell's attention heads look at: others do not have its weights."""
    folder = os.path.relpath(cell.heads)  # provenance quotes the command: no path of this machine in it
    options = {"--model": f"shipped:{cell.label}", "--n-stories": str(HEADS_STORIES), "--out": folder}
    given = sys.argv
    sys.argv = ["tslens", "heads", *chain.from_iterable(options.items())]
    try:
        app(standalone_mode=False)
    finally:
        sys.argv = given


def command_of(cell: Cell) -> str:
    """The command that makes a cell."""
    return f"python training/make_models.py --only {cell.label}"


# The table ------------------------------------------------------------------------------------------------


def write_table(recipe: Recipe) -> None:
    """Write the table of all cells that are done into README.md, between its two marks."""
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(TABLE_BEGINS)
    after = rest.split(TABLE_ENDS)[1]
    with atomic_write(README) as file:
        file.write(f"{before}{TABLE_BEGINS}\n\n{table(recipe)}\n{TABLE_ENDS}{after}")


def table(recipe: Recipe) -> str:
    """Recipe, losses and a sample of each cell, as Markdown."""
    config = recipe.config(recipe.cells[0]).to_json()
    settings = ", ".join(f"{name} {value}" for name, value in config.items() if name not in {"model", "seed"})
    lines = [
        f"Recipe, by the names of `tslens.config.TrainConfig`: {settings}. Losses are those of the rounded weights: "
        "nats a token / bits a byte.",
        "",
        "| model | seed | parameters | tokens | seconds | training | held out | 4-gram | bits better | "
        "author stories, held out | 4-gram | weights |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    samples = []
    for found in shipped_models():
        facts = found.facts
        (val, author), (ngram, ngram_author) = facts.held_out, found.ngram
        cells = [
            facts.name, facts.seed, f"{facts.n_parameters:,}", f"{facts.n_tokens:,}", f"{facts.seconds:,.0f}",
            both(facts.train), both(val), both(ngram), f"{ngram.bits_per_byte - val.bits_per_byte:.3f}",
            both(author), both(ngram_author), "packaged" if found.packaged else "`make models`",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
        folder = found.path if found.packaged else RESULTS / found.name / f"seed{found.seed}"
        sample = read_jsonl(folder / "samples.jsonl", SAMPLES_SCHEMA)[1][0]
        quoted = (sample["prompt"] + sample["completion"]).replace("\n", "\n> ")
        samples += [f"**{found.label}**", "", f"> {quoted}", ""]
    return "\n".join([*lines, "", "## A sample of each", "", *samples])


def both(loss: TextLoss) -> str:
    """A loss in both units."""
    return f"{loss.loss_nats:.3f} / {loss.bits_per_byte:.3f}"


# The command ----------------------------------------------------------------------------------------------


def chosen_cells(cells: tuple[Cell, ...], only: list[str]) -> list[Cell]:
    """The cells that were named, by ``NAME`` or ``NAME@seedS``; all where none was. Raises UsageError for another."""
    known = {name for cell in cells for name in (cell.model, cell.label)}
    unknown = [name for name in only if name not in known]
    if unknown:
        raise UsageError(f"{RECIPE.name} has no cell {unknown[0]}.", "See --list.")
    return [cell for cell in cells if not only or cell.model in only or cell.label in only]


def state(cell: Cell) -> str:
    """In words, how far a cell is."""
    if cell.is_done:
        return "done"
    rows = read_jsonl(cell.run.metrics, METRICS_SCHEMA)[1] if cell.run.config.exists() else []
    return f"{rows[-1]['n_tokens']:,} tokens" if rows else "to do"


def main(arguments: list[str]) -> int:
    """Run the command; 0 if all chosen cells are done, 3 if some are left."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", action="append", default=[], help="cell to make, NAME or NAME@seedS; repeatable"
    )
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="stop after so many, to go on later"
    )
    parser.add_argument("--list", action="store_true", help="say how far each cell is, and end")
    options = parser.parse_args(arguments)
    recipe = Recipe.read(RECIPE)
    ends = time.monotonic() + 60 * options.minutes
    cells = chosen_cells(recipe.cells, options.only)
    if options.list:
        for cell in cells:
            print(f"{cell.label:24} {'packaged' if cell.packaged else 'rebuilt':9} {state(cell)}")
        return 0
    torch.set_num_threads(1)
    corpora = Corpora(recipe.data)
    for cell in cells:
        if cell.is_done:
            continue
        if time.monotonic() >= ends:
            return 3
        print(f"{cell.label}: {state(cell)}", flush=True)
        is_instruct = ModelSpec.from_name(cell.model).instruct
        texts = corpora.instructed if is_instruct else corpora.stories
        share_corpus(texts)
        try:
            is_trained = train_cell(cell, recipe, texts, ends)
        except RunError as error:
            if "in use" not in error.message:
                raise
            print(f"  {cell.label} is in training by another call")
            continue
        if not is_trained:
            print(f"stopped; {cell.label} has {state(cell)}. The same command goes on.")
            return 3
        facts = finish_cell(cell, texts)
        print(f"  done: {both(facts.held_out[0])} on held-out {facts.held_out[0].texts}", flush=True)
        write_table(recipe)
    return 0 if all(cell.is_done for cell in cells) else 3


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except TslensError as error:
        sys.exit(f"error: {error.message}\n       {error.hint}")
    except KeyboardInterrupt:
        print("stopped; the same command goes on")
        sys.exit(3)
