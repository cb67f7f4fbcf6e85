"""What a match found: pairs of units of two models, what they share, and which roles they hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from tslens.types import HeadId, NeuronId

if TYPE_CHECKING:
    import pandas as pd

    from tslens.probes.matching.roles import RoleAgreement, RoleHolders

Component = Literal["head", "neuron"]
MatchStatus = Literal["same", "like", "unclear", "no"]
STATUSES: tuple[MatchStatus, ...] = ("same", "like", "unclear", "no")
UnitId = HeadId | NeuronId


@dataclass(frozen=True)
class UnitMatch:
    """A head or neuron of one model and the one of another that it is matched with (``docs/methods.md``).

    ``value``, ``low``, ``high``: similarity of heads (0 to 1) or correlation of neurons (-1 to 1), and its 95%
    interval. ``nulls``: what each null would give. ``excess``: value minus the largest; ``excess_low``: lower end,
    corrected over pairs and nulls. ``program``: what the program of the one or the other unit gives, the larger;
    ``beyond_program``, ``beyond_low``: value minus it, and its corrected lower end. ``other``: mean over all other
    partners, None where there are none. ``mutual``: whether each is the other's nearest.
    """

    a: UnitId
    b: UnitId
    value: float
    low: float
    high: float
    nulls: Mapping[str, float]
    excess: float
    excess_low: float
    program: float
    beyond_program: float
    beyond_low: float
    other: float | None
    mutual: bool
    status: MatchStatus

    def to_json(self) -> dict[str, Any]:
        """The row as plain JSON types."""
        return {**asdict(self), "a": str(self.a), "b": str(self.b), "nulls": dict(self.nulls)}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> UnitMatch:
        """Inverse of :meth:`to_json`. Raises UsageError for a name that is no unit's."""
        kind = NeuronId if "N" in row["a"] else HeadId
        return cls(**{**row, "a": kind.parse(row["a"]), "b": kind.parse(row["b"])})


@dataclass(frozen=True)
class Mean:
    """Mean over the pairs, with its 95% interval over stories."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class PairMatch:
    """All matched units of one kind of two models.

    ``n_a``, ``n_b``: how many units each model has. ``critical``: the c of the corrected intervals. ``means``: of
    ``value``, each null, ``program``, ``excess``, ``beyond_program`` over the pairs. ``counts_at_floors``: pairs that
    would be no less than ``like`` at ``half`` the floor, the ``floor``, ``double``; of neurons ``universal`` too.
    """

    model_a: str
    model_b: str
    component: Component
    n_a: int
    n_b: int
    floor: float
    critical: float
    means: Mapping[str, Mean]
    counts_at_floors: Mapping[str, int]
    matches: tuple[UnitMatch, ...]

    @property
    def counts(self) -> Counter[MatchStatus]:
        """Pairs by status."""
        return Counter(match.status for match in self.matches)

    def best_first(self) -> list[UnitMatch]:
        """By status, then by excess."""
        return sorted(self.matches, key=lambda one: (STATUSES.index(one.status), -one.excess, str(one.a)))

    def header(self) -> dict[str, Any]:
        """All but the rows, as plain JSON types."""
        row = asdict(self)
        del row["matches"]
        return row

    @classmethod
    def from_json(cls, header: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> PairMatch:
        """Inverse of :meth:`header`, with the rows beside it."""
        means = {name: Mean(**mean) for name, mean in header["means"].items()}
        return cls(**{**header, "means": means, "matches": tuple(UnitMatch.from_json(row) for row in rows)})


@dataclass(frozen=True)
class MatchReport:
    """Models held against each other, two at a time; shows as a table in a notebook.

    ``n_stories``: that were read; ``n_read``: of these, where values were read (matches were chosen on the others).
    ``n_excluded``: training stories that were left out. ``roles``: who holds which; ``agreements``: of each two
    models. Both are empty where roles were not asked for.
    """

    models: tuple[str, ...]
    pairs: tuple[PairMatch, ...]
    n_stories: int
    n_read: int
    n_excluded: int
    seed: int
    roles: tuple[RoleHolders, ...] = ()
    agreements: tuple[RoleAgreement, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """Every pair of units as plain JSON types, with the models and the kind of unit."""
        return [
            {
                "model_a": pair.model_a,
                "model_b": pair.model_b,
                "component": pair.component,
                **match.to_json(),
            }
            for pair in self.pairs
            for match in pair.matches
        ]

    def to_pandas(self) -> pd.DataFrame:
        """One row per pair of units."""
        import pandas as pd

        return pd.DataFrame(self.rows())

    def _repr_html_(self) -> str:
        columns = ["model_a", "model_b", "a", "b", "value", "low", "high", "excess", "excess_low", "status"]
        html: str = self.to_pandas()[columns].to_html(index=False, float_format="{:.3f}".format, escape=True)
        return html
