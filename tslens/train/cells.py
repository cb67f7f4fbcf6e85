"""One cell of a grid: its settings and run folder, how it is trained, and the record of what became of it.

A finished cell keeps its result, an unfinished one goes on where it stopped; an error becomes a reason in one line.
"""

from __future__ import annotations

import errno
import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch

from tslens.config import TrainConfig
from tslens.corpus.shards import Corpus
from tslens.errors import DataError, RunError, TslensError
from tslens.files import read_object
from tslens.reading import is_number
from tslens.run_folder import RunFolder
from tslens.train.loop import TrainProgress, TrainResult, train_model
from tslens.train.record import has_settings

State = Literal["done", "skipped", "failed", "interrupted", "waiting"]


@dataclass(frozen=True)
class Cell:
    """One model to train: its settings and its run folder."""

    config: TrainConfig
    run: RunFolder

    @property
    def name(self) -> str:
        """Model and seed, as in ``l1_h64@seed0``."""
        return f"{self.config.model}@seed{self.config.seed}"


@dataclass(frozen=True)
class CellResult:
    """What became of a cell.

    ``state``: ``done`` now, ``skipped`` because it was done before, ``failed``, ``interrupted`` with its state saved,
    or ``waiting`` where the grid was interrupted before. ``steps``, ``tokens``, ``seconds``: trained in all, as far as
    is known. ``val_loss_nats``, ``val_bits_per_byte``: on the validation stories, None unless done. ``reason``: why
    it failed, beginning with ``diverged``, ``out of memory`` or ``disk full`` where it was that.
    """

    model: str
    seed: int
    run: str
    state: State
    steps: int | None = None
    tokens: int | None = None
    seconds: float | None = None
    val_loss_nats: float | None = None
    val_bits_per_byte: float | None = None
    reason: str | None = None


Report = Callable[[Cell, TrainProgress | None], None]
"""Told how a cell stands: None when it begins, or begins again."""


def train_cell(
    cell: Cell,
    corpus: Corpus,
    *,
    device: str,
    command: str,
    tensorboard: bool,
    report: Callable[[TrainProgress], None],
) -> CellResult:
    """Train one cell, from its own state if it has one. An error becomes a record; Ctrl-C is ``interrupted``."""
    try:
        trained = train_model(
            cell.config,
            corpus,
            cell.run,
            resume=True,
            device=device,
            command=command,
            tensorboard=tensorboard,
            report=report,
        )
        return result_of(cell, trained)
    except KeyboardInterrupt:
        return without_result(cell, "interrupted")
    except Exception as error:  # whatever it is, the other cells are trained
        return without_result(cell, "failed", reason_of(error))
    finally:
        free_memory()


def free_memory() -> None:
    """Give back what a cell held, so that the next one has it: a failed one leaves cycles behind."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


# What became of a cell --------------------------------------------------------------------------------------


def is_done(cell: Cell, corpus: Corpus) -> bool:
    """Whether a cell was trained to its end with the same settings on the same stories."""
    return cell.run.done.exists() and has_settings(cell.run, cell.config, corpus)


def result_before(cell: Cell) -> CellResult:
    """The result of a cell that was done before, read from its run folder."""
    rows = [row for row in cell.run.metric_rows() if row["split"] == "validation"]
    if not rows:
        raise DataError(
            f"{cell.run.metrics} holds no validation loss.", "Train the cell anew, into another --out."
        )
    last = rows[-1]
    return _result(
        cell,
        "skipped",
        steps=last["step"],
        tokens=last["n_tokens"],
        seconds=_seconds(cell.run),
        val_loss_nats=last["loss_nats"],
        val_bits_per_byte=last["bits_per_byte"],
    )


def _seconds(run: RunFolder) -> float | None:
    """What a run took, None where its record does not say."""
    found = read_object(run.provenance).get("seconds")
    return round(float(found), 1) if is_number(found) else None


def result_of(cell: Cell, trained: TrainResult) -> CellResult:
    """The result of a cell from what its training gave."""
    val = trained.val
    return _result(
        cell,
        "done" if val else "interrupted",
        steps=trained.steps,
        tokens=trained.n_tokens,
        seconds=round(trained.seconds, 1),
        val_loss_nats=val.loss_nats if val else None,
        val_bits_per_byte=val.bits_per_byte if val else None,
    )


def without_result(cell: Cell, state: State, reason: str | None = None) -> CellResult:
    """The record of a cell that has no result: it failed, was interrupted, or waits."""
    return _result(cell, state, reason=reason)


def _result(cell: Cell, state: State, **facts: Any) -> CellResult:
    return CellResult(cell.config.model, cell.config.seed, str(cell.run.path), state, **facts)


def reason_of(error: BaseException) -> str:
    """Why a cell failed, in one line: diverged, out of memory, disk full, or what the error says and advises."""
    causes = [error, *_causes(error)]
    text = " ".join((error.message if isinstance(error, TslensError) else str(error)).split())
    if isinstance(error, RunError) and "diverged" in error.message:
        return f"diverged: {text}"
    if any(isinstance(cause, MemoryError | torch.OutOfMemoryError) or _no_memory(cause) for cause in causes):
        return f"out of memory: {text[:200] or 'the memory is not enough'}"
    if any(isinstance(cause, OSError) and cause.errno in {errno.ENOSPC, errno.EDQUOT} for cause in causes):
        return f"disk full: {text}"
    if isinstance(error, TslensError):
        return " ".join(f"{text} {error.hint}".split())
    return f"{type(error).__name__}: {text[:200]}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    while error.__cause__ is not None:
        error = error.__cause__
        yield error


def _no_memory(error: BaseException) -> bool:
    """Whether torch could not have memory of a CPU, for which it has no class of its own."""
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
