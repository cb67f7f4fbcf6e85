"""Who is who: from parses written by hand, without a parser."""

from tslens.corpus.annotation.characters import Reading, load_lexicon, name_runs
from tslens.corpus.annotation.coreference import resolve
from tslens.corpus.annotation.pronouns import FORMS
from tslens.labels import THIRD_PERSON
from tslens.types import Clause


def read(text):
    """A reading from ``word/POS/dep/head`` per unit; head counts from the start of the sentence; "|" ends one.

    Clauses are those of the verbs that have an nsubj; all words of a sentence stand in that of its last verb.
    """
    words, pos, dep, head, sentence, quote = [], [], [], [], [], []
    is_open = False
    for number, part in enumerate(text.split("|")):
        start = len(words)
        for item in part.split():
            word, tag, role, top = item.rsplit("/", 3)
            words.append(word)
            pos.append(tag)
            dep.append(role)
            head.append(start + int(top))
            sentence.append(number)
            is_open ^= word == '"'
            quote.append(0 if is_open or word == '"' else -1)
    clauses, of_unit = [], [-1] * len(words)
    for unit, role in enumerate(dep):
        if role == "nsubj":
            objects = [u for u in range(len(words)) if dep[u] == "dobj" and head[u] == head[unit]]
            clauses.append(Clause(head[unit], unit, objects[0] if objects else None))
            for other in range(len(words)):
                if (
                    sentence[other] == sentence[unit]
                    and quote[other] == quote[unit]
                    and pos[other] != "PUNCT"
                ):
                    of_unit[other] = len(clauses) - 1
    lemma = [{"said": "say", "was": "be", "dogs": "dog"}.get(word.lower(), word.lower()) for word in words]
    plural = [word in ("dogs", "apples") for word in words]
    return Reading(words, pos, lemma, plural, dep, head, of_unit, clauses, sentence, quote)


INTRODUCTION = (
    "There/PRON/expl/1 was/AUX/ROOT/1 a/DET/det/4 little/ADJ/amod/4 "
    "girl/NOUN/attr/1 named/VERB/acl/4 Lily/PROPN/oprd/5 ./PUNCT/punct/1 "
)


def test_a_girl_named_lily_is_one_entity_and_she_is_lily():
    found = resolve(read(INTRODUCTION + "| She/PRON/nsubj/1 sang/VERB/ROOT/1 ./PUNCT/punct/1"))
    assert found.mention[4] == found.mention[6] == found.mention[8] == found.protagonist
    assert found.antecedent[8] == 6
    assert found.introduction == (2, 3, 4, 5, 6)
    assert all(found.antecedent[unit] == -1 for unit in range(8))


def test_gender_decides_between_two_names():
    met = "Lily/PROPN/nsubj/1 met/VERB/ROOT/1 Tom/PROPN/dobj/1 ./PUNCT/punct/1 | "
    for word, antecedent in (("He", 2), ("She", 0)):
        found = resolve(read(met + f"{word}/PRON/nsubj/1 sang/VERB/ROOT/1 ./PUNCT/punct/1"))
        assert found.antecedent[4] == antecedent


def test_they_are_those_joined_by_and():
    text = (
        "Tom/PROPN/nsubj/3 and/CCONJ/cc/0 Mia/PROPN/conj/0 ran/VERB/ROOT/3 "
        "./PUNCT/punct/3 | They/PRON/nsubj/1 sang/VERB/ROOT/1"
    )
    found = resolve(read(text))
    assert len({found.mention[0], found.mention[2], found.mention[5]}) == 3
    assert found.antecedent[5] == 2


def test_they_are_the_two_met_last_where_nothing_is_plural():
    text = (
        "Tom/PROPN/nsubj/1 met/VERB/ROOT/1 a/DET/det/3 dog/NOUN/dobj/1 "
        "./PUNCT/punct/1 | They/PRON/nsubj/1 ran/VERB/ROOT/1"
    )
    assert resolve(read(text)).antecedent[5] == 3


