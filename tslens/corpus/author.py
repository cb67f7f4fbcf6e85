"""The offline story author: simple stories about named characters, with no network, key or data.

1. A plan is drawn first: plot, hero, friend, elder, place, thing and the plot's own row of particulars (which
   creature is in trouble, which rule is broken). What the plan holds stays so to the end of the story.
2. The plot names five parts (opening, problem, obstacle, turn, ending), each a row of scenes.
3. Each scene is told in one of its ways, with choices inside the sentence, filled in from the plan.

The words are in ``assets/author_words.toml``, plots and sentences in ``assets/author_scenes.toml``; the second
file's head explains the notation. A story depends on (seed, index) alone, so that any number of processes
writes the same stories. In the manner of TinyStories (Eldan and Li 2023, arXiv:2305.07759); no text is taken
from there.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

from tslens.corpus.author_words import (
    Choice,
    Pick,
    Row,
    Slot,
    Template,
    list_tellings,
    load_grammar,
    load_words,
    parse_line,
    spell,
)
from tslens.types import Story

T = TypeVar("T")

PARTS = ("opening", "problem", "obstacle", "turn", "ending")

_PRONOUNS: Mapping[str, Row] = MappingProxyType(
    {
        "girl": {"he": "she", "him": "her", "his": "her", "hers": "hers", "himself": "herself"},
        "boy": {"he": "he", "him": "him", "his": "his", "hers": "his", "himself": "himself"},
    }
)
_MIN_WORDS = 90
_DIALOGUE_SHARE = 0.6
_ANIMAL_SHARE = 0.35
_OTHER_GENDER_SHARE = 0.75  # of friends: "he" and "she" then tell hero and friend apart
# How many of the five parts each paragraph holds.
_PARAGRAPHS = ((1, 1, 1, 1, 1), (1, 2, 1, 1), (1, 1, 2, 1), (1, 1, 1, 2), (1, 2, 2), (1, 2, 2), (2, 1, 2))


# The plan ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Character:
    """Somebody with a name. ``kind``: girl, boy or an animal. ``gender``: girl or boy, decides the pronouns."""

    name: str
    kind: str
    gender: str

    @property
    def pronouns(self) -> Row:
        """Forms by role: he, him, his, hers, himself."""
        return _PRONOUNS[self.gender]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a story is about; drawn before a word is written, never changed after.

    ``world``: child or animal. ``row``: the particulars of plots that have a table of their own, else empty.
    ``spots``: three places where a thing can be; ``seats``: two where somebody can sit. ``kinship``: what the
    friend is to the hero. ``contracts``: the teller says "didn't" and "I'm".
    """

    plot: str
    world: str
    hero: Character
    trait: str
    friend: Character
    kinship: str
    elder: Row
    parent: str
    place: Row
    spots: tuple[str, str, str]
    seats: tuple[str, str]
    thing: Row
    adjective: str
    row: Row
    weather: str
    time: str
    food: str
    number: str
    has_dialogue: bool
    contracts: bool


class _Dice:
    """Draws that are the same in every Python: built on ``random()``, the one method with that promise."""

    def __init__(self, seed: int, index: int) -> None:
        digest = hashlib.blake2b(f"{seed}:{index}".encode(), digest_size=8).digest()
        self._random = random.Random(int.from_bytes(digest, "little")).random

    def chance(self, share: float) -> bool:
        return self._random() < share

    def one_of(self, options: Sequence[T]) -> T:
        return options[int(self._random() * len(options))]

    def some_of(self, options: Sequence[T], n_drawn: int) -> tuple[T, ...]:
        rest = list(options)
        return tuple(rest.pop(int(self._random() * len(rest))) for _ in range(n_drawn))


def _draw_plan(dice: _Dice) -> Plan:
    """Everything the story needs, consistent in itself."""
    words = load_words()
    plot = dice.one_of(
        [name for name in load_grammar().plots for _ in range(1 if name in words.tables else 2)]
    )
    world = "animal" if dice.chance(_ANIMAL_SHARE) else "child"
    hero = _draw_character(dice, world, dice.one_of(("girl", "boy")), not_named="")
    other = "boy" if hero.gender == "girl" else "girl"
    friend_gender = other if dice.chance(_OTHER_GENDER_SHARE) else hero.gender
    friend = _draw_character(dice, world, friend_gender, not_named=hero.name)
    never = load_grammar().plots[plot].get("never", "").split()
    place = dice.one_of([row for row in words.tables["places"] if row["world"] in ("both", world)])
    thing = dice.one_of(words.tables["things"])
    kinds = (hero.kind, friend.kind)
    rows = [row for row in words.tables.get(plot, ()) if row.get("animal") not in kinds]
    row = dice.one_of(rows) if rows else {}
    adjectives = (row if "adjs" in row else thing)["adjs"].replace(
        "COLOR", dice.one_of(words.lists["colors"])
    )
    spots = dice.some_of(place["spots"].split(" / "), 3)
    seats = dice.some_of(place["seats"].split(" / "), 2)
    return Plan(
        plot=plot,
        world=world,
        hero=hero,
        trait=dice.one_of([trait for trait in words.lists["traits"] if trait not in never]),
        friend=friend,
        kinship=dice.one_of(("friend", "friend", "neighbor", "cousin")),
        elder=dice.one_of([row for row in words.tables["elders"] if row["world"] in ("both", world)]),
        parent=dice.one_of(("mom", "dad")),
        place=place,
        spots=(spots[0], spots[1], spots[2]),
        seats=(seats[0], seats[1]),
        thing=thing,
        adjective=dice.one_of(adjectives.split()),
        row=row,
        weather=dice.one_of(words.lists["weather"]),
        time=dice.one_of(words.lists["time"]),
        food=dice.one_of(words.lists["foods"]),
        number=dice.one_of(words.lists["numbers"]),
        has_dialogue=dice.chance(_DIALOGUE_SHARE),
        contracts=dice.chance(0.5),
    )


