"""Two files of results, number by number: do they say the same?"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tslens.errors import DataError
from tslens.reading import check_values, parse_json, read_bytes, split_rows

NOT_RESULTS = frozenset({"provenance", "command", "started", "seconds", "date"})
"""Keys of what differs between two equal runs."""
_LARGEST = 10**300  # of whole numbers that are compared: a larger one is no float
FLOOR = 1e-6  # below it two numbers are both about zero
_NUMBER = re.compile(r"[-+]?\d[\d,]*\.?\d*(?:[eE][-+]?\d+)?")


@dataclass(frozen=True)
class Difference:
    """One place where two results differ: where, what was recorded, what came out. None: it is not there."""

    place: str
    recorded: Any
    repeated: Any

    @property
    def size(self) -> float:
        """Of two numbers, relative to the larger; infinite for anything else."""
        return relative(self.recorded, self.repeated)


@dataclass(frozen=True)
class Comparison:
    """A recorded file and its repetition.

    ``n_values``: values compared, numbers and others; ``largest``: the largest relative difference of any;
    ``differing``: the places beyond the tolerance, the largest first.
    """

    same_bytes: bool
    n_values: int
    largest: float
    differing: tuple[Difference, ...]

    @property
    def is_same(self) -> bool:
        """Whether every value is the same, within the tolerance."""
        return not self.differing


def compare_files(recorded: Path, repeated: Path, *, tolerance: float) -> Comparison:
    """Compare two files of data, by their ending: ``.json``, ``.jsonl``, ``.csv``, or text, of which the numbers count.

    ``tolerance``: relative, of numbers. When a run was made and how long it took are no results. Raises DataError for
    a file that cannot be read.
    """
    first, second = _bytes(recorded), _bytes(repeated)
    mine, theirs = list(_values(recorded, first)), list(_values(repeated, second))
    known = dict(theirs)
    found = [Difference(place, value, known.get(place)) for place, value in mine]
    there = {place for place, _ in mine}
    found += [Difference(place, None, value) for place, value in theirs if place not in there]
    differing = [one for one in found if one.size > tolerance]
    largest = max((one.size for one in found), default=0.0)
    differing.sort(key=lambda one: -one.size)
    return Comparison(first == second, len(found), largest, tuple(differing))


def relative(one: Any, other: Any) -> float:
    """Relative difference of two values: of numbers by the larger, 0 of equal ones, else infinite."""
    if one == other:
        return 0.0
    if not (_is_number(one) and _is_number(other)):
        return math.inf
    if not all(-_LARGEST <= value <= _LARGEST for value in (one, other) if isinstance(value, int)):
        return math.inf
    if math.isnan(one) and math.isnan(other):
        return 0.0
    return abs(one - other) / max(abs(one), abs(other), FLOOR)


def rows_where(path: Path, wanted: Mapping[str, str]) -> list[Mapping[str, Any]]:
    """The rows of a ``.jsonl`` file, or the objects of a ``.json`` file, whose fields have these values.

    Raises DataError for another kind of file.
    """
    if path.suffix not in (".jsonl", ".json"):
        raise DataError(f"{path} has no rows with fields.", "Name a .jsonl or .json file.")
    return [
        one
        for one in _objects(_documents(path, _bytes(path)))
        if all(str(one.get(name)) == value for name, value in wanted.items())
    ]


def flat(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """The values in a JSON value with their places, as in ``claims[3].estimate.low``."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name not in NOT_RESULTS:
                yield from flat(inner, f"{place}.{name}" if place else str(name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from flat(inner, f"{place}[{number}]")
    else:
        yield place, value


def _values(path: Path, held: bytes) -> Iterator[tuple[str, Any]]:
    if path.suffix in (".json", ".jsonl"):
        yield from flat(_documents(path, held))
    elif path.suffix == ".csv":
        try:
            for line, row in enumerate(csv.reader(_lines(path, held, ",\n"))):
                yield from ((f"line {line + 1}, column {n + 1}", _number(cell)) for n, cell in enumerate(row))
        except csv.Error as error:
            raise DataError(f"{path} is no CSV: {error}.", "Restore it from its source.") from error
    else:
        for line, text in enumerate(_lines(path, held, "\n")):
            yield f"line {line + 1}", _NUMBER.sub("#", text)
            numbers = _NUMBER.findall(text)
            yield from ((f"line {line + 1}, number {n + 1}", _number(one)) for n, one in enumerate(numbers))


def _lines(path: Path, held: bytes, marks: str) -> list[str]:
    text = _text(path, held)
    try:
        check_values(text, marks)
    except ValueError as error:
        raise DataError(f"{path} cannot be compared: {error}.", "Compare a part of it.") from error
    return text.splitlines()


def _documents(path: Path, held: bytes) -> Any:
    text = _text(path, held)
    try:
        if path.suffix == ".json":
            return parse_json(text)
        return [parse_json(line) for line in split_rows(text) if line]
    except ValueError as error:
        raise DataError(f"{path} is no JSON: {error}.", "Restore it from its source.") from error


def _objects(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        yield value
    for inner in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from _objects(inner)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(text: str) -> float | str:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return text


def _text(path: Path, held: bytes) -> str:
    try:
        return held.decode()
    except ValueError as error:
        raise DataError(f"{path} is not UTF-8.", "Restore it from its source.") from error


def _bytes(path: Path) -> bytes:
    try:
        return read_bytes(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.", "Check the path.") from error
    except ValueError as error:
        raise DataError(f"{path} cannot be read: {error}.", "Restore it from its source.") from error
