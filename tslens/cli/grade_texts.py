"""Which texts ``tslens grade`` grades, and where their grades are written, so that ``tslens compare`` finds them."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tslens.cli import options
from tslens.cli.console import counted, progress_bar, say
from tslens.cli.grade_prompts import Kind, PromptSet, open_prompts
from tslens.errors import ModelError
from tslens.files import refuse_links, sha256_file
from tslens.grading.completions import (
    Drawing,
    Prompt,
    load_written,
    name_of,
    prompts_of,
    save_written,
    true_endings,
    write_completions,
)
from tslens.grading.completions_file import read_texts
from tslens.grading.judge import folder_of
from tslens.grading.results import SIDES
from tslens.run_folder import RunFolder
from tslens.types import Graded

if TYPE_CHECKING:
    from tslens.model.load import ModelSource

TEMPERATURE = 1.0
MAX_TOKENS: Mapping[Kind, int] = {"beginnings": 300, "instructions": 300, "short": 40}


@dataclass(frozen=True)
class Wanted:
    """What the options of a command say of prompts and completions; None where they say nothing."""

    prompts: str | None
    samples: int
    max_tokens: int | None
    temperature: float
    seed: int


@dataclass(frozen=True)
class ModelJob:
    """A model that is to write. ``file``: where its texts are kept. ``path``: of their grades."""

    source: ModelSource
    prompts: PromptSet
    drawing: Drawing
    file: Path
    path: Path


@dataclass(frozen=True)
class Work:
    """What is to be graded of one model, or of one file.

    ``header``: what the file of grades says of it. ``prompts``: as the teacher is given them. ``path``: of the grades.
    """

    label: str
    header: Mapping[str, Any]
    kind: Kind
    prompts: Sequence[Prompt]
    texts: Sequence[Graded]
    path: Path

    @property
    def endings(self) -> list[Graded]:
        """The true endings of its prompts."""
        return true_endings(self.prompts)


# Where grades are ---------------------------------------------------------------------------------------------


def settle(source: ModelSource, wanted: Wanted) -> tuple[PromptSet, Drawing]:
    """Prompts and settings for a model, what the options leave open filled in."""
    prompts = open_prompts(wanted.prompts, source)
    max_tokens = wanted.max_tokens or MAX_TOKENS[prompts.kind]
    return prompts, Drawing(wanted.samples, max_tokens, wanted.temperature, wanted.seed)


def grades_file(
    source: ModelSource, prompts: PromptSet, drawing: Drawing, judge: str, protocol: str, out: Path | None
) -> Path:
    """The file of grades of a model: by judge, prompts, checkpoint, and how its texts were drawn."""
    stem = written_stem(source, prompts, drawing, named=out is not None)
    asked = "" if protocol == "two_turns" else f"_{protocol}"
    return (out or source.home.results("grades")) / folder_of(judge) / f"{stem}{asked}.jsonl"


def written_stem(source: ModelSource, prompts: PromptSet, drawing: Drawing, *, named: bool) -> str:
    """Name of the texts of a model. ``named``: with the model's own, where the folder does not say it."""
    model = _plain(source.label) + "_" if named else ""
    asked = f"_max{drawing.max_tokens}" if drawing.max_tokens != MAX_TOKENS[prompts.kind] else ""
    asked += f"_t{drawing.temperature:g}" if drawing.temperature != TEMPERATURE else ""
    return f"{model}{prompts.name}_{source.path.stem}_n{drawing.samples}_seed{drawing.seed}{asked}"


def _plain(label: str) -> str:
    return re.sub(r"[^\w.@-]", "-", label)


# Texts --------------------------------------------------------------------------------------------------------


def job_of_model(model: str, wanted: Wanted, judge: str, protocol: str, out: Path | None) -> ModelJob:
    """Find a model, its prompts, and where its texts and their grades belong; nothing is written yet."""
    from tslens.model.load import find_model

    source = find_model(model)
    say(source.note)
    return job_of_source(source, wanted, judge, protocol, out)


def job_of_source(
    source: ModelSource, wanted: Wanted, judge: str, protocol: str, out: Path | None
) -> ModelJob:
    """The same of a model that was found."""
    prompts, drawing = settle(source, wanted)
    stem = written_stem(source, prompts, drawing, named=out is not None)
    file = (out / "completions" if out else source.home.results("completions")) / f"{stem}.jsonl"
    path = grades_file(source, prompts, drawing, judge, protocol, out)
    if out is not None:
        for place in (file, path):
            refuse_links(place.parent, out)
    return ModelJob(source, prompts, drawing, file, path)


def work_of_model(job: ModelJob, *, device: str, keep: bool) -> Work:
    """Have a model write, or take what it wrote in an earlier run. ``keep``: keep what it writes for later runs."""
    source, prompts, drawing = job.source, job.prompts, job.drawing
    header = {
        "model": source.label,
        "checkpoint": source.path.name,
        "weights_sha256": weights_sha256(source.path),
        "prompts": prompts.name,
        "prompts_sha256": prompts.sha256,
        **drawing.to_json(),
    }
    texts = load_written(job.file, header)
    if texts is None:
        each, asked = counted(drawing.samples, "completion"), counted(len(prompts.prompts), "prompt")
        say(f"writing {each} of each of {asked} ({prompts.name})")
        texts = _write(source, prompts, drawing, device)
        if keep:
            save_written(job.file, header, texts)
    return Work(source.label, header, prompts.kind, prompts.prompts, texts, job.path)


def _write(source: ModelSource, prompts: PromptSet, drawing: Drawing, device: str) -> list[Graded]:
    from tslens.model.load import open_model

    model = open_model(source, device=options.resolve_device(device))
    if model.tokenizer is None:
        raise ModelError(
            "This model has no tokenizer, so it cannot write.", "Give one with a tokenizer.json."
        )
    total = len(prompts.prompts) * drawing.samples
    with progress_bar("writing", total) as (bar, task):
        return write_completions(
            model,
            prompts.prompts,
            **drawing.to_json(),
            progress=lambda n: bar.update(task, completed=n, note=f"{n} of {total}"),
        )


def weights_sha256(path: Path) -> str:
    """Hash of a model's file; of a folder, over those of its files."""
    if path.is_file():
        return sha256_file(path)
    files = sorted(file for file in path.iterdir() if file.is_file())
    found = "".join(f"{file.name} {sha256_file(file)}\n" for file in files)
    return hashlib.sha256(found.encode()).hexdigest()


def work_of_file(path: Path, judge: str, protocol: str, out: Path | None) -> Work:
    """The texts of a file. Their prompts are those that the file shows; endings are known of the package's.

    ``out``: folder of results; without it that of a run, by the name of the file.
    """
    from tslens.model.load import RUNS

    texts, sha256 = read_texts(path), sha256_file(path)
    prompts = prompts_of(texts)
    name, of_prompts = name_of(prompts, "of the file")
    label = path.name if path.stem in SIDES else path.stem
    is_asked = all(one.instructions is not None for one in texts)
    header = {
        "model": label,
        "checkpoint": None,
        "completions_sha256": sha256,
        "prompts": name,
        "prompts_sha256": of_prompts,
        "samples": max(Counter(one.prompt_id for one in texts).values()),
        "seed": None,
    }
    asked = "" if protocol == "two_turns" else f"_{protocol}"
    folder = out or RunFolder(RUNS / f"{_plain(path.stem)}-completions").results("grades")
    file = folder / folder_of(judge) / f"{_plain(path.stem)}-{sha256[:6]}{asked}.jsonl"
    kind: Kind = "instructions" if is_asked else "beginnings"
    return Work(label, header, kind, prompts, texts, file)
