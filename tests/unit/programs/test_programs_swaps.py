"""Heads swapped for programs: each way is what it claims, and a head that needs its role is one."""

import numpy as np
import pytest
import torch

from tslens.errors import ModelError, ProbeInputError
from tslens.model.spec import ModelSpec
from tslens.model.transformer import TinyTransformer
from tslens.probes.base import find_probes
from tslens.probes.batch import batch_of_stories
from tslens.probes.programs.fit import fit_programs
from tslens.probes.programs.roles import Role
from tslens.probes.programs.score import score_programs
from tslens.probes.programs.swaps import METHODS, SwapPatterns, read_swaps, readouts
from tslens.probes.programs.verdict import AGAINST
from tslens.probes.units import KIND
from tslens.types import HeadId

pytestmark = pytest.mark.filterwarnings("ignore:.*intervals are too narrow:UserWarning")
N_CTX = 512
UNLABELLED = ["previous_token", "duplicate_token", "sentence_end", "first_token", "distance_3_4", "induction"]
COPIES = Role("duplicate_token", "word")
POSITIONAL = frozenset(Role(name, "word") for name in UNLABELLED if find_probes()[name].basis == "positional")


# Swaps --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny_fits(tiny_model, texts):
    return fit_programs(tiny_model, texts[:2], POSITIONAL)


ROLES = {HeadId(0, 0): COPIES, HeadId(1, 2): Role("sentence_end", "word")}


@pytest.fixture(scope="module")
def patterns(tiny_model, texts, tiny_fits):
    return SwapPatterns(tiny_model, texts[2], tiny_fits, ROLES, None, seed=[0, 1])


@pytest.mark.parametrize("method", [method for method in METHODS if method not in ("zero", "tokens")])
def test_every_method_gives_patterns(patterns, method, texts):
    for layer in (0, 1):
        pattern = patterns.of(method, layer)
        real = torch.from_numpy(texts[2].batch.is_token)
        sums = pattern.sum(-1).transpose(0, 1)[:, real]
        assert torch.allclose(sums, torch.ones_like(sums), atol=1e-4)
        assert not pattern.triu(1).any() and (pattern >= 0).all()


def test_what_the_methods_are(tiny_model, patterns, texts, tiny_fits):
    text = texts[2]
    true = [pattern.clone() for pattern in tiny_model.attention_patterns(text.tokens)]
    assert not patterns.of("zero", 0).any()
    shuffled = patterns.of("shuffled", 1)
    assert torch.allclose(shuffled.sort(-1).values, true[1].sort(-1).values, atol=1e-6)
    assert (shuffled - true[1]).abs().max() > 0.05
    mean = patterns.of("mean", 0)
    assert torch.equal(mean[0], mean[3])
    by_hand = torch.cat(
        [next(iter(tiny_model.attention_patterns(other.tokens)))[:, 1, 9, :10] for other in texts[:2]]
    )
    assert torch.allclose(mean[0, 1, 9, :10], by_hand.mean(0), atol=1e-5)
    role = patterns.of("role", 1)
    assert torch.equal(role[:, 0], true[1][:, 0]) and not torch.equal(role[:, 2], true[1][:, 2])
    other, length = patterns.of("other", 0), torch.from_numpy(text.batch.length)
    for row in range(len(length)):
        same = [
            candidate for candidate in range(len(length))
            if candidate != row
            and torch.equal(other[row, :, : length[candidate]], true[0][candidate][:, : length[candidate]])
        ]  # fmt: skip
        assert len(same) == 1
        beyond = other[row, :, length[same[0]] :]
        assert torch.equal(beyond, mean[row, :, length[same[0]] :])


def test_losses_of_swaps(tiny_model, texts, tiny_fits):
    groups = {
        "labelled": list(ROLES),
        "all": [HeadId(layer, head) for layer in (0, 1) for head in range(4)],
        "none": [],
    }
    read = read_swaps(tiny_model, texts[2:3], tiny_fits, ROLES, groups, None, seed=0)
    n_stories = len(texts[2].batch.length)
    assert read.clean.shape == (n_stories, 4) and (read.clean[:, 0] > 0).all()
    assert np.isnan(read.clean[:, 1:3]).all()  # without labels nobody knows a name
    assert set(read.groups) == {(g, m) for g in ("labelled", "all") for m in METHODS if m != "tokens"} - {
        ("all", "role")
    }
    assert {head for head, method in read.one if method == "role"} == set(ROLES)
    assert len({head for head, method in read.one if method == "mean"}) == 8
    with_steps = {head for head in groups["all"] if tiny_fits[head.layer].composed[head.index].steps}
    assert {head for head, method in read.one if method == "profile"} == with_steps
    assert {m for h, m in read.one if h == HeadId(0, 1)} >= {
        "program",
        "other",
        "shuffled",
        "uniform",
        "zero",
    }
    assert all(values.shape == (n_stories, 5) for values in read.one.values())
    shuffled = read.one[HeadId(1, 1), "shuffled"]
    assert np.isfinite(shuffled[:, 0]).all() and np.isnan(shuffled[:, 1:3]).all()
    assert np.isfinite(shuffled[:, 3]).any() and not np.allclose(
        shuffled[:, 0], shuffled[:, 3], equal_nan=True
    )
    assert np.abs(read.groups["all", "zero"][:, 0]).max() > 0.01


