"""The ten claims on tables made by hand: true ones hold, false ones fail, and what is not there is not told."""

import numpy as np
import pytest

from tslens.link.sizes.claim_contrasts import find_evidence
from tslens.link.sizes.claims import CLAIMS, Evidence, Ruling, rule
from tslens.link.sizes.contrasts import Estimate
from tslens.link.sizes.measured import Measured, SizeRow

PROMPTS = [f"beginnings b{i}" for i in range(50)]
SHAPES = [(depth, width) for depth in (1, 2, 4) for width in (64, 128, 256)]


def estimate(value, reach, **more):
    wanted = {"se_clusters": reach / 2, "se_seeds": 0.0, "df": 40.0, "conditional": False, "n_clusters": 41}
    return Estimate(value, value - reach, value + reach, **{**wanted, **more})


class Table:
    """Rows whose measures are what a rule says of depth, width and heads, with noise by prompt."""

    def __init__(self, rules, seed=0, noise=0.05):
        self.rules, self.rng, self.noise = rules, np.random.default_rng(seed), noise
        self.prompts = self.rng.normal(0, 0.3, len(PROMPTS))

    def row(self, name, depth, width, heads, *, instruct=False, seed=0):
        measured = {}
        for measure, say in self.rules.items():
            values = say(depth, width, heads) + self.prompts + self.rng.normal(0, self.noise, len(PROMPTS))
            measured[measure] = Measured.of_means(dict(zip(PROMPTS, values.tolist(), strict=True)))
        parameters = 4096 * width + 12 * depth * width**2
        label = f"{name}@seed{seed}"
        return SizeRow(label, name, "ours", depth, width, heads, instruct, parameters, None, None, measured)

    def rows(self):
        found = [
            self.row(f"l{depth}_h{width}", depth, width, 4, seed=seed)
            for depth, width in SHAPES
            for seed in (range(3) if (depth, width) in ((1, 256), (2, 128), (4, 128)) else (0,))
        ]
        found += [self.row(f"l1_h256_a{heads}", 1, 256, heads) for heads in (2, 4, 8)]
        found += [
            self.row(f"l{depth}_h{width}-instruct", depth, width, 4, instruct=True)
            for depth, width in ((1, 128), (1, 256), (2, 128), (4, 128))
        ]
        return found


def depth_and_width(level, by_depth, by_width, by_heads=0.0):
    return lambda d, w, h: (
        level + by_depth * np.log2(d) + by_width * np.log2(w / 64) + by_heads * np.log2(h / 4)
    )


TRUE = {
    "bits": lambda d, w, h: 1.2 - 0.08 * np.log2(d) - 0.1 * np.log2(w / 64),
    "loss": depth_and_width(3.0, -0.1, -0.2, -0.1),
    "grammar": depth_and_width(5, 0.1, 0.5, 0.2),
    "creativity": depth_and_width(5, 0.2, 0.2),
    "consistency": lambda d, w, h: 4 + 0.6 * np.log2(d) + (0.8 if w > 64 else 0) + 0.2 * np.log2(h / 4),
    "plot": depth_and_width(4, 0.1, 0.6),
    "words": depth_and_width(0.2, 0.3, 0.1),
    "instructed_word": depth_and_width(0.5, 0.3, 0.1),
    "factual": depth_and_width(0.5, 0.0, 0.2),
    "context": depth_and_width(0.5, 0.3, 0.0),
    "factual written": depth_and_width(0.2, 0.0, 0.2),
    "context written": depth_and_width(0.2, 0.3, 0.0),
    **{
        name: (lambda d, w, h: 0.5 + (0.3 if w > 64 else 0))
        for name in ("swapped_names", "changed_pronoun", "lost_object")
    },
}


def verdicts(rules, **more):
    found = rule(find_evidence(Table(rules, **more).rows(), judge="judge"))
    return {one.claim: one for one in found}


def test_true_claims_hold():
    found = verdicts(TRUE)
    for claim in (1, 3, 4, 5, 7, 8):
        assert found[claim].verdict == "holds", found[claim]
        assert found[claim].conditional
    assert found[9].verdict == found[10].verdict == "cannot be told"


def test_false_claims_fail():
    wrong = {
        **TRUE,
        "grammar": depth_and_width(5, 0.6, -0.1, -0.2),
        "consistency": lambda d, w, h: 4 + 0.1 * np.log2(d) + (0.8 if w > 128 else 0) - 0.2 * np.log2(h / 4),
        "plot": depth_and_width(4, 0.6, 0.1),
        "words": depth_and_width(0.9, -0.2, 0.3),
        "instructed_word": depth_and_width(0.9, -0.2, 0.3),
        "factual": depth_and_width(0.5, 0.2, 0.0),
        "factual written": depth_and_width(0.5, 0.2, 0.0),
        "loss": depth_and_width(3.0, -0.1, -0.2, 0.1),
        **{
            name: (lambda d, w, h: 0.5 + (0.3 if w > 128 else 0))
            for name in ("swapped_names", "changed_pronoun", "lost_object")
        },
    }
    found = verdicts(wrong)
    for claim in (3, 4, 5, 7, 8):
        assert found[claim].verdict == "fails", found[claim]


