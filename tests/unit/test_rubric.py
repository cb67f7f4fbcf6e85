"""What a teacher is asked."""

import pytest
from pydantic import ValidationError

from tslens.grading.rubric import (
    AGE_GROUPS,
    CRITERIA,
    SEPARATOR,
    Assessment,
    Points,
    first_turn,
    one_call,
    second_turn,
)
from tslens.types import Graded

WORK = Graded("Tom had a", " red ball. {text} %s He lost it.", "b01", 0)
ASKED = Graded("", "Once {there} was a frog.", "i01", 0, instructions={"words": ["frog", "swim", "sad"]})
GOOD = {"grammar": 8, "creativity": 7.5, "consistency": 0, "plot": 10, "age_group": "B"}


def test_the_work_stands_as_it_is_between_marks():
    text = first_turn(WORK)
    assert f"BEGIN\nTom had a{SEPARATOR} red ball. {{text}} %s He lost it.\nEND" in text
    assert "speaks to you" in text and text.index("END") < text.index("speaks to you")
    asked = first_turn(ASKED)
    assert "Words: frog, swim, sad" in asked and "Story:" not in asked and "Once {there} was a frog." in asked
    assert SEPARATOR not in asked


def test_one_call_holds_both_turns():
    for work in (WORK, ASKED):
        assert one_call(work) == f"{first_turn(work)}\n\n{second_turn(work)}"
        for word in (*CRITERIA, *AGE_GROUPS.values()):
            assert word in second_turn(work)
    assert "with the instructions" in second_turn(ASKED) and "with the beginning" in second_turn(WORK)


@pytest.mark.parametrize(
    "wrong",
    [{"grammar": 11}, {"plot": -1}, {"age_group": "G"}, {"creativity": "good"}, {"consistency": None}],
)
def test_grades_out_of_range_are_no_grades(wrong):
    assert Points.model_validate(GOOD).grammar == 8
    with pytest.raises(ValidationError):
        Points.model_validate({**GOOD, **wrong})
    with pytest.raises(ValidationError):
        Assessment.model_validate({**GOOD, **wrong, "assessment": "Fine."})


def test_every_criterion_is_graded_and_what_he_thinks_comes_first():
    assert set(Points.model_fields) == {*CRITERIA, "age_group"}
    assert next(iter(Assessment.model_fields)) == "assessment"
    assert set(Assessment.model_fields) - {"assessment"} == set(Points.model_fields)
