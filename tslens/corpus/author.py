"""The offline story author: simple stories about named characters, with no network, key or data.

1. Words to use (a verb, a noun, an adjective of the vocabulary) and features are given or drawn.
2. A plan is drawn: plot, hero, friend, elder, place, thing and the plot's own row of particulars (which creature is
   in trouble, which rule is broken). What the plan holds stays so to the end of the story.
3. The plot names five parts (opening, problem, obstacle, turn, ending), each a row of scenes; features change them
   (``corpus.authoring.telling``). Each scene is told in one of its ways.
4. The sentences carry gold marks, from which the labels of every word follow (``corpus.authoring.gold``).
5. A story counts only if the checkers of ``corpus.check_features``, which read nothing but the text, find every
   feature and every word that was asked for; else it is planned anew.

The words are in ``assets/vocabulary.toml`` and ``assets/author/``; the head of ``common.toml`` there explains the
notation. A story depends on (seed, index) and on what it was asked for alone, so that any number of processes
writes the same stories. In the manner of TinyStories (Eldan and Li 2023, arXiv:2305.07759); no text is taken from
there.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

from tslens.corpus.authoring.gold import label_story
from tslens.corpus.authoring.lines import load_grammar
from tslens.corpus.authoring.markup import MarkedText, plain_text, read_marks
from tslens.corpus.authoring.plan import Plan, draw_features, draw_plan
from tslens.corpus.authoring.summaries import summarise
from tslens.corpus.authoring.telling import Piece, Teller
from tslens.corpus.authoring.uses import GivenWord, choose_uses, draw_words, parse_word, words_of
from tslens.corpus.check_features import has_feature, has_word
from tslens.corpus.dice import Dice
from tslens.corpus.parallel import map_chunks
from tslens.errors import UsageError
from tslens.labels import FEATURES
from tslens.types import Story

_WORDS_OF_TEXT = range(90, 331)
_ATTEMPTS = 100
MOST_WORDS = 5
_GOOD_EVENTS = ("found", "mended")
_CHUNK = 50


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a story is asked for. None: drawn anew for each story."""

    words: tuple[GivenWord, ...] | None = None
    features: frozenset[str] | None = None


NO_WISHES = Wishes()


def read_wishes(words: str | None, features: str | None) -> Wishes:
    """Wishes as written on a command line: ``swim,frog,sad`` (or ``swim:verb``), ``twist,moral_value``.

    An empty text asks for none. Raises UsageError for a word that the vocabulary does not have, an unknown
    feature, and for a happy and a bad ending at once.
    """
    given = None if words is None else tuple(dict.fromkeys(parse_word(word) for word in _parts(words)))
    if given and len(given) > MOST_WORDS:
        raise UsageError(f"{len(given)} words are too many for one story.", f"Ask for up to {MOST_WORDS}.")
    names = None if features is None else [name.lower().replace(" ", "_") for name in _parts(features)]
    for name in names or ():
        if name not in FEATURES:
            raise UsageError(f'"{name}" is no feature of stories.', f"Choose of: {', '.join(FEATURES)}.")
    asked = None if names is None else frozenset(names)
    if asked and {"bad_ending", "happy_ending"} <= asked:
        raise UsageError("A story cannot end well and badly at once.", "Choose one of the two endings.")
    return Wishes(given, asked)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


@dataclass(frozen=True, slots=True)
class _Told:
    """A story as told, before its labels are read from the marks of its pieces."""

    dice: Dice
    plan: Plan
    words: tuple[GivenWord | None, ...]
    pieces: list[Piece]
    text: str


def write_story(index: int, *, seed: int, wishes: Wishes = NO_WISHES) -> Story:
    """One story, normalised: 3 to 5 paragraphs separated by one newline, 90 to 330 words.

    Depends on ``seed``, ``index`` and ``wishes`` alone: the same bytes in any process, order and environment.
    ``extra``: source, index, seed, words and their parts of speech, features, summary (one line) and its labels, events
    (what was lost, broken, given, found or mended, and the unit after which it is so), labels (``types.Labels``).
    Raises UsageError if no story has all that was asked for.
    """
    return _labelled(_tell(index, seed, wishes), index, seed)


