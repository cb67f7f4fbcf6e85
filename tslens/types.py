"""The records that pass between the parts: frozen, plain data, no tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

Position = Literal["word", "before"]
Status = Literal["role", "candidate", "unclear", "no"]
Basis = Literal["positional", "lexical", "contextual"]


@dataclass(frozen=True)
class Story:
    """One story.

    ``text``: normalised text, paragraphs separated by one newline (see ``corpus.stories.normalise``).
    ``extra``: the other fields of the line it came from (source, words, labels of a user).
    """

    text: str
    extra: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def digest(self) -> int:
        """64-bit hash of the text: decides the split, seeds what is drawn per story, marks training stories."""
        return int.from_bytes(hashlib.blake2b(self.text.encode(), digest_size=8).digest(), "little")


@dataclass(frozen=True, order=True)
class HeadId:
    """One attention head, printed ``L0H3``."""

    layer: int
    index: int

    def __str__(self) -> str:
        return f"L{self.layer}H{self.index}"

    @classmethod
    def parse(cls, text: str) -> HeadId:
        """Read ``L0H3``. Raises UsageError on anything else."""
        import re

        from tslens.errors import UsageError

        found = re.fullmatch(r"[Ll](\d+)[Hh](\d+)", text.strip())
        if not found:
            raise UsageError(
                f'"{text}" is no attention head.', "Write layer and head as in L0H3 (layer 0, head 3)."
            )
        return cls(int(found[1]), int(found[2]))


@dataclass(frozen=True)
class HeadScore:
    """What one probe says of one head at one position (DESIGN sections 5 and 7; ``docs/methods.md``).

    ``value``, ``low``, ``high``: mean attention and its 95% interval, probabilities from 0 to 1.
    ``mul``: TransformerLens' score on the same tokens, None where the probe has no such pattern.
    ``nulls``: value that each null would give. ``excess``: value minus the largest null.
    ``excess_low``: lower end of its interval, corrected over heads x probes x positions.
    ``p``: corrected p-value of "no excess". ``cause``: effects by intervention, None until measured.
    ``value_all``: for relations, the value over all queries, the most frequent offset included.
    ``excess_halves``: the excess on either half of the stories, None where
    a half has no query. ``n_stories``: stories with a query.
    """

    head: HeadId
    probe: str
    position: Position
    value: float
    low: float
    high: float
    mul: float | None
    nulls: Mapping[str, float]
    excess: float
    excess_low: float
    p: float
    status: Status
    basis: Basis | None
    cause: Mapping[str, float] | None
    value_all: float | None
    excess_halves: tuple[float | None, float | None]
    n_stories: int

    def to_json(self) -> dict[str, Any]:
        """The row as plain JSON types."""
        return {**asdict(self), "head": str(self.head), "nulls": dict(self.nulls)}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> HeadScore:
        """Inverse of :meth:`to_json`."""
        fields = {**row, "head": HeadId.parse(row["head"]), "excess_halves": tuple(row["excess_halves"])}
        return cls(**fields)


@dataclass(frozen=True)
class Provenance:
    """Where a result comes from.

    ``data_sha256``: of the story file, or of the settings of the offline author. ``seconds``: wall clock.
    """

    command: str
    version: str
    seed: int
    data: str
    data_sha256: str
    started: str
    seconds: float
    python: str
    torch: str
    platform: str

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON types."""
        return asdict(self)
