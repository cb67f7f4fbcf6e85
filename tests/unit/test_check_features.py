"""Cues of features, each on a story that has it and one that has not; words in their parts of speech."""

import pytest

from tslens.corpus.check_features import has_feature, has_word
from tslens.labels import FEATURES
from tslens.types import Labels

START = "Once there was a small fox. Every day the fox went to the pond. The water was clear. Reeds stood around it. "
PLAIN = (
    START + "Then the fox went to the hill. The hill was steep. The fox came to the top. There was a stone."
)

CASES = {
    "dialogue": [
        (START + '"Good morning, frog," said the fox. The frog sat still.', True),
        (START + "“Good morning, frog,” said the fox.", True),
        (START + 'The fox thought, "What a nice pond." The frog sat still.', False),
        (START + '"Hello!" said the fox.', False),
        (START + '"Good morning, frog, said the fox.', False),
    ],
    "happy_ending": [
        (START + "At last the frog came. The fox smiled. They were best friends and had fun.", True),
        (START + "The frog did not come. The fox was not happy.", False),
        (START + "The fox was not sad any more. The fox was not scared.", True),
    ],
    "bad_ending": [
        (START + "But the ice broke. The frog was gone. The fox cried and was all alone.", True),
        (START + "The frog did not come. The fox was not happy.", True),
        (START + "The fox laughed and was not sad any more.", False),
    ],
    "moral_value": [
        (START + "The fox learned that sharing is better than eating alone.", True),
        (START + "From that day on, the fox always asked first.", True),
        ("The fox learned to swim. " + PLAIN, False),
    ],
    "twist": [
        (START + "The fox came to a log. But the log was no log: it turned out to be a crocodile!", True),
        (START + "The fox could not believe it.", True),
        ("It turned out that there was a pond. " + PLAIN, False),
    ],
    "foreshadowing": [
        (START + "The fox did not notice the small crack in the bridge. It went on. The sun shone. "
         "Birds sang. The day was long. Then the bridge fell into the pond with a splash.", True),
        (START + "The fox did not notice the small crack in the bridge. It went on. The sun shone. "
         "Birds sang. The day was long. Then a frog came and they danced.", False),
        ("Be careful with the bridge, said the frog. " + START + "The fox came to the bridge. It broke. "
         "The bridge fell.", True),
        ("Be careful with the bridge, said the frog. " + START + "The fox came to the bridge. It was long. "
         "The bridge was red.", False),
    ],
    "conflict": [
        (START + 'Then Otto came. "It is mine!" shouted Otto. Otto and Rita argued all day.', True),
        (START + "Then Otto came, and Otto and Rita swam.", False),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [(name, text, is_there) for name, rows in CASES.items() for text, is_there in rows],
)
def test_cues_decide(name, text, expected):
    assert has_feature(name, text) is expected


def test_every_feature_has_a_check_and_a_plain_text_has_none():
    assert CASES.keys() == FEATURES.keys()
    assert not any(has_feature(name, PLAIN) for name in FEATURES)
    assert not any(has_feature(name, "") for name in FEATURES)


def test_no_story_ends_both_ways():
    for rows in CASES.values():
        for text, _ in rows:
            assert not (has_feature("happy_ending", text) and has_feature("bad_ending", text))


def test_other_names_are_refused():
    with pytest.raises(KeyError):
        has_feature("rhyme", PLAIN)


@pytest.mark.parametrize(
    ("word", "pos", "expected"),
    [
        ("run", "VERB", True),
        ("Mouse", "NOUN", True),
        ("happy", "ADJ", True),
        ("cat", "NOUN", False),
        ("happy", "NOUN", False),
    ],
)
def test_words_count_in_any_form_of_their_part_of_speech(word, pos, expected):
    assert has_word(word, pos, "Two mice ran home. They were happier than the birds.") is expected


def test_labels_decide_where_they_are_given():
    n = 3
    labels = Labels("test", ("PRON", "VERB", "PUNCT"), ("we", "swim", "."), (0, 0, -1), (), (-1,) * n, (-1,) * n,
                    None, (), (), (-1,) * n, ("opening",) * n)  # fmt: skip
    assert has_word("swim", "VERB", labels)
    assert not has_word("swim", "NOUN", labels)
