"""Evidence on what the local judge is fitted on and tried on, measured once and kept in a folder.

Stories: of the author, real ones by the part they are in ("fit" is the fifth of the training side that the tables have
not seen, "test" the validation side), and for the fit SimpleStories, which are told in another way.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from local_judge_tables import for_tables

from tslens.corpus.annotate import annotate, open_parser
from tslens.corpus.parallel import map_chunks
from tslens.corpus.stories import is_validation, read_stories
from tslens.grading.local.evidence import FEWEST_WORDS, FILE, hear, load_tables, measure
from tslens.grading.local.fit import GradedSet, PlantedEvidence
from tslens.grading.local.heads import standardise
from tslens.grading.local.held_out import Groups
from tslens.grading.planted import AUDIT_STORY_SEED, PlantedPair, plant_pairs
from tslens.grading.rubric import CRITERIA
from tslens.types import Graded, Story

Part = Literal["fit", "test"]
SEED = 0
AUTHOR_SEED = {"fit": 11, "test": AUDIT_STORY_SEED + 1}
CHUNK = 24
PERSON_WEIGHT = 0.6  # of the person's 57 texts a criterion, beside 200 of GPT-4o
CATEGORIES = {
    "grammar": "Grammar",
    "creativity": "Creativity",
    "consistency": "Context-Tracking",
    "plot": "Plot",
}


@dataclass(frozen=True, eq=False)
class Measured:
    """Raw evidence of graded texts, in the order of ``names``."""

    names: tuple[str, ...]
    rows: np.ndarray
    given: Mapping[str, np.ndarray]
    groups: Groups
    texts: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class MeasuredPairs:
    """Raw evidence of stories and twins. ``story``: which story each pair is of."""

    kind: Sequence[str]
    strength: Sequence[str]
    source: Sequence[str]
    story: Sequence[str]
    clean: np.ndarray
    twin: np.ndarray


@dataclass(frozen=True, eq=False)
class Scaled:
    """Standardised evidence, and the standardisation. ``sets``: of GPT-4o and of the person, in this order."""

    centre: np.ndarray
    scale: np.ndarray
    sets: tuple[GradedSet, GradedSet]
    planted: PlantedEvidence

    def rows(self, values: np.ndarray) -> np.ndarray:
        """Raw evidence, standardised."""
        return standardise(values, self.centre, self.scale)


# Evidence -------------------------------------------------------------------------------------------------------


def evidence_rows(texts: Iterable[Graded], n_processes: int) -> Iterator[Mapping[str, float]]:
    """Evidence of each text, in order."""
    return map_chunks(_measure, texts, n_processes=n_processes, chunk_size=CHUNK)


def _measure(texts: list[Graded]) -> list[Mapping[str, float]]:
    tables, parser = load_tables(), open_parser()
    found = []
    for text in texts:
        heard = hear(text)
        (labelled,) = annotate([heard.story], parser=parser)
        found.append(measure(heard, labelled, tables))
    return found


@cache
def _code() -> str:
    """Digest of all that decides the evidence: the code of the judge and its tables."""
    import tslens

    package = Path(tslens.__file__).parent
    files = [*sorted(package.glob("grading/local/*.py")), package / "assets/grading" / FILE]
    skipped = {"fit.py", "heads.py", "held_out.py", "judge.py"}
    return hashlib.sha256(b"".join(f.read_bytes() for f in files if f.name not in skipped)).hexdigest()[:12]


def _kept(path: Path, texts: Sequence[Graded], n_processes: int) -> tuple[tuple[str, ...], np.ndarray]:
    """Names and rows of evidence, from the file if it is there."""
    if path.exists():
        with np.load(path, allow_pickle=False) as found:
            return tuple(json.loads(str(found["names"]))), found["rows"]
    rows = list(evidence_rows(texts, n_processes))
    names = tuple(rows[0])
    values = np.array([[row[name] for name in names] for row in rows], dtype=np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, names=json.dumps(names), rows=values)
    return names, values


# Graded texts ---------------------------------------------------------------------------------------------------


def read_gpt4o(data: Path) -> list[dict[str, Any]]:
    """The completions that GPT-4o graded."""
    lines = (data / "grades/gpt4o_five_sizes.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def as_graded(row: Mapping[str, Any], number: int) -> Graded:
    """A graded text of such a row: there the completion begins with its prompt."""
    prompt, whole = row["prompt"], row["completion"]
    completion = whole[len(prompt) :] if whole.startswith(prompt) else whole
    return Graded(prompt if whole.startswith(prompt) else "", completion, f"t{number:03d}", 0)


def gather_graded(data: Path, folder: Path, n_processes: int) -> Measured:
    """Evidence and grades of the completions that GPT-4o graded."""
    found = read_gpt4o(data)
    texts = [as_graded(row, number) for number, row in enumerate(found)]
    names, rows = _kept(folder / f"graded-{_code()}.npz", texts, n_processes)
    columns = {
        "grammar": "grammar",
        "creativity": "creativity",
        "consistency": "consistency",
        "plot": "plot_sense",
    }
    given = {name: np.array([float(row[columns[name]]) for row in found]) for name in CRITERIA}
    given["age"] = np.array([float("ABCDEF".index(row["age_guess"].strip()[0])) for row in found])
    groups = Groups(
        [row["prompt"] for row in found],
        [row["model_size"] for row in found],
        [float(row["parameter_count"]) for row in found],
    )
    return Measured(names, rows.astype(float), given, groups, tuple(row["completion"] for row in found))


def gather_person(data: Path, folder: Path, n_processes: int) -> Measured:
    """Evidence of the completions that a person scored, and the mean of the scores (0, 0.5, 1) of each criterion."""
    with (data / "grades/human_scores_tinystories_1m_8m_28m.csv").open(
        encoding="utf-8-sig", newline=""
    ) as file:
        found = list(csv.DictReader(file))
    found = [row for row in found if len(row["completion"].split()) >= FEWEST_WORDS]
    texts = [Graded(row["prompt"], row["completion"], f"h{n:03d}", 0) for n, row in enumerate(found)]
    names, rows = _kept(folder / f"person-{_code()}.npz", texts, n_processes)
    given = {
        name: np.array([_score(row, category) for row in found]) for name, category in CATEGORIES.items()
    }
    groups = Groups(
        [row["prompt"] for row in found],
        [row["model_name"] for row in found],
        [float(row["model_name"].rsplit("-", 1)[1].removesuffix("M")) for row in found],
    )
    return Measured(names, rows.astype(float), given, groups, tuple(row["completion"] for row in found))


def _score(row: Mapping[str, str], category: str) -> float:
    scores = [float(value) for name, value in row.items() if name.startswith(f"{category}_") and value]
    return float(np.mean(scores)) if scores else float("nan")


# Planted faults -------------------------------------------------------------------------------------------------


def real_stories(data: Path, part: Part) -> Iterator[Story]:
    """Real stories of a part, in the order of the file."""
    for story in read_stories(data / "tinystories.jsonl.gz"):
        if is_validation(story) if part == "test" else not is_validation(story) and not for_tables(story):
            yield story


def planted_pairs(data: Path, part: Part, n_stories: int, n_processes: int) -> Iterator[PlantedPair]:
    """Pairs of so many stories of the author and as many real ones; for the fit, of SimpleStories as well.

    Those for the fit are cut anew: half of them have up to a third of the story as their beginning, as prompts do.
    """
    sources = {
        "author": read_stories(f"author:{n_stories}:{AUTHOR_SEED[part]}"),
        "real": islice(real_stories(data, part), n_stories),
    }
    if part == "fit":
        sources["simple"] = islice(read_stories(data / "simplestories.jsonl.gz"), n_stories)
    dice = np.random.default_rng(SEED)
    for source, stories in sources.items():
        labelled = annotate(stories, n_processes=n_processes)
        for pair in plant_pairs(labelled, seed=SEED, source=source):
            yield _cut_anew(pair) if part == "fit" and dice.random() < 0.5 else pair


def _cut_anew(pair: PlantedPair) -> PlantedPair:
    """The pair with a longer beginning, often in mid-sentence, if both texts share one."""
    whole, twin = (text.prompt + text.completion for text in (pair.clean, pair.twin))
    same = next(
        (i for i, (a, b) in enumerate(zip(whole, twin, strict=False)) if a != b), min(len(whole), len(twin))
    )
    cut = whole.rfind(" ", 0, min(same, len(whole) // 3))
    if cut <= len(pair.clean.prompt):
        return pair
    clean = replace(pair.clean, prompt=whole[:cut], completion=whole[cut:])
    return replace(pair, clean=clean, twin=replace(pair.twin, prompt=twin[:cut], completion=twin[cut:]))


def gather_planted(
    data: Path, folder: Path, n_processes: int, *, n_stories: int, part: Part
) -> MeasuredPairs:
    """Evidence of such pairs; a story that stands in many pairs is measured once."""
    pairs = list(planted_pairs(data, part, n_stories, n_processes))
    texts = list(dict.fromkeys((text.prompt, text.completion) for p in pairs for text in (p.clean, p.twin)))
    index = {text: number for number, text in enumerate(texts)}
    wanted = [Graded(prompt, completion, "t", 0) for prompt, completion in texts]
    _, rows = _kept(folder / f"planted-{part}-{n_stories}-{_code()}.npz", wanted, n_processes)
    clean = [index[p.clean.prompt, p.clean.completion] for p in pairs]
    twin = [index[p.twin.prompt, p.twin.completion] for p in pairs]
    return MeasuredPairs(
        [p.kind for p in pairs],
        [p.strength for p in pairs],
        [p.source for p in pairs],
        [p.story for p in pairs],
        rows[clean].astype(float),
        rows[twin].astype(float),
    )


def scaled(planted: MeasuredPairs, gpt4o: Measured, person: Measured) -> Scaled:
    """Evidence in deviations: the middle of the clean stories, the spread of graded texts, stories and twins alike."""
    parts = [np.cbrt(rows) for rows in (gpt4o.rows, person.rows, planted.clean, planted.twin)]
    centre = parts[2].mean(0)
    scale = np.sqrt(np.mean([part.var(0) for part in parts], axis=0)) + 1e-3

    def of(rows: np.ndarray) -> np.ndarray:
        return standardise(rows, centre, scale)

    sets = (
        GradedSet(of(gpt4o.rows), gpt4o.given, gpt4o.groups.model),
        GradedSet(of(person.rows), person.given, person.groups.model, PERSON_WEIGHT),
    )
    pairs = PlantedEvidence(
        planted.kind, planted.strength, planted.source, of(planted.clean), of(planted.twin)
    )
    return Scaled(centre, scale, sets, pairs)
