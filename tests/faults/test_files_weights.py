"""Weights and arrays of strangers: checkpoints, llama2.c, folders of other libraries, n-grams, corpora, states."""

import json
import shutil
import struct

import files_fuzz as fuzz
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytestmark = [pytest.mark.timeout(1500), pytest.mark.filterwarnings("ignore")]
LIES = [0, 1, -1, 2, 3, 7, 257, 2**15, 2**20, 2**31 - 1, -(2**31), 2**31, 2**40, 2**62, 2**63 - 1]


def opened(path):
    """A model as commands open it, and what it says of a few tokens."""
    from tslens.model.load import load_model

    model = load_model(path)
    assert all(torch.isfinite(weight).all() for weight in getattr(model, "bridge", model).parameters())
    if model.tokenizer is not None:
        ids = model.tokenizer.encode_story("Tom had a cat.", context=model.cfg.n_ctx)[:8]
        with torch.no_grad():
            model(torch.from_numpy(ids.astype(np.int64))[None])


@pytest.fixture(scope="session")
def of_kind(tokenizer, tmp_path_factory):
    """A function that makes the folder of a sound small model of a kind; the file that is spoiled, what is opened."""
    from tslens.model.checkpoint import save_checkpoint
    from tslens.model.export import export_model
    from tslens.model.spec import ModelSpec
    from tslens.model.transformer import TinyTransformer

    def make(kind):
        folder = tmp_path_factory.mktemp(kind)
        spec = ModelSpec.from_name("l1_h16")
        model = TinyTransformer(spec, tokenizer.vocab_size, seed=0, tokenizer=tokenizer, n_ctx=16).eval()
        if kind == "checkpoint":
            save_checkpoint(model, folder / "m.safetensors")
            tokenizer.save(folder / "tokenizer.json")
            return folder / "m.safetensors", folder / "m.safetensors"
        if kind in ("huggingface", "hooked-transformer"):
            export_model(model, kind, folder / "m")
            return folder / "m" / "model.safetensors", folder / "m"
        if kind == "gpt2":
            from transformers import GPT2Config, GPT2LMHeadModel

            shape = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 16}
            own = GPT2LMHeadModel(GPT2Config(vocab_size=tokenizer.vocab_size, **shape))
            own.save_pretrained(folder / "m")
            tokenizer.save(folder / "m" / "tokenizer.json")
            return folder / "m" / "model.safetensors", folder / "m"
        numbers = (8, 8, 1, 2, 1, 270, 16)
        size = 28 + 4 * (270 * 8 + 8 + (64 + 32 + 32 + 64) + 8 + 3 * 64 + 8 + 2 * 16 * 2)
        weights = np.random.default_rng(0).normal(0, 0.1, (size - 28) // 4).astype("<f4")
        (folder / "m.bin").write_bytes(struct.pack("<7i", *numbers) + weights.tobytes())
        return folder / "m.bin", folder / "m.bin"

    return make


@pytest.mark.parametrize(
    ("kind", "full"),
    [
        ("checkpoint", 1500),
        ("llama2c", 1500),
        ("huggingface", 500),
        ("hooked-transformer", 700),
        ("gpt2", 500),
    ],
)
def test_spoiled_weights(how_many, of_kind, kind, full):
    file, what = of_kind(kind)
    data = file.read_bytes()
    assert fuzz.survives(lambda: opened(what), file.parent)

    @fuzz.tries(how_many(4, full))
    @given(edits=fuzz.byte_edits)
    def spoiled(edits):
        file.write_bytes(fuzz.spoil(data, edits))
        fuzz.survives(lambda: opened(what), file.parent)

    spoiled()


@pytest.mark.parametrize(
    ("kind", "full"), [("checkpoint", 1000), ("huggingface", 300), ("hooked-transformer", 400), ("gpt2", 300)]
)
def test_headers_of_safetensors_that_lie(how_many, of_kind, kind, full):
    """Shapes, offsets, types and metadata that are other than what the file holds."""
    file, what = of_kind(kind)
    data = file.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])

    @fuzz.tries(how_many(4, full))
    @given(edits=fuzz.json_edits, lie=st.none() | st.sampled_from(LIES))
    def lying(edits, lie):
        text = fuzz.spoil_json(header, edits).encode("utf-8", "surrogatepass")
        said = len(text) if lie is None else lie % 2**64
        file.write_bytes(struct.pack("<Q", said) + text + data[8 + length :])
        fuzz.survives(lambda: opened(what), file.parent)

    lying()


@pytest.mark.parametrize(("kind", "full"), [("huggingface", 500), ("hooked-transformer", 600), ("gpt2", 500)])
def test_configurations_of_other_shapes(how_many, of_kind, kind, full):
    file, what = of_kind(kind)
    config = file.with_name("config.json")
    sound = json.loads(config.read_text(encoding="utf-8"))
    extra = {"auto_map": {"AutoConfig": "evil.C"}, "quantization_config": {"quant_method": "bitsandbytes"}}

    @fuzz.tries(how_many(4, full))
    @given(edits=fuzz.json_edits, with_extra=st.booleans())
    def of_other_shape(edits, with_extra):
        wanted = {**sound, **extra} if with_extra else sound
        config.write_bytes(fuzz.spoil_json(wanted, edits).encode("utf-8", "surrogatepass"))
        fuzz.survives(lambda: opened(what), file.parent)

    of_other_shape()


