"""``tslens audit production``: is what heads produce found where somebody wrote it, and not where nothing is?

- ``hand-set``: models whose heads were set to produce parts of speech or words (``hand_set_production``), and decoys;
- ``random``: models that learned nothing, fresh or with each tensor of a trained one redrawn, each read against random
  twins of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tslens.audit.hand_set_production import Job, jobs_of_models, producing_model
from tslens.audit.heads import FIRST_STORY_SEED, audit_stories
from tslens.audit.report import POSITIVE, Check, Part, share
from tslens.audit.truth import token_facts
from tslens.corpus.text_tokenizer import TextTokenizer
from tslens.model.load import load_model
from tslens.model.spec import N_CTX, ModelSpec
from tslens.model.story_model import StoryModel
from tslens.model.transformer import TinyTransformer
from tslens.probes.production.produce import score_production
from tslens.probes.production.report import RANK, Produced, ProductionReport
from tslens.types import HeadId, Story

PARTS: tuple[Part, ...] = ("hand-set", "random")
FRESH_MODEL = "l2_h128"
REDRAWN_MODEL = "shipped:l2_h128"
RECALL, CONFIRMED, TOLD, REFUSED = 0.95, 0.95, 0.95, 1.0
WITH_CANDIDATE, WITH_ROLE = 0.05, 0.0  # most, as shares of random models


@dataclass(frozen=True)
class ProductionSize:
    """How much is run: stories of hand-set models, draws of their tokens, random models and the stories of each."""

    n_stories: int
    n_draws: int
    n_random: int
    n_random_stories: int


FULL = ProductionSize(150, 3, 20, 60)
QUICK = ProductionSize(80, 1, 4, 40)


@dataclass(frozen=True)
class ProductionCase:
    """One head, or one random model, and the row that counts.

    ``truth``: what the head does (``hand_set_production.Job``), or the random model. ``said``: the row of what was
    planted, None where it is not even there; where nothing was, the most suspicious row.
    """

    part: Part
    truth: str
    job: Job | None
    said: Produced | None

    @property
    def is_positive(self) -> bool:
        """Whether it was said to produce something."""
        return self.said is not None and self.said.status in POSITIVE

    def to_json(self) -> dict[str, Any]:
        """The case as plain JSON types."""
        planted = None
        if self.job is not None:
            planted = {"kind": self.job.kind, "class": self.job.name, "back": self.job.back}
        said = None if self.said is None else self.said.to_json()
        return {"part": self.part, "truth": self.truth, "planted": planted, "said": said}


@dataclass(frozen=True)
class ProductionAudit:
    """All parts together. ``stories``: their source."""

    cases: tuple[ProductionCase, ...]
    checks: tuple[Check, ...]
    seed: int
    stories: str

    @property
    def passed(self) -> bool:
        """Whether every check holds."""
        return all(check.passed for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Checks and every case."""
        return {
            "seed": self.seed,
            "stories": self.stories,
            "passed": self.passed,
            "checks": [check.to_json() for check in self.checks],
            "cases": [case.to_json() for case in self.cases],
        }


def audit_production(
    *,
    seed: int,
    parts: Sequence[Part] = PARTS,
    size: ProductionSize = FULL,
    progress: Callable[[Part, int], None] = lambda part, n_models: None,
) -> ProductionAudit:
    """Run parts of the audit; ``progress`` is told the part and how many of its models are done."""
    n_stories = max(size.n_stories, size.n_random_stories)
    stories = audit_stories(n_stories, seed=seed)
    trained = load_model(REDRAWN_MODEL)
    tokenizer = trained.tokenizer
    assert tokenizer is not None  # shipped models have one
    cases: list[ProductionCase] = []
    checks: list[Check] = []
    if "hand-set" in parts:
        mine: list[ProductionCase] = []
        for draw in range(size.n_draws):
            mine += hand_set_cases(stories[: size.n_stories], tokenizer, seed=seed + draw)
            progress("hand-set", draw + 1)
        cases += mine
        checks += hand_set_checks(mine)
    if "random" in parts:
        mine = []
        for index in range(size.n_random):
            few = stories[: size.n_random_stories]
            mine.append(random_case(trained, tokenizer, few, seed=seed, index=index))
            progress("random", index + 1)
        cases += mine
        checks += random_checks(mine)
    return ProductionAudit(tuple(cases), tuple(checks), seed, f"author:{n_stories}:{FIRST_STORY_SEED + seed}")


