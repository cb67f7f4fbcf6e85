"""Faults of sentences: shuffled words, a sentence said twice, a sentence in another place, an ending cut off."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from tslens.corpus.dice import Dice
from tslens.corpus.faults.reading import Draft, Edit, Reading

_MIN_SHUFFLED = 5  # words; fewer can be shuffled into a good sentence
_MIN_REPEATED = 3
_N_SHUFFLES = 8
_N_PLACINGS = 40
_FURTHEST_REPEAT = 3  # sentences after the first time
_INNER_MARK = re.compile(r"[.!?…]")
_PROPER = re.compile(r"I(?:['’](?:m|d|ll|ve))?")  # words with a capital of their own
_GOES_BEFORE_NOUNS = {"DET"}
_CAN_FOLLOW_DET = {"NOUN", "ADJ", "PROPN", "NUM", "ADV", "PRON"}


# Shuffled words ---------------------------------------------------------------------------------------------


def find_order_sites(reading: Reading) -> list[int]:
    """Sentences of at least five words, four of them different, with no closing mark but their last."""
    sites = []
    for sentence, units in enumerate(reading.units_of):
        words = _word_units(reading, units)
        closing = reading.sentences[sentence].closing
        start = reading.sentences[sentence].start
        inner = _INNER_MARK.search(reading.text, start, closing[0]) if closing else True
        if len(words) >= _MIN_SHUFFLED and len({reading.words[unit] for unit in words}) > 3 and not inner:
            sites.append(sentence)
    return sites


def shuffle_words(reading: Reading, sites: Sequence[int], dice: Dice) -> Draft:
    """Words change places inside each sentence; marks and blanks stay, and so does a capital that opens speech."""
    edits = []
    for sentence in sites:
        units = _word_units(reading, reading.units_of[sentence])
        order = _bad_order(reading, units, dice)
        start, end = reading.units[units[0]][0], reading.units[units[-1]][1]
        pieces, done = [], start
        for slot, unit in zip(units, order, strict=True):
            slot_start, slot_end = reading.units[slot]
            pieces += [reading.text[done:slot_start], _fit_capital(reading, slot, unit)]
            done = slot_end
        edits.append(Edit(start, end, "".join(pieces)))
    return Draft(tuple(edits), len(edits))


def _word_units(reading: Reading, units: Sequence[int]) -> list[int]:
    return [unit for unit in units if reading.text[reading.units[unit][0]].isalnum()]


def _bad_order(reading: Reading, units: list[int], dice: Dice) -> list[int]:
    """Of some orders the one that keeps the fewest neighbours, and then has the most impossible ones."""
    words = reading.words

    def goodness(order: list[int]) -> tuple[int, int]:
        pairs = {(words[a], words[b]) for a, b in pairwise(units)}
        kept = sum((words[a], words[b]) in pairs for a, b in pairwise(order))
        kept += len(units) * ([words[unit] for unit in order] == [words[unit] for unit in units])
        pos = [reading.labels.pos[unit] for unit in order]
        bad = (pos[-1] in ("DET", "ADP")) + sum(
            a in _GOES_BEFORE_NOUNS and b not in _CAN_FOLLOW_DET for a, b in pairwise(pos)
        )
        return kept, -bad

    return min((dice.shuffled(units) for _ in range(_N_SHUFFLES)), key=goodness)


def _fit_capital(reading: Reading, slot: int, unit: int) -> str:
    """A word as it stands in the place of another: a capital is the place's, unless the word is a name or "I"."""
    word = reading.surface(unit)
    if not _keeps_capital(reading, unit):
        word = word[0].lower() + word[1:]
    place = reading.surface(slot)
    if (place[0].isupper() and not _keeps_capital(reading, slot)) or slot == reading.units_of[
        reading.sentence_of[slot]
    ][0]:
        word = word[0].upper() + word[1:]
    return word


def _keeps_capital(reading: Reading, unit: int) -> bool:
    return reading.labels.pos[unit] == "PROPN" or bool(_PROPER.fullmatch(reading.surface(unit)))


# Repeated and moved sentences -------------------------------------------------------------------------------


def find_repeat_sites(reading: Reading) -> list[int]:
    """Sentences of at least three words that open and close their own direct speech."""
    return [
        sentence
        for sentence in _loose_sentences(reading)
        if len(_word_units(reading, reading.units_of[sentence])) >= _MIN_REPEATED
    ]


