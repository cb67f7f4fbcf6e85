"""The annotator: clauses, speech, parts and cache by hand; whole stories where a parser is installed."""

import json
import sqlite3
import sys

import pytest

from tslens.corpus import annotate as module
from tslens.corpus.annotate import annotate, open_parser
from tslens.corpus.annotation.cache import AnnotationCache
from tslens.corpus.annotation.clauses import Token, find_clauses, mend
from tslens.corpus.annotation.labelling import label
from tslens.corpus.annotation.speech import find_quotes, find_story_parts
from tslens.corpus.words import find_sentences, find_units
from tslens.errors import DataError
from tslens.types import Labels, Story


@pytest.fixture
def read(parser):
    """A function from a text to its labels, checked for what always holds."""

    def labels_of(text):
        labels = label(text, parser.parse(text), made_by=parser.version)
        n_units = len(find_units(text))
        for column in ("pos", "lemma", "clause", "mention", "antecedent", "quote", "story_part"):
            assert len(getattr(labels, column)) == n_units, column
        assert all(
            (tag == "PUNCT") == (not word[0].isalnum())
            for tag, word in zip(labels.pos, words(text), strict=True)
        )
        assert all(c < 0 for c, word in zip(labels.clause, words(text), strict=True) if not word[0].isalnum())
        assert Labels.from_json(json.loads(json.dumps(labels.to_json()))) == labels
        return labels

    return labels_of


def words(text):
    return [text[start:end] for start, end in find_units(text)]


def clauses(text, labels):
    """Subject, action and object of each clause, as words."""
    named = [*words(text), None]
    return [
        tuple(named[-1 if u is None else u] for u in (c.subject, c.action, c.object)) for c in labels.clauses
    ]


# Direct speech and parts, by rule ---------------------------------------------------------------------------


def quotes(text):
    """Units in speech, by stretch."""
    found = {}
    for word, quote in zip(words(text), find_quotes(text, find_units(text)), strict=True):
        if quote >= 0:
            found.setdefault(quote, []).append(word)
    return [" ".join(found[quote]) for quote in sorted(found)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"Hi," said Tom. "Bye."', ['" Hi , "', '" Bye . "']),
        ("“Hi,” said Tom.", ["“ Hi , ”"]),
        ("«Hi», said Tom.", ["« Hi »"]),
        ("'Hi,' said Tom. It was Tom's dog, wasn't it?", ["' Hi , '"]),
        ("The dogs' bowl wasn't Tom's.", []),
        ('"He said “no” to me," said Tom.', ['" He said “ no ” to me , "']),
        ("“He said “no” to me,” said Tom.", ["“ He said “ no ” to me , ”"]),
        ('"One day\nTom ran. "Hi!" he said.', ['" One day', '" Hi ! "']),
        ('"Hi, "Bye," said Tom.', ['" Hi ,', '" Bye , "']),
        ('Tom ran" and hid.', []),
        ("", []),
    ],
)
def test_quotes(text, expected):
    assert quotes(text) == expected


def parts(text):
    """Each part with the first word of each of its sentences."""
    units = find_units(text)
    found = find_story_parts(text, units, find_sentences(text))
    starts = {sentence.start for sentence in find_sentences(text)}
    return [(part, text[s:e]) for part, (s, e) in zip(found, units, strict=True) if s in starts]


def test_story_parts_follow_their_cues():
    text = (
        "There was a boy. He was kind. One day, he lost a ball. He was sad. He looked around. Then, he had an idea. "
        "He called a dog. In the end, they found it. He learned that dogs are clever."
    )
    assert parts(text) == [
        ("opening", "There"),
        ("opening", "He"),
        ("problem", "One"),
        ("problem", "He"),
        ("problem", "He"),
        ("turn", "Then"),
        ("turn", "He"),
        ("ending", "In"),
        ("moral", "He"),
    ]


@pytest.mark.parametrize("text", ["Hi", "Hi. Bye.", "The end.", "One day, he ran.", "", "..."])
def test_story_parts_of_short_texts(text):
    order = ["opening", "problem", "turn", "ending", "moral"]
    found = [order.index(part) for part, _ in parts(text)]
    assert found == sorted(found)
    assert not found or found[0] == 0


# Clauses from a parse written by hand -----------------------------------------------------------------------


def tokens(text):
    """Tokens from ``word/POS/TAG/dep/head``, one unit each."""
    rows = [item.split("/") for item in text.split()]
    return [Token(w, p, t, w.lower(), d, int(h), unit) for unit, (w, p, t, d, h) in enumerate(rows)]


def test_joined_verbs_share_a_subject_and_and_belongs_to_the_second():
    found = find_clauses(
        tokens(
            "Tom/PROPN/NNP/nsubj/1 ran/VERB/VBD/ROOT/1 and/CCONJ/CC/cc/1 ate/VERB/VBD/conj/1 cake/NOUN/NN/dobj/3"
        ),
        [True] * 5,
    )
    assert [(c.subject, c.action, c.object) for c in found.clauses] == [(0, 1, None), (0, 3, 4)]
    assert found.of_unit == (0, 0, 1, 1, 1)


