"""Heads whose attention is planted: what the scan finds where the truth is known to the last edge.

A planted head is a base, which knows distances or nothing, mixed with attention to the keys of a relation:

    pattern[query] = (1 - strength) * base[query] + strength * (even attention to the query's keys)

and the base alone where a query has no key. In each story every head likes some tokens better than others: its base is
multiplied by an exponential number for each key and normalised, so that no contrast is free of noise. The random twins
are such bases. Probes then read these patterns through ``score_heads``, first with gold labels, then with those that
the annotator gives the same texts; what was planted stays gold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tslens.audit.report import LEAST_ASKED, Case, Check, Findings, case_of, share
from tslens.audit.scanning import scan
from tslens.audit.truth import Edges, RowEdges, Target, probe_edges, relation_edges, row_name
from tslens.corpus.annotate import annotate
from tslens.corpus.annotation.cache import AnnotationCache
from tslens.corpus.text_tokenizer import TextTokenizer
from tslens.model.attention import Pattern, Scratch
from tslens.model.spec import N_CTX
from tslens.model.story_model import TwinKind
from tslens.probes.base import Probe
from tslens.probes.batch import batch_of_stories
from tslens.probes.labels import parser_is_missing
from tslens.probes.relation import RelationProbe
from tslens.probes.scan import calibrate
from tslens.stats import MIN_CLUSTERS
from tslens.types import HeadId, Story

Base = Literal["uniform", "near", "resting"]
BASES: tuple[Base, ...] = ("uniform", "near", "resting")
REACH = 6.0  # tokens: attention of a near base falls by e over this distance
STRENGTHS = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
CLEAR, FAINT = 0.3, LEAST_ASKED  # strengths at which recall is asked for
GOLD_RECALL, ANNOTATED_RECALL, FAINT_RECALL = 0.98, 0.90, 0.80


@dataclass(frozen=True)
class PlantedHead:
    """One head: what it looks at, over which base, how strongly."""

    target: Target
    base: Base
    strength: float


class PlantedHeads:
    """One layer of planted heads, in place of a model where only patterns are asked for.

    ``edges``: what the heads look at, for every row of tokens that will be read; in other rows they are bases.
    """

    def __init__(
        self,
        heads: Sequence[PlantedHead],
        edges: RowEdges,
        tokenizer: TextTokenizer,
        *,
        seed: int,
        kind: str = "planted",
    ) -> None:
        self.heads, self.edges, self.tokenizer = tuple(heads), edges, tokenizer
        self._noise = f"{kind} {seed}".encode()
        self.train_digests: Set[int] = frozenset()
        self.device = torch.device("cpu")
        self.cfg = SimpleNamespace(
            n_layers=1,
            n_heads=len(self.heads),
            d_model=1,
            n_ctx=N_CTX,
            d_vocab=tokenizer.vocab_size,
            device="cpu",
        )

    def window(self, layer: int) -> None:
        """Every query sees all before it."""

    def list_hooks(self) -> Mapping[str, Any]:
        """There are none."""
        return {}

    def random_twin(self, kind: TwinKind, *, seed: int) -> PlantedHeads:
        """The bases with noise of their own, and nothing planted."""
        return PlantedHeads(self.heads, {}, self.tokenizer, seed=seed, kind=kind)

    def attention_patterns(
        self, tokens: Int[Tensor, "story pos"], scratch: Scratch | None = None
    ) -> Iterator[Pattern]:
        """The one layer."""
        rows, n_pos = tokens.numpy(), tokens.shape[1]
        names = [row_name(row) for row in rows]
        kernels = {base: _kernel(base, n_pos) for base in {head.base for head in self.heads}}
        pattern = torch.stack([kernels[head.base] for head in self.heads]) * self._liking(names, n_pos)
        pattern /= pattern.sum(-1, keepdim=True)
        for index, head in enumerate(self.heads):
            for row, name in enumerate(names):
                edges = self.edges.get(name, {}).get(head.target)
                if edges is not None and len(edges.query):
                    _plant(pattern[row, index], edges, head.strength)
        yield pattern

    def _liking(self, names: Sequence[bytes], n_pos: int) -> Float[Tensor, "row head 1 key"]:
        """How much each head likes each token of each row: exponential, the same however a row is padded."""
        liking = torch.ones(len(names), len(self.heads), 1, n_pos)
        for row, name in enumerate(names):
            drawn = hashlib.blake2b(name, digest_size=7, key=self._noise).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(drawn, "little"))
            n_real = len(name) // 8
            liking[row, :, 0, :n_real] = (
                torch.empty(n_real, len(self.heads)).exponential_(generator=generator).T
            )
        return liking


def _kernel(base: Base, n_pos: int) -> Float[Tensor, "query key"]:
    """Attention of a base before any noise; causal, rows sum to 1."""
    pos = torch.arange(n_pos)
    distance = pos[:, None] - pos
    even = (distance >= 0).float()
    near = torch.where(distance >= 0, torch.exp(-distance.clamp(min=0) / REACH), 0.0)
    even, near = even / even.sum(1, keepdim=True), near / near.sum(1, keepdim=True)
    if base == "uniform":
        return even
    if base == "near":
        return near
    first = torch.zeros(n_pos, n_pos)
    first[:, 0] = 1.0
    return 0.5 * first + 0.25 * near + 0.25 * even


def _plant(pattern: Float[Tensor, "query key"], edges: Edges, strength: float) -> None:
    """Move ``strength`` of the attention of each query that has keys onto them, evenly; in place."""
    asking, at, n_keys = np.unique(edges.query, return_inverse=True, return_counts=True)
    pattern[torch.from_numpy(asking)] *= 1 - strength
    weight = torch.from_numpy(strength / n_keys[at]).float()
    pattern[torch.from_numpy(edges.query), torch.from_numpy(edges.key)] += weight


# The audit --------------------------------------------------------------------------------------------------


def audit_planted(
    stories: Sequence[Story],
    tokenizer: TextTokenizer,
    probes: Sequence[Probe],
    *,
    seed: int,
    strengths: Sequence[float] = STRENGTHS,
    bases: Sequence[Base] = BASES,
    progress: Callable[[], None] = lambda: None,
) -> Findings:
    """Recall of every probe on heads that do its job, by strength and base; ``progress``: after each scan.

    ``stories``: with gold labels. Each scan holds one head for each probe and position, all of one strength and
    base. The annotator's labels are read at the strength at which they are asked about. Recall leaves out cases with a
    query in fewer than 30 stories, and bands of distances to which even attention pays more than is planted; they are
    named in the note.
    """
    on_stories = [probe for probe in probes if not _makes_sequences(probe, tokenizer)]
    related = [probe for probe in on_stories if isinstance(probe, RelationProbe)]
    others = [probe for probe in on_stories if probe not in related]
    batch = batch_of_stories(stories, tokenizer, n_ctx=N_CTX)
    calibration = calibrate([batch], [], tokenizer.vocab_size, window=None)
    edges = relation_edges(stories, tokenizer, n_ctx=N_CTX)
    for name, more in probe_edges(others, stories, tokenizer, calibration, n_ctx=N_CTX).items():
        edges[name] |= more
    targets: list[Target] = [(probe.name, position) for probe in related for position in probe.positions]
    targets += [(probe.name, "word") for probe in others]
    missing = parser_is_missing()
    annotated = [] if missing else _annotated(stories)
    cases: list[Case] = []
    for strength in strengths:
        for base in bases:
            heads = [PlantedHead(target, base, strength) for target in targets]
            model = PlantedHeads(heads, edges, tokenizer, seed=seed)
            cases += _cases(model, stories, on_stories, seed, "gold")
            progress()
            if annotated and strength == CLEAR:
                cases += _cases(model, annotated, on_stories, seed, "annotated")
                progress()
    names = {probe.name for probe in related}
    return Findings(
        tuple(cases),
        tuple(_checks(cases, names, strengths, with_annotator=bool(annotated))),
        (f"planted heads with the annotator's labels: {missing}",) if missing else (),
    )


def _makes_sequences(probe: Probe, tokenizer: TextTokenizer) -> bool:
    made = probe.own_batches(
        d_vocab=tokenizer.vocab_size, start_id=tokenizer.start_id, n_ctx=N_CTX, seed=0, batch_tokens=1
    )
    return made is not None


def _annotated(stories: Sequence[Story]) -> list[Story]:
    """The same texts with the annotator's labels; gold ones would be kept, so only the texts are handed on."""
    return list(annotate([Story(story.text) for story in stories], cache=AnnotationCache()))


