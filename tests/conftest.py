"""Small stories, a tokenizer and a model that every test may use; real data where it is."""

import os
import random
import sys
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

from tslens.types import Story

# The same cases in every run, however slow the machine is.
hypothesis.settings.register_profile("same", derandomize=True, database=None, deadline=None)
hypothesis.settings.load_profile("same")

NAMES = ["Tom", "Lily", "Ben", "Mia", "Sam", "Anna"]
THINGS = ["ball", "cake", "kite", "banana", "trumpet", "elephant"]
DEEDS = ["found", "lost", "wanted", "liked", "dropped"]
BEGINNINGS = [
    "One day, Tom went to the",
    "Lily had a red",
    "The dog saw a big",
    "Once upon a time, there was a",
    "Mom said to Ben that",
    "Anna and Sam wanted to",
]


def make_stories(n, seed=0):
    """Different stories of a few sentences, commas, quotes and paragraphs in them."""
    rng = random.Random(seed)
    stories = []
    for index in range(n):
        name, friend = rng.sample(NAMES, 2)
        thing, other = rng.sample(THINGS, 2)
        lines = [
            f"Once upon a time, {name} {rng.choice(DEEDS)} a {thing} in the park.",
            f'"Look, {friend}, a {thing}!" said {name}. {friend} {rng.choice(DEEDS)} the {thing}, too.',
            f"Then they {rng.choice(DEEDS)} {index} more of the {other}s, and {name} was happy.",
        ]
        rng.shuffle(lines)
        stories.append(Story("\n".join(lines)))
    return stories


@pytest.fixture(scope="session")
def stories():
    return make_stories(60)


@pytest.fixture(scope="session")
def tokenizer(stories):
    from tslens.corpus.tokenizer import StoryTokenizer

    return StoryTokenizer.train(stories, vocab_size=320)


@pytest.fixture(scope="session")
def tiny_model(tokenizer):
    """Two layers of four heads, weights far enough from zero that attention is not uniform."""
    import torch

    from tslens.model.spec import ModelSpec
    from tslens.model.transformer import TinyTransformer

    model = TinyTransformer(ModelSpec.from_name("l2_h64"), tokenizer.vocab_size, seed=5, tokenizer=tokenizer)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".W_" in name:
                parameter.mul_(6)
    return model.eval()


@pytest.fixture(scope="session")
def random_model(tokenizer):
    """A function that makes a random model: "gpt2", "llama", "gpt_neo" of transformers, or one of ours by its name."""
    foreign = ("gpt2", "llama", "gpt_neo")
    return lambda name: (_random_foreign if name in foreign else _random_tiny)(name, tokenizer)


def _random_foreign(kind, tokenizer):
    """A random model of transformers; the Llama has two heads for each value, the GPT-Neo a window of 16."""
    import torch
    import transformers

    from tslens.model.foreign import ForeignModel

    torch.manual_seed(len(kind))
    vocab = {"vocab_size": tokenizer.vocab_size}
    if kind == "gpt2":
        config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=64, **vocab)
        model = transformers.GPT2LMHeadModel(config)
    elif kind == "llama":
        shape = {"hidden_size": 32, "intermediate_size": 50, "num_hidden_layers": 2, "num_attention_heads": 4}
        config = transformers.LlamaConfig(num_key_value_heads=2, max_position_embeddings=64, **shape, **vocab)
        model = transformers.LlamaForCausalLM(config)
    else:
        layers = {"num_layers": 2, "attention_types": [[["global", "local"], 1]], "window_size": 16}
        config = transformers.GPTNeoConfig(
            hidden_size=32, num_heads=4, max_position_embeddings=64, **layers, **vocab
        )
        model = transformers.GPTNeoForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5 if parameter.ndim == 2 else 1).add_(0.05 * torch.randn(parameter.shape))
    return ForeignModel(model, tokenizer, name=kind)


def _random_tiny(name, tokenizer):
    """A random model of ours, with weights and biases far from zero."""
    import torch

    from tslens.model.spec import ModelSpec
    from tslens.model.transformer import TinyTransformer

    model = TinyTransformer(ModelSpec.from_name(name), tokenizer.vocab_size, seed=5, tokenizer=tokenizer)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".W_" in name:
                parameter.mul_(6)
            elif name.endswith(("b_O", "b_out", "b_in", "ln2.b")):
                parameter.normal_(0, 0.3, generator=generator)
    return model.eval()


