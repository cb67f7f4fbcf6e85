"""The page of the capability map as text: what was found, every cell, marks, floors; texts as data."""

import json
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from tslens.grading.local.trust import agreement_told
from tslens.link.drops import Drop
from tslens.link.map_report import MapReport, MapRow
from tslens.link.map_status import status_of
from tslens.viz.map_details import details, says
from tslens.viz.map_matrix import columns_of, matrix_section
from tslens.viz.map_page import cannot_tell, counts_at_floors, summary, write_map_page
from tslens.viz.map_scatter import FOOT, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Scale, scatter
from tslens.viz.map_tables import by_measure, members_section, readouts_section, ways_section
from tslens.viz.map_words import Amounts, in_order, kind_of, percent
from tslens.viz.page import MAX_PAGE_BYTES, visible

HOSTILE = (
    '</script><script>alert(1)</script><img src="http://example.invalid/x" onerror="x">&amp;\u202e\u2028'
)
READOUTS = (
    ("agreement", "grammar", "the number of a verb, as its subject has it", 0.91, 2.1),
    ("tense", "grammar", "a verb in the tense of the story", 0.83, 1.4),
    ("word_order", "grammar", "words in order", 0.97, 4.0),
    ("swapped_names", "consistency", "the name of who is there", 0.71, 0.6),
    ("lost_object", "consistency", "an object that was named before", 0.53, 0.05),
    ("factual", "knowledge", "the right answer", 0.48, -0.02),
)
PASSED = READOUTS[:4]
ROLES = {
    "heads:previous_token": ["L0H1", "L1H2"],
    "heads:subject+action": ["L0H3", "L1H0"],
    "neurons:pos:NOUN": [f"L0N{i}" for i in range(40)],
}
SURE, WEAK = 0.06, 0.4  # half width of a corrected interval, of a share


def drop(value, reach, halves=None):
    return Drop(
        value, value - 0.6 * reach, value + 0.6 * reach, value - reach, value + reach,
        0.0004 if value > reach else 0.4, halves or (0.95 * value, 1.05 * value),
    )  # fmt: skip


