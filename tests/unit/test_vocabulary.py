"""The vocabulary: forms, analyses, and sentences for each word."""

import itertools
import os
import re
import tomllib
from importlib import resources
from pathlib import Path

import pytest

from tslens.corpus.authoring.lines import Choice, Pick, Slot, parse_line, put_marks
from tslens.corpus.authoring.markup import read_marks
from tslens.corpus.vocabulary import (
    FORMS,
    analyses,
    article,
    inflect,
    load_vocabulary,
    plural,
    wrong_number,
)

ASSETS = resources.files("tslens") / "assets"
RAW = tomllib.loads((ASSETS / "vocabulary.toml").read_text(encoding="utf-8"))
USES = tomllib.loads((ASSETS / "author/uses.toml").read_text(encoding="utf-8"))
VOCABULARY = load_vocabulary()
TABLES = {"noun": VOCABULARY.nouns, "verb": VOCABULARY.verbs, "adjective": VOCABULARY.adjectives}
SLOTS = {
    "hero": "Tom@hero",
    "he": "he@hero",
    "him": "him@hero",
    "his": "his@hero",
    "himself": "himself@hero",
    "parent": "his@hero mom@parent",
    "kind": "boy",
}
_MARKS = re.compile(r"_[vios](?![a-z])|@[a-z0-9]+(?:[+.][a-z0-9]+)*|\^[A-Z]+")


def test_size():
    assert len(VOCABULARY.nouns) >= 800 and len(VOCABULARY.verbs) >= 420 and len(VOCABULARY.adjectives) >= 280


def test_no_entry_stands_twice_in_a_group():
    for countability in RAW["nouns"].values():
        for name, text in countability.items():
            words = text.split()
            assert len(words) == len(set(words)), name
    for part in ("verbs", "adjectives"):
        for name, text in RAW[part].items():
            lines = text.strip().splitlines() if " ; " in text else text.split()
            words = [line.split(" ; ")[0].split(":")[0] for line in lines]
            assert len(words) == len(set(words)), name


def test_a_noun_is_counted_in_one_way_where_it_must_be():
    plurals = {noun.lemma for noun in VOCABULARY.nouns.values() if noun.countability == "plural"}
    assert plurals and all(word.endswith("s") for word in plurals)
    mass = {entry for text in RAW["nouns"]["mass"].values() for entry in text.split()}
    count = {entry.split(":")[0] for text in RAW["nouns"]["count"].values() for entry in text.split()}
    assert not plurals & (mass | count)
    assert {"water", "rice", "furniture", "advice", "luggage", "homework"} <= mass - count


@pytest.mark.parametrize(
    ("noun", "expected"),
    [
        ("cat", "cats"),
        ("box", "boxes"),
        ("bus", "buses"),
        ("watch", "watches"),
        ("baby", "babies"),
        ("toy", "toys"),
        ("child", "children"),
        ("mouse", "mice"),
        ("foot", "feet"),
        ("leaf", "leaves"),
        ("roof", "roofs"),
        ("potato", "potatoes"),
        ("piano", "pianos"),
        ("stomach", "stomachs"),
        ("sheep", "sheep"),
        ("milk", "milk"),
        ("scissors", "scissors"),
        ("fireman", "firemen"),
        ("snowdrop", "snowdrops"),
    ],
)
def test_plural(noun, expected):
    assert plural(noun) == expected


@pytest.mark.parametrize(
    ("lemma", "third", "past", "participle", "gerund"),
    [
        ("walk", "walks", "walked", "walked", "walking"),
        ("hop", "hops", "hopped", "hopped", "hopping"),
        ("hope", "hopes", "hoped", "hoped", "hoping"),
        ("visit", "visits", "visited", "visited", "visiting"),
        ("open", "opens", "opened", "opened", "opening"),
        ("fix", "fixes", "fixed", "fixed", "fixing"),
        ("cry", "cries", "cried", "cried", "crying"),
        ("play", "plays", "played", "played", "playing"),
        ("tie", "ties", "tied", "tied", "tying"),
        ("agree", "agrees", "agreed", "agreed", "agreeing"),
        ("panic", "panics", "panicked", "panicked", "panicking"),
        ("go", "goes", "went", "gone", "going"),
        ("swim", "swims", "swam", "swum", "swimming"),
        ("begin", "begins", "began", "begun", "beginning"),
        ("lie", "lies", "lay", "lain", "lying"),
        ("put", "puts", "put", "put", "putting"),
        ("be", "is", "was", "been", "being"),
        ("have", "has", "had", "had", "having"),
        ("do", "does", "did", "done", "doing"),
        ("moo", "moos", "mooed", "mooed", "mooing"),
        ("blorp", "blorps", "blorped", "blorped", "blorping"),
    ],
)
def test_inflect(lemma, third, past, participle, gerund):
    assert [inflect(lemma, form) for form in FORMS] == [lemma, third, past, participle, gerund]


