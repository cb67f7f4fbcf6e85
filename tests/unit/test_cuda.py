"""What a GPU computes is what the CPU computes: training in each precision, compiled or not, and writing."""

from dataclasses import replace

import pytest
import torch

from tslens.config import train_config
from tslens.corpus.shards import import_corpus
from tslens.files import read_jsonl
from tslens.model.generate import generate
from tslens.run_folder import METRICS_SCHEMA, RunFolder
from tslens.train.loop import train_model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: nothing here was run on one")


@pytest.fixture(scope="module")
def corpus(story_file, tmp_path_factory):
    return import_corpus(story_file, tmp_path_factory.mktemp("corpus"), vocab_size=300)


def last_loss(corpus, run, device, **changes):
    settings = train_config(None, model="l2_h32", seed=0, steps=14, batch_tokens=300)
    train_model(replace(settings, **changes), corpus, run, device=device)
    return read_jsonl(run.metrics, METRICS_SCHEMA)[1][-1]["loss_nats"]


@pytest.mark.parametrize(
    ("precision", "is_compiled", "close"),
    [("float32", False, 1e-2), ("bfloat16", False, 5e-2), ("bfloat16", True, 5e-2)],
)
@pytest.mark.filterwarnings("ignore")
def test_a_gpu_trains_as_a_cpu_does(corpus, tmp_path, precision, is_compiled, close):
    on_cpu = last_loss(corpus, RunFolder(tmp_path / "cpu"), "cpu", precision="float32")
    run = RunFolder(tmp_path / "cuda")
    assert last_loss(corpus, run, "cuda", precision=precision, compile=is_compiled) == pytest.approx(
        on_cpu, abs=close
    )


def test_a_gpu_takes_bfloat16_of_itself(corpus, tmp_path):
    run = RunFolder(tmp_path / "run")
    train_model(train_config(None, model="l1_h32", seed=0, steps=2), corpus, run, device="cuda")
    expected = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    assert f'"precision": "{expected}"' in run.config.read_text()


def test_a_gpu_writes_the_greedy_text_of_a_cpu(tiny_model):
    prompts = ["Once upon a time", "The dog", ""]
    texts = [s.completion for s in generate(tiny_model, prompts, max_tokens=40, temperature=0, seed=0)]
    try:
        on_gpu = generate(tiny_model.to("cuda"), prompts, max_tokens=40, temperature=0, seed=0)
    finally:
        tiny_model.to("cpu")
    assert [s.completion for s in on_gpu] == texts