def test_a_name_read_as_a_time_is_the_subject():
    rows = tokens("Tim/PROPN/NNP/npadvmod/1 liked/VERB/VBD/ROOT/1 cake/NOUN/NN/dobj/1")
    assert find_clauses(mend(rows), [True] * 3).clauses[0].subject == 0
    with_subject = tokens("Monday/PROPN/NNP/npadvmod/1 came/VERB/VBD/ROOT/1 he/PRON/PRP/nsubj/1")
    assert find_clauses(mend(with_subject), [True] * 3).clauses[0].subject == 2


def test_a_state_belongs_to_be_and_a_deed_to_the_participle():
    scared = "He/PRON/PRP/nsubjpass/2 be/AUX/VBD/auxpass/2 scared/VERB/VBN/ROOT/2"
    assert find_clauses(tokens(scared), [True] * 3).clauses[0].action == 1
    by_dog = scared + " by/ADP/IN/agent/2 dogs/NOUN/NNS/pobj/3"
    assert find_clauses(tokens(by_dog), [True] * 5).clauses[0].action == 2


# Whole sentences, with a parser -----------------------------------------------------------------------------

SENTENCES = {
    "Tom had lost his red ball.": [("Tom", "lost", "ball")],
    "She wanted to cry and hide.": [("She", "wanted", None), (None, "cry", None), (None, "hide", None)],
    "The dog was happy.": [("dog", "was", None)],
    "The cat was very scared.": [("cat", "was", None)],
    "The boy didn't see the cat.": [("boy", "see", "cat")],
    "I'm sad.": [("I'm", "I'm", None)],
    "Let's go!": [(None, "Let's", None), ("Let's", "go", None)],
    "There was a girl named Lily.": [(None, "was", None), (None, "named", None)],
    '"I like it," said Tom.': [("I", "like", "it"), ("Tom", "said", None)],
    "Mom gave him a ball.": [("Mom", "gave", "ball")],
    "Mr. Brown saw the broken cup.": [("Brown", "saw", "cup")],
    "She put on her hat and ran.": [("She", "put", "hat"), ("She", "ran", None)],
    "He saw that the fox was sleeping.": [("He", "saw", None), ("fox", "sleeping", None)],
    "Oh no!": [],
}


@pytest.mark.parametrize("text", SENTENCES)
def test_clauses(read, text):
    assert clauses(text, read(text)) == SENTENCES[text]


def test_contractions_have_the_tag_of_their_first_part(read):
    labels = read("Tom didn't see Lily's cat, and I'm sad.")
    tagged = dict(
        zip(
            words("Tom didn't see Lily's cat, and I'm sad."),
            zip(labels.pos, labels.lemma, strict=True),
            strict=True,
        )
    )
    assert tagged["didn't"] == ("AUX", "do")
    assert tagged["I'm"][0] == "PRON"
    assert tagged["Lily's"] == ("PROPN", "lily")
    assert tagged["Tom"] == ("PROPN", "tom")


def test_curly_apostrophes_change_nothing(read):
    straight = "Tom didn't know it. \"It's Lily's dog,\" he said."
    curly = "Tom didn’t know it. “It’s Lily’s dog,” he said."
    assert read(straight).pos == read(curly).pos
    assert read(straight).clauses == read(curly).clauses
    assert read(straight).mention == read(curly).mention


STORY = (
    "Once upon a time, there was a little girl named Lily. She had a red kite. One day, Lily met a boy. His name was "
    'Sam. "Can I fly it?" he asked. She gave him the kite, and they laughed.\nHer mom saw them. She was proud of Lily.'
)


def test_a_story(read):
    labels = read(STORY)
    named = words(STORY)
    back = {}
    for unit, antecedent in enumerate(labels.antecedent):
        if antecedent >= 0:
            back.setdefault(named[unit], []).append(named[antecedent])
    assert back["She"] == ["Lily", "Lily", "mom"]
    assert back["he"] == back["him"] == ["Sam"]
    assert back["it"] == ["kite"]
    assert back["Her"] == ["Lily"]
    assert back["they"] == ["Sam"] or back["they"] == ["Lily"]
    assert [named[unit] for unit in labels.introduction] == ["a", "little", "girl", "named", "Lily"]
    assert labels.protagonist == labels.mention[named.index("Lily")] == labels.mention[named.index("girl")]
    assert labels.mention[named.index("boy")] == labels.mention[named.index("Sam")]
    assert labels.topics == ("kite",)
    assert set(labels.story_part) >= {"opening", "problem", "ending"}


