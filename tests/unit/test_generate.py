"""Generation with a cache is generation without one, and a sample depends on nothing beside it."""

import numpy as np
import pytest
import torch

from tslens.errors import ModelError, UsageError
from tslens.model import generate as generating
from tslens.model.decoding import CachedDecoder
from tslens.model.generate import Sampling, choose, generate


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


def test_a_row_is_the_same_to_the_last_bit_in_any_company(tiny_model):
    """Alone, beside longer prompts, after others have left: the logits are equal, not close."""
    prompts = [[0, 7, 9], [0, *range(20, 61)], [0, *range(1, 300)], *([0, k] for k in range(1, 30))]
    new = torch.randint(0, tiny_model.cfg.d_vocab, (8,), generator=torch.Generator().manual_seed(1))
    together = CachedDecoder(tiny_model)
    found = [together.start(prompts, 400)[0]]
    for step, token in enumerate(new):
        if step == 3:
            together.keep(torch.tensor([0, 31, 2]))  # the last row moves into a gap
        n_rows = len(prompts) if step < 3 else 3
        found.append(together.step(token.repeat(n_rows))[0])
    alone = CachedDecoder(tiny_model)
    expected = [alone.start(prompts[:1], 64)[0], *(alone.step(token[None])[0] for token in new)]
    assert torch.equal(torch.stack(found), torch.stack(expected))
    with torch.no_grad():
        whole = tiny_model(torch.tensor([prompts[0] + new.tolist()]))[0, 2:]
    assert torch.allclose(torch.stack(expected), whole, atol=1e-4)


@pytest.fixture
def two_threads():
    """As on most machines: the second thread works on the second half of the rows."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_a_row_is_the_same_to_the_last_bit_whichever_thread_works_on_it(tiny_model, two_threads):
    text = list(range(5, 220))
    for n_prompt in (1, 15, 16, 150, 215):
        prompt, others = [0, *text[:n_prompt]], [[0, k] for k in range(1, 32)]
        last, first = CachedDecoder(tiny_model), CachedDecoder(tiny_model)
        assert torch.equal(
            last.start([*others, prompt], 400)[-1], first.start([prompt, [0, *text, 7]], 300)[0]
        )
        for token in text[:5]:
            found = last.step(torch.full((32,), token))[-1]
            assert torch.equal(found, first.step(torch.full((2,), token))[0])


def test_rows_that_stay_go_on_in_the_order_asked(tiny_model):
    prompts = [[0, k, *range(k)] for k in range(1, 21)]
    decoder = CachedDecoder(tiny_model)
    decoder.start(prompts, 64)
    kept = [19, 3, 18, 0]
    decoder.keep(torch.tensor(kept))
    found = decoder.step(torch.tensor([5, 6, 7, 8]))
    with torch.no_grad():
        for row, (index, token) in enumerate(zip(kept, [5, 6, 7, 8], strict=True)):
            expected = tiny_model(torch.tensor([[*prompts[index], token]]))[0, -1]
            assert torch.allclose(found[row], expected, atol=1e-4)


def test_batches_of_any_size_give_the_same_texts(tiny_model, monkeypatch):
    prompts = ["Once", "Then they wanted", "", "Tom found a kite in the park. " * 5] * 6
    settings = {"samples": 2, "max_tokens": 30, "seed": 1}
    one = generate(tiny_model, prompts, **settings)
    monkeypatch.setitem(generating.CACHE_BYTES, "cpu", 1)  # 16 rows
    assert generate(tiny_model, prompts, **settings) == one
    assert [(c.prompt, c.sample) for c in one] == [(p, s) for p in prompts for s in range(2)]


def test_hooks_are_obeyed_while_it_writes(tiny_model):
    plain = generate(tiny_model, ["Once", "Then they"], max_tokens=15, temperature=0, seed=0)
    seen = []

    def watch(activation, hook):
        seen.append(activation.shape[1])

    with tiny_model.hooks(fwd_hooks=[("blocks.1.hook_resid_post", watch)]):
        watched = generate(tiny_model, ["Once", "Then they"], max_tokens=15, temperature=0, seed=0)
    assert watched == plain
    assert seen[1:] == [1] * 14
    with (
        tiny_model.hooks(fwd_hooks=[("blocks.1.attn.hook_pattern", watch)]),
        pytest.raises(ModelError, match="Patterns"),
    ):
        generate(tiny_model, ["Once"], max_tokens=3, seed=0)


def test_an_empty_prompt_begins_a_story(tiny_model):
    [found] = generate(tiny_model, [""], max_tokens=10, temperature=0, seed=0)
    assert found.completion == greedy_without_cache(tiny_model, "", 10)


def test_progress_grows_to_the_number_asked(tiny_model):
    seen = []
    generate(tiny_model, ["Once"] * 20, samples=2, max_tokens=10, seed=0, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 40
    assert len(set(seen)) > 3


def test_a_model_without_a_tokenizer_cannot_write(tiny_model, monkeypatch):
    monkeypatch.setattr(tiny_model, "tokenizer", None)
    with pytest.raises(ModelError, match="tokenizer"):
        generate(tiny_model, ["Once"], seed=0)


@pytest.mark.parametrize("n_vocab", [5, 64, 300])
def test_a_token_is_drawn_where_the_distribution_passes_the_number(n_vocab):
    logits = torch.randn(400, n_vocab, generator=torch.Generator().manual_seed(0)) * 2
    draw = torch.rand(400, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    draw[:2] = torch.tensor([0.0, 1 - 2**-53])
    cumulative = (logits / 0.7).softmax(-1).double().numpy().cumsum(-1)
    expected = [
        min(np.searchsorted(row, u * row[-1], side="right"), n_vocab - 1)
        for row, u in zip(cumulative, draw.numpy(), strict=True)
    ]
    assert choose(logits, draw, Sampling(1, 0.7, None)).tolist() == expected
    shares = choose(logits[:1].expand(400, -1), draw, Sampling(1, 1.0, 3)).unique()
    assert set(shares.tolist()) == set(logits[0].topk(3).indices.tolist())


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
