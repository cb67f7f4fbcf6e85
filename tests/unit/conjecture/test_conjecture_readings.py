"""What groups of heads take of readouts and of grades, against the ablated model and by hand."""

import numpy as np
import pytest
import torch

from tslens.causal.ablation import ablated
from tslens.causal.ablator import Ablator
from tslens.grading.completions import Drawing
from tslens.grading.prompts import load_beginnings
from tslens.link.conjecture.figures import contrast_of
from tslens.link.conjecture.grades import grade_measures, write_all
from tslens.link.conjecture.labels import Labelling
from tslens.link.conjecture.matching import Matched, Readings, counted, first_pairs, intervention
from tslens.link.measure import ReadoutScore
from tslens.link.pairs import Pair, Readout, Side
from tslens.link.story_costs import CostStories
from tslens.types import Grade, Graded, GradeFailure, HeadId


def score(name, capability, low, least):
    return ReadoutScore(
        name, capability, "", low + 0.1, low, low + 0.2, 0.7, 0.6, 0.8, least, (0.7, 0.7), 9, 9, 9
    )  # fmt: skip


def pair(cluster, right, wrong):
    return Pair(cluster, Side(np.array(right), 2), Side(np.array(wrong), 2))


def test_readouts_count_that_are_passed_by_more_than_random_models_do():
    asked = {
        "tense": ("grammar", 0.05, 0.6), "agreement": ("grammar", 0.02, 0.6), "word_order": ("grammar", 0.5, 0.5),
        "lost_object": ("consistency", 0.5, 0.7), "factual": ("knowledge", 0.5, 0.9),
    }  # fmt: skip
    readouts = [Readout(name, capability, "", ()) for name, (capability, _, _) in asked.items()]
    scores = [score(name, *rest) for name, rest in asked.items()]
    assert [one.name for one in counted(readouts, scores)] == ["tense", "lost_object"]


def test_the_first_pairs_keep_items_whole():
    items = [(pair(i, [1, 2, 3], [1, 2, 4]),) * n for i, n in enumerate((2, 1, 2, 1))]
    readout = Readout("tense", "grammar", "", tuple(items))
    assert [len(first_pairs(readout, n).items) for n in (2, 3, 4, 5, 9)] == [1, 2, 2, 3, 4]


def test_what_groups_take_of_readouts_is_what_the_ablated_model_says(tiny_model, stories):
    on = CostStories(tiny_model, stories[:6])
    means = on.means.everywhere()
    items = tuple((pair(i, [1, 5, 7 + i, 30, 31], [1, 5, 40 - i, 30, 31]),) for i in range(5))
    readout = Readout("tense", "grammar", "", items)
    sets = [((HeadId(0, 1), HeadId(1, 2)), 0.6), ((HeadId(1, 0),), 1.0)]
    (found,) = Readings(Ablator(tiny_model, means), [readout]).measures([intervention(*one) for one in sets])

    def difference(one):
        told = []
        for side in (one.right, one.wrong):
            with torch.no_grad():
                logs = tiny_model(torch.tensor(side.tokens[None, :-1])).log_softmax(-1)[0]
            told.append(
                sum(float(logs[at - 1, side.tokens[at]]) for at in range(side.first, len(side.tokens)))
            )
        return told[0] - told[1]

    clean = np.array([difference(item[0]) for item in items])
    assert np.allclose(found.there, clean, atol=1e-4)
    for column, (heads, share) in enumerate(sets):
        with ablated(tiny_model, heads, means=means, share=share):
            under = np.array([difference(item[0]) for item in items])
        assert np.allclose(found.taken[column], clean - under, atol=1e-4)
        assert np.abs(clean - under).max() > 0.01
    assert list(found.cluster) == list(range(5))


# Grades -------------------------------------------------------------------------------------------------------


def grades(points):
    """Outcomes of texts of two prompts; None: without a grade."""
    found = []
    for number, one in enumerate(points):
        text = Graded("Once", "there was", f"p{number % 2}", number // 2)
        grade = None if one is None else Grade(text, one[0], 5.0, one[1], 5.0, "B")
        found.append(grade or GradeFailure(text, "too short", ""))
    return found


def test_drops_of_grades_are_over_what_a_planted_fault_costs():
    whole = grades([(8, 6), (7, 7), (9, 9), (5, 5)])
    distance = grades([(6, 6), (6, 6), None, (4, 5)])
    semantic = grades([(8, 4), (7, 6), (1, 1), (5, 3)])
    found = grade_measures(whole, distance, semantic, {"grammar": 2.0, "consistency": 0.5})
    assert (found.n_graded, found.n_texts, found.is_enough) == (3, 4, False)
    contrast = contrast_of(found.measures, seed=0)
    assert contrast.effects["distance grammar"].value == pytest.approx((2 + 1 + 1) / 3 / 2)
    assert contrast.effects["distance consistency"].value == pytest.approx((0 + 1 + 0) / 3 / 0.5)
    assert contrast.effects["semantic grammar"].value == 0
    assert contrast.semantic.value == pytest.approx(-(2 + 1 + 2) / 3 / 0.5)
    assert contrast.interaction.value == pytest.approx(2 / 3 - 2 / 3 + 10 / 3)


def test_texts_without_a_group_are_of_common_random_numbers_and_by_its_share(tiny_model, stories):
    means = CostStories(tiny_model, stories[:6]).means
    matched = Matched((0.2, 0.1), (0.0, 1.0), (0.0, 0.1))
    texts = write_all(
        tiny_model, load_beginnings()[:2], Labelling((HeadId(0, 0), HeadId(1, 1)), (HeadId(0, 2), HeadId(1, 3))),
        matched, means, Drawing(samples=2, max_tokens=12, temperature=1.0, seed=4),
    )  # fmt: skip
    whole, distance, semantic = ([one.completion for one in of_set] for of_set in texts)
    assert len(whole) == 4 and whole == distance and whole != semantic
    assert not any(point.fwd_hooks for point in tiny_model.hook_dict.values())
