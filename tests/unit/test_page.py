"""The pages as text: nothing from the network, nothing interpreted, below 5 MB, equal bytes for equal input."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tslens.corpus.labelled import read_labels
from tslens.errors import RunError
from tslens.model.load import load_model
from tslens.types import HeadId, HeadScore, Status
from tslens.viz.heads_cards import card_data, sparkline
from tslens.viz.heads_page import summary, write_heads_page
from tslens.viz.heads_table import score_table
from tslens.viz.heads_words import ScanFacts, basis
from tslens.viz.heat_map import columns_of, heat_map
from tslens.viz.look_page import write_look_page
from tslens.viz.page import MAX_PAGE_BYTES, circuitsvis_script, embed_json, escape, visible
from tslens.viz.paper_figure import best_on, paper_figure
from tslens.viz.paragraph import KINDS, OnParagraph, Paragraph, paragraph_story, read_paragraph
from tslens.viz.patterns import CHART_TOKENS, ExamplePattern, heads_that_fit, pack_pattern

HOSTILE = [
    "<script>alert(1)</script>",
    "</script>",
    "<!--",
    "&amp;",
    "\"'",
    "\u2028",
    "\u202e",
    "\udc80",
    "\n",
]
ELEMENTS = set(
    re.findall(
        r"\w+",
        "html head meta link title style body header h1 p dl div dt dd noscript main section h2 h3 table caption "
        "thead tbody tr th td a small span form label select option input output button i b details summary br "
        "article ul li footer script nav svg path q br colgroup",
    )
)
PROBES = {"previous_token": "Attention to the token <b>before</b>.", "sentence_end": "To the last mark."}
SERVED = {"previous_token": "every prediction", "sentence_end": "the stop", "first_token": "none: it rests"}
FACTS = ScanFacts(floor=0.05, served=SERVED, n_explained=20, n_counted=4000)
EFFECTS = {
    "edge": 0.03,
    "edge_low": 0.01,
    "full": 0.05,
    "zero": 0.2,
    "mean": 0.1,
    "resample": 0.1,
    "mass": 0.4,
}


class Elements(HTMLParser):
    """Start tags with their attributes, and the text of each script."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self._open: dict[str, str | None] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = dict(attrs) if tag == "script" else None

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self.scripts.append((self._open, data))
            self._open = None


def score(
    head: HeadId, excess: float = 0.5, status: Status = "candidate", probe: str = "previous_token"
) -> HeadScore:
    value = excess + 0.05
    nulls = {"uniform": 0.05, "random <twin>": 0.01}
    return HeadScore(
        head, probe, "word", value, value - 0.01, value + 0.01, None, nulls, excess, excess - 0.03, 0.0005, status,
        "positional", None, None, (excess, excess), 100,
    )  # fmt: skip


def causal(n_tokens: int, seed: int = 0) -> np.ndarray:
    weights = np.tril(np.random.default_rng(seed).random((n_tokens, n_tokens)))
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def write(path: Path, *, n_layers: int = 1, n_heads: int = 4, tokens: list[str] | None = None) -> str:
    tokens = tokens or ["<|endoftext|>", "One", " day", *HOSTILE]
    heads = [HeadId(layer, index) for layer in range(n_layers) for index in range(n_heads)]
    strength = {head: 0.9 - 0.8 * place / len(heads) for place, head in enumerate(heads)}
    pattern = causal(len(tokens))
    write_heads_page(
        path,
        title="Heads </title><script>alert(2)</script>",
        model="l1_h64",
        header={"seed": "0", "command": "tslens heads --model <x> " + "y" * 40},
        rows=[score(head, strength[head], probe=probe) for head in heads for probe in PROBES],
        probes=PROBES,
        facts=FACTS,
        counts={"half the floor": 9, "floor": 4},
        distance_profiles={head: np.array([0.1, np.nan, 0.3]) for head in heads},
        examples=[ExamplePattern("A story <i>", tokens, dict.fromkeys(heads, pattern))],
        cannot_tell=["What a head <causes>."],
        paragraph=paragraph(heads),
        agreement={"edge~zero": -0.25},
    )
    return path.read_text(encoding="utf-8")


def paragraph(heads: list[HeadId]) -> Paragraph:
    """A paragraph of four tokens, one of them hostile, where later heads look more at the token before."""
    tokens = ["<|endoftext|>", "One", " <i>day", " on"]
    patterns = {}
    for place, head in enumerate(heads):
        share = place / len(heads)
        patterns[head] = share * np.eye(4, k=-1) + (1 - share) * np.eye(4)
    values = {head: place / len(heads) for place, head in enumerate(heads)}
    near = OnParagraph("previous_token", "word", (2, 3), values)
    return Paragraph(ExamplePattern("The <b>paragraph", tokens, patterns), {KINDS[0].title: (near,)})


