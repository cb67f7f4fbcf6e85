"""How far a head's attention is from what distance, tokens or both predict, story by story, on stories not fitted.

The deviance of a query is KL(true row || predicted row) in nats; of a story, the mean over its queries but position 0.
From even attention over what the layer may look at it is the total; from a fitted predictor, what that leaves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import numpy as np
import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from tslens.model.attention import Pattern, allowed_pairs
from tslens.model.story_model import StoryModel
from tslens.probes.basis import Rows, TokenPredictor, fit_predictor
from tslens.types import HeadId

Form = Literal["distance", "tokens", "parts", "both"]
FORMS: tuple[Form, ...] = get_args(Form)
EPOCHS = 10  # for the same cost, more stories that are seen less often leave far less unexplained


@dataclass(frozen=True)
class Deviances:
    """Of each story and head, in nats per query.

    ``total``: from even attention. ``left``: by each predictor. ``first``: mean attention at position 0, a probability.
    """

    total: Float[np.ndarray, "story head"]
    left: Mapping[Form, Float[np.ndarray, "story head"]]
    first: Float[np.ndarray, "story head"]


def fit_forms(
    model: StoryModel,
    stories: Sequence[Rows],
    heads: Sequence[HeadId],
    classes: Int[Tensor, " d_vocab"],
    *,
    seed: int,
) -> dict[Form, TokenPredictor]:
    """The four predictors of these heads. ``classes``: of tokens, by part of speech."""
    fit = partial(fit_predictor, model, stories, heads, seed=seed, epochs=EPOCHS)
    return {
        "distance": fit(token_terms=False),
        "tokens": fit(distance_terms=False),
        "parts": fit(classes=classes),
        "both": fit(),
    }


@torch.no_grad()
def read_deviances(
    model: StoryModel, rows: Rows, by_layer: Sequence[Mapping[Form, TokenPredictor]]
) -> Deviances:
    """Deviances of all heads on some stories. ``by_layer``: the predictors of each layer, all its heads in order."""
    weight = _weights(rows)
    total, first = [], []
    left: dict[Form, list[Tensor]] = {form: [] for form in FORMS}
    for layer, pattern in enumerate(model.attention_patterns(rows.tokens.to(model.device))):
        true = pattern.float().cpu()
        log_true = _log_of_true(true)
        total.append(_over_queries(log_true + _log_of_keys(true, model.window(layer)), weight))
        first.append(_over_queries(true[..., 0], weight))
        for form, found in left.items():
            predicted = by_layer[layer][form].log_pattern(rows.tokens)[layer]
            found.append(_over_queries(log_true - (true * predicted).sum(-1), weight))
    return Deviances(_joined(total), {form: _joined(found) for form, found in left.items()}, _joined(first))


@torch.no_grad()
def total_deviance(model: StoryModel, rows: Rows) -> Float[np.ndarray, "story head"]:
    """Of each story and head, how far its attention is from even attention, in nats per query."""
    weight, found = _weights(rows), []
    for layer, pattern in enumerate(model.attention_patterns(rows.tokens.to(model.device))):
        true = pattern.float().cpu()
        found.append(_over_queries(_log_of_true(true) + _log_of_keys(true, model.window(layer)), weight))
    return _joined(found)


def _weights(rows: Rows) -> Float[Tensor, "row query"]:
    """Of each query in its story's mean."""
    query_pos = torch.arange(rows.tokens.shape[1])
    is_query = ((query_pos > 0) & (query_pos < rows.length[:, None])).double()
    return is_query / is_query.sum(1, keepdim=True)


def _log_of_true(true: Pattern) -> Float[Tensor, "row head query"]:
    """Mean log probability of each row under itself, its negative entropy."""
    return torch.xlogy(true, true).sum(-1)


def _log_of_keys(true: Pattern, window: int | None) -> Float[Tensor, " query"]:
    """Logarithm of how many keys each query may look at."""
    pos = torch.arange(true.shape[-1])
    return allowed_pairs(pos, pos, window).sum(1).log()


def _over_queries(
    values: Float[Tensor, "row head query"], weight: Float[Tensor, "row query"]
) -> Float[Tensor, "row head"]:
    return einsum(values.double(), weight, "s h q, s q -> s h")


def _joined(layers: Sequence[Tensor]) -> Float[np.ndarray, "story head"]:
    found: np.ndarray = torch.cat(list(layers), 1).numpy()
    return found
