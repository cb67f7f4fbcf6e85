"""What candidates do at the places of the first stories, all held at once.

Axes: place (of all these stories), candidate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from tslens.model.story_model import StoryModel
from tslens.probes.batch import TokenBatch
from tslens.probes.production.classes import Classes
from tslens.probes.production.copying import moved_keys
from tslens.probes.production.direct import DirectReader
from tslens.probes.production.places import N_ALIKE, Places, joined
from tslens.probes.production.report import Produced
from tslens.stats import second_half


@dataclass(frozen=True)
class Seen:
    """What candidates do at the places of some stories.

    ``places``: their rows numbered through. ``clusters``: key of each story. ``does``: nats. ``holds``: the next token
    is in the candidate's class. ``strata``: which places are alike for the candidate. ``has_class``: whether its class
    is a part of speech or a word.
    """

    places: Places
    clusters: Sequence[int]
    does: Float[np.ndarray, "place candidate"]
    holds: Bool[np.ndarray, "place candidate"]
    strata: Int[np.ndarray, "place candidate"]
    has_class: Bool[np.ndarray, " candidate"]

    @property
    def half(self) -> Bool[np.ndarray, " place"]:
        """Whether a place is in the second half of the stories."""
        return np.array([second_half(key) for key in self.clusters], dtype=bool)[self.places.row]


def look(
    model: StoryModel,
    reader: DirectReader,
    classes: Classes,
    batches: Sequence[TokenBatch],
    places: Sequence[Places],
    asked: Sequence[Produced],
    seed: int,
) -> Seen:
    """Run the model over some stories. ``asked``: the candidates, in order."""
    column = {(one.kind, one.name): i for i, one in enumerate(classes.all)}
    number = torch.tensor([row.head.layer * model.cfg.n_heads + row.head.index for row in asked])
    which = torch.tensor([column.get((row.kind, row.name), len(classes)) for row in asked])
    does = [
        reader.read(batch.tokens, here, moved_keys(batch, seed))[0][:, number, which]
        for batch, here in zip(batches, places, strict=True)
    ]
    n_rows = [len(batch.length) for batch in batches]
    every = joined(places, n_rows)
    by_kind = (every.kind + 1) * N_ALIKE + every.alike
    holds = np.concatenate([classes.holds(every), every.seen[:, None]], 1)
    strata = np.concatenate([classes.strata(every), by_kind[:, None]], 1)
    return Seen(
        places=every,
        clusters=[key for batch in batches for key in batch.cluster],
        does=torch.cat(does).double().numpy(),
        holds=holds[:, which.numpy()],
        strata=strata[:, which.numpy()],
        has_class=which.numpy() < len(classes),
    )
