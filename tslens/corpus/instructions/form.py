"""Instructions as text and as records: written as in the published TinyStories-Instruct data, and read back.

A prompt is one line for each kind that is asked for, in any order, and then ``Story:``; the story follows from the next
line on::

    Words: swim, frog, sad
    Random sentence: He was very wet.
    Features: Dialogue, BadEnding
    Summary: Lily loses her ball and finds it under a tree.
    Story:
    Once upon a time ...

The first line ``Story:`` ends the prompt, so that a story may hold any line of its own. Source of the kinds: Eldan and
Li 2023, TinyStories (arXiv:2305.07759), "TinyStories-Instruct".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from tslens.errors import DataError
from tslens.labels import FEATURES

Kind = Literal["words", "sentence", "features", "summary"]
KINDS: tuple[Kind, ...] = get_args(Kind)

HEADERS: Mapping[Kind, str] = {
    "words": "Words:",
    "sentence": "Random sentence:",
    "features": "Features:",
    "summary": "Summary:",
}
STORY = "Story:"
FEATURE_NAMES = {name: name.title().replace("_", "") for name in FEATURES}
"""Names of features in prompts, by their names in ``labels.FEATURES``: bad_ending is BadEnding."""

_FEATURES_BY_NAME = {written.lower(): name for name, written in FEATURE_NAMES.items()} | {
    "plottwist": "twist"
}
_HINT = (
    "A prompt has lines that begin with "
    + ", ".join(f'"{header}"' for header in HEADERS.values())
    + ', each at most once, and then a line "Story:".'
)


def feature_of(text: str) -> str | None:
    """The feature that a text names ("BadEnding", "bad ending", "plot twist"), of ``labels.FEATURES``; None: none."""
    return _FEATURES_BY_NAME.get(re.sub(r"[\s_-]", "", text.lower()))


@dataclass(frozen=True)
class Instruction:
    """What a story is asked for.

    ``kinds``: those asked for, in the order of the prompt; the fields of the others are empty. ``words_pos``: parts of
    speech of the words (VERB, NOUN, ADJ), empty where not known: a prompt does not show them. ``features``: names of
    ``labels.FEATURES``. ``sentence``, ``summary``: one line each.
    """

    kinds: tuple[Kind, ...]
    words: tuple[str, ...] = ()
    words_pos: tuple[str, ...] = ()
    sentence: str = ""
    features: tuple[str, ...] = ()
    summary: str = ""

    def as_prompted(self) -> Instruction:
        """The instruction as its prompt shows it: without parts of speech."""
        return replace(self, words_pos=())

    def to_json(self) -> dict[str, Any]:
        """The kinds that are asked for, by name, in the order of the prompt; ``words_pos`` after ``words``."""
        row: dict[str, Any] = {}
        for kind in self.kinds:
            value = getattr(self, kind)
            row[kind] = list(value) if isinstance(value, tuple) else value
            if kind == "words" and self.words_pos:
                row["words_pos"] = list(self.words_pos)
        return row

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Instruction:
        """Inverse of :meth:`to_json`. Raises DataError for another record."""
        values = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in row.items()
            if name in (*KINDS, "words_pos")
        }
        kinds = tuple(kind for kind in values if kind != "words_pos")
        is_text = {"sentence", "summary"}
        is_fit = kinds and all(isinstance(value, str) == (name in is_text) for name, value in values.items())
        if is_fit:
            found = cls(kinds=kinds, **values)  # type: ignore[arg-type]  # the keys are KINDS
            if found._can_be_written():
                return found
        raise DataError(f"This is no instruction: {str(dict(row))[:80]}.", f"Kinds: {', '.join(KINDS)}.")

    def _can_be_written(self) -> bool:
        """Whether each value is a text that a prompt gives back."""
        texts = (*self.words, *self.features, *(x for x in (self.sentence, self.summary) if x))
        return (
            all(getattr(self, kind) for kind in self.kinds)
            and all(isinstance(text, str) and text.strip() == text != "" for text in texts)
            and not any("\n" in text or "\r" in text for text in texts)
            and not any("," in word for word in self.words)
            and set(self.features) <= set(FEATURE_NAMES)
            and len(self.words_pos) in (0, len(self.words))
        )


@dataclass(frozen=True, slots=True)
class ParsedPrompt:
    """A prompt that was read back. ``story``: what follows it, empty where nothing does."""

    instruction: Instruction
    story: str


def write_prompt(instruction: Instruction) -> str:
    """The instruction as text, up to and with ``Story:``; no line ends in a blank, the last has no newline."""
    lines = [f"{HEADERS[kind]} {_written(instruction, kind)}" for kind in instruction.kinds]
    return "\n".join((*lines, STORY))


def write_text(instruction: Instruction, story: str) -> str:
    """Prompt and story, as a model reads them."""
    return f"{write_prompt(instruction)}\n{story}"


def parse_prompt(text: str) -> ParsedPrompt:
    """Read a prompt back, with or without a story after it.

    What :func:`write_prompt` wrote comes back as it was. Also read: blanks at the ends of lines, empty lines between
    lines of the prompt and after ``Story:``, a story that begins on the line of ``Story:``, names of features in any
    case, a summary of several lines (joined by blanks). Raises DataError, with the line, for anything else.
    """
    found: dict[Kind, str] = {}
    last: Kind | None = None
    rest = text.removeprefix("\ufeff").replace("\r\n", "\n")
    while True:
        line, newline, rest = rest.partition("\n")
        bare = line.strip(" \t")
        if bare.startswith(STORY):
            story = bare.removeprefix(STORY).lstrip(" \t") + newline + rest
            break
        kind = next((kind for kind, header in HEADERS.items() if bare.startswith(header)), None)
        if kind is None and bare and last == "summary":
            found["summary"] += f" {bare}"
        elif kind is None and bare:
            raise DataError(f"This is no line of an instruction: {line[:60]!r}.", _HINT)
        if kind in found:
            raise DataError(f'A prompt has two lines "{HEADERS[kind]}".', _HINT)
        if kind:
            last = kind
            found[kind] = bare.removeprefix(HEADERS[kind]).strip(" \t")
            if not found[kind]:
                raise DataError(f'There is nothing after "{HEADERS[kind]}".', _HINT)
        if not newline:
            raise DataError(f'There is no line "Story:" in the prompt {text[:60]!r}.', _HINT)
    if not found:
        raise DataError('A prompt asks for nothing: there is no line before "Story:".', _HINT)
    values: dict[str, Any] = {kind: _read(kind, value) for kind, value in found.items()}
    return ParsedPrompt(Instruction(kinds=tuple(found), **values), story.lstrip(" \t\n"))


def _written(instruction: Instruction, kind: Kind) -> str:
    if kind == "words":
        return ", ".join(instruction.words)
    if kind == "features":
        return ", ".join(FEATURE_NAMES[name] for name in instruction.features)
    return instruction.sentence if kind == "sentence" else instruction.summary


def _read(kind: Kind, value: str) -> str | tuple[str, ...]:
    if kind in ("sentence", "summary"):
        return value
    parts = tuple(part for part in (part.strip() for part in value.split(",")) if part)
    if not parts:
        raise DataError(f'There is nothing after "{HEADERS[kind]}".', _HINT)
    if kind == "words":
        return parts
    names = []
    for part in parts:
        name = feature_of(part)
        if name is None:
            raise DataError(
                f'"{part}" is no feature of stories.', f"Choose of: {', '.join(FEATURE_NAMES.values())}."
            )
        names.append(name)
    return tuple(names)
