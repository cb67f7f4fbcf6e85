"""k-sparse probes: is a label in one neuron or spread over many? (Gurnee et al. 2023)

On one half of the stories the k neurons whose mean differs most, in their deviations, between tokens with the label and
without are taken, and a logistic regression on them is fitted; its area under the curve is read on the other half.
**Control** (Hewitt and Liang 2019): the same for a label that every word has or has not by lot, with the share of the
true one; what a probe reaches there it knows of the word, not of the label. **Selectivity**: the difference.

Axes: token, neuron.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from tslens.probes.neurons.choice import Halves
from tslens.probes.neurons.codes import decode
from tslens.probes.neurons.sample import Sample
from tslens.probes.neurons.stream import Read

KS = (1, 2, 4, 8, 16, 32, 64)
MOST_TOKENS = 12_000  # of either half


@dataclass(frozen=True)
class SparseProbe:
    """Areas under the curve of one label by k neurons; ``control`` is None where the lot gave one side only."""

    label: str
    k: int
    auroc: float
    control: float | None

    @property
    def selectivity(self) -> float | None:
        """Area beyond the control."""
        return None if self.control is None else self.auroc - self.control

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {**asdict(self), "selectivity": self.selectivity}


def sparse_probes(
    read: Read,
    *,
    seed: int,
    ks: Sequence[int] = KS,
    progress: Callable[[str], None] = lambda label: None,
) -> list[SparseProbe]:
    """Of every label that can be read, by all neurons of a pass; k beyond their number is left out."""
    halves = Halves.of(read.sample)
    eligible = halves.eligible()
    rng = np.random.default_rng([seed, 0x59A])
    first, second = (_some(half, rng) for half in (halves.first, halves.second))
    x_first, x_second = decode(first.codes), decode(second.codes)
    middle, spread = x_first.mean(0), np.maximum(x_first.std(0), 1e-6)
    x_first, x_second = (x_first - middle) / spread, (x_second - middle) / spread
    n_words = int(max(first.tokens.token.max(initial=0), second.tokens.token.max(initial=0))) + 1
    found: list[SparseProbe] = []
    for label in np.flatnonzero(eligible).tolist():
        flags = first.tokens.flags[:, label], second.tokens.flags[:, label]
        lot = rng.random(n_words) < flags[0].mean()
        control = lot[first.tokens.token], lot[second.tokens.token]
        kept = [k for k in ks if k <= x_first.shape[1]]
        areas = list(_areas(x_first, x_second, *flags, kept))
        beside = (
            list(_areas(x_first, x_second, *control, kept)) if _has_both(*control) else [None] * len(kept)
        )
        found += [SparseProbe(read.labels[label], *one) for one in zip(kept, areas, beside, strict=True)]
        progress(read.labels[label])
    return found


def _some(half: Sample, rng: np.random.Generator) -> Sample:
    if len(half) <= MOST_TOKENS:
        return half
    return half.select(np.sort(rng.choice(len(half), MOST_TOKENS, replace=False)))


def _has_both(*flags: Bool[np.ndarray, " token"]) -> bool:
    return all(flag.any() and not flag.all() for flag in flags)


def _areas(
    x_first: Float[np.ndarray, "token neuron"],
    x_second: Float[np.ndarray, "token neuron"],
    first: Bool[np.ndarray, " token"],
    second: Bool[np.ndarray, " token"],
    ks: Sequence[int],
) -> Iterator[float]:
    apart = np.abs(x_first[first].mean(0) - x_first[~first].mean(0))
    order = np.argsort(-apart, kind="stable")
    for k in ks:
        chosen = order[:k]
        fitted = LogisticRegression(class_weight="balanced", max_iter=500).fit(x_first[:, chosen], first)
        yield float(roc_auc_score(second, fitted.decision_function(x_second[:, chosen])))
