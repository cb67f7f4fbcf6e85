"""The audit of heads: what it plants is what it says, and it fails where a probe is broken."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from tslens.audit import random_models
from tslens.audit.decoys import audit_decoys
from tslens.audit.hand_set import JOBS, audit_hand_set, hand_set_model, read_flags
from tslens.audit.heads import AuditSize, audit_heads, audit_stories, n_scans
from tslens.audit.planted import PlantedHead, PlantedHeads, audit_planted
from tslens.audit.random_models import audit_random_models
from tslens.audit.report import AuditReport, Case, Check
from tslens.audit.shifted import shift_labels
from tslens.audit.truth import decoy_edges, relation_edges, row_name, row_of, token_facts
from tslens.model.load import load_model
from tslens.model.spec import N_CTX
from tslens.probes.base import Null, Row, choose_probes
from tslens.probes.batch import batch_of_stories
from tslens.probes.name import Name
from tslens.probes.pairs import averaged
from tslens.probes.subject import Subject
from tslens.probes.units import LabelNeeds
from tslens.types import HeadId


@pytest.fixture(scope="module")
def small():
    return load_model("shipped:l1_h64")


@pytest.fixture(scope="module")
def author():
    return audit_stories(32, seed=5)


@pytest.fixture(scope="module")
def edges(author, small):
    return relation_edges(author, small.tokenizer, n_ctx=N_CTX)


class Blind(Name):
    """A probe that looks at position 0 for names, so that it never finds one."""

    def rows(self, batch, calibration):
        return [
            Row(
                row.position,
                averaged(row.value.row, row.value.query, np.zeros_like(row.value.key)),
                row.nulls,
            )
            for row in super().rows(batch, calibration)
        ]


class Gullible(Subject):
    """A probe whose nulls are all zero: whatever often lands on subjects is a candidate."""

    def rows(self, batch, calibration):
        nothing = np.zeros(len(batch.length))
        nulls = {name: Null(number=(nothing, nothing)) for name in ("distance", "offset", "words", "shifted")}
        return [Row(row.position, row.value, nulls) for row in super().rows(batch, calibration)]


# What is planted --------------------------------------------------------------------------------------------


def one_row(story, tokenizer):
    return torch.tensor([row_of(story, tokenizer, N_CTX)])


def test_a_planted_head_looks_where_it_is_told(author, small, edges):
    heads = [PlantedHead(("subject", "word"), base, 0.6) for base in ("uniform", "near", "resting")]
    model = PlantedHeads(heads, edges, small.tokenizer, seed=0)
    tokens = one_row(author[0], small.tokenizer)
    (pattern,) = model.attention_patterns(tokens)
    assert torch.allclose(pattern.sum(-1), torch.ones(1))
    assert pattern.triu(1).abs().max() == 0
    planted = edges[row_name(tokens[0].numpy())]["subject", "word"]
    assert len(planted.query) > 5
    mass = torch.zeros(3, tokens.shape[1])
    mass.index_add_(1, torch.from_numpy(planted.query), pattern[0, :, planted.query, planted.key])
    asking = np.unique(planted.query)
    assert (mass[:, asking] >= 0.6 - 1e-5).all()
    assert mass[:, asking].mean() < 0.8


def test_relations_are_planted_where_the_labels_say(author, small, edges):
    """Verbs look at subjects: read off the text by hand, through characters, for a whole story."""
    story = author[0]
    facts = token_facts(story, small.tokenizer, n_ctx=N_CTX)
    planted = edges[row_name(facts.tokens)]
    assert facts.is_subject[planted["subject", "word"].key].all()
    names = planted["name", "word"]
    assert {facts.pos[key] for key in names.key} == {"PROPN"}
    assert (names.key < names.query).all()
    before = planted["name", "before"]
    assert set(before.query.tolist()) <= {q - 1 for q in range(1, len(facts.tokens))}


def test_twins_have_the_base_and_nothing_planted(author, small, edges):
    head = PlantedHead(("name", "word"), "near", 1.0)
    model = PlantedHeads([head], edges, small.tokenizer, seed=0)
    tokens = one_row(author[0], small.tokenizer)
    patterns = [
        next(model.random_twin(kind, seed=3).attention_patterns(tokens)) for kind in ("fresh", "redrawn")
    ]
    names = edges[row_name(tokens[0].numpy())]["name", "word"]
    assert not torch.equal(*patterns)
    for pattern in patterns:
        assert pattern[0, 0, names.query, names.key].mean() < 0.2


def test_patterns_do_not_depend_on_padding_or_company(author, small, edges):
    model = PlantedHeads([PlantedHead(("name", "word"), "uniform", 0.5)], edges, small.tokenizer, seed=0)
    batch = batch_of_stories(author[:3], small.tokenizer, n_ctx=N_CTX)
    (together,) = model.attention_patterns(torch.from_numpy(batch.tokens))
    for row, length in enumerate(batch.length):
        (alone,) = model.attention_patterns(torch.from_numpy(batch.tokens[row : row + 1, :length]))
        assert torch.allclose(together[row, :, :length, :length], alone[0], atol=1e-6)


def test_decoys_look_at_nouns_at_frequent_words_and_back(author, small):
    found = decoy_edges(author, small.tokenizer, [3], n_ctx=N_CTX, n_frequent=5)
    facts = token_facts(author[0], small.tokenizer, n_ctx=N_CTX)
    mine = found[row_name(facts.tokens)]
    assert {facts.pos[key] for key in mine["nouns", "word"].key} == {"NOUN"}
    assert len(set(facts.tokens[mine["frequent", "word"].key])) <= 5
    back = mine["offset_3", "word"]
    assert set(back.query - back.key) == {3}


# What the audit says ----------------------------------------------------------------------------------------


def recall(findings, name):
    return next(check for check in findings.checks if check.name.startswith(name))


def plant(author, small, probe):
    return audit_planted(author, small.tokenizer, [probe], seed=0, strengths=(0.3,), bases=("near",))


def test_a_probe_is_found_to_find_and_a_blind_one_not_to(author, small):
    seen, unseen = (recall(plant(author, small, probe), "relations at 0.3") for probe in (Name(), Blind()))
    assert (seen.found, seen.passed) == (1.0, True)
    assert (unseen.found, unseen.passed) == (0.0, False)
    assert seen.n_cases == unseen.n_cases == 2


def test_a_probe_with_broken_nulls_lets_decoys_pass_and_the_audit_says_so(author, small):
    outcome = {}
    for probe in (Subject(), Gullible()):
        found = audit_decoys(
            author, small.tokenizer, [probe], seed=0, n_seeds=1, bases=("uniform",), strengths=(1.0,)
        )
        outcome[type(probe)] = {check.name: check for check in found.checks}
    assert all(check.passed for check in outcome[Subject].values()), outcome[Subject]
    assert not outcome[Gullible]["offset refused"].passed
    assert outcome[Gullible]["offset refused"].n_cases >= 2


@pytest.mark.filterwarnings("ignore:.*below 30 intervals:UserWarning")
def test_cases_with_few_stories_are_named_and_not_counted(author, small):
    found = audit_planted(author[:20], small.tokenizer, [Name()], seed=0, strengths=(0.3,), bases=("near",))
    check = recall(found, "relations at 0.3")
    assert check.found is None and not check.passed
    assert "name before (20)" in check.note and "name word (20)" in check.note


def test_without_a_parser_the_annotated_part_is_missing(author, small, monkeypatch):
    monkeypatch.setattr("tslens.audit.planted.parser_is_missing", lambda: "spaCy is not installed.")
    found = plant(author, small, Name())
    assert found.missing == ("planted heads with the annotator's labels: spaCy is not installed.",)
    assert {case.labels for case in found.cases} == {"gold"}


def test_hand_set_heads_do_their_jobs(author, small):
    """The weights themselves, before any probe reads them."""
    model = hand_set_model(small.tokenizer, read_flags(author, small.tokenizer), seed=0)
    facts = token_facts(author[0], small.tokenizer, n_ctx=N_CTX)
    first, second = model.attention_patterns(torch.from_numpy(facts.tokens)[None])
    pos = np.arange(1, len(facts.tokens))
    assert first[0, 0, pos, pos - 1].mean() > 0.9
    closing = np.maximum.accumulate(np.where(facts.is_closing, np.arange(len(facts.tokens)), -1))
    asks = np.flatnonzero(closing >= 1)
    assert first[0, 2, asks, closing[asks]].mean() > 0.6
    assert second[0, 2, pos, 0].mean() > 0.9
    on_subjects = second[0, 1][:, facts.is_subject].sum(-1)
    assert on_subjects[20:].mean() > 0.4
    assert model.blocks[1].attn.W_O.detach().abs().amax((1, 2)).gt(0).tolist() == [True, False, False, False]


@pytest.mark.slow
def test_the_hand_set_part_names_what_was_not_found(author, small, make_scans_small, monkeypatch):
    monkeypatch.setattr("tslens.probes.induction.N_SEQUENCES", 64)
    probes = choose_probes(["previous_token", "name", "induction"])
    found = audit_hand_set(author, small.tokenizer, probes, seed=0, n_explain=6)
    assert recall(found, "heads found").passed, found.cases
    assert recall(found, "writing head a role").passed, found.cases
    assert recall(found, "idle head refused").passed
    make_scans_small(monkeypatch)  # what is broken below is not what they are for
    monkeypatch.setattr("tslens.audit.hand_set.WRITTEN", 0.0)
    mute = audit_hand_set(author, small.tokenizer, choose_probes(["induction", "name"]), seed=0, n_explain=6)
    assert recall(mute, "heads found").passed and not recall(mute, "writing head a role").passed
    probes = [choose_probes(["previous_token"])[0], Blind()]
    blind = audit_hand_set(author, small.tokenizer, probes, seed=0, n_explain=0)
    assert recall(blind, "heads found").note == "not found: name"
    assert set(JOBS.values()) <= {probe.name for probe in choose_probes(None)}


def test_random_models_are_no_candidates(author, small):
    found = audit_random_models(author, small.tokenizer, small, [Name()], seed=0, n_models=2)
    assert [case.truth for case in found.cases] == ["fresh 0", "redrawn 1"]
    assert [(check.found, check.passed) for check in found.checks] == [(0.0, True), (0.0, True)]


def test_one_random_model_with_a_role_fails_both_checks(author, small, monkeypatch):
    honest = random_models.scan
    statuses = iter(["role", "no"])

    def scan(*arguments, **options):
        report = honest(*arguments, **options)
        return replace(report, scores=(replace(report.scores[0], status=next(statuses)),))

    monkeypatch.setattr(random_models, "scan", scan)
    probes = choose_probes(["first_token"])
    found = audit_random_models(author, small.tokenizer, small, probes, seed=0, n_models=2)
    assert [(check.found, check.passed) for check in found.checks] == [(0.5, False), (0.5, False)]
    assert found.checks[0].note == "fresh 1/1, redrawn 0/1"


def test_shifted_pairs_keep_their_distance_in_words(author, small):
    batch = batch_of_stories(author[:4], small.tokenizer, n_ctx=N_CTX, labels=LabelNeeds(scheme=True))
    probe = Name()
    plain, shifted = probe.pairs(batch), shift_labels(probe, seed=0).pairs(batch)
    assert 0.5 * len(plain) < len(shifted) < len(plain)
    for row in range(4):
        gaps = set((plain.query - plain.key)[plain.row == row].tolist())
        moved = set((shifted.query - shifted.key)[shifted.row == row].tolist())
        assert moved <= gaps
    assert shift_labels(probe, seed=0).stand_ins == probe.stand_ins
    same = set(zip(plain.row, plain.query, plain.key, strict=True))
    again = set(zip(shifted.row, shifted.query, shifted.key, strict=True))
    assert len(same & again) < 0.2 * len(again)


@pytest.mark.slow
def test_the_parts_together(monkeypatch):
    size = AuditSize(32, (0.3,), ("near",), 1, 2, 32)
    done = []
    report = audit_heads(
        seed=1, parts=["planted", "random"], size=size, probes=["name"], progress=lambda *at: done.append(at)
    )
    assert {case.part for case in report.cases} == {"planted", "random"}
    assert report.stories == "author:32:10001"
    value = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert value["passed"] == all(check["passed"] for check in value["checks"])
    expected = n_scans("planted", size) - bool(report.missing), n_scans("random", size)
    assert [sum(part == name for part, _ in done) for name in ("planted", "random")] == list(expected)


def test_a_share_is_held_against_what_was_asked():
    assert Check("random", "x", "at most", 0.05, 0.05, 20).passed
    assert not Check("random", "x", "at most", 0.05, 0.1, 20).passed
    assert Check("planted", "x", "at least", 0.98, 0.98, 50).passed
    assert not Check("planted", "x", "at least", 0.98, None, 0).passed


def test_surprises_are_misses_and_false_alarms():
    def case(part, truth, status, strength=None):
        return Case(part, truth, truth, "word", status, 0.1, 0.1, 0.1, "twins", 40, strength=strength)

    expected = [case("planted", "name", "no", 0.3), case("decoys", "nouns", "candidate", 0.3)]
    fine = [
        case("planted", "name", "no", 0.05),
        case("planted", "name", "candidate", 0.3),
        case("decoys", "nouns", "unclear", 0.3),
        case("hand-set", "idle", "no"),
    ]
    report = AuditReport((*expected, *fine), (), (), 0, "author:1:0")
    assert report.surprises() == expected
    assert HeadId(0, 0) in JOBS
