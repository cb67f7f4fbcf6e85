"""The fault of an instruction that is ignored: a requested word is nowhere in the story, in no form.

``story.extra["words"]`` names the words. A noun or an adjective is replaced, wherever it stands, by one word of the
same class that the story does not use. For a verb, and where there is no such word, the sentences that hold it are
left out; a verb in too many sentences for that is replaced by another of its frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from tslens.corpus.dice import Dice
from tslens.corpus.faults.reading import Draft, Edit, Reading, split_suffix
from tslens.corpus.vocabulary import FORMS, analyses, article, inflect, load_vocabulary
from tslens.corpus.vocabulary import plural as plural_of

Block = tuple[int, int]  # first and last sentence

_KEPT_SHARE = 0.6  # of the sentences, at least, where some are left out


@dataclass(frozen=True, slots=True)
class _Plan:
    """How one word goes: the new form of each unit, or the blocks of sentences that are left out."""

    word: str
    forms: dict[int, str]
    blocks: tuple[Block, ...]


def find_word_sites(reading: Reading) -> list[str]:
    """Requested words that the story uses and that can be taken out of it."""
    dice = Dice()
    return [word for word in _requested(reading) if _plan(reading, word, dice)]


def drop_words(reading: Reading, sites: Sequence[str], dice: Dice) -> Draft | None:
    """The story without some of its requested words. Words that go with the sentences of others count as well."""
    plans = [plan for word in sites if (plan := _plan(reading, word, dice))]
    forms = {unit: form for plan in plans for unit, form in plan.forms.items()}
    blocks = {block for plan in plans for block in plan.blocks}
    if not plans or not _leaves_enough(reading, blocks):
        return drop_words(reading, sites[:-1], dice) if len(sites) > 1 else None
    removed = [sentence for first, last in blocks for sentence in range(first, last + 1)]
    kept_units = {u for u, sentence in enumerate(reading.sentence_of) if sentence not in removed}
    edits = [
        edit for unit in sorted(kept_units & forms.keys()) for edit in _replace(reading, unit, forms[unit])
    ]
    left = kept_units - forms.keys()
    uses = [set(reading.uses.get(word, [])) for word in _requested(reading)]
    n_gone = sum(bool(units) and not left & units for units in uses)
    return Draft((*edits, *reading.remove(removed)), n_gone)


def _requested(reading: Reading) -> list[str]:
    words = reading.story.extra.get("words")
    if not isinstance(words, list):
        return []
    return list(dict.fromkeys(word.lower() for word in words if isinstance(word, str)))


def _plan(reading: Reading, word: str, dice: Dice) -> _Plan | None:
    """The way that keeps most of the story, None where there is none."""
    units = reading.uses.get(word, [])
    if not units:
        return None
    is_verb = reading.labels.pos[units[0]] in ("VERB", "AUX")
    replaced = _substituted(reading, word, units, dice)
    blocks = tuple(b for b in reading.blocks if any(b[0] <= reading.sentence_of[u] <= b[1] for u in units))
    if replaced and not is_verb:
        return _Plan(word, replaced, ())
    if _leaves_enough(reading, set(blocks)):
        return _Plan(word, {}, blocks)
    return _Plan(word, replaced, ()) if replaced else None


def _leaves_enough(reading: Reading, blocks: set[Block]) -> bool:
    n_gone = sum(last - first + 1 for first, last in blocks)
    return n_gone <= (1 - _KEPT_SHARE) * len(reading.sentences)


def _substituted(reading: Reading, word: str, units: Sequence[int], dice: Dice) -> dict[int, str]:
    """One word of the same class in the same form for each use; empty where a use has none."""
    pos = reading.labels.pos[units[0]]
    taken = {*reading.words, *reading.labels.lemma, *_requested(reading)}
    options = [new for new in _like(word, pos) if new not in taken]
    if not options or any(reading.labels.pos[unit] != pos for unit in units):
        return {}
    new = dice.one_of(options)
    forms = {}
    for unit in units:
        stem = split_suffix(reading.words[unit])[0]
        kind = next((form for lemma, tag, form in analyses(stem) if (lemma, tag) == (word, pos)), None)
        form = _inflected(new, kind)
        if not form:
            return {}
        forms[unit] = form + reading.words[unit][len(stem) :]
    return forms


@cache
def _like(word: str, pos: str) -> tuple[str, ...]:
    """Words that are used in the ways that a word is used in."""
    words = load_vocabulary()
    found: list[str] = []
    if pos == "NOUN" and word in words.nouns:
        noun = words.nouns[word]
        found = [
            other.lemma
            for other in words.nouns.values()
            if other.countability == noun.countability
            and (other.plural == other.lemma) == (noun.plural == word)
            and {use.frame for use in other.uses} == {use.frame for use in noun.uses}
        ]
    elif pos == "ADJ" and word in words.adjectives:
        uses = set(words.adjectives[word].uses)
        found = [other.lemma for other in words.adjectives.values() if set(other.uses) == uses]
    elif pos == "VERB" and word in words.verbs:
        frames = {use.frame for use in words.verbs[word].uses}
        found = [o.lemma for o in words.verbs.values() if {use.frame for use in o.uses} == frames]
    return tuple(lemma for lemma in found if lemma != word)


def _inflected(lemma: str, form: str | None) -> str | None:
    if form in ("singular", "base"):
        return lemma
    if form == "plural":
        return plural_of(lemma)
    return next((inflect(lemma, name) for name in FORMS if name == form), None)


def _replace(reading: Reading, unit: int, new: str) -> list[Edit]:
    """A new word, with "a" or "an" before it as it sounds."""
    edit = reading.replace(unit, new)
    before = unit - 1
    if before >= 0 and reading.words[before] in ("a", "an"):
        start, end = reading.units[before]
        right = article(new)
        if reading.words[before] != right:
            return [
                Edit(start, end, right.capitalize() if reading.text[start].isupper() else right, False),
                edit,
            ]
    return [edit]
