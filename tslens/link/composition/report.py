"""What was found on paths between components with roles: records, their file, and the same as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tslens.errors import DataError
from tslens.files import read_jsonl, write_results
from tslens.link.composition.paths import Input, Unit
from tslens.probes.programs.report import Estimate
from tslens.reading import BROKEN, checked
from tslens.types import HeadId, NeuronId, Provenance

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = "tslens.composition/1"
Found = Literal["found", "candidate", "no"]
RANK: Mapping[Found, int] = {"found": 2, "candidate": 1, "no": 0}


@dataclass(frozen=True)
class PathScore:
    """One path that was chosen on one half of the stories, read on the other.

    ``senders``: a component, or all of its role that lie before the receiver's layer.
    ``asked``: of a pair of roles that the authors' guess names. ``chosen``: its effect where it was chosen. ``clean``:
    what the untouched model has: attention mass on the role's keys, for ``v`` 1, as a share. ``effect``: how much of it
    is lost with the path cut. ``controls``: mean of the same for the controls, ``n_controls`` of ``control_kind``, of
    which ``n_above`` lose as much or more. ``beyond``: effect minus that mean, paired by story; ``beyond_low``,
    ``beyond_high``: its lower and its upper end, each one-sided and corrected over all paths that were tested;
    ``floor``: what the lower one has to reach. ``loss``: nats that the cut path costs at the predictions that the
    receiver's role serves; ``loss_beyond``: minus what some of the controls cost there; None where it was not asked or
    the role serves none. ``n_stories``: of the second half, with such pairs.
    """

    senders: tuple[Unit, ...]
    sender_role: str
    receiver: HeadId
    receiver_role: str
    input: Input
    asked: bool
    status: Found
    chosen: float
    clean: float
    effect: Estimate
    controls: float
    control_kind: str
    n_controls: int
    n_above: int
    beyond: Estimate
    beyond_low: float
    beyond_high: float
    floor: float
    loss: Estimate | None
    loss_beyond: Estimate | None
    n_stories: int

    @property
    def name(self) -> str:
        """Such as ``L0N5 (introduction) -> k of L1H3 (name)``."""
        who = str(self.senders[0]) if len(self.senders) == 1 else f"all {len(self.senders)}"
        return f"{who} ({self.sender_role}) -> {self.input} of {self.receiver} ({self.receiver_role})"

    @property
    def reach(self) -> float:
        """How far the corrected lower end lies below the mean."""
        return self.beyond.value - self.beyond_low

    @property
    def least_seen(self) -> float:
        """The least effect beyond controls that would have been a candidate, with errors as they are."""
        return self.floor + self.reach

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        senders, receiver = [str(unit) for unit in self.senders], str(self.receiver)
        return {**asdict(self), "senders": senders, "receiver": receiver, "least_seen": self.least_seen}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> PathScore:
        """Inverse of :meth:`to_json`. Raises KeyError, TypeError or UsageError for another record."""
        fields = {name: row[name] for name in cls.__dataclass_fields__}
        for name in ("effect", "beyond", "loss", "loss_beyond"):
            fields[name] = None if row[name] is None else Estimate.from_json(row[name])
        fields["senders"] = tuple(
            NeuronId.parse(text) if "N" in text else HeadId.parse(text) for text in row["senders"]
        )
        return cls(**{**fields, "receiver": HeadId.parse(row["receiver"])})


@dataclass(frozen=True)
class RolePair:
    """All paths from components of one role to heads of another.

    ``sender_kind``: "neuron" or "head". ``receiver_role``: a probe, at the word or before it. ``n_senders``,
    ``n_receivers``: that have the roles; ``n_paths``: inputs of later heads that were cut on the first half, and
    ``largest`` the largest effect there on attention mass, None where there was none. ``n_tested``: chosen and read on
    the second half. ``status``: of the best of these. ``why_none``: why nothing was cut or tested, empty otherwise.
    """

    sender_kind: Literal["neuron", "head"]
    sender_role: str
    receiver_role: str
    asked: bool
    n_senders: int
    n_receivers: int
    n_paths: int
    largest: float | None
    n_tested: int
    status: Found
    why_none: str


@dataclass(frozen=True)
class CompositionReport:
    """Every path that was tested, and every pair of roles; shows as a table in a notebook.

    ``n_chosen_on``, ``n_tested_on``: stories of either half; ``n_loss``: of the second half, on which losses are read.
    """

    paths: tuple[PathScore, ...]
    pairs: tuple[RolePair, ...]
    n_layers: int
    n_stories: int
    n_excluded: int
    n_chosen_on: int
    n_tested_on: int
    n_loss: int
    seed: int

    @property
    def counts(self) -> Mapping[Found, int]:
        """Tested paths by status."""
        found = Counter(path.status for path in self.paths)
        return {status: found[status] for status in RANK}

    def best_first(self) -> list[PathScore]:
        """By status, then by how far the effect goes beyond the floor."""
        return sorted(self.paths, key=lambda path: (-RANK[path.status], path.floor - path.beyond_low))

    def to_pandas(self) -> pd.DataFrame:
        """One row per path, best first."""
        import pandas as pd

        return pd.DataFrame([path.to_json() for path in self.best_first()])

    def _repr_html_(self) -> str:
        import pandas as pd

        rows = [
            {
                "path": path.name,
                "status": path.status,
                "effect": path.effect.value,
                "beyond controls": path.beyond.value,
                "lower end": path.beyond_low,
                "least seen": path.least_seen,
            }
            for path in self.best_first()
        ]
        html: str = pd.DataFrame(rows).to_html(index=False, float_format="{:.3f}".format, escape=True)
        return html


_NUMBERS = (
    "n_layers", "n_stories", "n_excluded", "n_chosen_on", "n_tested_on", "n_loss", "seed",
)  # fmt: skip


def save_compositions(
    report: CompositionReport,
    path: Path,
    *,
    model: str,
    checkpoint: str,
    roles: Sequence[str],
    record: Provenance,
) -> None:
    """Write the rows and their provenance. ``roles``: where the roles of neurons and heads are from."""
    header: dict[str, Any] = {
        "model": model,
        "checkpoint": checkpoint,
        "stories": record.data,
        "data_sha256": record.data_sha256,
        "roles": list(roles),
        **{name: getattr(report, name) for name in _NUMBERS},
        "pairs": [asdict(pair) for pair in report.pairs],
    }
    write_results(path, SCHEMA, header, (row.to_json() for row in report.paths), record)


def load_compositions(path: Path) -> tuple[Mapping[str, Any], CompositionReport]:
    """Header and report of such a file. Raises DataError if it is of another schema or broken."""
    header, rows = read_jsonl(path, SCHEMA)
    try:
        report = CompositionReport(
            paths=tuple(map(PathScore.from_json, rows)),
            pairs=tuple(RolePair(**pair) for pair in header["pairs"]),
            **{name: header[name] for name in _NUMBERS},
        )
        checked(report)
    except BROKEN as error:
        raise DataError(
            f"{path} holds no compositions: {error}.", "Write it again with analysis/composition.py."
        ) from error
    return header, report
