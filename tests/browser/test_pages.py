"""The pages in Chromium, opened from a file: quiet, offline, usable, safe."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

from tslens.corpus.words import find_units
from tslens.types import Clause, HeadId, HeadScore, Labels
from tslens.viz.heads_page import write_heads_page
from tslens.viz.heads_words import ScanFacts
from tslens.viz.labels_page import write_labels_page
from tslens.viz.look_page import write_look_page
from tslens.viz.paragraph import KINDS, OnParagraph, Paragraph
from tslens.viz.patterns import ExamplePattern

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.browser

HOSTILE = [
    "<script>window.hacked=1</script>",
    "</script><script>window.hacked=1</script>",
    '<img src="http://example.invalid/x" onerror="window.hacked=1">',
    "&amp;",
    "\"'`",
    "\u2028",
    "\u202e",
]
TOKENS = [
    "<|endoftext|>",
    "One",
    " day",
    ",",
    " a",
    " fox",
    " ran",
    ".",
    *HOSTILE,
    "\n",
    "He",
    " was",
    " happy",
    ".",
]
HEADS = [HeadId(0, index) for index in range(12)]
PROBES = {
    "previous_token": "To the token before.",
    "first_token": HOSTILE[0],
    "sentence_end": "To the last mark.",
}

EFFECTS = {
    "edge": 0.03, "edge_low": -0.01, "full": 0.05, "zero": 0.2, "zero_beyond": 0.15, "mean": 0.1, "resample": 0.1,
}  # fmt: skip

BLUE_PIXELS = """() => {
  const canvas = document.querySelector("#pattern canvas");
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let blue = 0;
  for (let i = 0; i < data.length; i += 4) blue += data[i + 2] > data[i] + 60 && data[i + 3] > 0;
  return blue > 500;
}"""


def pattern(head: HeadId) -> np.ndarray:
    """Head 0 looks at the token before, the others spread evenly."""
    n_tokens = len(TOKENS)
    if head.index == 0:
        return np.eye(n_tokens, k=-1, dtype=np.float32) + np.eye(n_tokens, dtype=np.float32) * (
            np.arange(n_tokens) == 0
        )
    return np.tril(np.ones((n_tokens, n_tokens))) / np.arange(1, n_tokens + 1)[:, None]


def row(head: HeadId, place: int, probe: str) -> HeadScore:
    strong = (head.index + place) % 5 == 0
    excess = 0.8 - 0.05 * head.index if strong else -0.01 * head.index
    value = max(0.0, excess + 0.1)
    return HeadScore(
        head, probe, "word", value, max(0, value - 0.02), value + 0.02, value if place == 0 else None,
        {"uniform": 0.1, HOSTILE[0]: 0.01}, excess, excess - 0.05, 0.0005 if strong else 0.4,
        "candidate" if strong else "unclear" if head.index == 4 and place == 0 else "no", "positional",
        EFFECTS if strong else None, None, (excess, excess), 50,
    )  # fmt: skip


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("pages")
    patterns = {head: pattern(head) for head in HEADS}
    cannot_tell = ["What a head causes."]
    header = {"seed": "0", "command": "tslens heads " + "x" * 200, "name": HOSTILE[1]}
    write_heads_page(
        folder / "heads.html", title=f"Heads {HOSTILE[0]}", model="l1_h64", header=header,
        rows=[row(head, place, probe) for head in HEADS for place, probe in enumerate(PROBES)],
        probes=PROBES, facts=ScanFacts(0.05, {HOSTILE[0]: HOSTILE[0]}, 20), counts={"floor": 8},
        distance_profiles={head: np.linspace(0.1, 0, 64) for head in HEADS},
        examples=[ExamplePattern(HOSTILE[0], TOKENS, patterns), ExamplePattern("Second", TOKENS, patterns)],
        cannot_tell=cannot_tell,
        paragraph=Paragraph(
            ExamplePattern("The paragraph", TOKENS, patterns),
            {KINDS[0].title: (OnParagraph("previous_token", "word", (2, 7, 9), dict.fromkeys(HEADS, 0.5)),)},
        ),
        agreement={f"edge~{HOSTILE[0]}": 0.5},
    )  # fmt: skip
    write_look_page(
        folder / "look.html", title="A text", model="l1_h64", header=header, tokens=TOKENS, patterns=patterns,
        selected=HeadId(0, 3), losses=np.linspace(0, 9, len(TOKENS)), cannot_tell=cannot_tell,
    )  # fmt: skip
    text = (folder / "heads.html").read_text(encoding="utf-8")
    (folder / "tampered.html").write_text(
        text.replace(
            "</main>", "<script>window.hacked=1</script><img src=x onerror='window.hacked=1'></main>"
        ),
        encoding="utf-8",
    )
    return SimpleNamespace(
        heads=folder / "heads.html", look=folder / "look.html", bad=folder / "tampered.html"
    )


def wait_for_head(page, head: str) -> None:
    """The page follows its address, a moment after a click has changed it."""
    sync_api.expect(page.locator("#head")).to_have_text(re.compile(rf"^{head}\b"))


def shown(page, column: int) -> list[str]:
    return page.evaluate(
        "column => [...document.querySelectorAll('#scores tbody tr')].filter(row => !row.hidden)"
        ".map(row => row.cells[column].textContent)",
        column,
    )


def test_table_sorts_by_mouse_and_keyboard(visit, pages) -> None:
    page = visit(pages.heads)
    assert shown(page, 8)[0] == "● candidate"
    value = page.locator("#scores th", has_text="value")
    value.get_by_role("button").click()
    assert value.get_attribute("aria-sort") == "descending"
    figures = [float(text.split()[0]) for text in shown(page, 3)]
    assert figures == sorted(figures, reverse=True) and len(set(figures)) > 5
    value.get_by_role("button").press("Enter")
    assert value.get_attribute("aria-sort") == "ascending"
    assert [float(text.split()[0]) for text in shown(page, 3)] == sorted(figures)
    page.locator("#scores th", has_text="head").get_by_role("button").click()
    assert value.get_attribute("aria-sort") == "none"
    assert shown(page, 0) == [str(head) for head in HEADS for _ in PROBES]
    page.locator("#scores th", has_text="mul").get_by_role("button").click()
    assert shown(page, 7)[0] != "–" and shown(page, 7)[-1] == "–"


def test_filters_narrow_the_table(visit, pages) -> None:
    page = visit(pages.heads)
    page.select_option("#filters [name=probe]", "first token")
    assert set(shown(page, 1)) == {"first token"} and len(shown(page, 1)) == len(HEADS)
    page.select_option("#filters [name=status]", "candidate")
    assert shown(page, 0) == ["L0H4", "L0H9"]
    assert page.inner_text("#shown") == "2 of 36 rows"
    page.select_option("#filters [name=probe]", "")
    page.select_option("#filters [name=status]", "")
    page.fill("#filters [name=head]", "l0h11")
    assert shown(page, 0) == ["L0H11"] * 3


def test_choosing_a_head_draws_its_pattern(visit, until, pages) -> None:
    page = visit(pages.heads)
    page.locator("#map a", has_text="L0H5").click()
    wait_for_head(page, "L0H5")
    assert page.locator("#map tr.chosen").inner_text().startswith("L0H5")
    page.locator("#pattern").scroll_into_view_if_needed()
    page.wait_for_selector("#pattern canvas")
    assert page.locator("#pattern").get_attribute("aria-label").startswith("Attention pattern of L0H5")
    page.locator("#map td").first.click()
    wait_for_head(page, "L0H0")
    page.locator("#pattern").scroll_into_view_if_needed()
    page.wait_for_selector("#pattern[aria-label*='L0H0 '] canvas")
    until(page, BLUE_PIXELS)
    assert page.locator("#heads a canvas").count() == len(HEADS)
    assert page.locator("#profile rect").count() == 64


def test_cards_of_all_heads_choose_and_say_what_was_found(visit, pages) -> None:
    page = visit(pages.heads)
    card = page.locator("#heads a", has_text="L0H4")
    assert "● first token" in card.inner_text()
    card.click()
    wait_for_head(page, "L0H4")
    assert card.get_attribute("aria-current") == "true"
    first, second = page.locator("#says details").all()
    assert (first.get_attribute("open"), second.get_attribute("open")) == ("", None)
    assert first.locator("summary").inner_text().startswith("● candidate: first token")
    names = first.locator(".dots .name").all_inner_texts()
    assert names[:3] == ["this head", "null: uniform", f"null: {HOSTILE[0]}"]
    assert first.locator(".dots .figure").first.inner_text() == "0.70"
    assert "No role: taking this attention away changes the loss by +0.030 nats" in first.inner_text()
    assert names[3:] == [
        "this attention, beyond like attention", "all of this attention", "whole head: zeros for it",
        "whole head: its mean for it", "whole head: another story’s for it",
    ]  # fmt: skip
    assert first.locator(".hollow").count() == 1 and "+0.200 +0.150" in first.inner_text()
    second.locator("summary").click()
    assert second.locator(".dots").first.is_visible()


def test_dots_stand_where_their_figures_are(visit, pages) -> None:
    page = visit(pages.heads, "#L0H4")
    shares = page.locator("#says details[open] .dots").first.evaluate(
        "box => [...box.querySelectorAll('.dot')].map(dot => parseFloat(dot.style.left))"
    )
    assert shares == pytest.approx([100 * value / 0.75 for value in (0.7, 0.1, 0.01)], abs=0.1)


def test_the_figure_of_the_paper_is_there_and_its_link_chooses(visit, pages) -> None:
    page = visit(pages.heads)
    panel = page.locator("#figure article")
    assert panel.count() == 1 and "0.50 on this paragraph" in panel.inner_text()
    assert panel.locator(".asks").all_inner_texts() == ["day", ".", HOSTILE[1]]
    panel.locator("a").click()
    wait_for_head(page, "L0H0")
    assert page.locator("#story option").first.inner_text() == "The paragraph"


def test_address_chooses_the_head(visit, pages) -> None:
    page = visit(pages.heads, "#L0H7")
    assert page.inner_text("#head").startswith("L0H7")


def test_tokens_show_where_the_head_looks(visit, pages) -> None:
    page = visit(pages.heads, "#L0H0")
    words = page.locator("#text [role=button]")
    assert words.count() == len(TOKENS)
    words.nth(5).click()
    assert page.inner_text("#looks") == "From fox (token 5) L0H0 looks at a 1.00."
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#looks") == "From ran (token 6) L0H0 looks at fox 1.00."
    assert words.nth(6).evaluate("word => word === document.activeElement")
    assert words.nth(6).get_attribute("aria-pressed") == "true"
    assert words.nth(5).evaluate("word => word.style.getPropertyValue('--x')") == "1.000"
    page.select_option("#story", "1")
    assert "token 6" in page.inner_text("#looks")


@pytest.mark.parametrize("name", ["heads", "look"])
def test_hostile_tokens_are_text(visit, pages, name: str) -> None:
    page = visit(getattr(pages, name))
    page.locator("#pattern").scroll_into_view_if_needed()
    page.wait_for_selector("#pattern canvas")
    words = page.locator("#text [role=button]").all_text_contents()
    assert words[8:13] == HOSTILE[:5]
    assert words[13:15] == ["\\u2028", "\\u202e"]
    assert page.locator("img").count() == 0
    assert page.locator("script:not([type])").count() == (5 if name == "heads" else 2)


def test_a_script_that_tslens_did_not_write_is_not_run(browser, pages) -> None:
    page = browser.new_page()
    page.goto(pages.bad.as_uri())
    assert page.inner_text("#head").startswith("L0H0")
    assert page.evaluate("window.hacked") is None
    page.close()


@pytest.mark.parametrize("name", ["heads", "look"])
def test_a_phone_scrolls_only_downwards(visit, pages, name: str) -> None:
    page = visit(getattr(pages, name), viewport={"width": 360, "height": 740})
    page.locator("#pattern").scroll_into_view_if_needed()
    page.wait_for_selector("#pattern canvas")
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_dark_pages_are_dark_and_text_reads_in_both(visit, pages) -> None:
    luminance = """() => {
      const light = (colour) => {
        const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3)
          .map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const paper = light(getComputedStyle(document.body).backgroundColor);
      const inks = ["body", ".lead", ".hint", "dt", "#scores small", "#scores a"]
        .map((name) => light(getComputedStyle(document.querySelector(name)).color));
      return [paper, ...inks.map((ink) => (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05))];
    }"""
    for scheme, is_dark in (("light", False), ("dark", True)):
        paper, *contrasts = visit(pages.heads, color_scheme=scheme).evaluate(luminance)
        assert (paper < 0.1) == is_dark
        assert min(contrasts) >= 4.5


def test_table_reads_without_scripts(browser, pages) -> None:
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(pages.heads.as_uri())
    assert page.locator("#scores tbody tr").count() == len(HEADS) * len(PROBES)
    assert page.locator("noscript p").is_visible() and not page.locator("#panel").is_visible()
    page.context.close()


def test_look_page_starts_with_the_asked_head_and_colours_losses(visit, pages) -> None:
    page = visit(pages.look)
    assert page.inner_text("#head").startswith("L0H3")
    page.locator("#wall a", has_text="L0H10").click()
    wait_for_head(page, "L0H10")
    tints = page.locator("#surprise .text span").evaluate_all(
        "all => all.map(e => +e.style.getPropertyValue('--x'))"
    )
    assert tints == sorted(tints) and tints[0] == 0 and tints[-1] == 1


def test_labels_page_colours_and_points(visit, tmp_path) -> None:
    text = f"Lily found a ball. It was {HOSTILE[0]} red."
    n_units = len(find_units(text))
    rest = n_units - 6
    labels = Labels(
        "hand", ("PROPN", "VERB", "DET", "NOUN", "PUNCT", "PRON", *["X"] * rest), ("x",) * n_units,
        (0, 0, 0, 0, -1, -1, *[-1] * rest), (Clause(1, 0, 3),), (0, -1, -1, 1, -1, 1, *[-1] * rest),
        (-1, -1, -1, -1, -1, 3, *[-1] * rest), 0, (0,), ("x",), (-1,) * n_units, ("opening",) * n_units,
    )  # fmt: skip
    write_labels_page(
        tmp_path / "labels.html", text=text, labels=labels, title=HOSTILE[1], header={"a": HOSTILE[2]}
    )
    page = visit(tmp_path / "labels.html")
    colour = "name => getComputedStyle(document.querySelector(`.labelled .${name}`)).backgroundColor"
    clear = "rgba(0, 0, 0, 0)"
    assert page.evaluate(colour, "object") != clear
    page.click("[data-layer=topic]")
    assert page.evaluate(colour, "topic") != clear and page.evaluate(colour, "subject") == clear
    page.click("[data-u='5']")
    assert "antecedent" in page.inner_text("#word")
    assert page.evaluate("[...document.querySelectorAll('.labelled .key')].map(e => e.textContent)") == [
        "ball"
    ]
    page.locator("[data-u='1']").press("Enter")
    assert page.evaluate("[...document.querySelectorAll('.labelled .key')].map(e => e.textContent)") == [
        "Lily"
    ]
    assert page.inner_text("#legend").strip() == "topic"
