"""Files that are whole or absent: atomic writes, JSONL with a schema, hashes, locks, data folder.

A file is written under a temporary name beside its place, flushed to disk, and renamed. A reader therefore
never sees half of one.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from tslens.errors import DataError, RunError, UsageError

UNFINISHED = ".unfinished"  # ending of temporary files


def data_dir() -> Path:
    """Folder of the real data: ``$TSLENS_DATA``, by default ``../shared/data``."""
    return Path(os.environ.get("TSLENS_DATA", "../shared/data"))


@contextmanager
def atomic_write(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file that becomes ``path`` when the block ends without an error.

    Raises RunError where the folder cannot be made or written, with nothing left behind.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=UNFINISHED, dir=path.parent)
    except OSError as error:
        raise _cannot_write(path, error) from error
    temporary = Path(name)
    try:
        encoding = None if "b" in mode else "utf-8"
        newline = None if "b" in mode else "\n"
        with os.fdopen(handle, mode, encoding=encoding, newline=newline) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _cannot_write(path, error) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _cannot_write(path: Path, error: OSError) -> RunError:
    return RunError(
        f"Cannot write {path}: {error.strerror or error}.",
        "Choose a place that you may write to and that has space.",
    )


def write_json(path: Path, value: Any) -> None:
    """Write one JSON value, indented, whole or not at all."""
    with atomic_write(path) as file:
        json.dump(value, file, indent=2, ensure_ascii=False)
        file.write("\n")


def read_json(path: Path) -> Any:
    """Read one JSON value. Raises DataError if the file is absent or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"There is no file {path}.", "Check the path.") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is no JSON file: {error}.", "Restore it from its source.") from error