def _cases(
    model: PlantedHeads,
    stories: Sequence[Story],
    probes: Sequence[Probe],
    seed: int,
    labels: Literal["gold", "annotated"],
) -> list[Case]:
    report = scan(model, stories, probes, seed=seed)
    by_row = {(score.head, score.probe, score.position): score for score in report.scores}
    n_nulls = {"relational": 5, "identity": 3, "positional": 2}  # at least, the twins included
    family = {probe.name: probe.family for probe in probes}
    cases = []
    for index, head in enumerate(model.heads):
        name, position = head.target
        more: dict[str, Any] = {"base": head.base, "strength": head.strength, "labels": labels}
        score = by_row.get((HeadId(0, index), name, position))
        if score is None:  # no story has a query
            nothing = Case(
                "planted", name, name, position, "no", 0.0, 0.0, 0.0, "", 0, unmeasured=True, **more
            )
            cases.append(nothing)
        else:
            cases.append(case_of("planted", name, score, family_nulls=n_nulls[family[name]], **more))
    return cases


def _checks(
    cases: Sequence[Case], relations: set[str], strengths: Sequence[float], *, with_annotator: bool
) -> Iterator[Check]:
    asked = [("gold", CLEAR, GOLD_RECALL), ("gold", FAINT, FAINT_RECALL)]
    asked += [("annotated", CLEAR, ANNOTATED_RECALL)] if with_annotator else []
    for kind in ("relations", "other probes"):
        for labels, strength, wanted in asked:
            if strength not in strengths or (kind == "other probes" and labels == "annotated"):
                continue
            mine = [
                case
                for case in cases
                if (case.truth in relations) == (kind == "relations")
                and (case.labels, case.strength) == (labels, strength)
            ]
            few = sorted(
                {f"{c.truth} {c.position} ({c.n_stories})" for c in mine if c.n_stories < MIN_CLUSTERS}
            )
            beneath = sorted({case.truth for case in mine if _is_beneath(case)})
            counted = [
                case.is_positive for case in mine if case.n_stories >= MIN_CLUSTERS and not _is_beneath(case)
            ]
            notes = [f"in under {MIN_CLUSTERS} stories: {', '.join(few)}"] if few else []
            notes += [f"even attention gives more: {', '.join(beneath)}"] if beneath else []
            yield Check(
                "planted",
                f"{kind} at {strength:g}, {labels} labels",
                "at least",
                wanted,
                share(counted),
                len(counted),
                "; ".join(notes),
            )


def _is_beneath(case: Case) -> bool:
    """Whether so much is planted in a band of distances as attention spread evenly pays to it anyway, or less."""
    return case.null == "uniform" and case.strength is not None and case.value - case.excess >= case.strength