def test_readouts_are_where_the_next_token_is_one(gold_batch):
    every, names, pronouns, closing = readouts(gold_batch)
    assert every.all()
    row, pos = closing.nonzero()
    assert gold_batch.sentence_end[row, pos + 1].all() and len(row) == gold_batch.sentence_end[:, 1:].sum()
    units = gold_batch.units
    for flag, part in ((names, "PROPN"), (pronouns, "PRON")):
        expected = {
            (r, int(units.first[r, u]) - 1)
            for r, u in zip(*(units.kind == KIND[part]).nonzero(), strict=True)
        }
        assert set(zip(*map(np.ndarray.tolist, flag.nonzero()), strict=True)) == expected


# Whole ------------------------------------------------------------------------------------------------------


def test_a_whole_model_with_swaps(tiny_model, stories, score_of):
    options = {"seed": 0, "probes": UNLABELLED, "n_tokens": 0, "n_swap": 12, "exclude": ()}
    steps = []
    report = score_programs(
        tiny_model, stories[:30], scores=[score_of(HeadId(0, 0), "sentence_end", "role")],
        progress=lambda what, n: steps.append(what), **options,
    )  # fmt: skip
    assert {"fitting", "reading", "twins", "swapping"} <= set(steps) and "tokens" not in steps
    assert {row.group for row in report.groups} == {"best quarter", "labelled", "all"}
    assert report.clean["all"] > 0 and "names" not in report.clean and "closing marks" in report.clean
    assert report.swap("all", "uniform")["all"].low <= report.swap("all", "uniform")["all"].value
    assert not report.swap("all", "role") and report.swap("labelled", "role")
    mean, program, saved = (
        report.swap("all", method)["all"] for method in ("mean", "program", "mean - program")
    )
    assert saved.value == pytest.approx(mean.value - program.value) and saved.low <= saved.value <= saved.high
    for head in report.heads:
        saved = head.effect("uniform").value - head.effect("program").value
        assert head.cause["uniform"] == pytest.approx(saved) and head.cause["uniform_low"] <= saved
        if (
            head.score("composed").program == "profile"
        ):  # which is the profile, so nothing is saved against it
            assert head.effect("profile") is None and head.cause["profile"] == head.cause["profile_low"] == 0
            assert head.status != "role"
        assert head.score("tokens") is None
    again = score_programs(
        tiny_model, stories[:30], scores=[score_of(HeadId(0, 0), "sentence_end", "role")], **options
    )
    assert again == report


def attending_to_sentence_ends(tokenizer, stories):
    """One layer whose head 0 looks at the nearest closing mark, and raises a wrong token by what it sees elsewhere."""
    batch = batch_of_stories(stories, tokenizer, n_ctx=N_CTX)
    marks = np.unique(batch.tokens[batch.sentence_end])
    wrong = int(np.setdiff1d(np.arange(tokenizer.vocab_size), batch.tokens)[0])
    model = TinyTransformer(ModelSpec.from_name("l1_h64"), tokenizer.vocab_size, seed=0, tokenizer=tokenizer)
    attn = model.blocks[0].attn
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "ln" not in name:
                parameter.zero_()
        model.pos_embed.W_pos[:, 60] = 8  # the same everywhere: it makes the scale, and the queries
        model.pos_embed.W_pos[:, 62] = torch.arange(N_CTX) / N_CTX
        model.embed.W_E[marks, 61] = 1
        model.embed.W_E[wrong, 63] = 1.5
        attn.W_Q[0, 60, 0], attn.W_K[0, 61, 0], attn.W_K[0, 62, 0] = 1, 4, 20
        attn.W_V[0, 60, 0], attn.W_V[0, 61, 0], attn.W_O[0, 0, 63] = 1 / 8, -1, 8
    return model.eval()


def test_a_head_that_needs_its_role_is_one(tokenizer, stories):
    """From weights to status: the program beats every other pattern; the heads beside it do nothing."""
    model = attending_to_sentence_ends(tokenizer, stories)
    options = {"seed": 0, "probes": UNLABELLED, "n_tokens": 0, "exclude": ()}
    report = score_programs(model, stories, n_swap=40, **options)
    looking, *idle = report.heads
    assert looking.status == "role" and report.statuses["role"] == 1
    assert looking.score("composed").program.startswith("profile + sentence_end 1.00")
    assert all(looking.cause[f"{method}_low"] > 0.5 for method in AGAINST)
    assert all(head.status == "no" and abs(head.effect("uniform").value) < 1e-5 for head in idle)
    saved = looking.effect("profile - program", "closing marks")
    assert 0 < saved.low <= saved.value < looking.effect("profile", "closing marks").value
    assert looking.effect("other").value > looking.effect("program").value


def test_few_stories_are_warned_of(tiny_model, stories):
    with pytest.warns(UserWarning, match="Only .* stories are read; below 30 intervals are too narrow"):
        score_programs(tiny_model, stories[:30], seed=0, probes=["previous_token"], n_tokens=0, n_swap=0)


def test_stories_that_are_too_few_and_models_that_cannot_read(tiny_model, stories, tokenizer):
    with pytest.raises(ProbeInputError, match="needed on either half"):
        score_programs(tiny_model, stories[:8], seed=0, probes=UNLABELLED)
    mute = TinyTransformer(ModelSpec.from_name("l1_h64"), tokenizer.vocab_size, seed=0)
    with pytest.raises(ModelError, match="no tokenizer"):
        score_programs(mute, stories, seed=0)
