"""The checkpoints of runs, read one after the other for ``tslens emergence``, each kept as soon as it is read."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tslens.cli.console import progress_bar, say
from tslens.cli.judging import open_judge
from tslens.corpus.text_tokenizer import TextTokenizer
from tslens.errors import DataError, ModelError, RunError, UsageError
from tslens.files import check_writable
from tslens.grading.completions import write_completions
from tslens.grading.prompts import load_beginnings
from tslens.grading.results import GradedModel
from tslens.link.emergence.results import AtStep, load_trace, save_trace
from tslens.link.emergence.trace import Asked, Reading, choose_positions, of_measured, read_checkpoint
from tslens.link.ngram_null import stories_like
from tslens.link.readouts import make_readouts
from tslens.link.sizes.read_model import of_grades
from tslens.model.load import ModelSource, find_model, open_model
from tslens.model.ngram import MOST_TOKENS, NgramModel
from tslens.model.story_model import StoryModel
from tslens.probes.held_out import HeldOut
from tslens.run_folder import RunFolder
from tslens.types import Provenance

ORDERS = range(1, 6)
MAX_TOKENS = 200  # of a text that is graded
LEAST_CHECKPOINTS = 3


@dataclass(frozen=True)
class Wanted:
    """What the options ask for. ``samples``: texts of each prompt that are graded, 0 for none."""

    stories: str | None
    n_stories: int
    n_pairs: int
    n_positions: int
    probes: tuple[str, ...]
    n_explain: int
    samples: int
    seed: int
    device: str


def read_runs(
    folders: Sequence[Path], wanted: Wanted, out: Path | None, record: Callable[[str, str], Provenance]
) -> tuple[dict[str, list[AtStep]], list[Path]]:
    """The readings of every checkpoint of every run, by the run's label; and the files that hold them."""
    found: dict[str, list[AtStep]] = {}
    files: list[Path] = []
    _check_seeds(folders)
    ngrams: dict[str, dict[int, NgramModel]] = {}
    warned: set[str] = set()
    for folder in folders:
        run = RunFolder(folder)
        label = run.label()
        steps = checkpoints_of(run)
        path = (out or run.results("emergence")) / (f"{label}.jsonl" if out else "readings.jsonl")
        check_writable(path.parent)
        source = find_model(folder)
        model = open_model(source, device=wanted.device)
        tokenizer = model.tokenizer
        if tokenizer is None:
            raise ModelError(f"{folder} has no tokenizer.", "Restore its tokenizer.json.")
        held_out = HeldOut(model, wanted.stories, wanted.n_stories)
        stories = list(held_out)
        header: dict[str, Any] = {
            "model": label,
            "stories": held_out.source,
            "data_sha256": held_out.sha256,
            **{
                name: value
                for name, value in vars(wanted).items()
                if name not in ("device", "stories", "probes")
            },
            "probes": list(wanted.probes),
        }
        done = kept_steps(path, header)
        read_before = {one.step: one for one in done}
        to_grade = {
            step
            for step in (steps if wanted.samples else ())
            if run.is_better_than_ngram(step) and not _is_graded(read_before.get(step))
        }
        say(f"{label}: {len(steps)} checkpoints, {len(done)} read before, {len(to_grade)} to be graded")
        missing = [step for step in steps if step not in read_before]
        if missing:
            if tokenizer.sha256 not in ngrams:
                say("counting n-grams of the same data")
                ngrams[tokenizer.sha256] = count_ngrams(model, tokenizer, source)
            asked = Asked(
                stories,
                make_readouts(
                    tokenizer,
                    n_ctx=model.cfg.n_ctx,
                    instruct=False,
                    seed=wanted.seed,
                    n_pairs=wanted.n_pairs,
                ),
                ngrams[tokenizer.sha256],
                choose_positions(model, stories, n=wanted.n_positions, seed=wanted.seed),
                wanted.probes,
                wanted.n_explain,
                wanted.seed,
            )
        with progress_bar(label, len(steps)) as (bar, task):
            for number, step in enumerate(steps):
                if step in missing or step in to_grade:
                    bar.update(task, completed=number, note=f"step {step:,}")
                    one = open_model(find_model(run.checkpoint(step)), device=wanted.device)
                    before = read_before.get(step)
                    readings = list(before.readings) if before else _read_once_warned(one, asked, warned)
                    readings += grades_of(one, wanted) if step in to_grade else []
                    read_before[step] = AtStep(step, run.tokens_at(step), tuple(readings))
                    done = [read_before[known] for known in sorted(read_before)]
                    save_trace(done, path, header, record(held_out.source, held_out.sha256))
        found[label] = [read_before[step] for step in sorted(read_before)]
        files.append(path)
    return found, files


def _read_once_warned(model: StoryModel, asked: Asked, warned: set[str]) -> list[Reading]:
    """The readings of a checkpoint; what it warns of is said once for all checkpoints. ``warned``: what was said."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = read_checkpoint(model, asked)
    for one in told:
        if str(one.message) not in warned:
            warned.add(str(one.message))
            say(f"warning: {one.message} More with --n-stories.")
    return found


def _check_seeds(folders: Sequence[Path]) -> None:
    """Raises UsageError for runs of several models, or two of one name: only seeds of one model tell an order."""
    labels = [RunFolder(folder).label() for folder in folders]
    models = sorted({label.partition("@")[0] for label in labels})
    if len(models) > 1:
        raise UsageError(
            f"The runs are of several models: {', '.join(models)}.", "Give the seeds of one model."
        )
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise UsageError(f"Two runs are called {twice}.", "Give each seed once.")


def checkpoints_of(run: RunFolder) -> list[int]:
    """Steps of the kept checkpoints. Raises RunError for fewer than three."""
    found = [int(path.stem.removeprefix("step_")) for path in run.step_checkpoints()]
    if len(found) < LEAST_CHECKPOINTS:
        raise RunError(
            f"{run.path} keeps {len(found)} checkpoints: too few for a timeline.",
            "Train it with: tslens train",
        )
    return found


def kept_steps(path: Path, header: dict[str, Any]) -> list[AtStep]:
    """Readings of an earlier run that asked for the same."""
    try:
        found, steps = load_trace(path)
    except DataError:
        return []
    return steps if all(found.get(name) == value for name, value in header.items()) else []


def count_ngrams(model: StoryModel, tokenizer: TextTokenizer, source: ModelSource) -> dict[int, NgramModel]:
    """N-grams of every order, counted on what the model was trained on."""
    counted, n_tokens = [], 0
    for story in stories_like(model, tokenizer, source).train:
        counted.append(story)
        n_tokens += len(story) - 1
        if n_tokens >= MOST_TOKENS:
            break
    return {order: NgramModel.fit(counted, vocab_size=tokenizer.vocab_size, order=order) for order in ORDERS}


def _is_graded(step: AtStep | None) -> bool:
    return step is not None and any(one.kind == "grade" for one in step.readings)


def grades_of(model: StoryModel, wanted: Wanted) -> list[Reading]:
    """Grades by the local judge of what a checkpoint writes on the package's beginnings."""
    texts = write_completions(
        model,
        load_beginnings(),
        samples=wanted.samples,
        max_tokens=MAX_TOKENS,
        temperature=1.0,
        seed=wanted.seed,
    )
    with open_judge(None, None, Path("emergence")) as judge:
        outcomes = judge.grade(texts)
    graded = GradedModel("", {"prompts": "beginnings"}, outcomes)
    return [of_measured(name, "grade", one) for name, one in of_grades(graded).items()]
