"""What the study of instructions counts: shares with their intervals, the level of chance, and the harder null."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice, zip_longest
from typing import Any

from tslens.corpus.author import NO_WISHES, _tell
from tslens.corpus.check_features import has_feature
from tslens.corpus.instructions.compliance import Compliance
from tslens.corpus.instructions.form import KINDS, Instruction
from tslens.corpus.instructions.telling import SummaryCheck, Telling, compare_tellings
from tslens.corpus.vocabulary import analyses
from tslens.corpus.words import find_sentences, find_units
from tslens.labels import FEATURES
from tslens.types import Labels, Story

SEED = 0
N_ANNOTATED, N_PAIRED = 500, 1_000
N_NAMED = 5  # summaries of other plots that each story is asked for, under the name of its hero


class Tally:
    """Counts of followed and of told things by kind, and of the parts of the summary rule."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.followed: Counter[str] = Counter()
        self.parts: Counter[str] = Counter()
        self.whole: Counter[bool | None] = Counter()

    def add(self, found: Compliance) -> None:
        """Count one story."""
        self.whole[found.is_followed] += 1
        for verdict in found.verdicts:
            if verdict.answer != "cannot tell":
                for kind in (verdict.kind, "all"):
                    self.asked[kind] += 1
                    self.followed[kind] += verdict.answer == "followed"
        if found.summary:
            self.parts.update(_parts(found.summary))

    def shares(self) -> dict[str, dict[str, Any]]:
        """Share and 95% interval of each kind."""
        return {
            kind: share(self.followed[kind], self.asked[kind]) for kind in (*KINDS, "all") if self.asked[kind]
        }


def _parts(check: SummaryCheck) -> Iterator[str]:
    yield "summaries"
    for name in ("n_characters", "n_objects", "n_clauses"):
        found, wanted = getattr(check, name)
        whole = found > 0 if name == "n_clauses" else found == wanted
        yield from [name] * whole
    yield from ["clauses told"] * check.n_clauses[0]
    yield from ["clauses"] * check.n_clauses[1]


def share(n_right: int, n: int) -> dict[str, Any]:
    """A share with its 95% interval (Wilson 1927)."""
    z = 1.96
    middle = (n_right + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * (n_right * (n - n_right) / n + z * z / 4) ** 0.5
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return {"n": n, "share": round(n_right / n, 4), "low": round(low, 4), "high": round(high, 4)}


class Rates:
    """Share of all stories that have each word, sentence and feature: what chance would follow."""

    def __init__(self) -> None:
        self._n = 0
        self._has: Counter[tuple[str, ...]] = Counter()

    def add(self, story: Story, labels: Labels | None) -> None:
        """Count what one story has."""
        self._n += 1
        forms = {story.text[start:end].lower() for start, end in find_units(story.text)}
        uses = {(lemma, "") for form in forms for lemma, _, _ in analyses(form)}
        if labels is not None:
            uses |= {
                pair for use in zip(labels.lemma, labels.pos, strict=True) for pair in (use, (use[0], ""))
            }
        self._has.update(("words", lemma, pos) for lemma, pos in uses)
        self._has.update(
            ("sentence", s) for s in {story.text[s.start : s.end] for s in find_sentences(story.text)}
        )
        self._has.update(("features", name) for name in FEATURES if has_feature(name, story.text))

    def expected(self, asked: Iterable[Instruction]) -> dict[str, float]:
        """Mean share, by kind, of stories that have what is asked for; the story that it was drawn from not counted."""
        sums: Counter[str] = Counter()
        numbers: Counter[str] = Counter()
        for instruction in asked:
            keys: list[tuple[str, ...]] = [
                ("words", word, pos)
                for word, pos in zip_longest(instruction.words, instruction.words_pos, fillvalue="")
            ]
            keys += [("sentence", instruction.sentence)] if instruction.sentence else []
            keys += [("features", name) for name in instruction.features]
            for key in keys:
                sums[key[0]] += max(0, self._has[key] - 1) / (self._n - 1)  # type: ignore[assignment]
                numbers[key[0]] += 1
        return {kind: sums[kind] / numbers[kind] for kind in numbers}


@dataclass
class Paired:
    """A summary and its story, read; the name of the hero; the plot."""

    summary: Telling
    story: Telling
    hero: str
    plot: str


def plot_of(story: Story) -> str:
    """Plot of an author story, from its plan."""
    return _tell(story.extra["index"], SEED, NO_WISHES).plan.plot


def name_matched(pairs: list[Paired]) -> dict[str, Any]:
    """Summaries of another plot in which the hero has the name of the story's hero: how many are followed?

    Each summary goes to the next ``N_NAMED`` stories of other plots.
    """
    n_followed = n_pairs = 0
    for number, one in enumerate(pairs):
        others = (other for other in (*pairs[number + 1 :], *pairs[:number]) if other.plot != one.plot)
        for other in islice(others, N_NAMED):
            n_pairs += 1
            renamed = _rename(one.summary, one.hero, other.hero)
            n_followed += bool(compare_tellings(renamed, other.story).is_followed)
    return share(n_followed, n_pairs)


def _rename(telling: Telling, name: str, other: str) -> Telling:
    def put(words: frozenset[str]) -> frozenset[str]:
        return frozenset(other if word == name else word for word in words)

    clauses = tuple(
        replace(
            clause,
            who=None if clause.who is None else put(clause.who),
            others=tuple(map(put, clause.others)),
            what=None if clause.what is None else put(clause.what),
            rest=tuple(map(put, clause.rest)),
        )
        for clause in telling.clauses
    )
    return replace(telling, clauses=clauses, characters=put(telling.characters))


def hero_of(labels: Labels) -> str:
    """Name of the protagonist, in small letters; empty where it has none."""
    names = zip(labels.mention, labels.pos, labels.lemma, strict=True)
    return next((name for of, pos, name in names if of == labels.protagonist and pos == "PROPN"), "")


def chance_of_summaries(pairs: list[Paired]) -> float:
    """Share of pairs of different stories in which one follows the summary of the other."""
    n_followed = 0
    for one in pairs:
        for other in pairs:
            if one is not other and one.summary.characters <= other.story.lemmas:
                n_followed += bool(compare_tellings(one.summary, other.story).is_followed)
    return n_followed / (len(pairs) * (len(pairs) - 1))
