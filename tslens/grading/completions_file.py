"""Completions read from a file: any texts, graded as one more model. What is odd is refused before it is graded."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from tslens.corpus.instructions.form import STORY, Instruction, parse_prompt, write_prompt
from tslens.errors import DataError, TslensError
from tslens.grading.completions import package_prompts, text_of
from tslens.reading import BROKEN, exists, parse_json, read_text, split_rows
from tslens.types import Graded


@dataclass(frozen=True)
class _Line:
    """One text before it has all its names. ``asked``: its whole prompt. ``id``, ``sample``: None where not given."""

    number: int
    asked: str
    id: str | None
    sample: int | None
    text: Graded


def read_texts(path: Path) -> list[Graded]:
    """Texts from a file with one ``{"prompt", "completion"}`` a line; ``prompt_id``, ``sample``, ``seed``, ``ended``
    and ``instructions`` are read where they are.

    A prompt without an id has that of the package's with its text, else a number of its own: ``p001`` is the first of
    them by the alphabet, so that it does not depend on the order of lines. One that is an instruction up to ``Story:``
    is read as such. Raises DataError, with the line, for anything else, for two texts of one prompt with one number,
    and for two prompts with one id.
    """
    known = {text_of(one): one.id for one in package_prompts()}
    lines: list[_Line] = []
    for number, row in _rows(path):
        try:
            lines.append(_line(number, row, known))
        except (*BROKEN, TslensError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else error
            raise _no_completions(path, f"line {number}: {what}") from error
    if not lines:
        raise _no_completions(path, "it holds no text")
    taken = {line.id for line in lines}
    free = (name for name in map("p{:03d}".format, count(1)) if name not in taken)
    unnamed = sorted({line.asked for line in lines if line.id is None})
    own = dict(zip(unnamed, free, strict=False))

    found: list[Graded] = []
    prompts: dict[str, str] = {}
    counts: Counter[str] = Counter()
    keys: set[str] = set()
    for line in lines:
        id_ = own[line.asked] if line.id is None else line.id
        if prompts.setdefault(id_, line.asked) != line.asked:
            raise _no_completions(
                path, f'line {line.number}: the prompt "{id_}" is another one in a line before'
            )
        sample = counts[id_] if line.sample is None else line.sample
        one = replace(line.text, prompt_id=id_, sample=sample)
        if one.key in keys:
            raise _no_completions(
                path, f'line {line.number}: it holds two texts "{one.key}" (prompt_id/sample)'
            )
        counts[id_] += 1
        keys.add(one.key)
        found.append(one)
    return found


def _line(number: int, row: Mapping[str, Any], known: Mapping[str, str]) -> _Line:
    """One line read. ``known``: ids by prompt. Raises KeyError, TypeError, ValueError or TslensError."""
    prompt, completion = row["prompt"], row["completion"]
    if not (isinstance(prompt, str) and isinstance(completion, str)):
        raise TypeError("prompt and completion are texts")
    instructions, rest = _instructions(row, prompt)
    asked = rest if instructions is None else write_prompt(Instruction.from_json(instructions)) + rest
    id_ = row.get("prompt_id")
    if id_ is None or id_ == "":
        id_ = known.get(asked)
    if not isinstance(id_, str | int | None) or isinstance(id_, bool):
        raise TypeError("prompt_id is a text or a number")
    text = Graded(
        rest,
        completion if instructions is None else completion.lstrip(),
        "" if id_ is None else str(id_),
        0,
        None if row.get("seed") is None else _number(row["seed"], "seed"),
        instructions,
        ended=row["ended"] if isinstance(row.get("ended"), bool) else None,
    )
    json.dumps(asdict(text), ensure_ascii=False).encode()  # half of a pair is a ValueError: no file holds it
    sample = None if row.get("sample") is None else _number(row["sample"], "sample")
    return _Line(number, asked, None if id_ is None else str(id_), sample, text)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The lines of a file with their numbers; a first line that names a schema is left out."""
    if not exists(path):
        raise DataError(f"There is no file {path}.", "Check the path.")
    try:
        lines = split_rows(read_text(path))
    except (OSError, ValueError) as error:
        raise _no_completions(path, getattr(error, "strerror", None) or str(error)) from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except json.JSONDecodeError as error:
            what = f"line {number} is no JSON: {error.msg.lower()} at character {error.colno}"
            raise _no_completions(path, what) from error
        except ValueError as error:
            raise _no_completions(path, f"line {number}: {error}") from error
        if not isinstance(row, dict):
            raise _no_completions(path, f"line {number} is no object")
        if not (number == 1 and "schema" in row and "prompt" not in row):
            yield number, row


def _instructions(row: Mapping[str, Any], prompt: str) -> tuple[dict[str, Any] | None, str]:
    """What a story was asked for, None where nothing was; and the prompt without it."""
    given = row.get("instructions") or row.get("instruction")
    if given is not None:
        if not isinstance(given, dict):
            raise TypeError("instructions are an object")
        return Instruction.from_json(given).to_json(), "" if _is_instruction(prompt) else prompt
    if _is_instruction(prompt):
        read = parse_prompt(prompt)
        return read.instruction.to_json(), read.story
    return None, prompt


def _is_instruction(prompt: str) -> bool:
    if f"\n{STORY}" not in prompt:
        return False
    try:
        parse_prompt(prompt)
    except DataError:
        return False
    return True


def _number(value: Any, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is a whole number")
    return value


def _no_completions(path: Path, what: str) -> DataError:
    return DataError(
        f"{path} is no file of completions: {what}.",
        'Write one {"prompt": "...", "completion": "..."} a line.',
    )
