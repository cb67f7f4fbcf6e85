"""Action: attention from the object of a clause to the verb that acts on it.

Source: Clark et al. 2019 (direct objects attend to their verbs).
"""

from __future__ import annotations

from tslens.probes.relation import RelationProbe


class Action(RelationProbe):
    """From the head word of a direct object to the main verb of its clause."""

    name = "action"
    description = "looks from an object at the verb of its clause"
    served = "the prediction of the object, and of what follows it"
    cost = 0.5
    relation = "action"


PROBE = Action()
