"""The grades of ``tslens link``: texts written without each component, graded; each set kept as soon as it is there.

A folder beside the map holds, for each set of components, what the model wrote without it and what a judge gave it.
A set that is there under an equal header is not written or graded again, so a run that was stopped goes on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import typer

from tslens.causal.ablation import Component
from tslens.causal.means import Means
from tslens.cli.console import counted, progress_bar, say
from tslens.errors import DataError
from tslens.grading.completions import Prompt, load_written, save_written
from tslens.grading.judge import Judge, Outcome, folder_of
from tslens.grading.results import GradedModel, load_grades, save_grades
from tslens.link.grade_map import Drawing, write_without
from tslens.model.story_model import StoryModel
from tslens.types import Graded, GradeFailure, Provenance

WHOLE, NGRAM = "whole", "ngram"  # the untouched model; the n-gram of the same data
_WRITTEN, _GRADES = "written", "grades"
_NOT_PLAIN = re.compile(r"[^\w.@+-]")  # in the name of a file


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
                found = self.written(name, components, drawing, write)
                texts[name] = found
                bar.update(task, completed=(number + 1) * n_each, note=name)
        return texts

    def written(
        self,
        name: str,
        components: Sequence[Component],
        drawing: Drawing,
        write: Callable[[], list[Graded]],
    ) -> list[Graded]:
        """Texts that are kept under a name, or those that ``write`` gives, which are kept then."""
        header = self._header(name, components, drawing)
        file = self._file(_WRITTEN, name)
        found = load_written(file, header)
        if found is None:
            found = write()
            save_written(file, header, found)
        return found

    def grade(
        self,
        judge: Judge,
        texts: Mapping[str, Sequence[Graded]],
        sets: Mapping[str, Sequence[Component]],
        drawing: Drawing,
    ) -> dict[str, list[Outcome]]:
        """What the judge gives each set. Ctrl-C exits with 3 and leaves what is done."""
        folder = f"{_GRADES}/{folder_of(judge.name)}"
        found: dict[str, list[Outcome]] = {}
        try:
            for number, (name, of_set) in enumerate(texts.items(), 1):
                header = {
                    **self._header(name, sets[name], drawing),
                    "judge": judge.name,
                    "judge_version": judge.version,
                }
                file = self._file(folder, name)
                kept = _kept(file, header, of_set)
                found[name] = (
                    _graded(judge, of_set, f"{number} of {len(texts)}: {name}") if kept is None else kept
                )
                if kept is None and _is_final(judge, found[name]):
                    save_grades(GradedModel(name, header, found[name]), file, self.record())
        except KeyboardInterrupt:
            say("Stopped: all sets that were graded are kept; the same command goes on from here.")
            raise typer.Exit(3) from None
        return found

    def _header(self, name: str, components: Sequence[Component], drawing: Drawing) -> dict[str, Any]:
        return {
            **self.header,
            **asdict(drawing),
            "model": name,
            "without": sorted(str(component) for component in components),
        }

    def _file(self, kind: str, name: str) -> Path:
        return self.path / kind / f"{_NOT_PLAIN.sub('_', name)}.jsonl"


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
