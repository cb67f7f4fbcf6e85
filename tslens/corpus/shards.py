"""A corpus on disk: tokenizer, memory-mapped token shards, a validation side. Its text need not fit in memory.

A folder holds ``tokenizer.json``; for either split ``NAME-00000.npy ...`` (uint16, stories end to end, none cut
in two), ``NAME.lengths.npy``, ``NAME.digests.npy``, ``NAME.bytes.npy`` (one number a story); and, last,
``corpus.json``, the mark of completion.

1. Read all stories once: note their hashes, learn the tokenizer from the training side.
2. Read them again: leave out duplicates, encode, write. Only the hashes stay in memory, 8 bytes a story, and as
   much again while they are sorted to find the duplicates.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Bool, UInt16, UInt64

import tslens
from tslens.corpus.array_file import array_file
from tslens.corpus.sources import Sources, describe_sources, listed, read_sources
from tslens.corpus.stories import VALIDATION_ONE_IN, is_validation
from tslens.corpus.tokenizer import StoryTokenizer
from tslens.errors import DataError, UsageError
from tslens.files import locked, read_json, write_json
from tslens.reading import read_numbers
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
    All are mapped from disk; in memory are 8 bytes a story, where it ends.
    Raises DataError if a file is absent or cut off.
    """

    def __init__(self, folder: Path, name: str) -> None:
        try:
            self.lengths = read_numbers(folder / f"{name}.lengths.npy", "i", mapped=True)
            self.digests = read_numbers(folder / f"{name}.digests.npy", "u", mapped=True)
            self.n_bytes = int(read_numbers(folder / f"{name}.bytes.npy", "i", mapped=True).sum())
            shards = sorted(folder.glob(f"{name}-*.npy"))
            self._shards = [read_numbers(path, "u", mapped=True) for path in shards]
            if len(self.lengths) and self.lengths.min() < 1:
                raise ValueError("a story has no target")
        except (OSError, ValueError) as error:
            raise _broken(folder, f"its {name} files cannot be read ({error})") from error
        self._targets_to = np.cumsum(self.lengths, dtype=np.int64)  # of this story and all before it
        self.n_tokens = int(self._targets_to[-1:].sum())
        self._shard_starts = np.cumsum([0, *(len(shard) for shard in self._shards)])
        if self._shard_starts[-1] != self.n_tokens + len(self.lengths) or len(self.digests) != len(
            self.lengths
        ):
            raise _broken(folder, f"its {name} shards do not hold what its lengths say")

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> UInt16[np.ndarray, " length"]:
        index, length = range(len(self))[index], int(self.lengths[index])
        start = int(self._targets_to[index]) - length + index  # a story has one token more than targets
        shard = int(np.searchsorted(self._shard_starts, start, side="right")) - 1
        start -= int(self._shard_starts[shard])
        return self._shards[shard][start : start + length + 1]

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
        absent = [name for name in ("source", "source_sha256", "tokenizer_sha256") if name not in facts]
        if absent:
            raise _broken(folder, f"its corpus.json does not say {absent[0]}")
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
    found = np.frombuffer(digests, dtype=np.uint64)
    n_different, is_first = find_different(found)
    held_out = found % VALIDATION_ONE_IN == 0
    if not held_out.any():
        held_out = found == found.min()
        if tokenizer is None:
            learning = _training_side(sources, array("Q"), int(found.min()), progress)
            learned = StoryTokenizer.train(learning, vocab_size=vocab_size)
    if held_out.all():
        raise DataError(
            f"{name} holds {n_different} different stories, too few for a training and a validation side.",
            "Give at least 20.",
        )
    _remove(folder)
    try:
        learned.save(folder / "tokenizer.json")
        n_read = n_cut = 0
        with _Writer(folder, SIDES[0]) as train, _Writer(folder, SIDES[1]) as validation:
            for group in _groups(read_sources(sources)):
                place = slice(n_read, n_read + len(group))
                n_read += len(group)
                if [story.digest for story in group] != found[place].tolist():
                    raise _changed(name)
                kept = is_first(place)
                ids = learned.encode_batch(
                    [story.text for story, keep in zip(group, kept, strict=True) if keep]
                )
                sides, marks = held_out[place][kept], found[place][kept]
                for tokens, side, digest in zip(ids, sides, marks, strict=True):
                    whole = learned.story_of_ids(tokens, context=context)
                    n_cut += len(whole) != len(tokens) + 2
                    writer = validation if side else train
                    writer.add(whole, int(digest), int(learned.n_bytes[whole].sum()))
                progress(n_read)
            if n_read != len(found):
                raise _changed(name)
        facts = {
            "schema": SCHEMA,
            "source": name,
            "source_sha256": sha256,
            "vocab_size": learned.vocab_size,
            "tokenizer_sha256": learned.sha256,
            "context": context,
            "n_cut": n_cut,
            "n_duplicates": len(found) - n_different,
            "splits": {side: writer.counts for side, writer in zip(SIDES, (train, validation), strict=True)},
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
        group.append(Story(story.text))  # its labels would take a hundred times the memory of its text
        n_characters += len(story.text)
        if n_characters >= GROUP_CHARACTERS:
            yield group
            group, n_characters = [], 0
    if group:
        yield group


def find_different(
    digests: UInt64[np.ndarray, " story"],
) -> tuple[int, Callable[[slice], Bool[np.ndarray, " place"]]]:
    """How many texts are different, and which of the next stories are the first of their text.

    The function is asked of stretches of stories, each once and in order.
    """
    ordered = np.sort(digests)
    again = ordered[1:][ordered[1:] == ordered[:-1]]  # one less of each text than there are
    twice = np.unique(again)
    was_read = np.zeros(len(twice), dtype=bool)

    def is_first(place: slice) -> Bool[np.ndarray, " place"]:
        first = np.ones(len(digests[place]), dtype=bool)
        if not len(twice):
            return first
        which = np.minimum(np.searchsorted(twice, digests[place]), len(twice) - 1)
        for story in np.flatnonzero(twice[which] == digests[place]):
            first[story] = not was_read[which[story]]
            was_read[which[story]] = True
        return first

    return len(digests) - len(again), is_first


class _Writer:
    """One side while it is written; its files appear when the block ends, or each shard when it is full.

    ``counts``: stories, tokens and bytes so far.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name, self._n_shards = folder, name, 0
        self.counts = {"stories": 0, "tokens": 0, "bytes": 0}
        self._columns, self._shard = ExitStack(), ExitStack()

    def __enter__(self) -> Self:
        columns: dict[str, type[np.generic]] = {"lengths": np.int32, "digests": np.uint64, "bytes": np.int32}
        with ExitStack() as opening:
            self._lengths, self._digests, self._n_bytes = (
                opening.enter_context(array_file(self._folder / f"{self._name}.{column}.npy", dtype))
                for column, dtype in columns.items()
            )
            self._open_shard()
            self._columns = opening.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._columns.push(self._shard.__exit__)
        self._columns.__exit__(*error)

    def _open_shard(self) -> None:
        path = self._folder / f"{self._name}-{self._n_shards:05d}.npy"
        self._tokens = self._shard.enter_context(array_file(path, np.uint16))
        self._n_shards += 1

    def add(self, story: UInt16[np.ndarray, " length"], digest: int, n_bytes: int) -> None:
        """Add a story."""
        if self._tokens.n + len(story) > SHARD_TOKENS:
            self._shard.close()
            self._open_shard()
        self._tokens.add(story)
        self._lengths.add([len(story) - 1])
        self._digests.add([digest])
        self._n_bytes.add([n_bytes])
        self.counts["stories"] += 1
        self.counts["tokens"] += len(story) - 1
        self.counts["bytes"] += n_bytes


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
