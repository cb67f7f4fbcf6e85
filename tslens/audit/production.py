"""``tslens audit production``: is what heads produce found where somebody wrote it, and not where nothing is?

- ``hand-set``: models whose heads were set to produce parts of speech or words, strongly and faintly, or to copy
  (``hand_set_production``), and decoys;
- ``random``: models that learned nothing, each tensor of a trained one redrawn, as they are or loud, so that the floor
  alone does not refuse what heads do, each read against random twins of its own.

Both are read in both ways, direct and total.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch

from tslens.audit.hand_set_production import class_tokens, jobs_of_models, producing_model
from tslens.audit.heads import FIRST_STORY_SEED, audit_stories
from tslens.audit.production_report import ProductionCase, hand_set_checks, random_checks
from tslens.audit.report import Audit, Check, Part
from tslens.audit.truth import TokenFacts, token_facts
from tslens.corpus.text_tokenizer import TextTokenizer
from tslens.model.load import load_model
from tslens.model.spec import N_CTX
from tslens.model.story_model import StoryModel
from tslens.probes.production.classes import CLOSING
from tslens.probes.production.produce import score_production
from tslens.probes.production.report import RANK, Produced, ProductionReport, Way
from tslens.types import HeadId, Story

PARTS: tuple[Part, ...] = ("hand-set", "random")
WAYS: tuple[Way, ...] = get_args(Way)
TRAINED_MODEL = "shipped:l2_h128"
LOUD = 10.0  # times what heads write, and times the embedding, which is the unembedding
SHARED = 0.1  # of a class's uses: where less are tokens that a head was set to raise, a role for it is wrong


@dataclass(frozen=True)
class ProductionSize:
    """How much is run: stories of hand-set models, draws of their tokens, random models and the stories of each."""

    n_stories: int
    n_draws: int
    n_random: int
    n_random_stories: int


FULL = ProductionSize(150, 3, 20, 60)
QUICK = ProductionSize(60, 1, 6, 40)


ProductionAudit = Audit[ProductionCase]
"""All parts together."""


def audit_production(
    *,
    seed: int,
    parts: Sequence[Part] = PARTS,
    size: ProductionSize = FULL,
    progress: Callable[[Part, int], None] = lambda part, n_steps: None,
) -> ProductionAudit:
    """Run parts of the audit; ``progress`` is told the part and how many of its steps are done (``n_steps``)."""
    n_stories = max(size.n_stories, size.n_random_stories)
    stories = audit_stories(n_stories, seed=seed)
    trained = load_model(TRAINED_MODEL)
    tokenizer = trained.tokenizer
    assert tokenizer is not None  # shipped models have one
    cases: list[ProductionCase] = []
    checks: list[Check] = []
    if "hand-set" in parts:
        mine: list[ProductionCase] = []
        for draw in range(size.n_draws):
            for way in WAYS:
                mine += hand_set_cases(stories[: size.n_stories], tokenizer, seed=seed + draw, way=way)
                progress("hand-set", len(WAYS) * draw + WAYS.index(way) + 1)
        cases += mine
        checks += [check for way in WAYS for check in hand_set_checks(mine, way)]
    if "random" in parts:
        mine = []
        few = stories[: size.n_random_stories]
        for index in range(size.n_random):
            for way in WAYS:
                mine.append(random_case(trained, few, seed=seed, index=index, way=way))
                progress("random", len(WAYS) * index + WAYS.index(way) + 1)
        cases += mine
        checks += [check for way in WAYS for check in random_checks(mine, way)]
    return ProductionAudit(tuple(cases), tuple(checks), seed, f"author:{n_stories}:{FIRST_STORY_SEED + seed}")


def n_steps(part: Part, size: ProductionSize) -> int:
    """How often ``progress`` is told of a part."""
    return len(WAYS) * {"hand-set": size.n_draws, "random": size.n_random}[part]


# Hand-set models --------------------------------------------------------------------------------------------


def hand_set_cases(
    stories: Sequence[Story], tokenizer: TextTokenizer, *, seed: int, way: Way
) -> list[ProductionCase]:
    """Every head of the models. ``stories``: with gold labels; causes are measured on all of them."""
    facts = [token_facts(story, tokenizer, n_ctx=N_CTX) for story in stories]
    cases = []
    for jobs in jobs_of_models(facts, tokenizer):
        model = producing_model(jobs, facts, tokenizer, seed=seed)
        report = score_production(model, stories, seed=seed, way=way, exclude=(), n_explain=len(stories))
        for index, job in enumerate(jobs):
            head = HeadId(0, index)
            if job.truth in ("even", "idle"):
                cases.append(ProductionCase("hand-set", way, job.truth, job, most_suspicious(report, head)))
                continue
            wanted = (head, job.kind, job.name)
            row = next((row for row in report.rows if (row.head, row.kind, row.name) == wanted), None)
            if job.truth in ("produces", "faint"):
                roles = sorted(
                    (row for row in report.rows if row.head == head and row.status == "role"),
                    key=lambda row: -row.value,
                )
                is_wrong = wrong_roles(
                    roles, class_tokens(job, facts, tokenizer.vocab_size), facts, tokenizer
                )
                wrong = tuple(row.name for row, bad in zip(roles, is_wrong, strict=True) if bad)
                n_right = len(roles) - len(wrong)
                cases.append(
                    ProductionCase(
                        "hand-set", way, job.truth, job, row, n_right, wrong, is_wrong[:1] == [True]
                    )
                )
            else:
                cases.append(ProductionCase("hand-set", way, job.truth, job, row))
    return cases


def wrong_roles(
    roles: Sequence[Produced], is_raised: torch.Tensor, facts: Sequence[TokenFacts], tokenizer: TextTokenizer
) -> list[bool]:
    """Of each role, whether next to none of its class's uses are tokens that the head was set to raise.

    ``is_raised``: these tokens, of the vocabulary. A role for copying is wrong.
    """
    tokens = np.concatenate([one.tokens for one in facts])
    pos = np.array([part for one in facts for part in one.pos])
    raised = is_raised.numpy()[tokens]
    names = np.array(tokenizer.token_strings(range(tokenizer.vocab_size)))[tokens]
    found = []
    for row in roles:
        if row.kind == "word":
            uses = names == row.name
        else:
            uses = pos == ("PUNCT" if row.name == CLOSING else row.name)
        found.append(row.kind == "copying" or not uses.any() or bool(raised[uses].mean() < SHARED))
    return found


def most_suspicious(report: ProductionReport, head: HeadId | None = None) -> Produced:
    """The row of highest status, then of highest lower end; of one head, or of all."""
    rows = [row for row in report.rows if head is None or row.head == head]
    return max(rows, key=lambda row: (RANK[row.status], row.excess_low))


# Random models ----------------------------------------------------------------------------------------------


def random_case(
    trained: StoryModel, stories: Sequence[Story], *, seed: int, index: int, way: Way
) -> ProductionCase:
    """One random model, each tensor of ``trained`` redrawn; odd ones are loud."""
    own_seed = 1000 * (seed + 1) + 10 * index  # far from the seeds of its twins
    model: Any = trained.random_twin("redrawn", seed=own_seed)
    kind = "loud" if index % 2 else "redrawn"
    if kind == "loud":
        with torch.no_grad():
            for weights in (model.embed.W_E, *(block.attn.W_O for block in model.blocks)):
                weights.mul_(LOUD)
    report = score_production(model, stories, seed=seed + index, way=way, exclude=(), n_explain=len(stories))
    return ProductionCase(
        "random",
        way,
        f"{kind} {index}",
        None,
        most_suspicious(report),
        largest_value=max(row.value for row in report.rows),
    )
