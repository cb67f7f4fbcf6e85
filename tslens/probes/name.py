"""Name: attention from any word to the nearest earlier name.

Source: Eldan and Li 2023, section 5.1: one head where most words attend to the names.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from tslens.probes.batch import TokenBatch
from tslens.probes.relation import RelationProbe, next_token, pieces_of
from tslens.probes.units import KIND


class Name(RelationProbe):
    """From every word to the last name before it. Like words are nouns that are no names.

    Other names stand for nothing: a head that looks at all names has this role.
    """

    name = "name"
    description = "looks at the last name"
    served = "the prediction of a name or pronoun"
    cost = 18.0
    relation = "name"
    stand_ins = frozenset({"NOUN"})

    def serves(self, batch: TokenBatch) -> Bool[np.ndarray, "row pos"]:
        """Where the next token begins a name or a pronoun."""
        return names_or_pronouns_next(batch)


def names_or_pronouns_next(batch: TokenBatch) -> Bool[np.ndarray, "row pos"]:
    """Positions whose next token begins a name or a pronoun."""
    kinds = np.isin(batch.units.kind, (KIND["PROPN"], KIND["PRON"]))
    return batch.is_query & next_token(pieces_of(kinds, batch))


PROBE = Name()
