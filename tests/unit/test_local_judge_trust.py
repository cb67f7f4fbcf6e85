"""What pages say of the local judge's agreement with GPT-4o is what was measured."""

import json
from pathlib import Path

from tslens.grading.local.trust import BY_SIZE, N_COMPLETIONS, POOLED, WITHIN, agreement_told
from tslens.grading.rubric import CRITERIA

RESULTS = Path(__file__).parents[2] / "reports" / "judge" / "results.json"


def test_the_figures_are_those_of_the_report():
    measured = json.loads(RESULTS.read_text(encoding="utf-8"))["gpt4o"]
    assert POOLED.keys() == WITHIN.keys() == measured.keys()
    for name, parts in measured.items():
        judge, size = parts["all"]["judge, prompt unseen"], parts["all"]["size alone"]["pooled"]
        assert parts["all"]["n"] == N_COMPLETIONS
        assert POOLED[name] == round(judge["pooled"], 2) and WITHIN[name] == round(judge["within"], 2)
        assert (name in BY_SIZE) == (size > judge["pooled"]), name
        assert BY_SIZE.get(name, round(size, 2)) == round(size, 2)


def test_all_criteria_are_told():
    told = agreement_told()
    for name in CRITERIA:
        assert f"{name} {POOLED[name]:.2f}" in told and f"{name} {WITHIN[name]:.2f}" in told
    assert "gives consistency 0.52, plot 0.60, more" in told
