"""Neurons of two models matched by their activations on the same tokens, and read beside their nulls.

1. On the choosing half all correlations of the two models are summed, on the same and on exchanged stories, and of each
   model the covariances within its layers, from which a turned basis follows without another pass.
2. Pairs are chosen; so are, in the same way, those of every null.
3. On the other half the same sums are read at what was chosen, and those of every story kept for the bootstrap.

Memory: eight bytes for each two neurons of the two models, four times. Axes: token, neuron, vocab, pair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tslens.errors import ModelError
from tslens.model.story_model import StoryModel
from tslens.probes.matching.assignment import (
    Assignment,
    assign,
    exchanged_pairs,
    is_mutual,
    mean_of_others,
)
from tslens.probes.matching.heads import TWIN_STORIES, chosen_twins, first_batches
from tslens.probes.matching.moments import (
    Covariances,
    bootstrap_correlations,
    random_rotation,
    rotated_correlation,
    story_moments,
)
from tslens.probes.matching.reading import SharedBatch, StoryHalves, activations
from tslens.probes.matching.verdict import PROGRAM, Measured
from tslens.probes.neurons.stream import neurons_of
from tslens.stats import percentile_ends, poisson_weights

MAX_PAIRS = 2**25  # of neurons of two models: sums of 256 MB, four times
N_ROTATIONS = 3
SHRINKAGE = 4.0  # a word seen n times keeps n / (n + 4) of its own mean
_COLUMNS = ("value", "exchanged", "program_a", "program_b")


@torch.inference_mode()
def measure_neurons(
    a: StoryModel,
    b: StoryModel,
    halves: StoryHalves,
    *,
    seed: int,
    progress: Callable[[int], None] = lambda n_stories: None,
) -> Measured:
    """Match the neurons of two models on the choosing half, and read the pairs on the other.

    ``seed``: of resampling, rotations and twins. ``progress`` is called with the stories done, of both halves.
    Raises ModelError where the two have so many neurons that their correlations take more than a gigabyte.
    """
    n_a, n_b = len(neurons_of(a)), len(neurons_of(b))
    if n_a * n_b > MAX_PAIRS:
        raise ModelError(
            f"{n_a} and {n_b} neurons make {n_a * n_b:,} pairs; {MAX_PAIRS:,} fit.", "Match heads alone."
        )
    shifts = tuple(activations(model, halves.choosing[0]).mean(0) for model in (a, b))
    reader = _Reader(a, b, shifts)
    chosen_on = _Sums(a, b)
    tables = tuple(_WordMeans(model) for model in (a, b))
    n_done = 0
    for batch in halves.choosing:
        x, y = reader.both(batch)
        chosen_on.add(x, y, reader.exchanged(batch))
        for table, values in zip(tables, (x, y), strict=True):
            table.add(batch, values)
        n_done += len(batch.cluster)
        progress(n_done)
    matrix = chosen_on.same.correlation()
    pairs = assign(matrix)
    moved = exchanged_pairs(chosen_on.exchanged.correlation(), pairs)
    read_on, parts = _Sums(a, b), []
    for batch in halves.reading:
        x, y = reader.both(batch)
        y_moved = reader.exchanged(batch)
        read_on.add(x, y, y_moved)
        mine_a, mine_b = x[:, pairs.a], y[:, pairs.b]
        columns = (
            (mine_a, mine_b),
            (x[:, moved[0]], y_moved[:, moved[1]]),
            (mine_a, tables[0].of(batch)[:, pairs.a]),
            (mine_b, tables[1].of(batch)[:, pairs.b]),
        )
        n_of_rows = batch.is_read.sum(1).tolist()
        parts.append(
            torch.stack([story_moments(one, other, n_of_rows) for one, other in columns], 1).double()
        )
        n_done += len(batch.cluster)
        progress(n_done)
    n_tokens = np.concatenate([batch.is_read.sum(1).numpy() for batch in halves.reading]).astype(float)
    weights = poisson_weights(seed, [key for batch in halves.reading for key in batch.cluster])
    moments = torch.cat(parts).numpy()
    read = {name: bootstrap_correlations(moments[:, i], n_tokens, weights) for i, name in enumerate(_COLUMNS)}
    rotated = _rotated(chosen_on, read_on, pairs, seed)
    twins = _twins(a, b, list(first_batches(halves.reading, TWIN_STORIES)), pairs, seed)
    return _measured(read, {"twins": twins, "rotated": rotated}, pairs, matrix, (a, b), len(n_tokens))


class _Reader:
    """Activations of both models less a shift of each neuron, which keeps the sums accurate."""

    def __init__(self, a: StoryModel, b: StoryModel, shifts: tuple[Tensor, ...]) -> None:
        self.a, self.b, self.shifts = a, b, shifts

    def both(self, batch: SharedBatch) -> tuple[Tensor, Tensor]:
        return activations(self.a, batch) - self.shifts[0], activations(self.b, batch) - self.shifts[1]

    def exchanged(self, batch: SharedBatch) -> Tensor:
        return activations(self.b, batch, exchanged=True) - self.shifts[1]


class _Sums:
    """Covariances of two models on the same and on exchanged stories, and within the layers of either."""

    def __init__(self, a: StoryModel, b: StoryModel) -> None:
        n_a, n_b = len(neurons_of(a)), len(neurons_of(b))
        self.same, self.exchanged = Covariances(n_a, n_b), Covariances(n_a, n_b)
        self.within = tuple(
            [Covariances(model.cfg.d_mlp, model.cfg.d_mlp) for _ in range(model.cfg.n_layers)]
            for model in (a, b)
        )

    def add(self, x: Tensor, y: Tensor, y_exchanged: Tensor) -> None:
        self.same.add(x, y)
        self.exchanged.add(x, y_exchanged)
        for layers, values in zip(self.within, (x, y), strict=True):
            for layer, part in zip(layers, values.chunk(len(layers), 1), strict=True):
                layer.add(part, part)

    def blocks(self, side: int) -> list[Float[np.ndarray, "neuron neuron"]]:
        """Covariances within the layers of one of the models."""
        return [layer.covariance() for layer in self.within[side]]


class _WordMeans:
    """Mean activation of each neuron at each word, shrunk toward its mean over all tokens."""

    def __init__(self, model: StoryModel) -> None:
        self.total = torch.zeros(model.cfg.d_vocab, len(neurons_of(model)))
        self.count = torch.zeros(model.cfg.d_vocab)

    def add(self, batch: SharedBatch, values: Float[Tensor, "token neuron"]) -> None:
        token = batch.tokens[batch.is_read]
        self.total.index_add_(0, token, values)
        self.count.index_add_(0, token, torch.ones(len(token)))

    def of(self, batch: SharedBatch) -> Float[Tensor, "token neuron"]:
        """What they say of the tokens of a batch."""
        token = batch.tokens[batch.is_read]
        overall = self.total.sum(0) / self.count.sum()
        return (self.total[token] + SHRINKAGE * overall) / (self.count[token] + SHRINKAGE)[:, None]


def _rotated(chosen_on: _Sums, read_on: _Sums, pairs: Assignment, seed: int) -> Float[np.ndarray, " pair"]:
    """What a match with the other model's turned basis gives, mean over draws, the larger of both directions."""
    rng = np.random.default_rng([seed, 1])
    a_to_b: list[np.ndarray] = []
    b_to_a: list[np.ndarray] = []
    for _ in range(N_ROTATIONS):
        for side, found in ((1, a_to_b), (0, b_to_a)):
            turn = [random_rotation(len(block), rng) for block in chosen_on.blocks(side)]
            choosing, reading = (_turned(sums, side, turn) for sums in (chosen_on, read_on))
            found.append(assign(choosing).of_a(reading))
    directions = np.array([np.mean(a_to_b, axis=0)[pairs.a], np.mean(b_to_a, axis=0)[pairs.b]])
    largest: np.ndarray = np.nanmax(directions, axis=0)
    return largest


