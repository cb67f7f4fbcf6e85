"""The prompts that models are graded on: the package's own, a user's, and answers by rule."""

import json
import re
from collections import Counter

import pytest

from tslens.corpus.instructions.draw import HELD_OUT
from tslens.corpus.instructions.form import parse_prompt, write_prompt
from tslens.corpus.stories import normalise
from tslens.corpus.vocabulary import load_vocabulary
from tslens.errors import DataError
from tslens.files import data_dir
from tslens.grading.prompts import (
    ShortPrompt,
    answer_words,
    load_beginnings,
    load_instruction_sets,
    load_short_prompts,
    read_beginnings,
    version_of,
)


def test_beginnings_are_cut_from_whole_stories():
    found = load_beginnings()
    assert len({one.id for one in found}) == len(found) == 50
    runs = Counter()
    for one in found:
        whole = one.text + one.ending
        assert whole == normalise(whole) and whole.isascii() and "  " not in whole, one.id
        assert whole.count('"') % 2 == 0 and whole.rstrip()[-1] in '.!?"', one.id
        assert (one.text == one.text.rstrip() and one.ending[:1] in (" ", "\n")) or one.text[-1] == '"'
        words = whole.split()
        assert 100 <= len(words) <= 200 and 0.3 < len(one.text.split()) / len(words) < 0.65, one.id
        runs.update({" ".join(words[i : i + 7]) for i in range(len(words) - 6)})
    assert max(runs.values()) == 1, runs.most_common(1)
    in_mid_sentence = [one for one in found if one.text[-1] not in '.!?"']
    assert len(in_mid_sentence) >= 35 and len({one.demands for one in in_mid_sentence}) >= 12
    assert sum(one.text.startswith("Once upon a time") for one in found) <= 15


def test_sets_of_instructions_are_prompts_of_every_kind():
    found = load_instruction_sets()
    assert len({one.id for one in found}) == len(found) == 50
    kinds = Counter(frozenset(one.instruction.kinds) for one in found)
    assert {"words", "sentence", "features", "summary"} == set().union(*kinds)
    vocabulary = load_vocabulary()
    for one in found:
        asked = one.instruction
        assert one.held_out == (frozenset(asked.kinds) in HELD_OUT), one.id
        assert parse_prompt(write_prompt(asked)).instruction == asked.as_prompted()
        for word, part in zip(asked.words, asked.words_pos, strict=True):
            known = {"VERB": vocabulary.verbs, "NOUN": vocabulary.nouns, "ADJ": vocabulary.adjectives}[part]
            assert word in known, (one.id, word)
    assert sum(one.held_out for one in found) == 10


def test_short_prompts_are_of_three_groups_and_no_answer_is_the_nearest_noun():
    found = load_short_prompts()
    assert len({one.id for one in found}) == len(found) == 60
    assert Counter(one.group for one in found) == {"factual": 20, "reasoning": 20, "context": 20}
    by_rule = [one for one in found if one.by_rule]
    assert len(by_rule) >= 45
    for one in found:
        assert one.text.isascii() and one.text == one.text.rstrip() and re.search(r'[A-Za-z"]$', one.text), (
            one.id
        )
        assert one.criterion and one.failure and bool(one.partial) <= bool(one.partial_criterion)
        assert not {*one.success} & {*one.partial}
    for one in by_rule:
        assert one.success
        for answer in one.success:
            assert one.outcome(f" the {answer}. Then he ran home.") == "success", (one.id, answer)
        for answer in one.partial:
            assert one.outcome(f" {answer}, and so") == "partial", (one.id, answer)
        assert one.outcome(" Xylophone.") == one.outcome("") == "failure"
    nearest = [
        one for one in by_rule if one.group != "factual" and _last_words(one.text, 3) & set(one.success)
    ]
    assert not nearest, [one.id for one in nearest]


def _last_words(text, n):
    return set(re.findall(r"[a-z]+", text.lower())[-n:])


PROMPT = ShortPrompt("x", "factual", "It is a", ("cat", "black cat", "sad"), ("animal",), True, "a", "b", "c")


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (" cat.", "success"),
        (' "Cat!" he said', "success"),
        ("\n\nA cat sat.", "success"),
        (" big, old, gray, little cat.", "success"),
        (" one two three four five six cat.", "failure"),
        (" dog. It is a cat.", "failure"),
        (" catalogue", "failure"),
        (" not a cat but an animal", "partial"),
        (" is not very sad", "failure"),
        (" isn't sad", "failure"),
        (" no, it is sad", "success"),
        (" animal like a cat", "success"),
        (" the black\ncat", "failure"),
        (" Black CAT", "success"),
        ("...", "failure"),
    ],
)
def test_an_answer_by_rule(answer, outcome):
    assert PROMPT.outcome(answer) == outcome


def test_words_of_an_answer():
    assert answer_words(' "I don\'t know," she said. Then') == ("i", "don't", "know", "she", "said")
    assert answer_words("") == () and answer_words("!?") == ()
    with pytest.raises(ValueError, match="for a judge"):
        ShortPrompt("y", "context", "a", (), (), False, "a", "b", "c").outcome("b")


def test_every_file_has_a_version():
    assert [version_of(name) for name in ("beginnings", "instructions", "short_prompts")] == [1, 1, 1]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.yaml", "---\n- One day\n- |-\n  A bird\n  sang and\n"),
        ("p.json", json.dumps(["One day", "A bird\nsang and"])),
        ("p.jsonl", '{"prompt": "One day"}\n\n{"prompt": "A bird\\nsang and", "id": 7}\n'),
    ],
)
def test_a_user_s_prompts(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    found = read_beginnings(tmp_path / name)
    assert [one.text for one in found] == ["One day", "A bird\nsang and"]
    assert [one.id for one in found] == ["p001", "p002"] and found[0].ending is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.yaml", "- [unclosed"),
        ("p.yaml", "a: 1"),
        ("p.yaml", ""),
        ("p.json", "[1]"),
        ("p.json", '{"prompts": []}'),
        ("p.json", "[]"),
        ("p.jsonl", '{"text": "x"}'),
        ("p.jsonl", "[1]"),
        ("p.txt", "One day"),
        ("p.json", '[" "]'),
    ],
)
def test_what_is_no_file_of_prompts_is_said(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match="prompt") as error:
        read_beginnings(tmp_path / name)
    assert name in error.value.message
    with pytest.raises(DataError):
        read_beginnings(tmp_path / "absent.json")


def test_the_paper_s_prompts_are_read():
    path = data_dir() / "eval_prompts.yaml"
    if not path.exists():
        pytest.skip("the data are not here")
    assert len(read_beginnings(path)) == 44
