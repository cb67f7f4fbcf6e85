"""Programs of roles: patterns made by hand are read back, numbers follow their formulas, swaps are what they claim."""

import math

import numpy as np
import pytest
import torch

import tslens
from tslens.errors import DataError, ModelError, ProbeInputError
from tslens.model.spec import ModelSpec
from tslens.model.transformer import TinyTransformer
from tslens.probes.base import Calibration, Probe, choose_probes, find_probes
from tslens.probes.batch import batch_of_stories, batch_of_tokens
from tslens.probes.profile import n_slots
from tslens.probes.programs.compose import SPREADS, Gains, query_weights
from tslens.probes.programs.estimates import twins_threshold
from tslens.probes.programs.fit import fit_programs
from tslens.probes.programs.likeness import Likeness, divergence, intersection_over_union, jensen_shannon
from tslens.probes.programs.pattern import (
    Canvas,
    DistanceTable,
    Program,
    Step,
    by_query,
    by_row,
    n_bands,
    with_step,
)
from tslens.probes.programs.report import Estimate, ProgramScore, perplexity
from tslens.probes.programs.results import load_programs, save_programs
from tslens.probes.programs.roles import Role, RoleText, after_copies, readable
from tslens.probes.programs.score import roles_of, score_programs
from tslens.probes.programs.swaps import METHODS, SwapPatterns, read_swaps, readouts
from tslens.probes.programs.verdict import AGAINST, status_of
from tslens.probes.units import KIND, LabelNeeds
from tslens.types import HeadId, HeadScore, Provenance

pytestmark = pytest.mark.filterwarnings("ignore:.*intervals are too narrow:UserWarning")
N_CTX = 512
COPIES = Role("duplicate_token", "word")
UNLABELLED = ["previous_token", "duplicate_token", "sentence_end", "first_token", "distance_3_4", "induction"]


def random_rows(*shape, seed=0, sharp=2.0):
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return (sharp * noise).softmax(-1)


# How like two patterns are -----------------------------------------------------------------------------------


def test_likeness_by_hand():
    p, q = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.5, 0.25, 0.25])
    assert intersection_over_union(p, q) == pytest.approx(0.75 / 1.25)
    m = [0.5, 0.375, 0.125]
    js = 0.5 * sum(a * math.log2(a / b) for a, b in zip(p.tolist(), m, strict=True) if a) + 0.5 * sum(
        a * math.log2(a / b) for a, b in zip(q.tolist(), m, strict=True)
    )
    assert jensen_shannon(p, q) == pytest.approx(math.sqrt(js), abs=1e-5)
    assert divergence(p, q) == pytest.approx(0.5 * math.log(2), abs=1e-6)


def test_likeness_at_its_ends():
    p = random_rows(7, 9)
    apart = torch.eye(4)
    assert torch.allclose(intersection_over_union(p, p), torch.ones(7))
    assert jensen_shannon(p, p).max() < 2e-3 and divergence(p, p).max() < 1e-6
    assert intersection_over_union(apart[:2], apart[2:]).tolist() == [0, 0]
    assert torch.allclose(jensen_shannon(apart[:2], apart[2:]), torch.ones(2))


def test_likeness_is_of_total_variation_and_symmetric():
    p, q = random_rows(20, 9), random_rows(20, 9, seed=1)
    variation = (p - q).abs().sum(-1) / 2
    assert torch.allclose(intersection_over_union(p, q), (1 - variation) / (1 + variation), atol=1e-6)
    assert torch.allclose(jensen_shannon(p, q), jensen_shannon(q, p), atol=1e-6)
    both = Likeness.of(p, q)
    assert torch.equal(both.iou, intersection_over_union(p, q))
    assert torch.equal(both.distance, jensen_shannon(p, q)) and torch.equal(both.divergence, divergence(p, q))


# Steps and bases ---------------------------------------------------------------------------------------------


def test_a_step_gives_its_keys_their_share_and_leaves_the_rest_in_proportion():
    rows = random_rows(3, 2, 5)
    before = rows.clone()
    keys = torch.tensor([[0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]], dtype=torch.bool)
    alpha = torch.tensor([0.6, 0.1])
    new = with_step(rows, keys, alpha)
    assert torch.equal(rows, before)
    assert torch.allclose(new.sum(-1), torch.ones(3, 2))
    assert torch.allclose(new[0, :, [1, 3]], (alpha / 2)[:, None].expand(2, 2))
    assert torch.equal(new[1], rows[1])
    rest = new[0][:, [0, 2, 4]]
    assert torch.allclose(
        rest / rest.sum(-1, keepdim=True), rows[0][:, [0, 2, 4]] / rows[0][:, [0, 2, 4]].sum(-1, keepdim=True)
    )
    assert torch.allclose(new[2, :, 0], alpha)


