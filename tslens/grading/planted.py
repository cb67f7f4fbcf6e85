"""Pairs of texts to grade, one with a known fault: a story as it is, and its twin by ``corpus.corrupt``.

Both of a pair are cut alike: the first sentence is the prompt where the twin begins with it unchanged, else the prompt
is empty for both, so that a judge sees the fault whole and the two in the same way. Whether a text was closed by its
writer is not told, as that would give a cut ending away.

Judges are audited on such pairs, and the local one is fitted on others: the audit takes the author's stories of
``AUDIT_STORY_SEED`` and later seeds, and real stories of the validation side (``corpus.stories.is_validation``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tslens.corpus.corrupt import FAULTS, STRENGTHS
from tslens.corpus.corrupted import FaultName, corrupt_stories, read_fault
from tslens.corpus.words import Span, find_sentences
from tslens.errors import UsageError
from tslens.types import Graded, Story

NEEDS_INSTRUCTIONS = "ignored_instruction"
KINDS = tuple(kind for kind in FAULTS if kind != NEEDS_INSTRUCTIONS)
"""Faults of a story that was asked for nothing. What ignores an instruction is for the rules of compliance."""

DOSES = ("low", "medium", "high")
AUDIT_STORY_SEED = 40_000  # of the author: stories of this and later seeds are for audits, never for fitting


@dataclass(frozen=True, slots=True)
class PlantedPair:
    """A story and its twin with one kind of fault. ``source``: where the story is from, as "author" or "real".

    ``spans``: characters of each changed place in the whole twin (prompt and completion); empty where something is
    gone.
    """

    kind: str
    strength: str
    source: str
    clean: Graded
    twin: Graded
    spans: tuple[Span, ...]

    @property
    def story(self) -> str:
        """Which story it is: pairs of one story are one cluster."""
        return self.clean.prompt_id


def plant_pairs(
    stories: Iterable[Story],
    kinds: Sequence[str] = KINDS,
    strengths: Sequence[str] = DOSES,
    *,
    seed: int,
    source: str,
    counts: Counter[str] | None = None,
) -> Iterator[PlantedPair]:
    """The pairs of labelled stories: story by story, kind by kind, strength by strength.

    A kind that a story has no site for is left out, as is a twin in which ``faults.check`` does not find the fault
    again; ``counts`` is filled with how many were "corrupted", had "no site", or were "not confirmed". A pair depends
    on the story's text, the kind, the strength and ``seed`` alone.
    Raises UsageError for an unknown kind or strength and for "ignored_instruction", DataError for a story without
    labels.
    """
    for kind in kinds:
        if kind == NEEDS_INSTRUCTIONS:
            raise UsageError(
                f'"{kind}" is no fault of a story that was asked for nothing.',
                "Whether instructions were heeded is decided by rule: corpus.instructions.compliance.",
            )
    faults = [read_fault(f"{kind}:{strength}") for kind in kinds for strength in strengths]
    for story in stories:
        for fault in faults:
            for twin in corrupt_stories([story], fault, seed=seed, counts=counts):
                yield _pair(story.text, twin, fault, source, f"{story.digest:016x}")


def _pair(text: str, twin: Story, fault: FaultName, source: str, story: str) -> PlantedPair:
    prompt = shared_prompt(text, twin.text)
    spans = tuple(twin.extra["corruption"]["spans"])
    return PlantedPair(
        fault.kind,
        fault.strength,
        source,
        clean_text(text, prompt, story),
        Graded(prompt, twin.text[len(prompt) :], story, _number(fault)),
        spans,
    )


def clean_text(text: str, prompt: str, story: str) -> Graded:
    """The story itself as a text to grade, cut after a prompt that it begins with. ``story``: its name."""
    return Graded(prompt, text[len(prompt) :], story, 0 if prompt else 1)


def shared_prompt(text: str, twin: str) -> str:
    """The first sentence of a text if its twin begins with it too and more follows in both, else nothing."""
    first = find_sentences(text)[0].end
    theirs = find_sentences(twin)
    if len(theirs) > 1 and theirs[0].end == first and twin[:first] == text[:first] and text[first:].strip():
        return text[:first]
    return ""


def _number(fault: FaultName) -> int:
    """A number for the twins of a story, each its own; 0 and 1 are the story itself with a prompt and without."""
    return 2 + list(FAULTS).index(fault.kind) * len(STRENGTHS) + list(STRENGTHS).index(fault.strength)