def make_report(*, n_heads=8, n_layers=2, judge="local", roles=ROLES, seed=0):
    """Numbers of a seed; L0H3 carries agreement by plan, and L1 takes much of everything, as any that costs so much."""
    rng = np.random.default_rng(seed)
    heads = [f"L{layer}H{head}" for layer in range(n_layers) for head in range(n_heads)]
    layers = [f"L{layer}{part}" for layer in range(n_layers) for part in (".attn", ".mlp", "")]
    components = [*heads, *layers, *roles]
    cost = {
        one: float(rng.uniform(0.3, 2.5) if one in layers else rng.lognormal(-4, 1.0)) for one in components
    }
    sizes = {one: len(roles.get(one, "1")) for one in components}

    def row(component, measure, capability, whole, share, method="mean", evidence="readout", reach=SURE):
        lost = drop(share * whole, reach * whole)
        expected = 0.35 * cost[component] ** 0.5 * whole
        beyond = drop(lost.value - expected, 0.8 * reach * whole)
        mean = method == "mean"
        found = MapRow(
            component, sizes[component], cost[component], evidence, measure, capability, method, lost, whole,
            expected if mean else None, beyond if mean else None, None,
        )  # fmt: skip
        if not mean:
            return found
        others = (drop(0.9 * lost.value, reach), drop(0.8 * lost.value, reach))
        return replace(found, status=status_of(found.share, beyond.scaled(1 / whole), others, evidence))

    rows = []
    for name, capability, _, _, whole in PASSED:
        for one in components:
            share = float(rng.normal(0.0, 0.015)) + 0.3 * cost[one] ** 0.5
            if (one, name) in {("L0H3", "agreement"), ("L1H5", "swapped_names"), (heads[-1], "tense")}:
                share += 0.6
            rows.append(row(one, name, capability, whole, share))
    read = {one.component for one in rows if one.drop.low_corrected > 0}
    for method, factor in (("zero", 1.2), ("resample", 0.8)):
        for one in [one for one in rows if one.method == "mean" and one.component in read]:
            share = factor * one.share.value
            rows.append(row(one.component, one.measure, one.capability, one.whole, share, method))
    header = {
        "model": "l2_h128@seed1", "checkpoint": "step_1000.safetensors", "weights_sha256": "ab" * 32,
        "stories": "2,000 stories of the offline author", "n_stories": 150, "n_pairs": 300, "seed": 0, "floor": 0.05,
        "loss_nats": 2.31,
        "agreement": [
            {"methods": ways, "measure": name, "spearman": round(float(rng.uniform(0.6, 1)), 3), "n_components": 14}
            for ways in (["mean", "zero"], ["mean", "resample"], ["zero", "resample"])
            for name in ("loss", *(one[0] for one in PASSED))
        ],
    }  # fmt: skip
    if judge is not None:
        graded = ["L0H3", "L1H5", heads[-1], "L0", "L0.mlp", "L1", "L1.mlp", "neurons:pos:NOUN"]
        doses = {"grammar": 2.4, "consistency": 0.9, "plot": 1.1}
        for name in ("grammar", "creativity", "consistency", "plot"):
            for one in [one for one in graded if one in cost]:
                share = 0.3 * cost[one] ** 0.5 + float(rng.normal(0, 0.05))
                rows.append(row(one, name, name, doses.get(name, 1.0), share, evidence="grade", reach=WEAK))
        header |= {
            "judge": judge, "judge_version": "tslens local judge 1, not GPT-4", "prompts": "beginnings, version 1",
            "n_prompts": 50, "doses": doses, "not_graded": ["L0.attn"],
        }  # fmt: skip
    return MapReport(tuple(rows), [scored(*one) for one in READOUTS], roles, header)


def scored(name, capability, asks, accuracy, difference):
    return {
        "readout": name, "capability": capability, "asks": asks, "difference": difference,
        "difference_low": difference - 0.2, "difference_high": difference + 0.2, "accuracy": accuracy,
        "accuracy_low": accuracy - 0.04, "accuracy_high": accuracy + 0.03, "least_accuracy": accuracy - 0.05,
        "accuracy_halves": [accuracy, accuracy], "n_pairs": 300, "n_items": 150, "n_clusters": 140,
        "passes": accuracy - 0.05 > 0.5,
    }  # fmt: skip


def with_ngram(report):
    ngram = {
        "order": 4, "counted_on": "4,000 stories of the offline author", "loss_nats": 3.07, "bits_per_byte": 1.21,
        "readouts": [scored(name, of, asks, 0.77 if name == "tense" else 0.51, 0.3) for name, of, asks, *_ in READOUTS],
    }  # fmt: skip
    means = {"whole": summary_of(6.4), "ngram": summary_of(3.2)} if "judge" in report.header else {}
    return replace(report, header={**report.header, "ngram": ngram, "means": means})


def summary_of(value):
    means = {
        name: {"mean": value - i, "low": value - i - 0.3, "high": value - i + 0.3, "n_prompts": 50, "n": 250}
        for i, name in enumerate(("grammar", "creativity", "consistency", "plot"))
    }
    return {"means": means, "ages": {}, "n": 250, "failures": {}, "failure_rate": 0.0}


REPORT = with_ngram(make_report())


def write(report, path):
    write_map_page(report, path)
    return path.read_text(encoding="utf-8")


def page_rows(html):
    """Cells of each row of the matrix, tags taken away, by component."""
    found = {}
    for name, inside in re.findall(r'<tr data-name="([^"]*)"[^>]*>(.*?)</tr>', html):
        found[name] = [
            re.sub("<.*?>", "", cell)
            for cell in re.findall(r"<t[dh][^>]*>.*?</t[dh]>", inside.replace("\n", ""))
        ]
    return found


