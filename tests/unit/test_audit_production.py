"""The audit of production: what is planted is found, decoys are refused, and it fails where the reading is broken."""

from itertools import islice

import numpy as np
import pytest
import torch

from tslens.audit import production
from tslens.audit.hand_set_production import CLASSES, PARTS, Job, jobs_of_models, producing_model
from tslens.audit.heads import audit_stories
from tslens.audit.production import (
    ProductionCase,
    hand_set_cases,
    hand_set_checks,
    random_case,
    random_checks,
)
from tslens.audit.truth import row_of, token_facts
from tslens.model.load import load_model
from tslens.model.spec import N_CTX
from tslens.probes.production import produce
from tslens.probes.twins import random_twins


@pytest.fixture(scope="module")
def small():
    return load_model("shipped:l1_h64")


@pytest.fixture(scope="module")
def author():
    return audit_stories(60, seed=5)


@pytest.fixture(scope="module")
def facts(author, small):
    return [token_facts(story, small.tokenizer, n_ctx=N_CTX) for story in author]


def first_twins(model, *, seed):
    """Two random twins: of heads set by hand they are far."""
    return islice(random_twins(model, seed=seed), 2)


@pytest.fixture(scope="module")
def cases(author, small):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(produce, "random_twins", first_twins)
        return hand_set_cases(author, small.tokenizer, seed=0)


def test_heads_look_where_they_are_set_to(author, facts, small):
    jobs = [Job("part", "NOUN", 0.2), Job("part", "VERB", 0.2, back=1)]
    model = producing_model(jobs, facts, small.tokenizer, seed=0)
    tokens = torch.tensor([row_of(author[0], small.tokenizer, N_CTX)])
    (pattern,) = model.attention_patterns(tokens)
    n = tokens.shape[1]
    assert pattern[0, 0].diagonal().min() > 0.95
    assert pattern[0, 1, torch.arange(1, n), torch.arange(n - 1)].min() > 0.95
    is_noun = np.isin(small.tokenizer.token_strings(range(small.cfg.d_vocab)), [" dog", " ball"])
    assert model.W_E[torch.from_numpy(is_noun), CLASSES.start].min() == 1
    length = model.W_E.norm(dim=1)
    torch.testing.assert_close(length, length.mean().expand_as(length))


def test_what_was_set_is_found_and_decoys_are_not(cases):
    assert len(cases) == 24 and sum(case.truth == "produces" for case in cases) == 16
    for check in hand_set_checks(cases):
        assert check.passed, check


def test_a_case_that_is_not_found_fails_its_check(cases):
    lost = [
        ProductionCase(one.part, one.truth, one.job, None) if one.truth == "produces" else one
        for one in cases
    ]
    found, *_ = hand_set_checks(lost)
    assert not found.passed and found.found == 0 and "NOUN" in found.note
    said = next(one.said for one in cases if one.truth == "produces")
    gullible = [ProductionCase(one.part, one.truth, one.job, said) for one in cases]
    assert not hand_set_checks(gullible)[-1].passed


def test_jobs_are_parts_words_and_decoys(facts, small):
    parts, mixed, decoys = jobs_of_models(facts, small.tokenizer)
    assert [job.name for job in parts] == list(PARTS)
    assert [job.back for job in mixed] == [0] * 4 + [1] * 4
    assert {job.truth for job in decoys} == {"even", "idle"}


def test_a_random_model_has_no_role(author, small):
    case = random_case(small, small.tokenizer, author[:40], seed=0, index=1)
    assert case.truth == "redrawn 1" and not case.is_positive
    assert all(check.passed for check in random_checks([case]))


def test_the_audit_runs_a_part(monkeypatch, small):
    monkeypatch.setattr(production, "load_model", lambda name: small)
    monkeypatch.setattr(produce, "random_twins", first_twins)
    told = []
    size = production.ProductionSize(30, 1, 1, 30)
    report = production.audit_production(
        seed=0, parts=["random"], size=size, progress=lambda part, n: told.append((part, n))
    )
    assert told == [("random", 1)] and [case.truth for case in report.cases] == ["fresh 0"]
    assert {check.part for check in report.checks} == {"random"}
    assert report.to_json()["cases"][0]["planted"] is None
