"""The circuit that is found is the one that was planted, or keeps what it says; its drawing and page hold it all."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from tslens.causal.ablation import LayerId
from tslens.causal.path_graph import Logits, TokenAt
from tslens.causal.paths import PathPatcher, mean_written, written_on
from tslens.errors import UsageError
from tslens.link.circuit import find_circuit, next_token
from tslens.link.circuit_report import Circuit, CircuitEdge, RandomPaths, most_attended, share_kept, shown
from tslens.types import HeadId
from tslens.viz.circuit_figure import BOX, MOST_EDGES, circuit_figure, figure, percent, write_circuit_figure
from tslens.viz.circuit_page import CANNOT_TELL, NODES, effects, figures, summary, write_circuit_page

PROMPT = "Once upon a time, Lily found a kite in the park. Then"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def model(random_model):
    return random_model("l2_h32").to(torch.float64)


@pytest.fixture(scope="module")
def tokens(model):
    return model.to_tokens(PROMPT)[0]


@pytest.fixture(scope="module")
def reference(model, stories):
    rows = [model.tokenizer.encode_story(one.text) for one in stories[:20]]
    return mean_written(model, rows, n_pos=len(model.to_tokens(PROMPT)[0]))


@pytest.fixture(scope="module")
def found(model, tokens, reference, stories):
    rows = [model.tokenizer.encode_story(one.text).astype(np.int64) for one in stories[20:24]]
    others = [written_on(model, torch.from_numpy(row[: len(tokens)])) for row in rows]
    return find_circuit(model, tokens, reference, seed=0, keep=0.8, n_draws=30, other_stories=others)


class Measured:
    """Differences and divergences of sets of edges, in another way: from log-probabilities."""

    def __init__(self, model, tokens, reference, right, wrong):
        self.patcher = PathPatcher(model, tokens, reference)
        self.graph = self.patcher.graph
        ids = [model.tokenizer.token_strings([i])[0] for i in range(model.cfg.d_vocab)]
        self.right, self.wrong = ids.index(right), ids.index(wrong)
        self.clean = model(tokens[None])[0, -1].log_softmax(-1).detach()

    def of(self, keep):
        log_probs = self.patcher.logits([keep])[0].log_softmax(-1)
        divergence = torch.nn.functional.kl_div(log_probs, self.clean, log_target=True, reduction="sum")
        return float(log_probs[self.right] - log_probs[self.wrong]), float(divergence)

    def keep(self, edges):
        names = [*map(str, self.graph.senders)], [*map(str, self.graph.receivers)]
        keep = np.zeros_like(self.graph.whole)
        for edge in edges:
            keep[names[0].index(str(edge.sender)), names[1].index(str(edge.receiver))] = True
        return keep


def test_a_circuit_keeps_what_it_says_and_nothing_less_does(model, tokens, reference, found):
    measured = Measured(model, tokens, reference, found.right, found.wrong)
    graph, keep = measured.graph, measured.keep(found.edges)
    assert 2 <= len(found.edges) < found.n_edges_whole == len(graph.edges)
    assert (graph.on_paths(keep) == keep).all()
    difference, divergence = measured.of(keep)
    none, divergence_none = measured.of(np.zeros_like(keep))
    whole, _ = measured.of(graph.whole)
    assert (found.whole, found.inside, found.none) == pytest.approx((whole, difference, none), abs=1e-9)
    told = (found.divergence, found.divergence_none)
    assert told == pytest.approx((divergence, divergence_none), abs=1e-9)
    assert found.share == pytest.approx((difference - none) / (whole - none))
    assert found.outside == pytest.approx(measured.of(graph.on_paths(graph.whole & ~keep))[0], abs=1e-9)

    def is_kept(of):
        return abs((of[0] - none) / (whole - none) - 1) <= 0.2 and of[1] <= 0.2 * divergence_none

    assert is_kept((difference, divergence))
    for edge in found.edges:
        left = measured.of(graph.on_paths(keep & ~measured.keep([edge])))
        assert not is_kept(left), str(edge)
        assert edge.effect_inside == pytest.approx(difference - left[0], abs=1e-9)
        alone = measured.of(graph.on_paths(graph.whole & ~measured.keep([edge])))
        assert edge.effect == pytest.approx(whole - alone[0], abs=1e-9)
    sizes = [abs(edge.effect_inside) for edge in found.edges]
    assert sizes == sorted(sizes, reverse=True)


def test_random_sets_and_other_stories(model, tokens, reference, found, stories):
    measured = Measured(model, tokens, reference, found.right, found.wrong)
    generator = np.random.default_rng(0)
    shares = np.array(
        [
            share_kept(
                measured.of(measured.graph.draw(len(found.edges), generator))[0], found.whole, found.none
            )
            for _ in range(30)
        ]
    )
    random = found.random
    assert (random.low, random.median, random.high) == pytest.approx(
        tuple(np.quantile(shares, [0.05, 0.5, 0.95]))
    )
    assert random.p == pytest.approx((1 + (abs(shares - 1) <= abs(found.share - 1)).sum()) / 31)
    sums = np.zeros(3)
    for story in stories[20:24]:
        row = torch.from_numpy(model.tokenizer.encode_story(story.text).astype(np.int64)[: len(tokens)])
        other = Measured(model, tokens, written_on(model, row), found.right, found.wrong)
        keep = measured.keep(found.edges)
        sums += [other.of(one)[0] for one in (keep, measured.graph.whole, np.zeros_like(keep))]
    assert found.n_other_stories == 4
    assert found.other_stories == pytest.approx((sums[0] - sums[2]) / (sums[1] - sums[2]))


def test_equal_seeds_give_equal_bytes(model, tokens, reference, found):
    again = find_circuit(model, tokens, reference, seed=0, keep=0.8, n_draws=30)
    assert json.dumps(again.to_json()["edges"]) == json.dumps(found.to_json()["edges"])
    other = find_circuit(model, tokens, reference, seed=1, keep=0.8, n_draws=30)
    assert again.random == found.random != other.random and other.edges == again.edges


def test_the_one_path_that_there_is_is_found(random_model, tokens):
    """Of a model in which only one head writes, and another prompt that differs in one word."""
    model = random_model("l1_h64").to(torch.float64)
    with torch.no_grad():
        model.blocks[0].attn.W_O[[0, 1, 3]] = 0
        model.blocks[0].attn.W_O[2] *= 5
        model.blocks[0].mlp.W_out.zero_()
    pattern = next(model.attention_patterns(tokens[None]))[0, 2, -1]
    pos = 1 + int(pattern[1:-1].argmax())
    other = tokens.clone()
    other[pos] = int(tokens[pos]) + 1
    before, after = (model(row[None])[0, -1].detach() for row in (other, tokens))
    right, wrong = int((after - before).argmax()), int((after - before).argmin())
    right, wrong = (right, wrong) if after[right] > after[wrong] else (wrong, right)
    found = find_circuit(model, tokens, written_on(model, other), right=right, wrong=wrong, seed=0)
    named = {(str(one.sender), str(one.receiver)) for one in found.edges}
    assert named == {(f"T{pos}", "L0H2"), ("L0H2", "logits")}
    assert found.share == pytest.approx(1) and found.share_outside == pytest.approx(0, abs=1e-9)
    assert found.divergence == pytest.approx(0, abs=1e-9) and found.heads == (HeadId(0, 2),)
    assert found.edges[0].effect == pytest.approx(found.whole - found.none)


def test_what_cannot_be_explained_is_refused(model, tokens, reference):
    best = int(model(tokens[None])[0, -1].argmax())
    for keep in (0.0, 1.0, 2.0, float("nan")):
        with pytest.raises(UsageError, match="cannot be kept"):
            find_circuit(model, tokens, reference, seed=0, keep=keep)
    with pytest.raises(UsageError, match="does not prefer") as refused:
        find_circuit(model, tokens, reference, seed=0, right=(best + 1) % 300, wrong=best)
    probable = model(tokens[None])[0, -1].sort(descending=True).indices[:2].tolist()
    first, second = (shown(one, is_next=True) for one in model.tokenizer.token_strings(probable))
    assert f"“{first}” is ahead by" in str(refused.value)
    assert f"tokens are “{first}”, “{second}”, " in str(refused.value)
    with pytest.raises(UsageError, match="are the same"):
        find_circuit(model, tokens, reference, seed=0, right=best, wrong=best)
    with pytest.raises(UsageError, match="decides too little"):
        find_circuit(model, tokens, written_on(model, tokens), seed=0)


def test_the_token_that_a_word_begins_with(tokenizer):
    for word in ("Lily", "trumpets", ",", "zebra"):
        number, n_tokens = next_token(tokenizer, "One day", word)
        blank = "" if word == "," else " "
        ids = tokenizer.encode(f"{blank}{word}")
        assert (number, n_tokens) == (ids[0], len(ids))
    assert next_token(tokenizer, "One day", " Lily") == next_token(tokenizer, "One day", "Lily")
    with pytest.raises(UsageError, match="blanks at the end"):
        next_token(tokenizer, "One day ", "the")
    for word in ("", " "):
        with pytest.raises(UsageError, match="No word is given"):
            next_token(tokenizer, "One day", word)


def test_tokens_as_readers_see_them():
    assert [shown(one) for one in (" dog", "ing", "<|endoftext|>", " ")] == ["dog", "ing", "start", "␣"]
    assert shown("<|endoftext|>", is_next=True) == "end"


def test_the_most_attended_tokens():
    assert [(one.pos, one.share) for one in most_attended([0.2, 0.5, 0.2, 0.1], 3)] == [
        (1, 0.5),
        (0, 0.2),
        (2, 0.2),
    ]


# Drawing and page ----------------------------------------------------------------------------------------------

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
