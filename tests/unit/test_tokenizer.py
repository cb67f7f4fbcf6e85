import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tslens.corpus.stories import read_stories
from tslens.corpus.tokenizer import StoryTokenizer
from tslens.errors import DataError, ModelError, UsageError
from tslens.types import Story

DATA = Path(os.environ.get("TSLENS_DATA", "../shared/data"))
NAMES = ("Tom", "Lily", "Zoë", "Ben")
STORIES = [
    Story(f"One day, {a} and {b} went to the park.\n“Look!” said {a}. It’s a ball. {b} didn't see it... 😀")
    for a in NAMES
    for b in NAMES
]
END = "<|endoftext|>"


@pytest.fixture(scope="module")
def tokenizer() -> StoryTokenizer:
    return StoryTokenizer.train(STORIES, vocab_size=400)


@settings(max_examples=300)
@given(st.text())
@example(END)
@example(f"a {END}{END}\n")
@example("\ufeff\x00\x7f  \n\n\t \u2028 e\u0301 👩\u200d👧")
def test_round_trip_bytes_and_offsets_of_any_text(tokenizer: StoryTokenizer, text: str) -> None:
    ids, offsets = tokenizer.encode_with_offsets(text)
    assert ids == tokenizer.encode(text) == tokenizer.encode_batch([text])[0]
    assert tokenizer.decode(ids) == text
    assert tokenizer.eos_id not in ids
    assert tokenizer.n_bytes[ids].sum() == len(text.encode())
    end = 0
    for i, (start, stop) in zip(ids, offsets, strict=True):
        assert (
            start in {end, end - 1} and stop >= end and stop > start
        )  # pieces of a character share its span
        end = stop
        span = text[start:stop].encode()
        piece = tokenizer.token_strings([i])[0]
        assert "\\x" in piece or piece.encode() == span
    assert end == len(text)


def test_blank_before_a_word_belongs_to_its_token(tokenizer: StoryTokenizer) -> None:
    ids, offsets = tokenizer.encode_with_offsets("One Tom")
    assert tokenizer.token_strings(ids)[-1] == " Tom"
    assert offsets[-1] == (3, 7)


def test_vocabulary(tokenizer: StoryTokenizer) -> None:
    assert 257 < tokenizer.vocab_size <= 400
    assert len(tokenizer.n_bytes) == tokenizer.vocab_size
    assert tokenizer.n_bytes[tokenizer.eos_id] == 0
    assert (np.delete(tokenizer.n_bytes, tokenizer.eos_id) > 0).all()
    singles = {tokenizer.token_strings([i])[0] for i in range(tokenizer.vocab_size)}
    assert {END, "\\xe2", "A", " "} <= singles
    assert tokenizer.decode([tokenizer.eos_id, *tokenizer.encode("Tom"), tokenizer.eos_id]) == "Tom"


def test_training_is_reproducible_and_streams(tokenizer: StoryTokenizer) -> None:
    again = StoryTokenizer.train(iter(STORIES), vocab_size=400)
    assert again.sha256 == tokenizer.sha256
    assert StoryTokenizer.train(STORIES[:4], vocab_size=400).sha256 != tokenizer.sha256


def test_errors_of_the_stories_reach_the_caller() -> None:
    def broken() -> Iterator[Story]:
        yield STORIES[0]
        raise DataError("line 2 is broken.", "Mend it.")

    with pytest.raises(DataError, match="line 2"):
        StoryTokenizer.train(broken(), vocab_size=400)


@pytest.mark.parametrize("vocab_size", [256, 65_537, 0, -1])
def test_impossible_vocabulary(vocab_size: int) -> None:
    with pytest.raises(UsageError, match=str(vocab_size)):
        StoryTokenizer.train(STORIES, vocab_size=vocab_size)


def test_smallest_vocabulary_is_bytes_and_end() -> None:
    bare = StoryTokenizer.train(STORIES, vocab_size=257)
    assert bare.vocab_size == 257
    assert len(bare.encode("Zoë")) == 4


def test_saved_and_loaded(tokenizer: StoryTokenizer, tmp_path: Path) -> None:
    path = tmp_path / "new" / "tokenizer.json"
    tokenizer.save(path)
    for loaded in (StoryTokenizer.load(path), StoryTokenizer.load(path.parent)):
        assert loaded.sha256 == tokenizer.sha256
        assert loaded.eos_id not in loaded.encode(END)
        assert loaded.encode(STORIES[0].text) == tokenizer.encode(STORIES[0].text)
        assert (loaded.n_bytes == tokenizer.n_bytes).all()
    assert [file.name for file in path.parent.iterdir()] == ["tokenizer.json"]


