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
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

from tslens.corpus.annotate import annotate, open_parser
from tslens.corpus.annotation.labelling import label
from tslens.corpus.author import NO_WISHES, _tell, write_stories
from tslens.corpus.check_features import has_feature
from tslens.corpus.corrupted import corrupt_stories, read_fault
from tslens.corpus.instructions.compliance import Compliance, check_instruction, check_words
from tslens.corpus.instructions.draw import draw_instruction
from tslens.corpus.instructions.form import KINDS, Instruction, parse_prompt, write_text
from tslens.corpus.instructions.telling import SummaryCheck, Telling, compare_tellings, read_telling
from tslens.corpus.labelled import read_labels
from tslens.corpus.stories import describe_source, is_validation, read_stories
from tslens.corpus.vocabulary import analyses
from tslens.corpus.words import find_sentences, find_units
from tslens.files import data_dir, write_json
from tslens.labels import FEATURES
from tslens.types import Labels, Story

REPORT = Path(__file__).parents[1] / "reports/instructions"
SEED = 0
N_ANNOTATED, N_PAIRED, N_TWINS, N_REAL = 500, 1_000, 500, 1_000
N_NAMED = 5  # summaries of other plots that each story is asked for, under the name of its hero


@dataclass
class Asked:
    """A story with its instruction and the labels of both."""

    story: Story
    instruction: Instruction
    labels: Labels | None
    summary_labels: Labels | None


