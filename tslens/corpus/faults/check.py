"""Faults of a twin found again from the two texts, without the record of how it was made.

The twin is compared with the story sentence by sentence and, inside a sentence, unit by unit. Each kind has its own
check of what differs; a kind's check finds nothing in twins that differ in another way. The one exception lies in
the kinds themselves: where an ending is cut off, words that only stood there are gone, so that an instruction is
ignored as well; and where the last sentences are left out to ignore one, an ending is missing.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

from tslens.corpus.faults.twin import Twin
from tslens.corpus.vocabulary import analyses
from tslens.corpus.words import Span, find_sentences, find_units
from tslens.types import Labels

_NUMBER_PAIRS = [{"was", "were"}, {"is", "are"}, {"is", "am"}, {"am", "are"}, {"has", "have"}, {"does", "do"}]
_PAST = {"was": "be", "were": "be", "had": "have", "did": "do"}
_PRESENT = {"is": "be", "are": "be", "am": "be", "has": "have", "have": "have", "does": "do", "do": "do"}
_PRONOUNS = (
    frozenset(("he", "she", "it", "they")),
    frozenset(("him", "her", "it", "them")),
    frozenset(("his", "her", "its", "their")),
    frozenset(("his", "hers", "theirs")),
    frozenset(("himself", "herself", "itself", "themselves")),
)
_EXCHANGED = frozenset[str]().union(*_PRONOUNS, _PAST, _PRESENT)  # other faults can let these change places
_GONE = (
    "lose lost break broken broke tear torn smash crack snap rip give gone miss missing drop fall float "
    "fly sink slip vanish disappear blow roll steal leave away apart nowhere empty stop pop burst split "
    "bend not n't none wrong hole piece part half"
)
_GONE_CUES = frozenset(_GONE.split())
_EVENT_REACH = 5  # sentences between an event and the name of its object
_SUFFIXES = ("n't", "n’t", "'s", "’s", "'d", "’d", "'ll", "’ll", "'re", "’re", "'ve", "’ve")


def find_fault(
    kind: str, original: str, corrupted: str, labels: Labels, *, words: Sequence[str] | None = None
) -> list[Span]:
    """Places of one kind of fault in a twin, as characters of the twin; empty where it differs in another way.

    ``labels``: of the original. A place where something is gone is an empty span. For an ignored instruction there is
    a place for each of the requested ``words`` that the story has and the twin has in no form; without ``words`` any
    noun, verb and adjective of the story counts. Raises KeyError for an unknown kind.
    """
    return _CHECKS[kind](Twin(original, corrupted, labels, words))


# Words ------------------------------------------------------------------------------------------------------


def _changed_words(pair: Twin, is_fault: Callable[[Twin, int, str, str], bool]) -> list[Span]:
    """Words that differ, if nothing else does and every one of them is a fault of one kind."""
    found = []
    for unit, (start, end) in pair.exchanged or []:
        old_start, old_end = find_units(pair.original)[unit]
        if not is_fault(pair, unit, pair.original[old_start:old_end], pair.twin[start:end]):
            return []
        found.append((start, end))
    return found


def _bare(word: str) -> tuple[str, str]:
    """Word in small letters without "n't", "'s" and the like, and what was cut off."""
    word = word.lower().replace("’", "'")
    suffix = next((s for s in _SUFFIXES if word.endswith(s) and word != s), "")
    return word.removesuffix(suffix), suffix


def _forms(word: str) -> set[tuple[str, str]]:
    return {(lemma, form) for lemma, pos, form in analyses(word) if pos in ("VERB", "AUX")}


def _is_other_number(pair: Twin, unit: int, old: str, new: str) -> bool:
    (a, suffix), (b, other) = _bare(old), _bare(new)
    if suffix != other or pair.labels.pos[unit] not in ("VERB", "AUX"):
        return False
    if {a, b} in _NUMBER_PAIRS:
        return True
    return any(
        (lemma, {"third": "base", "base": "third"}.get(form)) in _forms(b) for lemma, form in _forms(a)
    )


def _is_other_tense(pair: Twin, unit: int, old: str, new: str) -> bool:
    (a, suffix), (b, other) = _bare(old), _bare(new)
    if suffix != other or pair.labels.pos[unit] not in ("VERB", "AUX") or a == b:
        return False
    for past, present in ((a, b), (b, a)):
        if past in _PAST:
            return _PAST[past] == _PRESENT.get(present)
        lemmas = {lemma for lemma, form in _forms(past) if form == "past"}
        if lemmas & {lemma for lemma, form in _forms(present) if form in ("third", "base")}:
            return True
    return False


def _is_other_name(pair: Twin, unit: int, old: str, new: str) -> bool:
    labels = pair.labels
    units = find_units(pair.original)
    (_, suffix), (name, other) = _bare(old), _bare(new)
    mine = labels.mention[unit]
    owners = {
        labels.mention[i]
        for i, (start, end) in enumerate(units)
        if labels.pos[i] == "PROPN" and _bare(pair.original[start:end])[0] == name
    }
    return (
        suffix == other and labels.pos[unit] == "PROPN" and mine >= 0 and bool(owners) and mine not in owners
    )


def _is_other_pronoun(pair: Twin, unit: int, old: str, new: str) -> bool:
    (a, suffix), (b, other) = _bare(old), _bare(new)
    return a != b and suffix == other and any({a, b} <= case for case in _PRONOUNS)


# Sentences --------------------------------------------------------------------------------------------------


def _shuffled(pair: Twin) -> list[Span]:
    """Sentences with the words of the story's sentence in that place, in another order."""
    if len(pair.old) != len(pair.new):
        return []
    found = []
    for old, new, span in zip(pair.old, pair.new, pair.new_spans, strict=True):
        if old != new:
            words = [[text[a:b].lower() for a, b in find_units(text)] for text in (old, new)]
            moved = {a for a, b in zip(*words, strict=False) if a != b}
            if sorted(words[0]) != sorted(words[1]) or moved <= pair.names | _EXCHANGED:
                return []
            found.append(span)
    return found


