"""The telling of a plan: scenes in order, each in one of its ways, with choices inside the sentence.

A story is told in pieces, one per scene, each in the notation of ``assets/author`` with every slot filled; what is
left in it are the gold marks that ``corpus.authoring.markup`` reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from tslens.corpus.authoring.lines import (
    Choice,
    Pick,
    Slot,
    Template,
    list_tellings,
    load_grammar,
    parse_line,
    put_marks,
    spell,
)
from tslens.corpus.authoring.plan import PRONOUNS, Plan
from tslens.corpus.dice import Dice

PARTS = ("opening", "problem", "obstacle", "turn", "ending")
SETUP_AND_PAYOFF = " ;; "

_LABELS: Mapping[str, str] = MappingProxyType({"obstacle": "problem"})
_LATER: Mapping[str, str] = MappingProxyType(
    {"friend": "friend.name", "friend.new": "friend.name", "elder": "elder.short"}
)
_SPEECH_SHARE = (
    0.4  # of scenes with direct speech, in stories with dialogue, beyond those that have it by chance
)
# How many of the five parts each paragraph holds.
_PARAGRAPHS = ((1, 1, 1, 1, 1), (1, 2, 1, 1), (1, 1, 2, 1), (1, 1, 1, 2), (1, 2, 2), (1, 2, 2), (2, 1, 2))


@dataclass(frozen=True, slots=True)
class Piece:
    """One scene as told. ``part``: of the story, as labelled. ``scene``: its name. ``text``: with gold marks."""

    part: str
    scene: str
    text: str


def fill_slots(plan: Plan) -> dict[str, str]:
    """What each {slot} of a sentence stands for, in small letters; values may hold markup themselves."""
    hero, friend, elder, thing = plan.hero, plan.friend, plan.elder, plan.thing
    is_child = plan.world == "child"
    short = elder["short"]
    known = {
        "hero": f"{hero.name}@hero",
        "friend": f"{{his}} {plan.kinship} {friend.name}@friend~"
        + ("" if is_child else f" the {friend.kind}@friend"),
        "friend.new": f"a {friend.kind}@friend~ (named_i {friend.name}@friend)",
        "friend.name": f"{friend.name}@friend",
        "elder": elder["intro"],
        "elder.short": short,
        "elder.poss": f"{short}'s",
        "elder.my": short.replace("{his}", "my"),
        "parent": f"{{his}} {plan.parent}@parent",
        "parent.call": f"{plan.parent.capitalize()}@parent",
        "thing": f"{thing['thing']}@thing",
    }
    genders = {
        "": (hero.gender, "hero"),
        "friend.": (friend.gender, "friend"),
        "elder.": (elder["gender"], "elder"),
        "parent.": ("girl" if plan.parent == "mom" else "boy", "parent"),
    }
    for prefix, (gender, entity) in genders.items():
        known |= {f"{prefix}{role}": f"{form}@{entity}" for role, form in PRONOUNS[gender].items()}
    return {
        **known,
        **{f"r.{column}": value for column, value in plan.row.items()},
        **{column: thing[column] for column in ("using", "used", "broke", "mended")},
        **{column: plan.place[column] for column in ("place", "at", "to")},
        **{f"spot{i}": spot for i, spot in enumerate(plan.spots, start=1)},
        **{f"seat{i}": seat for i, seat in enumerate(plan.seats, start=1)},
        "kind": hero.kind,
        "trait": plan.trait,
        "paw": "hand" if is_child else "paw",
        "paws": "hands" if is_child else "paws",
        "kids": "children" if is_child else "animals",
        "adj": plan.adjective,
        "weather": plan.weather,
        "time": plan.time,
        "food": plan.food,
        "coins": plan.number,
    }


class Teller:
    """Tells one plan. Remembers who was introduced and which lines were used, so that none comes twice."""

    def __init__(self, plan: Plan, dice: Dice, uses: Sequence[str], *, is_full: bool) -> None:
        """``uses``: sentences for given words, told in the opening. ``is_full``: leaves no optional scene out."""
        self._plan = plan
        self._optional_share = 1.0 if is_full else 0.5
        self._dice = dice
        self._slots = fill_slots(plan)
        self._uses = uses
        self._introduced: set[str] = set()
        self._used: set[str] = set()
        self._payoff = ""

    def story(self) -> list[Piece]:
        """The pieces in order; their texts, joined, are the story."""
        parts = [self._part(part) for part in PARTS]
        pieces: list[Piece] = []
        for n_parts in self._dice.one_of(_PARAGRAPHS):
            paragraph = [piece for part in parts[:n_parts] for piece in part]
            del parts[:n_parts]
            ends = [" "] * (len(paragraph) - 1) + ["\n" if parts else ""]
            pieces += [Piece(p.part, p.scene, p.text + end) for p, end in zip(paragraph, ends, strict=True)]
        return pieces

    def _part(self, part: str) -> list[Piece]:
        pieces = []
        for scene in self._scenes(part):
            if not scene.endswith("?") or self._dice.chance(self._optional_share):
                pieces.append(self._piece(part, scene.rstrip("?")))
        if part == "opening":
            uses = [Piece(part, "use", self.tell(use)) for use in self._uses]
            pieces[1:1] = uses[:1]  # one after the hero came in, the others before the story begins
            pieces += uses[1:]
            if "foreshadowing" in self._plan.features:
                pieces.append(self._piece(part, "foreshadow"))
        elif part == "problem" and self._payoff:
            pieces.append(Piece(part, "payoff", self.tell(self._payoff)))
        return pieces

    def _scenes(self, part: str) -> list[str]:
        """Names of the scenes of a part, with what the features ask for."""
        features = self._plan.features
        is_bad = "bad_ending" in features
        scenes: list[str] = load_grammar().plots[self._plan.plot][part].split()
        if part == "obstacle" and "conflict" in features:
            return [*scenes, "conflict"]
        if part == "turn" and is_bad:
            return ["bad"]
        if part != "ending":
            return scenes
        first, *rest = [scene for scene in scenes if scene != "moral?"]
        told = ["bad_end"] if is_bad else [first]
        told += ["bad_twist" if is_bad else "twist"] * ("twist" in features)
        told += [] if is_bad else rest
        told += ["any.happy"] * ("happy_ending" in features)
        return told + ["bad_moral" if is_bad else "moral"] * ("moral_value" in features)

    def _piece(self, part: str, scene: str) -> Piece:
        name = scene if scene.startswith("any.") else f"{self._plan.plot}.{scene}"
        speaks = "dialogue" in self._plan.features
        lines = list_tellings(name, self._plan.world, speaks)
        if speaks and self._dice.chance(_SPEECH_SHARE):
            lines = tuple(line for line in lines if '"' in line) or lines
        line = self._unused(lines)
        line, _, payoff = line.partition(SETUP_AND_PAYOFF)
        self._payoff = payoff or self._payoff
        label = "moral" if scene.endswith("moral") else _LABELS.get(part, part)
        return Piece(label, scene, self.tell(line))

    def tell(self, line: str) -> str:
        """One line with every slot and choice filled; the gold marks stay."""
        text = self._render(parse_line(line)).replace("~", "")
        return spell(text, contracts=self._plan.contracts)

    def _unused(self, lines: Sequence[str]) -> str:
        line = self._dice.one_of([line for line in lines if line not in self._used] or lines)
        self._used.add(line)
        return line

    def _render(self, template: Template) -> str:
        return "".join(node if isinstance(node, str) else self._fill(node) for node in template)

    def _fill(self, node: Slot | Choice | Pick) -> str:
        if isinstance(node, Choice):
            return put_marks(self._render(self._dice.one_of(node.options)), node.marks)
        if isinstance(node, Pick):
            name = node.name
            text = self._render(parse_line(self._unused(load_grammar().lists[name.lower()])))
        else:
            name = node.key
            text = self._render(parse_line(self._slots[self._mention(name[0].lower() + name[1:])]))
        text = put_marks(text, node.marks)
        return text[0].upper() + text[1:] if name[0].isupper() else text

    def _mention(self, key: str) -> str:
        """The slot to read for a mention: friend and elder are introduced the first time, then just named."""
        who = key.partition(".")[0]
        if who in self._introduced:
            return _LATER.get(key, key)
        if who in ("friend", "elder"):
            self._introduced.add(who)
        return key
