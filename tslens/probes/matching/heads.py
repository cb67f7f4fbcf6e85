"""Heads of two models matched by their attention on the same stories, and read beside their nulls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tslens.model.story_model import StoryModel
from tslens.probes.basis import fit_predictor
from tslens.probes.matching.assignment import (
    Assignment,
    assign,
    exchanged_pairs,
    is_mutual,
    mean_of_others,
    mean_over_queries,
    pattern_similarity,
    similarity_matrix,
)
from tslens.probes.matching.reading import SharedBatch, StoryHalves, attention_rows, predicted_rows
from tslens.probes.matching.verdict import PROGRAM, Measured
from tslens.probes.predictor import TokenPredictor
from tslens.probes.twins import random_twins
from tslens.stats import BootstrapSums, Means, poisson_weights
from tslens.types import HeadId

PROGRAM_STORIES = 100  # that a head's program is fitted on
N_TWINS = 6  # one fresh, the others redrawn
TWIN_STORIES = 32
_VALUE, _EXCHANGED, _PROGRAM_A, _PROGRAM_B = range(4)


def heads_of(model: StoryModel) -> tuple[HeadId, ...]:
    """All heads, layer by layer."""
    return tuple(HeadId(la, h) for la in range(model.cfg.n_layers) for h in range(model.cfg.n_heads))


def fit_program(model: StoryModel, halves: StoryHalves, *, seed: int) -> TokenPredictor:
    """The program of every head: its predictor from token identities and distance, on the choosing half."""
    batches = [batch.rows for batch in first_batches(halves.choosing, PROGRAM_STORIES)]
    return fit_predictor(model, batches, heads_of(model), seed=seed)


def first_batches(batches: Sequence[SharedBatch], n_stories: int) -> Iterator[SharedBatch]:
    """Batches until they hold so many stories."""
    for batch in batches:
        if n_stories <= 0:
            return
        n_stories -= len(batch.cluster)
        yield batch


def chosen_twins(model: StoryModel, seed: int) -> Iterator[StoryModel]:
    """The random twins that matches are held against, one after the other."""
    return islice(random_twins(model, seed=seed), N_TWINS)


@torch.inference_mode()
def measure_heads(
    a: StoryModel,
    b: StoryModel,
    halves: StoryHalves,
    programs: tuple[TokenPredictor, TokenPredictor],
    *,
    seed: int,
    progress: Callable[[int], None] = lambda n_stories: None,
) -> Measured:
    """Match the heads of two models on the choosing half, and read the pairs on the other.

    ``programs``: of all heads of either model, fitted on the choosing half. ``seed``: of resampling and twins.
    ``progress`` is called with the stories done, of both halves.
    """
    chosen = _choose(a, b, halves.choosing, progress)
    sums = BootstrapSums(4, len(chosen.pairs.a))
    n_done = halves.n_chosen_on
    for batch in halves.reading:
        x = _read(a, b, batch, chosen, programs)
        weights = torch.from_numpy(poisson_weights(seed, batch.cluster))
        n_rows = len(batch.cluster)
        sums.add(x, torch.ones(n_rows, 4, dtype=torch.bool), weights, torch.ones(n_rows, dtype=torch.bool))
        n_done += n_rows
        progress(n_done)
    return _measured(sums.means(), chosen, (a, b), _twins(a, b, halves, chosen.pairs, seed))


@dataclass(frozen=True)
class _Chosen:
    """What the choosing half gives: the pairs, those that stand for them under the exchange, and the similarities."""

    pairs: Assignment
    exchanged: tuple[np.ndarray, np.ndarray]
    matrix: Float[np.ndarray, "head_a head_b"]


def _choose(
    a: StoryModel, b: StoryModel, batches: Sequence[SharedBatch], progress: Callable[[int], None]
) -> _Chosen:
    same, exchanged, n_done = torch.zeros(()), torch.zeros(()), 0
    for batch in batches:
        rows = attention_rows(a, batch)
        of_same, of_other = (attention_rows(b, batch, exchanged=moved) for moved in (False, True))
        same = same + similarity_matrix(rows, of_same, batch.is_query).sum(0).double()
        exchanged = exchanged + similarity_matrix(rows, of_other, batch.is_query).sum(0).double()
        n_done += len(batch.cluster)
        progress(n_done)
    matrix = (same / n_done).numpy()
    pairs = assign(matrix)
    return _Chosen(pairs, exchanged_pairs((exchanged / n_done).numpy(), pairs), matrix)


def _read(
    a: StoryModel,
    b: StoryModel,
    batch: SharedBatch,
    chosen: _Chosen,
    programs: tuple[TokenPredictor, TokenPredictor],
) -> Float[Tensor, "row column pair"]:
    """Of every story: the value, and the value minus what the exchange and either program give."""
    rows_a, rows_b = attention_rows(a, batch), attention_rows(b, batch)
    other_b = attention_rows(b, batch, exchanged=True)
    of_a, of_b = rows_a[:, chosen.pairs.a], rows_b[:, chosen.pairs.b]

    def mean(one: Tensor, other: Tensor) -> Tensor:
        return mean_over_queries(pattern_similarity(one, other), batch.is_query)

    value = mean(of_a, of_b)
    moved_a, moved_b = chosen.exchanged
    nulls = (
        mean(rows_a[:, moved_a], other_b[:, moved_b]),
        mean(of_a, predicted_rows(programs[0], batch)[:, chosen.pairs.a]),
        mean(of_b, predicted_rows(programs[1], batch)[:, chosen.pairs.b]),
    )
    return torch.stack([value, *(value - null for null in nulls)], 1)


def _twins(
    a: StoryModel, b: StoryModel, halves: StoryHalves, pairs: Assignment, seed: int
) -> Float[np.ndarray, " pair"]:
    """The largest similarity of either head of a pair to the twin's head that it is matched with."""
    batches = list(first_batches(halves.reading, TWIN_STORIES))
    against_b = [assign(m).of_a(m) for m in _twin_matrices(a, b, batches, seed)]
    against_a = [assign(m).of_a(m) for m in _twin_matrices(b, a, batches, seed)]
    found: np.ndarray = np.nanmax(
        [*(one[pairs.a] for one in against_b), *(one[pairs.b] for one in against_a)], axis=0
    )
    return found


