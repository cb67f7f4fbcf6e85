"""Twins of stories: each kind and strength on labels made by hand, nothing else changed, always the same."""

import re
from dataclasses import replace

import pytest

from tslens.corpus.author import write_stories
from tslens.corpus.corrupt import FAULTS, STRENGTHS, corrupt
from tslens.corpus.faults.check import find_fault
from tslens.corpus.words import find_sentences, find_units
from tslens.errors import DataError, UsageError
from tslens.types import Clause, Labels, Story

# One word a piece: surface, then /POS/lemma, @entity, and _v _s _o for the clause that it closes or belongs to.
SENTENCES = [
    ("Tom/PROPN@0_s was/AUX/be_v a little/ADJ boy/NOUN with/ADP a red/ADJ ball/NOUN@2 .", 0),
    ("He/PRON@0_s lived/VERB/live_v near/ADP a very/ADV wide/ADJ river/NOUN .", 0),
    ("Anna/PROPN@1_s was/AUX/be_v the best/ADJ friend/NOUN of/ADP Tom/PROPN@0 .", 0),
    ("She/PRON@1_s often/ADV visited/VERB/visit_v him/PRON@0_o in/ADP the sunny/ADJ garden/NOUN .", 1),
    (
        "One/NUM day/NOUN Tom/PROPN@0_s lost/VERB/lose_v the red/ADJ ball/NOUN@2_o in/ADP the tall/ADJ grass/NOUN .",
        0,
    ),
    ('" I/PRON_s am/AUX/be_v so/ADV sorry/ADJ , " said/VERB/say_v Tom/PROPN@0_s .', 0),
    ("Anna/PROPN@1_s looked/VERB/look_v behind/ADP the big/ADJ tree/NOUN with/ADP her/PRON@1 dog/NOUN .", 0),
    ("They/PRON@3_s walked/VERB/walk_v slowly/ADV through/ADP the whole/ADJ garden/NOUN .", 1),
    ("The sun/NOUN_s went/VERB/go_v down/ADV behind/ADP the old/ADJ house/NOUN .", 0),
    ("Then/ADV Anna/PROPN@1_s found/VERB/find_v it/PRON@2_o under/ADP a wet/ADJ bush/NOUN .", 1),
    ("Tom/PROPN@0_s hugged/VERB/hug_v her/PRON@1_o and/CCONJ thanked/VERB/thank_v her/PRON@1_o .", 0),
    ("They/PRON@3_s were/AUX/be_v happy/ADJ again/ADV .", 0),
]
WORDS = ["visit", "garden", "red"]


def build(sentences=SENTENCES, **extra):
    """A story and its labels from marked sentences; the second value of each tells whether a paragraph ends there."""
    text, pos, lemma, clause, mention, quote, clauses = "", [], [], [], [], [], []
    n_quotes, is_open = 0, False
    for marked, ends_paragraph in sentences:
        parts, subject = {}, None
        for piece in marked.split():
            found = re.fullmatch(r"([^/@_]+)(?:/([A-Z]+))?(?:/([a-z]+))?(?:@(\d+))?(?:_([vso]))?", piece)
            word, tag, base, entity, role = found.groups()
            is_mark = not word[0].isalnum()
            glued = (
                (is_mark and word != '"')
                or (word == '"' and is_open)
                or text.endswith((" ", "\n"))
                or not text
            )
            if text.endswith('"') and is_open:
                glued = True
            text += ("" if glued else " ") + word
            unit = len(pos)
            pos.append(tag or ("PUNCT" if is_mark else "DET"))
            lemma.append(base or word.lower())
            mention.append(int(entity) if entity else -1)
            if role == "v" and "v" in parts:
                clauses.append(parts)
                parts = {}
            if role:
                parts[role] = unit
            clause.append(-1 if is_mark else len(clauses))
            if word == '"':
                quote.append(n_quotes)
                n_quotes, is_open = n_quotes + is_open, not is_open
                if not is_open:
                    clauses.append(parts)
                    parts = {}
            else:
                quote.append(n_quotes if is_open else -1)
        clauses.append(parts)
        text += "\n" if ends_paragraph else ""
    records = []
    for parts in clauses:
        subject = parts.get("s", subject)
        records.append(Clause(parts["v"], subject, parts.get("o")))
    n = len(pos)
    labels = Labels("test", tuple(pos), tuple(lemma), tuple(clause), tuple(records), tuple(mention), (-1,) * n,
                    0, (0,), (), tuple(quote), ("opening",) * n)  # fmt: skip
    assert len(find_units(text)) == n
    return Story(text, extra), labels


