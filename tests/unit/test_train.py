"""Training: exact batches, exact loss, exact resumption."""

import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tslens.config import RECIPES, TrainConfig, train_config
from tslens.corpus.shards import import_corpus
from tslens.errors import RunError, UsageError
from tslens.files import METRICS_SCHEMA, RunFolder, locked, read_jsonl
from tslens.model.batches import IGNORED, collate, cut_by_length, epoch_batches
from tslens.model.load import load_model
from tslens.model.loss import evaluate, loss_per_target, next_token_loss
from tslens.model.ngram import NgramModel
from tslens.model.spec import ModelSpec
from tslens.model.transformer import TinyTransformer
from tslens.train.loop import train_model
from tslens.train.optimizer import Muon, Optimizers, orthogonalise, schedule


@pytest.fixture(scope="module")
def corpus(story_file, tmp_path_factory):
    return import_corpus(story_file, tmp_path_factory.mktemp("corpus"), vocab_size=300)


def config(**changes):
    return train_config(None, **{"model": "l1_h32", "seed": 0, "steps": 12, "batch_tokens": 512, **changes})


def weights(run):
    return {name: tensor.clone() for name, tensor in load_model(run.path).state_dict().items()}


# Batches --------------------------------------------------------------------------------------------------


def test_an_epoch_holds_every_story_once_within_the_budget():
    lengths = np.random.default_rng(0).integers(5, 300, 500)
    batches = list(epoch_batches(lengths, batch_tokens=1000, seed=1, epoch=0))
    assert sorted(np.concatenate(batches)) == list(range(500))
    assert max(len(batch) * lengths[batch].max() for batch in batches) <= 1000
    again = list(epoch_batches(lengths, batch_tokens=1000, seed=1, epoch=0))
    assert all(np.array_equal(one, two) for one, two in zip(batches, again, strict=True))
    other = list(epoch_batches(lengths, batch_tokens=1000, seed=1, epoch=1))
    assert not np.array_equal(np.concatenate(batches), np.concatenate(other))


def test_a_story_longer_than_the_budget_is_a_batch_of_its_own():
    assert [b.tolist() for b in cut_by_length(np.array([10, 900, 20]), 100)] == [[1], [0, 2]]


def test_padding_is_small_on_real_lengths():
    lengths = np.random.default_rng(0).gamma(6, 33, 5000).astype(int).clip(20, 512)
    batches = list(epoch_batches(lengths, batch_tokens=4096, seed=0, epoch=0))
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert padded < 1.03 * lengths.sum()


def test_rows_hold_one_story_and_its_end():
    batch = collate([np.array([0, 5, 6, 0]), np.array([0, 7, 0])])
    assert batch.targets.tolist() == [[5, 6, 0], [7, 0, IGNORED]]
    assert batch.tokens[0].tolist() == [0, 5, 6]
    assert batch.tokens[1, :2].tolist() == [0, 7]
    assert batch.n_targets == 5


def test_a_story_does_not_see_the_others_of_its_batch(tiny_model):
    one, other = np.array([0, 5, 6, 9, 0]), np.arange(60) % 50
    alone = loss_per_target(tiny_model, [one])[0]
    beside = loss_per_target(tiny_model, [one, other])[0]
    np.testing.assert_allclose(alone, beside, atol=1e-5)


# Loss -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_stories", [1, 30])
def test_the_chunked_loss_and_its_gradient_are_cross_entropy(n_stories):
    model = TinyTransformer(ModelSpec.from_name("l1_h32"), 70, seed=0).double()
    rng = np.random.default_rng(0)
    batch = collate([rng.integers(0, 70, rng.integers(5, 60)) for _ in range(n_stories)])
    loss = next_token_loss(model, batch.tokens, batch.targets)
    loss.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    expected = F.cross_entropy(
        model(batch.tokens).flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORED
    )
    expected.backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-12)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, atol=1e-12, rtol=1e-9)


def test_losses_sum_to_nats_and_bytes(tiny_model, stories, tokenizer):
    encoded = [tokenizer.encode_story(story.text) for story in stories[:5]]
    report = evaluate(lambda group: loss_per_target(tiny_model, group), encoded, tokenizer.n_bytes)
    assert report.n_bytes == sum(len(story.text.encode()) for story in stories[:5])
    assert report.n_targets == sum(len(story) - 1 for story in encoded)
    assert report.bits_per_byte == pytest.approx(report.nats / np.log(2) / report.n_bytes)


def test_the_schedule_rises_and_ends_at_zero():
    settings = config()
    assert schedule(settings, 0.0) == 0.0
    assert schedule(settings, settings.warmup) == pytest.approx(1.0)
    assert schedule(settings, 0.51) == pytest.approx(0.5)
    assert schedule(settings, 1.0) == 0.0


