"""Files that anyone may have written, read within bounds: what a file claims is checked before it is believed.

Read is a regular file only (a pipe would wait for ever, a device never end), and no more of a text than a stated size.
JSON may be nested as it likes, hold halves of characters, or so many values that they take fifty times the text: it is
refused before its values are made. The header
of an array is held against the size of its file before memory is taken. What a record's fields hold is held against
its types.
"""

from __future__ import annotations

import builtins
import errno
import json
import math
import os
import re
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from io import BufferedReader
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    TypeGuard,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from tslens.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

TEXT_BYTES = 1 << 28  # the longest JSON that is read whole; the largest of our results has some megabytes
LINE_BYTES = 1 << 24  # the longest line that is read alone: the first of a file, or one of a ledger
MOST_VALUES = 1 << 22  # in a JSON text or a table
MOST_IN_ROWS = 1 << 24  # in all rows of a JSONL text: those of 200,000 neurons, or 500,000 graded texts
DEEPEST = 64  # levels of lists and objects in each other
BROKEN = (
    *(KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError, RecursionError),
    UsageError,
)
"""What reading a record raises where the record is none, or not the one that was expected."""

_HALF = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")  # a half pair, written out or as it is
Record = TypeVar("Record")


# Bytes and text -------------------------------------------------------------------------------------------------


