"""Tokenizers of strangers: spoiled JSON, other kinds, bombs, random ones, and the files of llama2.c and GPT-2."""

import json
import struct

import files_fuzz as fuzz
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytestmark = [pytest.mark.timeout(1500), pytest.mark.usefixtures("quiet_panics")]
TEXTS = ["Tom had a cat.\nIt ran.", "naïve \U0001f600 “x” \t  y", "a" * 300, " ", ""]


@pytest.fixture
def quiet_panics(capfd):
    """Panics of Rust print a trace; nobody reads it here."""
    yield
    capfd.readouterr()


def use(path):
    """What models ask of a tokenizer, of a folder or a file."""
    from tslens.corpus.foreign_tokenizer import open_tokenizer
    from tslens.corpus.tokenizer import read_splitter

    found = open_tokenizer(path.parent, start_id=0, eos_id=0)
    for text in TEXTS:
        ids, offsets = found.encode_with_offsets(text)
        assert ids == found.encode(text) == found.encode_batch([text])[0] and len(ids) == len(offsets)
        found.decode(ids)
        found.token_strings(ids[:5])
        found.encode_story(text, context=8)
        found.story_bytes(text, context=8)
    assert len(found.sha256) == 64
    read_splitter(path)(TEXTS[0])


@pytest.fixture
def sound(tmp_path, tokenizer):
    """A tokenizer of the project on its own in a folder, and its JSON."""
    path = tmp_path / "t" / "tokenizer.json"
    path.parent.mkdir()
    tokenizer.save(path)
    return path, json.loads(path.read_text(encoding="utf-8"))


KINDS = {
    "WordLevel": {"type": "WordLevel", "vocab": {"Tom": 0, "a": 1, "[UNK]": 2}, "unk_token": "[UNK]"},
    "Unigram": {"type": "Unigram", "unk_id": 0, "vocab": [["a", -1.0], ["▁T", -2.0], ["om", -3.0]]},
    "WordPiece": {
        "type": "WordPiece",
        "vocab": {"[UNK]": 0, "a": 1, "##b": 2},
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
    },
}
PARTS = [
    {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "Lowercase"}]}},
    {"normalizer": {"type": "Prepend", "prepend": "▁"}, "pre_tokenizer": {"type": "Whitespace"}},
    {
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "decoder": {"type": "Fuse"},
    },
    {
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": "(a+)+$"},
            "behavior": "Isolated",
            "invert": False,
        }
    },
    {"pre_tokenizer": {"type": "FixedLength", "length": 3}, "decoder": {"type": "ByteFallback"}},
    {"pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}},
    {"decoder": {"type": "Strip", "content": " ", "start": 1, "stop": 0}, "padding": None},
]


def test_spoiled_tokenizers(how_many, sound):
    path, whole = sound
    data = path.read_bytes()
    assert fuzz.survives(lambda: use(path), path.parent)

    @fuzz.tries(how_many(6, 900))
    @given(edits=fuzz.byte_edits)
    def spoiled(edits):
        path.write_bytes(fuzz.spoil(data, edits))
        fuzz.survives(lambda: use(path), path.parent)

    small = {**whole, "model": {**whole["model"], "vocab": {"a": 0}, "merges": []}}

    @fuzz.tries(how_many(6, 900))
    @given(edits=fuzz.json_edits, is_small=st.booleans())
    def of_other_shape(edits, is_small):
        spoilt = fuzz.spoil_json(small if is_small else whole, edits)
        path.write_bytes(spoilt.encode("utf-8", "surrogatepass"))
        fuzz.survives(lambda: use(path), path.parent)

    spoiled()
    of_other_shape()