PLACES_ONLY = [
    kind for kind in FAULTS if kind not in ("sentence_order", "missing_ending", "ignored_instruction")
]


@pytest.fixture(scope="module")
def told():
    return build(words=WORDS)


def outside(text, spans):
    """What is left of a text without some spans."""
    kept, done = [], 0
    for start, end in sorted(spans):
        kept.append(text[done:start])
        done = end
    return [*kept, text[done:]]


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("kind", FAULTS)
def test_each_kind_and_strength_is_there_as_claimed_and_always_the_same(told, kind, strength):
    story, labels = told
    for seed in range(5):
        twin = corrupt(story, labels, kind, strength, seed=seed)
        assert twin == corrupt(story, labels, kind, strength, seed=seed)
        assert twin.text != story.text
        assert len(find_fault(kind, story.text, twin.text, labels, words=WORDS)) == twin.n_sites
        assert all(0 <= start <= end <= len(twin.text) for start, end in twin.spans)


@pytest.mark.parametrize("kind", FAULTS)
def test_seeds_give_different_twins(told, kind):
    twins = {corrupt(*told, kind, "high", seed=seed).text for seed in range(12)}
    assert len(twins) > 1


@pytest.mark.parametrize("kind", PLACES_ONLY)
def test_everything_outside_the_places_stays_byte_for_byte(told, kind):
    story, labels = told
    twin = corrupt(story, labels, kind, "high", seed=3)
    rest, place = story.text, 0
    assert len(twin.spans) == twin.n_sites
    for piece in outside(twin.text, twin.spans):
        trimmed = piece.removesuffix(" ") if kind in ("object_back", "repeated_sentence") else piece
        place = rest.index(trimmed, place) + len(trimmed)
    assert place == len(rest)


@pytest.mark.parametrize(("strength", "n_sites"), [("low", 1), ("medium", 3), ("high", 6), ("one", 1)])
def test_strength_is_a_share_of_the_sites(told, strength, n_sites):
    twin = corrupt(*told, "repeated_sentence", strength, seed=0)
    assert (twin.n_sites, twin.n_eligible) == (n_sites, 12)


def test_agreement_breaks_number_and_keeps_tense_and_capital(told):
    twin = corrupt(*told, "agreement", "high", seed=0)
    assert twin.n_eligible == 4
    pairs = {"was": "were", "were": "was", "am": "are"}
    old, new = told[0].text.split(), twin.text.split()
    changed = [(a, b) for a, b in zip(old, new, strict=True) if a != b]
    assert len(changed) == 2
    assert all(pairs[a] == b for a, b in changed)


def test_tense_stays_out_of_speech_and_keeps_number(told):
    story, labels = told
    seen = set()
    for seed in range(20):
        twin = corrupt(story, labels, "tense", "high", seed=seed)
        assert "I am so sorry" in twin.text
        seen |= {twin.text[start:end] for start, end in twin.spans}
    assert {"walk", "visits", "is", "are", "says"} <= seen
    assert not {"walks", "visit"} & seen


def test_present_stories_go_to_the_past():
    twin = corrupt(*build([("Tom/PROPN@0_s likes/VERB/like_v the sun/NOUN_o .", 0)]), "tense", "one", seed=0)
    assert twin.text == "Tom liked the sun."


def test_forms_that_are_not_finite_carry_no_fault_of_verbs():
    story = build([("Tom/PROPN@0_s did/AUX/do not/PART run/VERB/run_v home/ADV .", 0),
                   ("He/PRON@0_s put/VERB/put_v on/ADP a hat/NOUN_o .", 0)])  # fmt: skip
    assert corrupt(*story, "agreement", "high", seed=0) is None
    assert corrupt(*story, "tense", "one", seed=0).text.startswith("Tom does not run home.")


