"""Open quote: attention from words in direct speech to the mark that opened it.

Source: Clark et al. 2019 and Voita et al. 2019 describe heads that track delimiters; the relation is ours.
"""

from __future__ import annotations

from tslens.probes.relation import RelationProbe


class Quote(RelationProbe):
    """From every word inside direct speech to its opening mark. Like units are other marks that close no sentence."""

    name = "quote"
    description = "looks from inside direct speech at the mark that opened it"
    served = "every prediction inside direct speech"
    cost = 1.1
    relation = "quote"
    stand_ins = frozenset({"PUNCT"})


PROBE = Quote()
