"""A trained project that the tests of commands share, and how they run ``tslens link``."""

import json
import os

import pytest

OF_ROLES = {"model": "shipped:l1_h64@seed0", "checkpoint": "model.safetensors", "n_stories": 6}


@pytest.fixture(scope="session")
def trained(story_file, tmp_path_factory):
    """The folder of a small finished run, made as a user makes it, with its corpus beside it."""
    from tslens.config import train_config
    from tslens.corpus.shards import corpus_for
    from tslens.run_folder import RunFolder
    from tslens.train.loop import train_model
    from tslens.train.yardstick import ngram_yardstick

    folder = tmp_path_factory.mktemp("project")
    corpus = corpus_for(story_file, folder / "runs" / ".corpora", vocab_size=300)
    run = RunFolder(folder / "runs" / "l2_h32" / "seed0")
    train_model(train_config(None, model="l2_h32", seed=0, steps=40, batch_tokens=512), corpus, run)
    ngram_yardstick(corpus, run)
    return folder


@pytest.fixture
def project(trained, monkeypatch):
    """The same, as the current folder."""
    monkeypatch.chdir(trained)
    return trained


@pytest.fixture
def as_user():
    """Skips where the tests run as root, who may write anywhere."""
    if os.geteuid() == 0:
        pytest.skip("root may write to read-only folders")


@pytest.fixture
def link_json(tslens):
    """Runs a command line of ``tslens link`` on the shipped model of one layer; its JSON."""

    def run(*arguments):
        done = tslens(*arguments, "--json")
        assert done.code == 0, done.err
        assert done.err.splitlines()[0] == "tslens link: loading shipped:l1_h64 (seed 0)"
        return json.loads(done.out)

    return run


@pytest.fixture
def of_heads():
    """Writes a file as ``tslens heads`` does: of each probe a status for each of some heads."""
    from tslens.files import write_jsonl
    from tslens.types import HeadId, HeadScore

    def write(path, roles):
        rows = [
            HeadScore(
                HeadId.parse(head),
                *(probe, "word", 0.5, 0.4, 0.6, None, {"uniform": 0.1}, 0.4, 0.3, 0.001, status),
                *(None, None, None, (0.4, 0.4), 6),
            )
            for probe, statuses in roles.items()
            for head, status in statuses.items()
        ]
        write_jsonl(path, "tslens.head_score/1", OF_ROLES, (row.to_json() for row in rows))
        return path

    return write


@pytest.fixture
def of_neurons():
    """Writes a file as ``tslens neurons`` does: of each label a status for each of some neurons of layer 0."""
    from tslens.files import write_jsonl
    from tslens.types import NeuronId, NeuronRole

    def write(path, roles):
        rows = [
            NeuronRole(NeuronId(0, index), role, *[0.9] * 7, {}, 0.3, 0.001, status, None)
            for role, statuses in roles.items()
            for index, status in statuses.items()
        ]
        write_jsonl(path, "tslens.neuron_role/1", OF_ROLES, (row.to_json() for row in rows))
        return path

    return write
