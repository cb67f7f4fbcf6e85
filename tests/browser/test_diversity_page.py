"""The pages of ``tslens data diversity`` in Chromium: quiet, offline, readable, hostile text shown as text."""

import pytest

from tslens.corpus.diversity.copying import GRADES
from tslens.viz.diversity_page import draw_histogram, mark_shared, write_diversity_page

pytestmark = pytest.mark.browser

HOSTILE = (
    "</script><script>window.hacked=1</script>"
    '<img src="http://example.invalid/x" onerror="window.hacked=1">&amp;\u202e'
)
EDGES = [0.05 * i for i in range(21)]
ROW = {"name": f"measure {HOSTILE}", "mean": 0.25, "low": None, "high": 0.5, "n": 9}


def histogram(name, counts, never=None):
    return {"name": name, "edges": EDGES, "counts": counts, "never": never}


def facts(kind):
    shared = {"kind": kind, "n": 9, "sources": [{"name": HOSTILE, "sha256": "0"}], "warnings": [HOSTILE]}
    if kind == "comparison":
        row = {"mean": -0.2, "low": -0.3, "high": -0.1}
        rows = [
            {"name": f"{HOSTILE} {n}", "more": more, "first": row, "second": row, "difference": row,
             "null_low": -0.01, "null_high": 0.02, "p": p}
            for n, (more, p) in enumerate([(True, 0.01), (False, 0.01), (True, 0.9), (None, 0.5)])
        ]  # fmt: skip
        return {**shared, "first": HOSTILE, "second": "B", "n_permutations": 1000, "differences": rows}
    counts = {"as defined": dict.fromkeys(GRADES, 3)}
    names = [
        "largest R_2p, own story left out",
        "largest R_2p with another story",
        "3-grams that no other story has",
    ]
    pair = {"what": "completion 1, complex_template", "prompt": f"Once {HOSTILE}", "text": f"a red fox {HOSTILE}",
            "story": f"the red fox {HOSTILE} " + "and a very long story " * 80, "number": 4, "score": 0.5}  # fmt: skip
    return {
        **shared,
        "completions_of": HOSTILE,
        "measures": [ROW, *({**ROW, "name": name} for name in names)],
        "histograms": [
            histogram(HOSTILE, [9] + [0] * 18 + [3]),
            histogram("with never", [0] * 20, 7),
            histogram("empty", [0] * 20),
        ],
        "grades": {"own story left out": counts, HOSTILE: counts},
        "shown": [pair, {**pair, "prompt": ""}],
    }


@pytest.fixture
def visit(visit, tmp_path):
    """Write and open a page."""

    def go(kind, **options):
        path = tmp_path / f"{kind}.html"
        write_diversity_page(path, facts=facts(kind), header={"seed": "0", "command": HOSTILE})
        return visit(path, **options)

    return go


@pytest.mark.parametrize("kind", ["completions", "corpus", "comparison"])
def test_hostile_text_is_text(visit, kind):
    page = visit(kind)
    assert page.locator("img").count() == 0
    assert page.locator("script:not([type])").count() == 0
    assert "window.hacked=1" in page.inner_text("body")
    assert "\\u202e" in page.inner_text("main")


@pytest.mark.parametrize("kind", ["completions", "comparison"])
def test_a_phone_scrolls_only_downwards(visit, kind):
    page = visit(kind, viewport={"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_pairs_stand_side_by_side_with_shared_words_marked(visit):
    page = visit("completions", viewport={"width": 1200, "height": 800})
    marks = page.locator(".pair").first.locator("mark").all_text_contents()
    assert marks[0].startswith("red fox") and marks[-1].startswith("red fox")
    left, right = (page.locator(".pair").first.locator("> div").nth(side).bounding_box() for side in (0, 1))
    assert left["y"] == right["y"] and left["x"] + left["width"] <= right["x"]
    assert page.locator(".pair").first.locator(".soft").inner_text().startswith("Once")
    assert page.locator(".pair").nth(1).locator(".soft").count() == 0


def test_histograms_have_labels_and_bars(visit):
    page = visit("completions")
    charts = page.locator("#histograms svg")
    assert charts.count() == 3
    assert [charts.nth(i).locator("rect").count() for i in range(3)] == [2, 1, 0]
    assert charts.nth(1).locator("rect.never").count() == 1
    assert charts.nth(0).locator("title").first.text_content() == "0 to 0.05: 9"
    assert "12 values" in charts.nth(0).get_attribute("aria-label")
    heights = [charts.nth(0).locator("rect").nth(i).bounding_box()["height"] for i in (0, 1)]
    assert heights[0] == pytest.approx(3 * heights[1], rel=0.02)


def test_the_lead_counts_measures(visit):
    page = visit("comparison")
    lead = page.inner_text(".lead")
    assert lead.startswith("Of 3 measures, 1 call") and "1 B, and 1 see no difference" in lead
    assert page.locator("#differences tbody tr").count() == 4


def test_text_reads_in_the_dark(visit):
    contrast = """() => {
      const light = (colour) => {
        const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3)
          .map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const paper = light(getComputedStyle(document.body).backgroundColor);
      return [".soft", ".hint", "mark", ".plain th"]
        .map((name) => light(getComputedStyle(document.querySelector(name)).color))
        .map((ink) => (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05));
    }"""
    for scheme in ("light", "dark"):
        assert min(visit("completions", color_scheme=scheme).evaluate(contrast)) >= 4.5


def test_equal_facts_give_equal_bytes(tmp_path):
    for name in "ab":
        write_diversity_page(tmp_path / name, facts=facts("completions"), header={})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_marks_and_bars_without_a_browser():
    assert mark_shared("the <b> fox ran", "A b fox") == "the &lt;<mark>b&gt; fox</mark> ran"
    assert draw_histogram(histogram("x", [0] * 20)).count("<rect") == 0
