"""Random twins of a model: what attention looks like where nothing was learned.

``fresh``: the initialisation that training starts from, another seed; of a foreign model, the one that transformers
gives its architecture. ``redrawn``: every tensor drawn from a normal distribution with the trained tensor's mean and
deviation, so that scales are those of the trained model.
"""

from __future__ import annotations

from tslens.model.story_model import StoryModel

FIRST_SEED = (
    1_000_003  # beyond the seeds that people train with: a twin must not be the model's own initialisation
)


def random_twins(model: StoryModel, *, seed: int) -> dict[str, StoryModel]:
    """Both twins, on the device of the model."""
    return {
        "fresh": model.random_twin("fresh", seed=FIRST_SEED + 2 * seed),
        "redrawn": model.random_twin("redrawn", seed=FIRST_SEED + 2 * seed + 1),
    }