def one_row(component, status, **more):
    fields = {
        "n_components": 1, "delta_loss_nats": 0.1, "evidence": "readout", "measure": "tense", "capability": "grammar",
        "method": "mean", "drop": drop(1.0, 0.2), "whole": 2.0, "expected": 0.1, "beyond": drop(0.9, 0.2),
    }  # fmt: skip
    return MapRow(component=component, status=status, **{**fields, **more})


# The first sentence, the judge ----------------------------------------------------------------------------


def test_the_first_sentence_names_what_carries():
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
        "None of 2 components and roles carries a capability; 1 is a candidate."
    )
    assert summary(MapReport((), [], {}, {})).startswith("The model passes no readout")


def test_the_page_says_whose_judge_it_is(tmp_path):
    local = write(REPORT, tmp_path / "map.html")
    assert "grades are not those of GPT-4" in local and agreement_told() in local
    asked = write(make_report(judge="openai:gpt-4o"), tmp_path / "map.html")
    assert "The judge is openai:gpt-4o" in asked and agreement_told() not in asked
    alone = write(make_report(judge=None), tmp_path / "map.html")
    assert "no text was graded" in alone and "The judge is" not in alone
    assert "no n-gram was read" in alone and "no n-gram was read" not in local


# The matrix -----------------------------------------------------------------------------------------------


def test_components_stand_by_layer_then_halves_then_roles():
    names = ["L1H0", "neurons:a+b", "L0H10", "L0.attn", "L0H9", "L0.mlp", "L0", "heads:x"]
    assert in_order(names) == ["L0H9", "L0H10", "L1H0", "L0.attn", "L0.mlp", "L0", "neurons:a+b", "heads:x"]
    assert [kind_of(name) for name in ("L0H9", "L0.attn", "L0.mlp", "L0", "heads:x", "neurons:L0H1", "x")] == [
        "head", "attention", "MLP", "layer", "role of heads", "role of neurons", "other",
    ]  # fmt: skip


def test_columns_put_readout_and_grade_side_by_side_and_keep_those_not_passed():
    found = [(one.capability, one.kind, one.measure) for one in columns_of(REPORT)]
    assert found == [
        ("grammar", "readout", None), ("grammar", "grade", None),
        ("grammar", "one", "agreement"), ("grammar", "one", "tense"), ("grammar", "one", "word_order"),
        ("consistency", "readout", "swapped_names"), ("consistency", "grade", None),
        ("consistency", "closed", "lost_object"),
        ("knowledge", "closed", "factual"),
        ("creativity", "grade", None), ("plot", "grade", None),
    ]  # fmt: skip
    html = matrix_section(REPORT)
    assert (
        html.count("not passed: nothing is said, accuracy 0.53") == 2
    )  # its head, and what it says at the mouse
    assert html.count("<td class=closed></td>") == 2 * len(REPORT.components)


def test_every_cell_has_its_share_its_interval_and_its_mark():
    """Each number of the matrix, found again from the rows."""
    html = matrix_section(REPORT)
    rows = page_rows(html)
    assert list(rows) == in_order(REPORT.components)
    by_place = {
        (row.component, row.evidence, row.measure): row for row in REPORT.rows if row.method == "mean"
    }
    for name, cells in rows.items():
        for cell, measure in zip(cells[4:7], ("agreement", "tense", "word_order"), strict=True):
            row = by_place[name, "readout", measure]
            mark = {"carries": "◆", "candidate": "●", "general": "≈", "unclear": "○", "no": ""}[row.status]
            value = round(100 * row.drop.value / row.whole)
            assert cell == (f"{value:+d}%".replace("-", "\u2212") if value else "0%") + mark
        assert len(cells) == 2 + 11 and cells[9:11] == ["", ""]
        assert (cells[12] == "\N{EN DASH}") == ((name, "grade", "plot") not in by_place)
    low, high = (
        percent(end / 2.1)
        for end in (row_of("agreement").drop.low_corrected, row_of("agreement").drop.high_corrected)
    )
    assert f"{low} to {high}, carries" in html