def look(path: Path) -> str:
    tokens = ["<|endoftext|>", *HOSTILE]
    write_look_page(
        path,
        title="A text <b>",
        model="m",
        header={},
        tokens=tokens,
        patterns={HeadId(0, 0): causal(len(tokens)), HeadId(0, 1): causal(len(tokens), 1)},
        selected=HeadId(0, 1),
        losses=np.array([np.nan, *range(len(HOSTILE))]),
        cannot_tell=["Nothing."],
    )
    return path.read_text(encoding="utf-8")


@pytest.fixture(params=[write, look], ids=["heads", "look"])
def page(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return request.param(tmp_path / "page.html")


def parse(page: str) -> Elements:
    elements = Elements()
    elements.feed(page)
    return elements


def test_unseen_characters_are_spelled_and_markup_is_escaped() -> None:
    assert visible("a\u2028\u202e\x00\udc80b\n\té") == "a\\u2028\\u202e\\u0000\\udc80b↵⇥é"
    assert escape("<a href=\"x\" id='y'>&") == "&lt;a href=&quot;x&quot; id=&#x27;y&#x27;&gt;&amp;"


def test_embedded_json_is_ascii_without_tags_and_reads_back() -> None:
    text = embed_json(HOSTILE[:7])
    assert "<" not in text and text.isascii()
    assert json.loads(text) == HOSTILE[:7]
    with pytest.raises(ValueError):
        embed_json([float("nan")])


def test_circuitsvis_bundle_can_stand_in_a_script() -> None:
    script = circuitsvis_script()
    assert len(script) > 1_000_000 and "AttentionPattern" in script
    assert "</script" not in script.lower() and "<!--" not in script
    assert "sourceMappingURL" not in script and script.endswith("\n")


def test_only_known_elements_and_the_bundle_once(page: str) -> None:
    elements = parse(page)
    assert {tag for tag, _ in elements.tags} <= ELEMENTS
    assert not any(name.startswith("on") for _, attributes in elements.tags for name in attributes)
    assert page.count(circuitsvis_script()) == 1
    assert "alert(" not in "".join(text for attributes, text in elements.scripts if "type" not in attributes)


def test_nothing_is_loaded(page: str) -> None:
    for tag, attributes in parse(page).tags:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            target = attributes.get(name) or ""
            assert target.startswith("#") or target in ("", "data:,"), f"{tag} {name}={target}"
    style = page.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style and "@import" not in style and "http" not in style


def test_policy_names_every_script_and_no_other(page: str) -> None:
    elements = parse(page)
    policy = (
        next(a["content"] for _, a in elements.tags if a.get("http-equiv") == "Content-Security-Policy") or ""
    )
    code = [text for attributes, text in elements.scripts if "type" not in attributes]
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in code]
    assert re.findall(r"'sha256-([^']+)'", policy) == hashes
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy and "unsafe-inline" not in policy.partition("style-src")[0]


@pytest.mark.parametrize("write_one", [write, look])
def test_equal_input_gives_equal_bytes(write_one, tmp_path: Path) -> None:
    assert write_one(tmp_path / "one.html") == write_one(tmp_path / "other.html")


def test_rows_stand_in_the_page_without_scripts(tmp_path: Path) -> None:
    page = write(tmp_path / "page.html")
    body = page.partition("</style>")[2].partition("<script")[0]
    assert body.count('<a href="#L0H3">') == 4  # heat map once, table once a probe, the figure
    assert '<a href="#L0H3" class="candidate"><b>L0H3</b>' in body  # its card
    assert "0.950 <small>[0.940, 0.960]</small>" in body and "+0.900 <small>≥ +0.870</small>" in body
    assert "random &lt;twin&gt;" in body and "half the floor: 9" in body
    assert "What a head &lt;causes&gt;." in body and "token &lt;b&gt;before" in body
    assert body.index("<h2>What this page cannot tell you</h2>") > body.index('id="measurements"')


def says(row: HeadScore, facts: ScanFacts = FACTS) -> dict:
    """What the card says of one row."""
    return card_data(row.head, [row], facts, None)["says"][0]


def test_words_say_value_interval_null_and_reason() -> None:
    strong, weak = score(HeadId(0, 0), 0.78), score(HeadId(0, 1), 0.07, "unclear")
    assert says(strong)["found"] == (
        "At the token just before: 0.83 [0.82, 0.84] of its attention; the largest null (uniform) gives 0.05."
    )
    assert says(strong)["nulls"] == [["uniform", 0.05], ["random <twin>", 0.01]]
    assert "+0.040, is below the floor of 0.05" in says(weak)["why"][0]
    assert "not confirmed" in says(score(HeadId(0, 2), 0.2, "unclear"))["why"][0]
    rows = [strong, score(HeadId(0, 0), -0.04, "no", "sentence_end")]
    assert card_data(HeadId(0, 0), rows, FACTS, None)["not"] == "sentence end"


