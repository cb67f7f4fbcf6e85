import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tslens.corpus import shards, stories
from tslens.corpus.shards import Corpus, corpus_for, import_corpus
from tslens.corpus.stories import is_validation
from tslens.corpus.tokenizer import StoryTokenizer
from tslens.errors import DataError, RunError, UsageError
from tslens.files import locked
from tslens.types import Story

NAMES = ("Tom", "Lily", "Zoë", "Ben", "Mia")
TEXTS = [
    f"{a} saw {b} and {i} birds.\n“Hi!” said {a}." + " Ha!" * i
    for a in NAMES
    for b in NAMES
    for i in range(12)
]
HELD_OUT = [text for text in TEXTS if is_validation(Story(text))]


def write(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("source") / "made.jsonl", TEXTS)


@pytest.fixture(scope="module")
def corpus(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return import_corpus(source, tmp_path_factory.mktemp("corpus"), vocab_size=400, context=24)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def test_every_story_is_on_its_side_as_the_tokenizer_encodes_it(corpus: Corpus) -> None:
    expected = {
        "train": [text for text in TEXTS if text not in HELD_OUT],
        "validation": HELD_OUT,
    }
    n_cut = 0
    for split, texts in ((corpus.train, expected["train"]), (corpus.validation, expected["validation"])):
        assert len(split) == len(texts) > 0
        whole = [corpus.tokenizer.encode_story(text, context=24) for text in texts]
        assert [story.tolist() for story in split] == [story.tolist() for story in whole]
        assert split[len(split) - 1].tolist() == whole[-1].tolist()
        assert split.lengths.tolist() == [len(story) - 1 for story in whole]
        assert split.lengths.max() <= 24
        assert split.n_tokens == sum(len(story) - 1 for story in whole)
        assert split.digests.tolist() == [Story(text).digest for text in texts]
        kept = [corpus.tokenizer.decode(story.tolist()).encode() for story in whole]
        uncut = [text.encode() for text in texts]
        n_cut += sum(a != b for a, b in zip(kept, uncut, strict=True))
        assert split.n_bytes == sum(int(corpus.tokenizer.n_bytes[story].sum()) for story in whole)
    assert 0 < n_cut <= corpus.facts["n_cut"] < len(TEXTS)


def test_tokens_are_memory_mapped(corpus: Corpus) -> None:
    story = corpus.train[3]
    assert story.dtype == np.uint16 and not story.flags.writeable and not story.flags.owndata


def test_counts_and_origin_are_written(corpus: Corpus, source: Path) -> None:
    facts = json.loads((corpus.folder / "corpus.json").read_text())
    assert facts["schema"] == "tslens.corpus/1"
    assert facts["source"] == corpus.source == "made.jsonl"
    assert facts["context"] == 24 and facts["n_duplicates"] == 0
    assert facts["vocab_size"] == corpus.tokenizer.vocab_size <= 400
    assert facts["tokenizer_sha256"] == corpus.tokenizer.sha256
    assert facts["splits"]["train"] == {
        "stories": len(corpus.train),
        "tokens": corpus.train.n_tokens,
        "bytes": corpus.train.n_bytes,
    }


def test_bytes_of_uncut_stories_are_those_of_the_text(source: Path, tmp_path: Path) -> None:
    corpus = import_corpus(source, tmp_path, vocab_size=300)
    assert corpus.facts["n_cut"] == 0
    assert corpus.train.n_bytes + corpus.validation.n_bytes == sum(len(text.encode()) for text in TEXTS)


def test_tokenizer_learns_from_the_training_side_only(source: Path, corpus: Corpus) -> None:
    train = [Story(text) for text in TEXTS if text not in HELD_OUT]
    assert corpus.tokenizer.sha256 == StoryTokenizer.train(train, vocab_size=400).sha256


def test_import_is_reproducible_byte_for_byte(source: Path, corpus: Corpus, tmp_path: Path) -> None:
    import_corpus(source, tmp_path, vocab_size=400, context=24)
    assert contents(tmp_path) == contents(corpus.folder)


def test_many_shards_hold_the_same_stories(
    source: Path, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD_TOKENS", 100)
    monkeypatch.setattr(shards, "GROUP_CHARACTERS", 500)
    many = import_corpus(source, tmp_path, vocab_size=400, context=24)
    assert len(list(tmp_path.glob("train-*.npy"))) > 10
    for a, b in ((many.train, corpus.train), (many.validation, corpus.validation)):
        assert [story.tolist() for story in a] == [story.tolist() for story in b]


def test_duplicates_are_dropped_and_counted(tmp_path: Path, corpus: Corpus) -> None:
    doubled = write(tmp_path / "doubled.jsonl", TEXTS + TEXTS[:7] + [TEXTS[0] + "\r\n"])
    found = import_corpus(doubled, tmp_path / "c", tokenizer=corpus.tokenizer, context=24)
    assert found.facts["n_duplicates"] == 8
    assert found.tokenizer.sha256 == corpus.tokenizer.sha256
    assert found.train.digests.tolist() == corpus.train.digests.tolist()


def test_a_few_stories_still_hold_out_one(tmp_path: Path) -> None:
    few = [text for text in TEXTS if text not in HELD_OUT][:10]
    corpus = import_corpus(write(tmp_path / "few.jsonl", few), tmp_path / "c", vocab_size=300)
    assert (len(corpus.train), len(corpus.validation)) == (9, 1)
    lone = min(few, key=lambda text: Story(text).digest)
    assert corpus.validation.digests.tolist() == [Story(lone).digest]
    rest = [Story(text) for text in few if text != lone]
    assert corpus.tokenizer.sha256 == StoryTokenizer.train(rest, vocab_size=300).sha256


@pytest.mark.parametrize("texts", [TEXTS[:1], TEXTS[:1] * 5, HELD_OUT[:2]])
def test_a_side_without_stories_is_an_error(tmp_path: Path, texts: list[str]) -> None:
    with pytest.raises(DataError, match="too few") as caught:
        import_corpus(write(tmp_path / "s.jsonl", texts), tmp_path / "c", vocab_size=300)
    assert "20" in caught.value.hint
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("content", ["", '{"text": "Tom ran."}\n{', '{"text": 3}\n'])
def test_bad_stories_leave_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "bad.jsonl").write_text(content)
    with pytest.raises(DataError):
        import_corpus(tmp_path / "bad.jsonl", tmp_path / "c", vocab_size=300)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("options", [{"vocab_size": 256}, {"context": 0}])
def test_impossible_settings_leave_nothing(source: Path, tmp_path: Path, options: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        import_corpus(source, tmp_path, **options)
    assert contents(tmp_path) == {}


def test_a_source_that_changes_is_noticed(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, passes = shards.read_sources, []

    def changing(paths: list[str | Path]) -> Iterator[Story]:
        passes.append(paths)
        stories = list(real(paths))
        return iter(stories if len(passes) == 1 else stories[:-1])

    monkeypatch.setattr(shards, "read_sources", changing)
    with pytest.raises(DataError, match="changed"):
        import_corpus(source, tmp_path, vocab_size=300)
    assert contents(tmp_path) == {}


def test_an_import_that_died_is_done_again(source: Path, corpus: Corpus, tmp_path: Path) -> None:
    first = corpus_for(source, tmp_path, vocab_size=400, context=24)
    expected = contents(first.folder)
    (first.folder / "corpus.json").unlink()
    (first.folder / "train-00000.npy").write_bytes(b"half")
    (first.folder / "train-00001.npy").write_bytes(b"left over")
    again = corpus_for(source, tmp_path, vocab_size=400, context=24)
    assert contents(again.folder) == expected == contents(corpus.folder)


def test_an_interrupted_import_removes_its_files(source: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("not of the corpus")
    n_calls = []

    def interrupt(n_stories: int) -> None:
        n_calls.append(n_stories)
        if (tmp_path / "tokenizer.json").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_corpus(source, tmp_path, vocab_size=300, progress=interrupt)
    assert n_calls and list(contents(tmp_path)) == ["mine.txt"]


def test_imports_are_kept_by_content_and_settings(source: Path, tmp_path: Path) -> None:
    first = corpus_for(source, tmp_path / "cache", vocab_size=400)
    mark = (first.folder / "corpus.json").stat().st_mtime_ns
    assert corpus_for(source, tmp_path / "cache", vocab_size=400).folder == first.folder
    assert (first.folder / "corpus.json").stat().st_mtime_ns == mark
    assert corpus_for(first.folder, tmp_path / "unused", vocab_size=999).folder == first.folder
    assert not (tmp_path / "unused").exists()
    others = [
        corpus_for(source, tmp_path / "cache", vocab_size=300),
        corpus_for(source, tmp_path / "cache", vocab_size=400, context=21),
        corpus_for(write(tmp_path / "made.jsonl", TEXTS[1:]), tmp_path / "cache", vocab_size=400),
    ]
    assert len({first.folder, *(other.folder for other in others)}) == 4
    assert first.folder.name.startswith("made-400-")


def test_several_sources_are_one_corpus(source: Path, tmp_path: Path) -> None:
    """Their stories follow each other; what is in both counts once."""
    more = ["Sue flew a kite.", "Sue lost a shoe."]
    assert not any(is_validation(Story(text)) for text in more)
    other = write(tmp_path / "more.jsonl", [*more, TEXTS[0]])
    both = corpus_for([source, other], tmp_path / "cache", vocab_size=400)
    joined = import_corpus(
        write(tmp_path / "joined.jsonl", [*TEXTS, *more, TEXTS[0]]), tmp_path / "c", vocab_size=400
    )
    for one, two in ((both.train, joined.train), (both.validation, joined.validation)):
        assert [story.tolist() for story in one] == [story.tolist() for story in two]
    assert both.facts["n_duplicates"] == 1
    assert both.source == "made.jsonl+more.jsonl"
    cache = tmp_path / "cache"
    assert corpus_for([str(source), str(other)], cache, vocab_size=400).folder == both.folder
    assert corpus_for([other, source], cache, vocab_size=400).source_sha256 != both.source_sha256
    alone = corpus_for([source], cache, vocab_size=400)
    assert alone.folder == corpus_for(source, cache, vocab_size=400).folder


def test_an_imported_folder_is_a_source_only_alone(source: Path, corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="imported already") as caught:
        corpus_for([corpus.folder, source], tmp_path)
    assert "alone" in caught.value.hint
    assert corpus_for([corpus.folder], tmp_path).folder == corpus.folder


def test_one_process_imports_at_a_time(source: Path, tmp_path: Path) -> None:
    folder = corpus_for(source, tmp_path, vocab_size=300).folder
    with locked(folder):
        assert len(corpus_for(source, tmp_path, vocab_size=300).train)  # reading needs no lock
        (folder / "corpus.json").unlink()
        with pytest.raises(RunError, match="in use"):
            corpus_for(source, tmp_path, vocab_size=300)


def copy(corpus: Corpus, folder: Path) -> Path:
    folder.mkdir()
    for name, content in contents(corpus.folder).items():
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("corpus.json", None, "no imported corpus"),
        ("corpus.json", b"{", "no JSON"),
        ("corpus.json", b'{"schema": "tslens.corpus/9"}', "tslens.corpus/9"),
        ("corpus.json", b"[]", "schema"),
        ("train.lengths.npy", None, "broken"),
        ("train.lengths.npy", b"", "broken"),
        ("validation-00000.npy", None, "broken"),
        ("validation-00000.npy", b"junk", "broken"),
        ("tokenizer.json", b"other", "tokenizer is not"),
    ],
)
def test_broken_folders_are_refused(
    corpus: Corpus, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    folder = copy(corpus, tmp_path / "copy")
    Corpus(folder)
    if content is None:
        (folder / name).unlink()
    elif content == b"other":
        StoryTokenizer.train([Story("Tom ran.")], vocab_size=300).save(folder / name)
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        Corpus(folder)
    assert caught.value.hint and "\n" not in str(caught.value)


def test_a_cut_off_shard_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    folder = copy(corpus, tmp_path / "copy")
    shard = folder / "train-00000.npy"
    shard.write_bytes(shard.read_bytes()[:-200])
    with pytest.raises(DataError, match="broken"):
        Corpus(folder)


def test_no_folder() -> None:
    with pytest.raises(DataError, match="no imported corpus"):
        Corpus(Path("nowhere"))


def test_memory_does_not_grow_with_the_text(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD_TOKENS", 2**14)
    monkeypatch.setattr(shards, "GROUP_CHARACTERS", 50_000)
    monkeypatch.setattr(stories, "PIECE_BYTES", 2**16)

    def peak(n_stories: int) -> int:
        path = tmp_path / f"{n_stories}.txt"
        with path.open("w") as file:
            for i in range(n_stories):
                file.write(f"Story {i}. " + "Tom ran to the park. " * 400 + "<|endoftext|>")
        tracemalloc.start()
        try:
            import_corpus(path, tmp_path / str(n_stories), tokenizer=corpus.tokenizer)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    first = peak(100)  # 0.8 MB of text
    assert peak(400) < first + 500_000  # 2.5 MB of text more
