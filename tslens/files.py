"""Files that are whole or absent: atomic writes, JSONL with a schema, hashes, locks, links, data folder.

A file is written under a temporary name beside its place, flushed to disk, and renamed. A reader therefore
never sees half of one. What a killed process left under such a name is removed by the next that writes the same file.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from tslens.errors import DataError, RunError, UsageError
from tslens.reading import open_regular, parse_json, parse_row, read_text, split_rows
from tslens.types import Provenance

if sys.platform != "win32":
    import fcntl

UNFINISHED = ".unfinished"  # ending of temporary files
NO_LINK = getattr(os, "O_NOFOLLOW", 0)  # opens no link, where the system can
_BYTES = getattr(os, "O_BINARY", 0)
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | NO_LINK | _BYTES


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
        _remove_stale(path.parent.glob(f".{escape(path.name)}.*{UNFINISHED}"))
        handle, held, temporary = _open_unfinished(path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        encoding = None if "b" in mode else "utf-8"
        newline = None if "b" in mode else "\n"
        with os.fdopen(handle, mode, encoding=encoding, newline=newline) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _cannot_write(path, error) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        if held is not None:
            os.close(held)


def _open_unfinished(path: Path) -> tuple[int, int | None, Path]:
    """A new temporary file beside ``path``, and what holds its lock until it is closed too, after the renaming."""
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{UNFINISHED}")
        try:
            handle = os.open(temporary, _NEW, 0o666)  # less what the user's mask takes
        except FileExistsError:
            continue
        if sys.platform == "win32":  # where an open file is neither renamed nor removed
            return handle, None, temporary
        if _lock(handle, otherwise=True) and temporary.exists():
            return handle, os.dup(handle), temporary
        os.close(handle)  # between two lines another process took it for what a dead one had left


def _remove_stale(temporaries: Iterable[Path]) -> None:
    """Remove those temporary files whose process is dead: the lock of a file dies with its process."""
    for path in temporaries:
        with suppress(OSError):  # another process was faster
            if sys.platform == "win32":
                path.unlink()
                continue
            with path.open("r+b") as file:
                if _lock(file.fileno(), otherwise=False):
                    path.unlink()


if sys.platform != "win32":

    def _lock(descriptor: int, *, otherwise: bool) -> bool:
        """Whether the lock of an open file could be had; ``otherwise`` on a file system that has no locks."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return otherwise
        return True


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
        return parse_json(read_text(path))
    except FileNotFoundError as error:
        raise DataError(f"There is no file {path}.", "Check the path.") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is no JSON file: {_why(error)}.", "Restore it from its source.") from error


def read_object(path: Path) -> dict[str, Any]:
    """Read one JSON object. Raises DataError if the file is absent or holds none."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise DataError(f"{path} holds no object.", "Restore it from its source.")
    return found


def _why(error: Exception) -> str:
    """What is wrong with a file that cannot be read, without its name."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def write_jsonl(
    path: Path, schema: str, header: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]
) -> None:
    """Write rows after a first header record that names their schema (``tslens.head_score/1``)."""
    with atomic_write(path) as file:
        for row in ({"schema": schema, **header}, *rows):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def write_results(
    path: Path,
    schema: str,
    header: Mapping[str, Any],
    rows: Iterable[Mapping[str, Any]],
    record: Provenance,
) -> None:
    """Write rows, and before them their provenance beside: where rows are found, it is there too."""
    write_json(path.with_suffix(".provenance.json"), record.to_json())
    write_jsonl(path, schema, header, rows)


def read_jsonl(path: Path, schema: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Header and rows of a file of ours. Raises DataError on another schema or a broken line."""
    try:
        lines = split_rows(read_text(path).rstrip("\n"))
    except FileNotFoundError as error:
        raise DataError(f"There is no file {path}.", "Check the path.") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is no JSONL file: {_why(error)}.", "Write it again.") from error
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(parse_row(line))
        except ValueError as error:
            raise DataError(f"{path} is no JSONL file: line {number}: {error}.", "Write it again.") from error
    found = rows[0].get("schema")
    if found != schema:
        raise DataError(f'{path} has schema "{found}", not "{schema}".', "Write it again with this version.")
    return rows[0], rows[1:]


def append_line(path: Path, line: str) -> None:
    """Add a line to a file that is there, and no link, whole or not at all. Raises RunError where that cannot be."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | NO_LINK | _BYTES)
        try:
            size, data = os.fstat(handle).st_size, (line + "\n").encode()
            if os.write(handle, data) < len(data):
                os.ftruncate(handle, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(handle)
    except OSError as error:
        raise _cannot_write(path, error) from error


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal. Raises OSError for what is no regular file."""
    with open_regular(path) as file:
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
            _remove_stale(folder.rglob(f".*{UNFINISHED}"))
            try:
                yield
            finally:
                _remove_if_unused(folder)
    except Timeout as error:
        raise RunError(
            f"{folder} is in use by another process.", "Wait until it ends, or choose another --out."
        ) from error
    except OSError as error:
        if isinstance(error, PermissionError) or error.errno == errno.ELOOP:  # the lock is a link
            raise _cannot_write(folder, error) from error
        raise


def _remove_if_unused(folder: Path) -> None:
    """Remove a folder that holds nothing but its lock: what was to be written there was not."""
    with suppress(OSError):
        if [path.name for path in folder.iterdir()] in ([], [".lock"]):
            (folder / ".lock").unlink(missing_ok=True)
            folder.rmdir()


def link_on_the_way(path: Path, folder: Path) -> Path | None:
    """The first link from a folder down to a path in it, None if there is none; the folder itself may be one."""
    below = path.relative_to(folder).parts
    places = [folder.joinpath(*below[: n + 1]) for n in range(len(below))]
    return next((place for place in places if place.is_symlink()), None)


def refuse_links(path: Path, folder: Path) -> None:
    """Raise RunError where a link would lead what is written below ``path`` to elsewhere.

    ``folder``: that somebody else may have made, and ``path`` is in; it may stand behind a link, nothing in it may.
    A link to a file is none: files are replaced.
    """
    inner = (Path(place, name) for place, names, _ in os.walk(path) for name in names)
    link = link_on_the_way(path, folder) or next((place for place in inner if place.is_symlink()), None)
    if link is not None:
        raise RunError(
            f"{link} is a symbolic link: what is written there would land elsewhere.",
            f"Remove the link; {folder} itself may be one. Or choose a place by --out.",
        )


def check_writable(folder: Path) -> None:
    """Raise RunError now if no file can be written to a folder later. Folders that are made for the trial go again."""
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        with suppress(_UnwantedError), atomic_write(folder / "tried"):
            raise _UnwantedError
    except RunError as error:
        if isinstance(error.__cause__, OSError):
            raise _cannot_write(folder, error.__cause__) from error
        raise
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
