"""One file that only grows: each line by one write, a lock while it is open, a line that a kill cut off removed.

Another may have put a link or a pipe in its place: nothing is written through a link, and nobody waits for a pipe.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tslens.errors import DataError, RunError
from tslens.files import NO_LINK
from tslens.reading import LINE_BYTES, open_regular

_OWN = NO_LINK | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class AppendFile:
    """A JSONL file that this process alone appends to. It is made with its first line.

    ``size``: bytes of whole lines. Raises RunError if another process has it, it cannot be written, or something else
    than a file stands in its place.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._descriptor = -1
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_symlink() or path.exists():
                os.close(self._open(os.O_RDONLY))
            self._lock = FileLock(path.with_name(f".{path.stem}.lock"))
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise RunError(
                f"{path} is in use by another process.", "Wait until it ends, or name another job."
            ) from error
        except OSError as error:
            raise self._cannot_write(error.strerror or str(error)) from error

    def mend(self, size: int, begins: bytes) -> None:
        """Keep the whole lines, ``size`` bytes: what follows them was cut off in the middle.

        ``begins``: how the first line of such a file begins. Raises RunError for one without a whole line that begins
        otherwise: it is somebody else's.
        """
        self.size = size
        try:
            descriptor = self._open(os.O_RDWR)
            try:
                found = b"" if size else os.read(descriptor, len(begins))
                if not begins.startswith(found):
                    raise OSError("it holds something else")
                if os.fstat(descriptor).st_size > size:
                    os.ftruncate(descriptor, size)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise self._cannot_write(error.strerror or str(error)) from error

    def append(self, row: dict[str, Any]) -> int:
        """Append one line by one write; the offset of it."""
        line = json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        offset = self.size
        try:
            if self._descriptor < 0:
                self._descriptor = self._open(os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            n_written = os.write(self._descriptor, line)
            if n_written < len(line):
                os.ftruncate(self._descriptor, offset)  # no half line before those of other calls
                raise OSError("the disk is full")
        except OSError as error:
            if not offset and self._descriptor >= 0:  # no file without a line
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

    def _open(self, flags: int) -> int:
        """A descriptor of the file. Raises OSError where a link, a pipe or a folder stands in its place."""
        if self.path.is_symlink():
            raise OSError("it is a symbolic link")
        descriptor = os.open(self.path, flags | _OWN, 0o666)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError("it is no regular file")
        return descriptor

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _cannot_write(self, why: str) -> RunError:
        return RunError(
            f"Cannot write {self.path}: {why}.", "Choose a folder with space that you may write to."
        )


def whole_lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Number, offset and bytes of each line; a last one without a line end is left out.

    Raises DataError for what is no file, or has a line that is too long for one of ours.
    """
    number = offset = 0
    try:
        with open_regular(path) as file:
            while line := file.readline(LINE_BYTES + 1):
                number += 1
                if len(line) > LINE_BYTES:
                    raise OSError(f"line {number} is longer than {LINE_BYTES:,} bytes")
                if not line.endswith(b"\n"):
                    return
                yield number, offset, line
                offset += len(line)
    except OSError as error:
        raise DataError(
            f"Cannot read {path}: {error.strerror or error}.", "Restore it, or take it out of its folder."
        ) from error


def read_line(path: Path, offset: int) -> dict[str, Any]:
    """The record that starts at an offset of a file. Raises DataError where the file has changed since it was read."""
    try:
        with open_regular(path) as file:
            file.seek(offset)
            row: dict[str, Any] = json.loads(file.readline(LINE_BYTES))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} was changed while it was in use: {error}.", "Run the command again."
        ) from error
    return row
