import pytest
import torch

from tslens.errors import ModelError
from tslens.model.spec import ModelSpec
from tslens.model.transformer import TinyTransformer

WATCHED = "blocks.{}.attn.hook_pattern"


@pytest.fixture(scope="module")
def model():
    return TinyTransformer(ModelSpec.from_name("l3_h64"), 97, seed=3).eval()


def random_tokens(n_stories, n_pos, seed=0):
    return torch.randint(0, 97, (n_stories, n_pos), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("n_pos", [5, 256, 257, 512])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 2e-5), (torch.float64, 1e-12)])
def test_fused_and_explicit_paths_agree(n_pos, dtype, bound):
    model = TinyTransformer(ModelSpec.from_name("l3_h64"), 97, seed=3)
    with torch.no_grad():
        for parameter in model.parameters():  # weights far from zero, so that attention is not uniform
            parameter.mul_(8) if parameter.ndim > 1 else None
    model = model.to(dtype).eval()
    tokens = random_tokens(2, n_pos)
    fused = model(tokens)
    explicit, _ = model.run_with_cache(tokens)
    assert (fused - explicit).abs().max() < bound * fused.abs().max()


def test_patterns_are_causal_windowed_distributions(model):
    patterns = list(model.attention_patterns(random_tokens(2, 300)))
    _, cache = model.run_with_cache(random_tokens(2, 300))
    distance = torch.arange(300)[:, None] - torch.arange(300)
    for layer, pattern in enumerate(patterns):
        assert torch.allclose(pattern, cache["pattern", layer], atol=1e-6)
        assert torch.allclose(pattern.sum(-1), torch.ones(()), atol=1e-5)
        seen = pattern > 0
        assert not seen[..., distance < 0].any()
        assert seen[..., (distance >= 0) & (distance < 256)].all()
        assert seen[..., distance >= 256].any() == (layer % 2 == 0)


def test_a_hook_on_the_pattern_is_obeyed(model):
    tokens = random_tokens(1, 20)
    changed = model.run_with_hooks(
        tokens, fwd_hooks=[(WATCHED.format(0), lambda p, hook: torch.eye(20).expand_as(p))]
    )
    assert (changed - model(tokens)).abs().max() > 1e-4
    assert torch.equal(model(tokens), model(tokens))  # no hook is left behind


def test_hook_result_sums_to_what_attention_writes(model):
    tokens = random_tokens(2, 12)
    _, cache = model.run_with_cache(tokens)
    total = cache["result", 1].sum(2) + model.blocks[1].attn.b_O
    assert torch.allclose(total, cache["attn_out", 1], atol=1e-5)


def test_state_dict_has_the_tied_unembedding_and_loads_strictly(model):
    state = model.state_dict()
    assert torch.equal(state["unembed.W_U"], state["embed.W_E"].T)
    other = TinyTransformer(model.spec, 97, seed=9)
    other.load_state_dict(state)
    tokens = random_tokens(1, 9)
    assert torch.equal(model(tokens), other(tokens))


def test_an_untied_unembedding_is_refused(model):
    state = {**model.state_dict(), "unembed.W_U": torch.zeros(64, 97)}
    with pytest.raises(ModelError, match="not the transpose"):
        TinyTransformer(model.spec, 97, seed=9).load_state_dict(state)


def test_seed_decides_the_weights():
    spec = ModelSpec.from_name("l1_h32")
    one, same, other = (TinyTransformer(spec, 50, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.embed.W_E, same.embed.W_E)
    assert not torch.equal(one.embed.W_E, other.embed.W_E)


def test_number_of_parameters_is_what_the_spec_says(model):
    assert sum(p.numel() for p in model.parameters()) == model.spec.n_params(97)


def test_text_longer_than_the_context_is_refused(model):
    with pytest.raises(ModelError, match="513"):
        model(random_tokens(1, 513))