def _draw_character(dice: _Dice, world: str, gender: str, *, not_named: str) -> Character:
    words = load_words()
    names = words.names[gender if world == "child" else f"{gender}_animal"]
    name = dice.one_of([name for name in names if name != not_named])
    return Character(name, gender if world == "child" else dice.one_of(words.lists["kinds"]), gender)


def _slots(plan: Plan) -> dict[str, str]:
    """What each {slot} of a sentence stands for, in lower case; values may hold markup themselves."""
    hero, friend, elder, thing = plan.hero, plan.friend, plan.elder, plan.thing
    is_child = plan.world == "child"
    elder_short = elder["short"]
    return {
        **hero.pronouns,
        **{f"friend.{role}": form for role, form in friend.pronouns.items()},
        **{f"elder.{role}": form for role, form in _PRONOUNS[elder["gender"]].items()},
        **{f"parent.{r}": form for r, form in _PRONOUNS["girl" if plan.parent == "mom" else "boy"].items()},
        **{f"r.{column}": value for column, value in plan.row.items()},
        **{column: thing[column] for column in ("thing", "using", "used", "broke", "mended")},
        **{column: plan.place[column] for column in ("place", "at", "to")},
        **{f"spot{i}": spot for i, spot in enumerate(plan.spots, start=1)},
        **{f"seat{i}": seat for i, seat in enumerate(plan.seats, start=1)},
        "hero": hero.name,
        "kind": hero.kind,
        "trait": plan.trait,
        "paw": "hand" if is_child else "paw",
        "paws": "hands" if is_child else "paws",
        "kids": "children" if is_child else "animals",
        "friend": f"{{his}} {plan.kinship} {friend.name}" + ("" if is_child else f" the {friend.kind}"),
        "friend.new": f"a {friend.kind} named {friend.name}",
        "friend.name": friend.name,
        "elder": elder["intro"],
        "elder.short": elder_short,
        "elder.poss": f"{elder_short}'s",
        "elder.my": elder_short.replace("{his}", "my"),
        "parent": f"{{his}} {plan.parent}",
        "parent.call": plan.parent.capitalize(),
        "adj": plan.adjective,
        "weather": plan.weather,
        "time": plan.time,
        "food": plan.food,
        "coins": plan.number,
    }


# The telling ------------------------------------------------------------------------------------------------


class _Teller:
    """Tells one plan. Remembers who was introduced and which lines were used, so that none comes twice."""

    _LATER: Mapping[str, str] = MappingProxyType(
        {"friend": "friend.name", "friend.new": "friend.name", "elder": "elder.short"}
    )

    def __init__(self, plan: Plan, dice: _Dice, optional_share: float) -> None:
        self._plan = plan
        self._optional_share = optional_share
        self._dice = dice
        self._slots = _slots(plan)
        self._introduced: set[str] = set()
        self._used: set[str] = set()

    def story(self) -> str:
        parts = [self._part(part) for part in PARTS]
        paragraphs = []
        for n_parts in self._dice.one_of(_PARAGRAPHS):
            paragraphs.append(" ".join(parts[:n_parts]))
            del parts[:n_parts]
        return spell("\n".join(paragraphs), contracts=self._plan.contracts)

    def _part(self, part: str) -> str:
        scenes = []
        for scene in load_grammar().plots[self._plan.plot][part].split():
            if not scene.endswith("?") or self._dice.chance(self._optional_share):
                lines = list_tellings(scene.rstrip("?"), self._plan.world, self._plan.has_dialogue)
                scenes.append(self._render(parse_line(self._unused(lines))))
        return " ".join(scenes)

    def _unused(self, lines: Sequence[str]) -> str:
        line = self._dice.one_of([line for line in lines if line not in self._used] or lines)
        self._used.add(line)
        return line

    def _render(self, template: Template) -> str:
        return "".join(node if isinstance(node, str) else self._fill(node) for node in template)

    def _fill(self, node: Slot | Choice | Pick) -> str:
        if isinstance(node, Choice):
            return self._render(self._dice.one_of(node.options))
        if isinstance(node, Pick):
            name = node.name
            text = self._render(parse_line(self._unused(load_grammar().lists[name.lower()])))
        else:
            name = node.key
            text = self._render(parse_line(self._slots[self._mention(name[0].lower() + name[1:])]))
        return text[0].upper() + text[1:] if name[0].isupper() else text

    def _mention(self, key: str) -> str:
        """The slot to read for a mention: friend and elder are introduced the first time, then just named."""
        who = key.partition(".")[0]
        if who in self._introduced:
            return self._LATER.get(key, key)
        if who in ("friend", "elder"):
            self._introduced.add(who)
        return key


def write_story(index: int, *, seed: int) -> Story:
    """One story, normalised: 3 to 5 paragraphs separated by one newline, 90 to 250 words.

    Depends on ``seed`` and ``index`` alone: the same bytes in any process, order and environment.
    ``extra``: source, index, seed.
    """
    dice = _Dice(seed, index)
    plan = _draw_plan(dice)
    text = _Teller(plan, dice, optional_share=0.5).story()
    if len(text.split()) < _MIN_WORDS:
        text = _Teller(plan, dice, optional_share=1.0).story()
    return Story(text, {"source": "author", "index": index, "seed": seed})


def write_stories(n_stories: int, *, seed: int, start: int = 0) -> Iterator[Story]:
    """Stories ``start`` to ``start + n_stories - 1`` of a seed, one at a time in constant memory."""
    return (write_story(index, seed=seed) for index in range(start, start + n_stories))
