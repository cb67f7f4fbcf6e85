"""The page of the capability map as text: what was found, what it cannot tell, texts as data."""

import json
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from tslens.grading.local.trust import agreement_told
from tslens.link.map_report import MapReport
from tslens.viz.map_page import cannot_tell, counts_at_floors, summary, write_map_page
from tslens.viz.page import MAX_PAGE_BYTES, visible

HOSTILE = (
    '</script><script>alert(1)</script><img src="http://example.invalid/x" onerror="x">&amp;\u202e\u2028'
)


def write(report, path):
    write_map_page(report, path)
    return path.read_text(encoding="utf-8")


# The first sentence, the judge ----------------------------------------------------------------------------


def test_the_first_sentence_names_what_carries(one_row):
    rows = [
        one_row("L1H2", "carries"), one_row("L0H9", "carries"), one_row("L0H1", "general"),
        one_row("L0H1", "carries", measure="swapped_names", capability="consistency"),
        one_row("L0H9", None, method="zero"),
    ]  # fmt: skip
    assert summary(MapReport(tuple(rows), [], {}, {})) == (
        "3 of 3 components and roles carry a capability (grammar: L0H9, L1H2; consistency: L0H1)."
    )
    many = [one_row(f"L0H{i}", "carries") for i in (10, 2, 1, 0, 3)]
    assert "(grammar: L0H0, L0H1, L0H2 and 2 more)" in summary(MapReport(tuple(many), [], {}, {}))
    none = [one_row("L0H1", "candidate"), one_row("L0H2", "no")]
    assert summary(MapReport(tuple(none), [], {}, {})) == (
        "Of 2 components and roles none is shown to carry a capability; 1 is a candidate."
    )
    assert summary(MapReport((), [], {}, {})).startswith("The model passes no readout")


def test_the_page_says_whose_judge_it_is(tmp_path, report, make_report):
    local = write(report, tmp_path / "map.html")
    assert "grades are not those of GPT-4" in local and agreement_told() in local
    asked = write(make_report(judge="openai:gpt-4o"), tmp_path / "map.html")
    assert "The judge is openai:gpt-4o" in asked and agreement_told() not in asked
    alone = write(make_report(judge=None), tmp_path / "map.html")
    assert "no text was graded" in alone and "The judge is" not in alone
    assert "no n-gram was read" in alone and "no n-gram was read" not in local


# What it cannot tell --------------------------------------------------------------------------------------


def test_counts_at_half_and_double_the_floor_are_those_of_planted_shares(report, one_row, drop):
    def three_ways(name, low, **more):
        share = drop(2 * (low + 0.1), 0.2)  # of a whole of 2
        return [
            one_row(name, "carries", drop=share, **more), one_row(name, None, method="zero", drop=drop(0.5, 0.1)),
            one_row(name, None, method="resample", drop=drop(0.5, 0.1)),
        ]  # fmt: skip

    rows = [
        *three_ways("L0H1", 0.03),
        *three_ways("L0H2", 0.07),
        *three_ways("L0H3", 0.2),
        *three_ways("L0H4", 0.01),
    ]
    rows += three_ways("L0H5", 0.5, beyond=drop(0.1, 0.2))  # general at any floor
    rows += three_ways("L0H6", 0.5)[:2]  # a candidate: one way is missing
    planted = MapReport(tuple(rows), [], {}, {"floor": 0.05})
    assert counts_at_floors(planted) == {0.025: 3, 0.05: 2, 0.1: 1}
    assert any(
        "3 at a floor of 0.025, 2 at a floor of 0.05, 1 at a floor of 0.1" in one
        for one in cannot_tell(planted)
    )
    carrying = {row.component for row in report.rows if row.status == "carries"}
    assert counts_at_floors(report)[0.05] == len(carrying)


def test_readouts_that_the_n_gram_passes_are_named(report):
    found = [one for one in cannot_tell(report) if "4-gram" in one]
    assert found == ["Whether more than the last few tokens is needed for tense: a 4-gram passes too."]


# The file -------------------------------------------------------------------------------------------------


class Nesting(HTMLParser):
    """Refuses elements that are not closed in their order; keeps the names of all."""

    VOID = frozenset({"meta", "link", "input", "br"})
    FREE = frozenset({"rect", "circle", "path"})

    def __init__(self):
        super().__init__()
        self.open, self.names = [], Counter()

    def handle_starttag(self, tag, attrs):
        self.names[tag] += 1
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.names[tag] += 1

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def hostile(report):
    """Every text that a report may hold is one that would like to be run."""
    rows = [
        replace(row, component=HOSTILE if row.component == "L0H3" else row.component,
                measure=HOSTILE if row.measure == "agreement" else row.measure,
                capability=HOSTILE if row.capability == "plot" else row.capability)
        for row in report.rows
    ]  # fmt: skip
    readouts = [
        {**one, "asks": HOSTILE, "capability": one["capability"].replace("knowledge", HOSTILE)}
        for one in report.readouts
    ]
    readouts[0] = {**readouts[0], "readout": HOSTILE}
    header = {
        **report.header,
        "model": HOSTILE,
        "judge": HOSTILE,
        "judge_version": HOSTILE,
        "stories": HOSTILE,
    }
    header["ngram"] = {**header["ngram"], "counted_on": HOSTILE}
    return MapReport(tuple(rows), readouts, {HOSTILE: [HOSTILE] * 20}, header)


@pytest.fixture(params=["whole", "hostile", "ungraded", "empty"])
def any_report(request, report, make_report):
    """A map in each of four states."""
    if request.param == "ungraded":
        return make_report(judge=None)
    if request.param == "empty":
        return MapReport((), report.readouts, {}, {})
    return hostile(report) if request.param == "hostile" else report


def test_the_page_is_whole_and_texts_are_data(any_report, tmp_path):
    page = write(any_report, tmp_path / "map.html")
    parser = Nesting()
    parser.feed(page)
    assert parser.open == []
    assert parser.names["img"] == 0 and parser.names["script"] == 3
    assert "<script>alert" not in page and "\u202e" not in page and "\u2028" not in page
    assert not re.search(r'(src|href)="http', page.replace(HOSTILE, "")) and "url(" not in page
    assert len(page.encode()) < MAX_PAGE_BYTES
    data = json.loads(re.search(r'id="data">(.*?)</script>', page)[1])
    assert set(data["components"]) == {visible(name) for name in any_report.components}
    assert write(any_report, tmp_path / "again.html") == page


def test_a_map_of_two_hundred_components_fits_a_page(tmp_path, make_report):
    page = write(make_report(n_heads=16, n_layers=10), tmp_path / "large.html")
    assert page.count("<tr data-name=") == 160 + 30 + 3
    assert len(page.encode()) < MAX_PAGE_BYTES
