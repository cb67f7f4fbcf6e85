"""The grades of ``tslens link``: texts written without each component, graded; each set kept as soon as it is there.

A folder beside the map holds, for each set of components, what the model wrote without it and what a judge gave it.
A set that is there whole under an equal header is not written or graded again, so a run that was stopped goes on.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from tslens.causal.ablation import Component
from tslens.causal.means import Means
from tslens.cli.console import counted, progress_bar, say
from tslens.errors import DataError
from tslens.grading.completions import Drawing, Prompt, load_written, save_written
from tslens.grading.judge import Judge, Outcome, folder_of
from tslens.grading.results import GradedModel, load_grades, save_grades
from tslens.link.grade_map import write_without
from tslens.model.story_model import StoryModel
from tslens.types import Graded, GradeFailure, Provenance

WHOLE, NGRAM = "whole", "ngram"  # the untouched model; the n-gram of the same data
DOSES = "doses"  # stories and their twins with one fault: the unit of grades
_WRITTEN, _GRADES = "written", "grades"
_NOT_PLAIN = re.compile(r"[^\w.@+-]")  # in the name of a file
_LONGEST = 100  # letters of a name: equal roles are one set, under all their names


@dataclass(frozen=True)
class GradeFolder:
    """Where texts and grades of one model are kept. ``header``: what they depend on besides the components."""

    path: Path
    header: Mapping[str, Any]
    record: Callable[[], Provenance]

    def write(
        self,
        model: StoryModel,
        prompts: Sequence[Prompt],
        means: Means,
        sets: Mapping[str, Sequence[Component]],
        drawing: Drawing,
    ) -> dict[str, list[Graded]]:
        """What the model writes without each set of components, by the name of the set."""
        texts: dict[str, list[Graded]] = {}
        n_each = len(prompts) * drawing.samples
        say(f"writing {counted(n_each, 'text')} without each of {len(sets)} sets of components")
        with progress_bar("writing", n_each * len(sets)) as (bar, task):
            for number, (name, components) in enumerate(sets.items()):

                def tell(n: int, name: str = name, before: int = number * n_each) -> None:
                    bar.update(task, completed=before + n, note=name)

                write = partial(write_without, model, prompts, components, means, drawing, tell)
                texts[name] = self.written(name, components, drawing, n_each, write)
                bar.update(task, completed=(number + 1) * n_each, note=name)
        return texts

    def written(
        self,
        name: str,
        components: Sequence[Component],
        drawing: Drawing,
        n_texts: int,
        write: Callable[[], list[Graded]],
    ) -> list[Graded]:
        """Texts that are kept under a name, or those that ``write`` gives, which are kept then."""
        header = self._header(name, components, drawing)
        file = self._file(_WRITTEN, name)
        found = _kept_texts(file, header)
        if found is None or len(found) != n_texts:
            found = write()
            save_written(file, header, found)
        return found

    def grade(
        self,
        judge: Judge,
        texts: Mapping[str, Sequence[Graded]],
        sets: Mapping[str, Sequence[Component]],
        drawing: Drawing,
        *,
        at_once: bool,
    ) -> dict[str, list[Outcome]]:
        """What the judge gives each set of texts, by its name. ``sets``: what was ablated, where anything was.

        ``at_once``: the judge is given all sets together, as for one batch, not one after another.
        """
        folder = f"{_GRADES}/{folder_of(judge.name)}"
        headers = {
            name: {
                **self._header(name, sets.get(name, ()), drawing),
                "judge": judge.name,
                "judge_version": judge.version,
            }
            for name in texts
        }
        files = {name: self._file(folder, name) for name in texts}
        found = {
            name: kept
            for name, of_set in texts.items()
            if (kept := _kept(files[name], headers[name], of_set)) is not None
        }
        left = [name for name in texts if name not in found]
        for number, part in enumerate([left] if at_once and left else [[name] for name in left], 1):
            note = f"{len(left)} sets" if at_once else f"{number} of {len(left)}: {part[0]}"
            outcomes = iter(_graded(judge, [text for name in part for text in texts[name]], note))
            for name in part:
                found[name] = list(islice(outcomes, len(texts[name])))
                if _is_final(judge, found[name]):
                    save_grades(GradedModel(name, headers[name], found[name]), files[name], self.record())
        return found

    def _header(self, name: str, components: Sequence[Component], drawing: Drawing) -> dict[str, Any]:
        return {
            **self.header,
            **drawing.to_json(),
            "model": name,
            "without": sorted(str(component) for component in components),
        }

    def _file(self, kind: str, name: str) -> Path:
        plain = _NOT_PLAIN.sub("_", name)
        if len(plain) > _LONGEST:
            plain = f"{plain[:_LONGEST]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        return self.path / kind / f"{plain}.jsonl"


def failures_of(outcomes: Mapping[str, Sequence[Outcome]]) -> dict[str, dict[str, int]]:
    """How many texts have no grade, by set and reason; sets that are whole are left out."""
    counts = {
        name: Counter(str(one.reason) for one in of_set if isinstance(one, GradeFailure))
        for name, of_set in outcomes.items()
    }
    return {name: dict(sorted(of_set.items())) for name, of_set in counts.items() if of_set}


def _kept_texts(file: Path, header: Mapping[str, Any]) -> list[Graded] | None:
    """Texts of a file under this header, None where there are none, or the file is broken."""
    try:
        return load_written(file, header)
    except (DataError, TypeError):
        return None


def _kept(file: Path, header: Mapping[str, Any], texts: Sequence[Graded]) -> list[Outcome] | None:
    """Grades of a file that were given to these very texts, None where there are none."""
    if not file.exists():
        return None
    try:
        found = load_grades(file)
    except DataError:
        return None
    same_header = all(found.header.get(name) == value for name, value in header.items())
    is_same = same_header and [one.graded for one in found.outcomes] == list(texts)
    return list(found.outcomes) if is_same else None


def _graded(judge: Judge, texts: Sequence[Graded], note: str) -> list[Outcome]:
    with progress_bar("grading", len(texts)) as (bar, task):
        return judge.grade(texts, lambda n: bar.update(task, completed=n, note=note))


def _is_final(judge: Judge, outcomes: Sequence[Outcome]) -> bool:
    """Whether another run would give the same: the ledger of a large model knows which failures to ask again."""
    return judge.name == "local" or not any(isinstance(one, GradeFailure) for one in outcomes)
