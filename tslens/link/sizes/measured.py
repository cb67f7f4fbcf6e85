"""What is measured of one model, with the clusters that make its error: stories, prompts, pairs.

A mean is a ratio of sums over clusters; what each cluster adds to its error is the linearised ratio (Cochran 1977,
Sampling Techniques, section 6.4). Two models that were measured on the same clusters compare cluster by cluster.

Axes: cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.stats import t

from tslens.errors import DataError
from tslens.files import read_jsonl, write_results
from tslens.probes.matching.roles import RoleHolders
from tslens.reading import BROKEN, checked
from tslens.stats import LEVEL, Interval, share_interval
from tslens.types import Provenance

SCHEMA = "tslens.size_table/1"
DIGITS = 5  # of the values in a file


@dataclass(frozen=True, eq=False)
class Measured:
    """One measure of one model: in each cluster the sum of the values, and how many they are.

    ``clusters``: names; equal names in two measures are one story, prompt or pair.
    """

    clusters: tuple[str, ...]
    sums: Float[np.ndarray, " cluster"]
    counts: Float[np.ndarray, " cluster"]

    @classmethod
    def of_means(cls, values: Mapping[str, float]) -> Measured:
        """One value a cluster, each counting as one."""
        return cls(tuple(values), np.array([*values.values()], dtype=float), np.ones(len(values)))

    @property
    def mean(self) -> float:
        """Mean over all values."""
        return float(self.sums.sum() / self.counts.sum())

    @cached_property
    def influence(self) -> Float[np.ndarray, " cluster"]:
        """What each cluster adds to the error of the mean; the sum is zero."""
        found: np.ndarray = (self.sums - self.mean * self.counts) / self.counts.sum()
        return found

    def interval(self) -> Interval | None:
        """95%, of Student's t over clusters; None of a single cluster."""
        n = len(self.clusters)
        if n < 2:
            return None
        reach = float(t.ppf((1 + LEVEL) / 2, n - 1) * np.sqrt(n / (n - 1) * (self.influence**2).sum()))
        return Interval(self.mean - reach, self.mean + reach)

    def share_interval(self) -> Interval:
        """95% of a share of values from 0 to 1, within 0 and 1 (``stats.share_interval``)."""
        n = len(self.clusters)
        se = float(np.sqrt(n / max(n - 1, 1) * (self.influence**2).sum()))
        return share_interval(self.mean, se, n, int(self.counts.sum()))

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types: mean and interval for people, sums and counts for what reads it again."""
        ends = self.interval()
        return {
            "mean": round(self.mean, DIGITS),
            "low": None if ends is None else round(ends.low, DIGITS),
            "high": None if ends is None else round(ends.high, DIGITS),
            "clusters": list(self.clusters),
            "sums": _rounded(self.sums),
            "counts": _rounded(self.counts),
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Measured:
        """Inverse of :meth:`to_json`. Raises KeyError, TypeError or ValueError for another record."""
        found = cls(
            tuple(row["clusters"]), np.array(row["sums"], dtype=float), np.array(row["counts"], dtype=float)
        )
        if not len(found.clusters) == len(found.sums) == len(found.counts) or not found.counts.sum() > 0:
            raise ValueError("clusters, sums and counts do not fit")
        return found


@dataclass(frozen=True)
class SizeRow:
    """A model in the table. ``cell``: its name without seed: models of one cell differ by seed alone.

    ``source``: who measured it: ``ours``, or whose grades they are. ``n_tokens``, ``flops``: of training; None where
    not known. ``measured``: by the name of the measure; loss in nats per token and in bits per byte, grades from 0 to
    10, accuracies and shares from 0 to 1. ``roles``: who holds each role, of heads and neurons as far as scanned.
    ``weights_sha256``: of its file. ``validation_bits``: bits per byte where it was trained.
    """

    label: str
    cell: str
    source: str
    n_layers: int | None
    d_model: int | None
    n_heads: int | None
    instruct: bool
    n_parameters: int | None
    n_tokens: int | None
    flops: float | None
    measured: Mapping[str, Measured]
    roles: tuple[RoleHolders, ...] = ()
    weights_sha256: str | None = None
    validation_bits: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            **self.__dict__,
            "measured": {name: one.to_json() for name, one in self.measured.items()},
            "roles": [one.to_json() for one in self.roles],
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> SizeRow:
        """Inverse of :meth:`to_json`. Raises KeyError, TypeError or ValueError for another record."""
        measured = {name: Measured.from_json(one) for name, one in row["measured"].items()}
        roles = tuple(RoleHolders.from_json(one) for one in row["roles"])
        return cls(**{**row, "measured": measured, "roles": roles})


def save_sizes(rows: Iterable[SizeRow], path: Path, header: Mapping[str, Any], record: Provenance) -> None:
    """Write the table, and its provenance beside it."""
    write_results(path, SCHEMA, header, (row.to_json() for row in rows), record)


def load_sizes(path: Path) -> tuple[Mapping[str, Any], Sequence[SizeRow]]:
    """Header and rows. Raises DataError for a file that is absent or none of such a table."""
    header, rows = read_jsonl(path, SCHEMA)
    try:
        return header, [checked(SizeRow.from_json(row)) for row in rows]
    except BROKEN as error:
        raise DataError(f"{path} holds no table of sizes: {error}.", "Write it again.") from error


def _rounded(values: Float[np.ndarray, " cluster"]) -> list[float]:
    return [int(one) if one == int(one) else round(one, DIGITS) for one in values.tolist()]
