"""The page of graded models in Chromium: quiet, offline, usable by mouse and keyboard, safe, quick."""

import itertools
import re
import time
from functools import partial

import numpy as np
import pytest

from tslens.grading.results import TEACHER, TRUE_ENDING, GradedModel
from tslens.types import Grade, Graded, GradeFailure
from tslens.viz.grades_page import write_grades_page

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.browser
HOSTILE = (
    "</script><script>window.hacked=1</script>"
    '<img src="http://example.invalid/x" onerror="window.hacked=1">&amp;\u202e'
)
SEEN = HOSTILE.replace("\u202e", "\\u202e")
HEADER = {
    "judge": "local",
    "judge_version": "tslens local judge 1, not GPT-4",
    "prompts": "beginnings, version 1",
}
MOST_BYTES, MOST_SECONDS = 8_000_000, 2.0


def grade(graded, value, **more):
    points = [min(10.0, max(0.0, value + step)) for step in (0.5, -0.5, 0.0, 1.0)]
    ends = {"grammar": (points[0] - 1, points[0] + 1), "plot": (points[3] - 1, points[3] + 1)}
    return Grade(graded, *points, "ABCDEF"[round(value) % 6], intervals=ends, **more)


def some_models():
    prompts = {"b01": "One day a fox ran to the old barn, and then it", "b/2": HOSTILE, "b03": "x " * 200}
    models = []
    for m, label in enumerate(("first", "second", HOSTILE)):
        outcomes = []
        for p, (id_, text) in enumerate(prompts.items()):
            for s in range(3):
                story = f" text {m} {p} {s}.\n{HOSTILE}"
                one = Graded(text, story, id_, s, ended=s != 1)
                more = {"assessment": HOSTILE, "flags": (HOSTILE,)} if s == 0 else {}
                outcomes.append(grade(one, 3 * m + p + 0.1 * s, **more))
        if m == 1:
            outcomes[2] = GradeFailure(outcomes[2].graded, "refusal", HOSTILE)
            outcomes.append(grade(Graded(prompts["b01"], " text 1 0 0.", "b01", 0, repeat=1), 4.0))
        models.append(GradedModel(label, {**HEADER, "model": label}, outcomes))
    endings = [grade(Graded(text, " its end.", id_, 0, ended=True), 9) for id_, text in prompts.items()]
    return [*models, GradedModel(TRUE_ENDING, HEADER, endings), GradedModel(TEACHER, {}, ())]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("grades") / "grades.html"
    write_grades_page(path, some_models(), header={"seed": "0", "command": HOSTILE})
    return path


@pytest.fixture
def visit(visit, path):
    """Open the page."""
    return partial(visit, path)


def cards(page):
    return page.locator("#columns article")


def stories(page):
    """What stands after the mark where each completion begins."""
    return page.locator("#columns .text").evaluate_all("all => all.map(one => one.lastChild.textContent)")


def test_texts_of_one_prompt_stand_side_by_side_with_their_grades(visit):
    page = visit(viewport={"width": 1400, "height": 900})
    boxes = [card.bounding_box() for card in cards(page).all()]
    assert len(boxes) == 4 and len({box["y"] for box in boxes}) == 1
    assert all(a["x"] + a["width"] <= b["x"] for a, b in itertools.pairwise(boxes))
    assert [text.split("\n")[0] for text in stories(page)] == [
        " text 0 0 0.", " text 1 0 0.", " text 2 0 0.", " its end.",
    ]  # fmt: skip
    first, second, third = (cards(page).nth(i) for i in range(3))
    assert first.locator("dd:not(.interval)").all_inner_texts() == ["0.5", "0.0", "0.0", "1.0"]
    assert (
        third.locator("dd").first.get_attribute("class") == "p"
        and third.locator("dd").first.inner_text() == "6.5"
    )
    assert third.locator("dl div").first.get_attribute("title") == (
        "grammar 6.5, 95% prediction interval 5.5 to 7.5"
    )
    assert third.locator(".interval").all_inner_texts() == ["5.5–7.5", "6.0–8.0"]
    assert "graded again 4.5, 3.5, 4.0, 5.0" in second.inner_text()
    assert page.locator("#given").inner_text() == "One day a fox ran to the old barn, and then it"
    assert page.locator("#given .begins").count() == 1 and first.locator(".text .begins").count() == 1
    assert first.locator(".text .soft").inner_text() == "One day a fox ran to the old barn, and then it"
    details = first.locator("details")
    assert not details.locator("p").is_visible()
    details.locator("summary").click()
    assert details.locator("p").inner_text() == SEEN