def test_noise_tells_nothing():
    flat = {name: (lambda d, w, h: 5.0) for name in TRUE if name != "bits"}
    found = verdicts({"bits": TRUE["bits"], **flat}, noise=1.0)
    assert [one.verdict for one in found.values()] == ["cannot be told"] * 10


def test_what_plateaus_first_is_seen_and_what_does_not_rise_has_no_half_way():
    early = {
        **TRUE,
        "grammar": lambda d, w, h: (
            5 + (1.0 if w > 64 or d > 1 else 0) + 0.05 * (np.log2(d) + np.log2(w / 64))
        ),
        "consistency": depth_and_width(4, 0.5, 0.5),
        "creativity": lambda d, w, h: 5.0,
    }
    parts = {one.part: one for one in verdicts(early)[2].evidence}
    assert parts["grammar's share half-way less consistency's"].verdict == "holds"
    creativity = parts["grammar's share half-way less creativity's"]
    assert creativity.estimate is None and "does not rise for sure" in creativity.why_not


def test_a_claim_of_large_models_is_not_refuted_by_ours():
    wrong = Evidence(6, "grammar", "a", "ours, judge", estimate(-1.0, 0.1))
    assert wrong.verdict == "fails"
    assert Ruling(6, (wrong,)).verdict == "cannot be told"
    theirs = Evidence(6, "grammar", "a", "GPT-4o", estimate(-1.0, 0.1))
    assert Ruling(6, (theirs,)).verdict == "fails"
    assert Ruling(1, (Evidence(1, "grammar", "a", "ours, judge", estimate(-1.0, 0.1)),)).verdict == "fails"


def of(aspect, source, value, reach=0.1):
    return Evidence(1, aspect, aspect, source, estimate(value, reach))


def test_all_that_a_claim_says_must_hold():
    three = tuple(of(aspect, "x", 1.0) for aspect in ("grammar", "consistency", "plot"))
    assert Ruling(1, three).verdict == "cannot be told"
    found = Ruling(1, (*three, of("creativity", "y", 1.0)))
    assert found.verdict == "holds" and {one.source for one in found.deciding} == {"x", "y"}
    assert Ruling(1, (*three, of("creativity", "y", 0.05))).verdict == "cannot be told"
    assert Ruling(1, (*three, of("creativity", "y", -1.0))).verdict == "fails"


def test_sources_that_contradict_each_other_tell_nothing():
    found = Ruling(1, (of("grammar", "x", 1.0), of("grammar", "y", -1.0)))
    assert found.by_aspect["grammar"] == "cannot be told" and found.verdict == "cannot be told"


def test_a_part_below_zero_counts_only_if_it_is_for_all_parts_together():
    barely = of("grammar", "x", -1.0, 0.97)
    others = tuple(of("plot", f"y{i}", 0.1, 0.2) for i in range(9))
    assert barely.verdict == "fails"
    assert Ruling(1, (barely, *others)).verdict == "cannot be told"
    assert Ruling(1, (barely,)).verdict == "fails"


def test_a_judge_that_prefers_an_ngram_to_people_is_not_asked():
    table = Table(TRUE)
    sides = []
    for label, creativity in (("true ending", 5.0), ("5-gram", 6.0)):
        levels = {"grammar": 9.0 if label == "true ending" else 4.0, "creativity": creativity}
        above = Table({name: (lambda d, w, h, level=level: level) for name, level in levels.items()})
        measured = above.row("x", 1, 64, 4).measured
        sides.append(SizeRow(label, label, "ours", None, None, None, False, None, None, None, measured))
    found = {one.part: one for one in find_evidence([*table.rows(), *sides], judge="judge") if one.claim == 1}
    assert found["grammar per bit a byte"].verdict == "holds"
    assert "does not put true endings above" in found["creativity per bit a byte"].why_not


def test_the_teacher_is_near_in_some_and_far_in_others():
    table = Table(
        {"bits": TRUE["bits"], **{n: (lambda d, w, h: 6.0) for n in ("grammar", "consistency", "creativity")}}
    )
    best = table.row("l4_h256", 4, 256, 4)
    levels = {"grammar": 6.2, "consistency": 6.2, "creativity": 8.0}
    above = Table({name: (lambda d, w, h, level=level: level) for name, level in levels.items()}).row(
        "x", 1, 64, 4
    )
    teacher = SizeRow("teacher", "teacher", "ours", None, None, None, False, None, None, None, above.measured)
    (found,) = (one for one in rule(find_evidence([best, teacher], judge="judge")) if one.claim == 6)
    assert found.verdict == "holds"
    assert [one.estimate.value for one in found.evidence] == pytest.approx([0.3, 0.3, 1.5], abs=0.15)


def test_every_claim_is_named():
    assert sorted(CLAIMS) == list(range(1, 11))
