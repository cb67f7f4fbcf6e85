"""What ``tslens link`` ablates: every head, attention and MLP, and all components of each role that is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from tslens.causal.ablation import check_component
from tslens.cli.ablate_groups import newest
from tslens.cli.console import say
from tslens.errors import DataError, UsageError
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
    with the same components are one group. Raises DataError for a file of something else, UsageError for a component
    that the model lacks, or where two files name the same role.
    """
    hookable: Any = model
    files = list(roles) or [
        path
        for kind, schema in (("heads", HEADS_SCHEMA), ("neurons", NEURONS_SCHEMA))
        if (path := newest(source.home.results(kind), schema, source.path.name)) is not None
    ]
    groups = [*every_head(model), *every_layer(model)]
    members: dict[str, list[str]] = {}
    for path in files:
        kind, found, header = _read_roles(path)
        if header.get("model") != source.label:
            raise UsageError(
                f"{path} has roles of {header.get('model')}, not of {source.label}.",
                "Give the roles of this model.",
            )
        for unit in chain.from_iterable(found.values()):
            check_component(hookable, unit)  # before anything is read
        of_role = {name: units for name, units in found.items() if len(units) >= FEWEST}
        named = [
            replace(group, name=group.name.replace("role:", f"{kind}:"))
            for group in role_groups(model, of_role, seed=seed, n_like=0)
        ]
        distinct = _distinct(named)
        twice = [group.name for group in distinct if group.name in members]
        if twice:
            raise UsageError(
                f"{path} has roles of another file, as {twice[0]}.", "Give one file of each kind."
            )
        groups += distinct
        members |= {group.name: [str(one) for one in group.draws[0]] for group in distinct}
        say(f"roles: {len(distinct)} of {kind} in {path}")
    if not files:
        say("roles: none; tslens heads and tslens neurons find them")
    return groups, members


def _read_roles(path: Path) -> tuple[str, Mapping[str, Sequence[Unit]], Mapping[str, Any]]:
    try:
        header, scores = load_head_scores(path)
        return "heads", heads_of_roles(scores), header
    except DataError as no_heads:
        try:
            header, rows = load_neuron_roles(path)
            return "neurons", neurons_of_roles(rows), header
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
