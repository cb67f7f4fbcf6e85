"""Gold marks in the author's sentences: from marked text to plain text, words, clauses and entities.

Marks are suffixes of a word: ``_v`` main verb of a clause with a subject, ``_i`` of one without, ``_s`` and
``_o`` heads of its subject and direct object, ``@x`` mention of entity x, ``^ADV`` a part of speech. `` / ``
begins a clause, ``( )`` encloses one inside another, ``* *`` encloses the introduction of the protagonist.

1. Marks are cut out of the text and bound to the word (or mark) that they follow.
2. The text is parted into stretches: at ``/`` and parentheses, at sentence ends and at quotation marks. A stretch holds
   one verb, and then is a clause, or none, and then is a fragment.
3. A clause with ``_v`` and no ``_s`` shares the subject of the last clause before it, in the same sentence, quote and
   parenthesis; "he let the snail crawl and went home" passes over the snail.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

from tslens.corpus.vocabulary import analyses
from tslens.corpus.words import find_sentences, find_units
from tslens.types import Clause

_MARK = re.compile(
    r"_(?P<role>[vios])(?![a-z])|@(?P<entity>[a-z0-9]+(?:[+.][a-z0-9]+)*)|\^(?P<pos>[A-Z]+)"
    r"|(?P<slash>(?:^|(?<=\s))/ )|(?P<open>\()|(?P<close>\))|(?P<star>\*)"
)

_HELPING = frozenset(
    "did do does could can would will should shall may might must to have has had was were is are be been am".split()
) | {"ca", "wo"}


class MarkError(ValueError):
    """Marks that say nothing, or too much: a mistake in the assets."""


@dataclass(slots=True)
class Unit:
    """One word or mark with what its marks say. ``stretch``: index; ``quote``: stretch of speech, -1 none."""

    start: int
    end: int
    roles: str = ""
    entity: str = ""
    pos: str = ""
    sentence: int = -1
    quote: int = -1
    stretch: int = -1
    introduces: bool = False
    part: str = ""


@dataclass(slots=True)
class _Stretch:
    """What stands between two boundaries. ``path``: parentheses around it, outermost first."""

    sentence: int
    quote: int
    path: tuple[int, ...]
    verb: int = -1
    finite: bool = False
    subject: int | None = None
    object: int | None = None


@dataclass(slots=True)
class MarkedText:
    """Plain text, its units, its clauses and for each unit the index of its clause (-1: none).

    ``ends``: where each piece of the story ends, in characters.
    """

    text: str
    units: list[Unit]
    ends: list[int]
    clauses: list[Clause] = field(default_factory=list)
    clause: list[int] = field(default_factory=list)


def plain_text(marked: str) -> str:
    """Marked text without its marks."""
    return _MARK.sub("", marked)


def read_marks(pieces: Sequence[tuple[str, str]]) -> MarkedText:
    """Text and marks of a story given in pieces ``(story part, marked text)``.

    Raises MarkError, with the words concerned, for a stretch with two verbs, for a subject or object without a
    verb, and for a mark that follows no word.
    """
    plain: list[str] = []
    marks: list[tuple[int, re.Match[str]]] = []  # (position in the plain text, mark)
    ends: list[int] = []  # of each piece
    length = 0
    for _, marked in pieces:
        last = 0
        for found in _MARK.finditer(marked):
            plain.append(marked[last : found.start()])
            length += found.start() - last
            marks.append((length, found))
            last = found.end()
        plain.append(marked[last:])
        length += len(marked) - last
        ends.append(length)
    text = "".join(plain)
    units = [Unit(start, end) for start, end in find_units(text)]
    starts = [unit.start for unit in units]
    boundaries: list[tuple[int, str]] = []
    for position, found in marks:
        if (kind := found.lastgroup) in ("role", "entity", "pos"):
            index = bisect_right(starts, position - 1) - 1
            if index < 0 or units[index].end < position:
                raise MarkError(f'"{found[0]}" follows no word: ...{text[max(0, position - 40) : position]}')
            unit = units[index]
            unit.roles += found["role"] or ""
            unit.entity = found["entity"] or unit.entity
            unit.pos = found["pos"] or unit.pos
        else:
            boundaries.append((position, kind or ""))
    for unit in units:
        unit.part = pieces[bisect_right(ends, unit.start)][0]
    marked_text = MarkedText(text, units, ends)
    _find_clauses(marked_text, _part(marked_text, boundaries))
    return marked_text


def _part(marked: MarkedText, boundaries: Sequence[tuple[int, str]]) -> list[_Stretch]:
    """Give each unit its sentence, quote and stretch; the stretches in the order in which they begin."""
    sentence_starts = [sentence.start for sentence in find_sentences(marked.text)]
    paragraph_starts = [0, *(found.end() for found in re.finditer("\n", marked.text))]
    stretches: list[_Stretch] = []
    path: list[int] = []  # indices of the stretches that are interrupted by a parenthesis
    quote = n_quotes = -1
    sentence = paragraph = -1
    introduces = False
    fresh = True
    pending = 0
    current = -1
    for unit in marked.units:
        while pending < len(boundaries) and boundaries[pending][0] <= unit.start:
            kind = boundaries[pending][1]
            pending += 1
            if kind == "star":
                introduces = not introduces
            elif kind == "open":
                path.append(current)
                fresh = True
            elif kind == "close":
                if not path:
                    raise MarkError(
                        f'a ")" without "(": ...{marked.text[max(0, unit.start - 40) : unit.start]}'
                    )
                current, fresh = path.pop(), False
            else:
                fresh = True
        now = bisect_right(sentence_starts, unit.start) - 1
        if now != sentence:
            sentence, fresh = now, True
            path.clear()
        now = bisect_right(paragraph_starts, unit.start) - 1
        if now != paragraph:
            paragraph, quote = now, -1
        is_mark = marked.text[unit.start : unit.end] == '"'
        if is_mark:
            fresh = True
            if quote < 0:
                n_quotes += 1
                quote = n_quotes
        unit.sentence, unit.quote, unit.introduces = sentence, quote, introduces
        if is_mark:
            if unit.start and not marked.text[unit.start - 1].isspace():
                quote = -1
            continue
        if fresh:
            current, fresh = len(stretches), False
            stretches.append(_Stretch(sentence, quote, tuple(path)))
        unit.stretch = current
    return stretches


def _find_clauses(marked: MarkedText, stretches: list[_Stretch]) -> None:
    for index, unit in enumerate(marked.units):
        for role in unit.roles:
            stretch = stretches[unit.stretch]
            if role in "vi":
                if stretch.verb >= 0:
                    raise MarkError(f"two verbs in one clause: {_words(marked, unit.stretch)}")
                stretch.verb, stretch.finite = index, stretch.finite or role == "v"
            elif role == "s":
                if stretch.subject is not None:
                    raise MarkError(f"two subjects in one clause: {_words(marked, unit.stretch)}")
                stretch.subject = index
                stretch.finite = True
            elif stretch.object is None:
                stretch.object = index
    clause_of: dict[int, int] = {}
    for number, stretch in enumerate(stretches):
        if stretch.verb < 0:
            if stretch.subject is not None or stretch.object is not None:
                raise MarkError(f"a subject or an object without a verb: {_words(marked, number)}")
            continue
        if stretch.finite and stretch.subject is None:
            stretch.subject = _shared_subject(marked, stretches, number)
            if stretch.subject is None:
                raise MarkError(f"a verb with _v, but no subject to share: {_words(marked, number)}")
        clause_of[number] = len(marked.clauses)
        marked.clauses.append(Clause(stretch.verb, stretch.subject, stretch.object))
    for unit in marked.units:
        is_word = marked.text[unit.start].isalnum()
        marked.clause.append(clause_of.get(unit.stretch, -1) if is_word else -1)


def _shared_subject(marked: MarkedText, stretches: Sequence[_Stretch], number: int) -> int | None:
    stretch = stretches[number]
    for other_number in reversed(range(number)):
        other = stretches[other_number]
        if other.sentence != stretch.sentence:
            return None
        is_near = other.finite and (other.quote, other.path) == (stretch.quote, stretch.path)
        if is_near and not (_is_bare(marked, other_number, other) and not _is_bare(marked, number, stretch)):
            return other.subject
    return None


def _is_bare(marked: MarkedText, number: int, stretch: _Stretch) -> bool:
    """Whether the verb is a bare infinitive or participle, as of "the snail" in "he let the snail crawl"."""
    units = [unit for unit in marked.units[: stretch.verb] if unit.stretch == number]
    if any(marked.text[unit.start : unit.end].lower().split("n'")[0] in _HELPING for unit in units):
        return False
    verb = marked.units[stretch.verb]
    forms = {form for _, pos, form in analyses(marked.text[verb.start : verb.end]) if pos == "VERB"}
    return bool(forms) and not forms & {"past", "third"}


def _words(marked: MarkedText, stretch: int) -> str:
    units = [unit for unit in marked.units if unit.stretch == stretch]
    return marked.text[units[0].start : units[-1].end]
