"""How often is the annotator right on real stories? A sheet to judge by hand, and the score of what was judged.

    .venv/bin/python analysis/annotator_audit.py draw SHEET_FOLDER      # one sheet per label; texts, not to be shared
    .venv/bin/python analysis/annotator_audit.py score                  # table of reports/annotator/judgements.jsonl

40 stories are the first of ``$TSLENS_DATA/tinystories.jsonl.gz``. For each label 300 units are drawn: of a flag or an
optional index 150 that the annotator gives it and 150 words that it does not (all, where there are fewer), of a label
that every word has 300 words. A judgement names story (digest), unit, label, what the annotator said, and the truth.

Precision: share of right ones among those given. Recall: right ones over right ones plus missed ones, the missed ones
counted up from the sample of words without the label to all of them.
"""

from __future__ import annotations

import json
import random
import sys
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from tslens.corpus.annotate import annotate
from tslens.corpus.labelled import read_labels, unit_labels
from tslens.corpus.stories import read_stories
from tslens.corpus.words import find_sentences, find_units
from tslens.files import data_dir
from tslens.types import Labels, Story

N_STORIES = 40
N_UNITS = 300
OPTIONAL = (
    "subject",
    "action",
    "object",
    "mention",
    "antecedent",
    "introduction",
    "topic",
    "quote",
    "sentence_end",
)
GENERAL = ("pos", "clause", "sentence_start", "story_part")
REPORT = Path(__file__).parents[1] / "reports/annotator"


def labelled_stories() -> list[tuple[Story, Labels]]:
    """The stories that are judged, with the annotator's labels."""
    stories = islice(read_stories(data_dir() / "tinystories.jsonl.gz"), N_STORIES)
    return [(story, labels) for story in annotate(stories) if (labels := read_labels(story))]


def said(name: str, unit: int, story: Story, labels: Labels, table: dict[str, list[Any]]) -> str:
    """What the annotator says of a unit under a label, in words; empty for nothing."""
    units = find_units(story.text)

    def word(index: int) -> str:
        return story.text[units[index][0] : units[index][1]]

    value = table[name][unit]
    if name == "clause":
        return f"of {word(labels.clauses[value].action)}@{labels.clauses[value].action}" if value >= 0 else ""
    if name == "antecedent":
        return f"{word(value)}@{value}" if value >= 0 else ""
    if name == "mention":
        first = table["mention"].index(value) if value >= 0 else -1
        return f"{word(first)}@{first}" if value >= 0 else ""
    if isinstance(value, bool):
        return "yes" if value else ""
    return "" if value == -1 else ("yes" if name == "quote" else str(value))


