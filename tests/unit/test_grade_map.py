"""The map by grades: paired drops by hand, units of the judge, random sets beside, texts with common random numbers."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tslens.causal.means import read_means
from tslens.corpus.author import write_stories
from tslens.grading.completions import Drawing
from tslens.grading.expected import EXPECTED
from tslens.grading.planted import plant_pairs
from tslens.grading.prompts import load_beginnings
from tslens.grading.rubric import CRITERIA
from tslens.link.grade_map import judge_doses, map_grades, write_without
from tslens.link.groups import Group
from tslens.link.random_sets import Rung
from tslens.types import Grade, Graded, GradeFailure, HeadId

DRAWING = Drawing(samples=2, max_tokens=12, temperature=1.0, seed=3)
N_PROMPTS, N_SAMPLES = 40, 2


def graded(points, *, shift=0.0, seed=0):
    """Outcomes on prompts that differ; all criteria alike but plot, which nothing changes."""
    rng, found = np.random.default_rng(seed), []
    for prompt in range(N_PROMPTS):
        for sample in range(N_SAMPLES):
            text = Graded("Once", "upon a time.", f"p{prompt}", sample)
            base = 7 + (prompt % 5) / 5
            value = base - shift + rng.normal(0, points)
            given = dict.fromkeys(CRITERIA, value) | {"plot": base}
            found.append(Grade(text, **given, age_group="B"))
    return found


HEAD, OTHER = HeadId(0, 1), HeadId(1, 2)
GROUPS = [Group("L0H1", "component", ((HEAD,),)), Group("L1H2", "component", ((OTHER,),))]
RUNGS = [Rung(draw, 0.1, (HeadId(draw % 2, 0),)) for draw in range(4)]
COSTS = {"L0H1": 0.1, "L1H2": 0.1, **{rung.name: 0.4 if rung.draw < 2 else 0.1 for rung in RUNGS}}


@pytest.fixture(scope="module")
def model(random_model):
    return random_model("l2_h64")


def rows_of(model, of_groups, *, rungs=(0.4, 0.5, 0.2, 0.25)):
    whole = graded(0.0)
    of_rungs = [graded(0.1, shift=shift, seed=9 + i) for i, shift in enumerate(rungs)]
    doses = {"grammar": 2.0, "consistency": 1.0}
    return map_grades(whole, of_groups, of_rungs, GROUPS, RUNGS, COSTS, doses, model, seed=0)


def test_drops_are_paired_and_in_units_of_the_judge(model):
    rows = rows_of(model, {"L0H1": graded(0.1, shift=1.0, seed=1), "L1H2": graded(0.1, shift=0.2, seed=2)})
    by_place = {(row.component, row.measure): row for row in rows}
    row = by_place["L0H1", "grammar"]
    assert row.drop.value == pytest.approx(1.0, abs=0.05) and row.whole == 2.0
    assert row.share.value == pytest.approx(row.drop.value / 2)
    assert row.expected == pytest.approx(
        (0.4 / 2 + 0.2) / 2, abs=0.05
    )  # half way up one rung, all of the other
    assert row.beyond.value == pytest.approx(row.drop.value - row.expected)
    assert row.status == "carries"
    assert by_place["L1H2", "consistency"].status == "general"  # it takes what random sets of its cost take
    creativity = by_place["L0H1", "creativity"]
    assert creativity.whole == 1.0 and creativity.status is None  # a point: no fault is for it
    assert by_place["L0H1", "plot"].status is None and by_place["L0H1", "plot"].drop.value == 0.0


def test_a_text_without_a_grade_is_left_out_in_pairs(model):
    without = graded(0.0, shift=0.5)
    without[0] = GradeFailure(without[0].graded, "too short", "")
    without[1] = replace(without[1], grammar=0.0)
    (row,) = [row for row in rows_of(model, {"L0H1": without}) if row.measure == "grammar"]
    n = N_PROMPTS * N_SAMPLES
    assert row.drop.value == pytest.approx((0.5 * (n - 2) + 7.0) / (n - 1))


def test_where_no_random_set_reaches_nothing_is_claimed(model):
    costs = COSTS | {"L0H1": 0.9}
    rows = map_grades(
        graded(0.0),
        {"L0H1": graded(0.1, shift=1.0, seed=1)},
        [graded(0.1, seed=4 + i) for i in range(4)],
        GROUPS,
        RUNGS,
        costs,
        {"grammar": 2.0},
        model,
        seed=0,
    )
    assert {row.beyond for row in rows} == {None} == {row.expected for row in rows}
    assert {row.status for row in rows if row.measure == "grammar"} == {"unclear"}


def test_a_set_of_which_many_texts_have_no_grade_has_no_row(model):
    without = [
        GradeFailure(one.graded, "too short", "") if i % 5 == 0 else one
        for i, one in enumerate(graded(0.1, shift=1.0))
    ]
    assert {row.component for row in rows_of(model, {"L0H1": without, "L1H2": graded(0.1)})} == {"L1H2"}


class ByLength:
    """Gives plot a point for each twenty words, and everything else five points."""

    name, version, words_a_point = "by length", "1", 20

    def grade(self, texts, progress=lambda n: None):
        return [self._one(text) for text in texts]

    def _one(self, text):
        n_words = len((text.prompt + text.completion).split())
        plot = min(10.0, n_words / self.words_a_point)
        return Grade(text, grammar=5.0, creativity=5.0, consistency=5.0, plot=plot, age_group="B")


def test_a_dose_is_what_planted_faults_cost_with_the_judge():
    """By hand, of the faults of plot: an ending that is gone and sentences said twice change the length."""
    stories = list(write_stories(6, seed=5))
    judge = ByLength()
    drops = {}
    for pair in plant_pairs(stories, strengths=("medium",), seed=0, source="author"):
        if EXPECTED[pair.kind].criterion == "plot":
            clean, twin = judge.grade([pair.clean, pair.twin])
            drops.setdefault(pair.kind, []).append(clean.plot - twin.plot)
    expected = np.mean([np.mean(of_kind) for of_kind in drops.values()])
    found = judge_doses(judge, stories, seed=0)
    assert found == ({"plot": pytest.approx(expected)} if expected > 0 else {})


def test_a_judge_that_sees_no_fault_has_no_dose():
    judge = ByLength()
    judge.words_a_point = 1  # ten points for all
    assert judge_doses(judge, list(write_stories(3, seed=5)), seed=0) == {}


def test_texts_are_written_with_the_same_random_numbers(model):
    tokens = np.random.default_rng(0).integers(1, 60, (3, 30))
    means = read_means(model, [(torch.from_numpy(tokens), torch.tensor([30, 30, 30]))], n_pos=40)
    prompts = load_beginnings()[:2]
    whole = write_without(model, prompts, (), means, DRAWING)
    again = write_without(model, prompts, (), means, DRAWING)
    without = write_without(model, prompts, [HEAD], means, DRAWING)
    assert whole == again and [one.prompt_id for one in whole] == [one.prompt_id for one in without]
    assert whole != without
    assert not any(model.list_hooks())
