"""The page of graded models as text: figures where they belong, failures counted, texts as data, below 8 MB."""

import json
import re
from html.parser import HTMLParser

import pytest

from tslens.grading.local.trust import SEES_FAULTS, agreement_told
from tslens.grading.results import TEACHER, TRUE_ENDING, GradedModel
from tslens.grading.rubric import CRITERIA
from tslens.grading.summary import Mean, paired
from tslens.types import Grade, Graded, GradeFailure
from tslens.viz.grades_desk import Prompt, gather, samples_of, that_fit
from tslens.viz.grades_page import MAX_BYTES, shared_facts, summary, write_grades_page
from tslens.viz.grades_pairs import Difference, differences, is_real, pairs_section
from tslens.viz.grades_table import MARGIN, WIDTH, draw_ages, draw_difference, draw_mean, models_table

HOSTILE = (
    '</script><script>alert(1)</script><img src="http://example.invalid/x" onerror="x">&amp;\u202e\u2028'
)
LOCAL = {
    "judge": "local",
    "judge_version": "tslens local judge 1, not GPT-4",
    "prompts": "beginnings, version 1",
}
ASKED = {**LOCAL, "judge": "openai:gpt-4o", "judge_version": "rubric 1, two_turns"}


def graded(prompt, sample, text=" ran home.", **more):
    return Graded(f"Beginning {prompt} and a fox", text, f"b{prompt}", sample, **more)


def grade(one, value=6.0, **more):
    return Grade(one, value, value - 1, value - 2, value + 1, "B", **more)


def model(label="m", shift=0.0, header=LOCAL, n_prompts=4, n_samples=3, n_failed=0):
    """Grades that differ by prompt and by sample; the last ``n_failed`` texts have none."""
    outcomes = [
        grade(graded(p, s), 5 + 0.5 * p + 0.1 * s + shift) for p in range(n_prompts) for s in range(n_samples)
    ]
    failed = [GradeFailure(one.graded, "refusal", "no") for one in outcomes[len(outcomes) - n_failed :]]
    return GradedModel(label, header, [*outcomes[: len(outcomes) - n_failed], *failed])


def write(path, models, **header):
    write_grades_page(path, models, header=header)
    return path.read_text(encoding="utf-8")


def data_of(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page)[1])


def rows_of(html):
    return {re.sub("<.*?>", "", row.split("</th>")[0]): row for row in re.findall(r"<tr>(.*?)</tr>", html)}


# Drawings -------------------------------------------------------------------------------------------------


def test_marks_stand_where_their_figures_are():
    inner = WIDTH - 2 * MARGIN
    svg = draw_mean(Mean(7.0, 6.0, 9.0, 5, 10), reference=2.0)
    assert f'cx="{MARGIN + 0.7 * inner:.1f}"' in svg and f'x1="{MARGIN + 0.2 * inner:.1f}"' in svg
    left, right = re.search(r'd="M([\d.]+) 4v8M[\d.]+ 8H([\d.]+)M', svg).groups()
    assert float(left) == pytest.approx(MARGIN + 0.6 * inner, abs=0.06)
    assert float(right) == pytest.approx(MARGIN + 0.9 * inner, abs=0.06)
    svg = draw_difference(Mean(-1.0, -1.5, 4.0, 5, 10), 2.0, "open")
    assert f'cx="{MARGIN + inner / 4:.1f}"' in svg and f"H{WIDTH - MARGIN:.1f}M" in svg  # beyond: at the end
    assert "v8M" not in draw_mean(Mean(7.0, None, None, 1, 10))


def test_the_bar_of_ages_is_whole_and_told():
    bar = draw_ages({"A": 0.5, "B": 0.25, "C": 0.21, "D": 0.038, "E": 0.002, "F": 0.0})
    widths = [float(width) for width in re.findall(r"width:([\d.]+)%", bar)]
    assert sum(widths) == pytest.approx(100, abs=0.3) and len(widths) == 5
    assert re.findall(r">(\w?)</span>", bar) == ["A", "B", "C", "", ""]
    assert 'aria-label="3 or under: 50%, 4-5: 25%, 6-7: 21%, 8-9: 4%, 10-12: below 1%"' in bar