def _turned(
    sums: _Sums, side: int, rotations: Sequence[np.ndarray]
) -> Float[np.ndarray, "neuron turned_neuron"]:
    """Correlations of one model's neurons with the other's basis (``side``: 1 for b) turned."""
    covariance = sums.same.covariance() if side else sums.same.covariance().T
    variance = np.concatenate([np.diag(block) for block in sums.blocks(1 - side)])
    return rotated_correlation(covariance, variance, sums.blocks(side), rotations)


def _twins(
    a: StoryModel, b: StoryModel, batches: Sequence[SharedBatch], pairs: Assignment, seed: int
) -> Float[np.ndarray, " pair"]:
    """The largest correlation of either neuron of a pair with the twin's neuron that it is matched with."""
    levels = []
    for mine, other, units in ((a, b, pairs.a), (b, a, pairs.b)):
        values = [activations(mine, batch) for batch in batches]
        shift = values[0].mean(0)
        for twin in chosen_twins(other, seed):
            sums, of_twin = Covariances(values[0].shape[1], len(neurons_of(twin))), None
            for one, batch in zip(values, batches, strict=True):
                theirs = activations(twin, batch)
                of_twin = theirs.mean(0) if of_twin is None else of_twin
                sums.add(one - shift, theirs - of_twin)
            matrix = sums.correlation()
            levels.append(assign(matrix).of_a(matrix)[units])
    found: np.ndarray = np.nanmax(levels, axis=0)
    return found


def _measured(
    read: dict[str, Float[np.ndarray, "replicate pair"]],
    constant: dict[str, Float[np.ndarray, " pair"]],
    pairs: Assignment,
    matrix: Float[np.ndarray, "neuron_a neuron_b"],
    models: tuple[StoryModel, StoryModel],
    n_stories: int,
) -> Measured:
    value = read["value"]
    low, high = percentile_ends(value, n_stories)
    contrasts = {"exchanged": value - read["exchanged"]}
    contrasts |= {name: value - level for name, level in constant.items()}
    program_a, program_b = read["program_a"], read["program_b"]
    contrasts[PROGRAM] = value - np.where(program_b[0] > program_a[0], program_b, program_a)
    neurons_a, neurons_b = (neurons_of(model) for model in models)
    return Measured(
        units=[(neurons_a[i], neurons_b[j]) for i, j in zip(pairs.a, pairs.b, strict=True)],
        replicates=value,
        n_stories=n_stories,
        low=low,
        high=high,
        contrasts=contrasts,
        errors={name: one[1:].std(0) for name, one in contrasts.items()},
        other=mean_of_others(matrix, pairs),
        mutual=is_mutual(matrix, pairs),
    )
