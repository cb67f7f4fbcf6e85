"""What is said of heads and of what they produce."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from tslens.probes.production.classes import ClassKind
from tslens.types import Basis, HeadId, Status

if TYPE_CHECKING:
    import pandas as pd

Way = Literal["direct", "total"]
RANK = {"role": 3, "candidate": 2, "unclear": 1, "no": 0}


@dataclass(frozen=True)
class Produced:
    """What one head does for one class of next tokens (``docs/methods.md``), in nats of logit.

    ``kind``, ``name``: the class. ``value``: how much more the head raises it where it comes than at like places, with
    its 95% interval; of copying, how much it raises what it attends to. ``nulls``: value that each null would give.
    ``excess``: value minus the largest null. ``excess_low``: lower end of its interval, corrected over heads x classes.
    ``p``: corrected p-value of "no excess". ``value_halves``, ``excess_halves``: on either half of the stories, None
    where a half has no such place. ``n_stories``: with a place of the class and a match.
    Of candidates: ``lexical``: the value that the current token alone would give, None where not asked; ``basis``: None
    where that is open (``production.current_token``) or not asked; ``says``: share of places of the class where the
    head says so, 0.05 by chance; ``cause``: effects of the head's ablation there (``production.cause``). ``beside``: of
    copying, shares of eigenvalues.
    """

    head: HeadId
    kind: ClassKind
    name: str
    value: float
    low: float
    high: float
    nulls: Mapping[str, float]
    excess: float
    excess_low: float
    p: float
    status: Status
    value_halves: tuple[float | None, float | None]
    excess_halves: tuple[float | None, float | None]
    n_stories: int
    basis: Basis | None = None
    lexical: float | None = None
    says: float | None = None
    cause: Mapping[str, float] | None = None
    beside: Mapping[str, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """The row as plain JSON types."""
        row = {name: list(x) if isinstance(x, tuple) else x for name, x in asdict(self).items()}
        return {"head": str(self.head), "kind": row.pop("kind"), "class": row.pop("name")} | {
            name: row[name] for name in row if name != "head"
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Produced:
        """Inverse of :meth:`to_json`. Raises KeyError, TypeError, ValueError or UsageError for another record."""
        fields = {name: value for name, value in row.items() if name not in ("head", "class")}
        if fields["kind"] not in get_args(ClassKind):
            raise ValueError(f"there is no kind {fields['kind']!r}")
        one = cls(head=HeadId.parse(row["head"]), name=row["class"], **fields)
        return replace(
            one, value_halves=_pair(row["value_halves"]), excess_halves=_pair(row["excess_halves"])
        )


def _pair(values: Any) -> tuple[float | None, float | None]:
    first, second = values
    return first, second


@dataclass(frozen=True)
class ProductionReport:
    """What all heads of a model produce; shows as a table in a notebook.

    ``way``: which contributions were read, the direct ones or the total ones. ``classes``: of each class how many
    places have it; ``left_out``: classes that too few stories have with a match. ``n_excluded``: training stories that
    were left out; ``n_cut``: stories longer than the context. ``critical``: the c of the corrected intervals.
    ``floor``: nats.
    ``counts_at_floors``: heads that would be candidates at ``half`` the floor, the ``floor``, and ``double``.
    ``n_explained``: stories on which basis and cause of candidates were measured; ``n_counted``: that the 4-gram was
    counted on.
    """

    way: Way
    rows: tuple[Produced, ...]
    classes: tuple[Mapping[str, Any], ...]
    left_out: tuple[str, ...]
    n_stories: int
    n_excluded: int
    n_cut: int
    seed: int
    critical: float
    floor: float
    counts_at_floors: Mapping[str, int]
    n_explained: int
    n_counted: int

    def status_of(self, head: HeadId) -> Status:
        """A head's status is its best row's."""
        return max((row.status for row in self.rows if row.head == head), key=RANK.__getitem__)

    def best_first(self) -> list[Produced]:
        """Rows by status, then by excess."""
        return sorted(self.rows, key=strength)

    def to_pandas(self) -> pd.DataFrame:
        """One row per head and class."""
        import pandas as pd

        return pd.DataFrame([row.to_json() for row in self.rows])

    def _repr_html_(self) -> str:
        columns = ["head", "kind", "class", "value", "low", "high", "excess", "excess_low", "p", "status"]
        html: str = self.to_pandas()[columns].to_html(index=False, float_format="{:.3f}".format, escape=True)
        return html


def strength(row: Produced) -> tuple[int, float, HeadId, str]:
    """Order of rows, best first: status, then excess."""
    return -RANK[row.status], -row.excess, row.head, row.name
