"""A corpus on disk: tokenizer, memory-mapped token shards, a validation side. Its text need not fit in memory.

A folder holds ``tokenizer.json``; for either split ``NAME-00000.npy ...`` (uint16, stories end to end, none cut
in two), ``NAME.lengths.npy``, ``NAME.digests.npy``, ``NAME.bytes.npy`` (one number a story); and, last,
``corpus.json``, the mark of completion.

1. Read all stories once: note their hashes, learn the tokenizer from the training side.
2. Read them again: leave out duplicates, encode, write. Only a few numbers a story stay in memory.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt16

import tslens
from tslens.corpus.sources import Sources, describe_sources, listed, read_sources
from tslens.corpus.stories import VALIDATION_ONE_IN, is_validation
from tslens.corpus.tokenizer import StoryTokenizer
from tslens.errors import DataError, UsageError
from tslens.files import atomic_write, locked, read_json, write_json
from tslens.types import Story

SCHEMA = "tslens.corpus/1"
SHARD_TOKENS = 2**25
GROUP_CHARACTERS = 1_000_000  # of the stories encoded together
TOKENIZER_CHARACTERS = 100_000_000  # of the training side, that the merges are learned from
SIDES = ("train", "validation")

Progress = Callable[[int], None]


class Split:
    """Stories of one side, in order: ``split[i]`` is ``[end, t1 ... tn, end]``, read from disk when asked for.

    ``lengths``: model positions of each story, one fewer than its tokens. ``digests``: 64-bit hashes of the texts.
    ``n_tokens``: targets in all. ``n_bytes``: UTF-8 bytes of all targets.
    Raises DataError if a file is absent or cut off.
    """

    def __init__(self, folder: Path, name: str) -> None:
        try:
            self.lengths: np.ndarray = np.load(folder / f"{name}.lengths.npy")
            self.digests: np.ndarray = np.load(folder / f"{name}.digests.npy")
            self.n_bytes = int(np.load(folder / f"{name}.bytes.npy").sum())
            paths = sorted(folder.glob(f"{name}-*.npy"))
            self._shards = [np.load(path, mmap_mode="r").view(np.ndarray) for path in paths]
        except (OSError, ValueError, EOFError) as error:
            raise _broken(folder, f"its {name} files cannot be read") from error
        self.n_tokens = int(self.lengths.sum())
        sizes = self.lengths.astype(np.int64) + 1
        ends = np.cumsum([len(shard) for shard in self._shards])
        starts = np.cumsum(sizes) - sizes
        if ends[-1:].sum() != sizes.sum() or len(self.digests) != len(sizes):
            raise _broken(folder, f"its {name} shards do not hold what its lengths say")
        self._shard_of = np.searchsorted(ends, starts, side="right")
        self._start_of = starts - np.concatenate([[0], ends])[self._shard_of]

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> UInt16[np.ndarray, " length"]:
        start = self._start_of[index]
        return self._shards[self._shard_of[index]][start : start + int(self.lengths[index]) + 1]

    def __iter__(self) -> Iterator[UInt16[np.ndarray, " length"]]:
        return (self[index] for index in range(len(self)))


class Corpus:
    """An imported corpus. ``source``, ``source_sha256``: what it was made from. ``facts``: its ``corpus.json``.

    Raises DataError if the folder holds none, one of another version, or one with broken files.
    """

    def __init__(self, folder: Path) -> None:
        if not _is_complete(folder):
            raise DataError(
                f"{folder} holds no imported corpus.",
                f"Make one with: tslens data import SOURCE --out {folder}",
            )
        facts = read_json(folder / "corpus.json")
        found = facts.get("schema") if isinstance(facts, dict) else None
        if found != SCHEMA:
            raise DataError(
                f'{folder} has schema "{found}", not "{SCHEMA}".',
                "Import the stories again, into a new folder.",
            )
        self.folder = folder
        self.facts: dict[str, Any] = facts
        self.source, self.source_sha256 = str(facts["source"]), str(facts["source_sha256"])
        self.tokenizer = StoryTokenizer.load(folder / "tokenizer.json")
        if self.tokenizer.sha256 != facts["tokenizer_sha256"]:
            raise _broken(folder, "its tokenizer is not the one that its tokens were made with")
        self.train, self.validation = Split(folder, "train"), Split(folder, "validation")


def corpus_for(
    source: Sources,
    cache: Path,
    *,
    vocab_size: int = 4096,
    context: int = 512,
    wait: bool = False,
    progress: Progress = lambda n_stories: None,
) -> Corpus:
    """An imported folder as it is, or sources imported into ``cache`` unless they have been before.

    ``wait``: for another process that is importing the same. Raises UsageError for an imported folder among several
    sources, RunError if another process is importing the same and there is no waiting, and what
    :func:`import_corpus` raises.
    """
    sources = listed(source)
    imported = [Path(one) for one in sources if _is_complete(Path(one))]
    if imported and len(sources) > 1:
        raise UsageError(
            f"{imported[0]} is imported already, with a tokenizer of its own.",
            "Give it alone, or give the stories that it was made from.",
        )
    if imported:
        return Corpus(imported[0])
    name, sha256 = describe_sources(sources)
    key = hashlib.sha256(f"{sha256} {vocab_size} {context} {tslens.__version__}".encode()).hexdigest()
    folder = cache / f"{name.replace(':', '-').split('.')[0]}-{vocab_size}-{key[:12]}"
    if _is_complete(folder):
        return Corpus(folder)
    with locked(folder, wait=wait):
        if _is_complete(folder):
            return Corpus(folder)
        return import_corpus(source, folder, vocab_size=vocab_size, context=context, progress=progress)


def import_corpus(
    source: Sources,
    folder: Path,
    *,
    vocab_size: int = 4096,
    tokenizer: StoryTokenizer | None = None,
    context: int = 512,
    progress: Progress = lambda n_stories: None,
) -> Corpus:
    """Learn a tokenizer from the training side of the sources, or take the given one; write both sides as shards.

    Exact duplicates of a text are dropped and counted. If the hash holds out no story, the one with the smallest
    hash is held out. A corpus that the folder holds, or the rest of an import that died, is replaced; nothing is
    left of an import that fails. The caller holds the folder (:func:`tslens.files.locked`).

    ``progress`` gets the number of stories read, twice from the start: for the tokenizer, then for the tokens.
    Raises DataError if the stories cannot be read or leave one side empty; UsageError for an impossible
    vocabulary or context; RunError if the folder cannot be written.
    """
    sources = listed(source)
    name, sha256 = describe_sources(sources)
    digests = array("Q")
    stories = _training_side(sources, digests, None, progress)
    learned = tokenizer or StoryTokenizer.train(stories, vocab_size=vocab_size)
    for _ in stories:  # to the end, where the tokenizer is given
        pass
    found = np.array(digests, dtype=np.uint64)
    different, first = np.unique(found, return_index=True)
    held_out = found % VALIDATION_ONE_IN == 0
    if not held_out.any():
        held_out = found == different[0]
        if tokenizer is None:
            learning = _training_side(sources, array("Q"), int(different[0]), progress)
            learned = StoryTokenizer.train(learning, vocab_size=vocab_size)
    if held_out.all():
        raise DataError(
            f"{name} holds {len(different)} different stories, too few for a training and a validation side.",
            "Give at least 20.",
        )
    kept = np.zeros(len(found), dtype=bool)
    kept[first] = True
    _remove(folder)
    try:
        learned.save(folder / "tokenizer.json")
        writers = [_Writer(folder, side) for side in SIDES]
        n_read = n_cut = 0
        for group in _groups(read_sources(sources)):
            place = slice(n_read, n_read + len(group))
            n_read += len(group)
            if [story.digest for story in group] != found[place].tolist():
                raise _changed(name)
            ids = learned.encode_batch(
                [story.text for story, keep in zip(group, kept[place], strict=True) if keep]
            )
            sides, marks = held_out[place][kept[place]], found[place][kept[place]]
            for tokens, side, digest in zip(ids, sides, marks, strict=True):
                whole = learned.story_of_ids(tokens, context=context)
                n_cut += len(whole) != len(tokens) + 2
                writers[int(side)].add(whole, int(digest), int(learned.n_bytes[whole].sum()))
            progress(n_read)
        if n_read != len(found):
            raise _changed(name)
        counts = {side: writer.close() for side, writer in zip(SIDES, writers, strict=True)}
        facts = {
            "schema": SCHEMA,
            "source": name,
            "source_sha256": sha256,
            "vocab_size": learned.vocab_size,
            "tokenizer_sha256": learned.sha256,
            "context": context,
            "n_cut": n_cut,
            "n_duplicates": len(found) - len(different),
            "splits": counts,
        }
        write_json(folder / "corpus.json", facts)
    except BaseException:
        _remove(folder)
        raise
    return Corpus(folder)


def _training_side(
    sources: list[str | Path], digests: array[int], lone: int | None, progress: Progress
) -> Iterator[Story]:
    """Stories to learn the tokenizer from. Goes through all sources and notes the hash of every story.

    ``lone``: hash of the story that is held out instead of the usual ones.
    """
    n_characters = 0
    for story in read_sources(sources):
        digests.append(story.digest)
        held_out = is_validation(story) if lone is None else story.digest == lone
        if not held_out and n_characters < TOKENIZER_CHARACTERS:
            n_characters += len(story.text)
            yield story
        if len(digests) % 1000 == 0:
            progress(len(digests))


def _groups(stories: Iterator[Story]) -> Iterator[list[Story]]:
    group: list[Story] = []
    n_characters = 0
    for story in stories:
        group.append(story)
        n_characters += len(story.text)
        if n_characters >= GROUP_CHARACTERS:
            yield group
            group, n_characters = [], 0
    if group:
        yield group


class _Writer:
    """One side while it is written: the tokens of the open shard, and three numbers a story."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name, self.n_shards = folder, name, 0
        self.tokens = np.empty(SHARD_TOKENS, dtype=np.uint16)  # memory that is not touched is not taken
        self.n_waiting = 0
        self.lengths, self.digests, self.n_bytes = array("i"), array("Q"), array("i")

    def add(self, story: np.ndarray, digest: int, n_bytes: int) -> None:
        """Add a story."""
        if self.n_waiting + len(story) > SHARD_TOKENS:
            self._flush()
        self.tokens[self.n_waiting : self.n_waiting + len(story)] = story
        self.n_waiting += len(story)
        self.lengths.append(len(story) - 1)
        self.digests.append(digest)
        self.n_bytes.append(n_bytes)

    def _flush(self) -> None:
        self._save(f"{self.name}-{self.n_shards:05d}.npy", self.tokens[: self.n_waiting])
        self.n_shards += 1
        self.n_waiting = 0

    def _save(self, name: str, values: np.ndarray) -> None:
        with atomic_write(self.folder / name, "wb") as file:
            np.save(file, values)

    def close(self) -> dict[str, int]:
        """Write what is left; counts of stories, tokens and bytes."""
        self._flush()
        self._save(f"{self.name}.lengths.npy", np.array(self.lengths, dtype=np.int32))
        self._save(f"{self.name}.digests.npy", np.array(self.digests, dtype=np.uint64))
        self._save(f"{self.name}.bytes.npy", np.array(self.n_bytes, dtype=np.int32))
        return {"stories": len(self.lengths), "tokens": sum(self.lengths), "bytes": sum(self.n_bytes)}


def _is_complete(folder: Path) -> bool:
    return (folder / "corpus.json").is_file()


def _remove(folder: Path) -> None:
    """Remove the files of a corpus, the mark of completion first, and nothing else."""
    for pattern in ("corpus.json", "tokenizer.json", *(f"{side}[-.]*.npy" for side in SIDES)):
        for path in folder.glob(pattern):
            path.unlink()


def _broken(folder: Path, what: str) -> DataError:
    return DataError(f"The corpus {folder} is broken: {what}.", "Import the stories again.")


def _changed(name: str) -> DataError:
    return DataError(f"{name} changed while it was read.", "Import it again when it is whole.")
