"""Does a story do what it was asked for? One verdict for each thing asked, by rule, from the text and its labels.

* words: the story uses the word in any inflection; with labels and a part of speech, as that part of speech.
* sentence: it stands in the story letter by letter, and neither starts nor ends inside a word.
* features: the cues of ``corpus.check_features`` are there.
* summary: the rule of ``instructions.telling``; it needs labels of both, else nobody can tell.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from tslens.corpus.check_features import has_feature, has_word
from tslens.corpus.instructions.form import Instruction, Kind
from tslens.corpus.instructions.telling import SummaryCheck, compare_tellings, read_telling
from tslens.corpus.spelling import add_ed, add_ing, add_s, add_third
from tslens.corpus.vocabulary import analyses
from tslens.corpus.words import find_units
from tslens.types import Labels

_PARTS = re.compile(r"(.*[\W_])?([^\W_]*)", re.DOTALL)  # of "ice cream": "ice " and "cream"

Answer = Literal["followed", "not followed", "cannot tell"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check says of one thing asked for. ``item``: the word, sentence, name of the feature, or summary."""

    kind: Kind
    item: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class Compliance:
    """How a story follows its instruction. ``summary``: what the rule found of the summary; None where it was not asked
    for, or the labels are missing."""

    verdicts: tuple[Verdict, ...]
    summary: SummaryCheck | None = None

    @property
    def shares(self) -> Mapping[Kind, float]:
        """Followed, of what could be told, 0 to 1, for each kind asked for; a kind is absent where nothing could."""
        told = [verdict for verdict in self.verdicts if verdict.answer != "cannot tell"]
        n_asked = Counter(verdict.kind for verdict in told)
        n_followed = Counter(verdict.kind for verdict in told if verdict.answer == "followed")
        return {kind: n_followed[kind] / number for kind, number in n_asked.items()}

    @property
    def is_followed(self) -> bool | None:
        """Whether all that was asked for is followed; None where something cannot be told and nothing is amiss."""
        answers = {verdict.answer for verdict in self.verdicts}
        return False if "not followed" in answers else None if "cannot tell" in answers else True


def check_instruction(
    instruction: Instruction,
    text: str,
    labels: Labels | None = None,
    summary_labels: Labels | None = None,
) -> Compliance:
    """A verdict for each thing that an instruction asks for.

    ``text``: of the story alone. ``labels``, ``summary_labels``: of story and summary, gold or of the annotator.
    """
    summary = None
    verdicts: list[Verdict] = []
    for kind in instruction.kinds:
        if kind == "words":
            verdicts += check_words(instruction.words, text, pos=instruction.words_pos, labels=labels)
        elif kind == "sentence":
            verdicts.append(check_sentence(instruction.sentence, text))
        elif kind == "features":
            verdicts += check_features(instruction.features, text)
        elif labels is None or summary_labels is None:
            verdicts.append(Verdict("summary", instruction.summary, "cannot tell"))
        else:
            summary = check_summary(instruction.summary, summary_labels, text, labels)
            verdicts.append(Verdict("summary", instruction.summary, _answer(summary.is_followed)))
    return Compliance(tuple(verdicts), summary)


def check_words(
    words: Sequence[str], text: str, *, pos: Sequence[str] = (), labels: Labels | None = None
) -> list[Verdict]:
    """Whether a story uses each word, in any inflection. ``pos``: parts of speech, of all words or of none."""
    tags = pos if len(pos) == len(words) else [""] * len(words)
    small = text.lower()
    forms = {small[start:end].replace("’", "'").partition("'")[0] for start, end in find_units(small)}
    return [
        Verdict("words", word, _answer(_uses(word, tag, text, forms, labels)))
        for word, tag in zip(words, tags, strict=True)
    ]


def check_sentence(sentence: str, text: str) -> Verdict:
    """Whether a sentence stands in a story as it was given."""
    start = text.find(sentence)
    while start >= 0:
        end = start + len(sentence)
        before, after = text[start - 1 : start], text[end : end + 1]
        if not (before.isalnum() and sentence[0].isalnum()) and not (
            after.isalnum() and sentence[-1].isalnum()
        ):
            return Verdict("sentence", sentence, "followed")
        start = text.find(sentence, start + 1)
    return Verdict("sentence", sentence, "not followed")


def check_features(features: Sequence[str], text: str) -> list[Verdict]:
    """Whether a story shows the cues of each feature. Raises KeyError for a name beyond ``labels.FEATURES``."""
    return [Verdict("features", name, _answer(has_feature(name, text))) for name in features]


def check_summary(summary: str, summary_labels: Labels, text: str, labels: Labels) -> SummaryCheck:
    """How much of a summary a story tells (``instructions.telling``)."""
    return compare_tellings(read_telling(summary, summary_labels), read_telling(text, labels))


def _answer(is_followed: bool | None) -> Answer:
    return "cannot tell" if is_followed is None else "followed" if is_followed else "not followed"


def _uses(word: str, tag: str, text: str, forms: set[str], labels: Labels | None) -> bool:
    small = word.lower()
    head, last = _PARTS.fullmatch(small).groups()  # type: ignore[union-attr]  # it matches every text
    if head:  # "ice cream", "t-shirt"
        return any(
            check_sentence(head + form, text.lower()).answer == "followed" for form in _regular_forms(last)
        )
    if tag and (labels is not None or analyses(small)):
        return has_word(small, tag, text if labels is None else labels)
    if labels is not None and small in labels.lemma:
        return True
    if analyses(small):
        return any(small == lemma for form in forms for lemma, _, _ in analyses(form))
    return bool(forms & _regular_forms(small))


@cache
def _regular_forms(word: str) -> frozenset[str]:
    """The word and its regular forms as noun and verb, for words that the vocabulary does not have."""
    return frozenset((word, add_s(word), add_third(word), add_ed(word), add_ing(word)) if word else (word,))