def test_keys_and_fields_choose_prompt_and_sample(visit):
    page = visit()
    page.locator("#texts").focus()
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#where") == "b/2, prompt 2 of 3, sample 0"
    page.keyboard.press("2")
    assert stories(page)[0].startswith(" text 0 1 2.") and page.url.endswith("#b%2F2/2")
    page.keyboard.press("7")  # there is none
    assert page.inner_text("#where").endswith("sample 2")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")  # the last stays
    assert page.inner_text("#where") == "b03, prompt 3 of 3, sample 2"
    assert page.locator("#after").is_disabled() and page.locator("#before").is_enabled()
    page.locator("#before").click()
    assert page.input_value("#prompt") == "1"
    page.select_option("#prompt", "0")
    page.locator("#samples button", has_text="1").click()
    assert page.locator("#samples [aria-pressed=true]").inner_text() == "1"
    assert stories(page)[2].startswith(" text 2 0 1.")
    assert "cut at the limit of tokens" in cards(page).nth(0).inner_text()
    assert "its only text" in cards(page).nth(3).inner_text() and stories(page)[3] == " its end."
    before = page.inner_text("#where")
    page.locator("#scores th").first.click()
    page.keyboard.press("ArrowRight")  # outside of the desk
    assert page.inner_text("#where") == before


def test_a_failure_is_told_and_its_text_shown(visit):
    page = visit("#b01/2")
    failed = cards(page).nth(1)
    assert failed.locator(".failed").inner_text() == "no grade: refusal"
    assert failed.locator("dd").count() == 0 and stories(page)[1].startswith(" text 1 0 2.")


def test_the_address_and_the_boxes_choose(visit):
    page = visit("#b03/1")
    assert page.inner_text("#where") == "b03, prompt 3 of 3, sample 1"
    tail = cards(page).nth(0).locator(".text .soft").inner_text()
    assert tail.startswith("… x") and len(tail) < 100
    page.get_by_label("second", exact=True).uncheck()
    assert [name.split()[0] for name in page.locator("#columns h3").all_inner_texts()][:1] == ["first"]
    assert cards(page).count() == 3
    page.evaluate("location.hash = '#b01/0'")
    sync_api.expect(page.locator("#where")).to_have_text("b01, prompt 1 of 3, sample 0")
    assert cards(page).count() == 3
    page.locator("#every").click()  # the box that is empty is checked again
    assert cards(page).count() == 4
    page.locator("#every").click()
    assert cards(page).count() == 0
    page.evaluate("location.hash = '#%E0%A4%A'")  # no address at all
    sync_api.expect(page.locator("#where")).to_have_text("b01, prompt 1 of 3, sample 0")


def test_hostile_text_is_text(visit):
    page = visit("#b%2F2/0")
    assert page.locator("img").count() == 0
    assert page.locator("script:not([type])").count() == 3
    assert page.inner_text("#given") == SEEN
    assert stories(page)[0] == f" text 0 1 0.\n{SEEN}"
    assert cards(page).nth(2).locator("h3").evaluate("head => head.firstChild.textContent") == SEEN
    assert cards(page).nth(0).locator(".flags span").first.inner_text() == SEEN
    assert SEEN in page.locator("#models tbody").inner_text()


def test_tables_are_complete_and_differences_sort_and_filter(visit):
    page = visit()
    assert page.locator("#models tbody tr").count() == 5
    assert "not asked" in page.locator("#models tbody tr").last.inner_text()
    refused = page.locator("#models tbody tr").nth(1)
    assert "no total: 11%" in refused.inner_text() and "1 refusal" in refused.inner_text()
    assert page.locator("#models svg circle").count() == 3 * 4
    rows = "all => all.filter(row => !row.hidden).map(row => row.innerText.split(/\\t|\\n/)[0])"
    names = page.locator("#scores tbody tr").evaluate_all(rows)
    assert len(names) == 3 and names[0].startswith("first \N{MINUS SIGN} ")
    head = page.locator("#scores th", has_text="grammar")
    head.get_by_role("button").click()
    figures = page.locator("#scores tbody tr td:nth-child(2)").all_inner_texts()
    values = [float(re.match(r"[+\u2212][\d.]+", text)[0].replace("\u2212", "-")) for text in figures]
    assert values == sorted(values, reverse=True)
    page.fill("#filters [name=model]", "first")
    assert len(page.locator("#scores tbody tr").evaluate_all(rows)) == 2


