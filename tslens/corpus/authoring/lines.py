"""What the offline story author draws from: words, plots and sentences of ``assets/author``, and their notation.

``words.toml`` holds names, lists and tables; ``common.toml`` the notation at its head, and what all plots share;
``plot_*.toml`` one plot each. Gold marks in the sentences are read by ``corpus.authoring.markup``.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import Any

from tslens.corpus.vocabulary import article

Row = Mapping[str, str]

_MARKS = r"(?:_[vios](?![a-z])|@[a-z0-9]+(?:[+.][a-z0-9]+)*|\^[A-Z]+)*"
_ARTICLE = re.compile(r"\b([Aa])(?= (?:\* ?)?([A-Za-z]+(?:-[a-z]+)?))")
_CONTRACTIONS = tuple(
    (re.compile(pattern), short)
    for pattern, short in (
        (
            rf"\b([Dd]id|[Dd]o|[Dd]oes|[Ww]as|[Ww]ere|[Cc]ould|[Ww]ould|[Hh]ad|[Ii]s|[Aa]re|[Hh]as)({_MARKS}) not\b",
            r"\1n't\2",
        ),
        (rf"\b([Cc]an)not({_MARKS})\b", r"\1't\2"),
        (r"\bwill not\b", "won't"),
        (rf"\b([Ll]et)({_MARKS})(?: /)? us(?:{_MARKS}) (\w+)_[vi]", r"\1's\2 / \3_i"),
        (rf"\b(It|That)({_MARKS}) is({_MARKS}) (?=[a-z])", r"\1's\2\3 "),
        (rf"\bI({_MARKS}) am({_MARKS}) (?=[a-z])", r"I'm\1\2 "),
        (rf"\bI({_MARKS}) will (?=[a-z])", r"I'll\1 "),
        (rf"\bYou({_MARKS}) are({_MARKS}) (?=[a-z])", r"You're\1\2 "),
    )
)
_MARKUP = re.compile(rf"\{{([^{{}}]+)\}}({_MARKS})|<(\w+)>({_MARKS})|\]({_MARKS})|([\[|])")


@dataclass(frozen=True, slots=True)
class Slot:
    """``{key}``: what the plan decides; a capital first letter asks for a capital. ``marks``: of its head word."""

    key: str
    marks: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """``[one|two]``: one of the options."""

    options: tuple[Template, ...]
    marks: str = ""


@dataclass(frozen=True, slots=True)
class Pick:
    """``<name>``: one line of a list that the story has not used; a capital first letter asks for a capital."""

    name: str
    marks: str = ""


Template = tuple[str | Slot | Choice | Pick, ...]


@dataclass(frozen=True, slots=True)
class Words:
    """Names by girl, boy, girl_animal and boy_animal; lists of single words; tables of rows by column."""

    names: Mapping[str, Sequence[str]]
    lists: Mapping[str, Sequence[str]]
    tables: Mapping[str, Sequence[Row]]


@dataclass(frozen=True, slots=True)
class Grammar:
    """Plots (scenes of each part, and ``never``: traits no hero of it has), lists, scenes and summaries, as lines."""

    plots: Mapping[str, Row]
    lists: Mapping[str, Sequence[str]]
    scenes: Mapping[str, Sequence[str]]
    summaries: Mapping[str, Mapping[str, Sequence[str]]]


def _read_asset(name: str) -> dict[str, Any]:
    return tomllib.loads((resources.files("tslens") / "assets/author" / name).read_text(encoding="utf-8"))


def _lines(blocks: Mapping[str, str], prefix: str = "") -> dict[str, list[str]]:
    return {f"{prefix}{name}": block.strip().splitlines() for name, block in blocks.items()}


def _table(block: str) -> list[Row]:
    header, *rows = (line.split(" ; ") for line in block.strip().splitlines())
    return [dict(zip(header, row, strict=True)) for row in rows]


@cache
def _plots() -> Mapping[str, dict[str, Any]]:
    """The plot files by the name of their plot, in the order of these names."""
    folder = resources.files("tslens") / "assets/author"
    names = sorted(file.name for file in folder.iterdir() if file.name.startswith("plot_"))
    return {name.removeprefix("plot_").removesuffix(".toml"): _read_asset(name) for name in names}


@cache
def load_words() -> Words:
    """The words, read once; a plot's own table goes by the name of the plot."""
    asset = _read_asset("words.toml")
    tables = {name: _table(block) for name, block in asset["tables"].items()}
    tables |= {name: _table(plot["table"]["rows"]) for name, plot in _plots().items() if "table" in plot}
    split = {part: {name: text.split() for name, text in asset[part].items()} for part in ("names", "lists")}
    return Words(split["names"], split["lists"], tables)


@cache
def load_grammar() -> Grammar:
    """Plots, lists, scenes and summaries, read once."""
    asset = _read_asset("common.toml")
    scenes = _lines(asset["scenes"], "any.")
    for name, plot in _plots().items():
        scenes |= _lines(plot["scenes"], f"{name}.")
    return Grammar(
        {name: plot["parts"] for name, plot in _plots().items()},
        _lines(asset["lists"]),
        scenes,
        {name: _lines(plot["summary"]) for name, plot in _plots().items()},
    )


@cache
def list_tellings(scene: str, world: str, has_dialogue: bool) -> tuple[str, ...]:
    """The ways to tell a scene that suit a story: its world, and with or without direct speech."""
    lines = []
    for line in load_grammar().scenes[scene]:
        tag, _, rest = line.partition(" ") if line.startswith("@") else ("", "", line)
        if tag in ("", f"@{world}") and (has_dialogue or '"' not in rest):
            lines.append(rest)
    return tuple(lines)


@lru_cache(maxsize=8192)  # the assets have fewer lines; sentences for given words come and go
def parse_line(line: str) -> Template:
    """Read the notation of a line: text, {slot}, <list>, [one|two], each with the marks that follow it.

    Raises: ValueError or IndexError for brackets that do not match, which is a mistake in the assets.
    """
    open_choices: list[list[list[str | Slot | Choice | Pick]]] = [[[]]]
    end = 0
    for found in _MARKUP.finditer(line):
        open_choices[-1][-1].append(line[end : found.start()])
        slot, slot_marks, pick, pick_marks, choice_marks, mark = found.groups()
        if slot:
            open_choices[-1][-1].append(Slot(slot, slot_marks))
        elif pick:
            open_choices[-1][-1].append(Pick(pick, pick_marks))
        elif mark == "[":
            open_choices.append([[]])
        elif mark == "|":
            open_choices[-1].append([])
        else:
            options = open_choices.pop()
            open_choices[-1][-1].append(Choice(tuple(tuple(option) for option in options), choice_marks))
        end = found.end()
    ((nodes,),) = open_choices
    return (*nodes, line[end:])


def put_marks(text: str, marks: str) -> str:
    """Marks on the head of a phrase: the word before "~", else the last word."""
    head, tilde, rest = text.partition("~")
    return f"{head}{marks}{rest}" if tilde else text + marks


def spell(text: str, *, contracts: bool) -> str:
    """The text with "a" made "an" where a vowel follows, and "didn't", "I'm", "let's" where wanted."""
    text = _ARTICLE.sub(lambda found: found[1] + article(found[2])[1:], text)
    for pattern, short in _CONTRACTIONS if contracts else ():
        text = pattern.sub(short, text)
    return text