# The tables -----------------------------------------------------------------------------------------------


def test_rows_hold_means_with_intervals_and_failures_by_reason():
    fine = model("fine", n_prompts=14, n_failed=3)
    failed = GradeFailure(graded(0, 7), "schema", "x")
    fine = GradedModel("fine", LOCAL, [*fine.outcomes, failed])
    rows = rows_of(models_table([fine, model("bad", n_failed=5), model(TRUE_ENDING, 2.0)]))
    for name in CRITERIA:
        mean = fine.summary.means[name]
        assert f"<b>{mean.mean:.2f}</b> <small>{mean.low:.2f} to {mean.high:.2f}</small>" in rows["fine"]
    assert "<td>39</td><td>4: <small>3 refusal, 1 schema</small></td>" in rows["fine"]
    assert "no total: 42% of the texts have no grade" in rows["bad"] and "<b>" not in rows["bad"]
    assert "<td>5 <small>refusal</small></td>" in rows["bad"] and "<td>none</td>" in rows[TRUE_ENDING]
    assert rows["fine"].count('"reference"') == 4 and '<line class="reference"' not in rows[TRUE_ENDING]


def test_rows_to_hold_models_against_are_always_there():
    rows = rows_of(models_table([model("a"), GradedModel(TEACHER, {}, ())]))
    assert "not asked" in rows[TEACHER] and "not known" in rows[TRUE_ENDING]
    assert len(rows) == 4  # with the heads
    one = rows_of(models_table([model("a", n_prompts=1)]))["a"]
    assert one.count("one prompt, no interval") == 4


def test_differences_are_those_of_the_same_prompts_by_the_same_judge():
    a, b, c = model("a", 1.0), model("b"), model("c", header=ASKED)
    found = differences([a, b, c, model("bad", n_failed=9), GradedModel(TEACHER, LOCAL, ())])
    assert [(one.first, one.second) for one in found] == [("a", "b")]
    assert found[0].means == paired(a.grades, b.grades)
    assert found[0].means["plot"].mean == pytest.approx(1.0)
    others = [
        grade(Graded("Another beginning", " ran.", one.graded.prompt_id, one.graded.sample))
        for one in b.grades
    ]
    assert differences([a, GradedModel("d", LOCAL, others)]) == []
    half = differences([a, GradedModel("e", LOCAL, [*others[:6], *b.grades[6:]])])
    assert half[0].means["plot"].n == 6


def test_a_difference_is_real_where_its_interval_leaves_zero_out(tmp_path):
    assert is_real(Mean(1, 0.2, 2, 5, 5)) and is_real(Mean(-1, -2, -0.2, 5, 5))
    assert not is_real(Mean(0.5, -0.1, 1, 5, 5)) and not is_real(Mean(1, None, None, 1, 5))
    noisy = model("b").outcomes
    noisy = [
        grade(one.graded, one.grammar + (2.0 if one.graded.prompt_id in ("b1", "b2") else -1.8))
        for one in noisy
    ]
    page = write(tmp_path / "p", [model("a", 1.0), model("b"), GradedModel("c", LOCAL, noisy)])
    rows = rows_of(page[page.index('id="pairs"') : page.index('id="desk"')])
    assert rows["a \N{MINUS SIGN} b"].count("<b>+1.00 ●</b>") == 4
    assert rows["b \N{MINUS SIGN} c"].count("●") == 0 and rows["b \N{MINUS SIGN} c"].count("mini open") == 4
    n_real = sum(row.count("●") for name, row in rows.items() if "\N{MINUS SIGN}" in name)
    assert (
        f"{n_real} of 12 differences between models are real." in page
        and "about 0.6 of all 12 would seem real" in page
    )


# What the page says ---------------------------------------------------------------------------------------