def test_a_step_may_spread_its_share_as_before():
    rows = random_rows(3, 2, 5)
    keys = torch.tensor([[0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 1]], dtype=torch.bool)
    alpha = torch.tensor([0.6, 0.1])
    new, even = (with_step(rows, keys, alpha, spread) for spread in ("as before", "even"))
    old = rows[0][:, [1, 3]]
    assert torch.allclose(new[0][:, [1, 3]], alpha[:, None] * old / old.sum(-1, keepdim=True))
    assert torch.allclose(new[:, :, ~keys[0]][0], even[:, :, ~keys[0]][0])
    assert torch.allclose(new.sum(-1), torch.ones(3, 2)) and torch.equal(new[1], rows[1])


def table_of(window=None, n_heads=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    slots = torch.rand(n_heads, n_slots(N_CTX), generator=generator)
    sink = 0.4 * torch.rand(n_heads, n_bands(N_CTX), generator=generator)
    return DistanceTable(window, slots, sink)


@pytest.mark.parametrize("window", [None, 6])
@pytest.mark.parametrize("base", ["uniform", "even", "profile"])
def test_bases_are_patterns(base, window):
    rows = table_of(window).rows(base, 21)
    distance = torch.arange(21)[:, None] - torch.arange(21)
    visible = (distance >= 0) & (distance < (window or 99))
    assert rows.shape == (21, 2, 21)
    assert torch.allclose(rows.sum(-1), torch.ones(21, 2), atol=1e-5)
    assert not rows[(~visible)[:, None].expand(-1, 2, -1)].any()
    assert (rows[visible[:, None].expand(-1, 2, -1)] > 0).all()
    if base == "uniform":
        assert torch.allclose(
            rows[9, 0, visible[9]], torch.full((min(10, window or 99),), 1 / min(10, window or 99))
        )


def test_even_gives_position_0_its_own_and_the_rest_alike():
    table = table_of()
    row = table.rows("even", 21)[12, 1]
    assert row[0] == pytest.approx(0.99 * float(table.sink[1, 3]) + 0.01 / 13, abs=1e-5)
    assert torch.allclose(row[1:13], row[1].expand(12))


# Keys of roles -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gold():
    return list(tslens.read_stories("author:60"))


@pytest.fixture(scope="module")
def gold_batch(gold, tokenizer):
    return batch_of_stories(gold[:6], tokenizer, n_ctx=N_CTX, labels=LabelNeeds(scheme=True))


@pytest.fixture(scope="module")
def gold_text(gold_batch, tokenizer):
    return RoleText.of(gold_batch, labelled_probes(), calibration(tokenizer))


def labelled_probes():
    return [probe for probe in find_probes().values() if not probe.labels.users]


def calibration(tokenizer):
    return Calibration(np.arange(tokenizer.vocab_size))


def test_the_keys_of_a_role_are_those_its_probe_scores(gold_batch, gold_text, tokenizer):
    """The mean mass on the keys, story by story, is the probe's own measure at all its queries."""
    n_rows, n_pos = gold_batch.tokens.shape
    pattern = by_row(random_rows(n_rows * n_pos, 2, n_pos), n_rows)
    rows = by_query(pattern)
    checked = 0
    for probe in labelled_probes():
        if probe.name in ("induction", "rare_word"):  # read other sequences; other token counts
            continue
        position = next(role.position for role in gold_text.at if role.probe == probe.name)
        keys = gold_text.keys(Role(probe.name, position), None)
        mass = (rows * keys[:, None]).sum(-1).view(n_rows, n_pos, 2)
        asks = keys.any(1).view(n_rows, n_pos)
        by_story = [mass[row][asks[row]].mean(0) for row in range(n_rows) if asks[row].any()]
        assert torch.allclose(torch.stack(by_story).mean(0), probe.score(pattern, gold_batch), atol=1e-5), (
            probe.name
        )
        checked += 1
    assert checked > 15


def test_roles_have_both_positions_and_their_names(gold_text):
    names = {str(role) for role in gold_text.at}
    assert {"subject", "subject before", "topic_determiner", "previous_token", "induction"} <= names
    assert "topic_determiner before" not in names


def test_after_copies_by_hand():
    batch = batch_of_tokens([[0, 5, 6, 7, 5, 5, 6]], [1])
    pairs = after_copies(batch)
    found = set(zip(pairs.query.tolist(), pairs.key.tolist(), strict=True))
    assert found == {(4, 2), (5, 2), (6, 3)}  # at 5 the copy at 4 is followed by the token itself


def test_moved_keys_keep_their_distance_and_their_story(gold_batch, gold_text):
    n_pos = gold_text.n_pos
    role = Role("name", "word")
    own, moved = (gold_text.pairs(role, None, moved=moved) for moved in (False, True))
    assert 0.5 * len(own) < len(moved) <= len(own)
    for row in range(len(gold_batch.length)):
        (of_own, of_moved) = (
            {(int(c) // n_pos % n_pos, int(c) % n_pos) for c in codes if int(c) // n_pos**2 == row}
            for codes in (own, moved)
        )
        size = int(gold_batch.length[row]) - 1
        shifts = [
            by for by in range(3, size - 2)
            if of_moved <= {((q + by - 1) % size + 1, (k + by - 1) % size + 1) for q, k in of_own}
        ]  # fmt: skip
        assert shifts and of_moved
        assert all(0 < key < query <= size for query, key in of_moved)


def test_stories_too_short_to_move_have_no_moved_keys():
    text = RoleText.of(
        batch_of_tokens([[0, 5, 5, 5]], [1]),
        choose_probes(["duplicate_token"]),
        Calibration(np.ones(9, dtype=int)),
    )
    assert len(text.pairs(COPIES, None)) == 3 and len(text.pairs(COPIES, None, moved=True)) == 0


def test_keys_beyond_the_window_are_none(gold_text):
    role = Role("protagonist", "word")
    near = gold_text.keys(role, 16)
    query = torch.arange(len(near)) % gold_text.n_pos
    distance = query[:, None] - torch.arange(gold_text.n_pos)
    assert torch.equal(near, gold_text.keys(role, None) & (distance < 16))
    assert near.any()


def test_probes_with_sequences_of_their_own_are_no_programs(tiny_model):
    class Own(Probe):
        name, description, family, served = "own", "", "identity", ""

        def rows(self, batch, calibration):
            return []

        def own_batches(self, **_):
            return iter(())

    chosen = readable([Own(), *find_probes().values()], tiny_model)
    assert "own" not in {probe.name for probe in chosen}
    assert "induction" in {probe.name for probe in chosen}


# A model whose patterns are programs ------------------------------------------------------------------------


class Made(TinyTransformer):
    """A model whose patterns are given by a function of tokens; its random twins attend as their weights say."""

    made = None

    def attention_patterns(self, tokens, scratch=None):
        if self.made is None:
            yield from super().attention_patterns(tokens, scratch)
        else:
            yield from self.made(tokens.cpu())


def planted(tokens):
    """Two layers of four heads: copies over distance, distance, even, noise; the same in the second layer."""
    n_rows, n_pos = tokens.shape
    pos = torch.arange(n_pos)
    distance = pos[:, None] - pos
    causal = distance >= 0
    near = (-0.3 * distance).masked_fill(~causal, float("-inf")).softmax(-1).expand(n_rows, -1, -1)
    even = (causal / causal.sum(-1, keepdim=True)).expand(n_rows, -1, -1)
    copies = (tokens[:, :, None] == tokens[:, None]) & (distance > 0) & (pos > 0)
    copying = with_step(near.reshape(-1, 1, n_pos), copies.reshape(-1, n_pos), torch.tensor([0.7]))
    generator = torch.Generator().manual_seed(int(tokens.sum()))
    noise = (
        (3 * torch.randn(n_rows, n_pos, n_pos, generator=generator))
        .masked_fill(~causal, float("-inf"))
        .softmax(-1)
    )
    layer = torch.stack([copying.view(n_rows, n_pos, n_pos), near, even, noise], 1)
    return [layer.clone(), layer.flip(1).clone()]


@pytest.fixture(scope="module")
def made(tokenizer):
    model = Made(ModelSpec.from_name("l2_h64"), tokenizer.vocab_size, seed=5, tokenizer=tokenizer)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".W_" in name:
                parameter.mul_(6)
    model.made = planted
    return model.eval()


@pytest.fixture(scope="module")
def texts(stories, tokenizer):
    probes = choose_probes(UNLABELLED)
    batches = [batch_of_stories(stories[i : i + 10], tokenizer, n_ctx=N_CTX) for i in range(0, 40, 10)]
    return [RoleText.of(batch, probes, calibration(tokenizer)) for batch in batches]


POSITIONAL = frozenset(Role(name, "word") for name in UNLABELLED if find_probes()[name].basis == "positional")


@pytest.fixture(scope="module")
def fits(made, texts):
    return fit_programs(made, texts, POSITIONAL)


def test_a_planted_program_is_read_back(fits):
    for layer, head in ((0, 0), (1, 3)):
        program = fits[layer].composed[head]
        assert program.base == "profile" and program.steps[0].role == COPIES
        assert program.steps[0].alpha == pytest.approx(0.7, abs=0.01)
        assert fits[layer].share[head] > 0.85
    assert fits[0].composed[1].steps == () and fits[0].share[1] > 0.95
    assert fits[0].composed[2].steps == ()


def test_alpha_is_the_share_of_greatest_likelihood(made, texts, fits):
    canvases = [Canvas(text, fits[0].table) for text in texts]
    rows = [by_query(planted(text.tokens)[0]) for text in texts]

    def left(alpha):
        program = Program("profile", (Step(COPIES, alpha),))
        return sum(
            float((divergence(true[:, 0], canvas.rows(program, 0)) * query_weights(text)).sum())
            for text, canvas, true in zip(texts, canvases, rows, strict=True)
        )

    best = fits[0].composed[0].steps[0].alpha
    assert left(best) < min(left(best + 0.03), left(best - 0.03))


def test_the_gain_of_a_step_is_what_the_divergence_falls_by(texts, fits):
    """For every role, on a head that is none of them."""
    table, text = fits[0].table, texts[0]
    rows = by_query(planted(text.tokens)[0])
    given = [
        Program("profile"),
        Program("profile", (Step(COPIES, 0.3),)),
        Program("even"),
        Program("profile"),
    ]
    gains = Gains(4, table)
    gains.add(text, rows, given)
    canvas, weights = Canvas(text, table), query_weights(text)
    alphas, told = gains.alphas(), gains.gains()
    for i, role in enumerate(gains.sums):
        for j, spread in enumerate(SPREADS):
            for head, program in enumerate(given):
                before = canvas.rows(program, head)
                after = canvas.rows(program.then(Step(role, float(alphas[i, head]), spread)), head)
                fell = (divergence(rows[:, head], before) - divergence(rows[:, head], after)) @ weights
                assert float(told[j, i, head]) == pytest.approx(float(fell), abs=2e-3), (role, spread, head)


@pytest.fixture(scope="module")
def report(made, stories):
    labelled = [
        head_score(HeadId(0, 0), "duplicate_token", "role"), head_score(HeadId(0, 1), "previous_token", "candidate"),
    ]  # fmt: skip
    return score_programs(
        made, stories, seed=0, probes=UNLABELLED, scores=labelled, n_tokens=20, n_swap=0, exclude=()
    )


def head_score(head, probe, status, excess=0.3, position="word"):
    return HeadScore(
        head,
        probe,
        position,
        0.5,
        0.4,
        0.6,
        None,
        {},
        excess,
        0.2,
        0.001,
        status,
        None,
        None,
        None,
        (0.3, 0.3),
        60,
    )


def test_verdicts_where_the_truth_is_known(report):
    by_head = {head.head: head for head in report.heads}
    copying, near, even, noise = (by_head[HeadId(0, i)] for i in range(4))
    assert copying.status == "candidate" and copying.role == "duplicate_token"
    assert near.status == "candidate" and near.role == "previous_token"
    assert even.status == "no" and even.total.value < 0.1 and even.support is None
    assert noise.status in ("no", "unclear") and noise.score("composed").share.value < 0.2
    composed = copying.score("composed")
    assert composed.nulls["shifted"] < composed.nulls["base"] + 0.1 < composed.iou.value
    assert composed.excess_low > 0.05 and composed.iou.low <= composed.iou.value <= composed.iou.high
    assert even.score("uniform").iou.value > 0.99  # which is why the floor is held against the share
    assert report.n_fitted + report.n_read == 60 and report.counts_at_floors["0.5"] == 4


def test_roles_of_distance_stand_on_even_attention(report):
    near = next(head for head in report.heads if head.head == HeadId(0, 1))
    assert near.score("previous_token").program.startswith("even + previous_token 0.2")
    assert "shifted" not in near.score("previous_token").nulls
    assert (
        near.score("duplicate_token").program.startswith("profile + ")
        and "shifted" in near.score("duplicate_token").nulls
    )
    assert near.score("profile").share.value > 0.95 > near.score("previous_token").share.value


def test_what_is_pooled_over_heads(report):
    every, labelled, twins = (
        report.explained_by(group, "composed") for group in ("all", "labelled", "twins")
    )
    assert (every.n_heads, labelled.n_heads, twins.n_heads) == (8, 2, 16)
    assert labelled.share.value > 0.9 > every.share.value > twins.share.value
    assert report.explained_by("labelled", "role").share.value < labelled.share.value
    assert report.explained_by("all", "tokens").iou.value > 0
    assert all(row.share.low <= row.share.value <= row.share.high for row in report.explained)


def test_no_swap_no_role(report):
    assert report.statuses["role"] == 0 and not report.groups and not report.clean
    assert all(head.cause is None and not head.swaps for head in report.heads)


def test_programs_come_back_from_disk(report, tmp_path):
    record = Provenance("c", "v", 0, "author:60:0", "ab", "t", 1.0, "3", "2", "p")
    path = tmp_path / "rows.jsonl"
    save_programs(report, path, model="made", checkpoint="x", record=record)
    header, again = load_programs(path)
    assert again == report and header["model"] == "made"
    assert "NaN" not in path.read_text(encoding="utf-8")
    assert path.with_suffix(".provenance.json").exists()
    first, *rest = path.read_text(encoding="utf-8").splitlines()
    path.write_text(
        "\n".join([first, *[row.replace('"total"', '"totals"') for row in rest]]), encoding="utf-8"
    )
    with pytest.raises(DataError, match="no programs of heads"):
        load_programs(path)


def test_it_shows_as_a_table(report):
    frame = report.to_pandas()
    assert len(frame) == sum(len(head.programs) for head in report.heads)
    assert "composed" in report._repr_html_()


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


def test_a_whole_model_with_swaps(tiny_model, stories):
    options = {"seed": 0, "probes": UNLABELLED, "n_tokens": 0, "n_swap": 12, "exclude": ()}
    steps = []
    report = score_programs(
        tiny_model, stories[:30], scores=[head_score(HeadId(0, 0), "sentence_end", "role")],
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
        tiny_model, stories[:30], scores=[head_score(HeadId(0, 0), "sentence_end", "role")], **options
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


def test_the_role_of_a_head_is_its_best_row():
    a, b, c = HeadId(0, 0), HeadId(0, 1), HeadId(0, 2)
    scores = [
        head_score(a, "name", "candidate", 0.9), head_score(a, "subject", "role", 0.1, "before"),
        head_score(b, "name", "candidate", 0.2), head_score(b, "topic", "candidate", 0.3),
        head_score(c, "name", "unclear", 0.9),
    ]  # fmt: skip
    assert roles_of(scores) == {a: Role("subject", "before"), b: Role("topic", "word")}


@pytest.mark.parametrize(
    "support, excess_low, worst, status",
    [
        (None, 0.2, None, "no"),
        (0.05, 0.2, None, "no"),
        (0.3, 0.2, 1.0, "unclear"),
        (0.6, -0.1, 1.0, "unclear"),
        (0.6, 0.2, None, "candidate"),
        (0.6, 0.2, 0.0, "candidate"),
        (0.6, 0.2, -1.0, "candidate"),
        (0.6, 0.2, 1.0, "role"),
    ],
)
@pytest.mark.parametrize("against", AGAINST)
def test_statuses(support, excess_low, worst, status, against):
    """A role must be better than every one of the patterns."""
    one = Estimate(0.5, 0.4, 0.6)
    score = ProgramScore("composed", "profile", one, one, 0.1, one, {"uniform": 0.1}, 0.4, excess_low)
    lows = (
        None if worst is None else {**{f"{method}_low": 1.0 for method in AGAINST}, f"{against}_low": worst}
    )
    assert status_of(score, support, 0.1, lows) == status


def test_twins_with_nothing_to_explain_set_no_threshold(report, made, texts):
    assert 0 <= report.twins < 0.5
    assert twins_threshold([]) == 0.0


def test_perplexity_of_a_loss():
    assert perplexity(0.0) == 0 and perplexity(math.log(1.16)) == pytest.approx(0.16)
