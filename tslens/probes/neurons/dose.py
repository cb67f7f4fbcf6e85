"""All neurons of a role together: how much their absence costs, a quarter of them, half, all; and as many others.

The neurons of a role (candidates too), strongest first, have their mean put in place of their activation, together, at
all tokens. The effect is what that costs at tokens with the label, minus what it costs at like tokens (``cause``), mean
over stories. Beside it the same for as many neurons without a role: for each the one of its layer whose activation
varies most nearly as much, none taken twice. A dose for which too few are left is left out.

Axes: token, story, stratum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.stats import t
from torch import Tensor

from tslens.model.story_model import StoryModel
from tslens.probes.neurons.cause import N_STRATA, CleanLosses, loss_edges, token_losses
from tslens.probes.neurons.stream import LabelledBatch, Read
from tslens.types import NeuronId, NeuronRole

SHARES = (0.25, 0.5, 1.0)
MIN_NEURONS = 4
MIN_STORIES = 10


@dataclass(frozen=True)
class Dose:
    """The effect of some neurons of a role, and of as many without one, in nats, with 95% intervals over stories.

    ``share``: of the role's neurons. ``n_neurons``: how many that is. ``others``: the same at the same tokens without
    as many role-less neurons.
    """

    label: str
    share: float
    n_neurons: int
    effect: float
    low: float
    high: float
    others: float
    others_low: float
    others_high: float
    n_stories: int

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)


@torch.inference_mode()
def dose_effects(
    model: StoryModel,
    batches: Sequence[LabelledBatch],
    read: Read,
    roles: Sequence[NeuronRole],
    *,
    progress: Callable[[str], None] = lambda label: None,
) -> list[Dose]:
    """Of each label with four neurons or more. ``roles``: of the neurons of ``read``, in its order."""
    if not batches:
        return []
    clean = [CleanLosses.of(model, batch) for batch in batches]
    edges = loss_edges(clean)
    found: list[Dose] = []
    for label, columns in _groups(roles).items():
        others = _matched(read, roles, columns)
        for share in SHARES:
            n = max(1, round(share * len(columns)))
            if n > len(others):  # too few have no role
                continue
            sides = [
                _per_story(model, batches, clean, edges, read, group[:n], read.labels.index(label))
                for group in (columns, others)
            ]
            if min(len(side) for side in sides) >= MIN_STORIES:
                (effect, low, high), (other, other_low, other_high) = map(_interval, sides)
                found.append(
                    Dose(label, share, n, effect, low, high, other, other_low, other_high, len(sides[0]))
                )
        progress(label)
    return found


def _groups(roles: Sequence[NeuronRole]) -> dict[str, list[int]]:
    """Columns of the roles and candidates of each label, strongest first."""
    groups: dict[str, list[int]] = {}
    order = sorted(range(len(roles)), key=lambda column: -roles[column].excess)
    for column in order:
        role = roles[column]
        if role.role is not None and role.status in ("role", "candidate"):
            groups.setdefault(role.role, []).append(column)
    return {label: columns for label, columns in groups.items() if len(columns) >= MIN_NEURONS}


def _matched(read: Read, roles: Sequence[NeuronRole], columns: Sequence[int]) -> list[int]:
    """For each neuron one without a role, of its layer if there is one left, that varies as much."""
    spread = np.sqrt(read.sums.variance)
    free = [column for column, role in enumerate(roles) if role.status == "no"]
    taken: list[int] = []
    for column in columns:
        same = [one for one in free if read.neurons[one].layer == read.neurons[column].layer] or free
        if not same:
            break
        best = min(same, key=lambda one: abs(spread[one] - spread[column]))
        taken.append(best)
        free.remove(best)
    return taken


def _per_story(
    model: StoryModel,
    batches: Sequence[LabelledBatch],
    clean: Sequence[CleanLosses],
    edges: Float[np.ndarray, " edge"],
    read: Read,
    columns: Sequence[int],
    label: int,
) -> Float[np.ndarray, " story"]:
    """Effect of each story that has the label, beyond like tokens of all stories."""
    means = {read.neurons[column]: float(read.sums.mean[column]) for column in columns}
    lost, stratum, flag, story = [], [], [], []
    with _mean_in_place(model, means):
        for batch, one in zip(batches, clean, strict=True):
            lost.append(token_losses(model, batch, one.place) - one.loss)
            stratum.append(one.strata(batch, edges)[1][one.place])
            flag.append(batch.tokens.flags[one.place, label])
            story.append(batch.tokens.story[one.place])
    return _beyond_like(*map(np.concatenate, (lost, stratum, flag, story)))


def _beyond_like(
    lost: Float[np.ndarray, " token"],
    stratum: Int[np.ndarray, " token"],
    flag: np.ndarray,
    story: np.ndarray,
) -> Float[np.ndarray, " story"]:
    n = np.bincount(stratum[~flag], minlength=N_STRATA)
    like = np.bincount(stratum[~flag], lost[~flag], N_STRATA) / np.maximum(n, 1)
    known = flag & (n[stratum] > 0)
    _, number = np.unique(story[known], return_inverse=True)
    beyond = lost[known] - like[stratum[known]]
    found: np.ndarray = np.bincount(number, beyond) / np.bincount(number) if len(number) else np.zeros(0)
    return found


@contextmanager
def _mean_in_place(model: StoryModel, means: Mapping[NeuronId, float]) -> Iterator[None]:
    """Run the model with constants in place of some neurons' activations."""
    hooked: Any = getattr(model, "bridge", model)
    of_layer: dict[int, dict[int, float]] = {}
    for neuron, mean in means.items():
        of_layer.setdefault(neuron.layer, {})[neuron.index] = mean

    def put(mean_of: Mapping[int, float]) -> Callable[..., Tensor]:
        index, value = list(mean_of), list(mean_of.values())

        def hook_fn(post: Tensor, hook: Any) -> Tensor:
            changed = post.clone()
            changed[..., index] = torch.tensor(value).to(post)
            return changed

        return hook_fn

    hooks = [(f"blocks.{layer}.mlp.hook_post", put(mean_of)) for layer, mean_of in of_layer.items()]
    with hooked.hooks(fwd_hooks=hooks):
        yield


def _interval(per_story: Float[np.ndarray, " story"]) -> tuple[float, float, float]:
    """Mean and 95% interval."""
    mean = float(per_story.mean())
    reach = float(t.ppf(0.975, len(per_story) - 1) * per_story.std(ddof=1) / len(per_story) ** 0.5)
    return mean, mean - reach, mean + reach
