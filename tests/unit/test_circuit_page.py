"""The drawing and the page of a circuit hold it all, and run nothing of a text."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from tslens.causal.ablation import LayerId
from tslens.causal.path_graph import Logits, TokenAt
from tslens.link.circuit_report import Circuit, CircuitEdge, RandomPaths
from tslens.types import HeadId
from tslens.viz.circuit_figure import BOX, MOST_EDGES, circuit_figure, figure, percent, write_circuit_figure
from tslens.viz.circuit_page import CANNOT_TELL, NODES, effects, figures, summary, write_circuit_page

SVG = "{http://www.w3.org/2000/svg}"


HOSTILE = ("<|endoftext|>", "<script>alert(1)</script>", " </svg>&amp;", "\"'", "\u2028\u202e", "\n", " end")


@pytest.fixture(scope="module")
def drawn():
    """A circuit by hand, whose tokens would break a page, and its patterns."""
    head, later = HeadId(0, 1), HeadId(1, 12)
    edges = (
        CircuitEdge(TokenAt(1), head, 0.5, 2.0),
        CircuitEdge(head, later, 0.4, 1.5),
        CircuitEdge(later, LayerId(1, "mlp"), 0.1, -1.0),
        CircuitEdge(LayerId(1, "mlp"), Logits(), 0.3, 0.5),
        CircuitEdge(TokenAt(6), Logits(), -0.2, -0.25),
    )
    circuit = Circuit(
        tokens=HOSTILE,
        right=" <b>ball</b>",
        wrong="dog",
        keep=0.9,
        whole=4.0,
        none=-1.0,
        inside=3.6,
        outside=0.0,
        divergence=0.2,
        divergence_none=5.0,
        n_edges_whole=200,
        edges=edges,
        random=RandomPaths(200, -0.1, -0.001, 0.3, 0.005),
        other_stories=0.4,
        n_other_stories=40,
    )
    pattern = np.tril(np.full((7, 7), 1.0))
    return circuit, {one: pattern / pattern.sum(1, keepdims=True) for one in (head, later)}


def test_the_numbers_in_words(drawn):
    circuit, _ = drawn
    assert circuit.share == pytest.approx(0.92) and circuit.share_outside == pytest.approx(0.2)
    assert summary(circuit) == (
        "5 of 200 paths move “<b>ball</b>” over “dog” from −1.00 nats (no path) to +3.60; the whole model: +4.00. "
        "That is 92% of the way; random paths: −10% to 30%; on other stories: 40%."
    )
    told = figures(circuit)
    assert told["other stories"].startswith("40% of the way") and told["random paths"].startswith(
        "0% of the way"
    )
    assert told["all but the circuit"] == "+0.00 nats, 20% of the way"
    assert "Kullback-Leibler divergence" in told["circuit"] and "weak null" in told["random paths"]
    alone = replace(circuit, other_stories=None)
    assert "other stories" not in figures(alone) and "other stories" not in summary(alone)
    assert "it rises, the path speaks for “dog”" in effects(circuit)


def test_a_prompt_that_speaks_against_its_next_token_is_said(drawn):
    circuit = replace(drawn[0], right=" big", wrong=" toy", whole=0.7, none=2.25, inside=0.75)
    said = summary(circuit)
    assert "move “big” over “toy” from +2.25 nats (no path) to +0.75; the whole model: +0.70." in said
    assert said.endswith("The prompt speaks against “big”; it wins by what stands in for the cut paths.")
    assert "97% of the way" in said
    assert "speaks against" not in summary(replace(circuit, none=0.2, inside=0.6))


@pytest.mark.parametrize(
    ("value", "said"), [(-0.001, "+0.00"), (0.0, "+0.00"), (-0.3, "−0.30"), (0.006, "+0.01")]
)
def test_no_figure_is_minus_nothing(value, said):
    assert figure(value) == said
    assert percent(value).replace("−", "-") == f"{round(100 * value)}%"


def test_every_edge_is_drawn_as_wide_as_its_effect(drawn, tmp_path):
    circuit, patterns = drawn
    text = circuit_figure(circuit, patterns)
    root = ElementTree.fromstring(text)
    lines = {
        path.find(f"{SVG}title").text: path
        for path in root.iter(f"{SVG}path")
        if path.find(f"{SVG}title") is not None
    }
    widths = {title: float(path.get("stroke-width")) for title, path in lines.items()}
    assert widths["T1 to L0H1: +2.00"] == 7.0 and len(lines) == 5
    assert widths["L1H12 to L1.mlp: −1.00"] == pytest.approx(0.7 + 6.3 / 2)
    against = {title for title, path in lines.items() if path.get("stroke-dasharray")}
    assert against == {"L1H12 to L1.mlp: −1.00", "T6 to logits: −0.25"}
    texts = [one.text for one in root.iter(f"{SVG}text")]
    assert {"L0H1", "L1H12", "L1.mlp", "“<b>ball</b>”", "start", "<script>ale…"} <= set(texts)
    pale = [one.text for one in root.iter(f"{SVG}text") if one.get("class") == "o"]
    assert len(pale) == 5 and "end" not in pale
    assert {"speaks for “<b>ball</b>”", "speaks for “dog”", "grey: a token whose paths are all cut"} <= set(
        texts
    )
    assert not re.search(r"href|src=|url\(|@import|<script", text)
    write_circuit_figure(tmp_path / "one.svg", circuit, patterns)
    assert (tmp_path / "one.svg").read_text(encoding="utf-8") == text


def test_lines_end_where_their_nodes_stand(drawn):
    circuit, patterns = drawn
    root = ElementTree.fromstring(circuit_figure(circuit, patterns))
    (line,) = (p for p in root.iter(f"{SVG}path") if (p.findtext(f"{SVG}title") or "").startswith("T1 to"))
    *_, end_x, end_y = map(float, re.findall(r"[\d.]+", line.get("d")))
    found = [one for one in root.iter(f"{SVG}rect") if one.get("class") == "b"]
    boxes = [[float(box.get(k)) for k in ("x", "y", "width", "height")] for box in found]
    (name,) = (t for t in root.iter(f"{SVG}text") if t.text == "L0H1")
    assert abs(float(name.get("x")) - end_x) < 0.2
    assert any(abs(x + wide / 2 - end_x) < 0.2 and abs(y + tall - end_y) < 0.2 for x, y, wide, tall in boxes)


def test_no_line_runs_behind_a_box(drawn):
    circuit, _ = drawn
    layers, heads = 4, 5
    units = [
        unit for i in range(layers) for unit in (*(HeadId(i, j) for j in range(heads)), LayerId(i, "mlp"))
    ]
    level = {unit: 2 * unit.layer + isinstance(unit, LayerId) for unit in units}
    edges = [CircuitEdge(TokenAt(i), unit, 0.1, 1.0) for i in (1, 4, 6) for unit in (*units, Logits())]
    edges += [CircuitEdge(unit, Logits(), 0.1, -0.5) for unit in units]
    edges += [CircuitEdge(one, two, 0.1, 0.2) for one in units for two in units if level[one] < level[two]]
    root = ElementTree.fromstring(circuit_figure(replace(circuit, edges=tuple(edges[:MOST_EDGES])), {}))
    boxes = [
        (float(box.get("x")), float(box.get("y")), float(box.get("height")))
        for box in root.iter(f"{SVG}rect")
        if box.get("class") == "b"
    ]
    lines = [path.get("d") for path in root.iter(f"{SVG}path") if path.find(f"{SVG}title") is not None]
    assert len(boxes) == len(units) + 1 and len(lines) == MOST_EDGES
    lanes = []
    for line in lines:
        points = points_of(line)
        for left, top, tall in boxes:
            inside_x = (points[:, 0] > left) & (points[:, 0] < left + BOX)
            assert not (inside_x & (points[:, 1] > top + 0.1) & (points[:, 1] < top + tall - 0.1)).any(), line
        lanes += re.findall(r"([\d.]+ [\d.]+)V", line)
    assert len(lanes) > 100 and len(set(lanes)) == len(lanes)  # no two on each other


def points_of(line):
    """Points along a path of curves and upright lines."""
    x, y = map(float, re.match(r"M([\d.]+) ([\d.]+)", line).groups())
    points = [(x, y)]
    at = np.linspace(0, 1, 50)[:, None]
    for kind, numbers in re.findall(r"([CV])([^CV]+)", line):
        given = np.array([float(one) for one in numbers.split()])
        if kind == "V":
            points += [(x, y + (given[0] - y) * share) for share in at[:, 0]]
        else:
            one, two, end = given.reshape(3, 2)
            start = np.array([x, y])
            curve = (
                (1 - at) ** 3 * start
                + 3 * at * (1 - at) ** 2 * one
                + 3 * at**2 * (1 - at) * two
                + at**3 * end
            )
            points += map(tuple, curve)
        x, y = points[-1]
    return np.array(points)


def test_a_heading_stands_above_the_drawing_once(drawn):
    circuit, patterns = drawn
    bare, headed = (
        circuit_figure(circuit, patterns),
        circuit_figure(circuit, patterns, "of <m>: " + "word " * 60),
    )
    words = [one.text for one in ElementTree.fromstring(headed).iter(f"{SVG}text") if one.get("class") == "t"]
    lines = [one for one in words if "word" in one]
    assert len(lines) >= 2 and " ".join(lines).split() == ["of", "<m>:", *["word"] * 60]
    width = float(ElementTree.fromstring(headed).get("width"))
    assert max(map(len, lines)) * 7.5 < width - 56
    assert "200 paths" not in bare and "word" not in bare


def test_a_large_circuit_and_a_long_prompt(drawn):
    circuit, patterns = drawn
    tokens = ("<|endoftext|>", *(f" w{i}" for i in range(200)))
    edges = tuple(CircuitEdge(TokenAt(i), HeadId(0, i % 3), 0.1, 1 / i) for i in range(1, 180))
    last = CircuitEdge(HeadId(0, 0), Logits(), 1.0, 3.0)
    text = circuit_figure(replace(circuit, tokens=tokens, edges=(last, *edges)), patterns)
    root = ElementTree.fromstring(text)
    assert sum(path.find(f"{SVG}title") is not None for path in root.iter(f"{SVG}path")) == MOST_EDGES
    texts = [one.text for one in root.iter(f"{SVG}text")]
    assert "w148" in texts and "w199" in texts and "w170" not in texts
    assert any(f"The strongest {MOST_EDGES} paths are drawn" in one for one in texts)


def test_the_page_holds_every_path_and_runs_nothing_of_a_text(drawn, tmp_path):
    circuit, patterns = drawn
    path = tmp_path / "circuit.html"
    write_circuit_page(
        path, circuit, patterns, model="m<i>", reference="the mean over <b>", header={"stories": "x"}
    )
    text = path.read_text(encoding="utf-8")

    class Reader(HTMLParser):
        tags, seen = [], []

        def handle_starttag(self, tag, attrs):
            self.tags.append(tag)

        def handle_data(self, data):
            self.seen.append(data)

    reader = Reader()
    reader.feed(text)
    assert reader.tags.count("script") == 4  # data, CircuitsVis and two of our own
    assert reader.tags.count("tr") == 1 + 5 and "i" not in reader.tags
    seen = " ".join(reader.seen)
    for said in (
        "L1H12",
        "the mean over <b>",
        *CANNOT_TELL,
        NODES,
        "weak null",
        "T1 <script>alert(1)</script>",
        "+2.000",
        "−1.000",
    ):
        assert said in seen, said
    assert not re.search(r'(src|href)="(?!#|data:,)', text)
    assert seen.count("m<i>") == 2 and "<|endoftext|>" not in re.sub(
        r"<script.*?</script>", "", text, flags=re.S
    )
    write_circuit_page(
        tmp_path / "again.html",
        circuit,
        patterns,
        model="m<i>",
        reference="the mean over <b>",
        header={"stories": "x"},
    )
    assert (tmp_path / "again.html").read_bytes() == path.read_bytes()
