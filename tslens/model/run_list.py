"""The training runs in a folder: found by what they leave, with how they stand, newest first.

Nothing here needs torch or numpy, so that a shell can complete their names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from tslens.errors import UsageError
from tslens.reading import BROKEN, LINE_BYTES, open_regular, parse_row, read_text
from tslens.run_folder import METRICS_SCHEMA, RunFolder

RUNS = Path("runs")
State = Literal["done", "interrupted", "running", "failed"]


@dataclass(frozen=True)
class FoundRun:
    """A run on disk.

    ``name``: what ``--model`` takes and tables show, as ``l1_h256@seed0``; of a run that stands deeper, or in a folder
    with another name, its path below the folder of runs. ``model``: its shape, None before its settings were written.
    ``state``: ``running`` while a process holds its lock, ``done`` with ``DONE``, ``interrupted`` where it can be
    resumed, else ``failed``. ``changed``: when it was finished, or last written, in seconds since 1970.
    """

    run: RunFolder
    name: str
    model: str | None
    state: State
    changed: float


def find_runs(folder: Path = RUNS) -> list[FoundRun]:
    """All runs in a folder, however deep, newest first; or the run itself, if it is one."""
    found = [_found(path, folder) for path in _run_folders(folder)]
    return sorted(found, key=lambda one: (-one.changed, one.name))


def newest_run(folder: Path = RUNS) -> RunFolder:
    """The run that was finished last. Raises UsageError where none is finished."""
    for one in find_runs(folder):
        if one.state == "done" and one.run.last_checkpoint() is not None:
            return one.run
    raise UsageError(
        f"There is no finished run in {folder}/, and no model was named.",
        "Make one with tslens demo or tslens train, or name a model that comes with tslens: --model l1_h64. "
        "All of those: tslens models",
    )


def run_names(folder: Path = RUNS) -> list[str]:
    """``MODEL@seedS`` of the runs that ``--model`` finds by name. A quick look, at names only."""
    seeds = sorted(path.parent for path in folder.glob("*/seed*/config.json"))
    return [f"{path.parent.name}@{path.name}" for path in seeds]


def is_held(folder: Path) -> bool:
    """Whether another process holds the folder, as a training run does. The lock is tried, and let go at once."""
    lock = folder / ".lock"
    if not lock.exists():
        return False
    try:
        with FileLock(lock).acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # a folder that may not be written: nobody here can train in it
        return False


def last_rows(run: RunFolder) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The last row of its metrics, and the last one of the validation stories; a torn line is passed over."""
    last = validation = None
    for row in _metrics(run.metrics):
        if "step" in row:
            last = row
            validation = row if row.get("split") == "validation" else validation
    return last, validation


def _run_folders(folder: Path) -> Iterator[Path]:
    """Folders that hold metrics of ours; none inside another, none hidden. A link is followed once."""
    seen = set()
    for place, below, files in os.walk(folder, followlinks=True):
        path, real = Path(place), os.path.realpath(place)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        if (
            "metrics.jsonl" in files
            and next(_metrics(path / "metrics.jsonl"), {}).get("schema") == METRICS_SCHEMA
        ):
            below.clear()
            yield path
        below[:] = sorted(name for name in below if not name.startswith("."))


def _metrics(path: Path) -> Iterator[dict[str, Any]]:
    with suppress(OSError), open_regular(path) as file:
        while line := file.readline(LINE_BYTES):
            if len(line) == LINE_BYTES:  # no row of ours is so long
                return
            with suppress(ValueError):
                yield parse_row(line)


def _found(path: Path, folder: Path) -> FoundRun:
    run = RunFolder(path)
    model, below = None, path.relative_to(folder)
    with suppress(OSError, *BROKEN):
        model = str(parse_row(read_text(run.config, at_most=LINE_BYTES))["model"])
    is_named = len(below.parts) == 2 and below.name.startswith("seed")
    name = "@".join(below.parts) if is_named else str(below) if below.parts else str(path)
    return FoundRun(run, name, model, _state(run), _changed(run))


def _state(run: RunFolder) -> State:
    if is_held(run.path):
        return "running"
    if run.done.exists():
        return "done"
    can_resume = run.config.exists() and (run.state.exists() or run.state_before.exists())
    return "interrupted" if can_resume else "failed"


def _changed(run: RunFolder) -> float:
    files = [run.done] if run.done.exists() else [run.metrics, run.config, run.state]
    return max((path.stat().st_mtime for path in files if path.exists()), default=0.0)
