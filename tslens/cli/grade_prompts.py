"""Prompts of ``tslens grade``: those of the package by name, or a user's file; which a model is given by default."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tslens.errors import DataError, UsageError
from tslens.files import read_json, sha256_file
from tslens.grading.completions import Prompt, name_of_package
from tslens.grading.prompts import (
    PROMPT_BYTES,
    Beginning,
    InstructionSet,
    load_beginnings,
    load_instruction_sets,
    load_short_prompts,
    read_beginnings,
)
from tslens.reading import read_text

if TYPE_CHECKING:
    from tslens.model.load import ModelSource

Kind = Literal["beginnings", "instructions", "short"]


@dataclass(frozen=True)
class PromptSet:
    """Prompts of one kind.

    ``name``: of the package's file with its version, or of a user's with the start of its hash.
    """

    name: str
    sha256: str
    kind: Kind
    prompts: tuple[Prompt, ...]


def open_prompts(name: str | None, source: ModelSource | None) -> PromptSet:
    """The prompts that ``--prompts`` names; without it instructions for a model that was trained on them, else
    beginnings. Raises DataError for a file that holds none."""
    if name is None:
        name = "instructions" if source is not None and follows_instructions(source) else "beginnings"
    if name == "beginnings":
        return PromptSet(*name_of_package("beginnings"), "beginnings", load_beginnings())
    if name == "instructions":
        return PromptSet(*name_of_package("instructions"), "instructions", load_instruction_sets())
    if name == "short":
        return PromptSet(*name_of_package("short_prompts"), "short", load_short_prompts())
    path = Path(name)
    if not path.exists() and not path.suffix:
        raise UsageError(
            f'There are no prompts "{name}".',
            "Say beginnings, instructions or short, or name a file of your own.",
        )
    return _of_file(path)


def _of_file(path: Path) -> PromptSet:
    from tslens.grading.short import read_short_prompts

    if _is_short(path):
        found: tuple[Prompt, ...] = tuple(read_short_prompts(path))
        return PromptSet(_named(path), sha256_file(path), "short", found)
    beginnings = read_beginnings(path)
    sets = _as_instructions(beginnings)
    name, sha256 = _named(path), sha256_file(path)
    if sets is None:
        return PromptSet(name, sha256, "beginnings", beginnings)
    return PromptSet(name, sha256, "instructions", sets)


def _is_short(path: Path) -> bool:
    """Whether a file is an object of groups, as short prompts are, and no list."""
    if path.suffix.lower() != ".json":
        return False
    try:
        return read_text(path, at_most=PROMPT_BYTES).lstrip()[:1] == "{"
    except (OSError, ValueError):  # which says what it is when it is read as a list
        return False


def _named(path: Path) -> str:
    return f"{re.sub(r'[^0-9A-Za-z-]', '-', path.stem)}-{sha256_file(path)[:6]}"


def _as_instructions(found: Sequence[Beginning]) -> tuple[InstructionSet, ...] | None:
    """Prompts that are instructions up to ``Story:``, as such; None where one of them is not."""
    from tslens.corpus.instructions.draw import HELD_OUT
    from tslens.corpus.instructions.form import parse_prompt

    sets = []
    for one in found:
        try:
            read = parse_prompt(one.text)
        except DataError:
            return None
        if read.story:
            return None
        sets.append(InstructionSet(one.id, read.instruction, frozenset(read.instruction.kinds) in HELD_OUT))
    return tuple(sets)


def follows_instructions(source: ModelSource) -> bool:
    """Whether a model was trained on stories that follow instructions, by the name of its shape."""
    from tslens.model.spec import ModelSpec

    if source.shipped is not None:
        name = source.shipped.name
    elif source.run is not None:
        name = str(read_json(source.run.config)["model"])
    elif source.kind == "checkpoint":
        from tslens.model.checkpoint import read_tensors

        name = read_tensors(source.path)[0].get("model", "")
    else:
        return False
    return ModelSpec.from_name(name).instruct
