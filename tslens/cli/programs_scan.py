"""Programs of one model from its source to files: what ``tslens programs`` does between two prints, and studies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tslens.cli.opening import Opened, record_of
from tslens.errors import DataError
from tslens.probes.programs.report import ProgramsReport
from tslens.probes.programs.results import save_programs
from tslens.probes.programs.score import Progress, score_programs
from tslens.probes.results import load_head_scores
from tslens.probes.scan import score_heads
from tslens.stats import second_half
from tslens.types import HeadScore, Provenance

LABEL_EXPLAIN = 60  # stories of a scan of heads, where no saved scores are given, on which causes are tested


@dataclass(frozen=True)
class ProgramsScan:
    """What was measured, of what, and where it comes from."""

    opened: Opened
    report: ProgramsReport
    record: Provenance

    def save(self, path: Path) -> None:
        """Write the rows and their provenance."""
        source = self.opened.source
        save_programs(self.report, path, model=source.label, checkpoint=source.path.name, record=self.record)


def saved_scores(path: Path, opened: Opened) -> list[HeadScore]:
    """Scores of heads from a file of ``tslens heads``. Raises DataError if they are of another model."""
    header, scores = load_head_scores(path)
    source = opened.source
    if (header["model"], header["checkpoint"]) != (source.label, source.path.name):
        raise DataError(
            f"{path} holds the heads of {header['model']} ({header['checkpoint']}), not of {source.label} "
            f"({source.path.name}).",
            "Give the scores of this model, or none: then its heads are scanned first.",
        )
    return scores


def scan_scores(
    opened: Opened, *, seed: int, progress: Progress = lambda what, n_stories: None
) -> Sequence[HeadScore]:
    """Scores of heads by a scan of stories of the fitting half, up to 200 stories in all; causes on fewer."""
    stories = [story for story in opened.held_out.first if not second_half(story.digest)]
    report = score_heads(
        opened.model,
        stories,
        seed=seed,
        n_explain=LABEL_EXPLAIN,
        others=opened.held_out.others,
        progress=lambda n: progress("scanning heads", n),
        explaining=lambda n: progress("explaining heads", n),
    )
    return report.scores


def scan_programs(
    opened: Opened,
    *,
    scores: Sequence[HeadScore],
    n_tokens: int,
    n_swap: int,
    seed: int,
    command: str,
    progress: Progress = lambda what, n_stories: None,
) -> ProgramsScan:
    """Fit, read and swap all programs of an opened model; its stories are read once.

    ``command``: for the record. The rest as for ``score_programs``, which says what it raises.
    """
    report = score_programs(
        opened.model,
        opened.held_out,
        seed=seed,
        scores=scores,
        n_tokens=n_tokens,
        n_swap=n_swap,
        progress=progress,
    )
    return ProgramsScan(opened, report, record_of(opened, command=command, seed=seed))
