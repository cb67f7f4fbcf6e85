"""Which texts are measured: stories drawn by seed, stories cut into prompt and ending, completions from a file."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tslens.corpus.dice import Dice
from tslens.corpus.diversity.story_index import StoryIndex
from tslens.corpus.stories import normalise, read_stories
from tslens.corpus.words import find_words
from tslens.errors import DataError
from tslens.reading import BROKEN, parse_row, read_text, split_rows
from tslens.types import Story

PROMPT_SHARE = 0.4
MIN_WORDS = 10  # of a story that is cut into prompt and ending


@dataclass(frozen=True)
class Completed:
    """One prompt and its completion. ``ending``: how the story really goes on; ``story``: its number in the corpus.

    None where they are not known.
    """

    prompt: str
    completion: str
    ending: str | None = None
    story: int | None = None


def split_story(text: str, share: float = PROMPT_SHARE) -> tuple[str, str]:
    """A story cut after the first ``share`` of its words (rounded down, at least one): prompt and ending.

    The two joined are the text. A text without words is all prompt.
    """
    return _cut(text, max(int(share * len(find_words(text))), 1))


def _cut(text: str, n_words: int) -> tuple[str, str]:
    """A text cut after its first words."""
    spans = find_words(text)[:n_words]
    return (text[: spans[-1][1]], text[spans[-1][1] :]) if spans else (text, "")


def draw_numbers(n_stories: int, n_drawn: int, *, seed: int) -> list[int]:
    """Different numbers of stories in a drawn order; all of them where there are no more."""
    if n_drawn >= n_stories:
        return list(range(n_stories))
    dice, drawn = Dice(seed, "diversity", n_stories), dict[int, None]()
    while len(drawn) < n_drawn:
        drawn[dice.one_of(range(n_stories))] = None
    return list(drawn)


def stories_numbered(source: str | Path, numbers: Collection[int]) -> dict[int, Story]:
    """Those stories of a source, in the order of the numbers; the source is read up to the last of them."""
    wanted, found = set(numbers), dict[int, Story]()
    for number, story in enumerate(read_stories(source, text_only=True) if wanted else ()):
        if number in wanted:
            found[number] = story
            if len(found) == len(wanted):
                break
    return {number: found[number] for number in numbers if number in found}


def sample_stories(stories: Iterable[Story], n_drawn: int, *, seed: int) -> list[Story]:
    """Stories drawn evenly in one pass, holding no more than are drawn, in a drawn order: the first m of n are
    a draw of m.
    """
    generator = np.random.default_rng(seed)
    keyed = ((generator.random(), number, story) for number, story in enumerate(stories))
    return [story for _, _, story in heapq.nsmallest(n_drawn, keyed, key=lambda row: row[:2])]


def read_completions(path: Path, limit: int | None = None) -> list[Completed]:
    """Completions from a file with one ``{"prompt", "completion"}`` a line; ``story``: the whole true story.

    Raises DataError for a file that is none, and where a story does not begin with the words of its prompt.
    """
    items: list[Completed] = []
    try:
        lines = split_rows(read_text(path))
        rows = [parse_row(line) for line in lines if line.strip()][:limit]
        for number, row in enumerate(rows, start=1):
            prompt, completion, story = row["prompt"], row["completion"], row.get("story")
            if not (
                isinstance(prompt, str) and isinstance(completion, str) and isinstance(story, str | None)
            ):
                raise TypeError("prompt, completion and story are texts")
            items.append(
                Completed(prompt, completion, _ending(prompt, story, f"{path}, completion {number}"))
            )
    except (OSError, *BROKEN) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else error
        raise DataError(
            f"{path} is no file of completions: {what}.",
            'Write one {"prompt": "...", "completion": "..."} a line.',
        ) from error
    if not items:
        raise DataError(
            f"{path} holds no completion.", "Make some with: tslens generate --prompts FILE --json"
        )
    return items


def _ending(prompt: str, story: str | None, place: str) -> str | None:
    if story is None:
        return None
    start, ending = _cut(normalise(story), len(find_words(prompt)))
    if [*_folded(start)] != [*_folded(prompt)]:
        raise DataError(
            f"{place}: its story does not begin with its prompt.", "Give the whole story, or none."
        )
    return ending if find_words(prompt) else normalise(story)


def _folded(text: str) -> Iterable[str]:
    return (text[start:end].lower() for start, end in find_words(text))


def place_in_corpus(items: Iterable[Completed], index: StoryIndex, source: str | Path) -> list[Completed]:
    """Completions with the number of the story of the corpus that their prompt is from, and its true ending.

    The story is the first that begins with the prompt (and the ending, where it is known); None where none does.
    """
    found = []
    for item in items:
        number = (
            index.story_beginning_with(item.prompt + (item.ending or "")) if item.prompt.strip() else None
        )
        found.append(replace(item, story=number))
    missing = {item.story for item in found if item.story is not None and item.ending is None}
    texts: Mapping[int, Story] = stories_numbered(source, sorted(missing))
    return [
        replace(item, ending=_cut(texts[item.story].text, len(find_words(item.prompt)))[1])
        if item.ending is None and item.story is not None
        else item
        for item in found
    ]
