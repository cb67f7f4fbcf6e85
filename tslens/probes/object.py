"""Object: attention from the later words of a clause to its direct object.

Source: Clark et al. 2019, turned round: the object comes before the words that may need it.
"""

from __future__ import annotations

from tslens.probes.relation import RelationProbe


class Object(RelationProbe):
    """From every word of a clause behind its direct object to the head word of that object."""

    name = "object"
    description = "looks from the rest of a clause at its object"
    served = "predictions inside a clause behind its object"
    cost = 1.0
    relation = "object"


PROBE = Object()