def test_a_name_after_named_is_a_name_though_the_story_has_the_word_in_small_letters(read):
    text = "Tom had a dog named Spot. Spot had a white spot. Spot ran."
    labels = read(text)
    tagged = [
        (word, pos) for word, pos in zip(words(text), labels.pos, strict=True) if word.lower() == "spot"
    ]
    assert tagged == [("Spot", "PROPN"), ("Spot", "PROPN"), ("spot", "NOUN"), ("Spot", "PROPN")]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Hi",
        ".",
        "...",
        '"',
        "—",
        "😀 😀",
        "Zoë’s naïve café!",
        "a\nb",
        "ﬁn 中文 x",
        "$5.50 & 3,000",
        "well-known 3-year-old Mr.",
    ],
)
def test_unusual_texts(read, text):
    labels = read(text)
    assert labels.protagonist is None or labels.introduction


# Streams and cache ------------------------------------------------------------------------------------------


def some_stories(stories):
    return [*stories[:40], Story("Hi", {"mood": ["x"]}), stories[0]]


def test_other_fields_are_kept_and_order_too(parser, stories):
    source = some_stories(stories)
    found = list(annotate(iter(source)))
    assert [story.text for story in found] == [story.text for story in source]
    assert found[40].extra["mood"] == ["x"]
    assert all(Labels.from_json(story.extra["labels"]).made_by == parser.version for story in found)


def test_processes_change_nothing(parser, stories):
    source = some_stories(stories)
    assert list(annotate(source)) == list(annotate(source, n_processes=2))


def test_a_stream_is_read_no_further_than_needed(parser, stories):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield stories[0]

    next(annotate(endless()))
    assert len(taken) == module.CHUNK


class NoParser:
    """Stands for a parser that must not be asked."""

    version = "none 1"

    def parse(self, text):
        raise AssertionError(f"parsed: {text}")


LABELS = Labels("none 1", ("INTJ",), ("hi",), (-1,), (), (-1,), (-1,), None, (), (), (-1,), ("opening",))


def test_what_is_kept_is_not_parsed_again(tmp_path):
    cache = AnnotationCache(tmp_path)
    cache.put("none 1", [("Hi", LABELS)])
    (found,) = annotate([Story("Hi", {"a": 1})], parser=NoParser(), cache=cache)
    assert found.extra == {"a": 1, "labels": LABELS.to_json()}


def test_equal_bytes_from_the_cache(parser, stories, tmp_path):
    cache = AnnotationCache(tmp_path)
    first = [json.dumps(dict(s.extra)) for s in annotate(stories[:5], cache=cache)]
    again = annotate(stories[:5], parser=module.Parser(parser.version, parser.model, None), cache=cache)
    assert [json.dumps(dict(s.extra)) for s in again] == first


@pytest.mark.parametrize("version", ["none 2", ""])
def test_labels_of_another_parser_are_not_taken(tmp_path, version):
    cache = AnnotationCache(tmp_path)
    cache.put("none 1", [("Hi", LABELS)])
    assert cache.get(version, [Story("Hi")]) == {}
    assert cache.get("none 1", [Story("Hi there")]) == {}
    assert cache.get("none 1", [Story("Hi")]) == {"Hi": LABELS}


def test_a_broken_row_counts_as_absent_and_is_written_again(tmp_path):
    cache = AnnotationCache(tmp_path)
    cache.put("none 1", [("Hi", LABELS)])
    with sqlite3.connect(cache.path) as database:
        database.execute("UPDATE labels SET value = ?", (b"rubbish",))
    database.close()
    assert cache.get("none 1", [Story("Hi")]) == {}
    cache.put("none 1", [("Hi", LABELS)])
    assert cache.get("none 1", [Story("Hi")]) == {"Hi": LABELS}


def test_labels_that_do_not_fit_their_text_are_not_taken(tmp_path):
    cache = AnnotationCache(tmp_path)
    cache.put("none 1", [("Hi there", LABELS)])
    assert cache.get("none 1", [Story("Hi there")]) == {}


def test_a_file_that_is_no_database_is_made_anew(tmp_path):
    cache = AnnotationCache(tmp_path)
    cache.path.write_bytes(b"no database at all" * 100)
    assert cache.get("none 1", [Story("Hi")]) == {}
    cache.put("none 1", [("Hi", LABELS)])
    assert cache.get("none 1", [Story("Hi")]) == {"Hi": LABELS}


def test_without_a_place_there_is_no_cache(tmp_path):
    (tmp_path / "file").write_text("x")
    cache = AnnotationCache(tmp_path / "file")
    cache.put("none 1", [("Hi", LABELS)])
    assert cache.get("none 1", [Story("Hi")]) == {}


@pytest.fixture
def no_parser_yet():
    open_parser.cache_clear()
    yield
    open_parser.cache_clear()


def test_without_spacy_the_error_says_what_to_install(monkeypatch, no_parser_yet):
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(DataError, match=r'pip install -e "\.\[parser\]"'):
        next(annotate([Story("Hi")]))


def test_without_a_model_the_error_says_what_to_install(monkeypatch, no_parser_yet):
    pytest.importorskip("spacy", reason="spaCy is not installed")
    monkeypatch.setattr(module, "MODELS", ("no_such_model",))
    with pytest.raises(DataError, match="no English model"):
        open_parser()
