"""Tokenizers of other libraries' models: what they give back, what a byte count is, which of them are ours."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from tslens.corpus.foreign_tokenizer import ForeignTokenizer, open_tokenizer
from tslens.corpus.tokenizer import StoryTokenizer
from tslens.errors import ModelError

TEXT = 'Tom ran.\n"Oh, na\u00efve cat!" said Lily.'


def sentencepiece_like():
    """As Llama's: blanks are written as low lines, one is put before a text, unknown characters fall back to bytes."""
    letters = sorted({"\u2581", *'Tomran.OhcatsidLly"!,e'})
    names = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        *letters,
        "\u2581r",
        "an",
        "\u2581ran",
    ]
    merges = [("\u2581", "r"), ("a", "n"), ("\u2581r", "an")]
    tokenizer = Tokenizer(
        models.BPE({name: i for i, name in enumerate(names)}, merges, unk_token="<unk>", byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<s>", "</s>"])
    return tokenizer


def lower_casing():
    """As SimpleStories': WordPiece of small letters; the text does not come back."""
    names = ["[UNK]", "[EOS]", "tom", "ran", ".", "##s"]
    tokenizer = Tokenizer(models.WordPiece({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def test_sentencepiece_like():
    tokenizer = ForeignTokenizer(sentencepiece_like(), start_id=1, eos_id=2)
    ids, offsets = tokenizer.encode_with_offsets(TEXT)
    assert ids == tokenizer.encode(TEXT) == tokenizer.encode_batch([TEXT])[0]
    assert tokenizer.decode(ids) == tokenizer.decode([1, *ids, 2]) == TEXT
    assert " ran" in tokenizer.token_strings(ids)
    assert "\\xc3" in tokenizer.token_strings(ids)
    assert tokenizer.token_strings([1, 2]) == ["<s>", "</s>"]
    assert TEXT[slice(*offsets[tokenizer.token_strings(ids).index(" ran")])] == " ran"
    assert tokenizer.encode_story("ran", context=9).tolist() == [1, *tokenizer.encode("ran"), 2]
    assert tokenizer.encode_story(TEXT, context=4).tolist() == [1, *ids[:4]]


def test_bytes_are_those_of_the_text():
    """The blank that is put before a text counts nothing; a cut text counts what is kept."""
    tokenizer = ForeignTokenizer(sentencepiece_like(), start_id=1, eos_id=2)
    assert tokenizer.story_bytes(TEXT, context=512) == len(TEXT.encode())
    n = len(tokenizer.encode("Tom ran"))
    assert tokenizer.story_bytes(TEXT, context=n) == len(b"Tom ran")


def test_a_continuation_keeps_its_blank():
    tokenizer = ForeignTokenizer(sentencepiece_like(), start_id=1, eos_id=2)
    ids = tokenizer.encode("Tom ran ran")
    before = tokenizer.encode("Tom ran")
    assert tokenizer.decode_after(before, ids[len(before) :]) == " ran"
    assert tokenizer.decode_after([], ids) == "Tom ran ran"
    assert tokenizer.decode_after([], [1, *ids, 2]) == "Tom ran ran"


def test_special_tokens_in_a_text_are_text():
    tokenizer = ForeignTokenizer(sentencepiece_like(), start_id=1, eos_id=2)
    assert not {1, 2} & set(tokenizer.encode("a</s> <s>a"))
    assert tokenizer.decode(tokenizer.encode("a</s> <s>a")) == "a</s> <s>a"


def test_a_lossy_tokenizer_serves_too():
    tokenizer = ForeignTokenizer(lower_casing(), start_id=1, eos_id=1)
    ids, offsets = tokenizer.encode_with_offsets("Toms ran.")
    assert tokenizer.token_strings([1, *ids]) == ["[EOS]", " tom", "s", " ran", "."]
    assert offsets == [(0, 3), (3, 4), (5, 8), (8, 9)]
    assert tokenizer.story_bytes("Toms ran.", context=512) == 9
    assert tokenizer.story_bytes("Toms ran.", context=2) == 4


def test_which_tokenizer_a_folder_has(tokenizer, tmp_path: Path):
    ends = {"start_id": 1, "eos_id": 2}
    assert open_tokenizer(tmp_path, **ends) is None
    tokenizer.save(tmp_path / "tokenizer.json")
    assert isinstance(open_tokenizer(tmp_path, **ends), StoryTokenizer)
    sentencepiece_like().save(str(tmp_path / "tokenizer.json"))
    found = open_tokenizer(tmp_path, start_id=1, eos_id=2)
    assert isinstance(found, ForeignTokenizer)
    assert (found.start_id, found.eos_id) == (1, 2)
    only = open_tokenizer(tmp_path, start_id=None, eos_id=2)
    assert (only.start_id, only.eos_id) == (2, 2)
    with pytest.raises(ModelError, match="names no token"):
        open_tokenizer(tmp_path, start_id=None, eos_id=None)
    with pytest.raises(ModelError, match="belong together"):
        open_tokenizer(tmp_path, start_id=1, eos_id=9999)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match="broken"):
        open_tokenizer(tmp_path, **ends)


def test_saved_and_read_again(tmp_path: Path):
    tokenizer = ForeignTokenizer(sentencepiece_like(), start_id=1, eos_id=2)
    tokenizer.save(tmp_path / "tokenizer.json")
    again = open_tokenizer(tmp_path, start_id=1, eos_id=2)
    assert again.sha256 == tokenizer.sha256
    assert again.encode(TEXT) == tokenizer.encode(TEXT)