class Tally:
    """Counts of followed and of told things by kind, and of the parts of the summary rule."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.followed: Counter[str] = Counter()
        self.parts: Counter[str] = Counter()
        self.whole: Counter[bool | None] = Counter()

    def add(self, found: Compliance) -> None:
        """Count one story."""
        self.whole[found.is_followed] += 1
        for verdict in found.verdicts:
            if verdict.answer != "cannot tell":
                for kind in (verdict.kind, "all"):
                    self.asked[kind] += 1
                    self.followed[kind] += verdict.answer == "followed"
        if found.summary:
            self.parts.update(_parts(found.summary))

    def shares(self) -> dict[str, dict[str, Any]]:
        """Share and 95% interval of each kind."""
        return {
            kind: share(self.followed[kind], self.asked[kind]) for kind in (*KINDS, "all") if self.asked[kind]
        }


def _parts(check: SummaryCheck) -> Iterator[str]:
    yield "summaries"
    for name in ("n_characters", "n_objects", "n_clauses"):
        found, wanted = getattr(check, name)
        whole = found > 0 if name == "n_clauses" else found == wanted
        yield from [name] * whole
    yield from ["clauses told"] * check.n_clauses[0]
    yield from ["clauses"] * check.n_clauses[1]


def share(n_right: int, n: int) -> dict[str, Any]:
    """A share with its 95% interval (Wilson 1927)."""
    z = 1.96
    middle = (n_right + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * (n_right * (n - n_right) / n + z * z / 4) ** 0.5
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return {"n": n, "share": round(n_right / n, 4), "low": round(low, 4), "high": round(high, 4)}


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


class Rates:
    """Share of all stories that have each word, sentence and feature: what chance would follow."""

    def __init__(self) -> None:
        self._n = 0
        self._has: Counter[tuple[str, ...]] = Counter()

    def add(self, story: Story, labels: Labels | None) -> None:
        """Count what one story has."""
        self._n += 1
        forms = {story.text[start:end].lower() for start, end in find_units(story.text)}
        uses = {(lemma, "") for form in forms for lemma, _, _ in analyses(form)}
        if labels is not None:
            uses |= {
                pair for use in zip(labels.lemma, labels.pos, strict=True) for pair in (use, (use[0], ""))
            }
        self._has.update(("words", lemma, pos) for lemma, pos in uses)
        self._has.update(
            ("sentence", s) for s in {story.text[s.start : s.end] for s in find_sentences(story.text)}
        )
        self._has.update(("features", name) for name in FEATURES if has_feature(name, story.text))

    def expected(self, asked: Iterable[Instruction]) -> dict[str, float]:
        """Mean share, by kind, of stories that have what is asked for; the story that it was drawn from not counted."""
        sums: Counter[str] = Counter()
        numbers: Counter[str] = Counter()
        for instruction in asked:
            keys: list[tuple[str, ...]] = [
                ("words", word, pos)
                for word, pos in zip_longest(instruction.words, instruction.words_pos, fillvalue="")
            ]
            keys += [("sentence", instruction.sentence)] if instruction.sentence else []
            keys += [("features", name) for name in instruction.features]
            for key in keys:
                sums[key[0]] += max(0, self._has[key] - 1) / (self._n - 1)  # type: ignore[assignment]
                numbers[key[0]] += 1
        return {kind: sums[kind] / numbers[kind] for kind in numbers}


@dataclass
class Paired:
    """A summary and its story, read; the name of the hero; the plot."""

    summary: Telling
    story: Telling
    hero: str
    plot: str


def plot_of(story: Story) -> str:
    """Plot of an author story, from its plan."""
    return _tell(story.extra["index"], SEED, NO_WISHES).plan.plot


def name_matched(pairs: list[Paired]) -> dict[str, Any]:
    """Summaries of another plot in which the hero has the name of the story's hero: how many are followed?

    Each summary goes to the next ``N_NAMED`` stories of other plots.
    """
    n_followed = n_pairs = 0
    for number, one in enumerate(pairs):
        others = (other for other in (*pairs[number + 1 :], *pairs[:number]) if other.plot != one.plot)
        for other in islice(others, N_NAMED):
            n_pairs += 1
            renamed = _rename(one.summary, one.hero, other.hero)
            n_followed += bool(compare_tellings(renamed, other.story).is_followed)
    return share(n_followed, n_pairs)


def _rename(telling: Telling, name: str, other: str) -> Telling:
    def put(words: frozenset[str]) -> frozenset[str]:
        return frozenset(other if word == name else word for word in words)

    clauses = tuple(
        replace(
            clause,
            who=None if clause.who is None else put(clause.who),
            others=tuple(map(put, clause.others)),
            what=None if clause.what is None else put(clause.what),
            rest=tuple(map(put, clause.rest)),
        )
        for clause in telling.clauses
    )
    return replace(telling, clauses=clauses, characters=put(telling.characters))


def hero_of(labels: Labels) -> str:
    """Name of the protagonist, in small letters; empty where it has none."""
    names = zip(labels.mention, labels.pos, labels.lemma, strict=True)
    return next((name for of, pos, name in names if of == labels.protagonist and pos == "PROPN"), "")


def chance_of_summaries(pairs: list[Paired]) -> float:
    """Share of pairs of different stories in which one follows the summary of the other."""
    n_followed = 0
    for one in pairs:
        for other in pairs:
            if one is not other and one.summary.characters <= other.story.lemmas:
                n_followed += bool(compare_tellings(one.summary, other.story).is_followed)
    return n_followed / (len(pairs) * (len(pairs) - 1))


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


# The report -------------------------------------------------------------------------------------------------


def _cell(found: dict[str, Any] | None) -> str:
    return (
        ""
        if not found
        else f"{found['share']:.2%} ({found['low']:.2%} to {found['high']:.2%}; {found['n']:,})"
    )


def report(facts: dict[str, Any]) -> Iterator[str]:
    """Lines of report.md."""
    made = facts["author"]
    yield "# Do stories follow their instructions, and does the checker see it?"
    yield ""
    yield (
        f"{made['stories']:,} stories of the offline author (seed {SEED}), each with the instruction that `tslens data "
        f"instruct` gives it. Read back from the text: {made['lost']} lost. Share of what is asked for that the "
        "checker finds followed (95% interval; number of things asked for). Another: the instruction before it. "
        "Chance: share of all stories that have the word, sentence or feature; of summaries, over all pairs of "
        f"{N_PAIRED:,} stories. `analysis/instruction_compliance.py` makes this page."
    )
    yield ""
    yield from _table(made)
    yield ""
    yield (
        f"All that was asked for: own {_cell(made['own, all asked'])}, another {_cell(made['another, all asked'])}."
    )
    yield ""
    yield (
        "Summaries of another plot in which the hero is given the name of the story's hero (each of "
        f"{N_PAIRED:,} for {N_NAMED} stories): {_cell(made['name-matched summaries'])} are found followed. This is "
        'the level to compare with: of "another" and "chance" most fail for the name alone.'
    )
    yield ""
    yield "The author takes words and features into a story only if they are in its text, and chooses the summary that"
    yield "the rule finds followed by gold labels, where there is one: the first column is by construction, and shows"
    yield "that nothing is lost on the way. Independent of it are the annotator's labels, which know no plan:"
    yield ""
    yield "## By the annotator's labels"
    yield ""
    yield f"| {N_ANNOTATED} stories | words | summary |"
    yield "|---|---|---|"
    for name, found in facts["annotated"].items():
        yield f"| {name} | {_cell(found.get('words'))} | {_cell(found.get('summary'))} |"
    yield ""
    yield 'In the rows "story" the annotator reads the story and the summary has gold labels; else it reads both.'
    yield ""
    yield "## Parts of the rule for summaries"
    yield ""
    yield "| | all characters | all objects | a clause told | clauses told, of all |"
    yield "|---|---|---|---|---|"
    rows = {"own, gold": made["own, parts"], "another, gold": made["another, parts"]}
    rows |= {
        f"{name} (annotator)": found["parts"]
        for name, found in facts["annotated"].items()
        if "parts" in found
    }
    for name, parts in rows.items():
        n = parts["summaries"]
        shares = (parts.get(part, 0) / n for part in ("n_characters", "n_objects", "n_clauses"))
        yield (
            f"| {name} | "
            + " | ".join(f"{value:.1%}" for value in shares)
            + f" | {parts.get('clauses told', 0) / parts['clauses']:.1%} |"
        )
    yield ""
    yield "## Twins that ignore a word"
    yield ""
    yield f"Twins of which the checker says, from the text alone, that a word is missing: {_cell(facts['twins'])}."
    if "real" in facts:
        real = facts["real"]
        yield ""
        yield "## Real stories"
        yield ""
        yield f"{real['stories']:,} stories, instructions drawn from their texts; words checked by the annotator's"
        yield "labels (by the text alone in brackets). Sentences and features follow by construction; summaries: none."
        yield ""
        yield from _table(real, real["own, words by text"])


def _table(facts: dict[str, Any], by_text: dict[str, Any] | None = None) -> Iterator[str]:
    yield "| kind | own | another | chance |"
    yield "|---|---|---|---|"
    for kind in (*KINDS, "all"):
        if kind in facts["own"]:
            chance = facts["chance"].get(kind)
            own = _cell(facts["own"][kind])
            if by_text and kind == "words":
                own += f" [{_cell(by_text[kind])}]"
            level = "" if chance is None else f"{chance:.2%}"
            yield f"| {kind} | {own} | {_cell(facts['another'].get(kind))} | {level} |"


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