def exists(path: Path) -> bool:
    """Whether something stands at a path; at a name that no file can have there is nothing."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def check_regular(path: Path) -> None:
    """Raise OSError for what is no regular file: a folder, pipe, socket or device. A link to a file is one."""
    try:
        is_regular = stat.S_ISREG(path.stat().st_mode)
    except ValueError as error:  # a name with a NUL
        raise FileNotFoundError(f"there is no file {str(path)!r}") from error
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not is_regular:
        raise OSError("it is no regular file")


def open_regular(path: Path) -> BufferedReader:
    """A regular file, open for reading. Raises OSError for anything else."""
    check_regular(path)
    file = os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # another one was put there meanwhile
        file.close()
        raise OSError("it is no regular file")
    return file


def read_bytes(path: Path, *, at_most: int = TEXT_BYTES) -> bytes:
    """The bytes of a file. Raises OSError, or ValueError for one that is too long."""
    with open_regular(path) as file:
        is_long = os.fstat(file.fileno()).st_size > at_most
        data = b"" if is_long else file.read(at_most + 1)
    if is_long or len(data) > at_most:
        raise ValueError(f"it is longer than {at_most:,} bytes")
    return data


def read_text(path: Path, *, at_most: int = TEXT_BYTES) -> str:
    """A text file in UTF-8, without a byte-order mark. Raises OSError, or ValueError for one that is no such text."""
    return read_bytes(path, at_most=at_most).decode("utf-8-sig")


def check_values(text: str | bytes, marks: str, *, at_most: int = MOST_VALUES) -> None:
    """Raise ValueError for a text with more than so many of the characters that begin or part its values.

    Each value takes memory of its own, however short it is: the text is counted before one is made.
    """
    if len(text) <= at_most:
        return
    if isinstance(text, bytes):
        n_values = sum(text.count(mark.encode()) for mark in marks)
    else:
        n_values = sum(text.count(mark) for mark in marks)
    if n_values > at_most:
        raise ValueError(f"it holds more than {at_most:,} values")


def first_line(path: Path, *, at_most: int = LINE_BYTES) -> bytes:
    """The first line of a file. Raises OSError, or ValueError for one that is too long."""
    with open_regular(path) as file:
        line = file.readline(at_most + 1)
    if len(line) > at_most:
        raise ValueError(f"its first line is longer than {at_most:,} bytes")
    return line


# JSON -----------------------------------------------------------------------------------------------------------


def parse_json(text: str | bytes, *, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """A JSON value. ``pairs``: makes an object of its names and values.

    Raises ValueError for what is none, is nested too deeply, holds too many values, or half of a character.
    """
    check_values(text, "[{,")
    try:
        value = json.loads(text, object_pairs_hook=pairs)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    shown = text if isinstance(text, str) else text.decode("utf-8", "surrogatepass")
    if shown.count("[") + shown.count("{") > DEEPEST and _depth(value) > DEEPEST:
        raise ValueError(f"it is nested more than {DEEPEST} levels deep")
    if _HALF.search(shown):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("it holds half a surrogate pair (\\ud800 to \\udfff)") from None
    return value


def _depth(value: Any) -> int:
    """Levels of lists and objects in each other, found level by level."""
    level, n_levels = [value], 0
    while level := [one for one in level if isinstance(one, dict | list)]:
        n_levels += 1
        if n_levels > DEEPEST:
            break
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
    return n_levels


def split_rows(text: str) -> list[str]:
    """The lines of a JSONL text; U+2028 ends none. Raises ValueError where all of them hold too many values."""
    check_values(text, "[{,\n", at_most=MOST_IN_ROWS)
    return text.split("\n")


def parse_row(text: str | bytes) -> dict[str, Any]:
    """A JSON object. Raises ValueError for anything else."""
    value = parse_json(text)
    if not isinstance(value, dict):
        raise ValueError("it is no object")
    return value


# Arrays ---------------------------------------------------------------------------------------------------------


def read_numbers(path: Path, kinds: str, *, mapped: bool = False) -> np.ndarray:
    """The row of numbers in a ``.npy`` file. ``kinds``: numpy's letters of what they may be, as ``iu``.

    ``mapped``: read from disk when asked for. Raises OSError, or ValueError for another array, or one whose size is
    not what its header says.
    """
    import numpy as np

    with open_regular(path) as file:
        try:
            version = np.lib.format.read_magic(file)
            if version not in ((1, 0), (2, 0)):
                raise ValueError(f"its version is {version}")
            read = (np.lib.format.read_array_header_1_0, np.lib.format.read_array_header_2_0)[version[0] - 1]
            shape, _, dtype = read(file)
        except Exception as error:  # of numpy and of Python's own parser, which reads the header
            raise ValueError(f"its header is broken: {str(error).splitlines()[:1]}") from error
        held = os.fstat(file.fileno()).st_size - file.tell()
    if dtype.kind not in kinds or len(shape) != 1 or type(shape[0]) is not int or shape[0] < 0:
        raise ValueError(f"it holds {dtype} of shape {shape}")
    if shape[0] * dtype.itemsize != held:
        raise ValueError(f"its header says {shape[0]:,} numbers, the file has {held:,} bytes")
    if mapped and shape[0]:
        return np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)
    found: np.ndarray = np.load(path, allow_pickle=False)
    return found


# Records --------------------------------------------------------------------------------------------------------


def checked(record: Record) -> Record:
    """A record (a data class) whose fields hold what their types say. Raises TypeError for one that does not.

    A number may be any int or float that is finite; a type that is not known here is not checked.
    """
    hints = _hints(type(record))  # type: ignore[arg-type]
    for field in fields(record):  # type: ignore[arg-type]
        if field.name in hints:
            value = getattr(record, field.name)
            if not _fits(value, hints[field.name]):
                shown = repr(value)
                raise TypeError(f"{field.name} is {shown[:60]}{'...' if len(shown) > 60 else ''}")
    return record


class _Names(dict[str, Any]):
    """The names of a module; one that only a type checker imports may be anything."""

    def __missing__(self, name: str) -> Any:
        return getattr(builtins, name, Any)


@cache
def _hints(of: type) -> dict[str, Any]:
    return get_type_hints(of, localns=_Names(vars(sys.modules[of.__module__])))


def _fits(value: Any, wanted: Any) -> bool:
    if wanted is float:
        return is_number(value)
    if wanted is int:
        return isinstance(value, int) and not isinstance(value, bool) and is_number(value)
    if wanted in (str, bool, NoneType):
        return isinstance(value, wanted)
    origin, of = get_origin(wanted), get_args(wanted)
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in of)
    if origin is Literal:
        return isinstance(value, str | int) and value in of
    if origin is tuple:
        if not isinstance(value, tuple | list) or not (of[-1:] == (...,) or len(value) == len(of)):
            return False
        return all(map(_fits, value, of[:1] * len(value) if of[-1:] == (...,) else of))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(
            _fits(key, of[0]) and _fits(one, of[1]) for key, one in value.items()
        )
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return isinstance(value, tuple | list) and all(_fits(one, of[0]) for one in value)
    if isinstance(wanted, type) and is_dataclass(wanted):
        return isinstance(value, wanted) and checked(value) is value
    return True


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether a value is a finite number that a float can be."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
