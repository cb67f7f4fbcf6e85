"""What a model, or an n-gram, knows by its readouts: differences in nats and accuracy, with intervals.

Of a pair, the difference is the log-probability of the right tokens minus that of the wrong ones; of an item (a pair
and its mirror, see ``balance``) their mean. An item is right if its difference is above zero, half right where it is
zero but for rounding. A readout's figures are means over its items; what is resampled are clusters (stories, prompts,
pairs of verbs), see ``clustered``.

**Passed** is a readout whose accuracy is above one half for sure: the lower end of a one-sided 95% interval, corrected
for all readouts of the model at once, lies above it.

Axes: pair, item, cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from tslens.causal.rerun import losses_at
from tslens.link.batches import BATCH_TOKENS, ReadoutBatch, by_readout, pack
from tslens.link.clustered import ClusteredMeans
from tslens.link.pairs import Capability, Readout
from tslens.model.ngram import NgramModel
from tslens.model.story_model import StoryModel
from tslens.stats import poisson_weights, second_half, share_interval

CHANCE = 0.5
ROUNDING = 1e-4  # nats: a smaller difference is none
LEAST_DIFFERENCE = 0.03  # nats: random models pass with less

Differences = Sequence[Float[np.ndarray, " pair"]]
"""Of each readout, the difference of each of its pairs, in nats."""


@dataclass(frozen=True)
class ReadoutScore:
    """What a readout says of a model, means over its items.

    ``difference`` in nats and ``accuracy`` from 0 to 1, each with its 95% interval over clusters (of the difference by
    studentised bootstrap, of the accuracy by ``stats.share_interval``). ``least_accuracy``: the
    one-sided 95% lower end, corrected for all readouts of the model. ``accuracy_halves``: on either half of the
    clusters, None where a half has none.
    """

    readout: str
    capability: Capability
    asks: str
    difference: float
    difference_low: float
    difference_high: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    least_accuracy: float
    accuracy_halves: tuple[float | None, float | None]
    n_pairs: int
    n_items: int
    n_clusters: int

    @property
    def passes(self) -> bool:
        """Whether the model is above chance for sure."""
        return self.least_accuracy > CHANCE

    @property
    def is_asked(self) -> bool:
        """Whether anything is said about the model's parts: it passes, by more than random models do."""
        return self.passes and self.difference_low > LEAST_DIFFERENCE

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {**asdict(self), "passes": self.passes, "is_asked": self.is_asked}


def read_readouts(
    model: StoryModel, readouts: Sequence[Readout], *, seed: int, batch_tokens: int = BATCH_TOKENS
) -> list[ReadoutScore]:
    """Scores of a model on readouts; those without pairs have none. ``seed``: of the bootstrap."""
    return score_readouts(readouts, read_pairs(model, readouts, batch_tokens=batch_tokens), seed=seed)


def read_ngram(ngram: NgramModel, readouts: Sequence[Readout], *, seed: int) -> list[ReadoutScore]:
    """Scores of an n-gram on the same readouts: what the last few tokens tell of them."""
    return score_readouts(readouts, read_pairs_by_ngram(ngram, readouts), seed=seed)


def read_pairs(
    model: StoryModel, readouts: Sequence[Readout], *, batch_tokens: int = BATCH_TOKENS
) -> Differences:
    """The difference of each pair by a model."""
    return differences_of(
        readouts, pack(readouts, seed=0, batch_tokens=batch_tokens), lambda batch: _losses(model, batch)
    )


def differences_of(
    readouts: Sequence[Readout],
    batches: Sequence[ReadoutBatch],
    losses_of: Callable[[ReadoutBatch], Float[np.ndarray, "*variant position"]],
) -> list[Float[np.ndarray, "*variant pair"]]:
    """The differences of all pairs from anything that gives losses at the positions of a batch.

    ``batches``: of ``pack`` for the same readouts. The same number of variants of every batch, or none.
    """
    found: np.ndarray | None = None
    for batch in batches:
        of_batch = batch.collect(losses_of(batch))
        if found is None:
            found = np.empty((*of_batch.shape[:-1], sum(len(one.number) for one in batches)))
        found[..., batch.number] = of_batch
    return by_readout(readouts, np.empty(0) if found is None else found)