def test_gpt2_folder(tokenizer: StoryTokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "t.json")
    model = json.loads((tmp_path / "t.json").read_text())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    (tmp_path / "merges.txt").write_text(
        "#version: 0.2\n" + "\n".join(" ".join(pair) for pair in model["merges"])
    )
    loaded = StoryTokenizer.load(tmp_path)
    text = STORIES[0].text + END
    assert loaded.encode(text) == tokenizer.encode(text)
    assert loaded.eos_id == tokenizer.eos_id and loaded.vocab_size == tokenizer.vocab_size
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(ModelError, match="broken"):
        StoryTokenizer.load(tmp_path)


def save_raw(path: Path, tokenizer: Tokenizer) -> Path:
    tokenizer.save(str(path))
    return path


def raw(tokenizer: StoryTokenizer, tmp_path: Path) -> Tokenizer:
    tokenizer.save(tmp_path / "raw.json")
    return Tokenizer.from_file(str(tmp_path / "raw.json"))


def test_tokenizers_that_change_text_are_refused(tokenizer: StoryTokenizer, tmp_path: Path) -> None:
    from tokenizers import normalizers

    composed = raw(tokenizer, tmp_path)
    composed.normalizer = normalizers.NFC()
    prefix = raw(tokenizer, tmp_path)
    prefix.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    words = Tokenizer(models.WordLevel({END: 0, "[UNK]": 1, "Tom": 2}, unk_token="[UNK]"))
    words.add_special_tokens([END])
    few = Tokenizer(models.BPE({"a": 0, END: 1}, []))
    few.pre_tokenizer, few.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    few.add_special_tokens([END])
    no_end = Tokenizer(models.BPE({"a": 0}, []))
    for number, (made, message) in enumerate(
        [(composed, "back"), (prefix, "back"), (words, "back"), (few, "back"), (no_end, "no token <")]
    ):
        with pytest.raises(ModelError, match=message) as caught:
            StoryTokenizer.load(save_raw(tmp_path / f"{number}.json", made))
        assert f"{number}.json" in caught.value.message


@pytest.mark.parametrize("trims", [False, True])
def test_settings_of_a_foreign_tokenizer_do_not_leak(
    tokenizer: StoryTokenizer, tmp_path: Path, trims: bool
) -> None:
    from tokenizers import processors

    other = raw(tokenizer, tmp_path)
    start = processors.TemplateProcessing(single=f"{END} $A", special_tokens=[(END, tokenizer.eos_id)])
    other.post_processor = processors.ByteLevel(trim_offsets=True) if trims else start
    other.enable_truncation(3)
    other.enable_padding(length=50)
    loaded = StoryTokenizer.load(save_raw(tmp_path / "other.json", other))
    assert loaded.encode_with_offsets(STORIES[0].text) == tokenizer.encode_with_offsets(STORIES[0].text)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model": 3}', "\x00\x01"])
def test_broken_tokenizer_file(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ModelError, match="broken") as caught:
        StoryTokenizer.load(tmp_path / "tokenizer.json")
    assert caught.value.hint


def test_absent_tokenizer(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        with pytest.raises(ModelError, match="no tokenizer"):
            StoryTokenizer.load(path)


def test_story_has_both_ends_unless_it_is_cut(tokenizer: StoryTokenizer) -> None:
    text, eos = STORIES[0].text, tokenizer.eos_id
    ids = tokenizer.encode(text)
    n = len(ids)
    whole = tokenizer.encode_story(text, context=n + 1)
    assert whole.dtype == np.uint16
    assert whole.tolist() == [eos, *ids, eos]
    assert tokenizer.encode_story(text).tolist() == [eos, *ids, eos]
    for context in (n, n - 1, 1):
        cut = tokenizer.encode_story(text, context=context)
        assert cut.tolist() == [eos, *ids[:context]]
        assert len(cut[:-1]) == context
    assert tokenizer.encode_story("").tolist() == [eos, eos]
    with pytest.raises(UsageError):
        tokenizer.encode_story(text, context=0)


def test_transformers_reads_it(tokenizer: StoryTokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer.save(tmp_path / "tokenizer.json")
    fast = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    text = STORIES[5].text
    assert fast(text)["input_ids"] == tokenizer.encode(text)
    assert fast.decode(tokenizer.encode(text)) == text
    assert len(fast) == tokenizer.vocab_size


def test_needs_no_torch() -> None:
    code = "import sys, tslens.corpus.shards, tslens.corpus.words; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_real_stories_round_trip() -> None:
    path = DATA / "tinystories.jsonl.gz"
    if not path.exists():
        pytest.skip("no real data")
    stories = list(islice(read_stories(path), 500))
    trained = StoryTokenizer.train(stories, vocab_size=1024)
    known = [folder for folder in (DATA / "tokenizers" / "gpt2",) if folder.exists()]
    for one in (trained, *map(StoryTokenizer.load, known)):
        for story, ids in zip(stories, one.encode_batch([story.text for story in stories]), strict=True):
            assert one.decode(ids) == story.text
            assert one.n_bytes[ids].sum() == len(story.text.encode())
