"""Protagonist: attention from any word to mentions of the protagonist, against other characters and things.

Source: Eldan and Li 2023, section 5.1 (names) and 5.2 (the main character).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from tslens.probes.batch import TokenBatch
from tslens.probes.name import names_or_pronouns_next
from tslens.probes.relation import RelationProbe


class Protagonist(RelationProbe):
    """From every word to all earlier mentions of the protagonist: names, nouns, pronouns.

    A mention stands against units of its own part of speech: a name against other names.
    """

    name = "protagonist"
    description = "looks at mentions of the protagonist"
    served = "the prediction of a name or pronoun"
    cost = 110.0
    relation = "protagonist"

    def serves(self, batch: TokenBatch) -> Bool[np.ndarray, "row pos"]:
        """Where the next token begins a name or a pronoun."""
        return names_or_pronouns_next(batch)


PROBE = Protagonist()
