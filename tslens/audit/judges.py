"""``tslens audit judge``: does a judge see what it claims to see?

Parts, each ending in figures with intervals; some were asked for beforehand, the rest are reported:

- ``planted``: known faults by kind and strength (``judge_planted``), which criterion each should hit written down first
  (``grading.expected``);
- ``length``, ``position``: whether grades follow the number of words, or where a fault stands (``judge_bias``);
- ``itself``: the same texts again (``judge_itself``);
- ``people``: completions that a person scored (``judge_people``);
- ``injection``: words to the judge inside a completion (``judge_injection``).

All stories are held out: the author's of seeds that nothing was fitted on, real ones of the validation side. The texts
are planned first and graded in one go, each once, so that a judge that costs money can be priced before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

from tslens.audit.judge_bias import ONE_ORDER, Length, Position, clean_story, place_faults
from tslens.audit.judge_injection import Injection, inject
from tslens.audit.judge_itself import Itself
from tslens.audit.judge_people import People, Scored
from tslens.audit.judge_planted import Planted, texts_of
from tslens.audit.judge_report import AuditText, JudgeAudit, JudgePart, Measure, Outcomes, distinct
from tslens.corpus.author import write_stories
from tslens.corpus.dice import Dice
from tslens.corpus.stories import describe_source, is_validation, read_stories
from tslens.grading.judge import Judge
from tslens.grading.planted import AUDIT_STORY_SEED, PlantedPair, plant_pairs
from tslens.types import Story

PARTS: tuple[JudgePart, ...] = ("planted", "length", "position", "itself", "people", "injection")
PAIRED = frozenset({"planted", "itself", "injection"})
"""Parts that read pairs of all kinds."""

LOCAL = "local"  # name of the judge of the package, of which exactness is asked
FITTED = (
    "People: left out, as the local judge is fitted on these scores; reports/judge has figures without them."
)
BY_RULE = "Ignored instructions are not planted: whether they are heeded is decided by rule, not by a judge."
GUESSED = "reconstructed"  # field "boundary" of stories whose ends were guessed


@dataclass(frozen=True)
class JudgeAuditSize:
    """How much is run. ``n_stories``: of each source; ``n_placed``: stories of each kind whose fault is moved;
    ``n_again``: texts that are graded twice; ``n_injected``: texts for each wording in each place."""

    n_stories: int
    n_placed: int
    n_again: int
    n_injected: int


FULL = JudgeAuditSize(200, 40, 100, 3)
QUICK = JudgeAuditSize(40, 12, 20, 1)


class AuditPart(Protocol):
    """What a part needs graded, and what it makes of the grades."""

    @property
    def texts(self) -> Iterator[AuditText]:
        """All its texts; some may be of other parts as well."""

    def read(self, outcomes: Outcomes) -> Iterator[Measure]:
        """Its figures."""


@dataclass(frozen=True)
class JudgePlan:
    """All that a judge will be given. ``sources``: of the stories."""

    parts: tuple[AuditPart, ...]
    texts: tuple[AuditText, ...]
    missing: tuple[str, ...]
    notes: tuple[str, ...]
    sources: tuple[str, ...]
    seed: int


def plan_audit(
    judge_name: str,
    *,
    seed: int,
    size: JudgeAuditSize = FULL,
    parts: Sequence[JudgePart] = PARTS,
    real: Sequence[Story] | None = None,
    real_source: str = "",
    no_real: str = "none were given",
    people: Sequence[Scored] | None = None,
) -> JudgePlan:
    """Write stories, plant faults, and list all texts.

    ``judge_name``: of the judge: more is asked of the local one, and the part "people" is left out for it, with a note,
    because it is fitted on these scores. ``real``: labelled held-out stories (:func:`held_out_stories`) of
    ``real_source``; ``no_real``: why there are none. ``people``: completions that a person scored. What is None is
    named among ``missing``.
    """
    notes = [BY_RULE] if "planted" in parts else []
    notes += [ONE_ORDER] if "position" in parts else []
    if judge_name == LOCAL and "people" in parts:
        parts = [part for part in parts if part != "people"]
        notes.append(FITTED)
    author = list(write_stories(size.n_stories, seed=AUDIT_STORY_SEED + seed))
    stories = {"author": author} | ({"real": list(real)} if real else {})
    counts: Counter[str] = Counter()
    pairs = [
        pair
        for source, mine in (stories.items() if PAIRED & set(parts) else ())
        for pair in plant_pairs(mine, seed=seed, source=source, counts=counts)
    ]
    chosen = [_part(part, judge_name, stories, pairs, people or (), size, seed) for part in parts]
    missing = [] if real or not {*parts} - {"people"} else [f"real stories: {no_real}"]
    if "people" in parts and not people:
        missing.append("agreement with people: their scores are absent")
    if counts["not confirmed"]:
        notes.append(f"{counts['not confirmed']} twins were left out: the checker did not find their fault.")
    sources = [f"author:{size.n_stories}:{AUDIT_STORY_SEED + seed}", *([real_source] if real else [])]
    return JudgePlan(
        parts=tuple(chosen),
        texts=distinct(chain.from_iterable(part.texts for part in chosen)),
        missing=tuple(missing),
        notes=tuple(notes),
        sources=tuple(sources),
        seed=seed,
    )


def audit_judge(
    judge: Judge, plan: JudgePlan, progress: Callable[[int], None] = lambda n_done: None
) -> JudgeAudit:
    """Have every text graded and read the figures. ``progress`` is told how many texts are done."""
    graded = judge.grade([text.graded for text in plan.texts], progress)
    outcomes = {text.graded.key: one for text, one in zip(plan.texts, graded, strict=True)}
    return JudgeAudit(
        judge=judge.name,
        version=judge.version,
        texts=plan.texts,
        outcomes=outcomes,
        measures=tuple(chain.from_iterable(part.read(outcomes) for part in plan.parts)),
        missing=plan.missing,
        notes=plan.notes,
        sources=tuple(describe_source(source)[0] for source in plan.sources),
        seed=plan.seed,
    )


def held_out_stories(source: str, n_stories: int) -> list[Story]:
    """The first stories of the validation side of a source, without those whose ends were guessed; no labels yet.

    A text that comes again is left out.
    """
    found: dict[str, Story] = {}
    for story in read_stories(source, keep=is_validation):
        if len(found) == n_stories:
            break
        if story.extra.get("boundary") != GUESSED:
            found.setdefault(story.text, story)
    return list(found.values())


def _part(
    part: JudgePart,
    judge_name: str,
    stories: Mapping[str, Sequence[Story]],
    pairs: Sequence[PlantedPair],
    people: Sequence[Scored],
    size: JudgeAuditSize,
    seed: int,
) -> AuditPart:
    is_local = judge_name == LOCAL
    if part == "planted":
        return Planted(tuple(pairs))
    if part == "length":
        return Length(stories)
    if part == "position":
        placed = (
            place_faults(mine, seed=seed, source=source, n_most=size.n_placed)
            for source, mine in stories.items()
        )
        return Position(tuple(chain.from_iterable(placed)))
    if part == "itself":
        medium = [pair for pair in pairs if pair.strength == "medium"]
        chosen = Dice(seed, "again").some_of(medium, min(size.n_again, len(medium)))
        return Itself(chosen, is_local)
    if part == "people":
        return People(tuple(people), seed)
    clean = [
        AuditText(clean_story(story), source, "clean") for source in stories for story in stories[source]
    ]
    shuffled = [pair for pair in pairs if (pair.kind, pair.strength) == ("word_order", "high")]
    bad = [texts_of(pair)[1] for pair in shuffled]
    injected = inject(_in_turn(stories, clean, bad), n_each=size.n_injected)
    return Injection((*clean, *bad), tuple(injected), is_local)


def _in_turn(stories: Iterable[str], *groups: Sequence[AuditText]) -> list[AuditText]:
    """Texts of each source and each group in turn, as long as there are of all of them."""
    columns = [[text for text in group if text.source == source] for source in stories for group in groups]
    return list(chain.from_iterable(zip(*filter(None, columns), strict=False)))
