"""``tslens report``: what is there is joined, what is not is said; the page is whole, and equal for equal input."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tslens.causal.means import read_means
from tslens.cli.report_find import index_results
from tslens.grading.results import GradedModel, save_grades
from tslens.link.joined.samples import choose_texts, read_sample
from tslens.model.batches import collate
from tslens.model.load import load_model
from tslens.provenance import provenance
from tslens.types import Grade, Graded, GradeFailure, HeadId

REPORTS = Path(__file__).parents[2] / "reports"


def grade(prompt_id, consistency, grammar=5.0, sample=0, repeat=0):
    text = Graded("Tom had a dog.", " The dog ran.", prompt_id, sample, repeat=repeat)
    return Grade(text, grammar, 5.0, consistency, 5.0, "B")


def record(command="tslens grade"):
    return provenance(command=command, seed=0, data="x", data_sha256="0", started="2026-01-01", seconds=1.0)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A folder with results of the shipped l1_h256: its heads and its map, and two grades."""
    folder = tmp_path_factory.mktemp("results")
    for kind in ("heads", "link"):
        (folder / kind).mkdir()
        for file in REPORTS.glob(f"{kind}/l1_h256.*json*"):
            shutil.copy(file, folder / kind)
    header = {
        "model": "shipped:l1_h256@seed0", "checkpoint": "model.safetensors", "judge": "local", "judge_version": "1",
        "prompts": "mine", "prompts_sha256": "0",
    }  # fmt: skip
    found = GradedModel("shipped:l1_h256@seed0", header, (grade("a", 7.0), grade("b", 2.0)))
    save_grades(found, folder / "grades.jsonl", record())
    return folder


def data_of(page, name):
    text = page.read_text()
    found = re.search(
        rf'<script type="application/json" class="model" data-name="{name}">(.*?)</script>', text, re.S
    )
    return json.loads(found[1])


def test_results_of_folders_are_joined_and_what_lacks_is_said(tslens, results, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = tslens(
        "report", "l1_h256", "l1_h64", "--results", str(results), "--texts", "2", "--html", "r.html", "--json"
    )
    assert ran.code == 0
    told = json.loads(ran.out)
    assert told["schema"] == "tslens.report/1"
    assert told["models"] == [
        {"model": "shipped:l1_h256@seed0", "has": ["grades", "heads", "map"], "n_texts": 2},
        {"model": "shipped:l1_h64@seed0", "has": [], "n_texts": 2},
    ]
    assert "tslens neurons --model l1_h256" in ran.err and "tslens heads --model l1_h64" in ran.err
    page = tmp_path / "r.html"
    assert told["bytes"] == page.stat().st_size < 10_000_000
    first, second = data_of(page, "l1_h256"), data_of(page, "l1_h64")
    assert [text["key"] for text in first["texts"]] == ["b/0", "a/0"]  # the least consistent first
    assert first["origins"]["grades"]["record"]["command"] == "tslens grade"
    assert first["heads"]["L0H15"]["best"] and first["map"]["components"]["L0H15"]
    assert second["heads"] is None and "ungraded" in second["texts"][0]
    assert len(first["texts"][0]["patterns"]) == 16  # of the first text all heads, of others a few
    assert len(first["texts"][1]["patterns"]) == 3
    before = page.read_bytes()
    tslens(
        "report", "l1_h256", "l1_h64", "--results", str(results), "--texts", "2", "--html", "r.html", "--json"
    )
    assert page.read_bytes() == before


def test_a_change_is_what_the_ablated_model_loses():
    model = load_model("shipped:l1_h64")
    text = grade("a", 5.0)
    read = [
        model.tokenizer.encode_story(one)
        for one in ("Tom had a dog. The dog ran.", "Once there was a big cat.")
    ]
    batch = collate(read)
    lengths = torch.tensor([len(one) - 1 for one in read])
    means = read_means(model, [(batch.tokens, lengths)], n_pos=model.cfg.n_ctx)
    head = HeadId(0, 1)
    found = read_sample(model, means, text, [head], [])
    ids = model.tokenizer.encode(text.graded.prompt + text.graded.completion)
    assert "".join(found.tokens[1:]) == text.graded.prompt + text.graded.completion
    assert found.first == 1 + len(model.tokenizer.encode(text.graded.prompt))
    tokens = torch.tensor([[model.tokenizer.start_id, *ids]])
    mean = torch.as_tensor(means.z[0][: tokens.shape[1], 1], dtype=torch.float32)

    def hook(z, hook):
        z[:, :, 1] = mean
        return z

    with torch.no_grad():
        plain = model(tokens).log_softmax(-1)
        ablated = model.run_with_hooks(tokens, fwd_hooks=[("blocks.0.attn.hook_z", hook)]).log_softmax(-1)
    nexts = tokens[0, 1:, None]
    expected = (plain - ablated)[0, :-1].gather(1, nexts)[:, 0].numpy()
    np.testing.assert_allclose(found.changes[0, 1:], expected, atol=1e-4)
    np.testing.assert_allclose(found.losses[1:], -plain[0, :-1].gather(1, nexts)[:, 0].numpy(), atol=1e-4)
    assert np.isnan(found.losses[0]) and found.changes[0, 0] == 0


def test_texts_are_the_lowest_of_each_grade_of_other_prompts_and_the_best():
    outcomes = [grade(f"p{i}", 5.0 + 0.01 * i) for i in range(10)]
    outcomes[3], outcomes[6] = grade("p3", 1.0), grade("p6", 5.0, grammar=0.5)
    outcomes += [grade("p3", 0.5, sample=1, repeat=1), GradeFailure(outcomes[0].graded, "cut", "too long")]
    found = choose_texts(outcomes, 4)
    assert {"p3", "p6"} <= {one.graded.prompt_id for one in found}
    assert len({one.graded.prompt_id for one in found}) == 4
    assert all(isinstance(one, Grade) and not one.graded.repeat for one in found)
    assert [one.consistency for one in found] == sorted(one.consistency for one in found)
    assert len(choose_texts(outcomes, 100)) == 10
    failed = [GradeFailure(grade("a", 1.0).graded, "cut", "x")]
    assert choose_texts(failed, 3) == failed


def test_broken_files_are_passed_over(tmp_path):
    (tmp_path / "a.jsonl").write_text("not json\n")
    (tmp_path / "b.jsonl").write_text('["a list"]\n')
    (tmp_path / "c.jsonl").write_text("[" * 100_000)
    (tmp_path / "d.jsonl").write_bytes(b"\xff\xfe")
    (tmp_path / "e.jsonl").write_text('{"schema": "tslens.grades/1"}\n')
    assert [one.path.name for one in index_results([tmp_path, tmp_path])] == ["e.jsonl"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["l1_h64", "l1_h64"], "named twice"),
        (["l1_h64", "--results", "nowhere"], "is no folder"),
        (["l1_h65"], "l1_h6"),
        (["l1_h64", "--html", "taken/r.html"], "taken"),
    ],
)
def test_what_cannot_be_meant_is_refused(tslens, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").touch()
    ran = tslens("report", *arguments, "--texts", "0")
    assert ran.code in (1, 2) and said in ran.err
    assert not (tmp_path / "report.html").exists()
