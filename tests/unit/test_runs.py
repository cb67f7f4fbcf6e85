"""Runs of a training: what they leave, and that a stopped one ends as if it had never stopped."""

import os
import signal
import subprocess
import sys
import time
import warnings

import pytest
import torch

from tslens.config import train_config
from tslens.corpus.shards import import_corpus
from tslens.errors import RunError
from tslens.files import locked, read_json, read_jsonl, write_json
from tslens.model.load import load_model
from tslens.model.loss import evaluate, loss_per_target
from tslens.model.ngram import NgramModel
from tslens.run_folder import METRICS_SCHEMA, RunFolder
from tslens.train.loop import train_model


@pytest.fixture(scope="module")
def corpus(story_file, tmp_path_factory):
    return import_corpus(story_file, tmp_path_factory.mktemp("corpus"), vocab_size=300)


def config(**changes):
    return train_config(None, **{"model": "l1_h32", "seed": 0, "steps": 12, "batch_tokens": 512, **changes})


def weights(run):
    return {name: tensor.clone() for name, tensor in load_model(run.path).state_dict().items()}


def test_a_run_folder_explains_itself(corpus, tmp_path):
    run = RunFolder(tmp_path / "run")
    result = train_model(config(steps=20), corpus, run, command="tslens train")
    assert result.steps == 20
    assert result.val is not None
    for path in (
        run.config,
        run.provenance,
        run.tokenizer,
        run.metrics,
        run.train_digests,
        run.state,
        run.done,
    ):
        assert path.exists(), path
    steps = sorted(int(p.stem.split("_")[1]) for p in run.checkpoints.glob("step_*.safetensors"))
    assert steps == [0, 1, 2, 4, 8, 16, 20]
    header, rows = read_jsonl(run.metrics, METRICS_SCHEMA)
    assert header["model"] == "l1_h32"
    assert set(rows[-1]) == {
        "step",
        "n_tokens",
        "split",
        "loss_nats",
        "bits_per_byte",
        "lr",
        "tokens_per_second",
    }
    with pytest.raises(RunError, match="finished"):
        train_model(config(steps=20), corpus, run, resume=True)


def test_it_learns(corpus, tmp_path):
    run = RunFolder(tmp_path / "run")
    result = train_model(config(steps=150), corpus, run)
    unigram = NgramModel.fit(corpus.train, vocab_size=corpus.tokenizer.vocab_size, order=1)
    yardstick = evaluate(unigram.losses, corpus.validation, corpus.tokenizer.n_bytes)
    assert result.val.loss_nats < 0.7 * yardstick.loss_nats


class _StoppedError(Exception):
    """Stands for a crash."""


def test_resuming_gives_the_weights_of_never_stopping(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("tslens.train.loop.LOG_STEPS", 10)
    whole, broken = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "broken")
    train_model(config(steps=40), corpus, whole)
    from tslens.train import loop

    monkeypatch.setattr(loop, "STATE_SECONDS", 0.0)
    monkeypatch.setattr(loop, "STATE_SHARE", 1e9)
    step = loop._Training._step

    def crash_after(n):
        def counted(self, *args):
            if self.counters.step == n:
                raise _StoppedError
            return step(self, *args)

        return counted

    for n, resume in ((7, False), (23, True)):
        monkeypatch.setattr(loop._Training, "_step", crash_after(n))
        with pytest.raises(_StoppedError):
            train_model(config(steps=40), corpus, broken, resume=resume)
    monkeypatch.setattr(loop._Training, "_step", step)
    with pytest.raises(RunError, match="unfinished"):
        train_model(config(steps=40), corpus, broken)
    train_model(config(steps=40), corpus, broken, resume=True)
    one, other = weights(whole), weights(broken)
    assert all(torch.equal(one[name], other[name]) for name in one)
    kept = [
        [(r["step"], r["split"], r["loss_nats"]) for r in read_jsonl(run.metrics, METRICS_SCHEMA)[1]]
        for run in (whole, broken)
    ]
    assert kept[0] == kept[1]
    assert [row[0] for row in kept[0] if row[1] == "train"] == [10, 20, 30, 40]


def test_a_run_that_is_killed_at_its_end_has_each_row_once(corpus, tmp_path, monkeypatch):
    from tslens.train.record import Record

    whole, broken = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "broken")
    train_model(config(steps=15), corpus, whole)

    def crash(*_):
        raise _StoppedError

    with monkeypatch.context() as patch, pytest.raises(_StoppedError):
        patch.setattr(Record, "finish", crash)
        train_model(config(steps=15), corpus, broken)
    train_model(config(steps=15), corpus, broken, resume=True)
    rows = [
        [(r["step"], r["split"], r["loss_nats"]) for r in read_jsonl(run.metrics, METRICS_SCHEMA)[1]]
        for run in (whole, broken)
    ]
    assert rows[0] == rows[1]
    assert (15, "train") in [row[:2] for row in rows[0]]  # what is left after the last full row of metrics


ONCE_MORE = pytest.mark.slow  # the suite of faults kills trainings too


