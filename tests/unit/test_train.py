"""Training: exact batches, exact loss, exact resumption."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tslens.config import RECIPES, TrainConfig, train_config
from tslens.corpus.shards import import_corpus
from tslens.errors import UsageError
from tslens.model.batches import IGNORED, collate, cut_by_length, epoch_batches
from tslens.model.loss import CHUNK, evaluate, loss_per_target
from tslens.model.spec import ModelSpec
from tslens.model.transformer import TinyTransformer
from tslens.train.learner import Learner
from tslens.train.optimizer import Muon, Optimizers, orthogonalise, schedule


@pytest.fixture(scope="module")
def corpus(story_file, tmp_path_factory):
    return import_corpus(story_file, tmp_path_factory.mktemp("corpus"), vocab_size=300)


def config(**changes):
    return train_config(None, **{"model": "l1_h32", "seed": 0, "steps": 12, "batch_tokens": 512, **changes})


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
def test_loss_and_gradients_of_a_step_are_cross_entropy(tokenizer, n_stories):
    """Of what training runs; 30 stories are more positions than one chunk of the loss holds."""
    learner = Learner(config(precision="float64"), tokenizer, device="cpu")
    model, rng = learner.model, np.random.default_rng(0)
    batch = collate([rng.integers(0, tokenizer.vocab_size, rng.integers(5, 60)) for _ in range(n_stories)])
    assert n_stories == 1 or batch.targets.numel() > CHUNK
    loss = learner.gradients(batch, 1 / batch.n_targets)
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    expected = F.cross_entropy(
        model(batch.tokens).flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORED
    )
    expected.backward()
    assert float(loss) == pytest.approx(float(expected.detach()), abs=1e-12)
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
