"""A story with its labels in colour, as one page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tslens.corpus.labelled import relation_pairs, unit_labels
from tslens.corpus.words import find_units
from tslens.labels import LABELS, MADE_BY_AUTHOR, RELATIONS
from tslens.types import Labels
from tslens.viz.page import build_page, definitions, escape, limits_section, write_page

LAYERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "grammar": ("Subject, action, object", ("subject", "action", "object")),
    "entities": ("Who is who", ("protagonist", "introduction")),
    "topic": ("Topic", ("topic",)),
    "speech": ("Direct speech", ("quote",)),
    "parts": ("Parts of the story", ()),
    "pos": ("Parts of speech", ()),
}
"""What the page can colour: its name, and the flags that are coloured."""

_COLOURS = 8


def write_labels_page(
    path: Path, *, text: str, labels: Labels, title: str, header: Mapping[str, str]
) -> None:
    """Write the page of one labelled story: every label in colour, and for each word what is known of it.

    The first layer is coloured without scripts. Equal input gives equal bytes. Raises RunError where ``path``
    cannot be written.
    """
    table = unit_labels(text, labels)
    units = find_units(text)
    relations = relation_pairs(text, labels)
    keys: list[dict[str, list[int]]] = [{} for _ in units]
    for name, pairs in relations.items():
        for query, found in pairs:
            keys[query][name] = list(found)
    rows = [_known(index, table, labels) for index in range(len(units))]
    write_page(
        path,
        build_page(
            title=title,
            lead=summarise_labels(text, labels),
            header={**header, "labels by": labels.made_by},
            main=_story(text, table) + _scheme() + limits_section(_limits(labels)),
            data={"units": rows, "keys": keys},
            scripts=("labels.js",),
            has_patterns=False,
        ),
    )


def summarise_labels(text: str, labels: Labels) -> str:
    """One sentence: who the story is about, its topics, how many sentences and clauses it has."""
    n_sentences = len(set(unit_labels(text, labels)["sentence"]))
    who = introduction_of(text, labels)
    said = f"A story about {who}" if who else "A story about nobody in particular"
    topics = f" Topics: {', '.join(labels.topics)}." if labels.topics else ""
    counts = [(n_sentences, "sentence"), (len(labels.clauses), "clause")]
    counted = ", ".join(f"{number} {noun}{'s' * (number != 1)}" for number, noun in counts)
    return f"{said}: {counted}.{topics}"


def introduction_of(text: str, labels: Labels) -> str:
    """The words by which the protagonist comes in, empty where there is none."""
    if not labels.introduction:
        return ""
    units = find_units(text)
    return text[units[labels.introduction[0]][0] : units[labels.introduction[-1]][1]]


def _known(index: int, table: Mapping[str, list[Any]], labels: Labels) -> dict[str, Any]:
    """Labels of one unit that say something."""
    known = {"pos": labels.pos[index], "lemma": labels.lemma[index]}
    for label in LABELS:
        value = table[label.name][index]
        if label.kind == "flag":
            if value:
                known[label.name] = "yes"
        elif value not in (-1, "") and label.name != "antecedent":
            known[label.name] = value
    return known


def _story(text: str, table: Mapping[str, list[Any]]) -> str:
    units = find_units(text)
    spans = []
    last = 0
    for index, (start, end) in enumerate(units):
        spans.append(escape_blanks(text[last:start]))
        names = [name for _, flags in LAYERS.values() for name in flags if _is_set(table[name][index])]
        entity = table["mention"][index]
        if entity >= 0:
            names += ["entity", f"e{entity % _COLOURS}"]
        names += [f"part-{table['story_part'][index]}", f"pos-{table['pos'][index]}"]
        spans.append(f'<span class="{" ".join(names)}" data-u="{index}">{escape(text[start:end])}</span>')
        last = end
    spans.append(escape_blanks(text[last:]))
    buttons = "".join(
        f'<button type="button" data-layer="{name}" aria-pressed="{"true" if name == "grammar" else "false"}">'
        f"{escape(title)}</button>"
        for name, (title, _) in LAYERS.items()
    )
    return (
        '<section id="labelled">\n<h2>The story</h2>\n'
        f'<p class="layers">{buttons}</p>\n'
        '<p class="legend" id="legend"><span class="swatch subject">subject</span>'
        '<span class="swatch action">action</span><span class="swatch object">object</span></p>\n'
        f'<div class="split"><p class="text labelled" data-layer="grammar">{"".join(spans)}</p>\n'
        '<div class="card" id="word" aria-live="polite"><p class="hint">Choose a word to see all that is known of it,'
        " and where its relations point.</p></div></div>\n</section>\n"
    )


def _is_set(value: Any) -> bool:
    return value is True or (not isinstance(value, bool) and isinstance(value, int) and value >= 0)


def escape_blanks(text: str) -> str:
    """What stands between units: blanks, and a line break for each newline."""
    return "".join("<br>" if char == "\n" else escape(char) for char in text)


def _scheme() -> str:
    labels = definitions({label.name.replace("_", " "): label.definition for label in LABELS})
    relations = definitions(
        {r.name.replace("_", " "): f"{r.query} \N{RIGHTWARDS ARROW} {r.key}" for r in RELATIONS}
    )
    return (
        f'<section id="scheme">\n<h2>What the labels mean</h2>\n{labels}'
        f"<h3>Relations, from a word to earlier ones</h3>\n{relations}</section>\n"
    )


def _limits(labels: Labels) -> list[str]:
    if labels.made_by == MADE_BY_AUTHOR:
        return ["How people would label it: these labels come from the author's own plan and sentences."]
    return [
        "The truth: a parser and rules made these labels. docs/methods.md says how often each is right.",
        "Who is meant where the text itself leaves it open.",
    ]