def test_names_become_those_of_others(told):
    for seed in range(10):
        twin = corrupt(*told, "swapped_names", "one", seed=seed)
        ((start, end),) = twin.spans
        assert twin.text[start:end] in ("Tom", "Anna")


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("He/PRON@0_s ran/VERB/run_v .", {"She ran."}),
        ("They/PRON@0_s were/AUX/be_v glad/ADJ .", None),
        ("She/PRON@0_s was/AUX/be_v glad/ADJ .", {"He was glad."}),
        ("Anna/PROPN@1_s saw/VERB/see_v him/PRON@0_o .", {"Anna saw her."}),
        ("Anna/PROPN@1_s saw/VERB/see_v her/PRON@0 dog/NOUN_o .",
         {"Anna saw his dog."}),
        ("Anna/PROPN@1_s saw/VERB/see_v it/PRON@0_o .", {"Anna saw him.", "Anna saw her."}),
        ("Anna/PROPN@1_s saw/VERB/see_v them/PRON@0_o .", {"Anna saw it."}),
    ],
)  # fmt: skip
def test_pronouns_keep_their_case_and_the_verb(sentence, expected):
    story = build([(sentence, 0)])
    twins = [corrupt(*story, "changed_pronoun", "one", seed=seed) for seed in range(40)]
    assert (twins == [None] * 40) if expected is None else {twin.text for twin in twins} == expected


def test_an_object_comes_back_only_while_it_is_gone(told):
    story, labels = told
    event, end = story.text.index("lost the red ball"), story.text.index("Then Anna found")
    for seed in range(20):
        twin = corrupt(story, labels, "object_back", "medium", seed=seed)
        assert len(twin.spans) == 2
        for number, (start, stop) in enumerate(twin.spans):
            assert re.fullmatch(r"[A-Z].* the ball.*\.", twin.text[start:stop])
            added = sum(b - a + 1 for a, b in twin.spans[:number])
            assert event < start - added <= end


def test_recorded_events_of_the_author_are_used(told):
    labels = replace(told[1], made_by="author")
    events = [
        {"event": "broken", "object": "dog", "unit": 66},
        {"event": "mended", "object": "dog", "unit": 86},
    ]
    story, _ = build(events=events)
    twin = corrupt(story, labels, "object_back", "one", seed=1)
    ((start, end),) = twin.spans
    assert "the dog" in twin.text[start:end]
    assert corrupt(build(events=[])[0], labels, "object_back", "one", seed=1) is None


@pytest.mark.parametrize(
    "events", [[{"event": "lost"}], [{"event": "lost", "object": 3, "unit": "a"}], "lost", [7]]
)
def test_events_of_somebody_else_are_not_read(told, events):
    labels = told[1]
    found = corrupt(build(events=events)[0], labels, "object_back", "one", seed=1)
    assert found == corrupt(build()[0], labels, "object_back", "one", seed=1)


def test_nothing_is_used_after_it_is_found_and_the_giver_is_who_uses_it():
    """In stories of the author, where what happens when is known."""
    n_twins = 0
    for story in write_stories(400, seed=6):
        events = story.extra["events"]
        twin = corrupt(story, Labels.from_json(story.extra["labels"]), "object_back", "high", seed=0)
        if not events or twin is None:
            continue
        units = find_units(story.text)
        begin = min(
            units[event["unit"]][0] for event in events if event["event"] in ("lost", "broken", "given")
        )
        ends = [units[event["unit"]][0] for event in events if event["event"] in ("found", "mended")]
        added = 0
        for start, stop in twin.spans:
            place = start - added
            assert begin - 2 <= place, twin.text
            assert events[0]["event"] == "found" or place <= min(ends, default=len(story.text)), twin.text
            hero = story.extra["summary"].split()[0]  # summaries begin with the name of the hero
            assert hero in twin.text[start:stop], twin.text
            added += stop - start + 1
            n_twins += 1
    assert n_twins > 30


@pytest.mark.parametrize(
    ("sentence", "is_site"),
    [
        ("I'll/PRON_s help/VERB_v you/PRON_o .", False),
        ("If/SCONJ she/PRON@0_s was/AUX/be_v glad/ADJ .", False),
        ("She/PRON@0_s was/AUX/be_v glad/ADJ .", True),
    ],
)
def test_verbs_that_may_stand_so_do_not_disagree(sentence, is_site):
    twin = corrupt(*build([(sentence, 0)]), "agreement", "one", seed=0)
    assert (twin is not None) == is_site


def test_the_last_sentence_goes_with_a_closing_formula(told):
    story, labels = told
    assert corrupt(story, labels, "missing_ending", "one", seed=0).text.endswith("and thanked her.")
    more = build([*SENTENCES, ("The end/NOUN_s came/VERB/come_v .", 0)])
    assert corrupt(*more, "missing_ending", "one", seed=0).text.endswith("They were happy again.")


