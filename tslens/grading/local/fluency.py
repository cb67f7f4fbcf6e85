"""Evidence on words and grammar: how likely the words are, and rules of verbs, articles, marks and quotes.

Every value is a rate or a mean over the completion alone, so that it does not grow with its length.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tslens.corpus.faults.verbs import find_agreement_sites, find_tense_sites, finite_form, tells_in_past
from tslens.corpus.vocabulary import article
from tslens.grading.local.read import GradedReading

UNLIKELY = -1.0  # nats of surplus below which the words of a sentence are in no known order
_WINDOW = 3  # units after a changed one whose probability it changes
_CLOSING = frozenset(".!?…")
_SINGULAR = frozenset(("he", "she", "it", "this", "that"))
_PLURAL = frozenset(("they", "we", "you", "these", "those"))
_DOUBLED = frozenset(
    ("the", "a", "an", "to", "of", "was", "were", "and", "he", "she", "it", "his", "her", "in")
)


def fluency(reading: GradedReading) -> Mapping[str, float]:
    """How likely the words of the completion are after those before them, by the table of real stories."""
    own = np.array(reading.own)
    surplus, seen = reading.surplus[own], reading.table.order_seen(reading.ids)[own]
    words = np.array([reading.words[unit][0].isalnum() for unit in own])
    known = np.array([not reading.table.words[reading.ids[unit]].startswith("<rare") for unit in own])
    of_sentence = [
        float(reading.surplus[units].mean())
        for sentence in reading.own_sentences
        if len(units := reading.own_units_of(sentence)) >= 3
    ] or [float(surplus.mean())]
    lowest = np.sort(of_sentence)
    quarter = lowest[: max(1, len(lowest) // 4)]
    return {
        "surplus of the words": float(surplus.mean()),
        "log probability of the words": float(reading.log_p[own].mean()),
        "surplus of the worst sentence": float(lowest[0]),
        "surplus of the worst quarter of sentences": float(quarter.mean()),
        "sentences in no known order": float(np.mean(lowest < UNLIKELY)),
        "pairs of words never seen": float(np.mean(seen == 1)),
        "pairs of words at odds": float(np.mean(np.minimum(surplus, 0.0))),
        "triples of words never seen": float(np.mean(seen <= 2)),
        "rare words": float(1 - known[words].mean()) if words.any() else 0.0,
        "least surplus where the student begins": float(reading.surplus[own[:6]].min())
        if reading.first
        else 0.0,
        "surplus of the first sentence": of_sentence[0],
        "surplus where the student begins": float(reading.surplus[own[:3]].mean()) if reading.first else 0.0,
    }


def grammar(reading: GradedReading) -> Mapping[str, float]:
    """Verbs at odds with number or tense, by rule and by what the table finds likelier; articles, doubled words."""
    own = set(reading.own)
    agreement = [site for site in find_agreement_sites(reading) if site[0] in own]
    forms = {
        unit: form
        for unit in reading.own
        if reading.labels.quote[unit] < 0 and (form := finite_form(reading, unit)) is not None
    }
    is_past = tells_in_past(reading)
    minor = [unit for unit, form in forms.items() if (form == "past") != is_past]
    tense = [site for site in find_tense_sites(reading) if site[0] in own]
    pairs = [
        unit for unit in reading.own if unit and reading.sentence_of[unit] == reading.sentence_of[unit - 1]
    ]
    n_sentences = max(len(reading.own_sentences), 1)
    return {
        "verbs at odds with their number": _share([_disagrees(reading, unit) for unit, _ in agreement]),
        "likelier in the other number": _mean_gain(reading, agreement),
        "verbs in the other tense": len(minor) / max(len(forms), 1),
        "verbs in the other tense, a sentence": len(minor) / n_sentences,
        "likelier in the other tense": _mean_gain(reading, tense),
        "wrong articles": _share([_wrong_article(reading, unit) for unit in pairs]),
        "doubled words": _share(
            [reading.words[u] == reading.words[u - 1] and reading.words[u] in _DOUBLED for u in pairs]
        ),
        "sentences without a verb": _share([_has_no_verb(reading, s) for s in reading.own_sentences]),
        "sentences without a capital": _share(
            [_has_no_capital(reading, s) for s in reading.own_sentences[1:]]
        ),
        "marks at odds": _share([_odd_mark(reading, unit) for unit in reading.own if unit]),
        "open quotes": float(
            reading.text.count('"') % 2 + reading.text.count("“") != reading.text.count("”")
        ),
    }


def _share(found: list[bool]) -> float:
    return sum(found) / max(len(found), 1)


def _mean_gain(reading: GradedReading, sites: list[tuple[int, str]]) -> float:
    """Mean over sites of how much likelier the text would be with the other word there, in nats; 0 where it is not."""
    if not sites:
        return 0.0
    table, gains = reading.table, []
    for unit, word in sites:
        low, high = max(0, unit - 3), min(len(reading.ids), unit + 1 + _WINDOW)
        other = reading.ids[low:high].copy()
        other[unit - low] = table.ids([word], [True])[0]
        held = slice(unit - low, None)
        before = table.log_probabilities(reading.ids[low:high])[held].sum()
        gains.append(max(0.0, float(table.log_probabilities(other)[held].sum() - before)))
    return float(np.mean(np.minimum(gains, 8.0)))


def _disagrees(reading: GradedReading, unit: int) -> bool:
    """Whether a finite verb has the number that its subject has not, where both show it."""
    clause = reading.clause_of(unit)
    if clause is None or clause.subject is None:
        return False
    subject = clause.subject
    word = reading.words[subject]
    joined = subject + 1 < len(reading.words) and reading.words[subject + 1] == "and"
    after = subject > 0 and reading.words[subject - 1] in ("and", "or")
    if word in _SINGULAR:
        is_plural = False
    elif word in _PLURAL or joined or after:
        is_plural = True
    elif reading.labels.pos[subject] == "PROPN":
        is_plural = False
    elif reading.labels.pos[subject] == "NOUN" and reading.labels.lemma[subject] != word:
        is_plural = True
    elif reading.labels.pos[subject] == "NOUN":
        is_plural = False
    else:
        return False
    stem = reading.words[unit].removesuffix("n't").removesuffix("n’t")
    if stem in ("was", "is", "has", "does"):
        return is_plural
    if stem in ("were", "are", "have", "do"):
        return not is_plural
    return is_plural if finite_form(reading, unit) == "third" else not is_plural


def _wrong_article(reading: GradedReading, unit: int) -> bool:
    before, word = reading.words[unit - 1], reading.words[unit]
    return before in ("a", "an") and word.isalpha() and article(word) != before


def _has_no_verb(reading: GradedReading, sentence: int) -> bool:
    units = reading.units_of[sentence]
    return len(units) >= 4 and not any(reading.labels.pos[unit] in ("VERB", "AUX") for unit in units)


def _has_no_capital(reading: GradedReading, sentence: int) -> bool:
    words = [unit for unit in reading.units_of[sentence] if reading.words[unit][0].isalpha()]
    return bool(words) and reading.surface(words[0])[0].islower()


def _odd_mark(reading: GradedReading, unit: int) -> bool:
    """A mark right after a mark that it cannot follow, as in ",." """
    mark, before = reading.words[unit], reading.words[unit - 1]
    return (mark in ",.!?" and before in ",;:") or (mark == "," and before in _CLOSING)
