"""The atlas: the page of a report on heads, with the patterns of the paper's paragraph and of the first stories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from tslens.model.story_model import StoryModel
from tslens.probes.verdict import HeadsReport
from tslens.types import HeadId, Story
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


def write_atlas(
    path: str | Path,
    report: HeadsReport,
    model: StoryModel,
    stories: Sequence[Story],
    *,
    name: str,
    header: Mapping[str, str] | None = None,
) -> None:
    """Write the page of a report: one HTML file, nothing from the network.

    ``stories``: the first two are shown. ``name``: of the model. ``header``: further facts, as name and value.
    Raises RunError where ``path`` cannot be written.
    """
    floors = {"half": report.floor / 2, "floor": report.floor, "double": report.floor * 2}
    write_heads_page(
        Path(path),
        title=f"Attention heads of {name}",
        model=name,
        header=header or {"stories": str(report.n_stories), "seed": str(report.seed)},
        rows=report.scores,
        probes=report.probes,
        facts=ScanFacts(
            floor=report.floor,
            served=report.served,
            n_explained=report.n_explained,
            n_counted=report.n_counted,
        ),
        counts={
            f"{'the floor' if k == 'floor' else k + ' the floor'} ({floors[k]:g})": n
            for k, n in report.counts_at_floors.items()
        },
        distance_profiles=report.distance_profiles,
        examples=[example_pattern(model, story, i) for i, story in enumerate(stories[:N_EXAMPLES])],
        cannot_tell=CANNOT_TELL,
        paragraph=read_paragraph(model),
        agreement=report.agreement,
    )


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