def row_of(measure, component="L0H3", evidence="readout"):
    return next(
        row
        for row in REPORT.rows
        if (row.component, row.measure, row.evidence) == (component, measure, evidence)
    )


def test_only_what_is_sure_has_colour():
    sides = {"p": drop(1.0, 0.9), "n": drop(-1.0, 0.9), "unsure": drop(1.0, 1.1)}
    for side, lost in sides.items():
        html = matrix_section(MapReport((one_row("L0H1", "no", drop=lost),), [], {}, {}))
        cell = re.search('<td class="([^"]*)"([^>]*) title="L0H1, tense: ', html)
        assert cell[1].split()[0] == side and ("--x:" in cell[2]) == (side != "unsure")


def test_cells_that_disagree_are_marked():
    grade = {"evidence": "grade", "measure": "grammar"}
    rows = (
        one_row("L0H1", "carries"), one_row("L0H1", "no", **grade), one_row("L0H2", "candidate"),
        one_row("L0H2", "carries", **grade), one_row("L0H3", "no"), one_row("L0H3", "general", **grade),
    )  # fmt: skip
    html = matrix_section(MapReport(rows, [], {}, {}))
    marked = {name: "≠" in "".join(cells) for name, cells in page_rows(html).items()}
    assert marked == {"L0H1": True, "L0H2": False, "L0H3": False}
    assert re.findall(r'data-name="(\w+)"[^>]* data-differs', html) == ["L0H1"]


def test_a_criterion_without_a_fault_is_said_in_points():
    amounts = Amounts.of(REPORT)
    assert amounts.in_points == {"creativity"}
    assert amounts.amount(row_of("creativity", evidence="grade"), -0.004) == "+0.00"
    assert amounts.amount(row_of("plot", evidence="grade"), -0.104) == "\u221210%"
    assert page_rows(matrix_section(REPORT))["L0H3"][11].startswith(("+0.", "\u22120."))


def test_an_opened_row_tells_all_ways():
    found = details(REPORT)["L0H3"]
    assert found["kind"] == "head" and [one["name"] for one in found["measures"]][:3] == [
        "agreement",
        "tense",
        "word order",
    ]
    first = found["measures"][0]
    row = row_of("agreement")
    assert first["share"][0] == pytest.approx(row.drop.value / 2.1, abs=1e-4)
    assert first["expected"] == pytest.approx(row.expected / 2.1, abs=1e-4)
    told = says(row, [one_row("L0H3", None, method="zero", drop=drop(1.5, 0.5))], Amounts(frozenset()))
    assert "by zero +75% [+60%, +90%]" in told and "p < 0.001" in told
    assert f"at least {percent(row.beyond.low_corrected / 2.1)}" in told
    assert "no random set costs as much" in says(
        replace(row, expected=None, beyond=None), [], Amounts(frozenset())
    )


# The drawing ----------------------------------------------------------------------------------------------


def points_of(drawing):
    """Status and place of each point, by the name in its title."""
    found = {}
    for group in ElementTree.fromstring(drawing).iter("g"):
        title, mark = group
        if mark.tag == "circle":
            place = float(mark.get("cx")), float(mark.get("cy"))
        else:  # a diamond, from its top
            x, y = re.match(r"M([-\d.]+) ([-\d.]+)l6 6", mark.get("d")).groups()
            place = float(x), float(y) + 6
        found[re.split(r": (?=[+\u2212\d])", title.text)[0]] = (group.get("class"), *place)
    return found


