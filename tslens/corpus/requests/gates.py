"""Gates: what a story lacks of what was asked for. They mark and never drop.

1. words: each asked word in its part of speech, by the labels of the story, or else by the vocabulary.
2. features: each asked feature by its cues (``corpus.check_features``, with its limits).
3. length: not cut; 50 to 600 words; 3 to 10 paragraphs. The request says 3 to 5, but speakers of a dialogue often
   get a line each: nine in ten real stories have 3 to 10.
4. vocabulary: at most 2.5% of the words beyond our vocabulary, names and numbers left out; 95 of 100 real stories
   have no more.
5. near_duplicate: R_2 of 0.5 or more with an earlier story of the file (the highest among 2,000 real ones is 0.35).
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from tslens.corpus.annotate import Parser, annotate
from tslens.corpus.annotation.cache import AnnotationCache
from tslens.corpus.check_features import has_feature, has_word
from tslens.corpus.diversity.story_index import StoryIndex
from tslens.corpus.labelled import read_labels
from tslens.corpus.vocabulary import analyses
from tslens.corpus.words import find_words
from tslens.types import Labels, Story

GATES = ("words", "features", "length", "vocabulary", "near_duplicate")
WORDS_OF_TEXT = range(50, 601)
PARAGRAPHS = range(3, 11)
MOST_UNKNOWN = 0.025
NEAR = 0.5
_SHOWN = 10  # unknown words that are kept
_CONTRACTED = re.compile(r"'(?:s|m|d|ll|re|ve)?$")


@dataclass(frozen=True, slots=True)
class Gates:
    """What was found. ``missing_words``, ``missing_features``: asked for and not there. ``is_cut``: by the limit of
    tokens. ``unknown_share``: of the words, 0 to 1; ``unknown_words``: up to ten of them. ``near_duplicate``: index of
    the earlier story that is nearest, where it is near.
    """

    missing_words: tuple[str, ...]
    missing_features: tuple[str, ...]
    n_words: int
    n_paragraphs: int
    is_cut: bool
    unknown_share: float
    unknown_words: tuple[str, ...]
    near_duplicate: int | None

    @property
    def marked(self) -> tuple[str, ...]:
        """Names of the gates that the story does not pass."""
        is_marked = {
            "words": bool(self.missing_words),
            "features": bool(self.missing_features),
            "length": self.is_cut or self.n_words not in WORDS_OF_TEXT or self.n_paragraphs not in PARAGRAPHS,
            "vocabulary": self.unknown_share > MOST_UNKNOWN,
            "near_duplicate": self.near_duplicate is not None,
        }
        return tuple(name for name in GATES if is_marked[name])

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON types, with ``marked``."""
        row = {**asdict(self), "marked": self.marked}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in row.items()}


def mark_stories(
    stories: Iterable[Story],
    index: StoryIndex,
    *,
    parser: Parser | None,
    n_processes: int = 1,
    cache: AnnotationCache | None = None,
) -> Iterator[Story]:
    """Each story with what the gates found in ``extra["gates"]``, in order.

    ``index``: of the same stories in the same order. ``parser``: decides the parts of speech of the asked words; None:
    the vocabulary does. ``cache``: see ``corpus.annotate``.
    """
    labelled = stories
    if parser is not None:
        labelled = annotate(stories, parser=parser, n_processes=n_processes, cache=cache)
    numbers = array("q")
    for place, story in enumerate(labelled):
        nearest = index.nearest(story.text, measure="f", before=place)
        near = numbers[nearest.story] if nearest is not None and nearest.score >= NEAR else None
        gates = check_story(story, labels=read_labels(story) if parser else None, near_duplicate=near)
        extra = {name: value for name, value in story.extra.items() if name != "labels"}
        numbers.append(int(story.extra["index"]))
        yield replace(story, extra={**extra, "gates": gates.to_json()})


def check_story(story: Story, *, labels: Labels | None, near_duplicate: int | None) -> Gates:
    """Hold a story against its plan, both as ``read_story_replies`` gives them.

    ``labels``: of the story; None: its words are looked up in the vocabulary.
    """
    text, asked = story.text, story.extra
    missing = [
        word
        for word, pos in zip(asked["words"], asked["words_pos"], strict=True)
        if not has_word(word, pos, labels or text)
    ]
    words = [text[start:end] for start, end in find_words(text)]
    unknown = [word for word in words if _is_unknown(word)]
    return Gates(
        missing_words=tuple(missing),
        missing_features=tuple(name for name in asked["features"] if not has_feature(name, text)),
        n_words=len(words),
        n_paragraphs=text.count("\n") + 1,
        is_cut=asked["reply"]["finish_reason"] == "length",
        unknown_share=round(len(unknown) / max(1, len(words)), 4),
        unknown_words=tuple(dict.fromkeys(unknown))[:_SHOWN],
        near_duplicate=near_duplicate,
    )


def _is_unknown(word: str) -> bool:
    """Whether a word in small letters is none of ours. "can't" and "dress-up" go by their parts."""
    if not word[0].islower() or any(letter.isdigit() for letter in word):
        return False
    parts = word.replace("’", "'").split("-")
    return not all(any(map(analyses, _stems(part))) for part in parts)


def _stems(word: str) -> tuple[str, ...]:
    return word, word.removesuffix("n't"), word.removesuffix("'t"), _CONTRACTED.sub("", word)
