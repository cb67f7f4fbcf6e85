"""``tslens audit heads``: does the scan find what is there, and refuse what is not?

Five parts: planted attention (``planted``), heads with hand-set weights (``hand_set``), decoys (``decoys``), random
models (``random_models``), and trained models with labels shifted (``shifted``). Each ends in checks against shares
that were written down before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count

from tslens.audit.decoys import audit_decoys
from tslens.audit.hand_set import audit_hand_set
from tslens.audit.planted import BASES, CLEAR, FAINT, STRENGTHS, Base, audit_planted
from tslens.audit.random_models import audit_random_models
from tslens.audit.report import AuditReport, Findings, Part
from tslens.audit.shifted import audit_shifted
from tslens.corpus.author import write_stories
from tslens.model.load import load_model
from tslens.probes.base import Probe, choose_probes
from tslens.types import Story

PARTS: tuple[Part, ...] = ("planted", "decoys", "hand-set", "random", "shifted")
SMALL_MODEL = "shipped:l1_h64"
REDRAWN_MODEL = "shipped:l2_h128"  # a shape that has an atlas
TRAINED_MODELS = ("shipped:l1_h256", "shipped:l2_h128")
FIRST_STORY_SEED = 10_000  # of the author; the shipped models learned from stories of other seeds


@dataclass(frozen=True)
class AuditSize:
    """How much is run. ``n_stories``: of planted heads, decoys, hand-set heads and shifted labels;
    ``n_random_stories``: of each of the ``n_random`` models; ``n_seeds``: draws of decoys and shifts.
    """

    n_stories: int
    strengths: tuple[float, ...]
    bases: tuple[Base, ...]
    n_seeds: int
    n_random: int
    n_random_stories: int


FULL = AuditSize(200, STRENGTHS, BASES, 2, 40, 60)
QUICK = AuditSize(100, (FAINT, CLEAR), ("near",), 1, 8, 40)


def audit_heads(
    *,
    seed: int,
    parts: Sequence[Part] = PARTS,
    size: AuditSize = FULL,
    probes: Sequence[str | Probe] | None = None,
    progress: Callable[[Part, int], None] = lambda part, n_scans: None,
) -> AuditReport:
    """Run parts of the audit; ``progress`` is told the part and how many of its scans are done.

    ``probes``: those to audit, all of the package if None. What could not be run is named in the report.
    """
    chosen = choose_probes(probes)
    findings = []
    for part in parts:
        counter = count(1)

        def one_more(part: Part = part, counter: Iterator[int] = counter) -> None:
            progress(part, next(counter))

        findings.append(_run(part, chosen, size, seed, one_more))
    return AuditReport(
        cases=tuple(chain.from_iterable(found.cases for found in findings)),
        checks=tuple(chain.from_iterable(found.checks for found in findings)),
        missing=tuple(chain.from_iterable(found.missing for found in findings)),
        seed=seed,
        stories=f"author:{max(size.n_stories, size.n_random_stories)}:{FIRST_STORY_SEED + seed}",
    )


def audit_stories(n_stories: int, *, seed: int) -> list[Story]:
    """Stories of the author with gold labels that no shipped model was trained on."""
    return list(write_stories(n_stories, seed=FIRST_STORY_SEED + seed))


def n_scans(part: Part, size: AuditSize) -> int:
    """Scans that a part takes, the annotator's included."""
    n_bases = len(size.bases)
    return {
        "planted": n_bases * (len(size.strengths) + (CLEAR in size.strengths)),
        "decoys": n_bases * size.n_seeds,
        "hand-set": 1,
        "random": size.n_random,
        "shifted": len(TRAINED_MODELS) * size.n_seeds,
    }[part]


def _run(
    part: Part, probes: list[Probe], size: AuditSize, seed: int, progress: Callable[[], None]
) -> Findings:
    n_stories = size.n_random_stories if part == "random" else size.n_stories
    stories = audit_stories(n_stories, seed=seed)
    if part == "shifted":
        models = {name: load_model(name) for name in TRAINED_MODELS}
        return audit_shifted(stories, models, probes, seed=seed, n_seeds=size.n_seeds, progress=progress)
    small = load_model(SMALL_MODEL)
    tokenizer = small.tokenizer
    assert tokenizer is not None  # shipped models have one
    if part == "planted":
        return audit_planted(
            stories,
            tokenizer,
            probes,
            seed=seed,
            strengths=size.strengths,
            bases=size.bases,
            progress=progress,
        )
    if part == "decoys":
        return audit_decoys(
            stories, tokenizer, probes, seed=seed, n_seeds=size.n_seeds, bases=size.bases, progress=progress
        )
    if part == "hand-set":
        return audit_hand_set(stories, tokenizer, probes, seed=seed, progress=progress)
    redrawn = load_model(REDRAWN_MODEL)
    return audit_random_models(
        stories, tokenizer, redrawn, probes, seed=seed, n_models=size.n_random, progress=progress
    )
