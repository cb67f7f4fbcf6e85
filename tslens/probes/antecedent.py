"""Antecedent: attention from a pronoun to what it stands for.

Source: Clark et al. 2019 (coreference head).
"""

from __future__ import annotations

from tslens.probes.relation import RelationProbe


class Antecedent(RelationProbe):
    """From a third-person pronoun to the nearest earlier mention of the same character or thing that is no pronoun.

    Like words are other names and nouns: what the pronoun could have stood for.
    """

    name = "antecedent"
    description = "looks from a pronoun at what it stands for"
    served = "the prediction of the pronoun, and of what follows it"
    cost = 1.8
    relation = "antecedent"
    stand_ins = frozenset({"PROPN", "NOUN"})


PROBE = Antecedent()