def _repeated(pair: Twin) -> list[Span]:
    known = set(pair.old)
    if pair.n_missing or not pair.keeps_order or any(pair.new[i] not in known for i in pair.inserted):
        return []
    return [pair.new_spans[index] for index in pair.inserted]


def _moved(pair: Twin) -> list[Span]:
    """The smallest number of sentences whose moves give the twin, where both have the same sentences."""
    if pair.n_missing or pair.inserted:
        return []
    places: dict[str, list[int]] = {}
    for index, sentence in enumerate(pair.old):
        places.setdefault(sentence, []).append(index)
    order = [places[sentence].pop(0) for sentence in pair.new]
    kept = _longest_rise(order)
    return [span for index, span in enumerate(pair.new_spans) if index not in kept]


def _longest_rise(order: Sequence[int]) -> set[int]:
    """Positions of a longest rising subsequence."""
    rises: list[list[int]] = []  # a longest one that ends at each position
    for index, value in enumerate(order):
        longest: list[int] = []
        for rise in rises:
            if order[rise[-1]] < value and len(rise) > len(longest):
                longest = rise
        rises.append([*longest, index])
    found: list[int] = max(rises, key=len, default=[])
    return set(found)


def _cut_off(pair: Twin) -> list[Span]:
    end = len(pair.twin)
    is_cut = pair.original.startswith(pair.twin) and len(pair.original[end:].strip()) > 0
    return [(end, end)] if is_cut else []


