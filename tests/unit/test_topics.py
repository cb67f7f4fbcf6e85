"""Topics: counts times inverse document frequency, with the shipped table."""

from math import log

import pytest

from tslens.corpus import topics
from tslens.corpus.topics import MIN_STORIES, NounTable, choose_topics, load_noun_table


@pytest.fixture
def table(monkeypatch):
    made = NounTable(1000, {"day": 900, "ball": 100, "dragon": 10, "kite": 100})
    monkeypatch.setattr(topics, "load_noun_table", lambda: made)


def nouns(*words):
    return ("NOUN",) * len(words), words


def test_rare_nouns_come_first(table):
    assert choose_topics(*nouns("day", "dragon", "ball", "dragon", "ball", "day", "day")) == (
        "dragon",
        "ball",
        "day",
    )


def test_a_noun_said_once_is_no_topic(table):
    assert choose_topics(*nouns("dragon", "ball", "ball")) == ("ball",)
    assert choose_topics((), ()) == ()


def test_names_and_verbs_are_no_topics(table):
    assert choose_topics(("PROPN", "PROPN", "VERB", "VERB"), ("dragon", "dragon", "ball", "ball")) == ()


def test_at_most_three_and_the_first_of_equals(table):
    words = nouns("kite", "ball", "ball", "kite", "dragon", "dragon", "day", "day")
    assert choose_topics(*words) == ("dragon", "kite", "ball")


def test_an_unknown_noun_counts_as_the_rarest(table):
    assert topics.load_noun_table().idf("gnome") == pytest.approx(log(1000 / MIN_STORIES))
    assert choose_topics(*nouns("gnome", "gnome", "dragon", "dragon"))[0] == "gnome"


def test_the_shipped_table_knows_common_from_rare():
    shipped = load_noun_table()
    assert shipped.n_stories > 10_000
    assert min(shipped.lemmas.values()) >= MIN_STORIES
    assert max(shipped.lemmas.values()) <= shipped.n_stories
    assert shipped.idf("day") < shipped.idf("ball") < shipped.idf("dragon")