def n_steps(part: Part, size: ProductionSize) -> int:
    """How often ``progress`` is told of a part."""
    return {"hand-set": size.n_draws, "random": size.n_random}[part]


# Hand-set models --------------------------------------------------------------------------------------------


def hand_set_cases(stories: Sequence[Story], tokenizer: TextTokenizer, *, seed: int) -> list[ProductionCase]:
    """Every head of the three models. ``stories``: with gold labels; causes are measured on all of them."""
    facts = [token_facts(story, tokenizer, n_ctx=N_CTX) for story in stories]
    cases = []
    for jobs in jobs_of_models(facts, tokenizer):
        model = producing_model(jobs, facts, tokenizer, seed=seed)
        report = score_production(model, stories, seed=seed, exclude=(), n_explain=len(stories))
        for index, job in enumerate(jobs):
            head = HeadId(0, index)
            row = _row_of(report, head, job) if job.truth == "produces" else most_suspicious(report, head)
            cases.append(ProductionCase("hand-set", job.truth, job, row))
    return cases


def _row_of(report: ProductionReport, head: HeadId, job: Job) -> Produced | None:
    wanted = (head, job.kind, job.name)
    return next((row for row in report.rows if (row.head, row.kind, row.name) == wanted), None)


def most_suspicious(report: ProductionReport, head: HeadId | None = None) -> Produced:
    """The row of highest status, then of highest lower end; of one head, or of all."""
    rows = [row for row in report.rows if head is None or row.head == head]
    return max(rows, key=lambda row: (RANK[row.status], row.excess_low))


def hand_set_checks(cases: Sequence[ProductionCase]) -> list[Check]:
    """Of all draws together."""
    planted = [case for case in cases if case.truth == "produces"]
    found = [case.is_positive for case in planted]
    missed = sorted({case.job.name for case in planted if case.job is not None and not case.is_positive})
    said = [case.said for case in planted if case.is_positive and case.said is not None]
    told = [
        case.said.basis == ("contextual" if case.job.back else "lexical")
        for case in planted
        if case.is_positive and case.said is not None and case.job is not None
    ]
    decoys = [not case.is_positive for case in cases if case.truth != "produces"]
    note = f"not found: {', '.join(missed)}" if missed else ""
    return [
        Check("hand-set", "classes found", "at least", RECALL, share(found), len(found), note),
        Check(
            "hand-set",
            "of these a role",
            "at least",
            CONFIRMED,
            share([row.status == "role" for row in said]),
            len(said),
        ),
        Check("hand-set", "basis as it was set", "at least", TOLD, share(told), len(told)),
        Check("hand-set", "even and idle refused", "at least", REFUSED, share(decoys), len(decoys)),
    ]


# Random models ----------------------------------------------------------------------------------------------


def random_case(
    trained: StoryModel, tokenizer: TextTokenizer, stories: Sequence[Story], *, seed: int, index: int
) -> ProductionCase:
    """One random model: even numbers are fresh, odd ones have each tensor of ``trained`` redrawn."""
    own_seed = 1000 * (seed + 1) + 10 * index  # far from the seeds of its twins
    if index % 2:
        kind, model = "redrawn", trained.random_twin("redrawn", seed=own_seed)
    else:
        kind = "fresh"
        fresh = TinyTransformer(ModelSpec.from_name(FRESH_MODEL), tokenizer.vocab_size, seed=own_seed)
        fresh.tokenizer = tokenizer  # type: ignore[assignment]
        model = fresh.eval()
    report = score_production(model, stories, seed=seed + index, exclude=(), n_explain=len(stories))
    return ProductionCase("random", f"{kind} {index}", None, most_suspicious(report))


def random_checks(cases: Sequence[ProductionCase]) -> list[Check]:
    """Shares of models in which any head is a candidate for anything, or has a role."""
    kinds = {name: [case for case in cases if case.truth.startswith(name)] for name in ("fresh", "redrawn")}
    by_kind = ", ".join(
        f"{name} {sum(case.is_positive for case in mine)}/{len(mine)}" for name, mine in kinds.items()
    )
    roles = [case.said is not None and case.said.status == "role" for case in cases]
    return [
        Check(
            "random",
            "models with a candidate",
            "at most",
            WITH_CANDIDATE,
            share([case.is_positive for case in cases]),
            len(cases),
            by_kind,
        ),
        Check("random", "models with a role", "at most", WITH_ROLE, share(roles), len(cases)),
    ]