def test_the_lead_names_the_highest_and_the_true_endings():
    models = [model("a"), model("b", 1.0), model(TRUE_ENDING, 2.0), model(TEACHER, 3.0)]
    assert summary(models, []) == (
        "Of 2 models none is really above the other; the highest means: b in all criteria."
    )
    assert summary(models, differences(models)) == (
        "Really the highest of 2 models: b in all criteria. True endings stand really above all models in all "
        "criteria. 4 of 4 differences between models are real."
    )
    same = [model("b", 1.0), model(TRUE_ENDING, 1.0)]
    assert summary(same, differences(same)).endswith("True endings stand really neither above nor below.")
    assert (
        summary([model("a")], []) == "a: grammar 5.85, creativity 4.85, consistency 3.85 and plot 6.85 of 10."
    )
    assert summary([model("a", n_failed=9)], []) == "No model has a total."


def varied(label, **shifts):
    """Grades of four prompts whose means are shifted by criterion; a shift of None varies about zero by prompt."""
    outcomes = []
    for p, about in enumerate((0.4, -0.4, 0.4, -0.4)):
        for s in range(3):
            base = dict.fromkeys(CRITERIA, 5 + 0.5 * p + 0.1 * s)
            for name, shift in shifts.items():
                base[name] += about + 0.1 if shift is None else shift
            outcomes.append(Grade(graded(p, s), **base, age_group="B"))
    return GradedModel(label, LOCAL, outcomes)


def test_the_lead_tells_what_is_real_and_on_which_side():
    a = varied("a", creativity=None, plot=0.0)
    b = varied("b", grammar=1.0, creativity=0.0, consistency=1.0, plot=-1.0)
    endings = varied(TRUE_ENDING, grammar=0.5, creativity=-2.0, consistency=2.0, plot=None)
    models = [a, b, endings]
    found = differences(models)
    assert summary(models, found) == (
        "Really the highest of 2 models: b in grammar and consistency; a in plot. Highest, but not really above the "
        "other: a in creativity. True endings stand really above all models in consistency; above some models in "
        "grammar and plot; below all models in creativity; below some models in grammar. 3 of 4 differences between "
        "models are real."
    )
    assert (
        "True endings stand really above the model in grammar and consistency; below the model in "
        in summary([a, endings], differences([a, endings]))
    )


def test_counts_of_real_differences_do_not_contradict_the_lead():
    models = [model("a"), model("b", 1.0), model(TRUE_ENDING, 2.0)]
    section = pairs_section(differences(models))
    assert "4 of 4 between models and 8 of 8 with the true ending." in section
    assert "about 0.6 of all 12 would seem real by chance" in section
    assert "0 of 4 with the true ending. " in pairs_section(differences([model("a"), model(TRUE_ENDING)]))


def test_a_difference_of_nothing_has_no_sign_and_a_real_one_shows_its_side():
    def cells(**ends):
        mean = Mean(ends["mean"], ends["low"], ends["high"], 5, 5)
        return pairs_section([Difference("a", "b", dict.fromkeys(CRITERIA, mean))])

    nothing = cells(mean=-0.001, low=-0.2, high=-0.0)
    assert "<td>0.00 <small>\N{MINUS SIGN}0.20 to 0.00</small>" in nothing
    real = cells(mean=-0.04, low=-0.08, high=-0.003)
    assert "<b>\N{MINUS SIGN}0.04 ●</b> <small>\N{MINUS SIGN}0.08 to \N{MINUS SIGN}0.003</small>" in real
    assert "\N{MINUS SIGN}0.00<" not in nothing + real and "\N{MINUS SIGN}0.00 " not in nothing + real


