"""Generation with a cache is generation without one, and a sample depends on nothing beside it."""

import numpy as np
import pytest
import torch

from tslens.errors import UsageError
from tslens.model.generate import generate


def greedy_without_cache(model, prompt, n):
    """The likeliest tokens, the whole text read anew for each."""
    ids = [model.tokenizer.eos_id, *model.tokenizer.encode(prompt)]
    start = len(ids)
    with torch.no_grad():
        while len(ids) < start + n and len(ids) < model.cfg.n_ctx:
            following = int(model(torch.tensor([ids]))[0, -1].argmax())
            ids.append(following)
            if following == model.tokenizer.eos_id:
                break
    return model.tokenizer.decode(ids[start:])


def test_the_cache_changes_nothing(tiny_model):
    """Prompts of different lengths in one batch, one of them past the window of 256 tokens."""
    long = "Tom found a kite in the park. " * 60
    prompts = [
        "Once",
        "Then they wanted",
        tiny_model.tokenizer.decode(tiny_model.tokenizer.encode(long)[:400]),
    ]
    assert 256 < len(tiny_model.tokenizer.encode(prompts[-1])) < 480
    found = generate(tiny_model, prompts, max_tokens=20, temperature=0, seed=0)
    for prompt, completion in zip(prompts, found, strict=True):
        assert completion.completion == greedy_without_cache(tiny_model, prompt, 20)


def test_a_sample_does_not_depend_on_its_batch(tiny_model):
    many = generate(tiny_model, ["Once", "Then they"], samples=40, max_tokens=12, seed=3)
    few = generate(tiny_model, ["Once"], samples=5, max_tokens=12, seed=3)
    assert [c.completion for c in many[:5]] == [c.completion for c in few]
    assert len({c.completion for c in many[:40]}) > 10
    other = generate(tiny_model, ["Once"], samples=5, max_tokens=12, seed=4)
    assert [c.completion for c in few] != [c.completion for c in other]


def test_it_samples_the_distribution_of_the_model(tiny_model):
    with torch.no_grad():
        tokens = tiny_model.to_tokens("Once upon")
        expected = tiny_model(tokens)[0, -1].softmax(-1).numpy()
    n = 3000
    drawn = generate(tiny_model, ["Once upon"], samples=n, max_tokens=1, seed=0)
    display = tiny_model.tokenizer.token_strings(range(tiny_model.cfg.d_vocab))
    best = int(expected.argmax())
    share = np.mean([c.completion == ("" if c.ended else display[best]) for c in drawn])
    assert share == pytest.approx(expected[best], abs=4 * (0.25 / n) ** 0.5)


def test_top_k_keeps_to_the_likeliest(tiny_model):
    with torch.no_grad():
        best = tiny_model(tiny_model.to_tokens("Once upon"))[0, -1].topk(2).indices.tolist()
    allowed = {tiny_model.tokenizer.decode([i]) for i in best}
    drawn = generate(tiny_model, ["Once upon"], samples=50, max_tokens=1, top_k=2, seed=0)
    assert {c.completion for c in drawn} <= allowed


def test_it_stops_at_the_context(tiny_model):
    prompt = "Tom found a kite in the park. " * 40
    ids = tiny_model.tokenizer.encode(prompt)[:500]
    text = tiny_model.tokenizer.decode(ids)
    n_prompt = len(tiny_model.tokenizer.encode(text)) + 1
    [completion] = generate(tiny_model, [text], max_tokens=100, seed=0)
    assert completion.n_tokens <= 512 - n_prompt + 1


@pytest.mark.parametrize("bad", [{"samples": 0}, {"max_tokens": 0}, {"temperature": -1.0}, {"top_k": 0}])
def test_impossible_settings_are_refused(tiny_model, bad):
    with pytest.raises(UsageError):
        generate(tiny_model, ["Once"], seed=0, **bad)
