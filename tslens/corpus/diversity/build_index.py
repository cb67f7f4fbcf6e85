"""Make a story index: one pass over the stories, then sorting in blocks, so that memory stays bounded.

1. Read the stories once; words become ids in order of first occurrence and go to disk.
2. Cut the vocabulary into blocks of neighbouring ids with up to ``BLOCK_WORDS`` occurrences. For each block find the
   positions of its words, sort them by the first two words (which lists the stories of every pair), then by all five,
   and append.

Memory: about 80 bytes for each position of the largest block, a block being at least one word; 12 to 20 bytes a
story; the vocabulary.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from jaxtyping import Int64, UInt32

import tslens
from tslens.corpus.diversity.grams import DEPTH, find_surfaces, normal_form
from tslens.corpus.diversity.story_index import (
    ARRAYS,
    MARK,
    PLACEHOLDER,
    SCHEMA,
    Progress,
    StoryIndex,
    is_complete,
)
from tslens.corpus.stories import describe_source, read_stories
from tslens.errors import DataError
from tslens.files import atomic_write, locked, write_json
from tslens.types import Story

BLOCK_WORDS = 2**22
MOST_WORDS = 2**32 - 1  # positions are 32 bits wide
TOLD_EVERY = 500  # stories
KEY_BITS = 63


def index_for(
    source: str | Path,
    cache: Path,
    *,
    names: Callable[[], Iterable[str]] | None = None,
    progress: Progress = lambda doing, done: None,
) -> StoryIndex:
    """The index of a source, made in ``cache`` unless it is there; named by the hash of the source.

    ``names``: finds the words to mask, asked only where an index is made; None: nothing is masked.
    Raises RunError if another process is making the same index, and what :func:`read_stories` raises.
    """
    name, sha256 = describe_source(source)
    kind = "masked" if names else "plain"
    key = hashlib.sha256(f"{sha256} {kind} {SCHEMA} {tslens.__version__}".encode()).hexdigest()
    folder = cache / f"{name.replace(':', '-').replace('/', '-').split('.')[0]}-{kind}-{key[:12]}"
    if not is_complete(folder):
        with locked(folder):
            if not is_complete(folder):
                stories = read_stories(source, text_only=True)
                write_index(stories, folder, name, sha256, names() if names else (), progress)
    return StoryIndex(folder)


def write_index(
    stories: Iterable[Story],
    folder: Path,
    source: str,
    source_sha256: str,
    names: Iterable[str],
    progress: Progress,
) -> None:
    """Write all files of an index, the mark of completion last; see :meth:`StoryIndex.build`.

    The caller holds the folder. Nothing is left of an index that fails.
    """
    masked = sorted(set(names))
    remove_index(folder)
    try:
        vocabulary, starts = _write_words(stories, folder, frozenset(masked), progress)
        if len(starts) < 2:
            raise DataError(f"There is no story in {source}.", "Give at least one story.")
        write_json(folder / "vocabulary.json", {"words": vocabulary, "names": masked})
        words = np.load(folder / "words.npy", mmap_mode="r").view(np.ndarray)
        sizes = {"words": len(words), "starts": len(starts), "n_pairs": len(starts) - 1}
        _save(folder, "starts", starts)
        sizes |= _sort(folder, words, starts, len(vocabulary), progress)
        facts = {"schema": SCHEMA, "source": source, "source_sha256": source_sha256, "sizes": sizes}
        write_json(folder / MARK, facts)
    except BaseException:
        remove_index(folder)
        raise


def remove_index(folder: Path) -> None:
    """Remove the files of an index, the mark of completion first, and nothing else."""
    for name in (MARK, "vocabulary.json", *(f"{array_name}.npy" for array_name in ARRAYS)):
        (folder / name).unlink(missing_ok=True)


# Reading ---------------------------------------------------------------------------------------------------


class _Ids(dict[str, int]):
    """Ids by word as it stands in a text; words of one normal form share an id, names share the placeholder's."""

    def __init__(self, names: frozenset[str]) -> None:
        super().__init__()
        self.names = names
        self.normal: dict[str, int] = {"": 0}  # 0 stands between stories

    def __missing__(self, surface: str) -> int:
        word = normal_form(surface)
        number = self.normal.setdefault(PLACEHOLDER if word in self.names else word, len(self.normal))
        self[surface] = number
        return number


def _write_words(
    stories: Iterable[Story], folder: Path, names: frozenset[str], progress: Progress
) -> tuple[list[str], Int64[np.ndarray, " story_plus_1"]]:
    """Write the ids of all words; the vocabulary and where each story begins."""
    ids = _Ids(names)
    number_of = ids.__getitem__
    starts = array("q", [1])
    with _growing(folder, "words") as words:
        words.append(np.zeros(1, dtype=np.uint32))
        for n_stories, story in enumerate(stories, start=1):
            row = np.array([*map(number_of, find_surfaces(story.text)), 0], dtype=np.uint32)
            words.append(row)
            starts.append(starts[-1] + len(row))
            if starts[-1] > MOST_WORDS:
                raise DataError(f"The stories have over {MOST_WORDS:,} words.", "Split them.")
            if n_stories % TOLD_EVERY == 0:
                progress("reading", n_stories)
    return list(ids.normal), np.array(starts, dtype=np.int64)


# Sorting -----------------------------------------------------------------------------------------------------


