"""The instruction variant of a corpus: each story after an instruction that it follows; and prompts kept apart from it.

Stories on the validation side, by the hash of their own text, never go into the training texts: prompts for evaluation
are made of them, and ask for a combination of kinds that training never asks for together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tslens.corpus.author import write_story
from tslens.corpus.instructions.draw import HELD_OUT, Combination, draw_instruction
from tslens.corpus.instructions.form import Instruction, write_prompt, write_text
from tslens.corpus.parallel import map_chunks
from tslens.corpus.stories import describe_source, is_validation, read_stories
from tslens.errors import DataError
from tslens.types import Story

CHUNK = 50  # stories


@dataclass(frozen=True, slots=True)
class Instructed:
    """A story and its instruction.

    ``instruction``: None where the story offers nothing to ask for. ``is_held_out``: on the validation side, for
    prompts only. ``summary_labels``: gold, where the summary is asked for and its record has them (``types.Labels`` as
    JSON).
    """

    story: str
    instruction: Instruction | None
    source: str
    index: int
    is_held_out: bool
    summary_labels: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """The line of a training file: what a model reads (``text``), and its parts."""
        instruction = self._asked()
        return {
            "text": write_text(instruction, self.story),
            "story": self.story,
            "instruction": instruction.to_json(),
            "source": self.source,
            "index": self.index,
        }

    def to_prompt(self) -> dict[str, Any]:
        """The line of a file of prompts. The story is the one that was asked for all this; no model sees it."""
        instruction = self._asked()
        row = {
            "prompt": write_prompt(instruction),
            "instruction": instruction.to_json(),
            "story": self.story,
            "index": self.index,
        }
        return row | ({"summary_labels": self.summary_labels} if self.summary_labels else {})

    def _asked(self) -> Instruction:
        if self.instruction is None:
            raise ValueError("a story that is asked for nothing has no line")
        return self.instruction


def instruct_stories(
    source: str | Path,
    *,
    seed: int,
    held_out: Sequence[Combination] = HELD_OUT,
    n_processes: int = 1,
) -> Iterator[Instructed]:
    """Each story of a source with its instruction, in order.

    ``source``: as for ``stories.read_stories``. Of the fields of a story, ``words``, ``words_pos``, ``features``,
    ``summary`` and ``labels`` are used where it has them. The same records whatever the number of processes.
    Raises what ``read_stories`` raises, and DataError for labels of another text and for an instruction file.
    """
    items: Iterable[tuple[int, Story | None]]
    author_seed = 0
    if str(source).startswith("author:"):  # these are written where they are instructed
        name, n_stories, written_seed = describe_source(source)[0].split(":")
        author_seed = int(written_seed)
        items = ((index, None) for index in range(int(n_stories)))
    else:
        name = Path(source).name
        items = enumerate(read_stories(source))
    work = partial(_instruct_chunk, name=name, author_seed=author_seed, seed=seed, held_out=tuple(held_out))
    return map_chunks(work, items, n_processes=n_processes, chunk_size=CHUNK)


def _instruct_chunk(
    items: list[tuple[int, Story | None]],
    *,
    name: str,
    author_seed: int,
    seed: int,
    held_out: tuple[Combination, ...],
) -> list[Instructed]:
    return [
        _instruct(
            story or write_story(index, seed=author_seed), index, name=name, seed=seed, held_out=held_out
        )
        for index, story in items
    ]


def _instruct(
    story: Story, index: int, *, name: str, seed: int, held_out: tuple[Combination, ...]
) -> Instructed:
    if isinstance(story.extra.get("instruction"), dict) and isinstance(story.extra.get("story"), str):
        raise DataError(
            f"Story {index + 1} of {name} stands behind an instruction already.",
            "Give the stories that the instructions were made for.",
        )
    is_held_out = is_validation(story)
    instruction = draw_instruction(story, seed=seed, held_out=held_out, is_held_out=is_held_out)
    source, place, labels = (story.extra.get(name) for name in ("source", "index", "summary_labels"))
    return Instructed(
        story=story.text,
        instruction=instruction,
        source=source if isinstance(source, str) else name,
        index=place if isinstance(place, int) else index,
        is_held_out=is_held_out,
        summary_labels=labels if instruction and "summary" in instruction.kinds else None,
    )
