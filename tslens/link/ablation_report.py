"""What ablations cost: records, their file, and the same as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tslens.causal.replacement import Replacement
from tslens.errors import DataError
from tslens.files import read_jsonl, write_results
from tslens.reading import BROKEN, checked
from tslens.types import Provenance

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = "tslens.ablation/1"


@dataclass(frozen=True)
class Effect:
    """What an ablation costs, in nats per token of loss: mean over a story's tokens, then over stories.

    ``low``, ``high``: 95% interval over stories. ``low_corrected``, ``high_corrected``: the same for all that was
    ablated in the same run, so that with 95% probability not one of them misses. ``p``: of no effect, corrected alike.
    ``n_stories``: with such a token. Ends and ``p`` are None where two stories at least are not there.
    """

    delta_loss_nats: float
    low: float | None
    high: float | None
    low_corrected: float | None
    high_corrected: float | None
    p: float | None
    n_stories: int

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class AblationRow:
    """One group of components, ablated in one way.

    ``effect``: on all tokens. ``halves``: the same on either half of the stories, None where a half has none.
    ``by_class``: on the tokens whose next one is of a class (``effects.CLASSES``). ``spread``: standard deviation of
    the effect over the random draws of a share, None for a fixed group. ``beyond_random``: what a role costs minus
    what as many random components of the same layers cost.
    """

    component: str
    method: Replacement
    n_components: int
    effect: Effect
    halves: tuple[float | None, float | None]
    by_class: Mapping[str, Effect]
    spread: float | None = None
    beyond_random: Effect | None = None

    def to_json(self) -> dict[str, Any]:
        """The row as plain JSON types; the effect on all tokens stands at its top."""
        return {
            "component": self.component,
            "method": self.method,
            **self.effect.to_json(),
            "n_components": self.n_components,
            "halves": list(self.halves),
            "by_class": {name: effect.to_json() for name, effect in self.by_class.items()},
            "spread": self.spread,
            "beyond_random": None if self.beyond_random is None else self.beyond_random.to_json(),
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> AblationRow:
        """Inverse of :meth:`to_json`. Raises KeyError or TypeError for another record."""
        beyond = row["beyond_random"]
        return cls(
            component=row["component"],
            method=row["method"],
            n_components=row["n_components"],
            effect=Effect(**{name: row[name] for name in Effect.__dataclass_fields__}),
            halves=(row["halves"][0], row["halves"][1]),
            by_class={name: Effect(**effect) for name, effect in row["by_class"].items()},
            spread=row["spread"],
            beyond_random=None if beyond is None else Effect(**beyond),
        )


@dataclass(frozen=True)
class MethodAgreement:
    """Spearman's rank correlation of two methods over the single components; 95% percentiles over stories."""

    methods: tuple[Replacement, Replacement]
    spearman: float
    low: float
    high: float
    n_components: int

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {**asdict(self), "methods": list(self.methods)}


@dataclass(frozen=True)
class AblationReport:
    """Every group by every method; shows as a table in a notebook.

    ``members``: the components of each role. ``loss_nats``: of the untouched model, mean over a story's tokens, then
    over stories. ``n_cut``: stories longer than the context. ``left_out``: why there are no parts of speech, empty if
    there are.
    """

    rows: tuple[AblationRow, ...]
    agreement: tuple[MethodAgreement, ...]
    members: Mapping[str, Sequence[str]]
    loss_nats: float
    n_stories: int
    n_excluded: int
    n_cut: int
    seed: int
    left_out: str

    def header(self) -> dict[str, Any]:
        """What is known besides the rows, as plain JSON types."""
        return {
            "n_stories": self.n_stories,
            "n_excluded": self.n_excluded,
            "loss_nats": self.loss_nats,
            "seed": self.seed,
            "agreement": [one.to_json() for one in self.agreement],
            "members": {name: list(members) for name, members in self.members.items()},
        }

    def of(self, component: str, method: Replacement) -> AblationRow:
        """One row. Raises KeyError where it was not measured."""
        for row in self.rows:
            if (row.component, row.method) == (component, method):
                return row
        raise KeyError((component, method))

    def to_pandas(self) -> pd.DataFrame:
        """One row per group and method."""
        import pandas as pd

        return pd.DataFrame([row.to_json() for row in self.rows])

    def _repr_html_(self) -> str:
        columns = ["component", "method", "delta_loss_nats", "low", "high", "low_corrected", "p"]
        html: str = self.to_pandas()[columns].to_html(index=False, float_format="{:.4f}".format, escape=True)
        return html


def save_ablations(
    report: AblationReport, path: Path, *, model: str, checkpoint: str, record: Provenance
) -> None:
    """Write the rows; times stand in the provenance file only, so that equal runs give equal rows."""
    header = {
        "model": model,
        "checkpoint": checkpoint,
        "stories": record.data,
        "data_sha256": record.data_sha256,
        **report.header(),
    }
    write_results(path, SCHEMA, header, (row.to_json() for row in report.rows), record)


def load_ablations(path: Path) -> tuple[Mapping[str, Any], list[AblationRow]]:
    """Header and rows of such a file. Raises DataError if it is of another schema or broken."""
    header, rows = read_jsonl(path, SCHEMA)
    try:
        return header, [checked(AblationRow.from_json(row)) for row in rows]
    except BROKEN as error:
        raise DataError(
            f"A row of {path} is no row of ablations: {error}.", "Write the file again with: tslens ablate"
        ) from error