def write_jsonl(
    path: Path, schema: str, header: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]
) -> None:
    """Write rows after a first header record that names their schema (``tslens.head_score/1``)."""
    with atomic_write(path) as file:
        for row in ({"schema": schema, **header}, *rows):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_jsonl(path: Path, schema: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Header and rows of a file of ours. Raises DataError on another schema or a broken line."""
    try:
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")  # U+2028 ends no row
        rows = [json.loads(line) for line in lines]
    except FileNotFoundError as error:
        raise DataError(f"There is no file {path}.", "Check the path.") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is no JSONL file: {error}.", "Write it again.") from error
    found = rows[0].get("schema") if rows and isinstance(rows[0], dict) else None
    if found != schema:
        raise DataError(f'{path} has schema "{found}", not "{schema}".', "Write it again with this version.")
    return rows[0], rows[1:]


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a folder for this process; ``wait`` for it. The lock dies with its process.

    Raises RunError at once if another process holds it and there is no waiting, or if the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        with lock.acquire(timeout=-1 if wait else 0):
            for stale in folder.rglob(f".*{UNFINISHED}"):  # of a process that was killed
                stale.unlink(missing_ok=True)
            try:
                yield
            finally:
                _remove_if_unused(folder)
    except Timeout as error:
        raise RunError(
            f"{folder} is in use by another process.", "Wait until it ends, or choose another --out."
        ) from error
    except PermissionError as error:
        raise _cannot_write(folder, error) from error


def _remove_if_unused(folder: Path) -> None:
    """Remove a folder that holds nothing but its lock: what was to be written there was not."""
    with suppress(OSError):
        if [path.name for path in folder.iterdir()] in ([], [".lock"]):
            (folder / ".lock").unlink(missing_ok=True)
            folder.rmdir()


def check_writable(folder: Path) -> None:
    """Raise RunError now if no file can be written to a folder later. Folders that are made for the trial go again."""
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        with suppress(_UnwantedError), atomic_write(folder / "probe"):
            raise _UnwantedError
    finally:
        for parent in made:
            with suppress(OSError):
                parent.rmdir()


def refuse_replacing(target: Path, source: str | None) -> None:
    """Raise UsageError if what is to be written is the very file that is read."""
    if source is not None and Path(source).exists() and target.exists() and target.samefile(source):
        raise UsageError(f"{target} would replace the stories that are read.", "Choose another name.")


def check_page(page: Path | None, source: str | None = None) -> None:
    """Raise now if a page cannot be written later: UsageError for a name that is no page's, or the stories' own,
    RunError for a folder that may not be written."""
    if page is None:
        return
    refuse_replacing(page, source)
    if page.suffix.lower() not in {".html", ".htm"} or page.is_dir():
        raise UsageError(f"{page} is no name of a page.", "Give --html a file that ends in .html.")
    check_writable(page.parent)


class _UnwantedError(Exception):
    """Ends a write that was only tried."""


METRICS_SCHEMA = "tslens.metrics/1"


class RunFolder:
    """The layout of one training run, ``runs/l1_h256/seed0`` (``docs/formats.md``)."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.provenance = self.path / "provenance.json"
        self.tokenizer = self.path / "tokenizer.json"
        self.metrics = self.path / "metrics.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.state = self.checkpoints / "latest_state.pt"
        self.state_before = self.checkpoints / "previous_state.pt"
        self.best = self.checkpoints / "best.safetensors"
        self.train_digests = self.path / "train_digests.npy"
        self.yardstick = self.path / "ngram4.json"
        self.samples = self.path / "samples"
        self.done = self.path / "DONE"

    def checkpoint(self, step: int) -> Path:
        """File of the weights after ``step`` steps."""
        return self.checkpoints / f"step_{step:06d}.safetensors"

    def last_checkpoint(self) -> Path | None:
        """The newest weights, None if there are none."""
        steps = {
            int(p.stem.removeprefix("step_")): p for p in self.checkpoints.glob("step_*[0-9].safetensors")
        }
        return steps[max(steps)] if steps else None

    def label(self) -> str:
        """Model and seed, as in ``l1_h256@seed0``."""
        config = read_json(self.config)
        return f"{config['model']}@seed{config['seed']}"

    def results(self, kind: str) -> Path:
        """Folder of results of one kind: heads, neurons, grades, link."""
        return self.path / "results" / kind

    def validation_bits(self) -> float | None:
        """Bits per byte of the newest evaluation, None before the first."""
        rows = read_jsonl(self.metrics, METRICS_SCHEMA)[1] if self.metrics.exists() else []
        return next((row["bits_per_byte"] for row in reversed(rows) if row["split"] == "validation"), None)

    def is_better_than_ngram(self, step: int) -> bool:
        """Whether the last evaluation up to a step has fewer bits per byte than the 4-gram on the same stories.

        Not where none was made by then, or no 4-gram was counted.
        """
        yardstick = self.ngram_bits()
        rows = read_jsonl(self.metrics, METRICS_SCHEMA)[1] if self.metrics.exists() else []
        bits = [row["bits_per_byte"] for row in rows if row["split"] == "validation" and row["step"] <= step]
        return yardstick is not None and bool(bits) and bits[-1] < yardstick

    def tokens_at(self, step: int) -> int:
        """Tokens trained on after a step: between rows of the metrics along a line."""
        rows = read_jsonl(self.metrics, METRICS_SCHEMA)[1]
        told = [(0, 0), *((int(row["step"]), int(row["n_tokens"])) for row in rows)]
        before = max((place for place in told if place[0] <= step), default=(0, 0))
        after = min((place for place in told if place[0] >= step), default=before)
        if after[0] == before[0]:
            return before[1]
        return round(before[1] + (after[1] - before[1]) * (step - before[0]) / (after[0] - before[0]))

    def ngram_bits(self) -> float | None:
        """Bits per byte of the 4-gram on the same stories, None where it was not counted."""
        if not self.yardstick.exists():
            return None
        found = read_json(self.yardstick)
        return float(found["nats"] / math.log(2) / found["n_bytes"])