def test_judge_and_prompts_are_named_and_differences_of_them_told(tmp_path):
    page = write(tmp_path / "p", [model("a"), model("b", header={**LOCAL, "seed": 4})])
    for fact in ("local", "tslens local judge 1, not GPT-4", "beginnings, version 1"):
        assert f"<dd>{fact}</dd>" in page
    assert "Grades of the local judge are not those of GPT-4." in page and "do not compare" not in page
    assert SEES_FAULTS in page and agreement_told() in page
    assert page.index(SEES_FAULTS) < page.index('id="models"')
    page = write(tmp_path / "q", [model("a", header=ASKED)])
    assert "openai:gpt-4o" in page and "not those of GPT-4" not in page and SEES_FAULTS not in page
    page = write(tmp_path / "r", [model("a"), model("b", header=ASKED), GradedModel(TEACHER, {}, ())])
    assert "their grades do not compare" in page and 'id="pairs"' not in page
    facts = shared_facts(
        [model("a"), model("b", header={**ASKED, "temperature": 0.5, "share": {"of": [1, 2]}})]
    )
    assert facts["judge"] == "local (a); openai:gpt-4o (b)" and facts["prompts"] == "beginnings, version 1"
    assert facts["temperature"] == "0.5 (b)" and facts["share"] == "of 1, 2 (b)"
    some = [model(label, header={**LOCAL, "samples": 10}) for label in "abc"]
    facts = shared_facts([*some, model(TRUE_ENDING, header={**LOCAL, "samples": 1, "seed": None})])
    assert facts["samples"] == "10; 1 (true ending)" and "seed" not in facts


# The desk -------------------------------------------------------------------------------------------------


def test_the_desk_holds_every_text_with_what_is_known_of_it(tmp_path):
    asked = graded(0, 0, " cut off", ended=False)
    mine = [
        grade(
            asked,
            6.04,
            intervals={"grammar": (4.04, 8.0), "plot": (5.0, 9.0)},
            flags=("speaks to the judge",),
        ),
        grade(graded(0, 1), assessment="Fine.\nNearly."),
        GradeFailure(graded(1, 0), "schema", "grammar: 11"),
        grade(graded(0, 1, repeat=1), 3.0),
    ]
    found = data_of(write(tmp_path / "p", [GradedModel("a", LOCAL, mine), model("b")]))
    first, second = found["prompts"][0], found["prompts"][1]
    assert (first["id"], first["text"], found["samples"]) == ("b0", "Beginning 0 and a fox", [0, 1, 2])
    assert first["texts"][0] == [
        {"n": 0, "text": " cut off", "cut": True, "grades": [6.0, 5.0, 4.0, 7.0], "age": "B",
         "intervals": [[4.0, 8.0], None, None, [5.0, 9.0]], "flags": ["speaks to the judge"]},
        {"n": 1, "text": " ran home.", "grades": [6.0, 5.0, 4.0, 7.0], "age": "B", "says": "Fine.\nNearly.",
         "again": [[3.0, 2.0, 1.0, 4.0]]},
    ]  # fmt: skip
    assert second["texts"][0] == [{"n": 0, "text": " ran home.", "failed": "schema", "detail": "grammar: 11"}]
    assert [len(rows) for rows in first["texts"]] == [2, 3]


def test_prompts_of_one_name_stay_apart_and_instructions_are_shown():
    other = [
        grade(Graded("Another", " a", "b0", 0)),
        grade(Graded("", "A frog.", "i1", 0, instructions={"words": ["frog"]})),
    ]
    found = gather([model("a", n_prompts=1), GradedModel("b", LOCAL, other)])
    assert [one.id for one in found] == ["b0", "b0 (2)", "i1"]
    assert [[len(rows) for rows in one.texts] for one in found] == [[3, 0], [0, 1], [0, 1]]
    assert found[2].text == "Words: frog\nStory:\n"


def test_a_single_text_adds_no_number_of_the_sample():
    ending = [{"n": 0, "text": "x"}]
    several = [{"n": n, "text": "x"} for n in (1, 2)]
    assert samples_of([Prompt("b1", "", [several, ending])]) == [1, 2]
    assert samples_of([Prompt("b1", "", [ending])]) == [0]


