"""An exact index of the runs of words of a corpus, read from disk as it is needed.

Arrays, all memory-mapped (``build_index`` writes them):

- ``words`` [position]: ids of the words of all stories end to end, 0 before each story and after the last.
- ``starts`` [story + 1]: position of each story's first word; the last is one past the end.
- ``sorted`` [rank]: the positions of all words, sorted by the five words that begin there, then by position.
  Positions that begin with the same k-gram, k up to 5, are neighbours: two binary searches give its count.
- ``firsts`` [word + 1]: where in ``sorted`` the positions of a word begin.
- ``pairs`` [pair], ``pair_starts`` [pair + 1], ``holders``: each different pair of words (first id * 2**32 +
  second) and the numbers of the stories that hold it, ascending.
- ``n_pairs`` [story]: how many different pairs a story has.

**Nearest story**: the lists of stories of all pairs of the text, counted; no candidate is skipped. **Longest verbatim
span**: a span of L > 5 words is verified in full at the places of its rarest 5-gram, and L only grows. Both are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from jaxtyping import Int, Int64

from tslens.corpus.diversity.grams import DEPTH, find_surfaces, normal_form
from tslens.corpus.words import find_words
from tslens.errors import DataError, UsageError
from tslens.files import locked, read_json
from tslens.reading import BROKEN, read_numbers
from tslens.types import Story

SCHEMA = "tslens.story_index/1"
MARK = "index.json"
PLACEHOLDER = "<name>"
"""What masked names read as; no text has it as a word."""
ARRAYS = {
    "words": "<u4",
    "starts": "<i8",
    "sorted": "<u4",
    "firsts": "<i8",
    "pairs": "<u8",
    "pair_starts": "<i8",
    "holders": "<u4",
    "n_pairs": "<u4",
}

Measure = Literal["precision", "f"]
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Nearest:
    """The story that shares most pairs of words with a text. ``n_shared``: how many; ``score``: 0 to 1."""

    story: int
    score: float
    n_shared: int


@dataclass(frozen=True)
class Span:
    """The longest run of words that a text shares with a story, ``text[start:end]``; the first of equally long ones.

    ``story``: the first story where it stands, None where not even one word does (``n_words`` 0).
    """

    n_words: int
    start: int
    end: int
    story: int | None


class StoryIndex:
    """The index in a folder, opened. ``n_stories``, ``n_words``; ``source``, ``source_sha256``: what it was made from.

    ``names``: words that are masked, in the stories and in every text that is asked about; empty in a plain index.
    Raises DataError where the folder holds no index, one of another version, or one with broken files.
    """

    def __init__(self, folder: Path) -> None:
        if not is_complete(folder):
            raise DataError(
                f"{folder} holds no story index.", "tslens data diversity SOURCE makes one where it needs it."
            )
        facts = read_json(folder / MARK)
        found = facts.get("schema") if isinstance(facts, dict) else None
        if found != SCHEMA:
            raise DataError(f'{folder} has schema "{found}", not "{SCHEMA}".', "Remove it; it is made anew.")
        self.folder = folder
        self.facts: dict[str, Any] = facts
        try:
            self.source, self.source_sha256 = str(facts["source"]), str(facts["source_sha256"])
            self._arrays = {name: _open(folder, name, int(facts["sizes"][name])) for name in ARRAYS}
            vocabulary = read_json(folder / "vocabulary.json")
            words, self.names = vocabulary["words"], frozenset(vocabulary["names"])
            if len(words) != facts["sizes"]["firsts"] - 1:
                raise ValueError("the vocabulary has another size")
            _check_words(words, self.names)
        except (OSError, DataError, *BROKEN) as error:
            raise DataError(
                f"The story index {folder} is broken: {error}.", "Remove it; it is made anew."
            ) from error
        self._words, self._sorted = self._arrays["words"], self._arrays["sorted"]
        self.starts: Int64[np.ndarray, " story_plus_1"] = self._arrays["starts"]
        self._ids = {word: number for number, word in enumerate(words)}
        self.n_stories = len(self.starts) - 1
        self.n_words = int(self.starts[-1]) - 1 - self.n_stories

    @classmethod
    def build(
        cls,
        stories: Iterable[Story],
        folder: Path,
        *,
        source: str,
        source_sha256: str,
        names: Iterable[str] = (),
        progress: Progress = lambda doing, done: None,
    ) -> Self:
        """Index stories into a folder, whole or not at all, holding the folder meanwhile; what it held is replaced.

        ``names``: words in normal form to mask. ``progress`` gets what is done, and how much of it: stories while
        they are read (the number), then the share of the sorting.
        Raises RunError where another process holds the folder or it cannot be written, DataError for no story or
        more than 4.2 billion words.
        """
        from tslens.corpus.diversity.build_index import write_index

        with locked(folder):
            write_index(stories, folder, source, source_sha256, names, progress)
        return cls(folder)

    # Questions about a text ------------------------------------------------------------------------------

    def nearest(
        self, text: str, *, measure: Measure, before: int | None = None, leave_out: int | None = None
    ) -> Nearest | None:
        """The nearest of all stories; of equally near ones that with the smallest number.

        ``measure``: "precision", the share of the text's different word pairs that the story has (R_2p); "f", the
        harmonic mean of that and its converse (R_2). ``before``: only stories numbered below. ``leave_out``: not
        that one. None where the text has fewer than two words or no story is left to compare with.
        """
        last = self.n_stories if before is None else min(before, self.n_stories)
        ids = np.array(self._ids_of(text), dtype=np.int64)
        pairs = np.unique(_pair_keys(ids))
        if not len(pairs) or last <= 0 or (last == 1 and leave_out == 0):
            return None
        shared = np.bincount(self._holders(pairs), minlength=self.n_stories)[:last]
        if measure == "precision":
            score = shared / len(pairs)
        else:
            score = 2 * shared / (len(pairs) + self._arrays["n_pairs"][:last].astype(np.int64))
        if leave_out is not None and leave_out < last:
            score[leave_out] = -1
        best = int(score.argmax())
        return Nearest(best, float(score[best]), int(shared[best]))

    def counts(self, text: str, k: int) -> Int64[np.ndarray, " gram"]:
        """How often each different k-gram of the text occurs in the corpus, in order of first occurrence; k up to 5."""
        if not 1 <= k <= DEPTH:
            raise UsageError(f"There are no counts of {k}-grams.", f"Ask for k from 1 to {DEPTH}.")
        return self.gram_counts(text)[k - 1]

    def gram_counts(self, text: str) -> list[Int64[np.ndarray, " gram"]]:
        """:meth:`counts` for k = 1 to 5, in the time of one."""
        ids = self._ids_of(text)
        counts = []
        for k, (low, high) in enumerate(self._ranges(np.array(ids, dtype=np.int64)), start=1):
            first = {tuple(ids[i : i + k]): i for i in range(len(ids) - k, -1, -1)}
            counts.append((high - low)[sorted(first.values())])
        return counts

    def story_beginning_with(self, text: str) -> int | None:
        """The first story that begins with the words of a text, None where none does or the text has no word."""
        ids = np.array(self._ids_of(text), dtype=np.int64)
        if not len(ids):
            return None
        k = min(len(ids), DEPTH)
        low, high = self._ranges(ids[:k])[k - 1]
        at = np.sort(self._sorted[low[0] : high[0]].astype(np.int64))
        at = at[self._words[at - 1] == 0]
        for step in range(k, len(ids)):
            at = at[self._words[at + step] == ids[step]]
        return int(np.searchsorted(self.starts, at[0], side="right")) - 1 if len(at) else None

    def n_grams(self, k: int) -> int:
        """How many runs of ``k`` words the corpus has, repetitions counted."""
        return int(np.maximum(np.diff(self.starts) - k, 0).sum())

    def longest_span(self, text: str, *, leave_out: int | None = None) -> Span:
        """The longest run of words of the text that stands verbatim in a story, of any length.

        Verbatim: the same words in normal form; punctuation and capitals may differ. ``leave_out``: a story that does
        not count.
        """
        from tslens.corpus.diversity.verbatim import longest_run

        ids = np.array(self._ids_of(text), dtype=np.int64)
        hidden = (
            (0, 0) if leave_out is None else (int(self.starts[leave_out]), int(self.starts[leave_out + 1]))
        )
        n_words, first, place = longest_run(ids, self._ranges(ids), self._words, self._sorted, hidden)
        if not n_words:
            return Span(0, 0, 0, None)
        spans = find_words(text)
        story = int(np.searchsorted(self.starts, place, side="right")) - 1
        return Span(n_words, spans[first][0], spans[first + n_words - 1][1], story)

    # Inside --------------------------------------------------------------------------------------------------

    def _ids_of(self, text: str) -> list[int]:
        """Ids of a text's words; words that the corpus has not get ids of their own, above all others."""
        new: dict[str, int] = {}
        size = len(self._ids)
        found = []
        for word in map(normal_form, find_surfaces(text)):
            word = PLACEHOLDER if word in self.names else word
            number = self._ids.get(word)
            found.append(new.setdefault(word, size + len(new)) if number is None else number)
        return found

    def _holders(self, pairs: Int[np.ndarray, " pair"]) -> Int[np.ndarray, " holder"]:
        """Numbers of the stories that hold each of some pairs, end to end."""
        known, starts = self._arrays["pairs"], self._arrays["pair_starts"]
        place = np.searchsorted(known, pairs.astype(np.uint64))
        place = np.minimum(place, max(len(known) - 1, 0))
        place = place[known[place] == pairs.astype(np.uint64)] if len(known) else place[:0]
        lists = [self._arrays["holders"][starts[p] : starts[p + 1]] for p in place]
        return np.concatenate(lists) if lists else np.zeros(0, dtype=np.uint32)

    def _ranges(self, ids: Int64[np.ndarray, " word"]) -> list[tuple[np.ndarray, np.ndarray]]:
        """For k = 1 to 5 and each word, the ranks [low, high) of the positions with the k-gram that begins there.

        Empty where the corpus has it not, and where fewer than k words are left.
        """
        known = ids < len(self._ids)
        word = np.where(known, ids, 0)
        low = np.where(known, self._arrays["firsts"][word], 0)
        high = np.where(known, self._arrays["firsts"][word + 1], 0)
        ranges = [(low, high)]
        for offset in range(1, DEPTH):
            wanted = np.concatenate([ids[offset:], np.full(min(offset, len(ids)), -1)])
            low, high = (
                self._bound(low, high, offset, wanted, after=False),
                self._bound(low, high, offset, wanted, after=True),
            )
            ranges.append((low, high))
        return ranges

    def _bound(
        self, low: np.ndarray, high: np.ndarray, offset: int, wanted: np.ndarray, *, after: bool
    ) -> Int64[np.ndarray, " word"]:
        """First rank in [low, high) whose word at ``offset`` is not below (``after``: is above) the wanted one."""
        low, high = low.copy(), high.copy()
        open_ = np.flatnonzero(low < high)
        while len(open_):
            middle = (low[open_] + high[open_]) // 2
            there = self._words[self._sorted[middle].astype(np.int64) + offset]
            below = there <= wanted[open_] if after else there < wanted[open_]
            low[open_[below]] = middle[below] + 1
            high[open_[~below]] = middle[~below]
            open_ = open_[low[open_] < high[open_]]
        return low


def is_complete(folder: Path) -> bool:
    """Whether a folder has the mark of a whole index."""
    return (folder / MARK).is_file()


def _check_words(words: Any, names: Any) -> None:
    if not isinstance(words, list) or not all(isinstance(word, str) for word in (*words, *names)):
        raise ValueError("its vocabulary is no list of words")


def _open(folder: Path, name: str, size: int) -> np.ndarray:
    array = read_numbers(folder / f"{name}.npy", "iu", mapped=True)
    if array.shape != (size,) or array.dtype != ARRAYS[name]:
        raise ValueError(f"{name}.npy is not what {MARK} says")
    return array.view(np.ndarray)


def _pair_keys(ids: Int64[np.ndarray, " word"] | Sequence[int]) -> Int64[np.ndarray, " pair"]:
    values = np.asarray(ids, dtype=np.int64)
    return (values[:-1] << 32) | values[1:]
