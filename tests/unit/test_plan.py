"""Plans: the figures against counts made by hand, by torch and on the disk."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tslens.config import train_config
from tslens.corpus.shards import import_corpus
from tslens.errors import UsageError
from tslens.model.batches import collate, epoch_batches
from tslens.model.spec import ModelSpec
from tslens.model.transformer import TinyTransformer
from tslens.run_folder import RunFolder
from tslens.train import plan as plan_module
from tslens.train.cells import Cell
from tslens.train.flops import (
    flops_per_token,
    matmul_flops,
    mean_keys,
    mfu,
    params_in_products,
    peak_of,
)
from tslens.train.grid import grid_cells
from tslens.train.loop import train_model
from tslens.train.objective import Objective
from tslens.train.optimizer import Optimizers
from tslens.train.plan import (
    ASSUMED_MFU,
    LAYER_LAUNCH,
    STEP_LAUNCH,
    activation_bytes,
    disk_bytes,
    mean_batch,
    measure_pace,
    n_checkpoints,
    optimizer_bytes,
    plan_cells,
)


@pytest.fixture(scope="module")
def corpus(story_file, tmp_path_factory):
    return import_corpus(story_file, tmp_path_factory.mktemp("corpus"), vocab_size=300)


def config(**changes):
    return train_config(
        None,
        **{"model": "l2_h32", "seed": 0, "steps": 20, "batch_tokens": 512, "precision": "float32", **changes},
    )


# Operations -------------------------------------------------------------------------------------------------


def test_keys_are_those_that_a_query_has():
    lengths = np.array([1, 3])
    assert mean_keys(lengths) == (1 + 1 + 2 + 3) / 4
    assert mean_keys(lengths, window=2) == (1 + 1 + 2 + 2) / 4


def test_weights_in_products_are_all_but_those_looked_up_or_added():
    spec = ModelSpec.from_name("l3_h64_a2")
    model = TinyTransformer(spec, 70, seed=0)
    found = sum(p.numel() for name, p in model.named_parameters() if ".W_" in name and "W_pos" not in name)
    assert params_in_products(spec, 70) == found


@pytest.mark.parametrize("name", ["l1_h64", "l4_h64_a2"])
def test_operations_are_what_torch_counts(name):
    """A forward pass of the model on one story; torch counts full squares of attention, so they are taken apart."""
    spec, n_pos, d_vocab = ModelSpec.from_name(name), 200, 90
    model = TinyTransformer(spec, d_vocab, seed=0)
    for layer in range(spec.n_layers):
        model.add_hook(f"blocks.{layer}.attn.hook_pattern", lambda pattern, hook: pattern)
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, n_pos, dtype=torch.int64))
    squares = spec.n_layers * 4 * spec.d_model * n_pos
    keys = spec.n_layers * 4 * spec.d_model * (n_pos + 1) / 2
    expected = 3 * (counter.get_total_flops() / n_pos - squares + keys)
    assert flops_per_token(spec, d_vocab, np.array([n_pos])) == pytest.approx(expected)


def test_odd_layers_look_at_a_window():
    long = np.array([512])
    one, two = (flops_per_token(ModelSpec.from_name(name), 50, long) for name in ("l1_h32", "l2_h32"))
    matrices = 6 * 12 * 32**2
    assert one - 6 * 50 * 32 - matrices == pytest.approx(12 * 32 * 256.5)
    assert two - one - matrices == pytest.approx(12 * 32 * (256 * 257 / 2 + 256 * 256) / 512)


def test_the_share_of_a_peak():
    assert mfu(2e6, 1000.0, 8e9) == 0.25
    assert peak_of("NVIDIA A100-SXM4-80GB", "bfloat16") == 312e12
    assert peak_of("NVIDIA A100-SXM4-80GB", "float32") == 19.5e12
    assert peak_of("NVIDIA H100 80GB HBM3", "bfloat16") == 989e12
    assert peak_of("NVIDIA H100 PCIe", "bfloat16") == 756e12
    assert peak_of("Tesla V100-SXM2-16GB", "bfloat16") is None  # it has none
    assert peak_of("NVIDIA A10G", "bfloat16") == 70e12
    assert peak_of("NVIDIA A1000 Laptop GPU", "bfloat16") is None
    assert matmul_flops("cpu", "float32", seconds=0.0) > 0


# Sizes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["l1_h64", "l3_h128"])
def test_activations_are_what_torch_keeps(name, corpus):
    """Bytes of all different tensors that one batch saves for its backward pass, weights left out."""
    settings = config(model=name, batch_tokens=2048)
    model = TinyTransformer(ModelSpec.from_name(name), corpus.tokenizer.vocab_size, seed=0)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = (tensor, tensor.untyped_storage().nbytes())
        return tensor

    index = next(epoch_batches(corpus.train.lengths, batch_tokens=2048, seed=0, epoch=0))
    batch = collate([corpus.train[i] for i in index])
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        objective = Objective(model, precision="float32", compiled=False)
        objective(batch.tokens, batch.targets, 1.0)
    found = sum(size for pointer, (_, size) in kept.items() if pointer not in weights)
    share = batch.tokens.numel() / settings.batch_tokens
    assert found / share == pytest.approx(
        activation_bytes(settings, corpus.tokenizer.vocab_size, "cpu"), rel=0.3
    )


@pytest.mark.parametrize("recipe", ["muon", "paper"])
def test_moments_are_what_the_optimizer_holds(recipe):
    settings = config(recipe=recipe)
    model = TinyTransformer(ModelSpec.from_name(settings.model), 70, seed=0)
    optimizers = Optimizers(model, settings)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizers.step(0.1)
    held = sum(
        tensor.nbytes
        for optimizer in optimizers.all
        for state in optimizer.state.values()
        for tensor in state.values()
        if tensor.numel() > 1
    )
    assert held == optimizer_bytes(settings, 70)


def test_the_disk_is_what_a_run_takes(corpus, tmp_path):
    settings, run = config(), RunFolder(tmp_path / "run")
    plan = plan_cells([Cell(settings, run)], corpus, device="cpu")[0]
    result = train_model(settings, corpus, run)
    weights = list(run.checkpoints.glob("*.safetensors"))
    assert len(weights) == n_checkpoints(20)
    found = sum(path.stat().st_size for path in run.checkpoints.iterdir())
    assert plan.disk_bytes == disk_bytes(settings, corpus.tokenizer.vocab_size, n_steps=20)
    assert found == pytest.approx(plan.disk_bytes, rel=0.1)
    assert result.n_tokens == pytest.approx(plan.tokens, rel=0.1)
    assert plan.flops == pytest.approx(plan.flops_per_token * plan.tokens, rel=1e-3)
    assert plan.n_params == sum(
        p.numel()
        for p in TinyTransformer(
            ModelSpec.from_name("l2_h32"), corpus.tokenizer.vocab_size, seed=0
        ).parameters()
    )
    assert plan.n_embedding == (corpus.tokenizer.vocab_size + 512) * 32


def test_checkpoints_are_counted():
    assert n_checkpoints(1) == 3  # before, after, best
    assert n_checkpoints(20) == 8  # 0 1 2 4 8 16 20, best
    assert n_checkpoints(512) == 12
    assert n_checkpoints(3000) == 15  # and 1024, 2048, 3000


# Time -------------------------------------------------------------------------------------------------------


def test_a_pace_is_measured(corpus):
    assert measure_pace(config(), corpus, "cpu") > 0


def test_small_models_are_measured_and_large_ones_follow(corpus, tmp_path, monkeypatch):
    """With a machine of known speed: 10 GFLOP/s of products, of which a model reaches a tenth."""
    d_vocab, lengths = corpus.tokenizer.vocab_size, corpus.train.lengths
    monkeypatch.setattr(plan_module, "matmul_flops", lambda device, precision: 1e10)
    asked = []

    def pace(settings, *_):
        asked.append(settings.model)
        return 1e9 / flops_per_token(ModelSpec.from_name(settings.model), d_vocab, lengths)

    monkeypatch.setattr(plan_module, "measure_pace", pace)
    cells = grid_cells("layers=2,1 hidden=32,2048 seed=0,1", config(steps=None, tokens=1000), tmp_path)
    plans = plan_cells(cells, corpus, device="cpu")
    assert [plan.model for plan in plans] == [cell.config.model for cell in cells]
    assert asked == ["l1_h32", "l2_h32"]
    for plan in plans:
        assert plan.basis == ("measured" if plan.model in asked else "estimated")
        assert plan.seconds == pytest.approx(1000 * plan.flops_per_token / 1e9)
        assert plan.tokens == 1000


def test_minutes_have_no_total(corpus, tmp_path):
    plan = plan_cells([Cell(config(steps=None, minutes=2.0), RunFolder(tmp_path))], corpus, device="cpu")[0]
    assert plan.tokens is None and plan.flops is None
    assert plan.seconds == 120


def test_hours_of_a_gpu_that_is_not_here(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(plan_module, "measure_pace", None)  # nothing runs
    peaks = (
        ("a100", "auto", 312e12),
        ("a100", "float32", 19.5e12),
        ("h100", "bfloat16", 989e12),
        ("v100", "auto", 15.7e12),
    )
    for gpu, precision, peak in peaks:
        settings = config(steps=None, tokens=10**9, precision=precision)
        cells = grid_cells("paper", settings, tmp_path)
        plans = plan_cells(cells, corpus, device="cpu", gpu=gpu)
        assert len(plans) == 28
        for plan in plans:
            assert plan.basis == "data sheet"
            steps = plan.tokens / mean_batch(settings, corpus)
            launches = steps * (STEP_LAUNCH + LAYER_LAUNCH * ModelSpec.from_name(plan.model).n_layers)
            assert plan.seconds == pytest.approx(launches + plan.flops / (peak * ASSUMED_MFU))
    with pytest.raises(UsageError, match="b52") as caught:
        plan_cells(cells, corpus, device="cpu", gpu="b52")
    assert "a100" in caught.value.hint
