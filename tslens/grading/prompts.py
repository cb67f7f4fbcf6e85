"""What models are given to write on: beginnings of stories, sets of instructions, short prompts; and rules for answers.

The package's own are in ``assets/grading``, each file with a version: a change of a file is a new version, as grades of
two versions do not compare. Every beginning is cut from a whole story, whose ending is kept: it is graded beside those
of the models, as "true ending". A user's own beginnings come from a file: a YAML list of strings (as those of Eldan and
Li 2023 are), a JSON list, or lines of ``{"prompt": ...}``.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from tslens.corpus.instructions.form import Instruction
from tslens.errors import DataError
from tslens.reading import BROKEN, parse_json, read_text, split_rows

Group = Literal["factual", "reasoning", "context"]
Outcome = Literal["success", "partial", "failure"]
ANSWER_WORDS = 6  # the words of an answer that are looked at


@dataclass(frozen=True)
class Beginning:
    """The beginning of a story. ``demands``: what the next words have to be, None where not known.

    ``ending``: how its author went on, with the blank or new line that it begins with; None where not known.
    """

    id: str
    text: str
    ending: str | None = None
    demands: str | None = None


@dataclass(frozen=True)
class InstructionSet:
    """What a story is asked for. ``held_out``: training never asks for this combination of kinds."""

    id: str
    instruction: Instruction
    held_out: bool


@dataclass(frozen=True)
class ShortPrompt:
    """A sentence to be ended by a word or two.

    ``success``, ``partial``: words that show such an answer; hints only where not ``by_rule``: there a judge decides by
    ``criterion``, ``partial_criterion`` and ``failure``.
    """

    id: str
    group: Group
    text: str
    success: tuple[str, ...]
    partial: tuple[str, ...]
    by_rule: bool
    criterion: str
    partial_criterion: str
    failure: str

    def outcome(self, completion: str) -> Outcome:
        """What an answer is by rule. Raises ValueError for a prompt that needs a judge.

        Its first ``ANSWER_WORDS`` words up to the end of the sentence count: one of ``success`` among them is success,
        unless "not", "no" or "never" stands right before it, with an article between or not; else one of ``partial``.
        """
        if not self.by_rule:
            raise ValueError(f"{self.id} is for a judge.")
        words = answer_words(completion)
        if _says(words, self.success):
            return "success"
        return "partial" if _says(words, self.partial) else "failure"


_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
_END = re.compile(r"[.!?\n]")
_DENIALS = frozenset({"not", "no", "never"})
_ARTICLES = frozenset({"a", "an", "the", "very", "so", "really"})


def answer_words(completion: str) -> tuple[str, ...]:
    """The words of an answer that are looked at, in small letters; marks before the first word end nothing."""
    text = completion.lower()
    first = _WORD.search(text)
    if first is None:
        return ()
    end = _END.search(text, first.end())
    found = _WORD.findall(text[first.start() : end.start() if end else len(text)])
    return tuple(found[:ANSWER_WORDS])


def _says(words: Sequence[str], known: Sequence[str]) -> bool:
    """Whether one of the known answers, of a word or more, is there and not denied."""
    for answer in known:
        parts = answer.lower().split()
        for at in range(len(words) - len(parts) + 1):
            if list(words[at : at + len(parts)]) == parts and not _is_denied(words[:at]):
                return True
    return False


def _is_denied(before: Sequence[str]) -> bool:
    left = [word for word in before if word not in _ARTICLES]
    return bool(left) and (left[-1] in _DENIALS or left[-1].endswith("n't"))


# The package's own ----------------------------------------------------------------------------------------------


@cache
def load_beginnings() -> tuple[Beginning, ...]:
    """The package's beginnings of stories with their endings."""
    return tuple(
        Beginning(one["id"], one["beginning"], one["ending"], one["demands"])
        for one in _asset("beginnings.toml")["story"]
    )


@cache
def load_instruction_sets() -> tuple[InstructionSet, ...]:
    """The package's sets of instructions."""
    return tuple(
        InstructionSet(one["id"], Instruction.from_json(one), one["held_out"])
        for one in _asset("instructions.toml")["set"]
    )


@cache
def load_short_prompts() -> tuple[ShortPrompt, ...]:
    """The package's short prompts."""
    found = []
    for one in _asset("short_prompts.toml")["prompt"]:
        assert one["group"] in get_args(Group)
        success, partial = tuple(one["success"]), tuple(one["partial"])
        told = (one["criterion"], one["partial_criterion"], one["failure"])
        found.append(
            ShortPrompt(one["id"], one["group"], one["prompt"], success, partial, one["by_rule"], *told)
        )
    return tuple(found)


def version_of(name: Literal["beginnings", "instructions", "short_prompts"]) -> int:
    """The version of one of the package's files."""
    return int(_asset(f"{name}.toml")["version"])


@cache
def _asset(name: str) -> dict[str, Any]:
    return tomllib.loads((resources.files("tslens") / "assets/grading" / name).read_text(encoding="utf-8"))


# A user's -------------------------------------------------------------------------------------------------------


def read_beginnings(path: Path) -> tuple[Beginning, ...]:
    """Beginnings from a file: ``.yaml`` or ``.json`` (a list of strings), ``.jsonl`` (``{"prompt": ...}`` a line).

    Raises DataError if it is absent, of another form, or empty.
    """
    try:
        suffix = path.suffix.lower()
        text = read_text(path, at_most=YAML_BYTES if suffix in YAML else PROMPT_BYTES)
        found = _texts(text, suffix)
        "".join(found).encode()  # half of a character is a ValueError: no model is asked with it
    except (OSError, *BROKEN) as error:
        raise DataError(f"Cannot read prompts from {path}: {error}.", _HINT) from error
    if not found:
        raise DataError(f"There is no prompt in {path}.", _HINT)
    return tuple(Beginning(f"p{number:03d}", one) for number, one in enumerate(found, 1))


YAML = (".yaml", ".yml")
PROMPT_BYTES = 16_000_000  # of a file of prompts
YAML_BYTES = 1_000_000  # of one in YAML, which is read at half a megabyte a second
YAML_TEXTS = 10_000  # and at ten thousand texts a second


def _check_plain(events: Iterable[Any]) -> None:
    """Raise ValueError for YAML that repeats a part of itself, which unfolds to any size, is no flat list, or long."""
    n_open = 0
    for number, event in enumerate(events):
        kind = type(event).__name__
        if number > YAML_TEXTS:
            raise ValueError(f"it has more than {YAML_TEXTS:,} texts, which YAML is too slow for")
        n_open += kind.endswith(("SequenceStartEvent", "MappingStartEvent"))
        n_open -= kind.endswith(("SequenceEndEvent", "MappingEndEvent"))
        if kind == "AliasEvent" or n_open > 1:
            raise ValueError("it is not a list of texts")


_HINT = 'Give a .yaml or .json list of strings, or a .jsonl file of {"prompt": "..."} lines.'


def _texts(text: str, suffix: str) -> list[str]:
    if suffix == ".jsonl":
        rows = [parse_json(line)["prompt"] for line in split_rows(text) if line.strip()]
    elif suffix in YAML:
        import yaml

        try:
            _check_plain(yaml.parse(text, yaml.SafeLoader))
            rows = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(str(error).splitlines()[0]) from error
    elif suffix == ".json":
        rows = parse_json(text)
    else:
        raise ValueError(f'"{suffix}" is no kind of prompts')
    if not isinstance(rows, list) or not all(isinstance(row, str) and row.strip() for row in rows):
        raise ValueError("it is not a list of texts")
    return rows