def repeat_sentences(reading: Reading, sites: Sequence[int], dice: Dice) -> Draft:
    """Each sentence is said again, right after itself or up to three sentences later."""
    edits = []
    for sentence in sites:
        later = range(sentence, min(sentence + _FURTHEST_REPEAT, len(reading.sentences) - 1) + 1)
        gap = dice.one_of([gap for gap in later if _can_follow(reading, gap)])
        end = reading.sentences[gap].end
        edits.append(Edit(end, end, " " + reading.sentence_text(sentence)))
    return Draft(tuple(edits), len(edits))


def find_move_sites(reading: Reading) -> list[int]:
    """Sentences that can stand elsewhere: as for repeats, and no other sentence is the same. Four at least in all."""
    texts = [reading.sentence_text(sentence) for sentence in range(len(reading.sentences))]
    sites = [sentence for sentence in find_repeat_sites(reading) if texts.count(texts[sentence]) == 1]
    return sites if len(texts) >= 4 and len(sites) > 1 else []


def move_sentences(reading: Reading, sites: Sequence[int], dice: Dice) -> Draft | None:
    """Each sentence goes to another place, two sentences away or more where that can be.

    The later ones go first: then no smaller number of moves leads back to the story.
    """
    for n_moved in range(len(sites), 0, -1):
        moved = sorted(sites[:n_moved], reverse=True)
        staying = [sentence for sentence in range(len(reading.sentences)) if sentence not in moved]
        gaps = [sentence for sentence in staying if _can_follow(reading, sentence)]
        for placing in range(_N_PLACINGS if gaps else 0):
            places = sorted(dice.one_of(gaps) for _ in moved)
            distance = 2 if placing < _N_PLACINGS // 2 else 1
            pairs = list(zip(moved, places, strict=True))
            if all(_crosses(staying, sentence, place) >= distance for sentence, place in pairs):
                inserted = [
                    Edit(reading.sentences[p].end, reading.sentences[p].end, " " + reading.sentence_text(s))
                    for s, p in pairs
                ]
                return Draft((*inserted, *reading.remove(moved, is_place=False)), n_moved)
    return None


def _crosses(staying: Sequence[int], sentence: int, place: int) -> int:
    """Number of staying sentences between a sentence and the place after ``place``."""
    low, high = (sentence, place) if place > sentence else (place + 1, sentence - 1)
    return sum(low <= other <= high for other in staying)


def _loose_sentences(reading: Reading) -> list[int]:
    """Sentences with a closing mark and a capital, all their direct speech inside, with a place right after them."""
    return [
        first
        for first, last in reading.blocks
        if first == last
        and _can_follow(reading, first)
        and not reading.text[reading.sentences[first].start].islower()
    ]


def _can_follow(reading: Reading, sentence: int) -> bool:
    """Whether a new sentence can stand after this one."""
    return reading.gap_is_free[sentence] and reading.sentences[sentence].closing is not None


# The ending -------------------------------------------------------------------------------------------------


def find_endings(reading: Reading) -> list[int]:
    """The one ending, if two sentences or more leave something to cut."""
    return [len(reading.sentences) - 1] if len(reading.sentences) > 1 and reading.gap_is_free[0] else []


def cut_ending(reading: Reading, share: float | None, dice: Dice) -> Draft:
    """About a share of the text is cut off, after a sentence or inside one; None: the last sentence.

    A "The end." goes with the sentence before it.
    """
    last = len(reading.sentences) - 1
    full = [i for i in range(last) if reading.gap_is_free[i]]
    if share is None:
        is_formula = reading.sentence_text(last).strip("*. !").lower() == "the end"
        cut = reading.sentences[full[-2] if is_formula and len(full) > 1 else full[-1]].end
    else:
        target = len(reading.text) * (1 - share)
        ends = [reading.sentences[i].end for i in full]
        if dice.chance(0.5):
            inside = [
                reading.units[unit][1]
                for unit in range(len(reading.units) - 2)
                if reading.labels.quote[unit] < 0
                and reading.text[reading.units[unit][0]].isalnum()
                and reading.text[reading.units[unit + 1][0]].isalnum()
            ]
            ends = inside or ends
        cut = min(ends, key=lambda end: abs(end - target))
    return Draft((Edit(cut, len(reading.text), ""),), 1)
