"""A user's own label: attention from any word to the words of the story that carry it.

Any further list in a line of a JSONL story, one value a word, is probed like a built-in label.
"""

from __future__ import annotations

from tslens.probes.batch import TokenBatch
from tslens.probes.relation import RelationProbe
from tslens.probes.units import LabelNeeds, UnitPairs, every_earlier

LABEL_PREFIX = "label_"


class UserLabel(RelationProbe):
    """From every word to all earlier words whose value of a label is not empty, false or 0.

    Like words are all words without the label, of the same part of speech.
    """

    served = "every prediction of a word"

    def __init__(self, label: str) -> None:
        self.label = label
        self.name = self.relation = f"{LABEL_PREFIX}{label}"
        self.description = f'looks at words with the label "{label}"'
        self.labels = LabelNeeds(scheme=True, users=(label,))

    def pairs(self, batch: TokenBatch) -> UnitPairs:
        """Each word and every earlier word with the label."""
        return every_earlier(batch.units.is_word, batch.marked[self.label])
