"""Random models: what a scan claims of models that have learned nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tslens.audit.report import Case, Check, Findings, case_of, most_suspicious, share
from tslens.audit.scanning import scan
from tslens.corpus.text_tokenizer import TextTokenizer
from tslens.model.spec import ModelSpec
from tslens.model.story_model import StoryModel
from tslens.model.transformer import TinyTransformer
from tslens.probes.base import Probe
from tslens.types import Story

FRESH_MODEL = "l2_h128"
WITH_CANDIDATE, WITH_ROLE = 0.05, 0.0  # most, as shares of the models


def audit_random_models(
    stories: Sequence[Story],
    tokenizer: TextTokenizer,
    trained: StoryModel,
    probes: Sequence[Probe],
    *,
    seed: int,
    n_models: int,
    progress: Callable[[], None] = lambda: None,
) -> Findings:
    """Share of random models in which any head is a candidate for anything; none may have a role.

    Half of the ``n_models`` are fresh initialisations, half have each tensor drawn anew with the mean and deviation
    that it has in ``trained``. Each is scanned as any model is, against random twins of its own.
    """
    cases: list[Case] = []
    for index in range(n_models):
        kind = "fresh" if index < (n_models + 1) // 2 else "redrawn"
        own_seed = 1000 * (seed + 1) + 10 * index  # far from the seeds of its twins
        model = (
            _fresh(tokenizer, own_seed) if kind == "fresh" else trained.random_twin("redrawn", seed=own_seed)
        )
        worst = most_suspicious(
            scan(model, stories, probes, seed=seed + index, n_explain=len(stories)).scores
        )
        cases.append(case_of("random", f"{kind} {index}", worst))
        progress()
    kinds = {name: [c for c in cases if c.truth.startswith(name)] for name in ("fresh", "redrawn")}
    by_kind = ", ".join(
        f"{name} {sum(c.is_positive for c in mine)}/{len(mine)}" for name, mine in kinds.items()
    )
    checks = (
        Check(
            "random",
            "models with a candidate",
            "at most",
            WITH_CANDIDATE,
            share([case.is_positive for case in cases]),
            len(cases),
            by_kind,
        ),
        Check(
            "random",
            "models with a role",
            "at most",
            WITH_ROLE,
            share([case.status == "role" for case in cases]),
            len(cases),
        ),
    )
    return Findings(tuple(cases), checks)


def _fresh(tokenizer: TextTokenizer, seed: int) -> TinyTransformer:
    model = TinyTransformer(ModelSpec.from_name(FRESH_MODEL), tokenizer.vocab_size, seed=seed)
    model.tokenizer = tokenizer  # type: ignore[assignment]
    return model.eval()