def test_a_role_says_its_cause_and_a_candidate_why_it_is_none() -> None:
    row = score(HeadId(1, 0))
    role = says(replace(row, status="role", cause=EFFECTS))
    assert role["why"][0].startswith("A role: taking this attention away costs +0.030 nats")
    assert "(corrected lower end +0.010), where it should help (every prediction)" in role["why"][0]
    assert "pays 0.40 of its attention" in role["why"][-1] and role["cause"]["zero"] == 0.2
    reasons = {
        "not tested": says(row, ScanFacts(floor=0.05, served=SERVED, n_explained=0)),
        "there was no served prediction (every prediction)": says(row),
        "it serves no prediction (it rests)": says(replace(row, probe="first_token")),
        "(corrected lower end \N{MINUS SIGN}0.020)": says(replace(row, cause={**EFFECTS, "edge_low": -0.02})),
        "not on either half": says(replace(row, cause=EFFECTS)),
    }
    for reason, found in reasons.items():
        assert found["why"][0].startswith("No role:") and reason in found["why"][0]


def test_the_table_shows_the_edge_effect_where_it_was_tested() -> None:
    tested = score_table([replace(score(HeadId(0, 0)), cause=EFFECTS)])
    assert "<td>+0.030 <small>≥ +0.010</small></td></tr>" in tested
    assert "<td>–</td></tr>" in score_table([score(HeadId(0, 0))])


def test_basis_says_what_tokens_alone_would_give() -> None:
    row = score(HeadId(1, 0), probe="sentence_end")
    contextual = says(replace(row, basis="contextual", lexical=0.2))
    assert "token identities and distance alone would give 0.20 of the 0.55" in contextual["why"][1]
    assert contextual["lexical"] == 0.2
    first = says(replace(row, head=HeadId(0, 0), basis="lexical", lexical=0.55))
    assert "in layer 0 the two tokens and their positions decide" in first["why"][1]
    assert "lexical" not in first


def test_the_map_groups_probes_and_pairs_positions() -> None:
    rows = [
        score(HeadId(0, 0), probe="topic"), score(HeadId(0, 0), probe="subject"), score(HeadId(0, 0)),
        replace(score(HeadId(0, 0), probe="subject"), position="before"), score(HeadId(0, 0), probe="label_x"),
    ]  # fmt: skip
    assert columns_of(rows, PROBES) == [
        ("previous_token", "word"), ("subject", "word"), ("subject", "before"), ("topic", "word"), ("label_x", "word"),
    ]  # fmt: skip
    text = heat_map(rows, PROBES, 0.05)
    assert re.findall(r"class=group colspan=\d+>([^<]+)<", text) == [
        "position", "clause", "people and topic", "others",
    ]  # fmt: skip
    assert text.count("colspan=2") == 2 and text.count("rowspan=2") == 3  # of the clause and its one probe


def test_a_profile_is_a_path_of_its_heights() -> None:
    assert 'd="M0 20V10h16V0h16V20h16V15h16V20z"' in sparkline(np.array([0.2, 0.4, np.nan, 0.1]))
    assert sparkline(np.zeros(4)) == ""


def test_the_figure_shows_the_best_head_of_each_kind_or_says_that_there_is_none() -> None:
    heads = [HeadId(0, index) for index in range(3)]
    story, kind = paragraph(heads), KINDS[0]
    rows = [score(head, 0.5 - 0.1 * head.index) for head in heads]
    assert best_on(story, kind, rows)[0].head == heads[2]  # of equal status, the one that does it most here
    assert best_on(story, kind, [replace(rows[0], status="role"), *rows[1:]])[0].head == heads[0]
    text = paper_figure(story, rows)
    assert text.count("<article>") == 1 and "0.67 on this paragraph" in text
    assert '<span class="p asks" style="--x:0.67" title="0.67">&lt;i&gt;day</span>' in text
    assert "From <q>&lt;i&gt;day</q> at <q>One</q> 0.67" in text
    none = paper_figure(story, [replace(row, status="no") for row in rows])
    assert "No head of this model does this beyond its nulls" in none and "asks" not in none
    assert paper_figure(story, [score(heads[0], probe="sentence_end")]) == ""


