"""All heads of a model by weights, from its source to files: what ``tslens weights`` does between two prints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tslens.cli.opening import Opened, record_of
from tslens.errors import UsageError
from tslens.model.load import ModelSource
from tslens.probes.results import load_head_scores
from tslens.probes.weights.report import WeightsReport
from tslens.probes.weights.results import save_weights
from tslens.probes.weights.score import score_weights
from tslens.types import HeadScore, Provenance


@dataclass(frozen=True)
class Attention:
    """Attention scores of a model and the file they are from."""

    scores: Sequence[HeadScore]
    path: Path


@dataclass(frozen=True)
class WeightsScan:
    """What was measured, of what, and where it comes from. ``heads``: where the attention scores are from."""

    opened: Opened
    report: WeightsReport
    heads: str
    record: Provenance

    def save(self, path: Path) -> None:
        """Write rows, rank correlations and provenance."""
        source = self.opened.source
        save_weights(
            self.report,
            path,
            model=source.label,
            checkpoint=source.path.name,
            heads=self.heads,
            record=self.record,
        )


def read_attention(path: Path, source: ModelSource) -> Attention:
    """Scores that ``tslens heads`` wrote. Raises UsageError if they are of another model, DataError if broken."""
    header, scores = load_head_scores(path)
    if (header["model"], header["checkpoint"]) != (source.label, source.path.name):
        raise UsageError(
            f"{path} is of {header['model']} ({header['checkpoint']}), not of {source.label} ({source.path.name}).",
            "Give the scores of this model, or leave out --heads.",
        )
    return Attention(scores, path)


def scan_weights(
    opened: Opened,
    *,
    probes: Sequence[str] | None = None,
    attention: Attention | None,
    n_explain: int,
    seed: int,
    command: str,
    progress: Callable[[str, int, int], None] = lambda part, done, total: None,
) -> WeightsScan:
    """Score all heads of an opened model; its stories are read once.

    ``attention``: None to scan here. ``command``: for the record. The rest as for ``score_weights``, which says what it
    raises.
    """
    held_out = opened.held_out
    report = score_weights(
        opened.model,
        held_out,
        seed=seed,
        probes=probes,
        heads=None if attention is None else attention.scores,
        n_explain=n_explain,
        others=held_out.others,
        progress=progress,
    )
    heads = "scanned on the same stories" if attention is None else attention.path.name
    return WeightsScan(opened, report, heads, record_of(opened, command=command, seed=seed))
