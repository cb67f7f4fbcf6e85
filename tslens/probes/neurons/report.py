"""What was found of all neurons of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tslens.probes.neurons.dose import Dose
from tslens.probes.neurons.stream import Read
from tslens.types import NeuronRole

if TYPE_CHECKING:
    import pandas as pd

RANK = {"role": 3, "candidate": 2, "unclear": 1, "no": 0}


@dataclass(frozen=True)
class LabelFacts:
    """What is known of a label without any neuron.

    ``n_tokens``: with the label, on the half that roles are read on; ``n_ambiguous``: of these, those whose word does
    not decide the label. ``word_alone``, ``bigram_alone``: area under the curve of the label by its share among
    the tokens of the word, or of the pair of words, on the other half. ``twins``: 95th percentile of random neurons.
    ``is_read``: whether enough tokens and stories have it.
    """

    name: str
    description: str
    n_tokens: int
    n_ambiguous: int
    word_alone: float
    bigram_alone: float
    twins: float
    is_read: bool

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types; an area of a label that all tokens have or none is null."""
        return {name: None if value != value else value for name, value in asdict(self).items()}


@dataclass(frozen=True)
class NeuronsReport:
    """Roles of all neurons of a model; shows as a table in a notebook.

    ``n_excluded``: training stories that were left out. ``n_tokens``: that were read; ``n_sampled``: on which roles are
    decided; ``n_explained``: stories on which candidates were ablated. ``counts_at_floors``: neurons that would be
    candidates at ``half`` the excess of the floor over chance (0.575), the ``floor`` (0.65), and ``double`` (0.80).
    ``doses``: what all neurons of a role do together. ``read``: sums, examples and the sample itself.
    """

    roles: tuple[NeuronRole, ...]
    doses: tuple[Dose, ...]
    labels: tuple[LabelFacts, ...]
    n_stories: int
    n_excluded: int
    n_tokens: int
    n_sampled: int
    n_explained: int
    seed: int
    floor: float
    counts_at_floors: Mapping[str, int]
    read: Read

    def best_first(self) -> list[NeuronRole]:
        """By status, then by excess."""
        return sorted(self.roles, key=lambda one: (-RANK[one.status], -one.excess, one.neuron))

    def to_pandas(self) -> pd.DataFrame:
        """One row per neuron."""
        import pandas as pd

        return pd.DataFrame([role.to_json() for role in self.roles])

    def _repr_html_(self) -> str:
        columns = ["neuron", "role", "auroc", "low", "high", "excess", "p", "status", "basis", "kind"]
        html: str = self.to_pandas()[columns].to_html(index=False, float_format="{:.3f}".format, escape=True)
        return html
