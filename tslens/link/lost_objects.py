"""Pairs of a text that takes an object away and one that leaves it there, before a sentence that uses it.

The two texts differ in one verb ("lost the ball", "found the ball"; ``assets/link/lost_objects.toml``). After both
comes the same sentence, in which the object is used as if nothing had happened: who keeps track of it finds that less
likely after the first. Read are the tokens from the verb of use to the end of the phrase, not the object alone: at the
verb ("bounced") the use is told already, and the object after it surprises nobody. What stands before the verb, a time
and a name, can follow either text.

Each thing and event gives one pair: name, adjective, verbs and use are drawn. Pairs of the same two verbs are one
cluster: whatever a model makes of "took" where it could be "saw", it makes of it in all of them.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from tslens.corpus.dice import Dice
from tslens.link.pairs import Encode, Pair, Readout, after_two_beginnings


@dataclass(frozen=True)
class _Event:
    name: str
    text: str
    gone: tuple[str, ...]
    there: tuple[str, ...]


@dataclass(frozen=True)
class _Case:
    """One thing and what can happen to it."""

    thing: str
    uses: tuple[str, ...]
    event: _Event


def lost_object_readout(encode: Encode, *, n_ctx: int, n_pairs: int, seed: int) -> Readout:
    """Pairs of up to ``n_pairs`` drawn cases; those whose texts have unequal numbers of tokens are left out."""
    pairs: list[Pair] = []
    for case in Dice(seed, "lost object").shuffled(list(_cases())):
        if len(pairs) == n_pairs:
            break
        pair = _pair(case, Dice(seed, "lost object", case.thing, case.event.name), encode, n_ctx)
        if pair is not None:
            pairs.append(pair)
    asks = "the use of an object, less where it was lost, broken or given away"
    return Readout("lost_object", "consistency", asks, tuple((pair,) for pair in pairs))


def _pair(case: _Case, dice: Dice, encode: Encode, n_ctx: int) -> Pair | None:
    words = _asset()
    kind, pronoun = dice.one_of((("girl", "She"), ("boy", "He")))
    name, friend = dice.some_of(words[f"{kind}s"].split(), 2)
    bridge = dice.one_of(words["bridges"]).format(name=name)
    use = dice.one_of(case.uses).format(thing=case.thing)
    adjective = dice.one_of(words["adjectives"].split())
    verbs = dice.one_of(case.event.there), dice.one_of(case.event.gone)

    def told(verb: str) -> str:
        event = case.event.text.format(name=name, friend=friend, thing=case.thing, verb=verb)
        opening = words["opening"].format(
            kind=kind, name=name, She=pronoun, adjective=adjective, thing=case.thing, event=event
        )
        return f"{opening} {bridge}"

    there, gone = map(told, verbs)
    right, wrong = (encode(f"{text} {use}") for text in (there, gone))
    if len(right) != len(wrong):
        return None
    cluster = int.from_bytes(hashlib.blake2b("\0".join(verbs).encode(), digest_size=8).digest(), "little")
    return after_two_beginnings(cluster, right, wrong, len(right) - len(encode(there)), n_ctx)


def _cases() -> Iterator[_Case]:
    asset = _asset()
    for event in asset["event"]:
        found = _Event(event["name"], event["text"], tuple(event["gone"]), tuple(event["there"]))
        for thing in asset["thing"]:
            if event["kinds"] == "every" or thing["kind"] in event["kinds"].split():
                for name in thing["names"].split():
                    yield _Case(name, tuple(thing["uses"]), found)


@cache
def _asset() -> dict[str, Any]:
    file = resources.files("tslens") / "assets/link/lost_objects.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))
