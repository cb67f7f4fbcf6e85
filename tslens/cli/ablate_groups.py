"""What ``tslens ablate`` ablates: its options, and the files of roles that other commands have left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tslens.cli.console import say
from tslens.errors import DataError, UsageError
from tslens.link.groups import (
    Group,
    every_head,
    every_layer,
    every_neuron,
    heads_of_roles,
    neurons_of_roles,
    random_share,
    role_groups,
)
from tslens.model.load import ModelSource
from tslens.model.story_model import StoryModel
from tslens.probes.neurons.results import SCHEMA as NEURONS_SCHEMA
from tslens.probes.neurons.results import load_neuron_roles
from tslens.probes.results import SCHEMA as HEADS_SCHEMA
from tslens.probes.results import load_head_scores
from tslens.reading import first_line, parse_json

Components = Literal["heads", "mlps", "neurons"]
N_STORIES = 500
N_STORIES_ROLES = 100  # of neurons: dozens of roles, each with random groups beside it
N_STORIES_SINGLE_NEURONS = 50  # of a layer, every neuron by itself: hundreds of interventions


@dataclass(frozen=True)
class Asked:
    """What was asked for. ``roles``: a file of roles; None: the newest results of the model."""

    components: Components | None
    layers: Sequence[int]
    neuron_fraction: float | None
    draws: int
    roles: Path | None

    def __post_init__(self) -> None:
        if self.neuron_fraction is not None and self.components in ("heads", "mlps"):
            raise UsageError(
                f"--neuron-fraction is of neurons, not of {self.components}.", "Leave out --components."
            )
        if self.roles is not None and (self.layers or self.what in ("mlps", "share")):
            raise UsageError(
                "--roles is for whole roles of heads or neurons.",
                "Give it with --components heads or neurons, and without --layer.",
            )

    @property
    def what(self) -> Literal["heads", "mlps", "neurons", "share"]:
        """What is ablated; a layer alone is ablated whole."""
        if self.neuron_fraction is not None:
            return "share"
        return self.components or ("mlps" if self.layers else "heads")

    @property
    def n_stories(self) -> int:
        """Stories that are read where no number is given."""
        if self.what == "neurons":
            return N_STORIES_SINGLE_NEURONS if self.layers else N_STORIES_ROLES
        return N_STORIES

    @property
    def name(self) -> str:
        """For the file of results."""
        share = f"{self.neuron_fraction:g}x{self.draws}" if self.neuron_fraction is not None else ""
        return f"_{self.what}{share}" + "".join(f"_L{layer}" for layer in sorted(set(self.layers)))


def choose_groups(asked: Asked, model: StoryModel, source: ModelSource, *, seed: int) -> list[Group]:
    """The groups; what was taken from a file of roles is said.

    Raises UsageError for a layer that the model lacks, for a share that is none, or where neurons are asked for and
    there is neither a layer nor a file of roles; DataError for a file that holds none.
    """
    layers = list(asked.layers) or None
    if asked.neuron_fraction is not None:
        return [random_share(model, asked.neuron_fraction, seed=seed, layers=layers, n_draws=asked.draws)]
    if asked.what == "mlps":
        return every_layer(model, layers)
    if asked.what == "neurons":
        if layers:
            return every_neuron(model, layers)
        path = asked.roles or newest(source.home.results("neurons"), NEURONS_SCHEMA, source.path.name)
        if path is None:
            raise UsageError(
                "There are no roles of this model's neurons yet.",
                "Find them with: tslens neurons; or ablate every neuron of a layer with --layer.",
            )
        neurons = neurons_of_roles(load_neuron_roles(path)[1])
        _say_roles(path, len(neurons), asked=True)
        return role_groups(model, neurons, seed=seed)
    found = every_head(model, layers)
    path = asked.roles or newest(source.home.results("heads"), HEADS_SCHEMA, source.path.name)
    if layers is None and path is not None:
        heads = heads_of_roles(load_head_scores(path)[1])
        _say_roles(path, len(heads), asked=asked.roles is not None)
        found += role_groups(model, heads, seed=seed)
    return found


def newest(folder: Path, schema: str, checkpoint: str) -> Path | None:
    """The newest file of a schema that was made of a checkpoint, None where there is none."""
    paths = sorted(folder.glob("*.jsonl"), key=lambda path: path.stat().st_mtime, reverse=True)
    return next((path for path in paths if _is_of(path, schema, checkpoint)), None)


def _is_of(path: Path, schema: str, checkpoint: str) -> bool:
    try:
        header = parse_json(first_line(path))
    except (OSError, ValueError):
        return False
    return isinstance(header, dict) and (header.get("schema"), header.get("checkpoint")) == (
        schema,
        checkpoint,
    )


def _say_roles(path: Path, n_roles: int, *, asked: bool) -> None:
    """``asked``: whether roles are all that is ablated, or a user named the file; then it must hold one."""
    if asked and not n_roles:
        raise DataError(f"{path} holds no role and no candidate.", "Ablate single components instead.")
    say(f"roles: {n_roles} of {path}")
