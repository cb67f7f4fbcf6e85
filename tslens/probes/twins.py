"""Random twins of a model: what attention looks like where nothing was learned.

``fresh``: the initialisation that training starts from, another seed; of a foreign model, the one that transformers
gives its architecture. ``redrawn``: every tensor drawn from a normal distribution with the trained tensor's mean and
deviation, so that scales are those of the trained model. Of these there are more: a redrawn head looks at a few tokens
that it likes for no reason, and where one of them is frequent, the head seems to have a role.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from tslens.model.story_model import StoryModel, TwinKind

N_TWINS: Mapping[TwinKind, int] = MappingProxyType({"fresh": 1, "redrawn": 16})
FIRST_SEED = (
    1_000_003  # beyond the seeds that people train with: a twin must not be the model's own initialisation
)


def random_twins(model: StoryModel, *, seed: int) -> Iterator[StoryModel]:
    """All twins, one after the other, on the device of the model."""
    kinds = [kind for kind, n in N_TWINS.items() for _ in range(n)]
    for index, kind in enumerate(kinds):
        yield model.random_twin(kind, seed=FIRST_SEED + len(kinds) * seed + index)
