"""More processes than one take the steps of one; compiled steps are the steps that are not."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from tslens.config import train_config
from tslens.corpus.shards import import_corpus
from tslens.errors import RunError
from tslens.files import read_jsonl
from tslens.model.load import load_model
from tslens.model.spec import ModelSpec
from tslens.model.transformer import TinyTransformer
from tslens.run_folder import METRICS_SCHEMA, RunFolder
from tslens.train.distribute import World
from tslens.train.feed import batch_shares
from tslens.train.loop import train_model
from tslens.train.objective import Objective, resolve_precision

SCRIPT = """
import sys
from pathlib import Path
from tslens.config import TrainConfig
from tslens.corpus.shards import Corpus
from tslens.run_folder import RunFolder
from tslens.train import loop
import json
loop.LOG_STEPS = int(sys.argv[4])
loop.STATE_SECONDS, loop.STATE_SHARE = 0.0, 1e9
step, crash_at = loop._Training._step, int(sys.argv[5])
def crash(self, *args):
    if self.counters.step == crash_at:
        raise SystemExit(9)
    return step(self, *args)
loop._Training._step = crash
settings = TrainConfig.from_json(json.loads(sys.argv[3]))
loop.train_model(settings, Corpus(Path(sys.argv[1])), RunFolder(sys.argv[2]), resume=True)
tasks = Path("/proc/self/task")
alive = [(task / "comm").read_text() for task in tasks.iterdir()] if tasks.exists() else []
assert not any("gloo" in name for name in alive), alive  # outliving Python, they abort
"""


@pytest.fixture(scope="module")
def corpus(story_file, tmp_path_factory):
    return import_corpus(story_file, tmp_path_factory.mktemp("corpus"), vocab_size=300)


def config(**changes):
    settings = train_config(None, model="l2_h32", seed=0, **{"steps": 14, "batch_tokens": 300, **changes})
    return replace(settings, precision="float64")


def run_together(corpus, run, settings, n=2, *, log_steps=1, crash_at=-1):
    """Run the script in ``n`` processes, as torchrun does; ``crash_at``: after so many steps all end."""
    script = run.path.parent / "run.py"
    script.write_text(SCRIPT)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        str(n),
        "--master-port",
        "0",
    ]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    arguments = [str(script), str(corpus.folder), str(run.path), json.dumps(settings.to_json())]
    arguments += [str(log_steps), str(crash_at)]
    return subprocess.run(
        command + arguments,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
    )


def losses(run):
    return [(r["step"], r["split"], r["loss_nats"]) for r in read_jsonl(run.metrics, METRICS_SCHEMA)[1]]


LOGGED = 2  # steps of a row of metrics: a run stopped after an odd number is between two rows


@pytest.fixture(scope="module")
def alone(corpus, tmp_path_factory):
    """The run of one process."""
    run = RunFolder(tmp_path_factory.mktemp("alone") / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tslens.train.loop.LOG_STEPS", LOGGED)
        train_model(config(), corpus, run)
    return run


@pytest.fixture(scope="module")
def together(corpus, tmp_path_factory):
    """The run of two processes that nothing stopped."""
    run = RunFolder(tmp_path_factory.mktemp("together") / "run")
    done = run_together(corpus, run, config(), log_steps=LOGGED)
    assert done.returncode == 0, done.stderr
    return run


def test_two_processes_give_the_losses_of_one(alone, together):
    one, two = load_model(alone.path), load_model(together.path)
    for name, tensor in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[name], tensor, atol=1e-5, rtol=0)
    assert len(losses(alone)) >= 17  # a row of training every second step, evaluations
    for first, second in zip(losses(alone), losses(together), strict=True):
        assert first[:2] == second[:2]
        assert second[2] == pytest.approx(first[2], abs=1e-5)


class _StoppedError(Exception):
    """Stands for a crash."""


RESUMED = (
    pytest.mark.slow
)  # runs of one process are killed and resumed in test_runs and in the suite of faults


@RESUMED
def test_two_processes_resume(corpus, alone, tmp_path, monkeypatch):
    """A run that one process began and left unfinished, brought to its end by two."""
    from tslens.train import loop

    stopped = RunFolder(tmp_path / "stopped")
    step = loop._Training._step

    def crash(self, *args):
        if self.counters.step == 6:
            raise _StoppedError
        return step(self, *args)

    with monkeypatch.context() as patch, pytest.raises(_StoppedError):
        patch.setattr(loop._Training, "_step", crash)
        patch.setattr(loop, "STATE_SECONDS", 0.0)
        patch.setattr(loop, "STATE_SHARE", 1e9)
        train_model(config(), corpus, stopped)
    done = run_together(corpus, stopped, config())
    assert done.returncode == 0, done.stderr
    one, other = load_model(alone.path).state_dict(), load_model(stopped.path).state_dict()
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, atol=1e-5, rtol=0)


@RESUMED
def test_losses_of_two_processes_go_on_after_a_kill(corpus, together, tmp_path):
    """Two processes stopped between two rows of metrics and resumed: the rows of two that were never stopped."""
    stopped = RunFolder(tmp_path / "stopped")
    assert run_together(corpus, stopped, config(), log_steps=LOGGED, crash_at=7).returncode != 0
    assert stopped.state.exists() and not stopped.done.exists()
    done = run_together(corpus, stopped, config(), log_steps=LOGGED)
    assert done.returncode == 0, done.stderr
    for first, second in zip(losses(together), losses(stopped), strict=True):
        assert first[:2] == second[:2]
        assert second[2] == pytest.approx(first[2], abs=1e-12)


def test_processes_share_the_rows_of_each_batch(corpus):
    settings = config()
    device = torch.device("cpu")
    alone = batch_shares(corpus.train, settings, World(), device, epoch=0, used=0)
    shares = [batch_shares(corpus.train, settings, World(r, 3), device, epoch=0, used=0) for r in range(3)]
    for _ in range(2 * len(corpus.train)):
        whole = next(alone)
        parts = [next(share) for share in shares]
        assert {(p.epoch, p.used, p.n_targets) for p in parts} == {(whole.epoch, whole.used, whole.n_targets)}
        counted = sum(int((p.rows.targets != -100).sum()) for p in parts)
        assert counted == whole.n_targets
    for feed in (alone, *shares):
        feed.close()


# Precision, compilation -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler: nothing can be compiled")
@pytest.mark.filterwarnings("ignore")
def test_compiled_steps_are_the_same_steps():
    """Rows of several shapes through one compiled model: losses and gradients as without."""
    spec = ModelSpec.from_name("l1_h32")
    models = [TinyTransformer(spec, 70, seed=0) for _ in range(2)]
    plain, compiled = (
        Objective(model, precision="float32", compiled=is_compiled)
        for model, is_compiled in zip(models, (False, True), strict=True)
    )
    for rows, pos in ((3, 20), (2, 300), (5, 11)):
        tokens = torch.randint(0, 70, (rows, pos), generator=torch.Generator().manual_seed(pos))
        found = []
        for objective in (plain, compiled):
            objective.zero_grad()
            loss = objective(tokens, tokens, 1 / tokens.numel())
            loss.backward()
            found.append(loss.detach())
        torch.testing.assert_close(*found, atol=1e-5, rtol=1e-5)
        for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad, atol=1e-5, rtol=1e-3)


def test_bfloat16_products_give_about_the_same_gradients():
    model = TinyTransformer(ModelSpec.from_name("l2_h64"), 300, seed=0)
    tokens = torch.randint(0, 300, (4, 60), generator=torch.Generator().manual_seed(0))
    gradients = []
    for precision in ("float32", "bfloat16"):
        objective = Objective(model, precision=precision, compiled=False)
        objective.zero_grad()
        objective(tokens, tokens, 1 / tokens.numel()).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
        assert all(p.grad.dtype == torch.float32 for p in model.parameters())
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.99


def test_the_precision_of_a_run_is_written_down(corpus, tmp_path):
    run = RunFolder(tmp_path / "run")
    settings = replace(config(steps=2), precision="auto")
    train_model(settings, corpus, run)
    written = json.loads(run.config.read_text())["precision"]
    assert written == resolve_precision("auto", "cpu") != "auto"
    with pytest.raises(RunError, match="finished"):  # the same settings, not others
        train_model(settings, corpus, run, resume=True)


def test_tensorboard_gets_the_metrics(corpus, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = RunFolder(tmp_path / "run")
    train_model(config(steps=10), corpus, run, tensorboard=True)
    board = accumulator.EventAccumulator(str(run.path / "tensorboard"))
    board.Reload()
    shown = [(event.step, event.value) for event in board.Scalars("validation/loss_nats")]
    rows = [(r[0], pytest.approx(r[2], rel=1e-6)) for r in losses(run) if r[1] == "validation"]
    assert shown == rows


def test_the_command_under_torchrun_speaks_once(story_file, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "-m", "tslens"]
    train = [
        "train",
        "--model",
        "l1_h32",
        "--data",
        str(story_file),
        "--steps",
        "3",
        "--vocab-size",
        "300",
        "--json",
    ]
    done = subprocess.run(
        command + train,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 3
    assert done.stderr.count("tslens train: l1_h32") == 1
