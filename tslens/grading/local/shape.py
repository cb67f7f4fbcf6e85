"""Evidence on the whole: repetition, the order of sentences, an ending, what comes back.

Values are rates or means; none grows with the length of a text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from tslens.corpus.check_features import has_feature
from tslens.grading.local.order import OrderModel
from tslens.grading.local.read import GradedReading

MOST_SENTENCES = 100  # of which the order is looked at
ALIKE = 0.7  # share of words that two sentences have in common
_CLOSING = re.compile(r"[.!?…][\"”’')*]*$")
_QUOTES = frozenset("\"”’'")
_OPENS = re.compile(r"^\W*(?:once upon a time|once there|one day|one sunny|there once)", re.IGNORECASE)
_CLOSES = re.compile(r"the end|ever after|from that day|from then on|the moral of", re.IGNORECASE)


def repetition(reading: GradedReading) -> Mapping[str, float]:
    """Sentences said again, words and runs of words used again."""
    sentences = [tuple(w for w in _words(reading, units)) for units in reading.units_of]
    own = [s for s in reading.own_sentences if len(sentences[s]) >= 3]
    exact, alike = 0, 0
    for sentence in own:
        earlier = [other for other in sentences[:sentence] if len(other) >= 3]
        exact += sentences[sentence] in earlier
        alike += any(_overlap(sentences[sentence], other) >= ALIKE for other in earlier)
    words = [word for s in reading.own_sentences for word in _words(reading, reading.own_units_of(s))]
    trigrams = list(zip(words, words[1:], words[2:], strict=False))
    seconds = [sentences[s][:2] for s in own]
    inside = [_repeats_inside(sentences[s]) for s in own]
    return {
        "sentences said again": exact / max(len(own), 1),
        "sentences nearly said again": alike / max(len(own), 1),
        "triples of words used again": 1 - len(set(trigrams)) / max(len(trigrams), 1) if trigrams else 0.0,
        "longest run used again": _longest_again(words) / max(len(words), 1),
        "sentences that begin alike": _mean([float(a == b) for a, b in pairwise(seconds)]),
        "words used again in a sentence": _mean(inside),
    }


def order(reading: GradedReading, model: OrderModel) -> Mapping[str, float]:
    """Whether each sentence stands where it belongs and follows the one before it."""
    ids = [reading.ids[units] for units in reading.units_of if units][:MOST_SENTENCES]
    n, first = len(ids), min(reading.own_sentences, default=0)
    if n < 3:
        return dict.fromkeys(
            (
                "sentences follow",
                "sentences follow, the worst quarter",
                "order beside any order",
                "places as they should be",
                "misplaced sentences",
                "place of the last sentence",
                "openings inside",
                "closings inside",
                "things new after they were known",
            ),
            0.0,
        )
    logits = model.follows(ids)
    beside = np.array([logits[i, i + 1] for i in range(min(max(first - 1, 0), n - 2), n - 1)])
    others = logits[~np.eye(n, dtype=bool)]
    places = model.places(ids)
    even = np.linspace(0, 1, n)
    slips = np.abs(np.argsort(np.argsort(places)) / (n - 1) - even)
    texts = [reading.sentence_text(s) for s in reading.own_sentences]
    return {
        "sentences follow": float(beside.mean()),
        "sentences follow, the worst quarter": float(np.sort(beside)[: max(1, len(beside) // 4)].mean()),
        "order beside any order": float((beside.mean() - others.mean()) / (others.std() + 0.1)),
        "places as they should be": float(np.corrcoef(places, even)[0, 1]) if places.std() > 1e-6 else 0.0,
        "misplaced sentences": float(np.mean(slips > 0.4)),
        "place of the last sentence": float(places[-1]),
        "openings inside": _mean([float(bool(_OPENS.search(t))) for t in texts[max(1, len(texts) // 2) :]]),
        "closings inside": _mean([float(bool(_CLOSES.search(t))) for t in texts[: -max(1, len(texts) // 3)]]),
        "things new after they were known": _new_after_known(reading),
    }


def ending(reading: GradedReading, model: OrderModel) -> Mapping[str, float]:
    """Whether the text comes to an end: closed, with last sentences as stories have them."""
    ids = [reading.ids[units] for units in reading.units_of if units]
    places = model.places(ids[-3:])
    text = reading.text.rstrip()
    last = reading.sentence_text(len(reading.sentences) - 1)
    return {
        "closed by a mark": float(bool(_CLOSING.search(text))),
        "last sentences sound like an end": float(places.mean()),
        "last sentence sounds like an end": float(places[-1]),
        "last sentence is one that ends stories": model.ends(ids[-1]),
        "one of the last sentences ends stories": max(model.ends(one) for one in ids[-2:]),
        "speech is open at the end": float(
            reading.labels.quote[-1] >= 0 and reading.words[-1] not in _QUOTES
        ),
        "closing words": float(bool(_CLOSES.search(last))),
        "ends well or badly": float(has_feature("happy_ending", text) or has_feature("bad_ending", text)),
        "a moral": float(has_feature("moral_value", text)),
    }


def cohesion(reading: GradedReading, model: OrderModel) -> Mapping[str, float]:
    """Words of the beginning that come back, of each sentence in the next, and sentences that belong to the story."""
    sets = reading.lemma_sets
    own = reading.own_sentences
    prompt = frozenset().union(*(sets[s] for s in range(len(sets)) if s not in own))
    told = frozenset().union(*(sets[s] for s in own))
    half = max(1, len(sets) // 2)
    early, late = frozenset().union(*sets[:half]), frozenset().union(*sets[half:])
    near = [_jaccard(sets[s - 1], sets[s]) for s in own if s]
    nouns = Counter(
        reading.labels.lemma[unit] for unit in range(len(reading.units)) if reading.labels.pos[unit] == "NOUN"
    )
    own_nouns = {reading.labels.lemma[unit] for unit in reading.own if reading.labels.pos[unit] == "NOUN"}
    topics = set(reading.labels.topics)
    n_begin = reading.first if reading.first >= 5 else sum(len(units) for units in reading.units_of[:2])
    later = [
        reading.ids[units]
        for s in own
        if len(units := [unit for unit in reading.own_units_of(s) if unit >= n_begin]) >= 3
    ]
    belongs = [model.belongs(reading.ids[:n_begin], ids) for ids in later]
    half_own = max(1, len(own) // 2)
    first_half = frozenset().union(*(sets[s] for s in own[:half_own]))
    second_half = frozenset().union(*(sets[s] for s in own[half_own:]))
    return {
        "sentences belong to the beginning": _mean(belongs),
        "sentences belong to the beginning, the least": min(belongs, default=0.0),
        "first sentence belongs to the beginning": belongs[0] if belongs else 0.0,
        "words new in the second half": len(second_half - first_half) / max(len(second_half), 1),
        "triples of words of the beginning": _taken(reading),
        "words of the beginning that come back": len(prompt & told) / len(prompt) if prompt else 0.0,
        "words of the first half in the second": len(early & late) / max(len(late), 1),
        "words of the sentence before": _mean(near),
        "nouns that come back": sum(nouns[noun] > 1 for noun in own_nouns) / max(len(own_nouns), 1),
        "nouns out of nowhere, a sentence": sum(nouns[n] == 1 for n in own_nouns) / max(len(own), 1),
        "topics in the last sentences": float(bool(topics & frozenset().union(*sets[-3:])))
        if topics
        else 0.0,
    }


def _taken(reading: GradedReading) -> float:
    """Share of the triples of words that the beginning has, too."""
    words = [word if word[0].isalnum() else "" for word in reading.words]
    triples = list(zip(words, words[1:], words[2:], strict=False))
    cut = max(reading.first - 2, 0)
    known = set(triples[:cut])
    own = triples[reading.first :]
    return sum(triple in known for triple in own) / max(len(own), 1)


def _words(reading: GradedReading, units: Sequence[int]) -> list[str]:
    return [reading.words[unit] for unit in units if reading.words[unit][0].isalnum()]


def _overlap(one: Sequence[str], other: Sequence[str]) -> float:
    a, b = Counter(one), Counter(other)
    return sum((a & b).values()) / max(len(one), len(other), 1)


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / max(len(one | other), 1)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0


def _repeats_inside(words: Sequence[str]) -> float:
    """Share of longer words of a sentence that it uses again."""
    long = [word for word in words if len(word) > 3]
    return 1 - len(set(long)) / len(long) if long else 0.0


def _longest_again(words: Sequence[str]) -> int:
    """Words in the longest run that the text has twice, runs beside themselves counted too; 0 below four."""
    low, high = 3, len(words) // 2
    while low < high:
        middle = (low + high + 1) // 2
        runs = [tuple(words[i : i + middle]) for i in range(len(words) - middle + 1)]
        if len(set(runs)) < len(runs):
            low = middle
        else:
            high = middle - 1
    return low if low > 3 else 0


def _new_after_known(reading: GradedReading) -> float:
    """Nouns, of those with "a", that "the" was said of before."""
    known: set[str] = set()
    found = n = 0
    for unit in range(1, len(reading.units)):
        if reading.labels.pos[unit] != "NOUN":
            continue
        before = reading.words[max(0, unit - 2) : unit]
        if "the" in before:
            known.add(reading.labels.lemma[unit])
        elif ("a" in before or "an" in before) and unit >= reading.first:
            n += 1
            found += reading.labels.lemma[unit] in known
    return found / max(n, 1)
