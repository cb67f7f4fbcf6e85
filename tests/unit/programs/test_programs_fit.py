"""Fitted programs: what was planted is read back, and statuses follow from it."""

import math

import pytest

from tslens.errors import DataError
from tslens.probes.programs.compose import SPREADS, Gains, query_weights
from tslens.probes.programs.estimates import twins_threshold
from tslens.probes.programs.likeness import divergence
from tslens.probes.programs.pattern import (
    Canvas,
    Program,
    Step,
    by_query,
)
from tslens.probes.programs.report import Estimate, ProgramScore, perplexity
from tslens.probes.programs.results import load_programs, save_programs
from tslens.probes.programs.roles import Role
from tslens.probes.programs.score import roles_of
from tslens.probes.programs.verdict import AGAINST, status_of
from tslens.types import HeadId, Provenance

pytestmark = pytest.mark.filterwarnings("ignore:.*intervals are too narrow:UserWarning")
N_CTX = 512
UNLABELLED = ["previous_token", "duplicate_token", "sentence_end", "first_token", "distance_3_4", "induction"]
COPIES = Role("duplicate_token", "word")


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
    rows = [by_query(made.made(text.tokens)[0]) for text in texts]

    def left(alpha):
        program = Program("profile", (Step(COPIES, alpha),))
        return sum(
            float((divergence(true[:, 0], canvas.rows(program, 0)) * query_weights(text)).sum())
            for text, canvas, true in zip(texts, canvases, rows, strict=True)
        )

    best = fits[0].composed[0].steps[0].alpha
    assert left(best) < min(left(best + 0.03), left(best - 0.03))


def test_the_gain_of_a_step_is_what_the_divergence_falls_by(made, texts, fits):
    """For every role, on a head that is none of them."""
    table, text = fits[0].table, texts[0]
    rows = by_query(made.made(text.tokens)[0])
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


def test_the_role_of_a_head_is_its_best_row(score_of):
    a, b, c = HeadId(0, 0), HeadId(0, 1), HeadId(0, 2)
    scores = [
        score_of(a, "name", "candidate", 0.9), score_of(a, "subject", "role", 0.1, "before"),
        score_of(b, "name", "candidate", 0.2), score_of(b, "topic", "candidate", 0.3),
        score_of(c, "name", "unclear", 0.9),
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