def test_tokenizers_of_other_kinds(how_many, sound):
    path, whole = sound

    @fuzz.tries(how_many(10, 1200))
    @given(
        edits=st.just([]) | fuzz.json_edits,
        model=st.none() | st.sampled_from(sorted(KINDS)),
        parts=st.lists(st.sampled_from(PARTS), max_size=3),
    )
    def other(edits, model, parts):
        made = {**whole, "added_tokens": []} | ({} if model is None else {"model": KINDS[model]})
        for part in parts:
            made |= part
        path.write_bytes(fuzz.spoil_json(made, edits).encode("utf-8", "surrogatepass"))
        fuzz.survives(lambda: use(path), path.parent)

    other()


@pytest.mark.parametrize("place", ["normalizer", "decoder"])
def test_a_tokenizer_that_unfolds_is_refused(sound, place):
    """Six replacements of a letter by a hundred would make a terabyte of a letter."""
    path, whole = sound
    replaced = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 100}
    inner = {"normalizer": "normalizers", "decoder": "decoders"}[place]
    path.write_text(
        json.dumps({**whole, place: {"type": "Sequence", inner: [replaced] * 6}}), encoding="utf-8"
    )
    with fuzz.little_memory(100_000_000):
        assert not fuzz.survives(lambda: use(path), path.parent)


def test_a_tokenizer_that_draws_is_made_to_read_alike(sound):
    """``dropout`` leaves merges out at random, which is for training."""
    path, whole = sound
    whole["model"]["dropout"] = 0.5
    path.write_text(json.dumps(whole), encoding="utf-8")
    assert fuzz.survives(lambda: [use(path) for _ in range(5)], path.parent)


def test_spoiled_vocabularies_of_gpt2(how_many, sound, tmp_path):
    _, whole = sound
    folder = tmp_path / "gpt2"
    folder.mkdir()
    vocab, merges = folder / "vocab.json", folder / "merges.txt"
    pairs = [pair if isinstance(pair, str) else " ".join(pair) for pair in whole["model"]["merges"]]
    sound_files = {
        vocab: json.dumps(whole["model"]["vocab"]).encode(),
        merges: "\n".join(["#version: 0.2", *pairs]).encode() + b"\n",
    }
    for file, data in sound_files.items():
        file.write_bytes(data)

    def read():
        from tslens.corpus.tokenizer import StoryTokenizer

        assert StoryTokenizer.load(folder).encode(TEXTS[0])

    assert fuzz.survives(read, folder)

    @fuzz.tries(how_many(6, 600))
    @given(edits=fuzz.byte_edits, others=fuzz.json_edits, which=st.sampled_from([vocab, merges]))
    def spoiled(edits, others, which):
        for file, data in sound_files.items():
            file.write_bytes(fuzz.spoil(data, edits) if file == which else data)
        fuzz.survives(read, folder)
        vocab.write_bytes(fuzz.spoil_json(whole["model"]["vocab"], others).encode("utf-8", "surrogatepass"))
        fuzz.survives(read, folder)

    spoiled()


def test_spoiled_tokenizers_of_llama2c(how_many, tmp_path):
    from tslens.corpus.foreign_tokenizer import read_llama2c_tokenizer

    words = [b"<unk>", b"<s>", b"</s>", *(f"<0x{byte:02X}>".encode() for byte in range(256))]
    words += [b" ", b"t", b"h", b"e", b" t", b"he", b" the"]
    data = struct.pack("<i", 9) + b"".join(struct.pack("<fi", -i, len(w)) + w for i, w in enumerate(words))
    path = tmp_path / "tok.bin"
    path.write_bytes(data)

    def read():
        found = read_llama2c_tokenizer(path, n_tokens=len(words))
        assert found.decode(found.encode("the")) == "the"

    assert fuzz.survives(read, tmp_path)

    @fuzz.tries(how_many(10, 1200))
    @given(edits=fuzz.byte_edits)
    def spoiled(edits):
        path.write_bytes(fuzz.spoil(data, edits))
        fuzz.survives(lambda: read_llama2c_tokenizer(path, n_tokens=len(words)).encode("the he"), tmp_path)

    spoiled()
