"""Records of programs: of each head, of groups of heads, of a model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tslens.types import HeadId, Status

if TYPE_CHECKING:
    import pandas as pd

RANK = {"role": 3, "candidate": 2, "unclear": 1, "no": 0}


@dataclass(frozen=True)
class Estimate:
    """A mean over stories with its 95% interval."""

    value: float
    low: float
    high: float

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Estimate:
        """Inverse of ``asdict``."""
        return cls(**row)


def perplexity(effect: float) -> float:
    """By which share perplexity rises where the loss rises by so many nats."""
    return math.expm1(effect)


@dataclass(frozen=True)
class ProgramScore:
    """How like one program is to one head, on stories that it was not fitted on.

    ``name``: ``uniform``, ``even``, ``profile``, a role, ``composed``, ``tokens``. ``program``: the program in words,
    its numbers in it. ``iou``: weighted intersection over union, 0 to 1. ``distance``: Jensen-Shannon distance, 0 to 1.
    ``divergence``: KL(head || program), nats per query. ``share``: of KL(head || uniform) that the program takes away,
    1 at most, below 0 where it is worse than uniform; None where there is nothing to explain. ``nulls``: the
    intersection over union that each null gives. ``excess``: ``iou`` minus the largest, another head's program
    (``other``) left out; ``excess_low``: its lower end, corrected over heads, programs, nulls; None without nulls.
    """

    name: str
    program: str
    iou: Estimate
    distance: Estimate
    divergence: float
    share: Estimate | None
    nulls: Mapping[str, float]
    excess: float | None
    excess_low: float | None

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> ProgramScore:
        """Inverse of ``asdict``."""
        fields = {**row, "iou": Estimate.from_json(row["iou"])}
        fields["distance"] = Estimate.from_json(row["distance"])
        fields["share"] = None if row["share"] is None else Estimate.from_json(row["share"])
        return cls(**fields)


@dataclass(frozen=True)
class SwapEffect:
    """Loss with patterns swapped minus the clean loss, nats per target, mean over stories.

    ``method``: see ``probes.programs.swaps``. ``readout``: which targets. ``n_stories``: that have such targets.
    """

    method: str
    readout: str
    effect: Estimate
    n_stories: int

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> SwapEffect:
        """Inverse of ``asdict``."""
        return cls(**{**row, "effect": Estimate.from_json(row["effect"])})


@dataclass(frozen=True)
class HeadPrograms:
    """All that was read of one head.

    ``total``: KL(head || uniform), nats per query: what there is to explain. ``role``: the role that the scan of heads
    gave it (its best row that is a role or a candidate), None without one. ``support``: lower end of the share that the
    composed program explains, corrected over heads; None where there is nothing to explain. ``swaps``: by method and
    readout, and ``mean - program``, ``mean - role``, ``profile - program``: what programs save, paired by story.
    ``cause``: what the composed program saves against a swap with another pattern, in nats at all targets: ``uniform``,
    ``profile`` (0 for a program without steps), ``mean``, ``other``, ``shuffled``, and with ``_low`` after the name
    their lower ends, corrected over heads and all five; None without swaps.
    """

    head: HeadId
    status: Status
    total: Estimate
    role: str | None
    support: float | None
    programs: tuple[ProgramScore, ...]
    swaps: tuple[SwapEffect, ...]
    cause: Mapping[str, float] | None

    def score(self, name: str) -> ProgramScore | None:
        """The program of a name, None if it was not read."""
        return next((one for one in self.programs if one.name == name), None)

    def effect(self, method: str, readout: str = "all") -> Estimate | None:
        """What a swap costs, None if it was not done."""
        found = (one.effect for one in self.swaps if (one.method, one.readout) == (method, readout))
        return next(found, None)

    def to_json(self) -> dict[str, Any]:
        """The row as plain JSON types."""
        return {**asdict(self), "head": str(self.head)}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> HeadPrograms:
        """Inverse of :meth:`to_json`."""
        fields = {**row, "head": HeadId.parse(row["head"]), "total": Estimate.from_json(row["total"])}
        fields["programs"] = tuple(map(ProgramScore.from_json, row["programs"]))
        fields["swaps"] = tuple(map(SwapEffect.from_json, row["swaps"]))
        return cls(**fields)


@dataclass(frozen=True)
class GroupSwap:
    """A group of heads swapped at once: ``best quarter`` (by the share explained on the fit), ``labelled``, ``all``.

    Methods are those of ``SwapEffect``, and what programs save: ``mean - program``, ``mean - role``,
    ``profile - program``.
    """

    group: str
    n_heads: int
    swap: SwapEffect

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> GroupSwap:
        """Inverse of ``asdict``."""
        return cls(**{**row, "swap": SwapEffect.from_json(row["swap"])})


@dataclass(frozen=True)
class Explained:
    """A kind of program over a group of heads.

    ``group``: ``all``, ``labelled``, or ``twins`` (all heads of random twins). ``iou``, ``distance``: mean over heads.
    ``share``: 1 - the sum over heads of KL(head || program) / that of KL(head || uniform).
    """

    group: str
    program: str
    n_heads: int
    iou: Estimate
    distance: Estimate
    share: Estimate

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Explained:
        """Inverse of ``asdict``."""
        ends = {name: Estimate.from_json(row[name]) for name in ("iou", "distance", "share")}
        return cls(**{**row, **ends})


@dataclass(frozen=True)
class ProgramsReport:
    """Programs of all heads of a model; shows as a table in a notebook.

    ``n_fitted``, ``n_read``, ``n_tokens``, ``n_swapped``: stories of the fit, of the reading, of the predictor from
    tokens (0: none), and with swaps. ``clean``: loss by readout, nats. ``twins``: the share explained that the random
    twins' heads reach, lower end of the largest. ``counts_at_floors``: heads whose ``support`` reaches 0.25, 0.5 (the
    floor), 0.75 and exceeds the twins.
    ``left_out``: probes that need labels, where none could be had.
    """

    heads: tuple[HeadPrograms, ...]
    groups: tuple[GroupSwap, ...]
    explained: tuple[Explained, ...]
    clean: Mapping[str, float]
    twins: float
    n_stories: int
    n_excluded: int
    n_fitted: int
    n_read: int
    n_tokens: int
    n_swapped: int
    seed: int
    floor: float
    counts_at_floors: Mapping[str, int]
    left_out: tuple[str, ...] = ()

    @property
    def statuses(self) -> Counter[Status]:
        """Heads by status."""
        return Counter(head.status for head in self.heads)

    def best_first(self) -> list[HeadPrograms]:
        """By status, then by the share explained."""
        return sorted(
            self.heads,
            key=lambda one: (-RANK[one.status], -(one.support if one.support is not None else -9), one.head),
        )

    def swap(self, group: str, method: str) -> Mapping[str, Estimate]:
        """What the swap of a group costs, by readout; empty if it was not done."""
        return {
            one.swap.readout: one.swap.effect
            for one in self.groups
            if (one.group, one.swap.method) == (group, method)
        }

    def explained_by(self, group: str, program: str) -> Explained | None:
        """A kind of program over a group, None if there is none."""
        found = (one for one in self.explained if (one.group, one.program) == (group, program))
        return next(found, None)

    def to_pandas(self) -> pd.DataFrame:
        """One row per head and program."""
        import pandas as pd

        rows = [
            {"head": str(one.head), "status": one.status, "role": one.role, **_flat(score)}
            for one in self.heads
            for score in one.programs
        ]
        return pd.DataFrame(rows)

    def _repr_html_(self) -> str:
        frame = self.to_pandas()
        html: str = frame[frame["name"] == "composed"].to_html(
            index=False, float_format="{:.3f}".format, escape=True
        )
        return html


def _flat(score: ProgramScore) -> dict[str, Any]:
    return {
        "name": score.name,
        "program": score.program,
        "iou": score.iou.value,
        "distance": score.distance.value,
        "divergence": score.divergence,
        "share": None if score.share is None else score.share.value,
        "excess": score.excess,
        "excess_low": score.excess_low,
    }
