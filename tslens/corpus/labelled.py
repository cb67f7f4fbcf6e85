"""Labelled stories: every label per unit or per token of any tokenizer, the pairs of every relation, labels of users.

A *unit* is a word or a mark (``corpus.words.find_units``). ``types.Labels`` stores what cannot be derived; this module
adds what follows from it and from characters, and carries it to tokens by character offsets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Int

from tslens.corpus.tokenizer import Splitter
from tslens.corpus.words import Span, align, find_sentences, find_units, find_words
from tslens.errors import DataError
from tslens.labels import LABELS
from tslens.types import Labels, Story

Values = Sequence[Any]
Pairs = list[tuple[int, tuple[int, ...]]]
"""Of a relation: each query unit with its key units, all earlier."""

NOTHING: Mapping[str, Any] = {"flag": False, "index": -1, "category": ""}
"""Value by kind of label where a token belongs to no unit."""

_DETERMINERS = frozenset(("the", "a", "an"))


def read_labels(story: Story) -> Labels | None:
    """Labels that a story carries in its field ``labels``, None where it has none.

    Raises DataError where the record is no ``types.Labels`` or speaks of another number of units.
    """
    row = story.extra.get("labels")
    if row is None:
        return None
    hint = "Annotate the stories anew with: tslens data annotate STORIES --out FILE"
    n_units = len(find_units(story.text))
    try:
        labels = Labels.from_json(row)
        fits = _fits(labels, n_units)
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError(
            f'A story has a field "labels" of another kind: {story.text[:40]!r}.', hint
        ) from error
    per_unit = (labels.pos, labels.lemma, labels.clause, labels.mention, labels.antecedent, labels.quote)
    if any(len(values) != n_units for values in (*per_unit, labels.story_part)):
        raise DataError(
            f"The labels of a story are for another text: {len(labels.pos)} labels, {n_units} words and marks"
            f" in {story.text[:40]!r}.",
            hint,
        )
    if not fits:
        raise DataError(f"The labels of a story point outside it: {story.text[:40]!r}.", hint)
    return labels


def _fits(labels: Labels, n_units: int) -> bool:
    """Whether all that a record points to is there, and its words are words."""
    clauses = [unit for c in labels.clauses for unit in (c.action, c.subject, c.object) if unit is not None]
    indices = [*labels.introduction, *clauses, *labels.antecedent]
    texts = (labels.made_by, *labels.pos, *labels.lemma, *labels.topics, *labels.story_part)
    return (
        _all_below(n_units, indices)
        and _all_below(len(labels.clauses), labels.clause)
        and _all_below(n_units, (*labels.mention, *labels.quote))
        and all(isinstance(text, str) for text in texts)
    )


def _all_below(n: int, indices: Sequence[int]) -> bool:
    whole = set(map(type, indices)) <= {int, bool}
    return not indices or (whole and min(indices) >= -1 and max(indices) < n)


def unit_labels(text: str, labels: Labels) -> dict[str, list[Any]]:
    """Every label of ``tslens.labels.LABELS`` per unit: flags as bool, indices as int, categories as str."""
    units = find_units(text)
    sentences = find_sentences(text)
    begins = np.searchsorted([one.start for one in sentences], [start for start, _ in units], side="right")
    sentence: list[int] = (begins - 1).tolist()
    is_word = [text[start].isalnum() for start, _ in units]
    closing = {one.closing[1] for one in sentences if one.closing}
    subjects = {clause.subject for clause in labels.clauses}
    actions = {clause.action for clause in labels.clauses}
    objects = {clause.object for clause in labels.clauses}
    first: dict[int, int] = {}
    for index in range(len(units)):
        if is_word[index]:
            first.setdefault(sentence[index], index)
    opens = set(first.values())
    introduction = set(labels.introduction)
    everyone = range(len(units))
    return {
        "pos": list(labels.pos),
        "sentence": sentence,
        "sentence_start": [i in opens for i in everyone],
        "sentence_end": [end in closing for _, end in units],
        "clause": list(labels.clause),
        "subject": [i in subjects for i in everyone],
        "action": [i in actions for i in everyone],
        "object": [i in objects for i in everyone],
        "mention": list(labels.mention),
        "antecedent": list(labels.antecedent),
        "protagonist": [m >= 0 and m == labels.protagonist for m in labels.mention],
        "introduction": [i in introduction for i in everyone],
        "topic": _is_topic(labels),
        "quote": list(labels.quote),
        "story_part": list(labels.story_part),
    }


def _is_topic(labels: Labels) -> list[bool]:
    return [p == "NOUN" and lemma in labels.topics for p, lemma in zip(labels.pos, labels.lemma, strict=True)]


# Relations --------------------------------------------------------------------------------------------------


def relation_pairs(text: str, labels: Labels) -> dict[str, Pairs]:
    """Pairs of every relation of ``tslens.labels.RELATIONS``; a query without an earlier key is left out."""
    units = find_units(text)
    words = [text[start:end].lower() for start, end in units]
    is_word = [word[0].isalnum() for word in words]
    table = unit_labels(text, labels)
    topics = [i for i, is_topic in enumerate(table["topic"]) if is_topic]
    heroes = [i for i, is_hero in enumerate(table["protagonist"]) if is_hero]
    names = [i for i, pos in enumerate(labels.pos) if pos == "PROPN" and labels.mention[i] >= 0]
    ends = [i for i, is_end in enumerate(table["sentence_end"]) if is_end]
    all_words = [i for i, yes in enumerate(is_word) if yes]
    determiners = [i for i in all_words if words[i] in _DETERMINERS]
    return {
        "subject": _earlier((c.action, [c.subject]) for c in labels.clauses),
        "action": _earlier((c.object, [c.action]) for c in labels.clauses),
        "object": _earlier(
            (i, [labels.clauses[labels.clause[i]].object]) for i in all_words if labels.clause[i] >= 0
        ),
        "antecedent": _earlier((i, [key]) for i, key in enumerate(labels.antecedent) if key >= 0),
        "name": _nearest(all_words, names),
        "protagonist": _earlier((i, heroes) for i in all_words),
        "sentence_end": _nearest(all_words, ends),
        "topic": _earlier((i, topics) for i in all_words),
        "topic_determiner": _earlier((i, topics) for i in determiners),
        "topic_next": _earlier(
            (i, [j for j in topics if labels.lemma[j] == labels.lemma[i + 1]])
            for i in determiners
            if i + 1 in topics
        ),
        "quote": _quotes(labels.quote, is_word),
    }


def _earlier(pairs: Iterator[tuple[int | None, Sequence[int | None]]]) -> Pairs:
    """Pairs with the keys before the query only."""
    kept = []
    for query, keys in pairs:
        earlier = tuple(key for key in keys if key is not None and query is not None and key < query)
        if earlier and query is not None:
            kept.append((query, earlier))
    return kept


def _nearest(queries: Sequence[int], keys: Sequence[int]) -> Pairs:
    """For each query the last key before it."""
    place = (np.searchsorted(keys, queries) - 1).tolist()
    return [(query, tuple(keys[i : i + 1])) for query, i in zip(queries, place, strict=True) if i >= 0]


def _quotes(quote: Sequence[int], is_word: Sequence[bool]) -> Pairs:
    opening: dict[int, int] = {}
    pairs: Pairs = []
    for index, stretch in enumerate(quote):
        if stretch >= 0 and opening.setdefault(stretch, index) < index and is_word[index]:
            pairs.append((index, (opening[stretch],)))
    return pairs


# Tokens -----------------------------------------------------------------------------------------------------


def token_units(text: str, offsets: Sequence[Span] | Int[np.ndarray, "token 2"]) -> Int[np.ndarray, " token"]:
    """Unit that each token belongs to, -1 for none (blanks).

    ``offsets``: characters of each token, in order. A token that overlaps several units belongs to the last word
    among them, else to the last mark. Every piece of a word belongs to it.
    """
    units = find_units(text)
    first, last = align(units, offsets)
    owner = np.full(len(offsets), -1, dtype=np.int64)
    is_word = np.array([text[start].isalnum() for start, _ in units], dtype=bool)
    order = np.argsort(is_word, kind="stable")  # words last, so that they win
    size = np.maximum(last - first + 1, 0)[order]
    place = np.arange(size.sum()) + np.repeat(first[order] - (np.cumsum(size) - size), size)
    owner[place] = np.repeat(order, size)
    return owner


def token_labels(
    text: str, table: Mapping[str, Values], offsets: Sequence[Span] | Int[np.ndarray, "token 2"]
) -> dict[str, list[Any]]:
    """Labels per unit carried to tokens.

    Every piece of a word has the word's labels. A flag also marks each token that overlaps a flagged unit, so
    that a token '."' is a sentence end; an event at the end of a unit is marked on its last token only.
    Labels of users take None where a token belongs to no unit.
    """
    owner = token_units(text, offsets)
    units = find_units(text)
    first, last = align(units, offsets)
    kinds = {label.name: label.kind for label in LABELS}
    carried: dict[str, list[Any]] = {}
    for name, values in table.items():
        nothing = NOTHING[kinds[name]] if name in kinds else None
        column = [values[unit] if unit >= 0 else nothing for unit in owner.tolist()]
        if kinds.get(name) == "flag":
            flagged = [unit for unit, value in enumerate(values) if value and first[unit] <= last[unit]]
            ends_only = name == "sentence_end"
            column = [value and not ends_only for value in column]
            for unit in flagged:
                begin = last[unit] if ends_only else first[unit]
                column[begin : last[unit] + 1] = [True] * (last[unit] + 1 - begin)
        carried[name] = column
    return carried


def tokenized(story: Story, split: Splitter, user_names: Sequence[str] = ()) -> dict[str, Any]:
    """Tokens of a labelled story with the labels of each: tokens, offsets, unit (-1: none), labels by name.

    ``split``: text to the characters of each token (``corpus.tokenizer.read_splitter``). ``user_names``: columns of the
    user to carry along. Indices (clause, mention, antecedent, ...) stay those of the story's units and entities.
    Raises DataError for a story without labels.
    """
    labels = read_labels(story)
    if labels is None:
        raise DataError(
            f"A story has no labels: {story.text[:40]!r}.",
            "Give them with: tslens data annotate STORIES --out FILE",
        )
    table: dict[str, Values] = {**unit_labels(story.text, labels)}
    table |= {name: user_label(story, name) for name in user_names}
    offsets = split(story.text)
    return {
        "tokens": [story.text[start:end] for start, end in offsets],
        "offsets": [list(span) for span in offsets],
        "unit": token_units(story.text, offsets).tolist(),
        "labels": token_labels(story.text, table, offsets),
    }


# Labels of users --------------------------------------------------------------------------------------------


def user_label(story: Story, name: str) -> list[Any]:
    """A user's own label per unit, from a further field of the story's line; None for units without a value.

    The field is a list with one value for each word as parted by blanks, or for each word (``find_words``), or for
    each unit (``find_units``), tried in this order. Where words are parted by blanks, the marks that touch a word
    share its value. Raises DataError where the story has no such list, one of another length, or one that fits
    two of these and would put a word's value elsewhere.
    """
    values = story.extra.get(name)
    place = f"in the story {story.text[:40]!r}"
    if not isinstance(values, list):
        raise DataError(
            f'There is no list "{name}" {place}.', f'Write each line as {{"text": "...", "{name}": [...]}}.'
        )
    units = find_units(story.text)
    found = [
        _on_units(units, spans, values)
        for spans in (_parted_by_blanks(story.text), find_words(story.text), units)
        if len(values) == len(spans)
    ]
    on_words = [
        [v for v, (start, _) in zip(f, units, strict=True) if story.text[start].isalnum()] for f in found
    ]
    if found and all(words == on_words[0] for words in on_words):
        return found[0]
    if found:
        raise DataError(
            f'The list "{name}" can be read in two ways {place}.',
            f"Give {len(units)} values: one for each word and mark.",
        )
    raise DataError(
        f'The list "{name}" has {len(values)} values {place}.',
        f"Give one for each of its {len(story.text.split())} words parted by blanks,"
        f" {len(find_words(story.text))} words, or {len(units)} words and marks.",
    )


def _parted_by_blanks(text: str) -> list[Span]:
    edges = [0, *(i + 1 for i, char in enumerate(text) if char.isspace()), len(text) + 1]
    return [(begin, end - 1) for begin, end in pairwise(edges) if end - 1 > begin]


def _on_units(units: Sequence[Span], spans: Sequence[Span], values: Values) -> list[Any]:
    starts = [start for start, _ in spans]
    place = np.searchsorted(starts, [start for start, _ in units], side="right") - 1
    inside = [i >= 0 and start < spans[i][1] for i, (start, _) in zip(place.tolist(), units, strict=True)]
    return [values[i] if yes else None for i, yes in zip(place.tolist(), inside, strict=True)]
