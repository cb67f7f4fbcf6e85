"""A scan of one model from its source to files: what ``tslens heads`` does between two prints, and studies as well."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from tslens.model.load import ModelSource, open_model
from tslens.model.loss import LossReport
from tslens.model.story_model import StoryModel
from tslens.probes.base import Probe
from tslens.probes.held_out import HeldOut, loss_on
from tslens.probes.results import save_head_scores
from tslens.probes.scan import score_heads
from tslens.probes.verdict import HeadsReport
from tslens.provenance import provenance, utc_now
from tslens.types import HeadId, Provenance, Story
from tslens.viz.heads_page import write_heads_page
from tslens.viz.heads_words import ScanFacts
from tslens.viz.paragraph import read_paragraph
from tslens.viz.patterns import ExamplePattern

N_EXAMPLES, EXAMPLE_TOKENS = 2, 80
CANNOT_TELL = (
    "What a head writes: the probes read where it looks, and what the loss does when it may not look there.",
    "That a head has no other role: only the probes listed here were run, and a role is of one probe at one position.",
    "That a role is not shared: where two heads do the same, taking one away may cost nothing.",
    "That the heads of the figure are the paper's: they are this model's, and one paragraph has no null.",
    "Anything about other seeds, sizes or texts: these are figures of one trained model on these stories.",
)


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
    report, first = scan.report, scan.opened.held_out.first[:N_EXAMPLES]
    floors = {"half": report.floor / 2, "floor": report.floor, "double": report.floor * 2}
    write_heads_page(
        path,
        title=f"Attention heads of {scan.source.label}",
        model=scan.source.label,
        header=page_header(scan),
        rows=report.scores,
        probes=report.probes,
        facts=ScanFacts(
            floor=report.floor,
            served={probe.name: probe.served for probe in scan.probes},
            n_explained=report.n_explained,
        ),
        counts={
            f"{'the floor' if k == 'floor' else k + ' the floor'} ({floors[k]:g})": n
            for k, n in report.counts_at_floors.items()
        },
        distance_profiles=report.distance_profiles,
        examples=[example_pattern(scan.model, story, i) for i, story in enumerate(first)],
        cannot_tell=CANNOT_TELL,
        paragraph=read_paragraph(scan.model),
        agreement=report.agreement,
    )


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


def example_pattern(model: StoryModel, story: Story, index: int) -> ExamplePattern:
    """Patterns of all heads on the beginning of a story."""
    tokenizer = model.tokenizer
    assert tokenizer is not None  # or the scan had been refused
    ids = [tokenizer.start_id, *tokenizer.encode(story.text)][:EXAMPLE_TOKENS]
    tokens = torch.tensor([ids], device=model.device)
    with torch.inference_mode():
        patterns = {
            HeadId(layer, head): pattern[0, head].float().cpu().numpy()
            for layer, pattern in enumerate(model.attention_patterns(tokens))
            for head in range(model.cfg.n_heads)
        }
    return ExamplePattern(f"Story {index + 1}", tokenizer.token_strings(ids), patterns)
