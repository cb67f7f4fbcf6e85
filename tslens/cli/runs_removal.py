"""What ``tslens runs`` removes: runs and results that were named, checkpoints but the last, corpora of no run.

1. All is planned before anything goes; one name that cannot go stops the whole.
2. A folder is held by its lock, renamed to a hidden name beside it, and only then deleted, its settings and marks
   first. A kill in the middle leaves a whole run or a hidden rest, which the next removal ends.
3. No link is followed: what stands behind one, or outside the folder of runs, is refused.
"""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from tslens.cli.runs_stock import REMOVING, RunFacts, Stock, Thing, spare_checkpoints
from tslens.errors import RunError, UsageError
from tslens.files import link_on_the_way
from tslens.model.run_list import is_held

_FIRST_TO_GO = (
    "metrics.jsonl",
    "config.json",
    "DONE",
    "corpus.json",
)  # without them nothing takes a rest for whole


@dataclass(frozen=True)
class Goner:
    """What is to go. ``what``: in words. ``path``: its folder. ``files``: in it, None for the whole of it."""

    what: str
    path: Path
    n_bytes: int
    files: tuple[Path, ...] | None = None


def plan_removal(
    stock: Stock, *, names: Sequence[str], keep_checkpoints: int | None, unused_corpora: bool
) -> list[Goner]:
    """What would go. ``keep_checkpoints``: how many of each finished run stay; None: all of them.

    Raises UsageError for a name that is neither a run nor results here, or stands outside or behind a link, RunError
    for a run that is held.
    """
    named = [_named(stock, name) for name in names]
    going = [one for one in stock.runs if one in named]
    goners = []
    for results in (one for one in stock.results if one in named):
        _check_path(results.path, stock.folder)
        what = f"results of {results.name} ({', '.join(results.names)})"
        goners.append(Goner(what, results.path, results.n_bytes))
    for one in going:
        _check_free(one, stock.folder)
        kept = f", with its results ({', '.join(one.results)})" if one.results else ""
        goners.append(Goner(f"run {one.found.name}{kept}", one.found.run.path, one.n_bytes))
    staying = [one for one in stock.runs if one not in going]
    if keep_checkpoints is not None:
        goners += [
            _checkpoints(one, files)
            for one in staying
            if one.found.state == "done"
            and not one.found.run.checkpoints.is_symlink()
            and not link_on_the_way(one.found.run.path, stock.folder)
            and (files := spare_checkpoints(one.found.run, keep_checkpoints))
        ]
    if unused_corpora:
        users = {one.found.name for one in going}
        goners += [
            Goner(f"corpus {one.name}", one.path, one.n_bytes)
            for one in stock.corpora
            if not set(one.names) - users
            and one.path.is_dir()
            and not link_on_the_way(one.path, stock.folder)
            and not is_held(one.path)
        ]
    return goners


def remove_all(stock: Stock, goners: Sequence[Goner]) -> None:
    """Remove what was planned, and what is left of removals that were stopped. Raises RunError if one is held now."""
    for rest in stock.left_over:
        _delete(rest.path)
    for one in goners:
        with _held(one.path):
            if one.files is not None:
                for file in one.files:
                    file.unlink(missing_ok=True)
                continue
            hidden = one.path.with_name(f".{one.path.name}{REMOVING}")
            if hidden.exists():
                _delete(hidden)
            one.path.rename(hidden)
        _delete(hidden)
        if one.path.parent != stock.folder:
            with suppress(OSError):  # the folder of a model stays while it holds another seed
                one.path.parent.rmdir()


def _checkpoints(one: RunFacts, files: Sequence[Path]) -> Goner:
    what = f"{len(files)} step checkpoint{'' if len(files) == 1 else 's'} of {one.found.name}"
    sizes = sum(path.lstat().st_size for path in files)
    return Goner(what, one.found.run.path, sizes, tuple(files))


def _named(stock: Stock, name: str) -> RunFacts | Thing:
    """The run, or the results of a model without a run, of exactly that name or at that path."""
    place = Path(name).absolute()  # links are not resolved: what stands behind one is refused later
    for one in stock.runs:
        if one.found.name == name or one.found.run.path.absolute() == place:
            return one
    for results in stock.results:
        if results.name == name or results.path.absolute() == place:
            return results
    if place.exists() and not place.is_relative_to(stock.folder.absolute()):
        raise UsageError(
            f"{name} is outside {stock.folder}/.",
            f"Name its folder first: tslens runs {place.parent} --remove ...",
        )
    known = [one.found.name for one in stock.runs] + [one.name for one in stock.results]
    seeds = [other for other in known if other.startswith(f"{name}@")]
    near = seeds or difflib.get_close_matches(name, known, n=3)
    hint = f"Did you mean {' or '.join(near)}?" if near else "All names: tslens runs"
    raise UsageError(f'There is no run "{name}" in {stock.folder}/; nothing was removed.', hint)


def _check_free(one: RunFacts, folder: Path) -> None:
    _check_path(one.found.run.path, folder)
    if one.found.state == "running":
        raise RunError(
            f"{one.found.name} is held by a process; nothing was removed.", "Stop it first, or wait."
        )


def _check_path(path: Path, folder: Path) -> None:
    if path == folder:
        raise UsageError(f"{path} is the folder itself.", f"Say tslens runs {path.parent} --remove ...")
    if link := link_on_the_way(path, folder):
        raise UsageError(
            f"{link} is a symbolic link; nothing was removed.",
            "Remove it where it stands, then the link.",
        )


@contextmanager
def _held(path: Path) -> Iterator[None]:
    try:
        with FileLock(path / ".lock").acquire(timeout=0):
            yield
    except Timeout as error:
        raise RunError(
            f"{path} is in use by another process.", "What stood before it was removed."
        ) from error


def _delete(hidden: Path) -> None:
    """Remove a folder; of a link to one, the link alone."""
    if hidden.is_symlink():
        hidden.unlink()
        return
    for name in _FIRST_TO_GO:
        (hidden / name).unlink(missing_ok=True)
    shutil.rmtree(hidden)
