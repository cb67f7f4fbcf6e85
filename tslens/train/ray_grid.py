"""The cells of a grid on a Ray cluster: several at once, also several tiny models on one GPU.

Each cell is a task that trains in its run folder, which all machines must see, as they must the corpus. Only as many
tasks are handed to Ray as there are places; a task says through one small actor how it stands, and what Python warns of
there. A worker that is lost costs its cell the time since its last state: the cell is handed out again and goes on from
there.

Ray itself is met in ``ray_cluster`` and passed around as a module.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tslens.corpus.shards import Corpus
from tslens.run_folder import RunFolder
from tslens.train.cells import (
    Cell,
    CellResult,
    Report,
    is_done,
    reason_of,
    result_before,
    train_cell,
    without_result,
)
from tslens.train.loop import TrainProgress
from tslens.train.ray_cluster import Share, cluster, share_of_cluster

LOST_TRIES = 3  # times that a cell is handed out again after its worker was lost
POLL_SECONDS = 0.3
INTERRUPT_SECONDS = 120.0  # that running cells have to save their state after Ctrl-C


def run_grid_on_ray(
    cells: Sequence[Cell],
    corpus: Corpus,
    *,
    workers: int | None = None,
    gpu_fraction: float | None = None,
    address: str | None = None,
    device: str = "auto",
    command: str = "",
    tensorboard: bool = False,
    report: Report = lambda cell, progress: None,
    finished: Callable[[CellResult], None] = lambda result: None,
) -> list[CellResult]:
    """Train the cells, ``workers`` at a time; a record for each, in their order, as :func:`run_grid` gives.

    ``workers``: by default as many as have a GPU share, or else a CPU, each. ``gpu_fraction``: share of a GPU that a
    cell gets, where there are GPUs; 1 by default. ``address``: of a running cluster (``auto`` finds the one of this
    machine); by default one is started on this machine for the time of the grid.

    A warning in a worker is a warning here, after the name of its cell. Ctrl-C ends the running cells with their state
    saved. Raises UsageError where Ray is not installed, or for a GPU
    that the cluster does not have; RunError where no cluster answers.
    """
    before = {i: _before(cell, corpus) for i, cell in enumerate(cells)}
    results = {i: result for i, result in before.items() if result is not None}
    for result in results.values():
        finished(result)
    waiting = [i for i in range(len(cells)) if i not in results]
    if waiting:
        with cluster(address) as ray:
            share = share_of_cluster(
                ray.cluster_resources(),
                largest_node=max(node["Resources"].get("CPU", 0.0) for node in ray.nodes()),
                workers=workers,
                gpu_fraction=gpu_fraction,
                device=device,
            )
            told = (command, tensorboard)
            running = _Running(ray, cells, corpus, share, told, report, finished)
            results |= running.to_end(waiting)
    return [results.get(i, without_result(cell, "waiting")) for i, cell in enumerate(cells)]


def _before(cell: Cell, corpus: Corpus) -> CellResult | None:
    """The result of a cell that was done before, or that it cannot be read; None where it is to be trained."""
    try:
        return result_before(cell) if is_done(cell, corpus) else None
    except Exception as error:  # a finished run that cannot be read
        return without_result(cell, "failed", reason_of(error))


# The driver -------------------------------------------------------------------------------------------------


class _Running:
    """The cells that are running, and what they say. ``told``: command and whether TensorBoard is wanted."""

    def __init__(
        self,
        ray: Any,
        cells: Sequence[Cell],
        corpus: Corpus,
        share: Share,
        told: tuple[str, bool],
        report: Report,
        finished: Callable[[CellResult], None],
    ) -> None:
        self.ray, self.cells, self.share = ray, cells, share
        self.report, self.finished = report, finished
        self.board = ray.remote(Board).options(num_cpus=0, max_restarts=-1).remote()
        self.rest = (
            str(corpus.folder.resolve()),
            "cuda" if share.gpus else "cpu",
            *told,
            max(1, int(share.cpus)),
        )
        self.task = ray.remote(_train_remotely).options(
            num_cpus=share.cpus, num_gpus=share.gpus, max_retries=0
        )
        self.index_of: dict[Any, int] = {}
        self.lost = dict.fromkeys(range(len(cells)), 0)
        self.results: dict[int, CellResult] = {}

    def to_end(self, waiting: list[int]) -> dict[int, CellResult]:
        """Keep all places taken until every cell has a result, or until Ctrl-C."""
        queue = list(waiting)
        try:
            while queue or self.index_of:
                while queue and len(self.index_of) < self.share.workers:
                    self._submit(queue.pop(0))
                ready, _ = self.ray.wait(list(self.index_of), num_returns=1, timeout=POLL_SECONDS)
                self._tell()
                for ref in ready:
                    index = self.index_of.pop(ref)
                    result = self._result(ref, index)
                    if result is None:
                        queue.insert(0, index)
                    else:
                        self._finish(index, result)
        except KeyboardInterrupt:
            self._interrupt()
        self._tell()  # what the last of them said
        return self.results

    def _submit(self, index: int) -> None:
        cell = self.cells[index]
        run = str(cell.run.path.resolve())
        self.index_of[self.task.remote(index, cell, run, self.board, *self.rest)] = index

    def _tell(self) -> None:
        """Pass on what the workers said since the last time; nothing where the board was lost with its machine."""
        try:
            said = self.ray.get(self.board.take.remote())
        except self.ray.exceptions.RayActorError:
            return  # Ray sets up another one
        for one in said:
            cell = self.cells[one.index]
            if one.warning is not None:
                warnings.warn(f"{cell.name}: {one.warning}", stacklevel=2)
            elif one.index in self.index_of.values():
                self.report(cell, one.progress)

    def _result(self, ref: Any, index: int) -> CellResult | None:
        """The record of a task that ended; None where its worker was lost and it is to be handed out again."""
        cell = self.cells[index]
        errors = self.ray.exceptions
        try:
            result: CellResult = self.ray.get(ref)
            return result
        except (errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError) as error:
            self.lost[index] += 1
            if self.lost[index] <= LOST_TRIES:
                return None
            out = isinstance(error, errors.OutOfMemoryError)
            what = "out of memory: Ray ended its worker" if out else "its worker was lost"
            return without_result(cell, "failed", f"{what} {self.lost[index]} times")
        except errors.TaskCancelledError:
            return without_result(cell, "interrupted")
        except errors.RayError as error:
            return without_result(cell, "failed", reason_of(error))

    def _finish(self, index: int, result: CellResult) -> None:
        self.results[index] = result
        self.finished(result)

    def _interrupt(self) -> None:
        """End the running cells after their current step, with their state saved."""
        if not self.index_of:
            return
        for ref in self.index_of:
            self.ray.cancel(ref)
        refs = list(self.index_of)
        ready, late = self.ray.wait(refs, num_returns=len(refs), timeout=INTERRUPT_SECONDS)
        for ref in (*ready, *late):
            index = self.index_of.pop(ref)
            result = self._result(ref, index) if ref in ready else None
            self._finish(index, result or without_result(self.cells[index], "interrupted"))


@dataclass(frozen=True)
class Said:
    """What a worker says of a cell: a warning, or else how the cell stands (None: it begins, or begins again)."""

    index: int
    progress: TrainProgress | None = None
    warning: str | None = None


class Board:
    """The actor that workers tell how they stand, and that the driver reads."""

    def __init__(self) -> None:
        self.said: list[Said] = []

    def tell(self, said: Said) -> None:
        """Take what a worker says of a cell."""
        self.said.append(said)

    def take(self) -> list[Said]:
        """All that was said since the last time."""
        said, self.said = self.said, []
        return said


# The worker -------------------------------------------------------------------------------------------------


def _train_remotely(
    index: int,
    cell: Cell,
    run: str,
    board: Any,
    corpus: str,
    device: str,
    command: str,
    tensorboard: bool,
    n_threads: int,
) -> CellResult:
    """Train a cell in a worker process. ``run``, ``corpus``: whole paths, for it works in another folder."""
    torch.set_num_threads(n_threads)
    board.tell.remote(Said(index))
    try:
        opened = Corpus(Path(corpus))
    except Exception as error:  # a machine that does not see the corpus
        return without_result(cell, "failed", reason_of(error))
    with _warnings_to(lambda text: board.tell.remote(Said(index, warning=text))):
        result = train_cell(
            Cell(cell.config, RunFolder(run)),
            opened,
            device=device,
            command=command,
            tensorboard=tensorboard,
            report=lambda progress: board.tell.remote(Said(index, progress)),
        )
    return replace(result, run=str(cell.run.path))


@contextmanager
def _warnings_to(tell: Callable[[str], object]) -> Iterator[None]:
    """Warnings of the block are told, each once, not printed where nobody reads; those for developers are dropped."""

    def show(message: Warning | str, category: type[Warning], *_: object) -> None:
        if category is UserWarning:
            tell(str(message))

    with warnings.catch_warnings():
        warnings.showwarning = show  # type: ignore[assignment]
        yield
