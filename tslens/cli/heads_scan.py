"""A scan of one model from its source to files: what ``tslens heads`` does between two prints, and studies as well."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tslens.cli.opening import Opened, record_of, validation_beside
from tslens.model.load import ModelSource
from tslens.model.story_model import StoryModel
from tslens.probes.base import Probe
from tslens.probes.results import save_head_scores
from tslens.probes.scan import score_heads
from tslens.probes.verdict import HeadsReport
from tslens.types import Provenance
from tslens.viz.atlas import write_atlas


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
    return HeadsScan(opened, probes, report, record_of(opened, command=command, seed=seed))


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
