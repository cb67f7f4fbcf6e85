"""What ``tslens link`` ablates: every head, attention and MLP, and all components of each role that is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tslens.cli.ablate_groups import newest
from tslens.cli.console import say
from tslens.errors import DataError
from tslens.link.groups import (
    Group,
    Unit,
    every_head,
    every_layer,
    heads_of_roles,
    neurons_of_roles,
    role_groups,
)
from tslens.model.load import ModelSource
from tslens.model.story_model import StoryModel
from tslens.probes.neurons.results import SCHEMA as NEURONS_SCHEMA
from tslens.probes.neurons.results import load_neuron_roles
from tslens.probes.results import SCHEMA as HEADS_SCHEMA
from tslens.probes.results import load_head_scores

FEWEST = 2  # components of a role: one alone is a component already


def map_groups(
    model: StoryModel, source: ModelSource, roles: Sequence[Path], *, seed: int
) -> tuple[list[Group], dict[str, list[str]]]:
    """The groups, and the components of each role.

    ``roles``: files of ``tslens heads`` or ``tslens neurons``; without them the newest results of the model. Roles
    with the same components are one group. Raises DataError for a file of something else.
    """
    files = list(roles) or [
        path
        for kind, schema in (("heads", HEADS_SCHEMA), ("neurons", NEURONS_SCHEMA))
        if (path := newest(source.home.results(kind), schema, source.path.name)) is not None
    ]
    groups = [*every_head(model), *every_layer(model)]
    members: dict[str, list[str]] = {}
    for path in files:
        kind, found = _read_roles(path)
        of_role = {name: units for name, units in found.items() if len(units) >= FEWEST}
        named = [
            replace(group, name=group.name.replace("role:", f"{kind}:"), like=())
            for group in role_groups(model, of_role, seed=seed, n_like=0)
        ]
        groups += _distinct(named)
        members |= {group.name: [str(one) for one in group.draws[0]] for group in _distinct(named)}
        say(f"roles: {len(_distinct(named))} of {kind} in {path}")
    if not files:
        say("roles: none; tslens heads and tslens neurons find them")
    return groups, members


def _read_roles(path: Path) -> tuple[str, Mapping[str, Sequence[Unit]]]:
    try:
        return "heads", heads_of_roles(load_head_scores(path)[1])
    except DataError as no_heads:
        try:
            return "neurons", neurons_of_roles(load_neuron_roles(path)[1])
        except DataError:
            raise no_heads from None


def _distinct(groups: Sequence[Group]) -> list[Group]:
    """One of those with the same components, with all their names."""
    of_set: dict[tuple[object, ...], list[Group]] = {}
    for group in groups:
        of_set.setdefault(group.draws[0], []).append(group)
    return [
        replace(same[0], name="+".join([same[0].name, *(one.name.partition(":")[2] for one in same[1:])]))
        for same in of_set.values()
    ]