def draw(folder: Path) -> None:
    """Write one sheet per label, and the stories with their units numbered."""
    folder.mkdir(parents=True, exist_ok=True)
    stories = labelled_stories()
    tables = [unit_labels(story.text, labels) for story, labels in stories]
    everything = [
        (number, unit)
        for number, (story, _) in enumerate(stories)
        for unit, (start, _) in enumerate(find_units(story.text))
    ]
    is_word = {
        (n, u): stories[n][0].text[find_units(stories[n][0].text)[u][0]].isalnum() for n, u in everything
    }
    for name in OPTIONAL + GENERAL:
        dice = random.Random(name)
        given, bare = [], []
        for place in everything:
            story, labels = stories[place[0]]
            has = said(name, place[1], story, labels, tables[place[0]])
            if name == "sentence_end" and is_word[place]:
                continue
            (given if has else bare).append(place)
        bare = [place for place in bare if is_word[place] or name in ("sentence_end", "quote")]
        if name in GENERAL:
            given, bare = [place for place in given + bare if is_word[place]], []
            drawn = dice.sample(given, N_UNITS)
        else:
            drawn = dice.sample(given, min(len(given), N_UNITS // 2))
            drawn += dice.sample(bare, min(len(bare), N_UNITS - len(drawn)))
        rows = [
            {"label": name, "story": number, "digest": f"{stories[number][0].digest:016x}", "unit": unit,
             "said": said(name, unit, *stories[number], tables[number]), "n_given": len(given), "n_bare": len(bare)}
            for number, unit in sorted(drawn)
        ]  # fmt: skip
        (folder / f"{name}.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
        )
        lines = [
            f"{row['story']}:{row['unit']} {_context(stories[row['story']][0], row['unit'])}  => {row['said'] or '-'}"
            for row in rows
        ]
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for number, (story, labels) in enumerate(stories):
        (folder / f"story_{number:02}.txt").write_text(_sheet(number, story, labels), encoding="utf-8")


def _context(story: Story, unit: int) -> str:
    start, end = find_units(story.text)[unit]
    sentence = next(s for s in find_sentences(story.text) if s.start <= start < s.end)
    return f"{story.text[sentence.start : start]}[[{story.text[start:end]}]]{story.text[end : sentence.end]}"


def _sheet(number: int, story: Story, labels: Labels) -> str:
    """A story with its units numbered, and its story-level labels."""
    units = find_units(story.text)
    numbered = " ".join(f"{i}:{story.text[start:end]}" for i, (start, end) in enumerate(units))
    parts: dict[str, list[int]] = defaultdict(list)
    for i, part in enumerate(labels.story_part):
        parts[part].append(i)
    return "\n".join(
        (
            f"story {number}",
            story.text,
            "",
            numbered,
            "",
            f"introduction: units {list(labels.introduction)}",
            f"topics: {list(labels.topics)}",
            f"story parts: { {part: (units_[0], units_[-1]) for part, units_ in parts.items()} }",
        )
    )


def score() -> Iterator[str]:
    """Table of precision and recall of each label, and of what is right of each story, from the judgements."""
    by_label: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in _rows("judgements.jsonl"):
        by_label[row["label"]].append(row)
    yield "| label | precision | 95% interval | recall |"
    yield "|---|---|---|---|"
    for name, rows in by_label.items():
        given = [row for row in rows if row["said"]]
        bare = [row for row in rows if not row["said"]]
        if name in GENERAL:
            given, bare = rows, []
        right = sum(row["truth"] == row["said"] for row in given)
        recall = "" if name in GENERAL else f"{_recall(given, bare):.3f}"
        low, high = wilson(right, len(given))
        yield f"| `{name}` | {right} of {len(given)} | {low:.3f} to {high:.3f} | {recall} |"
    stories = list(_rows("stories.jsonl"))
    for name in ("protagonist", "introduction", "topics", "story parts"):
        right = sum(row[name] for row in stories)
        low, high = wilson(right, len(stories))
        yield f"| {name} of a story | {right} of {len(stories)} | {low:.3f} to {high:.3f} | |"


def _rows(name: str) -> Iterator[dict[str, Any]]:
    for line in (REPORT / name).read_text(encoding="utf-8").splitlines():
        yield json.loads(line)


def _recall(given: list[dict[str, Any]], bare: list[dict[str, Any]]) -> float:
    """Right ones among all that are due: missed ones are counted up from the units that were given nothing."""
    n_given = given[0]["n_given"]
    right = sum(row["truth"] == row["said"] for row in given) / len(given) * n_given
    wrong = sum(row["truth"] not in ("", row["said"]) for row in given) / len(given) * n_given
    missed = sum(bool(row["truth"]) for row in bare) / len(bare) * bare[0]["n_bare"] if bare else 0.0
    return right / (right + wrong + missed)


def wilson(n_right: int, n: int) -> tuple[float, float]:
    """95% interval of a share (Wilson 1927)."""
    z = 1.96
    middle = (n_right + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * (n_right * (n - n_right) / n + z * z / 4) ** 0.5
    return middle - half, min(1.0, middle + half)


def main() -> None:
    """``draw FOLDER`` or ``score``."""
    match sys.argv[1:]:
        case ["draw", folder]:
            draw(Path(folder))
        case ["score"]:
            for line in score():
                print(line)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