def test_an_object_is_not_its_own_subject():
    text = (
        "Tom/PROPN/nsubj/1 met/VERB/ROOT/1 Ben/PROPN/dobj/1 ./PUNCT/punct/1 "
        "| Tom/PROPN/nsubj/1 saw/VERB/ROOT/1 him/PRON/dobj/1"
    )
    assert resolve(read(text)).antecedent[6] == 2


def test_nobody_speaks_of_himself_as_he():
    text = (
        "Tom/PROPN/nsubj/1 met/VERB/ROOT/1 Ben/PROPN/dobj/1 ./PUNCT/punct/1 | "
        '"/PUNCT/punct/2 He/PRON/nsubj/2 ran/VERB/ROOT/2 ,/PUNCT/punct/2 '
        '"/PUNCT/punct/2 said/VERB/ROOT/5 Tom/PROPN/nsubj/5 ./PUNCT/punct/5'
    )
    found = resolve(read(text))
    assert found.antecedent[5] == 2


def test_it_is_a_thing_and_weather_is_nothing():
    saw = "Tom/PROPN/nsubj/1 saw/VERB/ROOT/1 a/DET/det/3 kite/NOUN/dobj/1 ./PUNCT/punct/1 | "
    found = resolve(read(saw + "It/PRON/nsubj/1 fell/VERB/ROOT/1 ./PUNCT/punct/1"))
    assert found.antecedent[5] == 3
    assert found.mention[3] == found.mention[5] >= 0
    found = resolve(read(saw + "It/PRON/nsubj/1 was/AUX/ROOT/1 dark/ADJ/acomp/1 ./PUNCT/punct/1"))
    assert found.antecedent[5] == found.mention[5] == found.mention[3] == -1  # a kite is no character


def test_a_noun_without_pronoun_is_a_mention_only_if_it_names_a_character():
    found = resolve(read("The/DET/det/1 dog/NOUN/nsubj/2 ate/VERB/ROOT/2 the/DET/det/4 cake/NOUN/dobj/2"))
    assert found.mention == (-1, 0, -1, -1, -1)
    assert found.protagonist == 0
    assert found.introduction == (0, 1)


def test_another_dog_is_another():
    text = "A/DET/det/1 dog/NOUN/nsubj/2 met/VERB/ROOT/2 another/DET/det/4 dog/NOUN/dobj/2"
    found = resolve(read(text))
    assert found.mention[1] != found.mention[4]


def test_the_story_decides_against_the_list_of_names():
    text = "Max/PROPN/nsubj/1 sang/VERB/ROOT/1 ./PUNCT/punct/1 | She/PRON/nsubj/1 ran/VERB/ROOT/1"
    assert load_lexicon().names["max"] == "m"
    assert resolve(read(text)).antecedent[3] == 0


def test_a_title_and_a_name_are_one_name():
    reading = read("Mr/PROPN/compound/2 ./PUNCT/punct/0 Brown/PROPN/nsubj/3 sang/VERB/ROOT/3")
    assert name_runs(reading) == [(0, 2)]
    found = resolve(reading)
    assert found.mention == (0, -1, 0, -1)
    assert found.introduction == (0, 2)


def test_a_story_without_characters_has_no_protagonist():
    found = resolve(read("Rain/NOUN/nsubj/1 fell/VERB/ROOT/1 ./PUNCT/punct/1"))
    assert found.protagonist is None
    assert found.introduction == ()
    assert resolve(read("")).mention == ()


def test_who_is_spoken_to_does_not_speak():
    text = (
        "Lily/PROPN/nsubj/1 saw/VERB/ROOT/1 Mom/PROPN/dobj/1 ./PUNCT/punct/1 | "
        "Mom/PROPN/nsubj/1 sat/VERB/ROOT/1 ./PUNCT/punct/1 | "
        '"/PUNCT/punct/1 Mom/PROPN/npadvmod/3 ,/PUNCT/punct/1 look/VERB/ROOT/3 !/PUNCT/punct/3 "/PUNCT/punct/3 '
        "she/PRON/nsubj/7 said/VERB/ccomp/3 ./PUNCT/punct/3"
    )
    reading = read(text)
    assert reading.words[13] == "she"
    assert resolve(reading).antecedent[13] == 0


def test_every_pronoun_of_the_scheme_has_a_form():
    assert set(FORMS) == THIRD_PERSON