def test_points_stand_where_their_numbers_are():
    rows = [row for row in REPORT.rows if row.status and row.measure == "agreement"]
    drawing, (low, high) = scatter(rows), Scale.of(rows).y
    wide, tall = WIDTH - LEFT - RIGHT, HEIGHT - TOP - FOOT
    most = max(row.delta_loss_nats for row in rows)
    found = points_of(drawing)
    assert len(found) == len(rows)
    for row in rows:
        if row.component in ROLES:  # under a spoken name
            continue
        status, x, y = found[row.component]
        assert status == row.status
        assert x == pytest.approx(LEFT + wide * (row.delta_loss_nats / most) ** 0.5, abs=0.1)
        assert y == pytest.approx(TOP + tall * (high - row.drop.value / row.whole) / (high - low), abs=0.1)
    names = [one.text for one in ElementTree.fromstring(drawing).iter("text") if one.get("class") == "name"]
    assert names == [row.component for row in rows if row.status == "carries"]
    line = next(one for one in ElementTree.fromstring(drawing).iter("path") if one.get("class") == "expected")
    places = [tuple(map(float, place.split())) for place in line.get("d")[1:].split("L")]
    costly = max(rows, key=lambda row: row.delta_loss_nats)
    assert len(places) == len(rows) and places[-1][0] == pytest.approx(LEFT + wide, abs=0.1)
    top = TOP + tall * (high - costly.expected / costly.whole) / (high - low)
    assert places[-1][1] == pytest.approx(top, abs=0.1)


def test_labels_do_not_lie_on_each_other_and_extremes_stand_at_the_edge():
    rows = [one_row(f"L0H{i}", "carries", drop=drop(1.0 + 0.01 * i, 0.1)) for i in range(5)]
    rows.append(one_row("L1", "candidate", drop=drop(50.0, 1)))
    rows.append(one_row("L2", "no", drop=drop(-9.0, 1), delta_loss_nats=-0.2, expected=None))
    drawing = scatter(rows)
    bases = [float(y) for y in re.findall(r'class="name" x="[\d.]+" y="([\d.]+)"', drawing)]
    assert len(bases) == 5 and min(abs(a - b) for i, a in enumerate(bases) for b in bases[:i]) >= 12.9
    found = points_of(drawing)
    assert found["L1"][2] == pytest.approx(TOP, abs=0.1)
    assert found["L2"][1:] == pytest.approx((LEFT, HEIGHT - FOOT), abs=0.1)


# The other tables -----------------------------------------------------------------------------------------


def test_readouts_stand_beside_the_n_gram():
    html = readouts_section(REPORT)
    tense = re.search(r"<tr><th scope=row>tense.*?</tr>", html)[0]
    cells = [re.sub("<small>.*?</small>", "", cell).strip() for cell in re.findall(r"<td>(.*?)</td>", tense)]
    assert cells == ["grammar", "0.83", "0.78", "+1.40", "300", "yes", "0.77", "yes"]
    bare = re.sub(" <small>.*?</small>", "", html)
    assert "4-gram</th><td>3.07</td><td>1.21</td><td>1</td><td>3.20</td><td>2.20</td>" in bare
    assert "l2_h128@seed1</th><td>2.31</td><td>–</td><td>4</td><td>6.40</td><td>5.40</td>" in bare
    assert "6.40 <small>[6.10, 6.70]</small>" in html
    alone = readouts_section(with_ngram(make_report(judge=None)))
    assert "4-gram</th><td>3.07" in alone and "plot, graded" not in alone
    assert "n-gram" not in readouts_section(make_report())


def test_three_ways_stand_side_by_side_where_all_were_read():
    html = ways_section(REPORT)
    ways = Counter((row.component, row.measure) for row in REPORT.rows if row.evidence == "readout")
    assert html.count("<tr data-measure=") == sum(n == 3 for n in ways.values()) > 0
    line = re.search(r'<tr data-measure="agreement"><th[^>]*>L0H3.*?</tr>', html)[0]
    shares = [float(value) for value in re.findall(r"<td data-v=([-\d.]+)", line)]
    mean = row_of("agreement").drop.value / 2.1
    assert shares == pytest.approx([1.2 * mean, mean, 0.8 * mean], abs=1e-4)
    for row in REPORT.header["agreement"]:
        assert f"<td>{row['spearman']:.2f}</td>" in html
    assert ways_section(MapReport((one_row("L0H1", "no"),), [], {}, {})) == ""


