"""The plan of a story of the offline author: drawn before a word is written, never changed after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tslens.corpus.authoring.lines import Row, load_grammar, load_words
from tslens.corpus.dice import Dice
from tslens.labels import FEATURES

PRONOUNS: Mapping[str, Row] = MappingProxyType(
    {
        "girl": {"he": "she", "him": "her", "his": "her", "hers": "hers", "himself": "herself"},
        "boy": {"he": "he", "him": "him", "his": "his", "hers": "his", "himself": "himself"},
    }
)
_ANIMAL_SHARE = 0.35
_OTHER_GENDER_SHARE = 0.75  # of friends: "he" and "she" then tell hero and friend apart
_FEATURE_SHARES: Mapping[str, float] = MappingProxyType(
    {
        "dialogue": 0.55,
        "bad_ending": 0.12,
        "happy_ending": 0.25,
        "moral_value": 0.45,
        "twist": 0.2,
        "foreshadowing": 0.2,
        "conflict": 0.2,
    }
)
assert tuple(_FEATURE_SHARES) == tuple(FEATURES)


@dataclass(frozen=True, slots=True)
class Character:
    """Somebody with a name. ``kind``: girl, boy or an animal. ``gender``: girl or boy, decides the pronouns."""

    name: str
    kind: str
    gender: str

    @property
    def pronouns(self) -> Row:
        """Forms by role: he, him, his, hers, himself."""
        return PRONOUNS[self.gender]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a story is about.

    ``world``: child or animal. ``row``: the particulars of plots that have a table of their own, else empty.
    ``spots``: three places where a thing can be; ``seats``: two where somebody can sit. ``kinship``: what the
    friend is to the hero. ``contracts``: the teller says "didn't" and "I'm". ``features``: of ``labels.FEATURES``.
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
    contracts: bool
    features: frozenset[str]


def draw_features(dice: Dice) -> frozenset[str]:
    """Features of a story that nobody asked for any."""
    drawn = {name for name, share in _FEATURE_SHARES.items() if dice.chance(share)}
    return frozenset(drawn - {"happy_ending"} if "bad_ending" in drawn else drawn)


def draw_plan(dice: Dice, features: frozenset[str]) -> Plan:
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
        contracts=dice.chance(0.5),
        features=features,
    )


def _draw_character(dice: Dice, world: str, gender: str, *, not_named: str) -> Character:
    words = load_words()
    names = words.names[gender if world == "child" else f"{gender}_animal"]
    name = dice.one_of([name for name in names if name != not_named])
    return Character(name, gender if world == "child" else dice.one_of(words.lists["kinds"]), gender)
