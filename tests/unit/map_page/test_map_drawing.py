"""Shares against cost as a drawing; the tables of readouts, of the three ways, of measures and roles."""

import re
from collections import Counter
from xml.etree import ElementTree

import pytest

from tslens.link.map_report import MapReport
from tslens.viz.map_scatter import FOOT, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Scale, scatter
from tslens.viz.map_tables import by_measure, members_section, readouts_section, ways_section

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


def test_points_stand_where_their_numbers_are(report):
    rows = [row for row in report.rows if row.status and row.measure == "agreement"]
    drawing, (low, high) = scatter(rows), Scale.of(rows).y
    wide, tall = WIDTH - LEFT - RIGHT, HEIGHT - TOP - FOOT
    most = max(row.delta_loss_nats for row in rows)
    found = points_of(drawing)
    assert len(found) == len(rows)
    for row in rows:
        if row.component in report.members:  # under a spoken name
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


def test_labels_do_not_lie_on_each_other_and_extremes_stand_at_the_edge(one_row, drop):
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


def test_readouts_stand_beside_the_n_gram(report, make_report, with_ngram):
    html = readouts_section(report)
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


def test_three_ways_stand_side_by_side_where_all_were_read(report, row_of, one_row):
    html = ways_section(report)
    ways = Counter((row.component, row.measure) for row in report.rows if row.evidence == "readout")
    assert html.count("<tr data-measure=") == sum(n == 3 for n in ways.values()) > 0
    line = re.search(r'<tr data-measure="agreement"><th[^>]*>L0H3.*?</tr>', html)[0]
    shares = [float(value) for value in re.findall(r"<td data-v=([-\d.]+)", line)]
    mean = row_of("agreement").drop.value / 2.1
    assert shares == pytest.approx([1.2 * mean, mean, 0.8 * mean], abs=1e-4)
    for row in report.header["agreement"]:
        assert f"<td>{row['spearman']:.2f}</td>" in html
    assert ways_section(MapReport((one_row("L0H1", "no"),), [], {}, {})) == ""


def test_measures_count_every_status_and_roles_name_their_members(report):
    html = by_measure(report)
    for evidence, measure in (("readout", "tense"), ("grade", "plot")):
        counts = Counter(
            row.status for row in report.rows if (row.evidence, row.measure) == (evidence, measure)
        )
        line = re.search(rf"<tr><th scope=row>{measure}</th>.*?</tr>", html)[0]
        assert re.findall(r"<td>(\d+)</td>", line) == [
            str(counts[one]) for one in ("general", "unclear", "no", "hinders")
        ]
        table = html[: html.index(line)].rpartition("<table")[2]
        assert table.count("<th scope=col") == len(re.findall(r"<t[hd]\b", line))
    roles = members_section(report)
    assert "L0H1, L1H2" in roles and "<details><summary>L0N0, " in roles and "L0N39</details>" in roles