def write_stories(
    n_stories: int,
    *,
    seed: int,
    start: int = 0,
    wishes: Wishes = NO_WISHES,
    n_processes: int = 1,
    text_only: bool = False,
    keep: Callable[[Story], bool] | None = None,
) -> Iterator[Story]:
    """Stories ``start`` to ``start + n_stories - 1`` of a seed, one after the other in constant memory.

    The same stories whatever the number of processes (see ``corpus.parallel`` for how they are started).
    ``text_only``: without labels and other fields, three times as fast. ``keep``: leaves out the stories for which it
    is false; it is asked before labels are made, and sees the text alone.
    """
    work = partial(_write_chunk, seed=seed, wishes=wishes, text_only=text_only, keep=keep)
    indices = range(start, start + n_stories)
    return map_chunks(work, indices, n_processes=n_processes, chunk_size=_CHUNK)


def _write_chunk(
    indices: list[int], *, seed: int, wishes: Wishes, text_only: bool, keep: Callable[[Story], bool] | None
) -> list[Story]:
    stories = []
    for index in indices:
        told = _tell(index, seed, wishes)
        bare = Story(told.text)
        if keep is None or keep(bare):
            stories.append(bare if text_only else _labelled(told, index, seed))
    return stories


def _tell(index: int, seed: int, wishes: Wishes) -> _Told:
    """The first try that has all that is asked for."""
    for attempt in count():
        dice = Dice(seed, index, *([attempt] if attempt else []))
        features = draw_features(dice) if wishes.features is None else wishes.features
        words = draw_words(dice) if wishes.words is None else wishes.words
        plan = draw_plan(dice, features)
        uses = choose_uses(dice, words)
        pieces = Teller(plan, dice, uses, is_full=attempt % 2 == 1).story()
        text = plain_text("".join(piece.text for piece in pieces))
        if (
            len(text.split()) in _WORDS_OF_TEXT
            and all(has_feature(name, text) for name in features)
            and _has_words(words, pieces)
        ):
            return _Told(dice, plan, tuple(words), pieces, text)
        if attempt == _ATTEMPTS:
            asked = [word.lemma for word in wishes.words or ()] + sorted(features)
            raise UsageError(
                f"The author found no story with all of: {', '.join(asked)}.", "Ask for fewer things at once."
            )
    raise AssertionError


def _has_words(words: Sequence[GivenWord | None], pieces: Sequence[Piece]) -> bool:
    """Whether each given word is used in its part of speech, in the sentence that is there for it."""
    given = [word for word in words if word]
    sentences = [piece.text for piece in pieces if piece.scene == "use"]
    return all(
        has_word(word.lemma, word.pos, label_story(read_marks([("opening", sentence)])))
        for word, sentence in zip(given, sentences, strict=True)
    )


def _labelled(told: _Told, index: int, seed: int) -> Story:
    marked = read_marks([(piece.part, piece.text) for piece in told.pieces])
    labels = label_story(marked)
    summary = summarise(told.plan, told.text, labels)
    words = words_of(told.dice, labels, told.words) if None in told.words else told.words
    extra = {
        "source": "author",
        "index": index,
        "seed": seed,
        "words": [word.lemma for word in words if word],
        "words_pos": [word.pos for word in words if word],
        "features": [name for name in FEATURES if name in told.plan.features],
        "summary": summary.text,
        "summary_labels": summary.labels.to_json(),
        "events": _events(told.plan, told.pieces, marked),
        "labels": labels.to_json(),
    }
    return Story(told.text, extra)


def _events(plan: Plan, pieces: Sequence[Piece], marked: MarkedText) -> list[dict[str, Any]]:
    """What becomes of the plan's thing: event, the noun, and the unit from which it is so.

    A loss is so from the end of the scene that tells of it; it is over from the start of the scene that ends it.
    """
    becomes = dict(event.split(":", 1) for event in load_grammar().plots[plan.plot].get("events", "").split())
    starts = [unit.start for unit in marked.units]
    events = []
    for piece, begin, end in zip(pieces, [0, *marked.ends], marked.ends, strict=False):
        if event := becomes.get(piece.scene):
            place = begin if event in _GOOD_EVENTS else end
            unit = min(bisect_left(starts, place), len(starts) - 1)
            events.append({"event": event, "object": plan.thing["thing"], "unit": unit})
    return events