def test_what_fits_is_the_first_samples_whole_or_fewer_prompts():
    rows = [{"n": n, "text": "x" * 100} for n in range(4)]
    size = len(json.dumps(rows[0], separators=(",", ":"))) + 1
    prompts = [Prompt("b1", "", [rows, rows[:1]]), Prompt("b2", "", [rows, []])]
    assert that_fit(prompts, 10**6) == prompts

    def held(room):
        return [[[row["n"] for row in of_model] for of_model in one.texts] for one in that_fit(prompts, room)]

    assert held(5 * size) == held(6 * size) == [[[0, 1], [0]], [[0, 1], []]]
    assert held(3 * size) == [[[0], [0]], [[0], []]]
    assert held(3 * size - 1) == held(2 * size) == [[[0], [0]]] and held(size) == []


def test_a_page_with_too_much_text_leaves_samples_out_and_says_so(tmp_path):
    long = GradedModel("a", LOCAL, [grade(graded(p, s, " \n" * 150_000)) for p in range(3) for s in range(8)])
    page = write(tmp_path / "p", [long])
    assert 0.6 * MAX_BYTES < (tmp_path / "p").stat().st_size <= MAX_BYTES
    held = data_of(page)["samples"]
    assert held == list(range(len(held))) and 3 < len(held) < 8
    assert f"holds {3 * len(held)} of 24 texts" in page
    assert page.count("data-sample=") == len(held) and "<td>24</td>" in page
    huge = GradedModel("a", LOCAL, [grade(graded(p, 0, " \n" * 1_500_000)) for p in range(3)])
    page = write(tmp_path / "q", [huge])
    assert [one["id"] for one in data_of(page)["prompts"]] == ["b0"] and "holds 1 of 3 texts" in page
    page = write(tmp_path / "r", [GradedModel("a", LOCAL, [grade(graded(0, 0, " \n" * 4_000_000))])])
    assert "holds 0 of 1 texts" in page and "<script>" not in page


# Safe and equal -------------------------------------------------------------------------------------------


class Tags(HTMLParser):
    """Names of all start tags."""

    def __init__(self):
        super().__init__()
        self.names = []

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)


def test_texts_are_data_wherever_they_stand(tmp_path):
    bad = [Graded(HOSTILE, HOSTILE, HOSTILE, sample) for sample in range(11)]
    grades = [grade(one, assessment=HOSTILE, flags=(HOSTILE,)) for one in bad[:10]]
    failed = GradeFailure(bad[10], HOSTILE, HOSTILE)
    hostile = GradedModel(HOSTILE, {"judge": HOSTILE, HOSTILE: HOSTILE}, [*grades, failed])
    fine = GradedModel(f"{HOSTILE}2", {"judge": HOSTILE}, grades)
    page = write(tmp_path / "p", [hostile, fine, model("c", header={"judge": HOSTILE})], fact=HOSTILE)
    plain = write(tmp_path / "q", [model("a"), model("b"), model("c")], fact="x")
    found, expected = Tags(), Tags()
    found.feed(page)
    expected.feed(plain)
    assert found.names.count("script") == expected.names.count("script") == 4 and "img" not in found.names
    assert found.names.count("meta") == expected.names.count("meta")
    assert "\u202e" not in page and "\u2028" not in page
    told = data_of(page)["prompts"][0]
    assert told["texts"][0][0]["text"] == HOSTILE.replace("\u202e", "\\u202e").replace("\u2028", "\\u2028")
    assert told["texts"][0][10]["failed"].startswith("</script>")


def test_equal_grades_give_equal_bytes_and_nothing_is_fetched(tmp_path):
    pages = [write(tmp_path / name, [model("a"), model("b", 1.0)], seed="0") for name in "ab"]
    assert pages[0] == pages[1]
    assert not re.search(r"""(?:src|href)=(?!"data:)|url\(|https?://(?!www\.w3\.org/)""", pages[0])
    assert "default-src 'none'" in pages[0]


def test_nothing_graded_still_makes_a_page(tmp_path):
    page = write(tmp_path / "p", [GradedModel("a", LOCAL, ())])
    assert "No model has a total." in page and "no texts" in page
    assert 'id="desk"' not in page and "<script>" not in page
