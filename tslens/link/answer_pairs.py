"""Pairs from the short prompts (``grading.prompts``): a right answer against wrong ones.

The wrong answers are written by hand (``assets/link/wrong_answers.toml``): grammatical in place, so that no grammar
gives the answer away; those of reasoning and context begin with what else the prompt names. The two answers of a pair
have as many tokens. Where the prompt itself names the right answer, only wrong ones that it names too stand against it,
so that nobody is right by repeating what was said; a prompt that names none has no pair.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import get_args

from tslens.grading.prompts import Group, ShortPrompt
from tslens.link.pairs import Encode, Pair, Readout, after_one_beginning

MOST_WRONG = 5
"""Wrong answers to one prompt, the first of as many tokens as the right one."""

_ASKS: dict[Group, str] = {
    "factual": "the answer that everybody knows, not another of its kind",
    "reasoning": "the answer that follows, not another of its kind",
    "context": "what the text has said, not what else it names",
}
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Answers:
    """What may follow a prompt. ``right``: None where it is the prompt's first success."""

    right: str | None
    wrong: tuple[str, ...]


@cache
def load_answers() -> Mapping[str, Answers]:
    """Answers to the package's short prompts, by the id of the prompt."""
    file = resources.files("tslens") / "assets/link/wrong_answers.toml"
    rows = tomllib.loads(file.read_text(encoding="utf-8"))
    return {
        name: Answers(row.get("right"), tuple(row["wrong"]))
        for name, row in rows.items()
        if name != "version"
    }


def answer_readouts(prompts: Sequence[ShortPrompt], encode: Encode, *, n_ctx: int) -> list[Readout]:
    """A readout of each group of the package's short prompts; the pairs of one prompt are one cluster.

    Raises KeyError for a prompt that has no wrong answers.
    """
    found = []
    for group in get_args(Group):
        of_group = [prompt for prompt in prompts if prompt.group == group]
        items = [(pair,) for prompt in of_group for pair in _pairs(prompt, encode, n_ctx)]
        found.append(Readout(group, "knowledge", _ASKS[group], tuple(items)))
    return found


def _pairs(prompt: ShortPrompt, encode: Encode, n_ctx: int) -> list[Pair]:
    answers = load_answers()[prompt.id]
    cluster = int.from_bytes(hashlib.blake2b(prompt.id.encode(), digest_size=8).digest(), "little")
    begun = prompt.text if prompt.text.endswith('"') else f"{prompt.text} "
    right = answers.right or prompt.success[0]
    found = [
        (wrong, pair)
        for wrong in answers.wrong
        if (pair := after_one_beginning(cluster, encode(begun + right), encode(begun + wrong), n_ctx))
    ]
    named = set(_WORD.findall(prompt.text))
    if _is_named(right, named):
        found = [(wrong, pair) for wrong, pair in found if _is_named(wrong, named)]
    return [pair for _, pair in found[:MOST_WRONG]]


def _is_named(answer: str, named: set[str]) -> bool:
    """Whether the last word of an answer stands in the prompt."""
    return answer.split()[-1] in named
