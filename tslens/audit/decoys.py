"""Decoys: planted heads that do no relation's job but meet its words often. A relational probe must refuse them.

``nouns``: all earlier nouns evenly. ``frequent``: all earlier uses of the most frequent words, marks excepted.
``offset_N``: the token N places back, for the two distances at which each relation's target stands most often.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tslens.audit.planted import BASES, Base, PlantedHead, PlantedHeads
from tslens.audit.report import POSITIVE, Case, Check, Findings, case_of, most_suspicious, share
from tslens.audit.scanning import scan
from tslens.audit.truth import decoy_edges
from tslens.corpus.text_tokenizer import TextTokenizer
from tslens.model.spec import N_CTX
from tslens.probes.base import Probe
from tslens.probes.batch import batch_of_stories
from tslens.probes.relation import RelationProbe
from tslens.probes.scan import calibrate
from tslens.probes.units import LabelNeeds
from tslens.types import HeadId, Story

STRENGTHS = (0.3, 0.6, 1.0)
N_FREQUENT = 20
N_OFFSETS = 2  # most frequent ones of each relation and position
REFUSED = 0.95
KINDS = ("nouns", "frequent", "offset")


def audit_decoys(
    stories: Sequence[Story],
    tokenizer: TextTokenizer,
    probes: Sequence[Probe],
    *,
    seed: int,
    n_seeds: int,
    bases: Sequence[Base] = BASES,
    strengths: Sequence[float] = STRENGTHS,
    progress: Callable[[], None] = lambda: None,
) -> Findings:
    """Share of decoys, by kind, that no relational probe of ``probes`` takes for a candidate.

    Each decoy comes in several strengths over every base, with ``n_seeds`` draws of the noise. Only relational probes
    run, so that intervals are corrected for fewer rows than in a whole scan: a decoy passes more easily.
    """
    related = [probe for probe in probes if isinstance(probe, RelationProbe)]
    offsets = frequent_offsets(stories, tokenizer, related)
    edges = decoy_edges(stories, tokenizer, offsets, n_ctx=N_CTX, n_frequent=N_FREQUENT)
    decoys = ["nouns", "frequent", *(f"offset_{offset}" for offset in offsets)]
    cases: list[Case] = []
    refused: dict[str, list[bool]] = {kind: [] for kind in KINDS}
    for base in bases:
        for index in range(n_seeds):
            heads = [PlantedHead((name, "word"), base, strength) for name in decoys for strength in strengths]
            model = PlantedHeads(heads, edges, tokenizer, seed=seed + 1000 * index)
            scores = scan(model, stories, related, seed=seed + 1000 * index).scores
            for number, head in enumerate(heads):
                mine = [score for score in scores if score.head == HeadId(0, number)]
                name = head.target[0]
                refused[name.split("_")[0]] += [score.status not in POSITIVE for score in mine]
                worst = most_suspicious(mine)
                cases.append(case_of("decoys", name, worst, base=base, strength=head.strength))
            progress()
    return Findings(tuple(cases), tuple(_check(kind, cases, refused[kind]) for kind in KINDS))


def frequent_offsets(
    stories: Sequence[Story], tokenizer: TextTokenizer, related: Sequence[RelationProbe]
) -> list[int]:
    """Distances at which targets of the relations stand most often, ascending."""
    batch = batch_of_stories(stories, tokenizer, n_ctx=N_CTX, labels=LabelNeeds(scheme=True))
    found = calibrate([batch], related, tokenizer.vocab_size, window=None).offsets
    return sorted({offset for distances in found.values() for offset in distances[:N_OFFSETS]})


def _check(kind: str, cases: Sequence[Case], rows_refused: Sequence[bool]) -> Check:
    mine = [case for case in cases if case.truth.split("_")[0] == kind]
    of_rows = share(rows_refused)
    note = "" if of_rows is None else f"{of_rows:.4f} of {len(rows_refused)} rows"
    return Check(
        "decoys",
        f"{kind} refused",
        "at least",
        REFUSED,
        share([not case.is_positive for case in mine]),
        len(mine),
        note,
    )