def test_without_scripts_the_tables_stand(browser, path):
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(path.as_uri())
    assert page.locator("#models tbody tr").count() == 5 and page.locator("#scores tbody tr").count() == 3
    assert page.locator("noscript p").is_visible()
    assert not page.locator("#asked").is_visible() and not page.locator("#texts").is_visible()
    page.context.close()


@pytest.mark.parametrize("width", [360, 400, 768, 1400])
def test_it_scrolls_only_downwards(visit, width):
    page = visit(viewport={"width": width, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_both_tables_are_as_wide_as_the_page(visit):
    page = visit(viewport={"width": 1400, "height": 900})
    boxes = [page.locator(f"{part} .box").bounding_box() for part in ("#models", "#pairs")]
    assert boxes[0]["x"] == boxes[1]["x"] and boxes[0]["width"] == boxes[1]["width"]
    table = page.locator("#models table").bounding_box()
    assert table["width"] >= boxes[0]["width"] - 2


def test_the_text_of_the_chosen_prompt_ends_before_the_arrow(visit):
    page = visit("#b03/1", viewport={"width": 1400, "height": 900})
    style = "one => [getComputedStyle(one).textOverflow, parseFloat(getComputedStyle(one).paddingRight)]"
    cut, room = page.locator("#prompt").evaluate(style)
    assert cut == "ellipsis" and room >= 24


def test_text_reads_in_light_and_dark(visit, with_luminance):
    contrast = with_luminance("""
      const style = (element) => getComputedStyle(element);
      const card = style(document.querySelector("#columns article")).backgroundColor;
      const names = "#models small, #models .p, #desk dt, #desk dd, #desk small, #desk .soft, .flags span, #where";
      return [...document.querySelectorAll(names)].map((element) => {
          const paper = light(style(element).backgroundColor, card);
          const ink = light(style(element).color, card);
          const [more, less] = [Math.max(ink, paper), Math.min(ink, paper)];
          return [(more + 0.05) / (less + 0.05), element.className, element.textContent];
        });
    """)
    for scheme in ("light", "dark"):
        found = visit("#b01/0", color_scheme=scheme).evaluate(contrast)
        assert len(found) > 50
        assert min(found)[0] >= 4.5, min(found)


def test_five_thousand_texts_are_small_and_open_quickly(browser, tmp_path):
    """Ten models, 50 prompts, ten completions each, as long as models of 256 tokens write them."""
    words = np.array(
        "the a fox ran home and saw big red ball with little girl who said no stop happy".split()
    )
    rng = np.random.default_rng(0)
    models = []
    for m in range(10):
        outcomes = []
        for p in range(50):
            for s in range(10):
                text = " " + " ".join(words[rng.integers(len(words), size=200)])
                outcomes.append(grade(Graded(f"Beginning {p} " * 20, text, f"b{p}", s), rng.uniform(2, 8)))
        models.append(GradedModel(f"model {m}", HEADER, outcomes))
    path = tmp_path / "large.html"
    write_grades_page(path, models, header={})
    assert 4_500_000 < path.stat().st_size < MOST_BYTES
    assert "To stay below 8 MB" not in path.read_text(encoding="utf-8")
    opened, turned = [], []
    for _ in range(12):  # until it is quick once: other work may slow this machine
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        start = time.perf_counter()
        page.goto(path.as_uri(), wait_until="load")
        cards(page).first.wait_for(state="visible")
        page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        opened.append(time.perf_counter() - start)
        start = time.perf_counter()
        page.locator("#after").click()
        page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        turned.append(time.perf_counter() - start)
        assert cards(page).count() == 10
        page.close()
        if min(opened) < MOST_SECONDS and min(turned) < 1.0:
            break
    print(f"opened in {min(opened):.2f} s")
    assert min(opened) < MOST_SECONDS and min(turned) < 1.0