def _sort(
    folder: Path,
    words: UInt32[np.ndarray, " position"],
    starts: Int64[np.ndarray, " story_plus_1"],
    n_vocabulary: int,
    progress: Progress,
) -> dict[str, int]:
    """Write the sorted positions and the stories of each pair; sizes of the arrays."""
    counts = _count(words, n_vocabulary)
    counts[0] = 0
    firsts = np.concatenate([[0], np.cumsum(counts)])
    _save(folder, "firsts", firsts.astype(np.int64))
    n_pairs = np.zeros(len(starts) - 1, dtype=np.uint32)
    n_holders = 0
    with ExitStack() as stack:
        order, pairs, pair_starts, holders = (
            stack.enter_context(_growing(folder, name))
            for name in ("sorted", "pairs", "pair_starts", "holders")
        )
        for first, last in _blocks(firsts):
            at = _places(words, first, last)
            by_two, keys = _by_two_words(words, at)
            story = np.searchsorted(starts, by_two, side="right") - 1
            new_key = _changes(keys)
            new = (new_key | _changes(story)) & (keys & 0xFFFFFFFF != 0)  # a last word pairs with nothing
            holder, key = story[new], keys[new]
            opens = np.flatnonzero(_changes(key))
            holders.append(holder)
            pairs.append(key[opens])
            pair_starts.append(opens + n_holders)
            n_holders += len(holder)
            n_pairs += np.bincount(holder, minlength=len(n_pairs)).astype(np.uint32)
            order.append(_by_five_words(words, by_two, np.cumsum(new_key)))
            progress("sorting", float(firsts[last] / max(firsts[-1], 1)))
        pair_starts.append(np.array([n_holders]))
        sizes = {"sorted": order.size, "pairs": pairs.size, "pair_starts": pair_starts.size}
    _save(folder, "n_pairs", n_pairs)
    return {**sizes, "holders": n_holders, "firsts": len(firsts)}


def _count(words: UInt32[np.ndarray, " position"], n_vocabulary: int) -> Int64[np.ndarray, " word"]:
    """Occurrences of each id, read piece by piece."""
    counts = np.zeros(n_vocabulary, dtype=np.int64)
    for piece in _pieces(len(words)):
        counts += np.bincount(words[piece], minlength=n_vocabulary)
    return counts


def _pieces(size: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK_WORDS) for start in range(0, size, BLOCK_WORDS))


def _blocks(firsts: Int64[np.ndarray, " word_plus_1"]) -> Iterator[tuple[int, int]]:
    """Ranges of ids, each with up to ``BLOCK_WORDS`` occurrences or of one id."""
    first = 1
    while first < len(firsts) - 1:
        last = int(np.searchsorted(firsts, firsts[first] + BLOCK_WORDS, side="right")) - 1
        last = max(last, first + 1)
        yield first, last
        first = last


def _places(
    words: UInt32[np.ndarray, " position"], first: int, last: int
) -> Int64[np.ndarray, " occurrence"]:
    """Positions of the ids from ``first`` to before ``last``, ascending."""
    found = []
    for piece in _pieces(len(words)):
        part = words[piece]
        found.append(np.flatnonzero((part >= first) & (part < last)) + piece.start)
    return np.concatenate(found)


def _by_two_words(words: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions sorted by the two words that begin there, then by position; the two words of each as one number."""
    keys = (words[at].astype(np.int64) << 32) | words[at + 1]
    order = np.argsort(keys, kind="stable")
    return at[order], keys[order]


def _by_five_words(words: np.ndarray, at: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """Positions sorted by five words, then by position. ``rank``: ascending by the first two, as they stand.

    What follows a story's end does not belong to it; a k-gram with an end in it is never asked for.
    """
    last = len(words) - 1
    key, used = rank.astype(np.int64), _bits(rank)
    for offset in range(2, DEPTH):
        number = words[np.minimum(at + offset, last)].astype(np.int64)
        bits = _bits(number)
        if used + bits > KEY_BITS:  # make room: the order so far as consecutive numbers
            order = np.argsort(key, kind="stable")
            at, number, key = at[order], number[order], np.cumsum(_changes(key[order]))
            used = _bits(key)
        key, used = (key << bits) | number, used + bits
    return at[np.argsort(key, kind="stable")]


def _bits(values: np.ndarray) -> int:
    return int(values.max(initial=0)).bit_length()


def _changes(values: np.ndarray) -> np.ndarray:
    """Where a value differs from the one before it; true at the first."""
    changes = np.ones(len(values), dtype=bool)
    changes[1:] = values[1:] != values[:-1]
    return changes


# Files -------------------------------------------------------------------------------------------------------


class _GrowingArray:
    """A .npy file that is written piece by piece: its header is written again when the size is known."""

    def __init__(self, file: IO[bytes], kind: str) -> None:
        self.file, self.kind, self.size = file, np.dtype(kind), 0
        self.write_header()

    def write_header(self) -> None:
        """Write the header for the size so far; it takes equally many bytes for any size."""
        header = {"descr": self.kind.str, "fortran_order": False, "shape": (self.size,)}
        self.file.seek(0)
        np.lib.format.write_array_header_1_0(self.file, header)

    def append(self, values: np.ndarray) -> None:
        """Add values to the end."""
        self.file.write(np.ascontiguousarray(values, dtype=self.kind).data)
        self.size += len(values)


@contextmanager
def _growing(folder: Path, name: str) -> Iterator[_GrowingArray]:
    with atomic_write(folder / f"{name}.npy", "wb") as file:
        grown = _GrowingArray(file, ARRAYS[name])
        yield grown
        grown.write_header()


def _save(folder: Path, name: str, values: np.ndarray[Any, Any]) -> None:
    with atomic_write(folder / f"{name}.npy", "wb") as file:
        np.save(file, values.astype(ARRAYS[name]))