@pytest.mark.parametrize("shape", [(40, 40), (20, 80), (80, 20)])
def test_orthogonalised_matrices_move_every_direction_alike(shape):
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    found = orthogonalise(matrices)
    for matrix, direction in zip(matrices, found, strict=True):
        values = torch.linalg.svdvals(direction)
        assert values.max() < 1.2
        assert values.median() > 0.8
        assert (
            shape[0] == shape[1] or values.min() > 0.8
        )  # a square matrix may have a direction of almost nothing
        u, _, v = torch.linalg.svd(matrix, full_matrices=False)
        assert float((direction * (u @ v)).sum() / min(shape)) == pytest.approx(1, abs=0.1)
        torch.testing.assert_close(orthogonalise(matrix), direction, atol=1e-4, rtol=1e-4)
        rounded = torch.linalg.svdvals(orthogonalise(matrix, torch.bfloat16))
        assert rounded.max() < 1.25


def test_muon_steps_along_the_orthogonal_matrix_of_all_heads():
    """One step of every kind of matrix, its own layer's, held against the definition."""
    torch.manual_seed(0)
    shapes = {"W_Q": (4, 16, 4), "W_O": (4, 4, 16), "W_in": (16, 64), "W_out": (64, 16)}
    parameters = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes.values()]
    before = [p.detach().clone() for p in parameters]
    gradients = [torch.randn(shape) for shape in shapes.values()]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    muon = Muon(parameters, list(shapes), momentum=0.95, decay=0.1)
    muon.param_groups[0]["lr"] = 0.01
    muon.step()
    for leaf, old, new, gradient in zip(shapes, before, parameters, gradients, strict=True):
        joined = {"W_Q": lambda x: x.permute(1, 0, 2).reshape(16, 16), "W_O": lambda x: x.reshape(16, 16)}
        flat = joined.get(leaf, lambda x: x)
        direction = orthogonalise(flat(gradient))
        scale = 2.0 if leaf == "W_in" else 1.0  # the square root of outputs over inputs
        expected = flat(old) * (1 - 0.01 * 0.1) - 0.01 * scale * direction
        torch.testing.assert_close(flat(new.detach()), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_parameter_trains_in_every_recipe(recipe):
    model = TinyTransformer(ModelSpec.from_name("l2_h32"), 70, seed=0)
    settings = replace(
        train_config(None, model="l2_h32", seed=0, steps=9, recipe=recipe), precision="float32"
    )
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    Optimizers(model, settings).step(1.0)
    for name, parameter in model.named_parameters():
        assert not torch.equal(before[name], parameter), name
        assert parameter.grad is None


def test_the_paper_recipe_is_the_cards():
    settings = train_config(None, model="l1_h32", seed=0, steps=10, recipe="paper")
    assert (settings.learning_rate, settings.weight_decay) == (5e-4, 0.1)
    assert (settings.beta1, settings.beta2) == (0.9, 0.95)
    assert [schedule(settings, at) for at in (0.0, 0.5, 0.99)] == [1.0, 1.0, 1.0]
    resumed = train_config(
        {**settings.to_json(), "learning_rate": 3e-4}, model="l1_h32", seed=0, recipe="paper"
    )
    assert resumed.learning_rate == 3e-4  # what was given when the run began


# Settings -------------------------------------------------------------------------------------------------


def test_settings_refuse_what_cannot_be_meant():
    with pytest.raises(UsageError, match="Two budgets"):
        train_config(None, model="l1_h32", seed=0, steps=3, minutes=1.0)
    with pytest.raises(UsageError, match="no setting"):
        TrainConfig.from_json({"model": "l1_h32", "budget": "steps", "amount": 1, "seed": 0, "nesterov": 1})
    with pytest.raises(UsageError, match="trains nothing"):
        config(steps=0)


# Runs -----------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_resumes_bit_for_bit(corpus, tmp_path, number):
    whole, killed = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "killed")
    seconds = "0" if number == signal.SIGKILL else "1e9"  # Ctrl-C saves the state itself
    script = """
import sys
from pathlib import Path
from tslens.config import train_config
from tslens.corpus.shards import Corpus
from tslens.files import RunFolder
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
    with pytest.raises(RunError, match="other settings"):
        train_model(config(steps=3), corpus, run, resume=True)


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


def test_the_best_weights_are_kept(corpus, tmp_path):
    run = RunFolder(tmp_path / "run")
    train_model(config(steps=40), corpus, run)
    rows = [r for r in read_jsonl(run.metrics, METRICS_SCHEMA)[1] if r["split"] == "validation"]
    model = load_model(run.best)
    stories = [corpus.validation[i] for i in range(len(corpus.validation))]
    found = evaluate(lambda s: loss_per_target(model, s), stories, corpus.tokenizer.n_bytes)
    kept = min(r["loss_nats"] for r in rows if r["step"] >= 20)
    assert found.loss_nats == pytest.approx(kept, rel=1e-5)