@torch.inference_mode()
def _losses(model: StoryModel, batch: ReadoutBatch) -> Float[np.ndarray, " position"]:
    at = batch.at.to(model.device)
    final = model.final_residual(batch.tokens.to(model.device))[at]
    return losses_at(model, final, batch.targets.to(model.device)[at])


def read_pairs_by_ngram(ngram: NgramModel, readouts: Sequence[Readout]) -> Differences:
    """The difference of each pair by an n-gram."""
    pairs = [pair for readout in readouts for pair in readout.pairs]
    sides = [side for pair in pairs for side in (pair.right, pair.wrong)]
    losses = ngram.losses([side.tokens for side in sides])  # of tokens[1:]
    told = np.array([-loss[side.first - 1 :].sum() for side, loss in zip(sides, losses, strict=True)])
    return by_readout(readouts, told[::2] - told[1::2])


# Scores -----------------------------------------------------------------------------------------------------


def score_readouts(readouts: Sequence[Readout], differences: Differences, *, seed: int) -> list[ReadoutScore]:
    """Scores from the differences of the pairs of each readout; readouts without pairs are left out."""
    told = [
        _Told(readout, readout.by_item(of_pairs))
        for readout, of_pairs in zip(readouts, differences, strict=True)
        if readout.items
    ]
    if not told:
        return []
    clusters = sorted({item[0].cluster for one in told for item in one.readout.items})
    counts = np.stack([one.sums(clusters, np.ones(len(one.is_right))) for one in told], -1)
    right = np.stack([one.sums(clusters, one.is_right) for one in told], -1)
    weights = poisson_weights(seed, clusters)
    accuracies = ClusteredMeans.of(weights, right, counts)
    of_differences = ClusteredMeans.of(
        weights, np.stack([one.sums(clusters, one.differences) for one in told], -1), counts
    )
    least = accuracies.lower_ends()
    half = np.array([second_half(cluster) for cluster in clusters])
    scores = []
    for i, one in enumerate(told):
        readout, accuracy = one.readout, float(accuracies.mean[0, i])
        difference = of_differences.interval(i)
        share = share_interval(accuracy, float(accuracies.se[0, i]), readout.n_clusters, len(readout.items))
        scores.append(
            ReadoutScore(
                readout=readout.name,
                capability=readout.capability,
                asks=readout.asks,
                difference=float(of_differences.mean[0, i]),
                difference_low=difference.low,
                difference_high=difference.high,
                accuracy=accuracy,
                accuracy_low=share.low,
                accuracy_high=share.high,
                least_accuracy=min(float(least[i]), share.low),
                accuracy_halves=(
                    _mean_of(right[~half, i], counts[~half, i]),
                    _mean_of(right[half, i], counts[half, i]),
                ),
                n_pairs=len(readout.pairs),
                n_items=len(readout.items),
                n_clusters=readout.n_clusters,
            )
        )
    return scores


@dataclass(frozen=True, eq=False)
class _Told:
    """A readout with what was found of its items."""

    readout: Readout
    differences: Float[np.ndarray, " item"]

    @property
    def is_right(self) -> Float[np.ndarray, " item"]:
        """1, or 0, or one half."""
        rounded = np.where(np.abs(self.differences) < ROUNDING, 0.0, self.differences)
        right: np.ndarray = (np.sign(rounded) + 1) / 2
        return right

    def sums(
        self, clusters: Sequence[int], values: Float[np.ndarray, " item"]
    ) -> Float[np.ndarray, " cluster"]:
        """Sums of the values of its items by cluster, of all ``clusters``."""
        place = {cluster: i for i, cluster in enumerate(clusters)}
        index = [place[item[0].cluster] for item in self.readout.items]
        return np.bincount(index, weights=values, minlength=len(clusters))


def _mean_of(sums: Float[np.ndarray, " cluster"], counts: Float[np.ndarray, " cluster"]) -> float | None:
    return float(sums.sum() / counts.sum()) if counts.sum() else None
