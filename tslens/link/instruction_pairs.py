"""Pairs of instructions: a word or sentence of a story, after a prompt that asks for it and after one for another.

Both prompts have the form that the model was trained on (``corpus.instructions.form``), and both are followed by the
story up to the end of the word, or of the sentence, which is read. They differ only in what is asked for: in one it is
what comes; in the other it is from another story (a word of the same part of speech that this story does not use).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from tslens.corpus.dice import Dice
from tslens.corpus.instructions.draw import find_offer
from tslens.corpus.instructions.form import Instruction, write_text
from tslens.corpus.words import find_units
from tslens.link.pairs import Encode, Pair, after_two_beginnings
from tslens.link.story_pairs import labels_of
from tslens.types import Story

MOST_OF_STORY = 2
Word = tuple[str, str]
"""Lemma and part of speech."""


def word_pairs(stories: Sequence[Story], encode: Encode, *, n_ctx: int, seed: int) -> Iterator[Pair]:
    """Up to two pairs a story: the first time that it uses a word that it was asked for.

    ``stories``: labelled, two or more, each the source of other words for the rest. Raises DataError for a story
    without labels.
    """
    used = [_words(story) for story in stories]
    offers = [find_offer(story, Dice(seed, "readout", story.digest)).words for story in stories]
    for i, story in enumerate(stories):
        others = [word for offer in (*reversed(offers[:i]), *reversed(offers[i + 1 :])) for word in offer]
        found = (
            _word_pair(story, offers[i], word, others, used[i], encode, n_ctx)
            for word in Dice(seed, "word", story.digest).shuffled(offers[i])
        )
        yield from islice((pair for pair in found if pair is not None), MOST_OF_STORY)


def sentence_pairs(stories: Sequence[Story], encode: Encode, *, n_ctx: int, seed: int) -> Iterator[Pair]:
    """Up to two pairs a story, each of one of its sentences; the other prompt asks for one of the story before."""
    offers = [find_offer(story, Dice(seed, "readout", story.digest)).sentences for story in stories]
    for i, story in enumerate(stories):
        others = [sentence for sentence in offers[i - 1] if sentence not in story.text]
        dice = Dice(seed, "sentence", story.digest)
        for sentence in dice.some_of(offers[i], min(MOST_OF_STORY, len(offers[i])) if others else 0):
            start = story.text.index(sentence)
            pair = _after_prompts(
                story,
                Instruction(("sentence",), sentence=sentence),
                Instruction(("sentence",), sentence=dice.one_of(others)),
                (start, start + len(sentence)),
                encode,
                n_ctx,
            )
            if pair is not None:
                yield pair


def _word_pair(
    story: Story,
    asked: Sequence[Word],
    word: Word,
    others: Sequence[Word],
    used: Sequence[Word],
    encode: Encode,
    n_ctx: int,
) -> Pair | None:
    """``asked``: the words of the right prompt; in the wrong one another stands for ``word``. ``used``: by unit."""
    lemmas = {lemma for lemma, _ in used}
    rival = next((lemma for lemma, pos in others if pos == word[1] and lemma not in lemmas), None)
    if rival is None or word not in used:
        return None
    return _after_prompts(
        story,
        Instruction(("words",), words=tuple(lemma for lemma, _ in asked)),
        Instruction(("words",), words=tuple(rival if one == word else one[0] for one in asked)),
        find_units(story.text)[used.index(word)],
        encode,
        n_ctx,
    )


def _after_prompts(
    story: Story, right: Instruction, wrong: Instruction, read: tuple[int, int], encode: Encode, n_ctx: int
) -> Pair | None:
    """``read``: characters of the story that are read after both prompts; a blank before them is read with them."""
    start, end = read
    told, told_wrong = (encode(write_text(asked, story.text[:end])) for asked in (right, wrong))
    begun = len(encode(write_text(right, story.text[:start].rstrip(" "))))
    return after_two_beginnings(story.digest, told, told_wrong, len(told) - begun, n_ctx)


def _words(story: Story) -> list[Word]:
    """The word that each unit is a form of."""
    labels = labels_of(story)
    return list(zip(labels.lemma, labels.pos, strict=True))
