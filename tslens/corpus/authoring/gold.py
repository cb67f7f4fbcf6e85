"""Gold labels: what the offline author knows of each word of its story, as ``types.Labels``.

Clauses, their subjects, actions and objects, entities and the introduction are written in the author's sentences
(``corpus.authoring.markup``); parts of speech and lemmas follow from the vocabulary, the marks and, for words of many
uses ("to", "that", "more"), the words beside them (``corpus.authoring.gold_rules``).
"""

from __future__ import annotations

from collections.abc import Sequence

from tslens.corpus.authoring.gold_tags import tag_words
from tslens.corpus.authoring.markup import MarkedText, Unit
from tslens.corpus.topics import choose_topics
from tslens.labels import MADE_BY_AUTHOR, THIRD_PERSON
from tslens.types import Labels

HERO = "hero"
_FAMILY = frozenset(
    "mom dad mother father grandma grandpa grandmother grandfather aunt uncle sister brother cousin".split()
)


def label_story(marked: MarkedText) -> Labels:
    """Gold labels of a story from its marked text.

    Raises KeyError for a word that neither the vocabulary nor ``assets/author/parts_of_speech.toml`` knows.
    """
    units = marked.units
    words = [marked.text[unit.start : unit.end] for unit in units]
    tags = tag_words(words, units)
    pos, lemma = tuple(tag for tag, _ in tags), tuple(base for _, base in tags)
    _mark_family(words, units)
    entities: dict[str, int] = {}
    for unit in units:
        if unit.entity:
            entities.setdefault(unit.entity, len(entities))
    return Labels(
        made_by=MADE_BY_AUTHOR,
        pos=pos,
        lemma=lemma,
        clause=tuple(marked.clause),
        clauses=tuple(marked.clauses),
        mention=tuple(entities.get(unit.entity, -1) for unit in units),
        antecedent=_antecedents(words, units),
        protagonist=entities.get(HERO),
        introduction=tuple(i for i, unit in enumerate(units) if unit.introduces and words[i][0].isalnum()),
        topics=choose_topics(pos, lemma),
        quote=tuple(unit.quote for unit in units),
        story_part=tuple(unit.part for unit in units),
    )


def _mark_family(words: Sequence[str], units: Sequence[Unit]) -> None:
    """Give "his grandpa" an entity where the sentence has no mark for it: the grandpa of the story, if it has one."""
    known = {
        word.lower().partition("'")[0]: unit.entity
        for word, unit in zip(words, units, strict=True)
        if unit.entity in ("elder", "parent")
    }
    for index, (word, unit) in enumerate(zip(words, units, strict=True)):
        noun = word.lower().partition("'")[0]
        if noun in _FAMILY and not unit.entity:
            owners = units[max(0, index - 2) : index]
            if any(owner.entity == HERO and owner.sentence == unit.sentence for owner in owners):
                unit.entity = known.get(noun, f"family.{noun}")


def _antecedents(words: Sequence[str], units: Sequence[Unit]) -> tuple[int, ...]:
    """For each pronoun the nearest earlier mention that is none; of a group also that of one of its members."""
    latest: dict[str, int] = {}
    found = []
    for index, (word, unit) in enumerate(zip(words, units, strict=True)):
        is_pronoun = bool(unit.entity) and word.lower().partition("'")[0] in THIRD_PERSON
        members = (unit.entity, *unit.entity.split("+"))
        found.append(max((latest.get(member, -1) for member in members), default=-1) if is_pronoun else -1)
        if unit.entity and not is_pronoun:
            latest[unit.entity] = index
    return tuple(found)
