"""What a neuron writes: its output weights, carried straight to the logits, without any story.

A neuron adds its activation times its row of W_out to the residual stream. Past the last normalisation, whose scale a
single neuron hardly moves, that row raises and lowers logits: its *effects* over the vocabulary. After Gurnee et al.
(2024), against 1,000 random directions of the residual stream, which would be called something once in a hundred:

- ``prediction``: few tokens are raised far above the rest (kurtosis beyond the 99th percentile, skew above zero);
- ``suppression``: few are lowered so (skew below zero);
- ``partition``: the spread of its effects is beyond the 99th percentile, none stands out: it raises one part of the
  vocabulary against another;
- ``entropy``: the spread is below the first percentile: it writes where the unembedding does not look, so that it
  moves the scale of the last normalisation and with it how sure the model is.

The part of speech that it promotes is the one of greatest area under the curve over the words of the vocabulary that
are of one part of speech in four of five cases, if no more than one in a hundred random directions reaches that area.

``fires_where`` asks whether it fires where it writes: the area under the curve of "the next token is among the 1% that
the neuron raises most" by its activation.

Axes: neuron, vocab, token (of the sample), part (of speech).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import kurtosis, skew
from torch import Tensor

from tslens.labels import PARTS_OF_SPEECH
from tslens.model.story_model import StoryModel
from tslens.probes.neurons.codes import areas, encode
from tslens.probes.neurons.stream import Read

WriteKind = Literal["prediction", "suppression", "partition", "entropy", "none"]

N_DIRECTIONS = 1000
NULL_SHARE = 0.01  # of random directions that may be called something
FAR = 1e4  # deviations: against them the small constant of a normalisation is nothing
N_TOKENS = 10  # of those it raises or lowers most that are named
TOP_SHARE = 0.01  # of the vocabulary that counts as what it writes
MIN_WORD_COUNT = 5  # tokens of a word in the sample
SAME_PART = 0.8  # share of a word's tokens that are of one part of speech
MIN_FIRED = 50  # next tokens among those that it raises, for an area


@dataclass(frozen=True)
class Writes:
    """What one neuron writes. ``promotes``, ``suppresses``: tokens, most first. ``part``: of speech, None for none.

    ``spread``: standard deviation of its effects per unit length of its weights, over that of random directions.
    ``length``: of its weights. ``own_tokens``: of the ten tokens at which it is highest on average, the mean share of
    the vocabulary that it raises less; near 0, it suppresses what it fires at.
    """

    kind: WriteKind
    kurtosis: float
    skew: float
    spread: float
    length: float
    promotes: tuple[str, ...]
    suppresses: tuple[str, ...]
    part: str | None
    part_auroc: float | None
    fires_where: float | None
    own_tokens: float | None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)


@torch.no_grad()
def logit_effects(
    model: StoryModel, directions: Float[Tensor, "neuron d_model"]
) -> Float[np.ndarray, "neuron vocab"]:
    """How much each direction of the residual stream raises each logit, per unit of its deviation over dimensions.

    Mean over the vocabulary zero, as a softmax does not see it. A direction that the normalisation removes gives zeros.
    """
    deviation = directions.std(1, keepdim=True, unbiased=False)
    far = torch.where(deviation > 0, directions / deviation.clamp(min=1e-30) * FAR, 0.0)
    raised = model.unembed(model.final_norm(far)) - model.unembed(model.final_norm(torch.zeros_like(far[:1])))
    return (raised - raised.mean(1, keepdim=True)).double().cpu().numpy()


def read_writes(model: StoryModel, read: Read, *, seed: int) -> list[Writes]:
    """What each neuron of a pass writes. ``seed``: of the random directions."""
    words = _words_of_a_part(read)
    null = _Null.of(model, words, seed)
    layers = dict.fromkeys(neuron.layer for neuron in read.neurons)
    found: list[Writes] = []
    for layer in layers:
        output = model.mlp_output(layer).float()
        first = len(found)
        found.extend(_of_layer(model, read, output, range(first, first + len(output)), words, null))
    return found


def _of_layer(
    model: StoryModel,
    read: Read,
    output: Float[Tensor, "neuron d_model"],
    columns: Sequence[int],
    words: _Words,
    null: _Null,
) -> Iterator[Writes]:
    effects = logit_effects(model, output)
    shapes = _Shapes.of(effects)
    length = output.norm(dim=1).tolist()
    part_areas = words.areas(effects)
    assert model.tokenizer is not None
    for i, column in enumerate(columns):
        order = np.argsort(-effects[i], kind="stable")
        best = int(part_areas[i].argmax()) if part_areas.size else 0
        is_promoted = part_areas.size > 0 and part_areas[i, best] > null.part_area
        yield Writes(
            kind=null.kind_of(shapes, i),
            kurtosis=float(shapes.kurtosis[i]),
            skew=float(shapes.skew[i]),
            spread=float(shapes.spread[i] / null.spread),
            length=length[i],
            promotes=tuple(model.tokenizer.token_strings(order[:N_TOKENS].tolist())),
            suppresses=tuple(model.tokenizer.token_strings(order[::-1][:N_TOKENS].tolist())),
            part=words.parts[best] if is_promoted else None,
            part_auroc=float(part_areas[i, best]) if is_promoted else None,
            fires_where=_fires_where(read, column, order),
            own_tokens=_own_tokens(read, column, order),
        )


def _fires_where(read: Read, column: int, order: Int[np.ndarray, " vocab"]) -> float | None:
    """Area of "the next token is among those it raises most" by its activation; None where too few are."""
    tokens = read.sample.tokens
    known = tokens.next >= 0
    is_top = np.zeros(len(order), dtype=bool)
    is_top[order[: max(1, round(TOP_SHARE * len(order)))]] = True
    follows = is_top[tokens.next[known]]
    if min(follows.sum(), (~follows).sum()) < MIN_FIRED:
        return None
    return float(areas(read.sample.codes[known][:, [column]], follows[:, None])[0, 0])


def _own_tokens(read: Read, column: int, order: Int[np.ndarray, " vocab"]) -> float | None:
    """Mean rank, as a share of the vocabulary from the least raised up, of the tokens at which a neuron is highest."""
    counts = read.sums.token_counts
    known = np.flatnonzero(counts >= MIN_WORD_COUNT)
    if len(known) < N_TOKENS:
        return None
    mean = read.sums.by_token[known, column] / counts[known]
    triggers = known[np.argsort(-mean, kind="stable")[:N_TOKENS]]
    rank = np.empty(len(order))
    rank[order[::-1]] = np.arange(len(order))
    return float(rank[triggers].mean() / max(len(order) - 1, 1))


# Nulls and words ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shapes:
    """The shape of the effects of some directions."""

    kurtosis: Float[np.ndarray, " neuron"]
    skew: Float[np.ndarray, " neuron"]
    spread: Float[np.ndarray, " neuron"]

    @classmethod
    def of(cls, effects: Float[np.ndarray, "neuron vocab"]) -> _Shapes:
        """Zero where a direction has no effect at all."""
        spread = effects.std(1)
        flat = spread == 0
        varied = np.where(flat[:, None], np.arange(effects.shape[1]) % 2, effects)
        return cls(
            np.where(flat, 0.0, kurtosis(varied, axis=1)), np.where(flat, 0.0, skew(varied, axis=1)), spread
        )


@dataclass(frozen=True)
class _Words:
    """Words of the vocabulary that are nearly always of one part of speech."""

    parts: tuple[str, ...]
    token: Int[np.ndarray, " word"]
    is_part: Bool[np.ndarray, "word part"]

    def areas(self, effects: Float[np.ndarray, "neuron vocab"]) -> Float[np.ndarray, "neuron part"]:
        """Area under the curve of each part of speech by the effects of each neuron."""
        if not self.parts:
            return np.zeros((len(effects), 0))
        return areas(encode(effects[:, self.token].T.astype(np.float32)), self.is_part)


def _words_of_a_part(read: Read) -> _Words:
    """From the labels of the sample; parts of speech of fewer than five such words are left out."""
    tokens = read.sample.tokens
    names = [f"pos_{part.lower()}" for part in PARTS_OF_SPEECH]
    flags = tokens.flags[:, [read.labels.index(name) for name in names]]
    size = len(read.sums.token_counts)
    count = np.bincount(tokens.token, minlength=size)
    of_part = np.stack([np.bincount(tokens.token, flag, size) for flag in flags.T], 1)
    share = of_part / np.maximum(count, 1)[:, None]
    known = np.flatnonzero((count >= MIN_WORD_COUNT) & (share.max(1) >= SAME_PART))
    is_part = share[known] >= SAME_PART
    enough = (is_part.sum(0) >= MIN_WORD_COUNT) & ((~is_part).sum(0) >= MIN_WORD_COUNT)
    parts = tuple(part for part, yes in zip(PARTS_OF_SPEECH, enough, strict=True) if yes)
    return _Words(parts, known, is_part[:, enough])


@dataclass(frozen=True)
class _Null:
    """What random directions give. ``spread``: their mean; the others are percentiles."""

    spread: float
    kurtosis: float
    most_spread: float
    least_spread: float
    part_area: float

    @classmethod
    def of(cls, model: StoryModel, words: _Words, seed: int) -> _Null:
        """Normal directions of the residual stream."""
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(N_DIRECTIONS, model.cfg.d_model, generator=generator).to(model.device)
        effects = logit_effects(model, drawn)
        shapes = _Shapes.of(effects)
        found = words.areas(effects)
        top = 1 - NULL_SHARE
        return cls(
            spread=float(shapes.spread.mean()),
            kurtosis=float(np.quantile(shapes.kurtosis, top)),
            most_spread=float(np.quantile(shapes.spread, top)),
            least_spread=float(np.quantile(shapes.spread, NULL_SHARE)),
            part_area=float(np.quantile(found.max(1), top)) if found.size else 1.0,
        )

    def kind_of(self, shapes: _Shapes, i: int) -> WriteKind:
        """What one neuron is called."""
        if shapes.spread[i] == 0:
            return "none"
        if shapes.kurtosis[i] > self.kurtosis:
            return "prediction" if shapes.skew[i] > 0 else "suppression"
        if shapes.spread[i] > self.most_spread:
            return "partition"
        return "entropy" if shapes.spread[i] < self.least_spread else "none"