def test_the_paragraph_is_labelled_and_read_by_the_probes() -> None:
    labels = read_labels(paragraph_story())
    assert labels is not None and labels.topics == ("apple", "park")
    model = load_model("shipped:l1_h64")
    read = read_paragraph(model)
    assert set(read.kinds) == {kind.title for kind in KINDS}
    tokens, titles = read.example.tokens, {kind.noun: kind.title for kind in KINDS if kind.noun}
    assert [one.position for one in read.kinds["The subject of the clause"]] == ["word", "before"]
    for noun, title in titles.items():
        at_word = read.kinds[title][0]
        assert {tokens[query] for query in at_word.queries} == {" the", " a"}
        keys = [index for index, token in enumerate(tokens) if token == f" {noun}"]
        assert len(keys) >= 2
        for head, value in at_word.values.items():
            pattern = read.example.patterns[head]
            masses = [sum(pattern[query, key] for key in keys if key < query) for query in at_word.queries]
            assert value == pytest.approx(float(np.mean(masses)), abs=1e-6)


def test_summary_counts_each_head_once_by_its_best_row() -> None:
    rows = [
        score(HeadId(0, 0), 0.8), score(HeadId(0, 0), 0.3, probe="sentence_end"), score(HeadId(0, 1), 0.4),
        score(HeadId(0, 2), 0.3, probe="sentence_end"), score(HeadId(0, 3), 0.9, "unclear"),
    ]  # fmt: skip
    found = "3 of 4 heads have a candidate role: 2 previous token, 1 sentence end."
    assert summary(rows, "m") == f"{found} Each head counts once, by its strongest row."
    assert summary(rows[::-1], "m") == summary(rows, "m")
    assert summary(rows[4:], "m").startswith("None of the 1 heads of m")


def test_packed_pattern_keeps_the_lower_triangle() -> None:
    pattern = causal(7)
    packed = np.frombuffer(base64.b64decode(pack_pattern(pattern, 5)), dtype=np.uint8)
    assert np.abs(packed / 255 - pattern[np.tril_indices(5)]).max() <= 0.5 / 255 + 1e-6


def test_a_pattern_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"L0H0.*\(3, 3\)"):
        ExamplePattern("t", ["a", "b"], {HeadId(0, 0): causal(3)})


def test_heads_that_fit_stops_at_the_room() -> None:
    heads = [HeadId(0, index) for index in range(4)]
    example = ExamplePattern("t", ["a"] * 96, dict.fromkeys(heads, causal(96)))
    size = len(pack_pattern(causal(96), 96))
    assert heads_that_fit([example], heads, 2 * (size + 20), 96) == heads[:2]
    assert heads_that_fit([example], heads, 0, 96) == []


def test_a_large_scan_stays_below_five_megabytes_and_says_what_it_left_out(tmp_path: Path) -> None:
    tokens = ["<|endoftext|>"] * 120
    heads = [HeadId(layer, index) for layer in range(12) for index in range(16)]
    pattern = causal(120)
    rows = [score(head, 0.9 - 0.001 * place) for place, head in enumerate(heads) for _ in range(8)]
    path = tmp_path / "page.html"
    write_heads_page(
        path, title="t", model="m", header={}, rows=rows, probes=PROBES, facts=FACTS, counts={},
        distance_profiles={head: np.full(64, 1 / 64) for head in heads},
        examples=[ExamplePattern(f"Story {n}", tokens, dict.fromkeys(heads, pattern)) for n in range(3)],
        cannot_tell=[],
    )  # fmt: skip
    page = path.read_text(encoding="utf-8")
    assert MAX_PAGE_BYTES * 0.98 < path.stat().st_size <= MAX_PAGE_BYTES
    held = re.search(r"holds the patterns of (\d+) of 192 heads", page)
    assert held and f"first {CHART_TOKENS} tokens" in page
    stories = json.loads(re.search(r'id="data">(.*?)</script>', page)[1])["stories"]  # type: ignore[index]
    assert [len(story["patterns"]) for story in stories] == [int(held[1])] * 3
    assert "L0H0" in stories[0]["patterns"] and "L11H15" not in stories[0]["patterns"]


def test_empty_results_still_make_a_page(tmp_path: Path) -> None:
    write_heads_page(
        tmp_path / "page.html", title="t", model="m", header={}, rows=[], probes={}, facts=FACTS, counts={},
        distance_profiles={}, examples=[], cannot_tell=[],
    )  # fmt: skip
    assert "None of the 0 heads" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_an_unwritable_place_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError):
        write(tmp_path / "file" / "page.html")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_where_the_nearest_word_would_do_as_well_the_row_says_so():
    row = score(HeadId(1, 0), probe="subject")
    assert "nearest" not in basis(row)
    assert "On 91% of these queries the target is also the nearest such word." in basis(
        replace(row, beside={"nearest": 0.91})
    )
    assert basis(replace(row, beside={"nearest": 0.4})) == basis(row)
