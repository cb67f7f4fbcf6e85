"""Subject: attention from the verb of a clause to the subject of that clause.

Source: Eldan and Li 2023, section 5.1, name a head for "the subject of the sentence"; Clark et al. 2019 score such
relations.
"""

from __future__ import annotations

from tslens.probes.relation import RelationProbe


class Subject(RelationProbe):
    """From the main verb of a clause to the head word of its subject."""

    name = "subject"
    description = "looks from a verb at the subject of its clause"
    served = "the prediction of the verb, and of what follows it"
    cost = 0.7
    relation = "subject"


PROBE = Subject()