@pytest.mark.parametrize("number", [pytest.param(signal.SIGKILL, marks=ONCE_MORE), signal.SIGINT])
def test_a_killed_process_resumes_bit_for_bit(corpus, tmp_path, number):
    whole, killed = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "killed")
    seconds = "0" if number == signal.SIGKILL else "1e9"  # Ctrl-C saves the state itself
    script = """
import sys
from pathlib import Path
from tslens.config import train_config
from tslens.corpus.shards import Corpus
from tslens.run_folder import RunFolder
from tslens.train import loop
loop.STATE_SECONDS = float(sys.argv[3])
loop.STATE_SHARE = 1e9
config = train_config(None, model="l1_h32", seed=0, steps=120, batch_tokens=512)
loop.train_model(config, Corpus(Path(sys.argv[1])), RunFolder(sys.argv[2]), resume=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(corpus.folder), str(killed.path), seconds],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 60
    while not killed.checkpoint(16).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    process.wait()
    assert not killed.done.exists()
    if number == signal.SIGINT:
        assert process.returncode == 0
        assert torch.load(killed.state, weights_only=True)["counters"]["step"] >= 16
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train_model(config(steps=120), corpus, killed, resume=True)
        train_model(config(steps=120), corpus, whole)
    finally:
        torch.set_num_threads(threads)
    one, other = weights(whole), weights(killed)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_folder_in_use_is_refused(corpus, tmp_path):
    run = RunFolder(tmp_path / "run")
    script = """
import sys, time
from pathlib import Path
from tslens.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", script, run.path], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(RunError, match="in use by another process"):
            train_model(config(), corpus, run)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    with locked(run.path):  # the lock died with its process
        pass


def test_other_settings_do_not_mix_into_a_run(corpus, tmp_path):
    run = RunFolder(tmp_path / "run")
    train_model(config(steps=2), corpus, run)
    with pytest.raises(RunError, match=r"other settings: budget 2 steps, not 3 steps\."):
        train_model(config(steps=3), corpus, run, resume=True)
    changed = config(steps=2, batch_tokens=999, momentum=0.5, clip=2.0, beta1=0.5, beta2=0.9)
    with pytest.raises(RunError, match=r"batch_tokens .*, not 999; .*; and 1 more") as caught:
        train_model(changed, corpus, run, resume=True)
    assert str(caught.value).count(", not ") == 4
    write_json(run.config, {**read_json(run.config), "corpus_sha256": "0", "tokenizer_sha256": "0"})
    with pytest.raises(RunError, match="other settings: other stories"):
        train_model(config(steps=2), corpus, run, resume=True)


def test_divergence_is_said(corpus, tmp_path):
    with pytest.raises(RunError, match="diverged"):
        train_model(config(steps=60, learning_rate=1e38), corpus, RunFolder(tmp_path / "run"))


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("how", ["cut", "flipped", "absent"])
def test_a_torn_state_falls_back_to_the_one_before(corpus, tmp_path, how, monkeypatch):
    whole, torn = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "torn")
    train_model(config(steps=30), corpus, whole)
    from tslens.train import loop

    monkeypatch.setattr(loop, "STATE_SECONDS", 0.0)
    monkeypatch.setattr(loop, "STATE_SHARE", 1e9)
    step = loop._Training._step

    def crash(self, *args):
        if self.counters.step == 20:
            raise _StoppedError
        return step(self, *args)

    monkeypatch.setattr(loop._Training, "_step", crash)
    with pytest.raises(_StoppedError):
        train_model(config(steps=30), corpus, torn)
    monkeypatch.setattr(loop._Training, "_step", step)
    data = bytearray(torn.state.read_bytes())
    if how == "absent":
        torn.state.unlink()
    else:
        data[len(data) // 2] ^= 1
        torn.state.write_bytes(data if how == "flipped" else data[: len(data) // 2])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        train_model(config(steps=30), corpus, torn, resume=True)
    told = [str(w.message) for w in said if "torn" in str(w.message)]
    assert len(told) == (0 if how == "absent" else 1)
    assert how == "absent" or "after step 19" in told[0]
    one, other = weights(whole), weights(torn)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_without_any_whole_state_a_run_is_refused(corpus, tmp_path):
    run = RunFolder(tmp_path / "run")
    train_model(config(steps=3), corpus, run)
    run.done.unlink()
    for path in (run.state, run.state_before):
        path.write_bytes(b"PK torn")
    with pytest.raises(RunError, match="no whole state"):
        train_model(config(steps=3), corpus, run, resume=True)
    assert run.state.exists() and run.state_before.exists()  # nothing is thrown away


def test_the_best_weights_are_kept(corpus, tmp_path):
    run = RunFolder(tmp_path / "run")
    train_model(config(steps=40), corpus, run)
    rows = [r for r in read_jsonl(run.metrics, METRICS_SCHEMA)[1] if r["split"] == "validation"]
    model = load_model(run.best)
    stories = [corpus.validation[i] for i in range(len(corpus.validation))]
    found = evaluate(lambda s: loss_per_target(model, s), stories, corpus.tokenizer.n_bytes)
    kept = min(r["loss_nats"] for r in rows if r["step"] >= 20)
    assert found.loss_nats == pytest.approx(kept, rel=1e-5)
