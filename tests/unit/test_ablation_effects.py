"""What ablations cost: the means are those of the ablated model's losses, and intervals keep their promise."""

import copy
import json

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from tslens.causal.ablation import LayerId, ablated, parse_component
from tslens.errors import DataError, ModelError, ProbeInputError, UsageError
from tslens.link.ablation_report import load_ablations, save_ablations
from tslens.link.effect_sizes import EffectSizes
from tslens.link.effects import CLASSES, ablate, next_classes
from tslens.link.groups import Group, every_head, every_layer, random_share, role_groups
from tslens.model.batches import IGNORED
from tslens.model.loss import loss_per_target
from tslens.probes.batch import batch_of_stories
from tslens.probes.strata import targets_of
from tslens.probes.units import LabelNeeds
from tslens.provenance import provenance
from tslens.types import HeadId, NeuronId, Story


@pytest.fixture(scope="module", autouse=True)
def no_parser():
    """Stories here have no labels; classes are of marks and words, whatever is installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tslens.link.effects.parser_is_missing", lambda: "there is none")
        yield


@pytest.fixture(scope="module")
def model(tiny_model):
    """Its head L1H2 writes nothing."""
    model = copy.deepcopy(tiny_model)
    with torch.no_grad():
        model.blocks[1].attn.W_O[2] = 0
    return model


@pytest.fixture(scope="module")
def report(model, stories):
    return ablate(model, stories, [*every_head(model), *every_layer(model, [1])], seed=0)


def losses(model, stories, components=()):
    """Loss of each target of each story."""
    rows = [model.tokenizer.encode_story(story.text) for story in stories]
    with torch.no_grad(), ablated(model, components):
        return loss_per_target(model, rows)


def test_the_mean_is_that_of_the_ablated_models_losses(model, stories, report):
    clean = losses(model, stories)
    assert report.loss_nats == pytest.approx(np.mean([one.mean() for one in clean]), abs=1e-5)
    assert report.n_stories == len(stories) and report.left_out
    for name in ("L0H0", "L1H3", "L1.attn", "L1"):
        without = losses(model, stories, [parse_component(name)])
        expected = np.mean([(a - b).mean() for a, b in zip(without, clean, strict=True)])
        row = report.of(name, "zero")
        assert row.effect.delta_loss_nats == pytest.approx(expected, abs=1e-5)
        assert abs(expected) > 1e-3
        assert row.effect.low < expected < row.effect.high
        assert row.effect.low_corrected < row.effect.low and row.effect.high < row.effect.high_corrected
    assert {(row.component, row.method) for row in report.rows} == {
        (name, method)
        for name in [*(f"L{i}H{j}" for i in range(2) for j in range(4)), "L1.attn", "L1.mlp", "L1"]
        for method in ("zero", "mean", "resample")
    }
    with pytest.raises(KeyError):
        report.of("L7", "zero")


def test_halves_and_classes_make_up_the_whole(model, stories):
    one = ablate(model, stories, [Group("L0", "component", ((LayerId(0),),))], seed=0, methods=["zero"])
    (row,) = one.rows
    assert min(row.halves) < row.effect.delta_loss_nats < max(row.halves)
    (alone,) = _warned(
        lambda: ablate(model, stories[:1], every_layer(model, [0])[2:], seed=0, methods=["zero"])
    ).rows
    (delta,) = (
        a - b
        for a, b in zip(losses(model, stories[:1], [LayerId(0)]), losses(model, stories[:1]), strict=True)
    )
    batch = batch_of_stories(stories[:1], model.tokenizer, n_ctx=512)
    classes = next_classes(batch, targets_of(batch, 512, has_ends=True))[0]
    assert set(alone.by_class) == {CLASSES[number] for number in set(classes.tolist())}
    for name, effect in alone.by_class.items():
        expected = delta[classes == CLASSES.index(name)].mean()
        assert effect.delta_loss_nats == pytest.approx(expected, abs=1e-5)
        assert effect.low is None and effect.p is None and effect.n_stories == 1  # of one story: no interval
    json.dumps(alone.to_json(), allow_nan=False)


def _warned(run):
    with pytest.warns(UserWarning, match="not to be trusted"):
        return run()


def test_classes_are_of_the_next_token(tokenizer):
    texts = ['Tom saw a kite. "Look!"', "Tom ran."]
    batch = batch_of_stories([Story(text) for text in texts], tokenizer, n_ctx=512)
    targets = targets_of(batch, 512, has_ends=True)
    found = next_classes(batch, targets)
    for row, text in enumerate(texts):
        length = int(batch.length[row])
        named = [CLASSES[number] for number in found[row, :length]]
        assert named[-1] == "end" and (found[row, length:] == -1).all()
        told = dict.fromkeys(CLASSES, "")
        shown = tokenizer.token_strings(targets[row, : length - 1].tolist())
        for token, name in zip(shown, named, strict=False):
            told[name] += token.strip()
        assert told["word"] == "".join(c for c in text if c.isalpha())
        closing, other = (('.!"', '"'), (".", ""))[row]
        assert told["closing"] == closing and told["PUNCT"] == other
    assert targets[1, int(batch.length[1])] == IGNORED


def test_parts_of_speech_are_of_the_storys_own_labels(tiny_model):
    from tslens.corpus.author import write_stories

    told = list(write_stories(3, seed=0))
    batch = batch_of_stories(told, tiny_model.tokenizer, n_ctx=512, labels=LabelNeeds(scheme=True))
    found = {
        CLASSES[number] for number in np.unique(next_classes(batch, targets_of(batch, 512, has_ends=True)))
    }
    assert {"NOUN", "VERB", "PRON", "DET", "closing"} <= found and "word" not in found
    report = _warned(
        lambda: ablate(tiny_model, told, every_head(tiny_model, [0])[:1], seed=0, methods=["mean"])
    )
    assert not report.left_out and report.rows[0].by_class["VERB"].n_stories == 3


def test_what_writes_nothing_costs_nothing(report):
    for method in ("zero", "mean", "resample"):
        effect = report.of("L1H2", method).effect
        assert effect.delta_loss_nats == effect.low == effect.high_corrected == 0 and effect.p == 1
    assert min(effect.p for effect in report.of("L1", "zero").by_class.values()) < 0.01


def test_the_only_head_that_writes_is_found_and_no_other(tiny_model, stories):
    model = copy.deepcopy(tiny_model)
    with torch.no_grad():
        for layer, block in enumerate(model.blocks):
            silent = [head for head in range(4) if (layer, head) != (0, 1)]
            block.attn.W_O[silent] = 0
    report = ablate(model, stories, every_head(model), seed=0)
    least = {}
    for row in report.rows:
        of_row = min(effect.p for effect in (row.effect, *row.by_class.values()))
        least[row.component] = min(of_row, least.get(row.component, 1))
    assert least.pop("L0H1") < 0.01 and set(least.values()) == {1}


def test_a_share_is_the_mean_over_its_draws(model, stories):
    share = random_share(model, 0.25, seed=0, n_draws=3)
    singles = [Group(f"draw {i}", "component", (draw,)) for i, draw in enumerate(share.draws)]
    report = ablate(model, stories, [share, *singles], seed=0, methods=["mean"])
    drawn = [report.of(f"draw {i}", "mean").effect.delta_loss_nats for i in range(3)]
    row = report.of("neurons:0.25", "mean")
    assert row.effect.delta_loss_nats == pytest.approx(np.mean(drawn))
    assert row.spread == pytest.approx(np.std(drawn, ddof=1)) and row.spread > 0
    assert row.n_components == 128 and report.rows[1].spread is None


def test_a_role_stands_beside_random_groups(model, stories):
    own = [NeuronId(0, 3), NeuronId(1, 5)]
    (role,) = role_groups(model, {"topic": own}, seed=0)
    singles = [Group(f"like {i}", "component", (draw,)) for i, draw in enumerate(role.like)]
    report = ablate(model, stories, [role, *singles], seed=0, methods=["zero", "resample"])
    for method in ("zero", "resample"):
        row = report.of("role:topic", method)
        like = np.mean([report.of(f"like {i}", method).effect.delta_loss_nats for i in range(3)])
        beyond = row.beyond_random
        assert beyond.delta_loss_nats == pytest.approx(row.effect.delta_loss_nats - like)
        assert beyond.low < beyond.delta_loss_nats < beyond.high
    assert report.members == {"role:topic": ["L0N3", "L1N5"]}
    assert report.rows[2].beyond_random is None


def test_methods_agree_as_scipy_says(report):
    assert [one.methods for one in report.agreement] == [
        ("zero", "mean"), ("zero", "resample"), ("mean", "resample"),
    ]  # fmt: skip
    for one in report.agreement:
        first, second = (
            [row.effect.delta_loss_nats for row in report.rows if row.method == method]
            for method in one.methods
        )
        assert one.spearman == pytest.approx(spearmanr(first, second).statistic)
        assert one.low <= one.spearman + 1e-9 and one.n_components == 11


def test_the_same_twice_and_another_way_to_resample(model, stories, report):
    groups = [*every_head(model), *every_layer(model, [1])]
    again = ablate(model, stories, groups, seed=0)
    assert again == report
    other = ablate(model, stories, groups, seed=1)
    pairs = [
        (one.effect.delta_loss_nats, two.effect.delta_loss_nats)
        for one, two in zip(report.rows, other.rows, strict=True)
        if one.component == "L1" and one.method != "resample"
    ]
    assert all(one == pytest.approx(two, abs=1e-9) for one, two in pairs)
    assert report.of("L1", "resample").effect != other.of("L1", "resample").effect


def test_rows_are_read_back(report, tmp_path):
    record = provenance(
        command="tslens ablate", seed=0, data="stories", data_sha256="0", started="now", seconds=1.0
    )
    path = tmp_path / "ablations.jsonl"
    save_ablations(report, path, model="tiny", checkpoint="none", record=record)
    header, rows = load_ablations(path)
    assert tuple(rows) == report.rows
    assert header["n_stories"] == 60 and header["agreement"][0]["methods"] == ["zero", "mean"]
    assert len(report.to_pandas()) == 33 and "L1.attn" in report._repr_html_()
    path.write_text('{"schema": "tslens.ablation/1"}\n{"component": "L0H0"}\n', encoding="utf-8")
    with pytest.raises(DataError, match="no row of ablations"):
        load_ablations(path)


def test_what_cannot_be_measured_is_refused(model, stories):
    groups = every_head(model)
    with pytest.raises(UsageError, match="nothing to ablate"):
        ablate(model, stories, [], seed=0)
    with pytest.raises(ProbeInputError, match="60 were training"):
        ablate(model, stories, groups, seed=0, exclude={story.digest for story in stories})
    with ablated(model, [HeadId(0, 1)]), pytest.raises(ModelError, match="has hooks"):
        ablate(model, stories, groups, seed=0)


# Intervals -------------------------------------------------------------------------------------------------


def test_corrected_intervals_all_hold_in_19_of_20_samples():
    """60 stories, 15 effects that share much of their noise, and three that a third of the stories say nothing of."""
    n_stories, truth = 60, np.linspace(-0.5, 0.5, 15)
    all_hold, each_holds = 0, []
    n_samples = 150
    for sample in range(n_samples):
        rng = np.random.default_rng(sample)
        shared = rng.standard_normal((n_stories, 1, 1))
        noise = 0.7 * shared + rng.standard_normal((n_stories, 2, 15))
        present = np.ones((n_stories, 2), dtype=bool)
        present[:, 1] = rng.random(n_stories) < 0.67
        clusters = [int(key) for key in rng.integers(1, 2**62, n_stories)]
        sizes = EffectSizes.of(truth + noise, present, clusters, seed=sample)
        effects = [sizes.effect(1, i) for i in range(15)]
        all_hold += all(
            one.low_corrected <= true <= one.high_corrected for one, true in zip(effects, truth, strict=True)
        )
        each_holds += [one.low <= true <= one.high for one, true in zip(effects, truth, strict=True)]
    assert 0.88 <= all_hold / n_samples <= 0.99
    assert 0.92 <= np.mean(each_holds) <= 0.975


def test_no_effect_is_seldom_found():
    """The corrected p-value of 20 effects that are none is below 0.05 for one of them in about 5% of samples."""
    n_found = 0
    for sample in range(150):
        rng = np.random.default_rng(1000 + sample)
        table, present = rng.standard_normal((50, 1, 20)), np.ones((50, 1), dtype=bool)
        sizes = EffectSizes.of(table, present, [int(key) for key in rng.integers(1, 2**62, 50)], seed=sample)
        n_found += min(sizes.effect(0, i).p for i in range(20)) < 0.05
    assert 1 <= n_found <= 20
