"""From the parse of a story to its labels: a pure function, and the mending of what a parser gets wrong in stories.

Clauses come from the parse (``clauses``), direct speech and story parts from characters (``speech``), characters and
pronouns from rules (``coreference``), topics from counts (``corpus.topics``).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from tslens.corpus.annotation.characters import Reading, load_lexicon, strip_possessive
from tslens.corpus.annotation.clauses import STATES, Token, find_clauses, mend
from tslens.corpus.annotation.coreference import resolve
from tslens.corpus.annotation.speech import find_quotes, find_story_parts
from tslens.corpus.topics import choose_topics
from tslens.corpus.words import Span, find_sentences, find_units
from tslens.labels import PARTS_OF_SPEECH
from tslens.types import Clause, Labels

_NOMINAL = ("nsubj", "nsubjpass", "dobj", "pobj")
_SEVERAL = frozenset(("many", "two", "three", "four", "five", "few", "several", "these", "those", "all"))


def label(text: str, doc: Any, *, made_by: str) -> Labels:
    """Labels of a normalised text from its parse (``Parser.parse``). A pure function of both."""
    units = find_units(text)
    starts = [start for start, _ in units]
    is_word = [text[start].isalnum() for start in starts]
    sentences = find_sentences(text)
    sentence_starts = [sentence.start for sentence in sentences]
    tokens = mend(_read(doc, text, units))
    found = find_clauses(tokens, is_word)
    clauses = tuple(_of_words(clause, is_word) for clause in found.clauses)
    words = [text[start:end] for start, end in units]
    first = _first_token(tokens, len(units))
    pos, lemma = _tags(words, is_word, tokens, first, found.states)
    quote = find_quotes(text, units)
    top = [_top(tokens, index) for index in first]
    sentence = [bisect_right(sentence_starts, start) - 1 for start in starts]
    people = resolve(
        Reading(
            words=words,
            pos=pos,
            lemma=lemma,
            plural=[_is_plural(tokens, index) for index in first],
            dep=[tokens[index].dep if index >= 0 else "punct" for index in top],
            head=[tokens[tokens[index].head].unit if index >= 0 else unit for unit, index in enumerate(top)],
            clause=found.of_unit,
            clauses=clauses,
            sentence=sentence,
            quote=quote,
        )
    )
    return Labels(
        made_by=made_by,
        pos=pos,
        lemma=lemma,
        clause=found.of_unit,
        clauses=clauses,
        mention=people.mention,
        antecedent=people.antecedent,
        protagonist=people.protagonist,
        introduction=people.introduction,
        topics=choose_topics(pos, lemma),
        quote=quote,
        story_part=find_story_parts(text, units, sentences),
    )


def _read(doc: Any, text: str, units: Sequence[Span]) -> list[Token]:
    """Tokens of a parse as plain data, each with the unit that holds its first character."""
    starts = [start for start, _ in units]
    return [
        Token(t.text, _pos(t), t.tag_, t.lemma_.lower(), t.dep_, t.head.i, bisect_right(starts, place) - 1)
        for t, place in zip(doc, _positions(doc, text), strict=True)
    ]


def _pos(token: Any) -> str:
    """Part of speech; what governs a noun is a preposition, also in "upon a time"."""
    is_preposition = token.pos_ == "SCONJ" and token.dep_ == "prep"
    return "ADP" if is_preposition else str(token.pos_)


def _of_words(clause: Clause, is_word: Sequence[bool]) -> Clause:
    """A clause without a subject or object that is a mark ("<b>x</b>")."""
    subject, found = clause.subject, clause.object
    return Clause(
        clause.action,
        subject if subject is not None and is_word[subject] else None,
        found if found is not None and is_word[found] else None,
    )


def _positions(doc: Any, text: str) -> Iterator[int]:
    """Where each token begins in the text: the tokens hold all its characters but blanks, in order."""
    place = 0
    for token in doc:
        while text[place].isspace():
            place += 1
        yield place
        place += len(token)


def _first_token(tokens: Sequence[Token], n_units: int) -> list[int]:
    """The first token of each unit, -1 for a mark inside a token that began before it ("..." or "Mr.")."""
    first = [-1] * n_units
    for index in reversed(range(len(tokens))):
        first[tokens[index].unit] = index
    return first


def _top(tokens: Sequence[Token], index: int) -> int:
    """The token that stands for a unit: of "self-made" the one whose head is outside; of a contraction the first."""
    if index < 0 or "-" not in tokens[min(index + 1, len(tokens) - 1)].text:
        return index
    unit = tokens[index].unit
    while tokens[tokens[index].head].unit == unit and tokens[index].head != index:
        index = tokens[index].head
    return index


def _is_plural(tokens: Sequence[Token], index: int) -> bool:
    """Whether a token is a plural noun, by its tag or, as in "many fish", by what counts it."""
    if index < 0 or not tokens[index].tag.startswith("NN"):
        return False
    near = tokens[max(0, index - 4) : index]
    counted = any(token.head == index and token.text.lower() in _SEVERAL for token in near)
    return counted or tokens[index].tag in ("NNS", "NNPS")


def _tags(
    words: Sequence[str],
    is_word: Sequence[bool],
    tokens: Sequence[Token],
    first: Sequence[int],
    states: frozenset[int],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Part of speech and lemma of each unit: those of its first token, with what spaCy gets wrong in stories mended.

    Marks are PUNCT. A capital word that the story tags as a name in most other places is a name; a participle that
    names a state is an adjective; a hyphenated word is what its top token is.
    """
    names = _steady_names(words, tokens, first)
    pos, lemma = [], []
    for unit, word in enumerate(words):
        if not is_word[unit]:
            pos.append("PUNCT")
            lemma.append(word)
            continue
        index = _top(tokens, first[unit])
        token = tokens[index]
        tag = token.pos if token.pos in PARTS_OF_SPEECH and token.pos != "PUNCT" else "X"
        plain = strip_possessive(word).lower()
        base = token.lemma if "-" not in word else plain
        if plain in names and word[0].isupper():
            tag, base = "PROPN", plain
        elif index in states:
            tag, base = "ADJ", plain
        elif tag == "PROPN":
            base = plain.rstrip("’'")
        if tag in ("ADJ", "VERB", "X") and token.dep in _NOMINAL and base in load_lexicon().nouns:
            tag = "NOUN"
        if token.text.lower() in STATES and tag == "VERB" and token.dep in ("acomp", "oprd"):
            tag, base = "ADJ", plain
        pos.append(tag)
        lemma.append(base.lower() or plain)
    return tuple(pos), tuple(lemma)


def _steady_names(words: Sequence[str], tokens: Sequence[Token], first: Sequence[int]) -> frozenset[str]:
    """Words that the story mostly writes with a capital, and that are tagged as names more often than not.

    A first name counts as one where it is tagged as a noun, too, and any capital word after "named".
    """
    listed = load_lexicon().names
    small = Counter(word for word in words if word[0].islower())
    capital = Counter(strip_possessive(word).lower() for word in words if word[0].isupper() and len(word) > 1)
    votes: Counter[str] = Counter()
    for unit, word in enumerate(words):
        plain = strip_possessive(word).lower()
        if capital[plain] > small[plain] and word[0].isupper():
            pos = tokens[first[unit]].pos
            is_name = pos == "PROPN" or (pos == "NOUN" and plain in listed)
            votes[plain] += 1 if is_name else -1
            if unit and words[unit - 1] in ("named", "called"):
                votes[plain] += len(words)
    return frozenset(word for word, vote in votes.items() if vote > 0)
