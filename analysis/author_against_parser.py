"""Gold labels of the author against spaCy's parse: where do they differ, and who is right?

    .venv/bin/python analysis/author_against_parser.py                  # table; judged with reports/gold_labels
    .venv/bin/python analysis/author_against_parser.py differences      # each difference, to be judged by hand

200 stories (seed 0). For each label the units that have it by gold and by the annotator are compared: F1 as measured,
and F1 of gold and of the parse after each difference was judged (``judgements.jsonl`` there: story, unit, label, and
whether "gold", "parse", "both" or "neither" is right). Sentence ends are compared with the parser's own sentences,
which the annotator does not use.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from pathlib import Path

from tslens.corpus.annotate import annotate, open_parser
from tslens.corpus.author import write_stories
from tslens.corpus.labelled import read_labels, relation_pairs, unit_labels
from tslens.corpus.words import find_sentences, find_units
from tslens.labels import PARTS_OF_SPEECH
from tslens.types import Labels, Story

N_STORIES = 200
SEED = 0
REPORT = Path(__file__).parents[1] / "reports/gold_labels"
Marked = set[tuple[int, int, int]]  # story, unit, and the unit it points to (-1: none)


def marks_of(number: int, story: Story, labels: Labels) -> dict[str, Marked]:
    """What is compared: flagged units, and pairs of relations."""
    table = unit_labels(story.text, labels)
    pairs = relation_pairs(story.text, labels)
    found: dict[str, Marked] = {
        name: {(number, unit, -1) for unit, value in enumerate(table[name]) if value}
        for name in ("subject", "action", "object", "introduction", "topic", "protagonist")
    }
    for name in ("subject", "antecedent"):
        found[f"{name} pair"] = {(number, query, keys[0]) for query, keys in pairs[name]}
    found["part of speech"] = {
        (number, unit, PARTS_OF_SPEECH.index(pos)) for unit, pos in enumerate(labels.pos)
    }
    return found


def sentence_ends(number: int, story: Story) -> tuple[Marked, Marked]:
    """Last words of sentences: by rule, as gold has them, and by the parser alone."""
    from spacy.tokens import Doc  # noqa: F401  (the parser is here, or open_parser would have said so)

    units = find_units(story.text)
    words = [i for i, (start, _) in enumerate(units) if story.text[start].isalnum()]

    def last_words(ends: list[int]) -> Marked:
        return {(number, max((i for i in words if units[i][1] <= end), default=-1), -1) for end in ends}

    doc = open_parser().nlp(story.text)
    return last_words([s.end for s in find_sentences(story.text)]), last_words(
        [s.end_char for s in doc.sents]
    )


def f1(gold: Marked, parse: Marked) -> float:
    """Harmonic mean of precision and recall."""
    return 2 * len(gold & parse) / (len(gold) + len(parse))


def collect() -> tuple[list[Story], dict[str, Marked], dict[str, Marked]]:
    """Stories, and by label what gold and what the parse has."""
    stories = list(write_stories(N_STORIES, seed=SEED))
    bare = [Story(story.text) for story in stories]
    gold: dict[str, Marked] = defaultdict(set)
    parse: dict[str, Marked] = defaultdict(set)
    for number, (story, other) in enumerate(zip(stories, annotate(bare), strict=True)):
        for labelled, collected in ((story, gold), (other, parse)):
            labels = read_labels(labelled)
            assert labels is not None
            for name, marks in marks_of(number, story, labels).items():
                collected[name] |= marks
        ends = sentence_ends(number, story)
        gold["sentence end"] |= ends[0]
        parse["sentence end"] |= ends[1]
    return stories, gold, parse


def show_differences(stories: list[Story], gold: dict[str, Marked], parse: dict[str, Marked]) -> None:
    """One JSON line each: label, story, unit, who has it, and the sentence with the word in brackets."""
    for name in gold:
        for mark in sorted(gold[name] ^ parse[name]):
            number, unit, key = mark
            text = stories[number].text
            start, end = find_units(text)[unit]
            sentence = next(s for s in find_sentences(text) if s.start <= start < s.end)
            shown = f"{text[sentence.start : start]}[[{text[start:end]}]]{text[end : sentence.end]}"
            who = "gold" if mark in gold[name] else "parse"
            row = {"label": name, "story": number, "unit": unit, "key": key, "who": who, "text": shown}
            print(json.dumps(row, ensure_ascii=False))


def show_table(gold: dict[str, Marked], parse: dict[str, Marked]) -> None:
    """F1 of each label as measured, and after judging."""
    judged: dict[str, Counter[str]] = defaultdict(Counter)
    path = REPORT / "judgements.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        row = json.loads(line)
        judged[row["label"]][row["right"]] += 1
    for name in gold:
        facts: dict[str, object] = {
            "label": name,
            "gold": len(gold[name]),
            "parse": len(parse[name]),
            "f1": round(f1(gold[name], parse[name]), 4),
            "differences": len(gold[name] ^ parse[name]),
        }
        if judged[name]:
            facts |= dict(judged[name])
        print(json.dumps(facts))


def main() -> None:
    """The table, or the differences."""
    stories, gold, parse = collect()
    if sys.argv[1:] == ["differences"]:
        show_differences(stories, gold, parse)
    else:
        show_table(gold, parse)


if __name__ == "__main__":
    main()