def test_headers_of_llama2c_that_lie(how_many, of_kind):
    file, _ = of_kind("llama2c")
    data = file.read_bytes()

    @fuzz.tries(how_many(8, 800))
    @given(lies=st.lists(st.tuples(st.integers(0, 9), st.sampled_from(LIES)), min_size=1, max_size=4))
    def lying(lies):
        numbers = [*list(struct.unpack_from("<7i", data)), 0, 0, 0]
        for place, lie in lies:
            numbers[place] = (lie + 2**31) % 2**32 - 2**31
        file.write_bytes(struct.pack("<7i", *numbers[:7]) + data[28:])
        fuzz.survives(lambda: opened(file), file.parent)
        magic = struct.pack("<4s9i", b"24ka", 1, *numbers[:7], numbers[7])
        file.write_bytes(magic + data[28:])
        fuzz.survives(lambda: opened(file), file.parent)

    lying()


@pytest.fixture(scope="session")
def corpus(tmp_path_factory, stories, tokenizer):
    """A small corpus."""
    from tslens.corpus.shards import import_corpus

    folder = tmp_path_factory.mktemp("corpus")
    source = folder / "s.jsonl"
    source.write_text("".join(json.dumps({"text": s.text}) + "\n" for s in stories), encoding="utf-8")
    import_corpus(source, folder / "c", tokenizer=tokenizer)
    return folder / "c"


def read_corpus(folder):
    from tslens.corpus.shards import Corpus

    found = Corpus(folder)
    for split in (found.train, found.validation):
        for story in split:
            assert story.dtype == np.uint16 and story.ndim == 1
        assert split.n_bytes >= 0 and split.n_tokens >= 0
        np.sort(split.digests)


ARRAYS = ["train-00000.npy", "train.lengths.npy", "train.digests.npy", "validation.bytes.npy"]


@pytest.mark.parametrize("name", [*ARRAYS, "corpus.json", "tokenizer.json"])
def test_spoiled_corpora(how_many, corpus, tmp_path, name):
    folder = tmp_path / "c"
    shutil.copytree(corpus, folder)
    file = folder / name
    data = file.read_bytes()
    assert fuzz.survives(lambda: read_corpus(folder), tmp_path)

    @fuzz.tries(how_many(3, 300))
    @given(edits=fuzz.byte_edits)
    def spoiled(edits):
        file.write_bytes(fuzz.spoil(data, edits))
        fuzz.survives(lambda: read_corpus(folder), tmp_path)

    @fuzz.tries(how_many(3, 150))
    @given(edits=fuzz.json_edits)
    def of_other_shape(edits):
        if name.endswith(".json"):
            spoilt = fuzz.spoil_json(json.loads(data), edits).encode("utf-8", "surrogatepass")
        else:
            spoilt = lying_array(data, edits)
        file.write_bytes(spoilt)
        fuzz.survives(lambda: read_corpus(folder), tmp_path)

    spoiled()
    of_other_shape()


TYPES = ["<u2", "<i4", "<u8", "<f8", "<f4", "|b1", "|O", "<U1000000", "<i8", "|S0", "<c16", "<M8[s]", "|V8"]
SHAPES = [
    "({n},)",
    "(1, {n})",
    "({n}, 1)",
    "()",
    "(10000000000000,)",
    "(-1,)",
    "({n}, 0)",
    "(2, 2)",
    "(True,)",
]


def lying_array(data, edits):
    """A .npy whose header says another type, order or shape."""
    body = data[10 + struct.unpack_from("<H", data, 8)[0] :]
    n = edits[0][1] % 3000
    kind, shape = TYPES[edits[0][2] % len(TYPES)], SHAPES[edits[-1][1] % len(SHAPES)].format(n=n)
    header = f"{{'descr': '{kind}', 'fortran_order': {n % 2 == 0}, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


def test_hashes_of_training_stories(how_many, of_kind, tmp_path, tokenizer):
    """A run whose ``train_digests.npy`` is spoiled or lies."""
    file, _ = of_kind("checkpoint")
    run = tmp_path / "runs" / "l1_h16" / "seed0"
    (run / "checkpoints").mkdir(parents=True)
    shutil.copy(file, run / "checkpoints" / "step_000001.safetensors")
    tokenizer.save(run / "tokenizer.json")
    (run / "config.json").write_text('{"model": "l1_h16", "seed": 0}')
    digests = run / "train_digests.npy"
    np.save(digests, np.arange(50, dtype=np.uint64))
    data = digests.read_bytes()
    assert fuzz.survives(lambda: opened(run), tmp_path)

    @fuzz.tries(how_many(8, 500))
    @given(edits=fuzz.byte_edits, others=fuzz.json_edits, lies=st.booleans())
    def spoiled(edits, others, lies):
        digests.write_bytes(lying_array(data, others) if lies else fuzz.spoil(data, edits))
        fuzz.survives(lambda: opened(run), tmp_path)

    spoiled()


def test_ngram_models(how_many, tmp_path, stories, tokenizer):
    from tslens.model.ngram import NgramModel

    path = tmp_path / "n.safetensors"
    encoded = [tokenizer.encode_story(story.text) for story in stories[:10]]
    NgramModel.fit(encoded, vocab_size=tokenizer.vocab_size, order=3).save(path)
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])

    def read():
        found = NgramModel.load(path)
        assert np.isfinite(found.losses(encoded[:2])[0]).all()

    assert fuzz.survives(read, tmp_path)

    @fuzz.tries(how_many(8, 700))
    @given(edits=fuzz.byte_edits, others=fuzz.json_edits, lies=st.booleans())
    def spoiled(edits, others, lies):
        text = fuzz.spoil_json(header, others).encode("utf-8", "surrogatepass")
        lied = struct.pack("<Q", len(text)) + text + data[8 + length :]
        path.write_bytes(lied if lies else fuzz.spoil(data, edits))
        fuzz.survives(read, tmp_path)

    spoiled()
