"""Which paths are asked about, which of them are tested, and what stands beside them.

Senders are components with a role, receivers heads with a role that is not one of distance: those look at places,
whatever is written there. See ``composition`` for the rest.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch

from tslens.link.composition.asked import Path, Receiver, Sender
from tslens.link.composition.effects import MeanEffect
from tslens.link.composition.paths import Controls, Input, Unit, random_rotations
from tslens.model.transformer import TinyTransformer
from tslens.probes.base import Probe
from tslens.probes.neurons.token_labels import TOKEN_LABELS
from tslens.probes.programs.roles import Role
from tslens.probes.programs.score import roles_of
from tslens.types import HeadId, HeadScore, NeuronId, NeuronRole

# Least effect beyond controls, written before any model was read: attention mass; of values, share of what is carried.
FLOORS: Mapping[Input, float] = {"q": 0.02, "k": 0.02, "v": 0.1}
ASKED_SENDERS = frozenset({"introduction", "protagonist"})  # neurons of the authors' guess
ASKED_RECEIVERS = frozenset({"name", "protagonist", "antecedent"})  # and probes of its heads
LOSS_CONTROLS = 5  # controls at which the loss is read too
LEAST_CONTROLS = 5  # of components without a role, below which directions are drawn
LEAST_STORIES = 10  # with such pairs, of either half
HELD = ("role", "candidate")


def kind_of(unit: Unit) -> Literal["neuron", "head"]:
    """What a component is."""
    return "neuron" if isinstance(unit, NeuronId) else "head"


class PairName(NamedTuple):
    """Two roles: of what sort the sender is, its role, and the receiver's probe."""

    kind: Literal["neuron", "head"]
    sender: str
    receiver: str

    @classmethod
    def of(cls, sender: Sender, receiver: Receiver) -> PairName:
        """Of a path."""
        return cls(kind_of(sender.units[0]), str(sender.role), receiver.role.probe)

    @property
    def is_asked(self) -> bool:
        """Whether the authors' guess names it."""
        return self.kind == "neuron" and self.sender in ASKED_SENDERS and self.receiver in ASKED_RECEIVERS


def senders_of(
    neurons: Sequence[NeuronRole],
    heads: Sequence[HeadScore],
    probes: Mapping[str, Probe],
    *,
    n_layers: int,
) -> list[Sender]:
    """Neurons with a role, by a label of the scheme; heads with the best of their roles; all of a role together.

    Together: for each layer those before it, where they are several.
    """
    role_of: dict[Unit, str | Role] = {
        one.neuron: one.role
        for one in neurons
        if one.status in HELD and one.role is not None and one.role in TOKEN_LABELS
    }
    role_of |= {head: role for head, role in roles_of(heads).items() if role.probe in probes}
    of_role: dict[str | Role, list[Unit]] = defaultdict(list)
    for unit, role in role_of.items():
        of_role[role].append(unit)
    together = [
        Sender(some, role, before)
        for role, units in of_role.items()
        for before in range(1, n_layers)
        if len(some := tuple(unit for unit in sorted(units) if unit.layer < before)) > 1
    ]
    return [Sender((unit,), role) for unit, role in role_of.items()] + together


def receivers_of(heads: Sequence[HeadScore], probes: Mapping[str, Probe]) -> list[Receiver]:
    """Heads with each of their roles but those of distance."""
    found = {
        Receiver(one.head, Role(one.probe, one.position))
        for one in heads
        if one.status in HELD and one.probe in probes and probes[one.probe].family != "positional"
    }
    return sorted(found, key=lambda one: (one.head, one.role))


def may_be_chosen(path: Path, found: MeanEffect) -> bool:
    """Whether its effect reaches the floor, or zero if the authors' guess names its pair, in stories enough."""
    least = 0.0 if PairName.of(path.sender, path.receiver).is_asked else FLOORS[path.input]
    return found.n_stories >= LEAST_STORIES and found.effect > least


def chosen_paths(everything: Mapping[Path, MeanEffect], most: int) -> list[Path]:
    """Paths to be tested: of each pair of roles and each input those of largest effect, single components and all."""
    of_pair: dict[tuple[PairName, Input, bool], list[Path]] = defaultdict(list)
    for path, found in everything.items():
        if may_be_chosen(path, found):
            pair = PairName.of(path.sender, path.receiver)
            of_pair[pair, path.input, path.sender.before is None].append(path)
    return [
        path
        for paths in of_pair.values()
        for path in sorted(paths, key=lambda path: -everything[path].effect)[:most]
    ]


class Pools:
    """What has no role, and the controls that are drawn of it, for equal senders once."""

    def __init__(
        self,
        model: TinyTransformer,
        neurons: Sequence[NeuronRole],
        heads: Sequence[HeadScore],
        n_controls: int,
        seed: int,
    ) -> None:
        self._d_model, self._n, self._seed = model.cfg.d_model, n_controls, seed
        with_role = {one.head for one in heads if one.status in HELD}
        every = {HeadId(layer, i) for layer in range(model.cfg.n_layers) for i in range(model.cfg.n_heads)}
        self._idle: dict[tuple[type, int], list[Unit]] = defaultdict(list)
        idle: list[Unit] = [one.neuron for one in neurons if one.status == "no"]
        for unit in [*idle, *sorted(every - with_role)]:
            self._idle[type(unit), unit.layer].append(unit)
        self._drawn: dict[tuple[Unit, ...], Controls] = {}

    def of(self, sender: Sender) -> Controls:
        """What stands beside a sender: no component twice. Directions where there are fewer than five such controls."""
        if sender.units not in self._drawn:
            wanted = Counter((type(unit), unit.layer) for unit in sender.units)
            n = min(self._n, *(len(self._idle[place]) // size for place, size in wanted.items()))
            seed = [self._seed, *(number for unit in sender.units for number in (unit.layer, unit.index))]
            if n >= LEAST_CONTROLS:
                rng = np.random.default_rng(seed)
                drawn = [
                    rng.permutation(len(self._idle[place]))[: n * size].reshape(n, size)
                    for place, size in wanted.items()
                ]
                groups = tuple(
                    tuple(
                        self._idle[place][i]
                        for place, lots in zip(wanted, drawn, strict=True)
                        for i in lots[control]
                    )
                    for control in range(n)
                )
                self._drawn[sender.units] = Controls(groups, torch.empty(0))
            else:
                lot = int(np.random.default_rng(seed).integers(2**62))
                turned = random_rotations(self._n, self._d_model, seed=lot)
                self._drawn[sender.units] = Controls((), turned)
        return self._drawn[sender.units]


def fewer(controls: Controls) -> Controls:
    """The first of them, for losses."""
    return Controls(controls.groups[:LOSS_CONTROLS], controls.rotations[:LOSS_CONTROLS])


def asked_pairs() -> list[PairName]:
    """Those of the authors' guess."""
    return [
        PairName("neuron", sender, receiver)
        for sender in sorted(ASKED_SENDERS)
        for receiver in sorted(ASKED_RECEIVERS)
    ]
