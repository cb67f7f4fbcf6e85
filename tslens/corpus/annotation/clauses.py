"""Clauses of a story from a dependency parse, given as plain data.

A clause is a verb with its words. A *token* is what the parser reads: "didn't" is one unit of the text and two
tokens, "did" and "n't". Conventions are those of spaCy's English models:

1. Each main verb heads a clause: finite, infinitive, gerund or participle. Auxiliaries and participles that modify
   the noun after them ("a broken cup") head none. In a copular clause it is the form of be.
2. Where a participle after be is rather an adjective ("was scared"), the form of be is the verb.
3. Subject and object are the head words of nsubj or nsubjpass, and of dobj.
4. A verb joined to another ("ran and fell") shares its subject, unless it has one or is an infinitive.
5. A word belongs to the clause of its nearest ancestor, itself included, that is a clause's verb; "and" between two
   clauses belongs to the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tslens.types import Clause

_SUBJECTS = frozenset(("nsubj", "nsubjpass"))
_NOT_VERBS = frozenset(
    ("aux", "auxpass", "amod", "compound", "nmod", "poss", "prep", "case", "mark", "punct")
)
_MODAL_ALONE = frozenset(("ROOT", "conj", "ccomp", "advcl", "relcl", "parataxis"))
_FINITE = ("VBD", "VBZ", "VBP")
_NO_OBJECT = frozenset(("be", "become", "seem"))
_COMPLEMENTS = frozenset(("acomp", "oprd", "xcomp", "ccomp"))
STATES = frozenset(
    """
    afraid alarmed amazed amused annoyed ashamed astonished bored bruised closed concerned confused
    crowded curled delighted determined disappointed embarrassed excited exhausted fascinated filled
    finished frightened frustrated gone gifted grown hurt impressed injured interested irritated jumbled
    lit locked lost married overjoyed overwhelmed pleased prepared puzzled relaxed relieved ruined
    satisfied scared shocked soaked startled stuck surprised terrified thrilled tired torn touched
    tucked unused upset wasted worried broken covered dressed supposed
    """.split()
)
"""Participles that name a state after be and feel."""
_ACTED_ON = frozenset(("agent", "by"))


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a parse. ``unit``: the (first) unit it stands in; ``head``: token, its own index for a root."""

    text: str
    pos: str
    tag: str
    lemma: str
    dep: str
    head: int
    unit: int


@dataclass(frozen=True, slots=True)
class Clauses:
    """``clauses`` in the order of their verbs; ``of_unit``: index of each unit's clause, -1 for none;
    ``state``: tokens of participles that were read as adjectives.
    """

    clauses: tuple[Clause, ...]
    of_unit: tuple[int, ...]
    states: frozenset[int]


def find_clauses(tokens: Sequence[Token], is_word: Sequence[bool]) -> Clauses:
    """Clauses of a parse. ``is_word``: per unit, whether it is a word; marks belong to no clause."""
    children: list[list[int]] = [[] for _ in tokens]
    for index, token in enumerate(tokens):
        if token.head != index:
            children[token.head].append(index)
    states = frozenset(index for index in range(len(tokens)) if _is_state(tokens, children, index))
    verb_of = _find_verbs(tokens, children, states)
    subject_of: dict[int, int | None] = {}
    for verb in sorted(verb_of, key=lambda index: _depth(tokens, index)):
        subject_of[verb] = _find_subject(tokens, children, verb, verb_of, subject_of)
    clauses: list[Clause] = []
    number: dict[int, int] = {}  # of the clause by its verb
    taken: set[int] = set()
    for verb, action in sorted(verb_of.items(), key=lambda item: tokens[item[1]].unit):
        unit = tokens[action].unit
        if unit in taken or not is_word[unit]:
            continue
        taken.add(unit)
        subject, direct = subject_of[verb], _find_object(tokens, children, verb)
        number[verb] = len(clauses)
        clauses.append(
            Clause(
                unit,
                None if subject is None else tokens[subject].unit,
                None if direct is None else tokens[direct].unit,
            )
        )
    of_unit = [-1] * len(is_word)
    seen: set[int] = set()
    for index, token in enumerate(tokens):
        if token.unit not in seen and is_word[token.unit]:
            seen.add(token.unit)
            of_unit[token.unit] = _clause_of(tokens, number, index)
    for clause_index, clause in enumerate(clauses):
        of_unit[clause.action] = clause_index
    return Clauses(tuple(clauses), tuple(of_unit), states)


