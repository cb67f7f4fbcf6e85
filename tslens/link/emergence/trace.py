"""One checkpoint read: loss, readouts, roles and their causes, and the n-gram that the model is nearest to.

Series, by name: ``loss``; each readout (its difference in nats); ``role PROBE`` and ``role PROBE before`` (the largest
excess of a head over its nulls), ``cause PROBE`` (the largest effect of a knocked-out edge among candidates, nats; no
reading where there is no candidate); ``near N-gram`` (total variation distance to the n-gram's distribution, 0 to 1) of
orders 1 to 5, and ``nearest order``, that of the least distance; grades by criterion.

Axes: checkpoint, position.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float

from tslens.errors import ModelError
from tslens.link.measure import read_pairs
from tslens.link.pairs import Readout
from tslens.link.sizes.measured import Measured
from tslens.link.sizes.read_model import NATS, accuracies, read_losses
from tslens.model.ngram import NgramModel
from tslens.model.story_model import StoryModel
from tslens.probes.scan import score_heads
from tslens.stats import poisson_weights
from tslens.types import HeadScore, Story

Kind = Literal["loss", "readout", "role", "cause", "ngram", "order", "grade"]
CAUSE = "edge"  # of ``HeadScore.cause``
N_DRAWS = 500
Z = 1.959964  # standard errors from the middle of a 95% interval to its end


@dataclass(frozen=True)
class Reading:
    """One number of one checkpoint. ``se``: standard error over stories or prompts, None where not known.

    ``unit``: of a role or cause the head; of the nearest order in how many of the draws it is the nearest.
    """

    series: str
    kind: Kind
    value: float
    se: float | None
    unit: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)


def of_measured(series: str, kind: Kind, one: Measured) -> Reading:
    """A mean with its error over clusters."""
    ends = one.interval()
    return Reading(series, kind, one.mean, None if ends is None else (ends.high - ends.low) / 2 / Z)


@dataclass(frozen=True, eq=False)
class Asked:
    """What is read at every checkpoint. ``positions``: of each story, at which n-grams are held against the model.

    ``ngrams``: by order. ``probes``: of heads, all where empty. ``n_explain``: stories on which causes of
    roles are read, 0 for none.
    """

    stories: Sequence[Story]
    readouts: Sequence[Readout]
    ngrams: Mapping[int, NgramModel]
    positions: Sequence[Sequence[int]]
    probes: Sequence[str]
    n_explain: int
    seed: int


def choose_positions(model: StoryModel, stories: Sequence[Story], *, n: int, seed: int) -> list[list[int]]:
    """``n`` positions in all, evenly drawn over the targets of the stories; of each story, in order."""
    tokenizer = model.tokenizer
    if tokenizer is None:
        raise ModelError(
            "This model has no tokenizer, so it cannot read stories.", "Give one with a tokenizer.json."
        )
    lengths = [len(tokenizer.encode_story(story.text, context=model.cfg.n_ctx)) - 1 for story in stories]
    starts = np.cumsum([0, *lengths])
    rng = np.random.default_rng(seed)
    drawn = np.sort(rng.choice(starts[-1], size=min(n, int(starts[-1])), replace=False))
    return [(drawn[(drawn >= start) & (drawn < end)] - start).tolist() for start, end in pairwise(starts)]


def read_checkpoint(model: StoryModel, asked: Asked) -> list[Reading]:
    """All readings of a checkpoint but grades."""
    found = [of_measured("loss", "loss", read_losses(model, asked.stories)["loss"])]
    told = accuracies(asked.readouts, read_pairs(model, asked.readouts))
    found += [
        of_measured(name.removesuffix(NATS), "readout", one)
        for name, one in told.items()
        if name.endswith(NATS)
    ]
    report = score_heads(
        model, asked.stories, seed=asked.seed, probes=asked.probes or None, n_explain=asked.n_explain
    )
    found += _roles(report.scores)
    found += nearest_ngrams(model, asked.stories, asked.ngrams, asked.positions, seed=asked.seed)
    return found


def _roles(scores: Iterable[HeadScore]) -> list[Reading]:
    """The best head of each probe and position, and the largest effect of an edge among candidates."""
    best: dict[str, HeadScore] = {}
    cause: dict[str, tuple[float, str]] = {}
    for score in scores:
        name = score.probe + (" before" if score.position == "before" else "")
        if name not in best or score.excess > best[name].excess:
            best[name] = score
        effect = (score.cause or {}).get(CAUSE)
        if effect is not None and effect > cause.get(name, (-np.inf, ""))[0]:
            cause[name] = effect, str(score.head)
    found = [
        Reading(f"role {name}", "role", one.excess, (one.high - one.low) / 2 / Z, str(one.head))
        for name, one in best.items()
    ]
    found += [Reading(f"cause {name}", "cause", one[0], None, one[1]) for name, one in cause.items()]
    return found


@torch.inference_mode()
def nearest_ngrams(
    model: StoryModel,
    stories: Sequence[Story],
    ngrams: Mapping[int, NgramModel],
    positions: Sequence[Sequence[int]],
    *,
    seed: int,
) -> list[Reading]:
    """Total variation distance between the model's next token and each n-gram's, at some positions of each story."""
    tokenizer = model.tokenizer
    assert tokenizer is not None
    of_order: dict[int, dict[str, list[float]]] = {order: {} for order in ngrams}
    for story, places in zip(stories, positions, strict=True):
        if not places:
            continue
        tokens = tokenizer.encode_story(story.text, context=model.cfg.n_ctx)
        row = torch.from_numpy(tokens[None, :-1].astype(np.int64)).to(model.device)
        at = model.final_residual(row)[0, torch.tensor(places, device=model.device)]
        probs: Float[np.ndarray, "position vocab"] = model.unembed(at).float().softmax(-1).cpu().numpy()
        for order, ngram in ngrams.items():
            of_order[order][f"story {story.digest}"] = [
                0.5 * float(np.abs(mine - ngram.next_probs(tokens[: place + 1])).sum())
                for mine, place in zip(probs, places, strict=True)
            ]
    if not any(of_order.values()):
        return []
    told = {
        order: Measured(
            tuple(of_story),
            np.array([sum(part) for part in of_story.values()]),
            np.array([float(len(part)) for part in of_story.values()]),
        )
        for order, of_story in of_order.items()
    }
    return [
        *(of_measured(f"near {order}-gram", "ngram", one) for order, one in told.items()),
        _nearest(told, seed),
    ]


def _nearest(told: Mapping[int, Measured], seed: int) -> Reading:
    """The order of least distance, and in which share of draws of the stories it is that one."""
    orders = list(told)
    sums, counts = np.stack([told[order].sums for order in orders]), told[orders[0]].counts
    weights = poisson_weights(seed, range(len(counts)), N_DRAWS)
    least = ((weights @ sums.T) / np.maximum(weights @ counts, 1.0)[:, None]).argmin(1)
    best = int(least[0])
    share = float((least[1:] == best).mean())
    return Reading("nearest order", "order", float(orders[best]), None, f"{share:.2f}")
