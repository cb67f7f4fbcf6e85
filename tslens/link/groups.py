"""What is ablated: single components, whole layers, all components of a role, a random share of the neurons.

A group is ablated as one. Beside a role stand random groups (``like``): as many components of the same layers that do
not have the role. What a role costs beyond them is not the cost of losing so many components.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tslens.causal.ablation import Component, LayerId
from tslens.errors import UsageError
from tslens.model.prefix import Part
from tslens.model.story_model import StoryModel
from tslens.types import HeadId, HeadScore, NeuronId, NeuronRole

N_LIKE = 3  # random groups beside a role
N_DRAWS = 5  # of a random share
HELD = ("role", "candidate")  # statuses that count as having a role
GroupKind = Literal["component", "role", "share"]
Unit = HeadId | NeuronId


@dataclass(frozen=True)
class Group:
    """Components that are ablated together, under a name for tables.

    ``draws``: one set of components; of a random share several, whose mean counts. ``like``: random sets as large, of
    the same layers, none of a role's own.
    """

    name: str
    kind: GroupKind
    draws: tuple[tuple[Component, ...], ...]
    like: tuple[tuple[Component, ...], ...] = ()

    @property
    def n_components(self) -> int:
        """How many are ablated at once."""
        return len(self.draws[0])


def every_head(model: StoryModel, layers: Sequence[int] | None = None) -> list[Group]:
    """Each head, of some layers or of all."""
    return [
        _alone(HeadId(layer, index))
        for layer in _checked(model, layers)
        for index in range(model.cfg.n_heads)
    ]


def every_neuron(model: StoryModel, layers: Sequence[int]) -> list[Group]:
    """Each MLP neuron of some layers."""
    return [
        _alone(NeuronId(layer, index))
        for layer in _checked(model, layers)
        for index in range(model.cfg.d_mlp)
    ]


def every_layer(model: StoryModel, layers: Sequence[int] | None = None) -> list[Group]:
    """The attention and the MLP of each layer, and both together."""
    halves: tuple[Part | None, ...] = ("attn", "mlp", None)
    return [_alone(LayerId(layer, part)) for layer in _checked(model, layers) for part in halves]


def random_share(
    model: StoryModel,
    fraction: float,
    *,
    seed: int,
    layers: Sequence[int] | None = None,
    n_draws: int = N_DRAWS,
) -> Group:
    """So large a share of the MLP neurons of every layer, drawn ``n_draws`` times.

    Raises UsageError for a share that is not above 0 and at most 1, or holds no neuron.
    """
    size = round(fraction * model.cfg.d_mlp) if 0 < fraction <= 1 else 0
    if not size:
        raise UsageError(
            f"A share of {fraction:g} of {model.cfg.d_mlp} neurons is none.", "Give a share from 0 to 1."
        )
    chosen, rng = _checked(model, layers), np.random.default_rng([seed, 0x5A])
    draws = tuple(
        tuple(
            NeuronId(layer, index)
            for layer in chosen
            for index in sorted(rng.choice(model.cfg.d_mlp, size, replace=False).tolist())
        )
        for _ in range(n_draws)
    )
    return Group(f"neurons:{fraction:g}", "share", draws)


def role_groups(
    model: StoryModel, roles: Mapping[str, Sequence[Unit]], *, seed: int, n_like: int = N_LIKE
) -> list[Group]:
    """All heads, or all neurons, of each role, with random groups beside them.

    ``roles``: those of each role, all heads or all neurons. Where a layer has fewer others than the role has of it, no
    random group stands beside.
    """
    found: list[Group] = []
    for name, units in sorted(roles.items()):
        rng = np.random.default_rng([seed, len(found), 0x11CE])
        draws = [_others(model, units, rng) for _ in range(n_like)]
        like = tuple(draw for draw in draws if draw)
        found.append(Group(f"role:{name}", "role", (tuple(sorted(units)),), like))
    return found


def heads_of_roles(scores: Sequence[HeadScore]) -> dict[str, list[HeadId]]:
    """Heads that are role or candidate of each probe, at either position."""
    found: dict[str, set[HeadId]] = {}
    for score in scores:
        if score.status in HELD:
            found.setdefault(score.probe, set()).add(score.head)
    return {probe: sorted(heads) for probe, heads in found.items()}


def neurons_of_roles(rows: Sequence[NeuronRole]) -> dict[str, list[NeuronId]]:
    """Neurons that are role or candidate of each label."""
    found: dict[str, list[NeuronId]] = {}
    for row in rows:
        if row.role is not None and row.status in HELD:
            found.setdefault(row.role, []).append(row.neuron)
    return found


def _alone(component: Component) -> Group:
    return Group(str(component), "component", ((component,),))


def _checked(model: StoryModel, layers: Sequence[int] | None) -> list[int]:
    n_layers = model.cfg.n_layers
    chosen = list(range(n_layers)) if layers is None else sorted(set(layers))
    beyond = [layer for layer in chosen if not 0 <= layer < n_layers]
    if beyond:
        raise UsageError(
            f"There is no layer {beyond[0]}: the model has {n_layers}.",
            f"Choose one from 0 to {n_layers - 1}.",
        )
    return chosen


def _others(model: StoryModel, units: Sequence[Unit], rng: np.random.Generator) -> tuple[Component, ...]:
    """As many units of the same layers, none of these; nothing where a layer has too few."""
    n_units = model.cfg.n_heads if isinstance(units[0], HeadId) else model.cfg.d_mlp
    found: list[Component] = []
    for layer in sorted({unit.layer for unit in units}):
        own = [unit.index for unit in units if unit.layer == layer]
        rest = np.setdiff1d(np.arange(n_units), own)
        if len(rest) < len(own):
            return ()
        drawn = sorted(rng.choice(rest, len(own), replace=False).tolist())
        found += [type(units[0])(layer, index) for index in drawn]
    return tuple(found)
