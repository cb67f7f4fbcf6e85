"""What a folder of runs holds, with sizes: runs, imported stories, indexes, ledgers, results, rests of removals."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tslens.errors import TslensError, UsageError
from tslens.files import read_json
from tslens.model.run_list import RUNS, FoundRun, find_runs, last_rows
from tslens.model.shipped import shipped_models
from tslens.model.spec import ModelSpec
from tslens.reading import is_number
from tslens.run_folder import RunFolder

REMOVING = ".removing"
"""Ending of the hidden folder that a removal first renames to."""


@dataclass(frozen=True)
class RunFacts:
    """A run as it is listed.

    ``shape``: layers x width, as in ``4x128``, "" where the settings are not known. ``n_tokens``: trained on so far.
    ``val_loss_nats``, ``val_bits_per_byte``: of the last evaluation, None before the first. ``n_bytes``: of its folder;
    ``spare_bytes``: of the step checkpoints but the last, if it is done. ``results``: kinds that have a file.
    """

    found: FoundRun
    shape: str
    n_tokens: int | None
    val_loss_nats: float | None
    val_bits_per_byte: float | None
    n_bytes: int
    spare_bytes: int
    results: tuple[str, ...]


@dataclass(frozen=True)
class Thing:
    """Something else in the folder.

    ``names``: of a corpus the runs and shipped models that were trained on it, of results their kinds.
    """

    name: str
    path: Path
    n_bytes: int
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stock:
    """All that a folder holds. ``results``: of models that have no run here. ``left_over``: of removals."""

    folder: Path
    runs: tuple[RunFacts, ...]
    corpora: tuple[Thing, ...]
    indexes: tuple[Thing, ...]
    ledgers: tuple[Thing, ...]
    results: tuple[Thing, ...]
    left_over: tuple[Thing, ...]


def take_stock(folder: Path, *, several: bool = False) -> Stock:
    """Look through a folder. ``several``: runs to remove were named, so a name may have been taken for the folder.

    Raises UsageError if it is none; but where ``runs/`` was not made yet, it is empty.
    """
    if not folder.is_dir() and folder != RUNS:
        again = f" To remove several runs: --remove NAME --remove {folder}" if several else ""
        raise UsageError(f"{folder} is no folder.", f"Name a folder of runs, as runs.{again}")
    runs = tuple(_facts(one) for one in find_runs(folder))
    return Stock(
        folder,
        runs,
        _corpora(folder / ".corpora", runs),
        _things(folder / ".indexes"),
        _things(folder / ".ledger"),
        _results(folder, runs),
        tuple(Thing(str(path.relative_to(folder)), path, bytes_of(path)) for path in _left_over(folder)),
    )


def bytes_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; links are not followed."""
    with suppress(OSError):
        own = path.lstat()
        if not stat.S_ISDIR(own.st_mode):
            return own.st_size
    return sum(_size_of(Path(place) / name) for place, _, files in os.walk(path) for name in files)


def spare_checkpoints(run: RunFolder, keep: int) -> list[Path]:
    """The step checkpoints but the last ``keep``, in the order of steps."""
    return run.step_checkpoints()[:-keep]


def _size_of(path: Path) -> int:
    with suppress(OSError):
        return path.lstat().st_size
    return 0


def _facts(found: FoundRun) -> RunFacts:
    run = found.run
    last, validation = last_rows(run)
    shape = ""
    with suppress(TslensError):
        spec = ModelSpec.from_name(found.model or "")
        shape = f"{spec.n_layers}x{spec.d_model}"
    spare = spare_checkpoints(run, 1) if found.state == "done" else []
    return RunFacts(
        found,
        shape,
        *(_figure(last, "n_tokens"), _figure(validation, "loss_nats"), _figure(validation, "bits_per_byte")),
        bytes_of(run.path),
        sum(map(_size_of, spare)),
        _kinds(run.path / "results"),
    )


def _figure(row: dict[str, Any] | None, name: str) -> Any:
    value = (row or {}).get(name)
    return value if is_number(value) else None


def _kinds(results: Path) -> tuple[str, ...]:
    """Kinds of results, the names of the folders that hold a file."""
    if not results.is_dir():
        return ()
    return tuple(sorted(kind.name for kind in results.iterdir() if any(p.is_file() for p in kind.rglob("*"))))


def _corpora(folder: Path, runs: Sequence[RunFacts]) -> tuple[Thing, ...]:
    users: dict[tuple[str, str], list[str]] = {}
    for model in shipped_models():
        key = (model.facts.corpus, model.facts.tokenizer_sha256)
        users.setdefault(key, []).append(f"shipped:{model.label}")
    for one in runs:
        with suppress(TslensError, KeyError, TypeError):
            settings = read_json(one.found.run.config)
            users.setdefault(_corpus_key(settings, "corpus_sha256"), []).append(one.found.name)
    found = []
    for thing in _things(folder):
        names: tuple[str, ...] = ()
        with suppress(TslensError, KeyError, TypeError):
            names = tuple(users.get(_corpus_key(read_json(thing.path / "corpus.json"), "source_sha256"), ()))
        found.append(Thing(thing.name, thing.path, thing.n_bytes, names))
    return tuple(found)


def _corpus_key(facts: dict[str, Any], source: str) -> tuple[str, str]:
    return str(facts[source]), str(facts["tokenizer_sha256"])


def _things(folder: Path) -> tuple[Thing, ...]:
    """What stands in a folder, hidden files left out, the largest first."""
    if not folder.is_dir():
        return ()
    found = [Thing(path.name, path, bytes_of(path)) for path in folder.iterdir() if path.name[0] != "."]
    return tuple(sorted(found, key=lambda one: (-one.n_bytes, one.name)))


def _results(folder: Path, runs: Sequence[RunFacts]) -> tuple[Thing, ...]:
    """Homes of results that are in no run: of shipped models and of models of others."""
    taken = {one.found.run.path for one in runs}
    homes = sorted(
        {path.parent for depth in ("*", "*/*") for path in folder.glob(f"{depth}/results")} - taken
    )
    return tuple(
        Thing(str(path.relative_to(folder)), path, bytes_of(path), _kinds(path / "results"))
        for path in homes
        if not path.relative_to(folder).parts[0].startswith(".")
    )


def _left_over(folder: Path) -> Iterator[Path]:
    for place, below, _ in os.walk(folder):
        for name in [name for name in below if name.startswith(".")]:
            if name.endswith(REMOVING):
                yield Path(place) / name
            if name != ".corpora":
                below.remove(name)
        if "checkpoints" in below:
            below.clear()
