"""A model and the stories that it is measured on: what ``tslens heads`` and ``tslens neurons`` begin and end with."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

from tslens.cli.console import say
from tslens.model.load import ModelSource, open_model
from tslens.model.loss import LossReport
from tslens.model.story_model import StoryModel
from tslens.probes.held_out import HeldOut, loss_on
from tslens.provenance import provenance, utc_now
from tslens.types import Provenance

MUCH_WORSE = 1.5  # times the validation bits per byte: the stories are not what the model learned


@dataclass(frozen=True)
class Opened:
    """A model and its stories, ready to be scanned.

    ``loss``: of the model on the first stories, up to 200. ``started``, ``clock``: when it was opened, in UTC and on a
    monotonic clock.
    """

    source: ModelSource
    model: StoryModel
    held_out: HeldOut
    loss: LossReport
    started: str
    clock: float


def open_for_scan(source: ModelSource, stories: str | None, n_stories: int, *, device: str) -> Opened:
    """Open a model and its held-out stories, and read its loss on the first of them.

    ``stories``: a source, None for the offline author's. Raises what loading and reading raise.
    """
    started, clock = utc_now(), time.monotonic()
    model = open_model(source, device=device)
    held_out = HeldOut(model, stories, n_stories)
    return Opened(source, model, held_out, loss_on(model, held_out.first), started, clock)


def record_of(opened: Opened, *, command: str, seed: int) -> Provenance:
    """Where a result comes from, when it is there."""
    return provenance(
        command=command,
        seed=seed,
        data=opened.held_out.source,
        data_sha256=opened.held_out.sha256,
        started=opened.started,
        seconds=time.monotonic() - opened.clock,
    )


def validation_beside(source: ModelSource) -> str:
    """The validation figure of a model and its 4-gram's, as in ``validation 1.021, 4-gram 1.078``; or nothing."""
    known = source.validation_bits()
    if known is None:
        return ""
    ngram = source.ngram_bits()
    return f"validation {known:.3f}" + (f", 4-gram {ngram:.3f}" if ngram is not None else "")


def say_loss(opened: Opened) -> None:
    """Bits per byte on the stories; a warning where the model does much worse than on its own kind."""
    source, loss, n_stories = opened.source, opened.loss, len(opened.held_out.first)
    beside = validation_beside(source)
    beside = f" ({beside})" if beside else ""
    say(f"bits per byte on the first {n_stories} stories: {loss.bits_per_byte:.3f}{beside}")
    known = source.validation_bits()
    if known is not None and loss.bits_per_byte > MUCH_WORSE * known:
        say(
            f"warning: that is over {MUCH_WORSE} times the validation figure. The model never learned such stories; "
            "give the kind it was trained on with --stories."
        )


def say_stories(opened: Opened, n_stories: int, n_cut: int = 0) -> None:
    """How many stories were read, and what was left out."""
    n_excluded = opened.held_out.n_excluded
    left_out = f", {n_excluded} training stories left out" if n_excluded else ""
    if not opened.model.train_digests:
        left_out = "; what it was trained on is not known, so nothing was left out"
    cut = f", {n_cut} cut at {opened.model.cfg.n_ctx} tokens" if n_cut else ""
    say(f"stories: {n_stories} of {opened.held_out.source}{cut}{left_out}")


def file_name(opened: Opened, n_stories: int, seed: int, asked: str = "", *, named: bool = False) -> str:
    """Of the results: stories, checkpoint, how many, seed, and what was asked for if that is not everything.

    A file of stories is told from another of that name by its hash. ``named``: say which model as well, where the
    folder does not.
    """
    stem = opened.held_out.source.replace(":", "-").replace("/", "-")
    for ending in (".gz", ".jsonl", ".txt", ".parquet"):
        stem = stem.removesuffix(ending)
    if Path(opened.held_out.source).exists():
        stem += f"-{opened.held_out.sha256[:6]}"
    model = re.sub(r"[^\w.@-]", "-", opened.source.label) + "_" if named else ""
    return f"{model}{stem}_{opened.source.path.stem}_n{n_stories}_seed{seed}{asked}.jsonl"
