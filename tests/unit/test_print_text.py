"""Text for print: lines that fit, attention that adds up, neurons by rule; data as computed, equal bytes."""

import csv

import numpy as np
import pytest

from tslens.types import HeadId, HeadScore, NeuronId, NeuronRole
from tslens.viz.print_attention import (
    MEANINGS,
    SCALES,
    asked_distances,
    at_scale,
    choose_heads,
    distance_profile,
    draw_meanings,
    draw_scales,
    spread_from,
)
from tslens.viz.print_neurons import NeuronText, ReadStory, choose_neurons, draw_neuron_texts
from tslens.viz.print_text import Shaded, length_of, wrap_tokens

KINDS = (".svg", ".pdf", ".png", ".csv")


def rows_of(stem):
    with stem.with_suffix(".csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def drawn(stem):
    return {kind: stem.with_suffix(kind).read_bytes() for kind in KINDS}


def test_lines_break_before_words_and_keep_all_tokens():
    texts = ["One", " day", ",", " a", " very", "long", " word", "\n", "End"]
    lines = wrap_tokens([Shaded(text, 0.5) for text in texts], 9)
    assert all(length_of(line) <= 9 for line in lines)
    assert ["".join(token.text for token in line) for line in lines] == [
        "One day,",
        "a",
        "verylong",
        "word\nEnd",
    ]
    assert sum(len(line) for line in lines) == len(texts)


@pytest.fixture(scope="module")
def paragraph(random_model):
    from tslens.viz.paragraph import read_paragraph

    return read_paragraph(random_model("l1_h32"))


def scores(paragraph, kinds):
    """A row for each head and probe; of head 1 a role."""
    found = []
    for kind in kinds:
        for probe in kind.probes:
            for head in paragraph.example.patterns:
                status = "role" if head.index == 1 else "no"
                row = HeadScore(
                    head, probe, "word", 0.4, 0.3, 0.5, None, {"twins": 0.1}, 0.3, 0.2, 0.001, status, None, None,
                    None, (0.3, 0.3), 100,
                )  # fmt: skip
                found.append(row)
    return found


def test_the_head_is_chosen_by_status_and_its_data_are_its_pattern(paragraph, tmp_path):
    heads = choose_heads(paragraph, scores(paragraph, SCALES), SCALES)
    assert [one.row.head for one in heads] == [HeadId(0, 1)] * len(SCALES)
    for name in ("a", "b"):
        draw_scales(paragraph, heads, tmp_path / name)
    assert drawn(tmp_path / "a") == drawn(tmp_path / "b")
    pattern = paragraph.example.patterns[HeadId(0, 1)]
    rows = [row for row in rows_of(tmp_path / "a") if row["probe"] == "previous_token"]
    seen = {(int(row["query"]), int(row["key_or_distance"])): row for row in rows if row["what"] == "pattern"}
    assert len(seen) == len(pattern) * (len(pattern) + 1) // 2
    assert float(seen[9, 4]["attention"]) == pytest.approx(float(pattern[9, 4]), abs=1e-4)
    by_distance = [float(row["attention"]) for row in rows if row["what"] == "by distance"]
    three_back = [pattern[t, t - 3] for t in range(4, len(pattern))]  # not at the start token
    assert by_distance[3] == pytest.approx(np.mean(three_back), rel=1e-5)
    found = at_scale(paragraph, heads[1])
    first, last = asked_distances(heads[1].row.probe)
    assert found[0] == pytest.approx(distance_profile(pattern)[first : last + 1].sum(), rel=1e-5)
    assert asked_distances("previous_token") == (1, 1) and asked_distances("name") is None


def test_what_tokens_get_is_a_mean_over_those_that_ask(paragraph, tmp_path):
    pattern = np.array([[1, 0, 0], [0.25, 0.75, 0], [0.5, 0.3, 0.2]])
    assert spread_from(pattern, [1, 2]) == pytest.approx([0.375, 0.525, 0.1])
    heads = choose_heads(paragraph, scores(paragraph, MEANINGS), MEANINGS)
    for name in ("a", "b"):
        draw_meanings(paragraph, heads, tmp_path / name)
    assert drawn(tmp_path / "a") == drawn(tmp_path / "b")
    rows = rows_of(tmp_path / "a")
    for one in heads:
        mine = [row for row in rows if row["kind"] == one.kind.title]
        assert sum(float(row["attention"]) for row in mine) == pytest.approx(1, abs=1e-4)
        assert {int(row["token"]) for row in mine if row["asks"] == "True"} == {*one.measure.queries}
        assert [row["text"] for row in mine] == paragraph.example.tokens


def role(index, label, status, excess):
    return NeuronRole(
        NeuronId(0, index),
        label,
        0.9,
        0.8,
        0.95,
        0.7,
        0.5,
        0.1,
        0.0,
        {"tokens": 0.8},
        excess,
        0.01,
        status,
        None,
    )


def test_the_neuron_is_chosen_by_status_then_excess():
    roles = [
        role(0, "action", "candidate", 0.9),
        role(1, "action", "role", 0.2),
        role(2, "action", "role", 0.3),
        role(3, "pos_adj", "no", 0.1),
    ]
    chosen = choose_neurons(roles, ("action", "pos_adj", "introduction"))
    assert {label: one.neuron.index for label, one in chosen.items()} == {"action": 2, "pos_adj": 3}


def test_passages_are_the_strongest_places_each_of_another_story(tmp_path):
    rng = np.random.default_rng(0)
    words = [" cat", " ran", ",", " and", "\n", " hopped", " $5"]
    stories = []
    for _ in range(9):
        chosen = rng.integers(0, len(words), 70)
        activation = rng.normal(size=70)
        stories.append(ReadStory(tuple(words[i] for i in chosen), activation, activation > 1.0))
    one = NeuronText(role(0, "action", "role", 0.3), stories)
    places = one.passages()
    assert len({story for story, _ in places}) == len(places) == 6
    peaks = sorted((float(story.activation.max()) for story in stories), reverse=True)[:6]
    assert [float(stories[story].activation[at]) for story, at in places] == peaks
    everything = np.concatenate([story.activation for story in stories])
    strongest = np.sort(everything)[-100:]
    assert one.share_of_strongest() == pytest.approx((strongest > 1.0).mean())
    for name in ("a", "b"):
        draw_neuron_texts([one], tmp_path / name)
    assert drawn(tmp_path / "a") == drawn(tmp_path / "b")
    rows = rows_of(tmp_path / "a")
    for number, (story, at) in enumerate(places, start=1):
        mine = [row for row in rows if int(row["passage"]) == number]
        assert at in [int(row["token"]) for row in mine]
        for row in mine:
            assert float(row["activation"]) == stories[story].activation[int(row["token"])]
            assert row["text"] == stories[story].tokens[int(row["token"])]