@pytest.fixture(scope="session")
def story_file(stories, tmp_path_factory):
    import json

    path = tmp_path_factory.mktemp("stories") / "stories.jsonl"
    path.write_text("".join(json.dumps({"text": story.text}) + "\n" for story in stories), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def told_before():
    """What takes the place of the two steps of ``write_stories``: each story is told once, and labelled once."""
    from functools import lru_cache

    from tslens.corpus import author

    tell, label, made = lru_cache(8192)(author._tell), author._labelled, {}

    def labelled(told, index, seed):
        if id(told) not in made:
            made[id(told)] = told, label(told, index, seed)  # held, so that no other has its id
        return made[id(told)][1]

    return {"_tell": tell, "_labelled": labelled}


@pytest.fixture(scope="module")
def told_once(told_before):
    """A module that uses it never waits for a story of the offline author that was told before in this process.

    A scan of 40 stories has 800 told, as one in twenty is of the validation side. Not for tests of the author itself.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name, step in told_before.items():
            patch.setattr(f"tslens.corpus.author.{name}", step)
        yield


@pytest.fixture(scope="session")
def make_scans_small():
    """A function that makes scans small, for as long as its patch holds: not for tests of truths and nulls.

    Random twins of heads are four, not 17, those of neurons three, not ten, of a match two, not six, of programs one,
    not two; the doses of a role's neurons are one, not three; the sequences of random tokens, on which induction is
    read, 64, not 256.
    """

    def make(patch):
        patch.setattr("tslens.probes.twins.N_TWINS", {"fresh": 1, "redrawn": 3})
        patch.setattr("tslens.probes.neurons.classify.N_TWINS", 3)
        patch.setattr("tslens.probes.matching.heads.N_TWINS", 2)
        patch.setattr("tslens.probes.programs.score.N_TWINS", 1)
        patch.setattr("tslens.probes.neurons.dose.SHARES", (0.5,))
        patch.setattr("tslens.probes.induction.N_SEQUENCES", 64)

    return make


@pytest.fixture(scope="module")
def small_scans(make_scans_small):
    """Small scans in a whole module."""
    with pytest.MonkeyPatch.context() as patch:
        make_scans_small(patch)
        yield


@pytest.fixture(scope="session")
def real_stories():
    """The path of 16,000 real TinyStories; the test skips where they are absent."""
    folder = Path(os.environ.get("TSLENS_DATA", Path(__file__).parents[2] / "shared" / "data"))
    path = folder / "tinystories.jsonl.gz"
    if not path.exists():
        pytest.skip("real stories are absent: set TSLENS_DATA")
    return path


@pytest.fixture(scope="session")
def parser():
    """The parser that is installed; tests that need one skip where there is none."""
    pytest.importorskip("spacy", reason="spaCy is not installed")
    from tslens.corpus.annotate import open_parser
    from tslens.errors import DataError

    try:
        return open_parser()
    except DataError as error:
        pytest.skip(f"no parser: {error}")


@pytest.fixture(scope="session")
def few_readouts():
    """``make_readouts`` of 60 stories, not of up to 1,500; what is asked for twice is made once."""
    from itertools import islice

    from tslens.link.readouts import author_stories, make_readouts

    told, made = list(islice(author_stories(), 60)), {}

    def make(tokenizer, **asked):
        key = (tokenizer.sha256, *sorted(asked.items()))
        if key not in made:
            made[key] = make_readouts(tokenizer, **asked, stories=told)
        return made[key]

    return make


@pytest.fixture(scope="session")
def make_link_small(few_readouts):
    """A function that makes small what takes long in ``tslens link``, for as long as its patch holds.

    Pairs are of 60 stories; the n-gram counts 100 of the author, not those that are on disk; three random sets of each
    share stand beside components, not dozens; the judge's doses are of ``n_dosed`` stories. With so few pairs hardly a
    component passes, so the first of all that have a status are graded.
    """
    from functools import partial

    from tslens.link.map_report import STATUSES
    from tslens.link.ngram_null import author_like
    from tslens.link.random_sets import random_rungs

    def stories_like(model, tokenizer, source):
        return author_like(tokenizer, n_ctx=model.cfg.n_ctx, n_counted=100, n_held_out=10)

    def make(patch, *, shares=(0.06, 0.25), n_dosed=1):
        rungs = partial(random_rungs, n_draws=3, shares=shares)
        patch.setattr("tslens.link.capability_map.random_rungs", rungs)
        patch.setattr("tslens.cli.link_plan.random_rungs", rungs)
        patch.setattr("tslens.cli.link_run.make_readouts", few_readouts)
        patch.setattr("tslens.cli.link_run.stories_like", stories_like)
        patch.setattr("tslens.cli.link_plan.DOSE_STORIES", n_dosed)
        patch.setattr("tslens.cli.link_plan.PASSING", STATUSES)

    return make


@pytest.fixture(scope="session")
def six_beginnings(tmp_path_factory):
    """A file of six beginnings of stories, as ``--prompts`` takes it."""
    import json

    path = tmp_path_factory.mktemp("prompts") / "six.jsonl"
    rows = [{"prompt": text} for text in BEGINNINGS]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@dataclass
class Outcome:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


@pytest.fixture
def tslens(capfd, monkeypatch):
    """A function that runs a command line and tells what came of it."""
    from tslens.cli import main

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["tslens", *map(str, arguments)])
        capfd.readouterr()
        try:
            main.run()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        out, err = capfd.readouterr()
        return Outcome(code, out, err)

    return run