def _came_back(pair: Twin) -> list[Span]:
    """New sentences about a noun that the story's words tell to be lost, broken or given away."""
    if pair.n_missing or not pair.keeps_order or any(pair.new[i] in pair.old for i in pair.inserted):
        return []
    units = find_units(pair.original)
    words = [pair.original[start:end].lower() for start, end in units]
    sentence_of = _sentence_of_units(pair.original)
    last = max(sentence_of, default=0)
    cues = [
        any(
            words[i] in _GONE_CUES or pair.labels.lemma[i] in _GONE_CUES or _bare(words[i])[1] in ("n't",)
            for i in range(len(words))
            if sentence_of[i] == sentence
        )
        for sentence in range(last + 1)
    ]
    gone = {
        words[i]
        for i in range(len(words))
        if (pair.labels.pos[i] == "NOUN" or any(pos == "NOUN" for _, pos, _ in analyses(words[i])))
        and any(cues[max(0, sentence_of[i] - _EVENT_REACH) : sentence_of[i] + _EVENT_REACH + 1])
    }
    found = []
    for index in pair.inserted:
        said = pair.new[index]
        mine = [said[start:end].lower() for start, end in find_units(said)]
        if not any(
            word == "the" and gone.intersection(mine[at + 1 : at + 3]) for at, word in enumerate(mine)
        ):
            return []
        found.append(pair.new_spans[index])
    return found


def _sentence_of_units(text: str) -> list[int]:
    ends = [sentence.end for sentence in find_sentences(text)]
    return [next(i for i, end in enumerate(ends) if start < end) for start, _ in find_units(text)]


def _words_gone(pair: Twin) -> list[Span]:
    """Where the first use of each word stood that the twin has in no form; nothing where sentences were added."""
    if len(pair.new) > len(pair.old) or (pair.inserted and _is_word_fault(pair)):
        return []
    units, new_units = find_units(pair.original), find_units(pair.twin)
    words = [pair.original[start:end].lower() for start, end in units]
    new_words = [pair.twin[start:end].lower() for start, end in new_units]
    known: dict[str, set[str]] = {}
    for word, lemma in zip(words, pair.labels.lemma, strict=True):
        known.setdefault(word, set()).add(lemma)
    left = {lemma for word in set(new_words) for lemma in _lemmas(word) | known.get(word, set())}
    requested = None if pair.requested is None else {word.lower() for word in pair.requested}
    matcher = difflib.SequenceMatcher(None, words, new_words, autojunk=False)
    changes = [(a, b) for tag, a, _, b, _ in matcher.get_opcodes() if tag != "equal"]
    found: list[Span] = []
    seen: set[str] = set()
    for unit, word in enumerate(words):
        if requested is None:
            is_content = pair.labels.pos[unit] in ("NOUN", "VERB", "ADJ")
            mine = {pair.labels.lemma[unit]} if is_content else set()
        else:
            mine = requested & {pair.labels.lemma[unit], *_lemmas(word)}
        for lemma in sorted(mine - seen - left):
            seen.add(lemma)
            new = max((b for a, b in changes if a <= unit), default=0)
            place = new_units[new][0] if new < len(new_units) else len(pair.twin)
            found.append((place, place))
    return found


def _lemmas(word: str) -> set[str]:
    """A word and all that it can be a form of."""
    bare = _bare(word)[0]
    return {word, bare} | {lemma for lemma, _, _ in analyses(bare)}


def _is_word_fault(pair: Twin) -> bool:
    """Whether the twin has another fault that changes the form or the place of words."""
    faults = (_is_other_number, _is_other_tense, _is_other_name, _is_other_pronoun)
    return any(_changed_words(pair, fault) for fault in faults) or bool(_shuffled(pair))


_CHECKS: dict[str, Callable[[Twin], list[Span]]] = {
    "word_order": _shuffled,
    "agreement": lambda pair: _changed_words(pair, _is_other_number),
    "tense": lambda pair: _changed_words(pair, _is_other_tense),
    "swapped_names": lambda pair: _changed_words(pair, _is_other_name),
    "changed_pronoun": lambda pair: _changed_words(pair, _is_other_pronoun),
    "object_back": _came_back,
    "repeated_sentence": _repeated,
    "sentence_order": _moved,
    "missing_ending": _cut_off,
    "ignored_instruction": _words_gone,
}