@pytest.mark.parametrize(("strength", "share"), [("low", 0.1), ("medium", 0.25), ("high", 0.5)])
def test_that_share_of_the_text_is_cut_off(told, strength, share):
    story, labels = told
    endings = set()
    for seed in range(20):
        twin = corrupt(story, labels, "missing_ending", strength, seed=seed)
        assert story.text.startswith(twin.text)
        assert abs(len(twin.text) / len(story.text) - (1 - share)) < 0.08
        endings.add(twin.text[-1] == ".")
    assert endings == {True, False}  # after a sentence, and inside one


def test_an_ignored_word_is_nowhere_and_articles_fit():
    sentences = [("Tom/PROPN@0_s had/VERB/have_v a red/ADJ ball/NOUN_o .", 0),
                 ("It/PRON@1_s was/AUX/be_v round/ADJ .", 0),
                 ("Anna/PROPN@2_s came/VERB/come_v .", 0)]  # fmt: skip
    seen = set()
    for seed in range(30):
        twin = corrupt(*build(sentences, words=["red"]), "ignored_instruction", "one", seed=seed)
        assert "red" not in twin.text.split()
        seen.add(re.match(r"Tom had (an? \w+) ball\.", twin.text)[1])
    assert {phrase.startswith("an ") == (phrase.split()[1][0] in "aeiou") for phrase in seen} == {True}
    assert len(seen) > 3


def test_a_verb_goes_with_its_sentences(told):
    story, labels = build(words=["visit"])
    twin = corrupt(story, labels, "ignored_instruction", "one", seed=0)
    assert twin.text == story.text.replace(" She often visited him in the sunny garden.", "")


def test_one_site_of_the_same_number_of_tokens_is_chosen(told):
    def n_letters(text):
        return len(text)

    story, labels = told
    for seed in range(10):
        same = corrupt(story, labels, "changed_pronoun", "one", seed=seed, n_tokens=n_letters)
        assert (len(same.text), len(same.spans)) == (len(story.text), 1)
    lengths = {len(corrupt(story, labels, "changed_pronoun", "one", seed=seed).text) for seed in range(10)}
    assert lengths != {len(story.text)}  # the choice above was one
    longer = corrupt(story, labels, "repeated_sentence", "one", seed=0, n_tokens=n_letters)
    assert len(longer.text) > len(story.text)  # none is equal: any


@pytest.mark.parametrize("kind", [kind for kind in FAULTS if kind != "word_order"])
def test_a_story_without_sites_has_no_twin(kind):
    assert (
        corrupt(*build([("A warm/ADJ day/NOUN_s in/ADP an old/ADJ_v town/NOUN", 0)]), kind, "high", seed=0)
        is None
    )


def test_short_sentences_are_not_shuffled():
    assert (
        corrupt(*build([("Tom/PROPN@0_s ran/VERB/run_v home/ADV .", 0)]), "word_order", "high", seed=0)
        is None
    )


def test_shuffled_words_keep_capital_and_closing_mark(told):
    story, labels = told
    twin = corrupt(story, labels, "word_order", "high", seed=5)
    sentences = [twin.text[s.start : s.end] for s in find_sentences(twin.text)]
    assert len(sentences) == 12
    assert all(
        re.match(r'"?[A-Z]', sentence) and sentence.endswith(".")
        for sentence in sentences
        if "sorry" not in sentence
    )
    assert sorted(re.findall(r"\w+", twin.text.lower())) == sorted(re.findall(r"\w+", story.text.lower()))


def test_mistakes_of_a_caller_are_named(told):
    story, labels = told
    with pytest.raises(UsageError, match="spelling"):
        corrupt(story, labels, "spelling", "low", seed=0)
    with pytest.raises(UsageError, match="huge"):
        corrupt(story, labels, "tense", "huge", seed=0)
    with pytest.raises(DataError, match="units"):
        corrupt(Story("Another text."), labels, "tense", "low", seed=0)


@pytest.mark.parametrize("kind", FAULTS)
def test_author_stories(kind):
    stories = list(write_stories(200, seed=1))
    n_twins = n_confirmed = 0
    for story in stories:
        labels = Labels.from_json(story.extra["labels"])
        twin = corrupt(story, labels, kind, "medium", seed=0)
        if twin:
            found = find_fault(kind, story.text, twin.text, labels, words=story.extra.get("words"))
            n_twins += 1
            n_confirmed += len(found) == twin.n_sites
    assert n_twins >= {"object_back": 20, "swapped_names": 80}.get(kind, 190)
    assert n_confirmed >= 0.97 * n_twins
