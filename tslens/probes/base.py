"""What a probe is, and how probes are found.

A probe turns labelled tokens into rows. A row is a measure (pairs of query and key whose attention it counts)
with the nulls of the probe's family, all as pairs or as numbers that no pattern decides. ``scan`` reads them
off the patterns. To add a probe, add a file with a ``PROBE`` or a tuple ``PROBES``; or pass an object to
``score_heads(probes=...)``.
"""

from __future__ import annotations

import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tslens.errors import UsageError
from tslens.probes.batch import TokenBatch
from tslens.probes.pairs import Pairs, uniform
from tslens.probes.units import NO_LABELS, LabelNeeds
from tslens.types import Basis, Position

Family = Literal["positional", "identity", "relational"]
ATTENTION_FLOOR = 0.05  # least excess of a role, written down before any model was scanned


@dataclass(frozen=True)
class Null:
    """What a head without the role would get, in one of four forms.

    ``pairs``: a measure of the same pattern. ``profile``: pairs whose attention the head's distance profile decides.
    ``number``: [cluster] per story, for layers that see everything and for layers with a window.
    ``difference``: value minus null directly, over the queries that have a match.
    """

    pairs: Pairs | None = None
    profile: Pairs | None = None
    number: tuple[Float[np.ndarray, " cluster"], Float[np.ndarray, " cluster"]] | None = None
    difference: Pairs | None = None


@dataclass(frozen=True)
class Row:
    """One measure of a probe at one position.

    ``value_all``: for relations, the measure over all queries, the most frequent offset included.
    ``has_mul``: TransformerLens has this detection pattern: its score is the mass on the same pairs over all attention.
    """

    position: Position
    value: Pairs
    nulls: Mapping[str, Null]
    has_mul: bool = False
    value_all: Pairs | None = None


@dataclass
class Calibration:
    """Facts of the text, counted on the first stories before any pattern is read, and one of the model.

    ``token_counts``: [vocab] how often each token occurs. ``offsets``: per probe and position the distances
    from query to target, most frequent first. ``window``: how many positions the layers that have one look at.
    """

    token_counts: Int[np.ndarray, " vocab"]
    offsets: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    window: int | None = None

    @property
    def frequency_bin(self) -> Int[np.ndarray, " vocab"]:
        """Tokens of like frequency: counts within a factor of four."""
        return (np.log2(self.token_counts + 1) // 2).astype(np.int64)


class Probe(ABC):
    """A question about what a head looks at.

    ``name``: as in tables. ``description``: one sentence for readers. ``family``: which nulls apply.
    ``served``: where the model needs what the role gives, in words; :meth:`serves` says it of tokens.
    ``cost``: about how many pairs of query and key it reads for a token, nulls included, in stories of 240 tokens;
    None where nobody has counted. ``basis``: what explains the role by construction, None where that has to be
    measured. ``floor``: least excess of a role. ``labels``: what labels it reads beside those made by rule.
    """

    name: str
    description: str
    family: ClassVar[Family]
    served: ClassVar[str]
    cost: float | None = None
    basis: ClassVar[Basis | None] = None
    floor: ClassVar[float] = ATTENTION_FLOOR
    labels: LabelNeeds = NO_LABELS

    @abstractmethod
    def rows(self, batch: TokenBatch, calibration: Calibration) -> list[Row]:
        """Rows of a batch, always of the same positions in the same order."""

    def own_batches(
        self, *, d_vocab: int, start_id: int, n_ctx: int, seed: int, batch_tokens: int
    ) -> Iterator[TokenBatch] | None:
        """Sequences of the probe's own making, None if it reads the stories."""
        return None

    def calibrate(self, batch: TokenBatch) -> Mapping[Position, Int[np.ndarray, " pair"]]:
        """Distances from query to target whose most frequent one has to be known beforehand; none for most probes."""
        return {}

    def serves(self, batch: TokenBatch) -> Bool[np.ndarray, "row pos"] | None:
        """Positions whose next token the role would help to predict; None where it serves none.

        By default every real position but the first.
        """
        return batch.is_query

    def score(
        self, pattern: Float[Tensor, "row head query_pos key_pos"], batch: TokenBatch
    ) -> Float[Tensor, " head"]:
        """The measure itself on any model's pattern: mean over stories, without nulls.

        ``pattern``: attention probabilities of one layer for the rows of ``batch``; not modified. The first row of
        :meth:`rows` at all its queries. Range 0 to 1; NaN where no story has a query. Token frequencies are those of
        the batch itself, so it serves scripts and tests.
        """
        counts = np.bincount(batch.tokens[batch.is_query], minlength=int(batch.tokens.max()) + 1)
        row = self.rows(batch, Calibration(counts))[0]
        pairs = row.value_all or row.value
        row_of, query, key, cluster = (
            torch.from_numpy(index).to(pattern.device)
            for index in (pairs.row, pairs.query, pairs.key, pairs.cluster)
        )
        per_story = pattern.new_zeros(len(batch.length), pattern.shape[1])
        weight = torch.from_numpy(pairs.weight).to(pattern)
        per_story.index_add_(0, cluster, pattern[row_of, :, query, key] * weight[:, None])
        return per_story[np.unique(pairs.cluster)].mean(0)


def uniform_null(pairs: Pairs, batch: TokenBatch, calibration: Calibration) -> Null:
    """Attention spread evenly, for layers that see everything and for layers with a window."""
    n = len(batch.length)
    return Null(number=(uniform(pairs, n, None), uniform(pairs, n, calibration.window)))


def find_probes() -> dict[str, Probe]:
    """Every probe of the package by name: each module here that defines ``PROBE`` or ``PROBES``."""
    package = import_module("tslens.probes")
    found: list[Probe] = []
    for name in sorted(module.name for module in pkgutil.iter_modules(package.__path__)):
        module = import_module(f"tslens.probes.{name}")
        found += getattr(module, "PROBES", ())
        found += [module.PROBE] if isinstance(getattr(module, "PROBE", None), Probe) else []
    return {probe.name: probe for probe in found}


def choose_probes(names: Sequence[str | Probe] | None, labels: Sequence[str] = ()) -> list[Probe]:
    """Probes by name, or as objects of one's own; all of the package if None. ``labels``: a user's, probed as well.

    With labels and no names, the labels alone. Raises UsageError for a name that no probe has.
    """
    from tslens.probes.user_label import LABEL_PREFIX, UserLabel

    own = {probe.name: probe for probe in map(UserLabel, labels)}
    known = {**find_probes(), **own}
    chosen: list[Probe] = []
    wanted = list(known.values()) if names is None and not labels else list(names or ())
    for name in (*wanted, *own.values()):
        if isinstance(name, Probe):
            probe = name
        elif name in known:
            probe = known[name]
        else:
            hint = f"The probes are: {', '.join(known)}."
            if name.startswith(LABEL_PREFIX):
                hint = f"A list of yours is probed with --label {name.removeprefix(LABEL_PREFIX)}."
            raise UsageError(f'There is no probe "{name}".', hint)
        if probe.name not in {other.name for other in chosen}:
            chosen.append(probe)
    return chosen
