"""What each story is asked for: a verb, a noun, an adjective and a few features, all from a seed.

The words are of our vocabulary (``assets/vocabulary.toml``); of the features none to three are drawn, the numbers
alike often, never both endings. A plan depends on (seed, index) alone.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from tslens.corpus.dice import Dice
from tslens.corpus.vocabulary import load_vocabulary
from tslens.errors import UsageError
from tslens.labels import FEATURES

MOST_FEATURES = 3
_ENDINGS = ("bad_ending", "happy_ending")
_SLOTS = ("{verb}", "{noun}", "{adjective}", "{features}")
_SLOT = re.compile(r"\{\w+\}")


@dataclass(frozen=True, slots=True)
class StoryPlan:
    """What one story is asked for. ``features``: of ``labels.FEATURES``, in their order there."""

    index: int
    verb: str
    noun: str
    adjective: str
    features: tuple[str, ...]


def draw_plan(index: int, *, seed: int) -> StoryPlan:
    """The plan of story ``index`` of a seed."""
    dice = Dice("request", seed, index)
    words = load_vocabulary()
    verb = dice.one_of(tuple(words.verbs))
    noun = dice.one_of([lemma for lemma in words.nouns if lemma != verb])
    adjective = dice.one_of([lemma for lemma in words.adjectives if lemma not in (verb, noun)])
    n_features = dice.one_of(range(MOST_FEATURES + 1))
    drawn = dice.some_of(tuple(FEATURES), n_features)
    if set(_ENDINGS) <= set(drawn):
        drawn.remove(dice.one_of(_ENDINGS))
    return StoryPlan(index, verb, noun, adjective, tuple(name for name in FEATURES if name in drawn))


def story_prompt(plan: StoryPlan, template: str | None = None) -> str:
    """The request for a story, in the wording of TinyStories or by a template that ``check_template`` passes."""
    text = wording()["story"] if template is None else template
    phrases = ", ".join(FEATURES[name] for name in plan.features)
    features = wording()["features"].replace("{phrases}", phrases) if phrases else ""
    values = dict(zip(_SLOTS, (plan.verb, plan.noun, plan.adjective, features), strict=True))
    return _SLOT.sub(lambda found: values.get(found[0], found[0]), text)


def check_template(template: str) -> None:
    """Raise UsageError for a template that lacks {verb}, {noun}, {adjective} or {features}, or has other slots."""
    slots = set(_SLOT.findall(template))
    lacking, unknown = [slot for slot in _SLOTS if slot not in slots], sorted(slots - set(_SLOTS))
    if lacking or unknown:
        what = f"lacks {', '.join(lacking)}" if lacking else f"has {', '.join(unknown)}, which nothing fills"
        raise UsageError(
            f"The template {what}.",
            "Write {verb}, {noun} and {adjective} where the words belong, and {features} where the sentence about "
            "features belongs.",
        )


@cache
def wording() -> Mapping[str, str]:
    """The texts of ``assets/request.toml`` by name."""
    return tomllib.loads((resources.files("tslens") / "assets/request.toml").read_text(encoding="utf-8"))
