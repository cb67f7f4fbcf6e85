"""The audit of production: what is planted is found, decoys are refused, and it fails where the reading is broken."""

from dataclasses import replace
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tslens.audit import production
from tslens.audit.hand_set_production import (
    CLASSES,
    PARTS,
    Job,
    class_tokens,
    jobs_of_models,
    producing_model,
)
from tslens.audit.heads import audit_stories
from tslens.audit.production import LOUD, WAYS, hand_set_cases, random_case, wrong_roles
from tslens.audit.production_report import ProductionCase, hand_set_checks, random_checks
from tslens.audit.truth import row_of, token_facts
from tslens.model.load import load_model
from tslens.model.spec import N_CTX
from tslens.probes.production import produce
from tslens.probes.production.classes import COPYING
from tslens.probes.production.report import Produced
from tslens.probes.production.verdict import FLOOR
from tslens.probes.twins import random_twins
from tslens.types import HeadId


@pytest.fixture(scope="module")
def small():
    return load_model("shipped:l1_h64")


@pytest.fixture(scope="module")
def author():
    return audit_stories(40, seed=5)


@pytest.fixture(scope="module")
def facts(author, small):
    return [token_facts(story, small.tokenizer, n_ctx=N_CTX) for story in author]


def first_twins(model, *, seed):
    """Two random twins: of heads set by hand they are far."""
    return islice(random_twins(model, seed=seed), 2)


SLOW = pytest.mark.slow  # the same through later layers: a minute


@pytest.fixture(
    scope="module", params=[pytest.param(way, marks=[SLOW] if way == "total" else []) for way in WAYS]
)
def way(request):
    return request.param


@pytest.fixture(scope="module")
def cases(author, small, way):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(produce, "random_twins", first_twins)
        return hand_set_cases(author, small.tokenizer, seed=0, way=way)


@pytest.fixture(scope="module")
def row():
    """Any row of a role."""
    return Produced(
        HeadId(0, 0), "part", "NOUN", 1.0, 0.9, 1.1, {"none": 0.0}, 1.0, 0.8, 0.01, "role", (1.0, 1.0), (1.0, 1.0),
        60, "lexical",
    )  # fmt: skip


def test_heads_look_where_they_are_set_to(author, facts, small):
    jobs = [Job("part", "NOUN", 0.2), Job("part", "VERB", 0.2, back=1)]
    model = producing_model(jobs, facts, small.tokenizer, seed=0)
    tokens = torch.tensor([row_of(author[0], small.tokenizer, N_CTX)])
    (pattern,) = model.attention_patterns(tokens)
    n = tokens.shape[1]
    assert pattern[0, 0].diagonal().min() > 0.95
    assert pattern[0, 1, torch.arange(1, n), torch.arange(n - 1)].min() > 0.95
    is_noun = np.isin(small.tokenizer.token_strings(range(small.cfg.d_vocab)), [" dog", " tree"])
    assert is_noun.sum() == 2 and model.W_E[torch.from_numpy(is_noun), CLASSES.start].min() == 1
    length = model.W_E.norm(dim=1)
    torch.testing.assert_close(length, length.mean().expand_as(length))


def test_what_was_set_is_found_and_decoys_are_not(cases, way):
    assert len(cases) == 32 and {case.way for case in cases} == {way}
    checks = {check.name.removesuffix(f" ({way})"): check for check in hand_set_checks(cases, way)}
    for name, n in {
        "classes found": 16,
        "of these a role": 16,
        "basis as it was set": 16,
        "largest role as it was set": 20,
        "faint classes found": 4,
        "below the floor refused": 2,
        "copying found": 1,
        "forbidding refused": 1,
        "even and idle refused": 8,
    }.items():
        assert checks[name].passed and checks[name].n_cases == n, checks[name]
    assert checks["roles for what was set"].found > 0.8


def test_faint_heads_are_near_the_floor_and_those_below_it_have_half(cases):
    value = {
        truth: [case.said.value for case in cases if case.truth == truth] for truth in ("faint", "below")
    }
    assert 1 < min(value["faint"]) / FLOOR < 2 and max(value["below"]) < 0.7 * FLOOR
    (copies,), (forbids,) = ([case.said for case in cases if case.truth == t] for t in ("copies", "forbids"))
    assert 1 < copies.value / FLOOR < 5 and forbids.value == pytest.approx(-copies.value, rel=0.1)
    assert copies.kind == forbids.kind == "copying"


