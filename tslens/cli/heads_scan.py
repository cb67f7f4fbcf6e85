"""A scan of one model from its source to files: what ``tslens heads`` does between two prints, and studies as well."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tslens.model.load import ModelSource, open_model
from tslens.model.loss import LossReport
from tslens.model.story_model import StoryModel
from tslens.probes.base import Probe
from tslens.probes.held_out import HeldOut, loss_on
from tslens.probes.results import save_head_scores
from tslens.probes.scan import score_heads
from tslens.probes.verdict import HeadsReport
from tslens.provenance import provenance, utc_now
from tslens.types import Provenance
from tslens.viz.atlas import write_atlas


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


@dataclass(frozen=True)
class HeadsScan:
    """What was measured, of what, and where it comes from. ``probes``: those that were chosen."""

    opened: Opened
    probes: Sequence[Probe]
    report: HeadsReport
    record: Provenance

    @property
    def model(self) -> StoryModel:
        """The model that was scanned."""
        return self.opened.model

    @property
    def source(self) -> ModelSource:
        """Where the model comes from."""
        return self.opened.source

    def save(self, path: Path) -> None:
        """Write the rows and their provenance."""
        save_head_scores(
            self.report, path, model=self.source.label, checkpoint=self.source.path.name, record=self.record
        )


def open_for_scan(source: ModelSource, stories: str | None, n_stories: int, *, device: str) -> Opened:
    """Open a model and its held-out stories, and read its loss on the first of them.

    ``stories``: a source, None for the offline author's. Raises what loading and reading raise.
    """
    started, clock = utc_now(), time.monotonic()
    model = open_model(source, device=device)
    held_out = HeldOut(model, stories, n_stories)
    return Opened(source, model, held_out, loss_on(model, held_out.first), started, clock)


def scan_heads(
    opened: Opened,
    *,
    probes: Sequence[Probe],
    asked: bool,
    n_explain: int,
    seed: int,
    command: str,
    progress: Callable[[int], None] = lambda n_stories: None,
    explaining: Callable[[int], None] = lambda n_stories: None,
) -> HeadsScan:
    """Score all heads of an opened model; its stories are read once.

    ``asked``: whether the probes were chosen by name; then none is left out for want of labels. ``command``: for the
    record. ``n_explain``, ``progress``, ``explaining``: as for ``score_heads``, which says what it raises.
    """
    held_out = opened.held_out
    report = score_heads(
        opened.model,
        held_out,
        seed=seed,
        probes=probes if asked else None,
        n_explain=n_explain,
        others=held_out.others,
        progress=progress,
        explaining=explaining,
    )
    record = provenance(
        command=command,
        seed=seed,
        data=held_out.source,
        data_sha256=held_out.sha256,
        started=opened.started,
        seconds=time.monotonic() - opened.clock,
    )
    return HeadsScan(opened, probes, report, record)


def validation_beside(source: ModelSource) -> str:
    """The validation figure of a model and its 4-gram's, as in ``validation 1.021, 4-gram 1.078``; or nothing."""
    known = source.validation_bits()
    if known is None:
        return ""
    ngram = source.ngram_bits()
    return f"validation {known:.3f}" + (f", 4-gram {ngram:.3f}" if ngram is not None else "")


def write_page(path: Path, scan: HeadsScan) -> None:
    """The HTML page, with the patterns of the paper's paragraph and of the first stories."""
    first = scan.opened.held_out.first
    write_atlas(path, scan.report, scan.model, first, name=scan.source.label, header=page_header(scan))


def page_header(scan: HeadsScan) -> dict[str, str]:
    """Facts for the head and the foot of the page."""
    report, record = scan.report, scan.record
    beside = validation_beside(scan.source)
    causes = f"on {report.n_explained} stories" if report.n_explained else "not tested"
    agrees = report.agreement.get("edge~zero")
    return {
        "stories": f"{report.n_stories} of {record.data}",
        "bits per byte": f"{scan.opened.loss.bits_per_byte:.3f} on the first {len(scan.opened.held_out.first)}",
        **({"in training": beside} if beside else {}),
        "causes tested": causes,
        **({"edges and zero ablation": f"rank correlation {agrees:.2f}"} if agrees is not None else {}),
        **({"probes left out, for want of labels": ", ".join(report.left_out)} if report.left_out else {}),
        "seed": str(report.seed),
        "version": record.version,
        "command": record.command,
        "data sha256": record.data_sha256,
    }
