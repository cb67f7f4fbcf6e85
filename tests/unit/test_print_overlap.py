"""Figures for print as they lie on the page: no label on another, none beyond the edge."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from tslens.corpus.diversity.estimates import FREQUENCY_EDGES, SHARE_EDGES, Estimate, histogram
from tslens.link.emergence.results import Series
from tslens.link.sizes.contrasts import Estimate as Contrast
from tslens.types import NeuronId, NeuronRole
from tslens.viz.print_diversity import Counted, draw_frequencies, draw_shares
from tslens.viz.print_head_counts import MEASURES, draw_by_heads
from tslens.viz.print_neurons import NeuronText, ReadStory, draw_neuron_texts
from tslens.viz.print_tables import COLUMNS, ModelLine, draw_model_table
from tslens.viz.print_training import draw_grades_over_training

SLACK = 1.0  # pixels, of the outline of a letter


@pytest.fixture
def boxes(monkeypatch):
    """A function that draws, and gives the figure's box and every text that is drawn with its own."""

    def of(draw):
        kept, drawn = [], []
        monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: kept.append(figure))
        draw()
        renderer = FigureCanvasAgg(kept[0]).get_renderer()
        with monkeypatch.context() as patch:
            plain = Text.draw
            patch.setattr(Text, "draw", lambda text, *given: (drawn.append(text), plain(text, *given)))
            kept[0].draw(renderer)
        texts = [text for text in dict.fromkeys(drawn) if text.get_visible() and text.get_text().strip()]
        return kept[0].bbox, [(text.get_text(), text.get_window_extent(renderer)) for text in texts]

    return of


def shrunk(box):
    return box.x0 + SLACK, box.y0 + SLACK, box.x1 - SLACK, box.y1 - SLACK


def check(page, texts):
    assert len(texts) > 5
    for text, box in texts:
        x0, y0, x1, y1 = shrunk(box)
        assert x0 >= page.x0 and y0 >= page.y0 and x1 <= page.x1 and y1 <= page.y1, (
            f"{text!r} beyond the page"
        )
    for (one, a), (other, b) in combinations(texts, 2):
        first, second = shrunk(a), shrunk(b)
        apart = (
            first[2] <= second[0] or second[2] <= first[0] or first[3] <= second[1] or second[3] <= first[1]
        )
        assert apart, f"{one!r} on {other!r}"


def contrast(value, reach=0.123):
    return Contrast(value, value - reach, value + reach, reach / 2, None, 30.0, True, 40)


def test_the_check_sees_what_is_wrong(boxes, tmp_path):
    line = ModelLine("a name that is much too long for its column", (12, 1024, 16), 10**8, 3, {})
    with pytest.raises(AssertionError, match=" on "):
        check(*boxes(lambda: draw_model_table([line], tmp_path / "figure")))


def test_table(boxes, tmp_path):
    measured = {name: contrast(10.0 if name not in ("loss", "bits") else 2.5) for name in COLUMNS}
    lines = [
        ModelLine("l12_h1024_a16", (12, 1024, 16), 123_456_789, 3, measured),
        ModelLine("true ending", None, None, 1, {}),
    ]
    check(*boxes(lambda: draw_model_table(lines, tmp_path / "figure")))


def test_heads(boxes, tmp_path):
    found = {name: {n: contrast(5.0 + n / 100) for n in (2, 16)} for name in MEASURES}
    check(
        *boxes(lambda: draw_by_heads(found, (2, 4, 8, 16), tmp_path / "figure", title="1 layer, width 256"))
    )


def test_training(boxes, tmp_path):
    series = Series(
        "x", "grade", (10**5, 2 * 10**6, 4 * 10**6), (5.0, 5.5, 6.123), (0.2, 0.2, 0.2), (None,) * 3
    )
    of = {f"l2_h128@seed{seed}": series for seed in range(3)}
    found = dict.fromkeys(("grammar", "creativity", "consistency", "plot"), of)
    check(*boxes(lambda: draw_grades_over_training(found, tmp_path / "figure")))


@pytest.mark.parametrize("values", [[0.05] * 60 + [0.1] * 30, [0.95] * 9, [0.0, 0.5, 1.0]])
def test_shares(values, boxes, tmp_path):
    counted = [
        Counted(name, histogram("x", values, SHARE_EDGES), Estimate("x", 0.25, 0.21, 0.31, 100))
        for name in ("all stories", "without the prompt's own", "true endings, own left out")
    ]
    check(*boxes(lambda: draw_shares(counted, tmp_path / "figure", title="title", axis="axis", of="texts")))


@pytest.mark.parametrize("logs", [[-6.5, -3.0, -1.2], [-9.0, -0.5]])
def test_frequencies(logs, boxes, tmp_path):
    counted = [
        Counted(name, histogram("x", logs, FREQUENCY_EDGES, never=3)) for name in ("completions", "endings")
    ]
    by_k = dict.fromkeys(range(1, 6), counted)
    check(*boxes(lambda: draw_frequencies(by_k, tmp_path / "figure", title="Different k-grams of")))


def test_tokens_of_neurons(boxes, tmp_path):
    rng = np.random.default_rng(1)
    words = [" mountain", " ran", ",", " WWW", "ing", "\n", " iiii"]
    stories = [
        ReadStory(tuple(words[i] for i in rng.integers(0, 7, 60)), rng.normal(size=60), rng.random(60) > 0.8)
        for _ in range(6)
    ]
    role = NeuronRole(
        NeuronId(11, 1023), "introduction", 0.9, 0.8, 0.95, 0.7, 0.5, 0.1, 0.0, {"tokens": 0.8}, 0.3, 0.01,
        "candidate", "contextual",
    )  # fmt: skip
    check(*boxes(lambda: draw_neuron_texts([NeuronText(role, stories)], tmp_path / "figure")))
