"""Topic: attention from any word to earlier topic nouns, and the paper's own case, from "the" or "a".

Source: Eldan and Li 2023, section 5.1: heads where "the" and "a" attend to "banana" or to "park".
"""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
from jaxtyping import Bool

from tslens.probes.batch import TokenBatch
from tslens.probes.relation import RelationProbe, next_token, pieces_of


class Topic(RelationProbe):
    """From every word to all earlier topic nouns of the story. Like words are other nouns."""

    name = "topic"
    description = "looks at the nouns that the story is about"
    served = "the prediction of a topic noun"
    cost = 56.0
    relation = "topic"

    def serves(self, batch: TokenBatch) -> Bool[np.ndarray, "row pos"]:
        """Where the next token begins a topic noun."""
        topics = np.zeros(batch.units.kind.shape, dtype=bool)
        pairs = batch.relations["topic"]
        topics[pairs.row, pairs.key] = True
        return batch.is_query & next_token(pieces_of(topics, batch))


class TopicDeterminer(Topic):
    """The same from "the", "a" and "an" only: what will the determiner's noun be?"""

    name = "topic_determiner"
    description = 'looks from "the" and "a" at the nouns that the story is about'
    served = "the prediction of a topic noun after a determiner"
    cost = 2.4
    relation = "topic_determiner"
    positions = ("word",)
    parts = MappingProxyType({"next_noun": "topic_next"})


PROBES = (Topic(), TopicDeterminer())