def test_every_form_is_found_again():
    for noun in VOCABULARY.nouns.values():
        form = "plural" if noun.countability == "plural" else "singular"
        assert (noun.lemma, "NOUN", form) in analyses(noun.lemma)
        if noun.countability == "count":
            assert (noun.lemma, "NOUN", "plural") in analyses(plural(noun.lemma))
    for verb in VOCABULARY.verbs.values():
        for form in FORMS:
            assert (verb.lemma, "VERB", form) in analyses(inflect(verb.lemma, form))
    for adjective in VOCABULARY.adjectives:
        assert (adjective, "ADJ", "base") in analyses(adjective)


@pytest.mark.parametrize(
    ("word", "first"),
    [
        ("mice", ("mouse", "NOUN", "plural")),
        ("went", ("go", "VERB", "past")),
        ("walked", ("walk", "VERB", "past")),
        ("saw", ("see", "VERB", "past")),
        ("was", ("be", "AUX", "past")),
        ("happier", ("happy", "ADJ", "comparative")),
        ("biggest", ("big", "ADJ", "superlative")),
        ("better", ("good", "ADJ", "comparative")),
        ("best", ("good", "ADJ", "superlative")),
        ("old", ("old", "ADJ", "base")),
        ("oldest", ("old", "ADJ", "superlative")),
        ("the", ("the", "DET", "base")),
        ("Under", ("under", "ADP", "base")),
        ("ran", ("run", "VERB", "past")),
        ("water", ("water", "NOUN", "singular")),
        ("jump", ("jump", "VERB", "base")),
    ],
)
def test_most_usual_analysis(word, first):
    assert analyses(word)[0] == first


def test_no_analysis_of_what_is_no_word():
    for word in ("blorp", "childs", "gooder", "runned", "", "informations"):
        assert analyses(word) == ()


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("apple", "an"),
        ("banana", "a"),
        ("hour", "an"),
        ("honest", "an"),
        ("house", "a"),
        ("unicorn", "a"),
        ("uniform", "a"),
        ("unusual", "an"),
        ("unimportant", "an"),
        ("useful", "a"),
        ("umbrella", "an"),
        ("one", "a"),
        ("onion", "an"),
        ("x-ray", "an"),
        ("ukulele", "a"),
        ("ugly", "an"),
        ("Elephant", "an"),
    ],
)
def test_article(word, expected):
    assert article(word) == expected


@pytest.mark.parametrize(
    ("word", "number"),
    [
        ("was", "were"),
        ("were", "was"),
        ("Is", "Are"),
        ("has", "have"),
        ("does", "do"),
        ("had", None),
        ("runs", "run"),
        ("run", "runs"),
        ("walked", None),
        ("walks", "walk"),
        ("saw", None),
        ("puts", "put"),
        ("put", None),
        ("could", None),
        ("can", None),
        ("table", None),
        ("blorp", None),
    ],
)
def test_wrong_number(word, number):
    assert wrong_number(word) == number


def test_broken_verbs_are_verbs_and_others():
    for verb, form in itertools.product(VOCABULARY.verbs, FORMS):
        word = inflect(verb, form)
        other = wrong_number(word)
        assert other is None or (
            other != word and any(pos in ("VERB", "AUX") for _, pos, _ in analyses(other))
        )


def test_suited_classes_exist():
    classes = {name for group in RAW["nouns"].values() for name in group}
    assert set(RAW["suits"]) == set(RAW["adjectives"])
    for name, suited in RAW["suits"].items():
        assert set(suited.split()) <= classes, name


def test_usual_tags_are_tags_of_the_word():
    for pos, text in RAW["usual"].items():
        for word in text.split():
            assert analyses(word)[0][1] == pos and len({tag for _, tag, _ in analyses(word)}) > 1, word


def test_covers_what_stories_are_asked_for():
    folder = Path(os.environ.get("TSLENS_DATA", Path(__file__).parents[2] / "shared" / "data"))
    path = folder / "words/tinystories_prompt_words.txt"
    if not path.exists():
        pytest.skip("real word lists are absent: set TSLENS_DATA")
    asked = path.read_text(encoding="utf-8").split()
    missing = [word for word in asked if not any(word in table for table in TABLES.values())]
    assert len(missing) < 0.08 * len(asked), missing