def mend(tokens: Sequence[Token]) -> list[Token]:
    """A parse with one error of spaCy's small model mended.

    A name right before a finite verb that has no subject is its subject; that of "Tim liked to play" is read as a time.
    """
    with_subject = {token.head for token in tokens if token.dep in _SUBJECTS}
    named = {tokens[index + 1].text for index, token in enumerate(tokens[:-1]) if token.text == "named"}
    mended = list(tokens)
    for index, token in enumerate(tokens[:-1]):
        verb = tokens[index + 1]
        is_name = token.pos == "PROPN" or token.text in named
        is_loose = is_name and token.head == index + 1 and token.dep not in ("conj", "aux", "punct")
        if is_loose and verb.tag in _FINITE and index + 1 not in with_subject:
            mended[index] = replace(token, dep="nsubj")
    return mended


def _depth(tokens: Sequence[Token], index: int) -> int:
    depth = 0
    while tokens[index].head != index:
        index = tokens[index].head
        depth += 1
    return depth


def _is_state(tokens: Sequence[Token], children: Sequence[Sequence[int]], index: int) -> bool:
    """Whether a participle is rather an adjective: "was scared", "felt tired", but not "was scared by"."""
    token = tokens[index]
    if token.text.lower() not in STATES or token.tag not in ("VBN", "VBD", "JJ"):
        return False
    below = [tokens[child].dep for child in children[index]]
    if token.tag == "JJ" or _ACTED_ON.intersection(below):
        return False
    is_after_be = any(
        tokens[child].lemma == "be" and tokens[child].dep in ("aux", "auxpass") for child in children[index]
    )
    return is_after_be or (token.dep in _COMPLEMENTS and not _SUBJECTS.intersection(below))


def _find_verbs(
    tokens: Sequence[Token], children: Sequence[Sequence[int]], states: frozenset[int]
) -> dict[int, int]:
    """Tokens that head a clause in the parse, with the token that is its verb: of "was scared" the form of be."""
    found: dict[int, int] = {}
    for index, token in enumerate(tokens):
        if token.dep in _NOT_VERBS or not (token.text[0].isalpha() or token.text[0] in "'’"):
            continue
        if index in states:
            forms = [child for child in children[index] if tokens[child].lemma == "be"]
            if forms:
                found[index] = forms[0]
            continue
        is_verb = token.pos in ("VERB", "AUX") and (token.tag.startswith("VB") or token.dep in _MODAL_ALONE)
        modifies = token.dep == "conj" and tokens[token.head].dep in ("amod", "compound")
        if is_verb and not modifies:
            found[index] = index
    return found


def _find_subject(
    tokens: Sequence[Token],
    children: Sequence[Sequence[int]],
    verb: int,
    verb_of: dict[int, int],
    subject_of: dict[int, int | None],
) -> int | None:
    own = [child for child in children[verb] if tokens[child].dep in _SUBJECTS]
    if own:
        return own[-1]
    token = tokens[verb]
    if token.dep == "conj" and token.head in verb_of:
        is_infinitive = any(tokens[child].tag == "TO" for child in children[verb])
        is_there = any(tokens[child].dep == "expl" for child in children[verb])
        return None if is_infinitive or is_there else subject_of.get(token.head)
    return None


def _find_object(tokens: Sequence[Token], children: Sequence[Sequence[int]], verb: int) -> int | None:
    if tokens[verb].lemma in _NO_OBJECT:
        return None
    found = [child for child in children[verb] if tokens[child].dep == "dobj"]
    if len(found) > 1 and tokens[found[0]].pos == "PRON" and found[0] > verb:
        return found[1]  # "gave him a ball", both read as direct objects
    return found[0] if found else None


def _clause_of(tokens: Sequence[Token], number: dict[int, int], index: int) -> int:
    token = tokens[index]
    if token.dep == "cc":  # joins its head to the conjunct that follows
        joined = [
            other
            for other in range(index + 1, len(tokens))
            if tokens[other].dep == "conj" and tokens[other].head == token.head
        ]
        if joined and joined[0] in number:
            return number[joined[0]]
    while index not in number:
        if tokens[index].head == index:
            return -1
        index = tokens[index].head
    return number[index]