def _twin_matrices(
    model: StoryModel, other: StoryModel, batches: Sequence[SharedBatch], seed: int
) -> Iterator[Float[np.ndarray, "head twin_head"]]:
    """Similarity of a model's heads to those of each twin of the other."""
    rows = [attention_rows(model, batch) for batch in batches]
    for twin in chosen_twins(other, seed):
        total = torch.zeros(())
        for mine, batch in zip(rows, batches, strict=True):
            total = total + similarity_matrix(mine, attention_rows(twin, batch), batch.is_query).sum(0)
        yield (total / sum(len(batch.cluster) for batch in batches)).double().numpy()


def _measured(
    means: Means, chosen: _Chosen, models: tuple[StoryModel, StoryModel], twins: Float[np.ndarray, " pair"]
) -> Measured:
    low, high = means.interval()
    value, error = means.mean[:, _VALUE], means.se[0]
    nearer_b = means.mean[0, _PROGRAM_B] < means.mean[0, _PROGRAM_A]  # whose program leaves less to be told
    pairs = chosen.pairs
    heads_a, heads_b = (heads_of(model) for model in models)
    return Measured(
        units=[(heads_a[i], heads_b[j]) for i, j in zip(pairs.a, pairs.b, strict=True)],
        replicates=value,
        n_stories=int(means.n[_VALUE]),
        low=low[_VALUE],
        high=high[_VALUE],
        contrasts={
            "exchanged": means.mean[:, _EXCHANGED],
            "twins": value - twins,
            PROGRAM: np.where(nearer_b, means.mean[:, _PROGRAM_B], means.mean[:, _PROGRAM_A]),
        },
        errors={
            "exchanged": error[_EXCHANGED],
            "twins": error[_VALUE],
            PROGRAM: np.where(nearer_b, error[_PROGRAM_B], error[_PROGRAM_A]),
        },
        other=mean_of_others(chosen.matrix, pairs),
        mutual=is_mutual(chosen.matrix, pairs),
    )