@pytest.mark.parametrize("part", TABLES)
def test_every_frame_has_sentences(part):
    frames = {use.frame for word in TABLES[part].values() for use in word.uses}
    assert frames == set(USES[part])
    for frame in frames:
        lines = USES[part][frame].strip().splitlines()
        assert len(lines) >= 6 and len(lines) == len(set(lines)), frame
        assert all("{w" in line and '"' not in line and line.endswith((".", "?", "!")) for line in lines), (
            frame
        )


@pytest.mark.parametrize("part", TABLES)
def test_sentences_are_well_marked_for_every_word(part):
    for word in TABLES[part].values():
        for use in word.uses:
            for line in USES[part][use.frame].strip().splitlines():
                slots = {**SLOTS, **forms_of(part, word), "with": use.company}
                for text in tellings(line, slots):
                    marked = read_marks([("opening", text)])
                    assert not set("_@{}[]|^/") & set(marked.text) and "  " not in marked.text, marked.text
                    assert marked.clauses, marked.text


def forms_of(part, word):
    if part == "noun":
        return {"w": word.lemma, "w.s": word.plural}
    if part == "adjective":
        return {"w": word.lemma}
    names = {"w": "base", "w.s": "third", "w.past": "past", "w.part": "participle", "w.ing": "gerund"}
    return {slot: inflect(word.lemma, form) for slot, form in names.items()}


def tellings(line, slots):
    """Two tellings of a line, with the first and the last option of each choice."""
    return [render(parse_line(line), slots, option) for option in (0, -1)]


def render(template, slots, option):
    text = ""
    for node in template:
        if isinstance(node, str):
            text += node
        elif isinstance(node, Choice):
            text += put_marks(render(node.options[option], slots, option), node.marks)
        else:
            assert isinstance(node, Slot) and not isinstance(node, Pick)
            key = node.key[0].lower() + node.key[1:]
            value = put_marks(render(parse_line(slots[key]), slots, option), node.marks)
            text += value[0].upper() + value[1:] if node.key[0].isupper() else value
    return text


def told_lines():
    """(file, line) of every sentence and phrase that the author may tell."""
    for path in sorted((ASSETS / "author").iterdir(), key=lambda path: path.name):
        asset = tomllib.loads(path.read_text(encoding="utf-8"))
        if path.name == "parts_of_speech.toml":
            continue
        groups = [asset.get(name, {}) for name in ("scenes", "lists", "noun", "verb", "adjective")]
        lines = [line for group in groups for block in group.values() for line in block.strip().splitlines()]
        tables = [*asset.get("tables", {}).values(), *asset.get("table", {}).values()]
        for line in lines + [row for table in tables for row in table.strip().splitlines()[1:]]:
            yield path.name, re.sub(r"^@(?:child|animal) ", "", line)
    for word in (*VOCABULARY.verbs.values(), *VOCABULARY.adjectives.values()):
        for use in word.uses:
            yield "vocabulary.toml", use.company


def test_every_word_of_the_author_is_known():
    unknown = set()
    for file, line in told_lines():
        text = re.sub(r"\{[^{}]*\}(?:_[vios](?![a-z])|@[a-z0-9.+]+)*(?:'s)?|<\w+>", " ", line)
        plain = _MARKS.sub("", text)
        for word in re.findall(r"[A-Za-z](?:['-]?[A-Za-z])*", plain):
            stem = word.partition("'")[0]
            if not analyses(stem) and not (word[0].isupper() and stem in names()):
                unknown.add((file, word))
    assert not unknown


def test_every_marked_verb_of_the_author_is_known_as_one():
    unknown = set()
    marks = r"(?:@[a-z0-9.+]+|_[so])*_[vi](?![a-z])"
    for file, line in told_lines():
        words = re.findall(rf"([A-Za-z](?:['-]?[A-Za-z])*){marks}", line)
        for options in re.findall(rf"\[([^\[\]{{}}<>_/]+)\]{marks}", line):
            words += [option.split()[-1] for option in options.split("|")]
        for word in words:
            stem = word.lower().removesuffix("n't")
            if not any(pos in ("VERB", "AUX") for _, pos, _ in analyses(stem)):
                unknown.add((file, word))
    assert not unknown


def names():
    asset = tomllib.loads((ASSETS / "author/words.toml").read_text(encoding="utf-8"))
    return {name for text in asset["names"].values() for name in text.split()}