def test_measures_count_every_status_and_roles_name_their_members():
    html = by_measure(REPORT)
    for evidence, measure in (("readout", "tense"), ("grade", "plot")):
        counts = Counter(
            row.status for row in REPORT.rows if (row.evidence, row.measure) == (evidence, measure)
        )
        line = re.search(rf"<tr><th scope=row>{measure}</th>.*?</tr>", html)[0]
        assert re.findall(r"<td>(\d+)</td>", line) == [
            str(counts[one]) for one in ("general", "unclear", "no")
        ]
    roles = members_section(REPORT)
    assert "L0H1, L1H2" in roles and "<details><summary>L0N0, " in roles and "L0N39</details>" in roles


# What it cannot tell --------------------------------------------------------------------------------------


def test_counts_at_half_and_double_the_floor_are_those_of_planted_shares():
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
    report = MapReport(tuple(rows), [], {}, {"floor": 0.05})
    assert counts_at_floors(report) == {0.025: 3, 0.05: 2, 0.1: 1}
    assert any(
        "3 at a floor of 0.025, 2 at a floor of 0.05, 1 at a floor of 0.1" in one
        for one in cannot_tell(report)
    )
    carrying = {row.component for row in REPORT.rows if row.status == "carries"}
    assert counts_at_floors(REPORT)[0.05] == len(carrying)


def test_readouts_that_the_n_gram_passes_are_named():
    found = [one for one in cannot_tell(REPORT) if "4-gram" in one]
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


def hostile_report():
    """Every text that a report may hold is one that would like to be run."""
    rows = [
        replace(row, component=HOSTILE if row.component == "L0H3" else row.component,
                measure=HOSTILE if row.measure == "agreement" else row.measure,
                capability=HOSTILE if row.capability == "plot" else row.capability)
        for row in REPORT.rows
    ]  # fmt: skip
    readouts = [
        {**one, "asks": HOSTILE, "capability": one["capability"].replace("knowledge", HOSTILE)}
        for one in REPORT.readouts
    ]
    readouts[0] = {**readouts[0], "readout": HOSTILE}
    header = {
        **REPORT.header,
        "model": HOSTILE,
        "judge": HOSTILE,
        "judge_version": HOSTILE,
        "stories": HOSTILE,
    }
    header["ngram"] = {**header["ngram"], "counted_on": HOSTILE}
    return MapReport(tuple(rows), readouts, {HOSTILE: [HOSTILE] * 20}, header)


@pytest.mark.parametrize(
    "report", [REPORT, hostile_report(), make_report(judge=None), MapReport((), REPORT.readouts, {}, {})]
)
def test_the_page_is_whole_and_texts_are_data(report, tmp_path):
    page = write(report, tmp_path / "map.html")
    parser = Nesting()
    parser.feed(page)
    assert parser.open == []
    assert parser.names["img"] == 0 and parser.names["script"] == 3
    assert "<script>alert" not in page and "\u202e" not in page and "\u2028" not in page
    assert not re.search(r'(src|href)="http', page.replace(HOSTILE, "")) and "url(" not in page
    assert len(page.encode()) < MAX_PAGE_BYTES
    data = json.loads(re.search(r'id="data">(.*?)</script>', page)[1])
    assert set(data["components"]) == {visible(name) for name in report.components}
    assert write(report, tmp_path / "again.html") == page


def test_a_map_of_two_hundred_components_fits_a_page(tmp_path):
    page = write(make_report(n_heads=16, n_layers=10), tmp_path / "large.html")
    assert page.count("<tr data-name=") == 160 + 30 + 3
    assert len(page.encode()) < MAX_PAGE_BYTES
