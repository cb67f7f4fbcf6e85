"""The drawing of heads is one well-formed file that shows every head and needs nothing else."""

import re
from xml.etree import ElementTree

from tslens.probes.kinds.report import KINDS, SHARES, HeadKind, Interval
from tslens.types import HeadId
from tslens.viz.kinds_figure import kinds_figure, write_kinds_figure

SVG = "{http://www.w3.org/2000/svg}"


def heads(n):
    found = []
    for i in range(n):
        shares = {name: Interval(0.1 * i, 0.1 * i - 0.05, 0.1 * i + 0.05) for name in SHARES}
        kind = KINDS[i % len(KINDS)]
        balance = Interval(-1 + i / 4, -1.2, 1.3) if i else None
        row = HeadKind(
            HeadId(0, i), kind, kind, 1.0, (kind, kind), shares["words"], shares, balance, 0.1, i % 2 == 0
        )
        found.append(row)
    return found


def test_every_head_is_a_point_and_every_model_a_panel():
    models = {"l1_h64": heads(4), "l2 <b>&": heads(9)}
    root = ElementTree.fromstring(kinds_figure(models))
    titles = [one.text for one in root.iter(f"{SVG}title")]
    assert titles[0] == "13 heads by what explains their attention"
    assert sum(re.match(r"L0H\d: ", title) is not None for title in titles) == 13
    texts = [one.text for one in root.iter(f"{SVG}text")]
    assert "l2 <b>&, 9 heads" in texts and "balance of 10 heads" in texts
    assert {*KINDS} <= {*texts}
    counted = [int(title.rsplit(": ")[1]) for title in titles if re.match(r".* to .*: \d", title)]
    assert sum(counted) == 10  # of 13, two have no balance and one is even


def test_a_long_name_is_cut_before_the_next_panel():
    texts = [
        one.text
        for one in ElementTree.fromstring(kinds_figure({"runs/" + "x" * 30: heads(2)})).iter(f"{SVG}text")
    ]
    assert f"…{'x' * 15}, 2 heads" in texts


def test_points_stand_where_their_shares_are():
    (row,) = heads(6)[5:]
    root = ElementTree.fromstring(kinds_figure({"m": [row]}))
    (point,) = (one for one in root.iter(f"{SVG}g") if one.find(f"{SVG}title") is not None)
    place = point.find(f"{SVG}circle")
    x, y = float(place.get("cx")), float(place.get("cy"))
    assert abs(x - 190 * 0.6 / 1.1) < 0.1 and abs(y - (190 - 190 * 0.6 / 1.1)) < 0.1
    assert point.find(f"{SVG}title").text.startswith("L0H5: unclear")


def test_heads_within_the_twins_are_pale():
    root = ElementTree.fromstring(kinds_figure({"m": heads(4)}))
    points = {
        p.find(f"{SVG}title").text: p.get("class")
        for p in root.iter(f"{SVG}g")
        if p.find(f"{SVG}title") is not None
    }
    assert [kind for _, kind in sorted(points.items())] == [None, "p", None, "p"]
    assert ["within random twins" in title for title in sorted(points)] == [False, True, False, True]


def test_a_drawing_asks_nothing_of_the_network(tmp_path):
    write_kinds_figure(tmp_path / "kinds.svg", {"m": heads(3)})
    text = (tmp_path / "kinds.svg").read_text(encoding="utf-8")
    assert not re.search(r"href|src=|url\(|@import|<script", text)
    assert text == kinds_figure({"m": heads(3)})
