"""``tslens train --grid``: many cells, a row of progress each, a report of all at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tslens.cli.console import (
    LINE_SECONDS,
    counted,
    duration,
    moving_console,
    say,
    show,
    show_json,
    show_table,
)
from tslens.cli.train_speed import Speedometer

if TYPE_CHECKING:
    from rich.table import Table

    from tslens.corpus.shards import Corpus
    from tslens.train.cells import Cell, CellResult
    from tslens.train.loop import TrainProgress

GRID_SCHEMA = "tslens.grid/1"
ROWS_ELSE = 8  # rows of the table that are kept free: header, counts, prompt


@dataclass(frozen=True)
class RayOptions:
    """Where a grid runs when it does not run in this process."""

    workers: int | None
    gpu_fraction: float | None
    address: str | None


def run_cells(
    cells: Sequence[Cell],
    corpus: Corpus,
    *,
    ray: RayOptions | None,
    device: str,
    command: str,
    tensorboard: bool,
    as_json: bool,
) -> None:
    """Train the cells and report; exit code 3 if any of them failed or was interrupted."""
    say(f"grid: {counted(len(cells), 'cell')}, {cells[0].config.amount:g} {cells[0].config.budget} each")
    with progress_rows(cells, corpus, device if ray is None else None) as rows:
        told: dict[str, Any] = {"report": rows.report, "finished": rows.finished}
        told |= {"device": device, "command": command, "tensorboard": tensorboard}
        if ray is None:
            from tslens.train.grid import run_grid

            results = run_grid(cells, corpus, **told)
        else:
            from tslens.train.ray_grid import run_grid_on_ray

            results = run_grid_on_ray(cells, corpus, **asdict(ray), **told)
    show_results(cells, results, corpus, as_json, told=isinstance(rows, Lines))


# While it runs ----------------------------------------------------------------------------------------------


class Rows:
    """How every cell stands, as a table that fits the terminal."""

    def __init__(self, cells: Sequence[Cell], speed: Speedometer) -> None:
        self.cells, self.speed = cells, speed
        self.now: dict[str, TrainProgress | None] = {}
        self.begun: dict[str, tuple[float, float]] = {}  # clock and share of the budget at the first report
        self.ended: dict[str, CellResult] = {}

    def report(self, cell: Cell, progress: TrainProgress | None) -> None:
        """Take how a running cell stands."""
        self.now[cell.name] = progress
        if progress is None:
            self.begun.pop(cell.name, None)
        else:
            self.begun.setdefault(cell.name, (time.monotonic(), progress.fraction))

    def finished(self, result: CellResult) -> None:
        """Take what became of a cell."""
        name = f"{result.model}@seed{result.seed}"
        self.now.pop(name, None)
        self.ended[name] = result

    def table(self, n_rows: int) -> Table:
        """Running cells, then the last that ended, then the next that wait, ``n_rows`` at most; counts below."""
        from rich.table import Table

        results = dict(self.ended)  # drawn by a thread of its own, while cells end
        running = [cell for cell in self.cells if cell.name in self.now]
        waiting = [cell for cell in self.cells if cell.name not in self.now and cell.name not in results]
        cell_of = {cell.name: cell for cell in self.cells}
        ended = [cell_of[name] for name in results]
        n_ended = min(len(ended), max(0, n_rows - len(running) - min(3, len(waiting))))
        shown = {cell.name for cell in ended[len(ended) - n_ended :] + running}
        shown |= {cell.name for cell in waiting[: max(0, n_rows - len(shown))]}
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
        for column in ("cell", "seed", "", "loss", "tokens/s", "MFU", "left"):
            table.add_column(column, justify="left" if column in {"cell", ""} else "right", no_wrap=True)
        for cell in self.cells:
            if cell.name in shown:
                table.add_row(*self._row(cell), style=self._style(cell))
        states = [result.state for result in results.values()]
        counts = {"running": len(running), "waiting": len(waiting)}
        counts |= {state: states.count(state) for state in ("done", "skipped", "failed", "interrupted")}
        table.caption = ", ".join(f"{n} {state}" for state, n in counts.items() if n)
        return table

    def _style(self, cell: Cell) -> str:
        result = self.ended.get(cell.name)
        if result is not None:
            return {"done": "green", "skipped": "dim", "failed": "red"}.get(result.state, "")
        return "" if cell.name in self.now else "dim"

    def _row(self, cell: Cell) -> list[Any]:
        from rich.progress_bar import ProgressBar

        name, seed = cell.config.model, str(cell.config.seed)
        result, now = self.ended.get(cell.name), self.now.get(cell.name)
        if result is not None:
            loss = "" if result.val_loss_nats is None else f"{result.val_loss_nats:.3f}"
            word = (result.reason or result.state).split(":")[0][:24]
            return [name, seed, word, loss, "", "", ""]
        if now is None:
            return [name, seed, "begins" if cell.name in self.now else "waits", "", "", "", ""]
        bar = ProgressBar(total=1.0, completed=now.fraction, width=24)
        speed = f"{now.tokens_per_second:,.0f}"
        return [name, seed, bar, f"{now.loss_nats:.3f}", speed, self._mfu(cell, now), self._left(cell, now)]

    def _mfu(self, cell: Cell, now: TrainProgress) -> str:
        share = self.speed.mfu(cell.config.model, now.tokens_per_second)
        return "" if share is None else f"{share:.0%}"

    def _left(self, cell: Cell, now: TrainProgress) -> str:
        clock, fraction = self.begun.get(cell.name, (0.0, 1.0))
        gained = now.fraction - fraction
        return duration((time.monotonic() - clock) / gained * (1 - now.fraction)) if gained > 0 else ""


class Lines(Rows):
    """The same where there is no terminal: a line for each cell that ended, and each minute for one that runs."""

    def __init__(self, cells: Sequence[Cell], speed: Speedometer) -> None:
        super().__init__(cells, speed)
        self.said: dict[str, float] = {}

    def report(self, cell: Cell, progress: TrainProgress | None) -> None:
        """Say once a minute how a running cell stands."""
        super().report(cell, progress)
        now = time.monotonic()
        if progress is None or now - self.said.setdefault(cell.name, now) < LINE_SECONDS:
            return
        self.said[cell.name] = now
        share, left = self._mfu(cell, progress), self._left(cell, progress)
        said = [f"loss {progress.loss_nats:.3f}", f"{progress.tokens_per_second:,.0f} tokens/s"]
        said += [f"MFU {share}"] * bool(share) + [f"{left} left"] * bool(left)
        say(f"{cell.name} {progress.fraction:.0%}: {', '.join(said)}")

    def finished(self, result: CellResult) -> None:
        """Say what became of a cell."""
        super().finished(result)
        loss = "" if result.val_loss_nats is None else f", {result.val_loss_nats:.3f} nats"
        spent = "" if result.seconds is None else f", {duration(result.seconds)}"
        reason = f": {result.reason}" if result.reason else ""
        count = f"{len(self.ended)} of {len(self.cells)}"
        say(f"{count}: {result.model}@seed{result.seed} {result.state}{reason}{loss}{spent}")


@contextmanager
def progress_rows(cells: Sequence[Cell], corpus: Corpus, device: str | None) -> Iterator[Rows]:
    """The rows on standard error, drawn anew twice a second; lines where that is no terminal."""
    from rich.live import Live

    console = moving_console()
    speed = Speedometer(corpus, device, cells[0].config.precision)
    if console is None:
        yield Lines(cells, speed)
        return
    rows = Rows(cells, speed)
    with Live(
        console=console,
        refresh_per_second=2,
        get_renderable=lambda: rows.table(max(4, console.height - ROWS_ELSE)),
        transient=True,
    ):
        yield rows


# At the end -------------------------------------------------------------------------------------------------


def show_results(
    cells: Sequence[Cell], results: Sequence[CellResult], corpus: Corpus, as_json: bool, *, told: bool
) -> None:
    """A row a cell, the 4-gram beside them, the failed ones with their reason, unless that was told."""
    from tslens.train.yardstick import ngram_yardstick

    ended = [cell for cell, result in zip(cells, results, strict=True) if result.state in {"done", "skipped"}]
    if any(result.state in {"interrupted", "waiting"} for result in results):
        ended = []  # who has stopped a grid does not wait for 4-grams
    if any(not cell.run.yardstick.exists() for cell in ended):
        say("counting 4-grams, the yardstick ...")
    ngrams = [ngram_yardstick(corpus, cell.run) for cell in ended]
    if as_json:
        show_json({"schema": GRID_SCHEMA, "cells": [asdict(result) for result in results]})
    else:
        show_table(
            ["<model>", "seed", "<state>", "steps", "tokens", "time", "nats per token", "bits per byte"],
            [_result_row(result) for result in results],
        )
        if ngrams:
            show(
                f"4-gram (Kneser-Ney), same stories: {ngrams[0].loss_nats:.3f} nats per token, "
                f"{ngrams[0].bits_per_byte:.3f} bits per byte"
            )
    failed = [result for result in results if result.state == "failed"]
    for result in failed if not told else []:
        say(f"failed: {result.model}@seed{result.seed}: {result.reason}")
    if failed and told:
        say(f"{counted(len(failed), 'cell')} failed; why is said above.")
    rest = [result for result in results if result.state in {"interrupted", "waiting"}]
    if rest:
        say(f"Stopped with {counted(len(rest), 'cell')} to train. Go on with the same command.")
    if len(ended) < len(cells):
        raise typer.Exit(3)
    if not as_json:
        show(f"Next: tslens heads --model {Path(results[-1].run)} --html heads.html")


def _result_row(result: CellResult) -> list[str]:
    def number(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    return [
        result.model,
        str(result.seed),
        result.state,
        number(result.steps, ","),
        number(result.tokens, ","),
        "" if result.seconds is None else duration(result.seconds),
        number(result.val_loss_nats, ".3f"),
        number(result.val_bits_per_byte, ".3f"),
    ]
