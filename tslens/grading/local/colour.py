"""Evidence on ideas and language: rare and varied words, speech, what happens, what is said as everybody says it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from tslens.corpus.check_features import has_feature
from tslens.grading.local.read import GradedReading

_JOINS = frozenset("because when while after before if so but although until as that who which".split())
_FEELS = frozenset(
    "happy sad angry scared excited proud surprised worried afraid curious brave lonely tired sorry glad love want "
    "wish hope think know remember wonder decide learn feel".split()
)


def colour(reading: GradedReading) -> Mapping[str, float]:
    """Words and sentences of the completion, and cues of what happens in it."""
    labels, own = reading.labels, reading.own
    words = [unit for unit in own if reading.words[unit][0].isalnum()]
    n = max(len(words), 1)
    content = [unit for unit in words if labels.pos[unit] in ("NOUN", "VERB", "ADJ", "ADV")]
    lemmas = {labels.lemma[unit] for unit in content}
    rarity = [-reading.table.log_unigram[reading.ids[unit]] for unit in content]
    seen = reading.table.order_seen(reading.ids)[list(own)]
    lengths = [len(reading.own_units_of(s)) for s in reading.own_sentences] or [0]
    told = {labels.lemma[unit] for unit in range(reading.first)}
    new = [-reading.table.log_unigram[reading.ids[u]] for u in content if labels.lemma[u] not in told]
    n_sentences = max(len(reading.own_sentences), 1)
    verbs = [labels.lemma[unit] for unit in words if labels.pos[unit] == "VERB"]
    text = reading.text[reading.start :]
    return {
        "rarity of the words": float(np.mean(rarity)) if rarity else 0.0,
        "rarity of the rarest words": float(np.mean(np.sort(rarity)[-max(1, len(rarity) // 5) :]))
        if rarity
        else 0.0,
        "rarity of the new words": float(np.mean(new)) if new else 0.0,
        "new words, a sentence": len(lemmas - told) / n_sentences,
        "different words": len(lemmas) / math.sqrt(n),
        "different verbs": len(set(verbs)) / math.sqrt(max(len(verbs), 1)),
        "adjectives": sum(labels.pos[unit] == "ADJ" for unit in words) / n,
        "adverbs": sum(labels.pos[unit] == "ADV" for unit in words) / n,
        "speech": sum(labels.quote[unit] >= 0 for unit in words) / n,
        "some speech": float(any(labels.quote[unit] >= 0 for unit in own)),
        "joined clauses": sum(reading.words[unit] in _JOINS for unit in words) / n,
        "thoughts and feelings": sum(labels.lemma[unit] in _FEELS for unit in words) / n,
        "runs of words that others used": float(np.mean(seen == 4)),
        "longest run that others used": math.log1p(_longest(seen == 4)),
        "words a sentence": float(np.mean(lengths)),
        "spread of the sentences": float(np.std(lengths)),
        "a twist": float(has_feature("twist", text)),
        "a conflict": float(has_feature("conflict", text)),
    }


def _longest(flags: np.ndarray) -> int:
    longest = run = 0
    for flag in flags:
        run = run + 1 if flag else 0
        longest = max(longest, run)
    return longest
