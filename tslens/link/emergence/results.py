"""Readings over the checkpoints of a run on disk, and the series that they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tslens.errors import DataError
from tslens.files import read_jsonl, write_results
from tslens.link.emergence.changes import Change, Lag, find_change, find_lags
from tslens.link.emergence.trace import Kind, Reading
from tslens.reading import BROKEN, checked
from tslens.types import Provenance

SCHEMA = "tslens.emergence/1"
TIMED = ("loss", "readout", "role", "ngram")
"""Kinds whose series begin before training and have errors."""


@dataclass(frozen=True)
class AtStep:
    """The readings of a checkpoint. ``n_tokens``: trained on until then."""

    step: int
    n_tokens: int
    readings: tuple[Reading, ...]


def save_trace(steps: Sequence[AtStep], path: Path, header: Mapping[str, Any], record: Provenance) -> None:
    """Write a row for each reading, in the order of training, and the provenance beside them."""
    rows = [
        {"step": one.step, "n_tokens": one.n_tokens, **reading.to_json()}
        for one in sorted(steps, key=lambda one: one.step)
        for reading in one.readings
    ]
    write_results(path, SCHEMA, header, rows, record)


def load_trace(path: Path) -> tuple[Mapping[str, Any], list[AtStep]]:
    """Inverse of :func:`save_trace`. Raises DataError for a file that is absent or none of readings."""
    header, rows = read_jsonl(path, SCHEMA)
    of_step: dict[tuple[int, int], list[Reading]] = {}
    try:
        for row in rows:
            place = int(row.pop("step")), int(row.pop("n_tokens"))
            of_step.setdefault(place, []).append(checked(Reading(**row)))
    except BROKEN as error:
        raise DataError(
            f"{path} holds no readings: {error}.", "Write it again with: tslens emergence"
        ) from error
    return header, [AtStep(*place, tuple(readings)) for place, readings in of_step.items()]


@dataclass(frozen=True)
class Series:
    """A series of one run, in the order of training."""

    name: str
    kind: Kind
    tokens: tuple[int, ...]
    values: tuple[float, ...]
    errors: tuple[float | None, ...]
    units: tuple[str | None, ...]


def series_of(steps: Sequence[AtStep]) -> dict[str, Series]:
    """The series of a run by name."""
    found: dict[str, list[tuple[int, Reading]]] = {}
    for one in sorted(steps, key=lambda one: one.step):
        for reading in one.readings:
            found.setdefault(reading.series, []).append((one.n_tokens, reading))
    return {
        name: Series(
            name,
            told[0][1].kind,
            tuple(tokens for tokens, _ in told),
            tuple(reading.value for _, reading in told),
            tuple(reading.se for _, reading in told),
            tuple(reading.unit for _, reading in told),
        )
        for name, told in found.items()
    }


@dataclass(frozen=True)
class Followed:
    """The order of n-gram that a checkpoint is nearest to, and the share of draws of stories in which it is."""

    run: str
    step: int
    n_tokens: int
    order: int
    share: float


@dataclass(frozen=True)
class Timeline:
    """All runs together. ``changes``: by series that is timed, one of each run. ``kinds``: of all series.

    ``lags``: of capabilities behind roles. ``followed``: n-gram orders.
    """

    changes: Mapping[str, Sequence[Change]]
    kinds: Mapping[str, Kind]
    lags: Sequence[Lag]
    followed: Sequence[Followed]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            "changes": [
                {"kind": self.kinds[name], **one.to_json()} for name, of in self.changes.items() for one in of
            ],
            "lags": [one.to_json() for one in self.lags],
            "followed": [asdict(one) for one in self.followed],
        }


def make_timeline(runs: Mapping[str, Sequence[AtStep]], *, seed: int) -> Timeline:
    """Changes of every timed series of every run, and lags of each readout behind each role. ``runs``: by label.

    Grades are not timed: they begin where the model is better than an n-gram, in the middle of their rise.
    """
    changes: dict[str, list[Change]] = {}
    kinds: dict[str, Kind] = {}
    for label, steps in runs.items():
        for name, one in series_of(steps).items():
            kinds[name] = one.kind
            errors = [error for error in one.errors if error is not None]
            if one.kind not in TIMED or len(one.tokens) < 3 or len(errors) < len(one.errors):
                continue
            falls = one.kind in ("loss", "ngram")
            changes.setdefault(name, []).append(
                find_change(label, name, one.tokens, one.values, errors, seed=seed, falls=falls)
            )
    roles = [name for name, kind in kinds.items() if kind == "role"]
    capabilities = [name for name, kind in kinds.items() if kind == "readout"]
    pairs = [(role, capability) for role in roles for capability in capabilities]
    return Timeline(changes, kinds, find_lags(changes, pairs), _followed(runs))


def _followed(runs: Mapping[str, Sequence[AtStep]]) -> list[Followed]:
    return [
        Followed(label, one.step, one.n_tokens, int(reading.value), float(reading.unit or 0))
        for label, steps in runs.items()
        for one in sorted(steps, key=lambda one: one.step)
        for reading in one.readings
        if reading.kind == "order"
    ]
