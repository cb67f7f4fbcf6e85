"""Texts to grade: what a model writes, how stories really end; and the prompts that texts show.

A text is a :class:`Graded`: of a story that was asked for by instructions ``prompt`` is empty and ``instructions`` says
what was asked; all else has the beginning as its prompt. What a large model writes:
``grading.teacher_texts``; what a file holds: ``grading.completions_file``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tslens.corpus.instructions.draw import HELD_OUT
from tslens.corpus.instructions.form import Instruction, write_prompt
from tslens.errors import DataError
from tslens.files import read_jsonl, write_jsonl
from tslens.grading.prompts import (
    Beginning,
    InstructionSet,
    ShortPrompt,
    load_beginnings,
    load_instruction_sets,
    version_of,
)
from tslens.reading import BROKEN, checked
from tslens.types import Graded

if TYPE_CHECKING:
    from tslens.model.story_model import StoryModel

Prompt = Beginning | InstructionSet | ShortPrompt

WRITTEN_SCHEMA = "tslens.written/1"


def text_of(prompt: Prompt) -> str:
    """What a model is given."""
    return write_prompt(prompt.instruction) if isinstance(prompt, InstructionSet) else prompt.text


def package_prompts() -> tuple[Prompt, ...]:
    """The package's beginnings and sets of instructions, whose ids are all different."""
    return (*load_beginnings(), *load_instruction_sets())


def name_of_package(name: Literal["beginnings", "instructions", "short_prompts"]) -> tuple[str, str]:
    """Name with version, and hash, of one of the package's files of prompts, as in ``beginnings-v1``."""
    content = (resources.files("tslens") / "assets/grading" / f"{name}.toml").read_bytes()
    return f"{name.partition('_')[0]}-v{version_of(name)}", hashlib.sha256(content).hexdigest()


def name_of(prompts: Iterable[Prompt], other: str) -> tuple[str, str]:
    """Name and hash of prompts in any order: the package's where all are of its, so that grades compare with a model's.

    ``other``: the name of any others; their hash is over their ids and texts.
    """
    given = set(prompts)
    if given and given <= set(load_beginnings()):
        return name_of_package("beginnings")
    if given and given <= set(load_instruction_sets()):
        return name_of_package("instructions")
    texts = sorted(json.dumps([one.id, text_of(one)]) for one in given)
    return other, hashlib.sha256("\n".join(texts).encode()).hexdigest()


def prompts_of(texts: Iterable[Graded]) -> tuple[Prompt, ...]:
    """The prompts that texts show, each once, in order; those of the package's as they stand there."""
    own = {one.id: one for one in package_prompts()}
    found: dict[str, Prompt] = {}
    for one in texts:
        if one.prompt_id not in found:
            prompt, same = _prompt_of(one), own.get(one.prompt_id)
            found[one.prompt_id] = same if same and text_of(same) == text_of(prompt) else prompt
    return tuple(found.values())


def _prompt_of(one: Graded) -> Prompt:
    if one.instructions is None:
        return Beginning(one.prompt_id, one.prompt)
    instruction = Instruction.from_json(one.instructions)
    return InstructionSet(one.prompt_id, instruction, frozenset(instruction.kinds) in HELD_OUT)


def graded_text(prompt: Prompt, completion: str, sample: int, seed: int | None, ended: bool | None) -> Graded:
    """A completion of a prompt as a judge is given it. A story after instructions begins with its first letter."""
    if isinstance(prompt, InstructionSet):
        instructions = prompt.instruction.to_json()
        return Graded("", completion.lstrip(), prompt.id, sample, seed, instructions, ended=ended)
    return Graded(prompt.text, completion, prompt.id, sample, seed, ended=ended)


# What a model writes ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawing:
    """How completions are drawn: the same for all models, so that their random numbers are common."""

    samples: int
    max_tokens: int
    temperature: float
    seed: int

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)


def write_completions(
    model: StoryModel,
    prompts: Sequence[Prompt],
    *,
    samples: int,
    max_tokens: int,
    temperature: float,
    seed: int,
    progress: Callable[[int], None] = lambda n_done: None,
) -> list[Graded]:
    """``samples`` completions of every prompt; the rest as for ``model.generate``, which says what it raises."""
    from tslens.model.generate import generate

    written = generate(
        model,
        [text_of(prompt) for prompt in prompts],
        samples=samples,
        max_tokens=max_tokens,
        temperature=temperature,
        seed=seed,
        progress=progress,
    )
    of_prompt = [prompt for prompt in prompts for _ in range(samples)]
    return [
        graded_text(prompt, one.completion, one.sample, one.seed, one.ended)
        for prompt, one in zip(of_prompt, written, strict=True)
    ]


def save_written(path: Path, header: Mapping[str, Any], texts: Iterable[Graded]) -> None:
    """Keep texts that a model wrote, so that every judge and every later run is given the same."""
    write_jsonl(path, WRITTEN_SCHEMA, header, (asdict(one) for one in texts))


def load_written(path: Path, header: Mapping[str, Any]) -> list[Graded] | None:
    """Texts that were kept under an equal header; None where there are none."""
    if not path.exists():
        return None
    found, rows = read_jsonl(path, WRITTEN_SCHEMA)
    if found != {"schema": WRITTEN_SCHEMA, **header}:
        return None
    try:
        return [checked(Graded(**row)) for row in rows]
    except BROKEN as error:
        raise DataError(f"{path} holds no texts: {error}.", "Remove it; they are written again.") from error


# How stories really end; texts that are given again -----------------------------------------------------------


def true_endings(prompts: Iterable[Prompt]) -> list[Graded]:
    """How the authors of beginnings went on, of those whose ending is known."""
    return [
        graded_text(one, one.ending, 0, None, True)
        for one in prompts
        if isinstance(one, Beginning) and one.ending is not None
    ]


def given_again(texts: Sequence[Graded], share: float, *, seed: int) -> list[Graded]:
    """A drawn share of texts a second time, in their order, to see how far a judge agrees with itself."""
    n_drawn = round(share * len(texts))
    drawn = np.random.default_rng([seed, len(texts)]).permutation(len(texts))[:n_drawn]
    return [replace(texts[index], repeat=1) for index in sorted(drawn.tolist())]
