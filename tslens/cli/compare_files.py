"""Which files ``tslens compare`` reads: those of grades, or those that models have under the options given."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tslens.cli.console import say
from tslens.cli.grade import TEMPERATURE

if TYPE_CHECKING:
    from tslens.cli.grade_prompts import PromptSet
    from tslens.cli.grade_texts import Wanted
    from tslens.grading.completions import Drawing
    from tslens.grading.results import GradedModel
    from tslens.model.load import ModelSource

GRADES = ".jsonl"  # ending of files of grades


def find_grades(
    models: Sequence[str], wanted: Wanted, judge: str, protocol: str, out: Path | None
) -> list[Path]:
    """The file of grades of each model, each once.

    Raises UsageError where one is missing, with the options of grades that are there, and with what to run.
    """
    from tslens.cli.grade_texts import grades_file, settle, weights_sha256
    from tslens.errors import UsageError
    from tslens.grading.results import load_grades
    from tslens.model.load import find_model

    found: list[Path] = []
    missing: list[str] = []
    others: dict[str, list[str]] = {}
    for model in models:
        path = Path(model)
        if path.suffix != GRADES:
            source = find_model(model)
            say(source.note)
            prompts, drawing = settle(source, wanted)
            path = grades_file(source, prompts, drawing, judge, protocol, out)
            if not path.exists():
                for words in _drawn_otherwise(source, prompts, drawing, judge, protocol, out):
                    others.setdefault(words, []).append(model)
                missing.append(
                    f"tslens grade --model {shlex.quote(model)} {_asked(wanted, judge, protocol, out)}"
                )
                continue
            if load_grades(path).header.get("weights_sha256") != weights_sha256(source.path):
                say(f"warning: the weights of {source.label} have changed since it was graded.")
        if path.resolve() not in {one.resolve() for one in found}:
            found.append(path)
    if missing:
        there = "".join(f"With {words} there are grades of {', '.join(of)}. " for words, of in others.items())
        raise UsageError(
            f"{len(missing)} of {len(models)} models have no such grades.",
            f"{there}Run: {'; '.join(missing)}",
        )
    return found


def _drawn_otherwise(
    source: ModelSource, prompts: PromptSet, wanted: Drawing, judge: str, protocol: str, out: Path | None
) -> Iterator[str]:
    """The options that find other grades of a model: the same prompts and judge, texts drawn otherwise."""
    from tslens.cli.grade_texts import grades_file
    from tslens.errors import DataError
    from tslens.grading.completions import Drawing
    from tslens.grading.results import load_grades

    asked = wanted.to_json()
    folder = grades_file(source, prompts, wanted, judge, protocol, out).parent
    for file in sorted(folder.glob(f"*{GRADES}")):
        try:
            header = load_grades(file).header
            drawn = {name: header[name] for name in asked}
        except (DataError, KeyError):  # no grades, or rows beside those of a model
            continue
        if grades_file(source, prompts, Drawing(**drawn), judge, protocol, out) == file:
            options = {name: value for name, value in drawn.items() if value != asked[name]}
            yield " ".join(f"--{name.replace('_', '-')} {value}" for name, value in options.items())


def _asked(wanted: Wanted, judge: str, protocol: str, out: Path | None) -> str:
    """The options that make grades as these are wanted."""
    words = ["--judge", judge]
    words += [] if wanted.prompts is None else ["--prompts", wanted.prompts]
    words += [] if wanted.samples == 10 else ["--samples", str(wanted.samples)]
    words += [] if wanted.max_tokens is None else ["--max-tokens", str(wanted.max_tokens)]
    words += [] if wanted.temperature == TEMPERATURE else ["--temperature", f"{wanted.temperature:g}"]
    words += [] if wanted.seed == 0 else ["--seed", str(wanted.seed)]
    words += [] if protocol == "two_turns" else ["--protocol", protocol]
    words += [] if out is None else ["--out", str(out)]
    return shlex.join(words)


def load_comparable(paths: Sequence[Path], judge: str) -> list[GradedModel]:
    """The graded models under labels that are all different.

    Raises UsageError for grades of another judge than the one that was named, DataError where they do not compare:
    another version or other prompts.
    """
    from tslens.errors import DataError, UsageError
    from tslens.grading.results import SAME, distinct, load_grades

    found = [load_grades(path) for path in paths]
    for one, path in zip(found, paths, strict=True):
        if one.header["judge"] != judge:
            raise UsageError(
                f'The grades in {path} are those of "{one.header["judge"]}", not of "{judge}".',
                "Name files of one judge, and that judge.",
            )
        for name in SAME:
            if one.header.get(name) != found[0].header.get(name):
                raise DataError(
                    f"The grades of {one.label} ({path}) and {found[0].label} do not compare: {name.replace('_', ' ')} "
                    f'"{one.header.get(name)}" and "{found[0].header.get(name)}".',
                    "Grade both again with the same judge and prompts.",
                )
    return distinct(found)
