"""One file that only grows: each line by one write, a lock while it is open, a line that a kill cut off removed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tslens.errors import DataError, RunError


class AppendFile:
    """A JSONL file that this process alone appends to. It is made with its first line.

    ``size``: bytes of whole lines. Raises RunError if another process has it or it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._descriptor = -1
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(path.with_name(f".{path.stem}.lock"))
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise RunError(
                f"{path} is in use by another process.", "Wait until it ends, or name another job."
            ) from error
        except OSError as error:
            raise self._cannot_write(error.strerror or str(error)) from error

    def mend(self, size: int) -> None:
        """Keep the whole lines, ``size`` bytes: what follows them was cut off in the middle."""
        self.size = size
        if self.path.stat().st_size > size:
            try:
                os.truncate(self.path, size)
            except OSError as error:
                raise self._cannot_write(error.strerror or str(error)) from error

    def append(self, row: dict[str, Any]) -> int:
        """Append one line by one write; the offset of it."""
        line = json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        offset = self.size
        try:
            if self._descriptor < 0:
                self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            n_written = os.write(self._descriptor, line)
            if n_written < len(line):
                os.ftruncate(self._descriptor, offset)  # no half line before those of other calls
                raise OSError("the disk is full")
        except OSError as error:
            if not offset:  # no file without a line
                self.path.unlink(missing_ok=True)
                self._close()
            raise self._cannot_write(error.strerror or str(error)) from error
        self.size += n_written
        return offset

    def sync(self) -> None:
        """Flush to disk."""
        if self._descriptor >= 0:
            try:
                os.fsync(self._descriptor)
            except OSError as error:
                raise self._cannot_write(error.strerror or str(error)) from error

    def close(self) -> None:
        """Let go of the file and the lock."""
        self._close()
        self._lock.release()

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _cannot_write(self, why: str) -> RunError:
        return RunError(
            f"Cannot write {self.path}: {why}.", "Choose a folder with space that you may write to."
        )


def whole_lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Number, offset and bytes of each line; a last one without a line end is left out."""
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            yield number, offset, line
            offset += len(line)


def read_line(path: Path, offset: int) -> dict[str, Any]:
    """The record that starts at an offset of a file. Raises DataError where the file has changed since it was read."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            row: dict[str, Any] = json.loads(file.readline())
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} was changed while it was in use: {error}.", "Run the command again."
        ) from error
    return row