def test_a_case_that_is_not_found_fails_its_check(cases, way):
    lost = [replace(one, said=None) if one.is_true else one for one in cases]
    by_name = {check.name: check for check in hand_set_checks(lost, way)}
    for name in ("classes found", "faint classes found", "copying found"):
        assert not by_name[f"{name} ({way})"].passed and by_name[f"{name} ({way})"].found == 0
    assert "NOUN" in by_name[f"classes found ({way})"].note
    said = next(one.said for one in cases if one.truth == "produces")
    gullible = {
        check.name: check for check in hand_set_checks([replace(one, said=said) for one in cases], way)
    }
    for name in ("below the floor", "forbidding", "even and idle"):
        assert not gullible[f"{name} refused ({way})"].passed


def test_wrong_roles_and_an_open_basis_fail_their_checks(row):
    job = Job("part", "NOUN", 0.2)
    one = ProductionCase("hand-set", "direct", "produces", job, row, 1, ("VERB",), True)
    checks = {check.name: check for check in hand_set_checks([one], "direct")}
    right = checks["roles for what was set (direct)"]
    assert right.found == 0.5 and not right.passed and right.note == "not set: VERB by NOUN"
    assert not checks["largest role as it was set (direct)"].passed
    assert checks["basis as it was set (direct)"].passed
    unknown = replace(one, said=replace(row, basis=None))
    assert not hand_set_checks([unknown], "direct")[2].passed
    assert all(check.found is None for check in hand_set_checks([one], "total"))


def test_a_role_is_wrong_where_its_class_shares_no_token(facts, small, row):
    raised = class_tokens(Job("part", "PUNCT", 0.2), facts, small.cfg.d_vocab)
    roles = [
        replace(row, name=name, kind=kind)
        for kind, name in (
            ("part", "PUNCT"), ("part", "closing"), ("word", "."), ("part", "NOUN"), ("word", " the"),
            ("copying", COPYING),
        )
    ]  # fmt: skip
    assert wrong_roles(roles, raised, facts, small.tokenizer) == [False, False, False, True, True, True]


def test_jobs_are_parts_words_and_decoys(facts, small):
    parts, mixed, faint, decoys = jobs_of_models(facts, small.tokenizer)
    assert [job.name for job in parts] == list(PARTS)
    assert [job.back for job in mixed] == [0] * 4 + [1] * 4
    assert {job.truth for job in faint} == {"faint", "below", "copies", "forbids"}
    assert {job.truth for job in decoys} == {"even", "idle"}


@pytest.mark.parametrize(("index", "truth"), [(0, "redrawn 0"), (1, "loud 1")])
def test_a_random_model_has_no_role(author, small, way, index, truth):
    case = random_case(small, author, seed=0, index=index, way=way)
    assert case.truth == truth and not case.is_positive
    checks = random_checks([case], way)
    assert all(check.passed for check in checks)
    assert (
        f"1 {truth[:-2]}: largest value {case.largest_value:+.3f}" in checks[0].note
        and "floor 0.1" in checks[0].note
    )


def test_loud_heads_write_more(small, monkeypatch, row):
    seen = []
    report = SimpleNamespace(rows=(row, replace(row, value=3.0, status="no")))
    monkeypatch.setattr(production, "score_production", lambda model, *_, **__: seen.append(model) or report)
    case = random_case(small, [], seed=0, index=1, way="direct")
    assert case.said == row and case.largest_value == 3.0
    plain = small.random_twin("redrawn", seed=1010)
    torch.testing.assert_close(seen[0].embed.W_E, LOUD * plain.embed.W_E)
    for loud, same in zip(seen[0].blocks, plain.blocks, strict=True):
        torch.testing.assert_close(loud.attn.W_O, LOUD * same.attn.W_O)
        torch.testing.assert_close(loud.attn.W_V, same.attn.W_V)


def test_the_audit_runs_a_part_in_both_ways(monkeypatch, small):
    monkeypatch.setattr(production, "load_model", lambda name: small)
    monkeypatch.setattr(produce, "random_twins", first_twins)
    told = []
    size = production.ProductionSize(30, 1, 1, 30)
    report = production.audit_production(
        seed=0, parts=["random"], size=size, progress=lambda part, n: told.append((part, n))
    )
    assert told == [("random", 1), ("random", 2)] and production.n_steps("random", size) == 2
    assert [(case.truth, case.way) for case in report.cases] == [("redrawn 0", way) for way in WAYS]
    assert {check.part for check in report.checks} == {"random"} and len(report.checks) == 4
    assert report.to_json()["cases"][0]["planted"] is None
