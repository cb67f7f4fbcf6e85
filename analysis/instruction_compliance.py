"""Do stories follow their instructions, does the checker see it, and does the parser read every prompt back?

    .venv/bin/python analysis/instruction_compliance.py [--stories 10000] [--processes 2]

1. Author stories (seed 0), each with the instruction that ``tslens data instruct`` gives it: is what is read back from
   the text the instruction and the story? How many are lost?
2. Share of what is asked for that the checker finds followed: by the story itself, and by the next story, with the
   level expected by chance: the share of all stories that have the word, the sentence, the feature; of summaries, the
   share over all pairs of the first 1,000 stories. By gold labels; on 500 also by the annotator's, of the story alone
   and of both. Of summaries also the harder null: a summary of another plot in which the hero has the name of this
   story's hero, so that only what it says can tell that it is another's.
3. Parts of the rule for summaries: how often each holds.
4. Twins in which a word of the request is gone (``ignored_instruction``): does the checker miss the word?
5. 1,000 real stories where ``$TSLENS_DATA`` has them, asked for words (by the vocabulary), a sentence and features;
   words checked by the annotator's labels. They have no summaries.

Writes ``reports/instructions``: report.md, data.json, provenance.json. No text of real stories is kept.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from instruction_counts import (
    N_ANNOTATED,
    N_PAIRED,
    SEED,
    Paired,
    Rates,
    Tally,
    chance_of_summaries,
    hero_of,
    name_matched,
    plot_of,
    share,
)
from instruction_report import report

from tslens.corpus.annotate import annotate, open_parser
from tslens.corpus.annotation.labelling import label
from tslens.corpus.author import write_stories
from tslens.corpus.corrupted import corrupt_stories, read_fault
from tslens.corpus.instructions.compliance import check_instruction, check_words
from tslens.corpus.instructions.draw import draw_instruction
from tslens.corpus.instructions.form import Instruction, parse_prompt, write_text
from tslens.corpus.instructions.telling import read_telling
from tslens.corpus.labelled import read_labels
from tslens.corpus.stories import describe_source, is_validation, read_stories
from tslens.files import data_dir, write_json
from tslens.types import Labels, Story

REPORT = Path(__file__).parents[1] / "reports/instructions"
N_TWINS, N_REAL = 500, 1_000


@dataclass
class Asked:
    """A story with its instruction and the labels of both."""

    story: Story
    instruction: Instruction
    labels: Labels | None
    summary_labels: Labels | None


def asked_stories(stories: Iterable[Story]) -> Iterator[Asked]:
    """Author stories with the instruction that the command gives them."""
    for story in stories:
        instruction = draw_instruction(story, seed=SEED, is_held_out=is_validation(story))
        if instruction is not None:
            gold = Labels.from_json(story.extra["summary_labels"])
            yield Asked(story, instruction, read_labels(story), gold)


def is_read_back(text: str, one: Asked) -> bool:
    """Whether the parser gives instruction and story as they were, kinds in their order."""
    parsed = parse_prompt(text)
    return parsed.story == one.story.text and parsed.instruction == one.instruction.as_prompted()


def author_stories(n_stories: int, n_processes: int) -> dict[str, Any]:
    """Everything that is measured on author stories."""
    own, other, rates = Tally(), Tally(), Rates()
    instructions: list[Instruction] = []
    pairs: list[Paired] = []
    digest = hashlib.sha256()
    n_lost = 0
    before = None
    for one in asked_stories(write_stories(n_stories, seed=SEED, n_processes=n_processes)):
        line = json.dumps({"text": write_text(one.instruction, one.story.text)}, ensure_ascii=False)
        digest.update(line.encode())
        n_lost += not is_read_back(json.loads(line)["text"], one)
        own.add(check_instruction(one.instruction, one.story.text, one.labels, one.summary_labels))
        if before is not None:
            other.add(
                check_instruction(before.instruction, one.story.text, one.labels, before.summary_labels)
            )
        rates.add(one.story, one.labels)
        instructions.append(one.instruction)
        if len(pairs) < N_PAIRED and one.labels and one.summary_labels:
            summary = read_telling(str(one.story.extra["summary"]), one.summary_labels)
            story = read_telling(one.story.text, one.labels)
            pairs.append(Paired(summary, story, hero_of(one.labels), plot_of(one.story)))
        before = one
    expected = rates.expected(instructions) | {"summary": chance_of_summaries(pairs)}
    return {
        "stories": len(instructions), "lost": n_lost, "sha256 of the texts": digest.hexdigest(),
        "own": own.shares(), "another": other.shares(), "chance": {k: round(v, 4) for k, v in expected.items()},
        "own, parts": dict(own.parts), "another, parts": dict(other.parts),
        "name-matched summaries": name_matched(pairs),
        "own, all asked": share(own.whole[True], own.whole.total()),
        "another, all asked": share(other.whole[True], other.whole.total()),
    }  # fmt: skip


def annotated_stories() -> dict[str, Any]:
    """Author stories read by the annotator: the story alone (gold summary), and both. Every story with its summary."""
    parser = open_parser()
    tallies = {
        f"{whose}, {how}": Tally() for whose in ("own", "another") for how in ("story", "story and summary")
    }
    pairs: list[Paired] = []
    before: tuple[Instruction, Labels, Labels] | None = None
    for story in write_stories(N_ANNOTATED, seed=SEED):
        words, tags = tuple(story.extra["words"]), tuple(story.extra["words_pos"])
        summary = str(story.extra["summary"])
        asked = Instruction(kinds=("words", "summary"), words=words, words_pos=tags, summary=summary)
        gold = Labels.from_json(story.extra["labels"])
        labels = label(story.text, parser.parse(story.text), made_by=parser.version)
        read = label(summary, parser.parse(summary), made_by=parser.version)
        now = (asked, Labels.from_json(story.extra["summary_labels"]), read)
        for whose, given in (("own", now), ("another", before)):
            if given is not None:
                for how, about in (("story", given[1]), ("story and summary", given[2])):
                    tallies[f"{whose}, {how}"].add(check_instruction(given[0], story.text, labels, about))
        before = now
        pairs.append(
            Paired(
                read_telling(summary, read),
                read_telling(story.text, labels),
                hero_of(gold),
                plot_of(story),
            )
        )
    found = {name: {**tally.shares(), "parts": dict(tally.parts)} for name, tally in tallies.items()}
    return found | {"name-matched, story and summary": {"summary": name_matched(pairs)}}


def twins() -> dict[str, Any]:
    """Twins that have lost a word of their request, in which the checker, by the text alone, misses one."""
    made = islice(
        corrupt_stories(
            write_stories(4 * N_TWINS, seed=SEED + 1), read_fault("ignored_instruction:one"), seed=SEED
        ),
        N_TWINS,
    )
    n_twins = n_with_missing = 0
    for twin in made:
        words, tags = twin.extra["words"], twin.extra["words_pos"]
        verdicts = check_words(words, twin.text, pos=tags)
        n_twins += 1
        n_with_missing += any(verdict.answer == "not followed" for verdict in verdicts)
    return share(n_with_missing, n_twins)


def real_stories(path: Path) -> dict[str, Any]:
    """Real stories with instructions that are drawn from their texts alone."""
    own, by_text, other, rates = Tally(), Tally(), Tally(), Rates()
    instructions: list[Instruction] = []
    before: Instruction | None = None
    for story in annotate(read_stories(path, limit=N_REAL)):
        instruction = draw_instruction(Story(story.text), seed=SEED, held_out=())
        if instruction is None:
            continue
        labels = read_labels(story)
        own.add(check_instruction(instruction, story.text, labels))
        by_text.add(check_instruction(instruction, story.text))
        if before is not None:
            other.add(check_instruction(before, story.text, labels))
        rates.add(story, labels)
        instructions.append(instruction)
        before = instruction
    expected = rates.expected(instructions)
    return {
        "stories": len(instructions), "own": own.shares(), "own, words by text": by_text.shares(),
        "another": other.shares(), "chance": {k: round(v, 4) for k, v in expected.items()},
    }  # fmt: skip


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stories", type=int, default=10_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=REPORT)
    options = parser.parse_args()
    started = time.perf_counter()
    facts: dict[str, Any] = {
        "author": author_stories(options.stories, options.processes),
        "annotated": annotated_stories(),
        "twins": twins(),
    }
    data = f"author:{options.stories}:{SEED}"
    digests = {data: describe_source(data)[1]}
    real = data_dir() / "tinystories.jsonl.gz"
    if real.exists():
        facts["real"] = real_stories(real)
        digests[f"{real.name}, stories 1 to {N_REAL}"] = describe_source(real)[1]
    lines = "\n".join(report(facts)) + "\n"
    print(lines)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "report.md").write_text(lines, encoding="utf-8")
    write_json(options.out / "data.json", facts)
    write_json(
        options.out / "provenance.json",
        {
            "command": f"analysis/instruction_compliance.py --stories {options.stories}",
            "seed": SEED,
            "data_sha256": digests,
            "parser": open_parser().version,
            "tslens": version("tinystories-lens"),
            "python": platform.python_version(),
            "seconds": round(time.perf_counter() - started, 1),
        },
    )


if __name__ == "__main__":
    main()
