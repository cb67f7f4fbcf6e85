"""All evidence on a graded text, as numbers by name.

None of it is its length, who wrote it, the size of that model, or how much the text shares with training stories.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Self

import numpy as np

from tslens.corpus.stories import normalise
from tslens.corpus.words import find_words
from tslens.grading.local.addressed import without_addressed
from tslens.grading.local.colour import colour
from tslens.grading.local.fluency import fluency, grammar
from tslens.grading.local.order import Linear, OrderModel
from tslens.grading.local.persons import persons
from tslens.grading.local.read import GradedReading
from tslens.grading.local.shape import cohesion, ending, order, repetition
from tslens.grading.local.slots import SlotModel
from tslens.grading.local.word_table import ORDERS, WordTable
from tslens.types import Graded, Story

FILE = "local_judge.safetensors"
LINEAR = ("place", "last", "follow", "belong")
_AFTER_END = re.compile(r"<\|endoftext\|>.*", re.DOTALL)
FEWEST_WORDS = 3  # of a completion


@dataclass(frozen=True, eq=False)
class Tables:
    """What was fitted on real stories (``training/local_judge_tables.py``)."""

    words: WordTable
    order: OrderModel
    slots: SlotModel

    def tensors(self) -> dict[str, np.ndarray]:
        """As arrays for a file of safetensors; texts are their UTF-8 bytes, a line each."""
        found: dict[str, np.ndarray] = {
            "words": np.frombuffer("\n".join(self.words.words).encode(), dtype=np.uint8),
            "names": np.frombuffer("\n".join(sorted(self.words.names)).encode(), dtype=np.uint8),
            "counts": self.words.counts.astype(np.int32),
            "bias": np.array([getattr(self.order, name).bias for name in LINEAR], dtype=np.float32),
            "name_slots": self.slots.names.astype(np.float32),
            "pronoun_slots": self.slots.pronouns.astype(np.float32),
        }
        found |= {name: getattr(self.order, name).weights.astype(np.float16) for name in LINEAR}
        for one in ORDERS:
            found |= {f"keys_{one}": self.words.keys[one], f"codes_{one}": self.words.codes[one]}
        return found

    @classmethod
    def of(cls, found: Mapping[str, np.ndarray]) -> Self:
        """Inverse of :meth:`tensors`."""
        words = tuple(found["words"].tobytes().decode().split("\n"))
        names = frozenset(found["names"].tobytes().decode().split("\n"))
        keys = {one: found[f"keys_{one}"] for one in ORDERS}
        codes = {one: found[f"codes_{one}"] for one in ORDERS}
        linear = {
            name: Linear(found[name].astype(float), float(bias))
            for name, bias in zip(LINEAR, found["bias"], strict=True)
        }
        return cls(
            WordTable(words, found["counts"].astype(np.int64), names, keys, codes),
            OrderModel(**linear),
            SlotModel(found["name_slots"].astype(float), found["pronoun_slots"].astype(float)),
        )


@cache
def load_tables() -> Tables:
    """The tables of the package."""
    from safetensors.numpy import load

    return Tables.of(load((resources.files("tslens") / "assets/grading" / FILE).read_bytes()))


@dataclass(frozen=True)
class Heard:
    """A graded text as it is read. ``story``: beginning and completion; ``start``: where the latter begins."""

    story: Story
    start: int
    addressed: tuple[str, ...]


def hear(graded: Graded) -> Heard:
    """The text that is read: what stands after ``<|endoftext|>`` and what speaks to the judge is not."""
    said = without_addressed(_AFTER_END.sub("", graded.completion))
    prompt = normalise(graded.prompt + "|").removesuffix("|")  # a blank at its end is part of it
    whole = normalise(prompt + said.text)
    return Heard(Story(whole), min(len(prompt), len(whole)), said.addressed)


def has_enough(heard: Heard) -> bool:
    """Whether there is a completion of some words; marks, digits and signs are none."""
    words = find_words(heard.story.text[heard.start :])
    return sum(heard.story.text[heard.start + start].isalpha() for start, _ in words) >= FEWEST_WORDS


def measure(heard: Heard, labelled: Story, tables: Tables) -> Mapping[str, float]:
    """Every kind of evidence on a text, by name. ``labelled``: the story with its labels."""
    reading = GradedReading(labelled, heard.start, tables.words)
    return {
        **fluency(reading),
        **grammar(reading),
        **persons(reading, tables.slots),
        **repetition(reading),
        **order(reading, tables.order),
        **ending(reading, tables.order),
        **cohesion(reading, tables.order),
        **colour(reading),
    }
