"""What the offline story author draws from: words, plots and sentences of the assets, and their notation.

``assets/author_words.toml`` holds names, lists and tables; ``assets/author_scenes.toml`` plots and sentences, and
at its head the notation.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

Row = Mapping[str, str]

_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiouAEIOU])(?!one\b|uni|use)")
_CONTRACTIONS = tuple(
    (re.compile(pattern), short)
    for pattern, short in (
        (
            r"\b([Dd]id|[Dd]o|[Dd]oes|[Ww]as|[Ww]ere|[Cc]ould|[Ww]ould|[Hh]ad|[Ii]s|[Aa]re|[Hh]as) not\b",
            r"\1n't",
        ),
        (r"\b([Cc]an)not\b", r"\1't"),
        (r"\bwill not\b", "won't"),
        (r"\b([Ll]et) us\b", r"\1's"),
        (r"\b(It|That) is (?=[a-z])", r"\1's "),
        (r"\bI am (?=[a-z])", "I'm "),
        (r"\bI will (?=[a-z])", "I'll "),
        (r"\bYou are (?=[a-z])", "You're "),
    )
)
_MARKUP = re.compile(r"\{([^{}]+)\}|<(\w+)>|([\[\]|])")


@dataclass(frozen=True, slots=True)
class Slot:
    """``{key}``: a word that the plan decides; a capital first letter asks for a capital."""

    key: str


@dataclass(frozen=True, slots=True)
class Choice:
    """``[one|two]``: one of the options."""

    options: tuple[Template, ...]


@dataclass(frozen=True, slots=True)
class Pick:
    """``<name>``: one line of a list that the story has not used; a capital first letter asks for a capital."""

    name: str


Template = tuple[str | Slot | Choice | Pick, ...]


@dataclass(frozen=True, slots=True)
class Words:
    """Names by girl, boy, girl_animal and boy_animal; lists of single words; tables of rows by column."""

    names: Mapping[str, Sequence[str]]
    lists: Mapping[str, Sequence[str]]
    tables: Mapping[str, Sequence[Row]]


@dataclass(frozen=True, slots=True)
class Grammar:
    """Plots (scenes of each part, and ``never``: traits no hero of it has), lists and scenes, as lines."""

    plots: Mapping[str, Row]
    lists: Mapping[str, Sequence[str]]
    scenes: Mapping[str, Sequence[str]]


def _read_asset(name: str) -> dict[str, Any]:
    return tomllib.loads((resources.files("tslens") / "assets" / name).read_text(encoding="utf-8"))


@cache
def load_words() -> Words:
    """The words, read once."""
    asset = _read_asset("author_words.toml")
    tables: dict[str, list[Row]] = {}
    for name, block in asset["tables"].items():
        header, *rows = (line.split(" ; ") for line in block.strip().splitlines())
        tables[name] = [dict(zip(header, row, strict=True)) for row in rows]
    split = {part: {name: text.split() for name, text in asset[part].items()} for part in ("names", "lists")}
    return Words(split["names"], split["lists"], tables)


@cache
def load_grammar() -> Grammar:
    """Plots, lists and scenes, read once."""
    asset = _read_asset("author_scenes.toml")
    lists = {name: block.strip().splitlines() for name, block in asset["lists"].items()}
    scenes = {
        f"{group}.{name}": block.strip().splitlines()
        for group, blocks in asset["scenes"].items()
        for name, block in blocks.items()
    }
    return Grammar(asset["plots"], lists, scenes)


@cache
def list_tellings(scene: str, world: str, has_dialogue: bool) -> tuple[str, ...]:
    """The ways to tell a scene that suit a story: its world, and with or without direct speech."""
    lines = []
    for line in load_grammar().scenes[scene]:
        tag, _, rest = line.partition(" ") if line.startswith("@") else ("", "", line)
        if tag in ("", f"@{world}") and (has_dialogue or '"' not in rest):
            lines.append(rest)
    return tuple(lines)


@cache
def parse_line(line: str) -> Template:
    """Read the notation of a line: text, {slot}, <list>, [one|two].

    Raises: ValueError or IndexError for brackets that do not match, which is a mistake in the assets.
    """
    open_choices: list[list[list[str | Slot | Choice | Pick]]] = [[[]]]
    end = 0
    for found in _MARKUP.finditer(line):
        open_choices[-1][-1].append(line[end : found.start()])
        slot, pick, mark = found.groups()
        if slot:
            open_choices[-1][-1].append(Slot(slot))
        elif pick:
            open_choices[-1][-1].append(Pick(pick))
        elif mark == "[":
            open_choices.append([[]])
        elif mark == "|":
            open_choices[-1].append([])
        else:
            options = open_choices.pop()
            open_choices[-1][-1].append(Choice(tuple(tuple(option) for option in options)))
        end = found.end()
    ((nodes,),) = open_choices
    return (*nodes, line[end:])


def spell(text: str, *, contracts: bool) -> str:
    """The text with "a" made "an" where a vowel follows, and "didn't", "I'm", "let's" where wanted."""
    text = _ARTICLE.sub(r"\1n ", text)
    for pattern, short in _CONTRACTIONS if contracts else ():
        text = pattern.sub(short, text)
    return text
