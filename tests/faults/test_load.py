"""Memory does not grow with the number of stories, for import, annotation and a scan.

Each runs in a process of its own over one stream of made-up stories. When so many have been read, and again at four
times as many, what is free is given back to the system, and the memory that is left is read. What stays with a story
stays every time; a page that the system or a library keeps for itself does not: the least of three processes counts.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tslens.corpus import shards
from tslens.corpus.annotate import open_parser
from tslens.corpus.array_file import array_file
from tslens.errors import DataError, RunError


@dataclass(frozen=True)
class What:
    """Stories to read, in the sample and in the whole suite: words of each, and whether every word is a new one.

    ``few``: the first mark; the second is at four times as many. ``margin_kb``: how much more memory there may be. The
    annotator keeps the lemmas of up to 20,000 words.
    """

    few: tuple[int, int]
    n_words: int
    are_new: bool
    margin_kb: tuple[int, int]


WHAT = {
    "import": What(few=(300, 2000), n_words=300, are_new=False, margin_kb=(1024, 1024)),  # texts of 3 KB
    "annotate": What(few=(100, 2000), n_words=12, are_new=True, margin_kb=(1024, 6144)),
    "heads": What(few=(300, 2000), n_words=20, are_new=False, margin_kb=(1024, 1024)),
}
SCRIPT = """
import ctypes, gc, sys
from itertools import islice
from pathlib import Path

stage, source, folder, *marks = sys.argv[1:]
marks = [int(mark) for mark in marks]
libc = ctypes.CDLL(None)


def watched(stories):
    for n, story in enumerate(stories, start=1):
        if n in marks:
            gc.collect()
            libc.malloc_trim(0)
            status = dict(row.split(":", 1) for row in Path("/proc/self/status").read_text().splitlines())
            print(n, status["RssAnon"].split()[0])
        yield story


from tslens.corpus.stories import read_stories

if stage == "import":
    from tslens.corpus import shards

    read = shards.read_sources
    shards.read_sources = lambda sources: watched(read(sources))
    shards.GROUP_CHARACTERS = 20_000
    shards.import_corpus(source, Path(folder), vocab_size=400)
elif stage == "annotate":
    from tslens.corpus.annotate import annotate

    for story in annotate(watched(read_stories(source))):
        pass
else:
    from tslens.corpus.tokenizer import StoryTokenizer
    from tslens.model.spec import ModelSpec
    from tslens.model.transformer import TinyTransformer
    from tslens.probes import scan

    scan.CALIBRATION_STORIES = 64
    tokenizer = StoryTokenizer.train(islice(read_stories(source), 50), vocab_size=400)
    spec = ModelSpec.from_name("l1_h16")
    model = TinyTransformer(spec, tokenizer.vocab_size, seed=0, tokenizer=tokenizer).eval()
    probes = ["previous_token", "duplicate_token"]
    for stories in (islice(read_stories(source), 300), watched(read_stories(source))):  # the first fills caches
        scan.score_heads(model, stories, seed=0, probes=probes, n_explain=0)
"""


def write_stories(path: Path, n_stories: int, *, n_words: int, are_new: bool) -> Path:
    """Different stories: of new words every time, or of the same words in another order, thus of equal length."""
    draw = random.Random(0)

    def word() -> str:
        return "".join(draw.choice("bdfghjklmnprstvwz") + draw.choice("aeiou") for _ in range(5))

    words = [word() for _ in range(n_words)]
    with path.open("w") as file:
        for _ in range(n_stories):
            words = [word() for _ in words] if are_new else draw.sample(words, n_words)
            file.write(json.dumps({"text": f"There was {' '.join(words)}. It ended."}) + "\n")
    return path


def memory_kb(stage: str, source: Path, folder: Path, marks: list[int]) -> list[list[int]]:
    """Anonymous memory at the marks, for each time that the stories were read."""
    command = [sys.executable, "-c", SCRIPT, stage, source, folder, *map(str, marks)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        command, cwd=source.parent, env=environment, capture_output=True, text=True, check=True
    )
    rows = [tuple(map(int, row.split())) for row in done.stdout.splitlines()]
    assert [n for n, _ in rows] == marks * (len(rows) // len(marks)) and rows, done.stdout
    return [[kb for _, kb in rows[i : i + len(marks)]] for i in range(0, len(rows), len(marks))]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("stage", WHAT)
def test_memory_does_not_grow_with_the_stories(
    tmp_path: Path, how_many: Callable[[int, int], int], stage: str
) -> None:
    what = WHAT[stage]
    if stage == "annotate":
        try:
            open_parser()
        except DataError:
            pytest.skip("no parser is installed")
    few = how_many(*what.few)
    source = write_stories(tmp_path / "s.jsonl", 4 * few + 50, n_words=what.n_words, are_new=what.are_new)
    margin, grown = how_many(*what.margin_kb), list[int]()
    for attempt in range(3):
        read = memory_kb(stage, source, tmp_path / str(attempt), [few, 4 * few])
        grown.append(max(last - first for first, last in read))
        if grown[-1] < margin:
            break
    assert min(grown) < margin, f"{grown} KB more at {4 * few} stories than at {few}"


def test_a_shard_is_written_as_it_comes(tmp_path: Path) -> None:
    """The file grows while values come, is absent until it is whole, and is the file of ``np.save``."""
    path = tmp_path / "a.npy"
    with array_file(path, np.uint16) as array:
        sizes = []
        for _ in range(3):
            array.add(np.arange(50_000))
            sizes.append(sum(file.stat().st_size for file in tmp_path.iterdir()))
        assert sizes[0] >= 64_000 and sizes[2] > sizes[1] > sizes[0] and not path.exists()
    np.save(tmp_path / "b.npy", np.tile(np.arange(50_000).astype(np.uint16), 3))
    assert path.read_bytes() == (tmp_path / "b.npy").read_bytes()
    with pytest.raises(RunError, match="No space"), array_file(tmp_path / "c.npy", np.int32) as array:
        array.add([1, 2])
        raise OSError(28, "No space left on device")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.npy", "b.npy"]


def test_duplicates_are_found_as_a_set_would_find_them(how_many: Callable[[int, int], int]) -> None:
    """Drawn hashes, of which few or most come again, asked for in stretches of any length."""
    for case in range(how_many(30, 2000)):
        draw = np.random.default_rng(case)
        digests = draw.integers(0, draw.integers(1, 200), size=draw.integers(1, 150), dtype=np.uint64)
        n_different, is_first = shards.find_different(digests)
        seen, expected = set[int](), list[bool]()
        for digest in digests.tolist():
            expected.append(digest not in seen)
            seen.add(digest)
        found, begin = list[bool](), 0
        while begin < len(digests):
            end = begin + int(draw.integers(1, 40))
            found += is_first(slice(begin, end)).tolist()
            begin = end
        assert (n_different, found) == (len(seen), expected), case
