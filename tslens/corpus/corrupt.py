"""Twins of stories with one named fault, for judges to be tested on: the fault, its strength and its places are known.

The sites of a kind are the places of a story that can carry it (see ``FAULTS``); some are drawn without replacement
and changed, and everything else stays as it is, byte for byte. A twin depends on the seed, the text, the kind and the
strength alone. ``check_faults`` finds the faults again from the two texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

from tslens.corpus.dice import Dice
from tslens.corpus.faults import entities, events, requests, sentences, verbs
from tslens.corpus.faults.reading import Draft, Reading, apply_edits
from tslens.corpus.words import Span
from tslens.errors import UsageError
from tslens.types import Labels, Story

STRENGTHS: dict[str, float | None] = {"low": 0.1, "medium": 0.25, "high": 0.5, "one": None}
"""Share of the sites that are changed (at least one); "one": a single site."""

OBJECT_SENTENCES = {"low": 1, "medium": 2, "high": 4, "one": 1}
"""Sentences that the kind ``object_back`` adds."""

_MAX_TRIES = 32  # twins that are tried for an equal number of tokens


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind. ``definition``: its sites and the change. The functions list the sites and change some of them."""

    definition: str
    find_sites: Callable[[Reading], Sequence[Any]]
    change: Callable[[Reading, Sequence[Any], Dice], Draft | None]


FAULTS = {
    "word_order": Fault(
        "sentences of at least five words: the words change places",
        sentences.find_order_sites,
        sentences.shuffle_words,
    ),
    "agreement": Fault(
        "finite verbs that show number: the other number", verbs.find_agreement_sites, verbs.change_verbs
    ),
    "tense": Fault(
        "finite verbs of the narration in the story's tense: the other tense",
        verbs.find_tense_sites,
        verbs.change_verbs,
    ),
    "swapped_names": Fault(
        "names of characters: the name of another character of the story",
        entities.find_name_sites,
        entities.change_words,
    ),
    "changed_pronoun": Fault(
        "third-person pronouns of an entity: another gender or number, the same case",
        entities.find_pronoun_sites,
        entities.change_words,
    ),
    "object_back": Fault(
        "places after an object was lost, broken or given away: a sentence in which somebody uses it",
        events.find_event_sites,
        events.bring_object_back,
    ),
    "repeated_sentence": Fault(
        "sentences of at least three words: said again, up to three sentences later",
        sentences.find_repeat_sites,
        sentences.repeat_sentences,
    ),
    "sentence_order": Fault(
        "sentences of at least three words: moved to another place",
        sentences.find_move_sites,
        sentences.move_sentences,
    ),
    "missing_ending": Fault(
        "the ending: that share of the text is cut off",
        sentences.find_endings,
        lambda reading, _, dice: sentences.cut_ending(reading, None, dice),
    ),
    "ignored_instruction": Fault(
        "words of the request that the story uses: in no form there any more",
        requests.find_word_sites,
        requests.drop_words,
    ),
}
"""The kinds of fault by name."""


@dataclass(frozen=True, slots=True)
class Corruption:
    """A twin of a story with one kind of fault.

    ``spans``: characters of each changed place in ``text``; empty where something is gone. ``was``: what stood there in
    the story; empty where something was added. ``n_sites``: sites that
    were changed, of ``n_eligible`` that could have been.
    """

    kind: str
    strength: str
    text: str
    spans: tuple[Span, ...]
    was: tuple[str, ...]
    n_sites: int
    n_eligible: int


def corrupt(
    story: Story,
    labels: Labels,
    kind: str,
    strength: str,
    *,
    seed: int,
    n_tokens: Callable[[str], int] | None = None,
) -> Corruption | None:
    """The story with one named fault, None where it has no site for it.

    ``n_tokens``: number of tokens of a text; with the strength "one" a site is then chosen, where there is one, whose
    twin has as many tokens as the story. Raises UsageError for an unknown kind or strength, DataError for labels of
    another text.
    """
    if kind not in FAULTS or strength not in STRENGTHS:
        raise UsageError(
            f'There is no fault "{kind}" of strength "{strength}".',
            f"Kinds: {', '.join(FAULTS)}; strengths: {', '.join(STRENGTHS)}.",
        )
    reading = Reading(story, labels)
    fault, share = FAULTS[kind], STRENGTHS[strength]
    sites = fault.find_sites(reading)
    if not sites:
        return None
    dice = Dice(seed, kind, strength, story.text)
    first: Corruption | None = None
    for draft in _drafts(kind, strength, reading, sites, dice, 1 if n_tokens is None else _MAX_TRIES):
        text, spans, was = apply_edits(story.text, draft.edits)
        if text != story.text:
            twin = Corruption(kind, strength, text, spans, was, draft.n_sites, len(sites))
            if n_tokens is None or share is not None or n_tokens(text) == n_tokens(story.text):
                return twin
            first = first or twin
    return first


def _drafts(
    kind: str, strength: str, reading: Reading, sites: Sequence[Any], dice: Dice, n_tries: int
) -> Iterator[Draft]:
    """Changes of drawn sites: one, or with the strength "one" up to ``n_tries``, each site in turn."""
    share = STRENGTHS[strength]
    if kind == "missing_ending":
        yield sentences.cut_ending(reading, share, dice)
        return
    n_changed = OBJECT_SENTENCES[strength] if kind == "object_back" else _number(share, len(sites))
    drawn = dice.some_of(sites, min(n_changed, len(sites)) if share is not None else len(sites))
    rounds = [drawn] if share is not None else [[site] for site in islice(cycle(drawn), n_tries)]
    for chosen in rounds:
        draft = FAULTS[kind].change(reading, chosen, dice)
        if draft:
            yield draft


def _number(share: float | None, n_sites: int) -> int:
    """Sites to change: a share of all, rounded, at least one."""
    return 1 if share is None else max(1, int(share * n_sites + 0.5))
