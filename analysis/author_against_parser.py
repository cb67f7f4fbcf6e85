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


def show_table(stories: list[Story], gold: dict[str, Marked], parse: dict[str, Marked]) -> None:
    """Table of F1 as measured, and of either against what the judge found right in these very texts."""
    digests = [f"{story.digest:016x}" for story in stories]
    verdicts: dict[tuple[str, int, int], str] = {}
    for line in (REPORT / "judgements.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["digest"] == digests[row["story"]]:
            verdicts[row["label"], row["story"], row["unit"]] = row["right"]
    print(
        "| label | gold | F1 as measured | differences | right: gold, parse, either | F1 of gold | F1 of the parse |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in gold:
        differences = gold[name] ^ parse[name]
        judged = {mark: verdicts.get((name, *mark[:2])) for mark in differences}
        measured = (
            f"| {name} | {len(gold[name]):,} | {f1(gold[name], parse[name]):.3f} | {len(differences):,} |"
        )
        if None in judged.values():
            print(f"{measured} not judged | | |")
            continue
        count = Counter(judged.values())
        only_gold = {mark for mark, right in judged.items() if right == "gold" and mark in gold[name]}
        only_parse = {mark for mark, right in judged.items() if right == "parse" and mark in parse[name]}
        either = {mark for mark, right in judged.items() if right == "both"}
        truth = (gold[name] & parse[name]) | only_gold | only_parse
        rights = f"{count['gold']}, {count['parse']}, {count['both']}"
        scores = [f1(marks - (either - truth), truth) for marks in (gold[name], parse[name])]
        print(f"{measured} {rights} | {scores[0]:.4f} | {scores[1]:.4f} |")


def main() -> None:
    """The table, or the differences."""
    stories, gold, parse = collect()
    if sys.argv[1:] == ["differences"]:
        show_differences(stories, gold, parse)
    else:
        show_table(stories, gold, parse)


if __name__ == "__main__":
    main()
