"""Other people's models: logits, patterns, losses and greedy text as transformers gives them; probes run on all."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tslens.causal.ablation import ablated, parse_component
from tslens.errors import ModelError
from tslens.model.foreign import ForeignModel
from tslens.model.generate import generate
from tslens.model.load import find_model, load_model
from tslens.model.loss import loss_per_target
from tslens.model.transformer import TinyTransformer
from tslens.probes.base import find_probes
from tslens.probes.scan import score_heads

pytestmark = pytest.mark.usefixtures("small_scans")


BOUND = 1e-4
KINDS = ["gpt2", "gpt2_untied", "llama", "llama_tied", "gpt_neo"]


def their_model(kind, tokenizer):
    """A random model of transformers, far enough from zero that attention is not uniform."""
    import transformers

    ends = {"bos_token_id": tokenizer.eos_id, "eos_token_id": tokenizer.eos_id}
    gpt2 = {
        "vocab_size": tokenizer.vocab_size,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 200,
        **ends,
    }
    llama = {
        "vocab_size": tokenizer.vocab_size,
        "hidden_size": 32,
        "intermediate_size": 50,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 200,
        **ends,
    }
    neo = {
        "vocab_size": tokenizer.vocab_size,
        "hidden_size": 32,
        "num_layers": 3,
        "num_heads": 4,
        "max_position_embeddings": 200,
        "attention_types": [[["local", "global", "local"], 1]],
        "window_size": 16,
        **ends,
    }
    torch.manual_seed(len(kind))
    model = {
        "gpt2": lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config(**gpt2)),
        "gpt2_untied": lambda: transformers.GPT2LMHeadModel(
            transformers.GPT2Config(**gpt2, tie_word_embeddings=False, activation_function="gelu")
        ),
        "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**llama)),
        "llama_tied": lambda: transformers.LlamaForCausalLM(
            transformers.LlamaConfig(**{**llama, "num_key_value_heads": 4}, tie_word_embeddings=True)
        ),
        "gpt_neo": lambda: transformers.GPTNeoForCausalLM(transformers.GPTNeoConfig(**neo)),
    }[kind]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5 if parameter.ndim == 2 else 1).add_(0.05 * torch.randn(parameter.shape))
    return model.eval()


@pytest.fixture(scope="module", params=KINDS)
def folder(request, tokenizer, tmp_path_factory):
    """A folder of transformers, as its own ``save_pretrained`` writes it, and our tokenizer in it."""
    path = tmp_path_factory.mktemp("foreign") / request.param
    their_model(request.param, tokenizer).save_pretrained(path)
    tokenizer.save(path / "tokenizer.json")
    return path


@pytest.fixture(scope="module")
def theirs(folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()


@pytest.fixture(scope="module")
def model(folder):
    return load_model(folder)


@pytest.fixture(scope="module")
def tokens(tokenizer):
    return torch.randint(0, tokenizer.vocab_size, (3, 60), generator=torch.Generator().manual_seed(1))


def test_logits_and_patterns(model, theirs, tokens):
    assert isinstance(model, ForeignModel)
    with torch.no_grad():
        expected = theirs(tokens, output_attentions=True)
        assert (model(tokens) - expected.logits).abs().max() < BOUND
        patterns = list(model.attention_patterns(tokens))
    assert len(patterns) == model.cfg.n_layers
    for pattern, attention in zip(patterns, expected.attentions, strict=True):
        assert pattern.shape == (3, model.cfg.n_heads, 60, 60)
        assert (pattern - attention).abs().max() < BOUND


def test_padding_changes_nothing(model, tokens):
    """Also with the token that begins a story, which transformers would take for padding in the first place."""
    with torch.no_grad():
        alone = model(tokens[:1, :20])
        row = torch.cat([tokens[:1, :20], torch.full((1, 40), model.tokenizer.start_id)], 1)
        assert (model(row)[:, :20] - alone).abs().max() < BOUND
        row[0, 0] = model.tokenizer.start_id
        first, second = (next(model.attention_patterns(row[:, :n])) for n in (20, 60))
    assert (first - second[:, :, :20, :20]).abs().max() < BOUND


def test_losses(model, theirs, stories):
    encoded = [model.tokenizer.encode_story(story.text, context=200) for story in stories[:5]]
    ours = loss_per_target(model, encoded)
    for losses, story in zip(ours, encoded, strict=True):
        ids = torch.from_numpy(story.astype(np.int64))[None]
        with torch.no_grad():
            expected = float(theirs(ids, labels=ids).loss)
        assert losses.mean() == pytest.approx(expected, abs=BOUND)


def test_greedy_text(model, theirs):
    """Prompts of different lengths in one batch; ``transformers.generate`` one by one."""
    prompts = [
        "Once",
        "Then they wanted a kite",
        "",
        "Tom found a kite in the park. Then Lily dropped the cake",
    ]
    found = generate(model, prompts, max_tokens=30, temperature=0, seed=0)
    for prompt, completion in zip(prompts, found, strict=True):
        ids = torch.tensor([[model.tokenizer.start_id, *model.tokenizer.encode(prompt)]])
        out = theirs.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=30, do_sample=False, pad_token_id=0
        )
        assert completion.completion == model.tokenizer.decode(out[0, ids.shape[1] :].tolist())


@pytest.mark.parametrize("name", ["L1H1", "L0N3", "L0", "L1.attn", "L0.mlp"])
def test_ablation_reaches_losses_and_generation(model, tokens, name):
    """While it writes from a cache, an ablated model gives the logits that it gives at once, and they are others."""
    prompt = tokens[0, :9].tolist()
    with torch.no_grad():
        before = model(torch.tensor([[*prompt, 3]]))[0, -1]
        with ablated(model, [parse_component(name)]):
            whole = model(torch.tensor([[*prompt, 3]]))[0, -1]
            decoder = model.decoder()
            decoder.start([prompt], 40)
            written = decoder.step(torch.tensor([3]))[0]
        after = model(torch.tensor([[*prompt, 3]]))[0, -1]
    assert (whole - written).abs().max() < BOUND
    assert (whole - before).abs().max() > 1e-6
    assert torch.equal(before, after)


def test_rows_of_a_decoder_can_be_dropped(model, tokens):
    decoder = model.decoder()
    prompts = [tokens[0, :9].tolist(), tokens[1, :4].tolist(), tokens[2, :7].tolist()]
    decoder.start(prompts, 40)
    decoder.step(torch.tensor([1, 2, 3]))
    decoder.keep(torch.tensor([2, 1]))
    logits = decoder.step(torch.tensor([4, 5]))
    rows = ([*prompts[2], 3, 4], [*prompts[1], 2, 5])
    with torch.no_grad():
        for row, found in zip(rows, logits, strict=True):
            assert (model(torch.tensor([row]))[0, -1] - found).abs().max() < BOUND


@pytest.mark.filterwarnings("ignore:.*intervals are:UserWarning")
def test_probes_run(model, stories):
    report = score_heads(model, stories[:12], seed=0)
    n_heads = model.cfg.n_layers * model.cfg.n_heads
    assert len(report.scores) % n_heads == 0
    assert set(find_probes()) - {score.probe for score in report.scores} <= {
        "distance_65_128"
    }  # too far for them
    row = report.scores[0].to_json()
    contract = {
        "head",
        "probe",
        "position",
        "value",
        "low",
        "high",
        "mul",
        "nulls",
        "excess",
        "excess_low",
        "p",
    }
    assert contract | {"status", "basis", "cause"} <= set(row)
    assert all("twins" in score.nulls for score in report.scores)


def test_a_window_has_its_own_uniform_null(model, stories):
    """Layers that see 16 tokens attend more to each of them: the null must know which window it is."""
    windows = [model.window(layer) for layer in range(model.cfg.n_layers)]
    if windows != [16, None, 16]:
        assert not any(windows)
        return
    long = [f"{stories[i].text}\n{stories[i + 1].text}" for i in range(0, 40, 2)]
    with pytest.warns(UserWarning, match="too narrow"):
        report = score_heads(model, long, seed=0, probes=["previous_token"])
    nulls = {score.head.layer: score.nulls["uniform"] for score in report.scores}
    assert nulls[0] == nulls[2] > 1 / 17
    assert nulls[1] < nulls[0]


def test_twins(model, tokens):
    twins = {kind: model.random_twin(kind, seed=3) for kind in ("fresh", "redrawn")}
    again = {kind: model.random_twin(kind, seed=3) for kind in twins}
    with torch.no_grad():
        mine = next(model.attention_patterns(tokens))
        for kind, twin in twins.items():
            pattern = next(twin.attention_patterns(tokens))
            assert (pattern - mine).abs().max() > 0.05
            assert torch.equal(pattern, next(again[kind].attention_patterns(tokens)))
    for trained, drawn in zip(model._trained, twins["redrawn"]._trained, strict=True):
        if trained.numel() > 1000:
            assert float(drawn.detach().std()) == pytest.approx(float(trained.detach().std()), rel=0.1)


def test_transformer_lens_takes_it(model, tokens):
    """Hooks and caches of the bridge, under TransformerLens' names."""
    name = "blocks.0.attn.hook_pattern"
    _, cache = model.run_with_cache(tokens, names_filter=name)
    assert (cache[name] - next(model.attention_patterns(tokens))).abs().max() < BOUND
    assert model.to_tokens("Tom ran.").shape[0] == 1
    assert not any(model.list_hooks())


def test_a_model_with_hooks_is_not_scanned(model, stories):
    model.bridge.add_hook("blocks.0.attn.hook_pattern", lambda pattern, hook: pattern * 0)
    try:
        with pytest.raises(ModelError, match="has hooks"):
            score_heads(model, stories[:3], seed=0)
    finally:
        model.reset_hooks()


def test_text_longer_than_the_context_is_refused(model):
    with pytest.raises(ModelError, match="more than the context of 200"):
        model(torch.zeros(1, 201, dtype=torch.long))


# Folders that cannot be opened ---------------------------------------------------------------------------------


def changed(folder, target, *, weights=None, **config):
    """A copy of a folder with another configuration or other weights."""
    target.mkdir()
    found = json.loads((folder / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**found, **config}))
    save_file(
        weights or load_file(folder / "model.safetensors"), target / "model.safetensors", {"format": "pt"}
    )
    return target


def test_a_hostile_configuration_takes_no_memory(folder, tmp_path):
    for number, config in enumerate(
        [
            {"vocab_size": 10**9},
            {"hidden_size": 2**20, "n_embd": 2**20},
            {"n_layer": 10**8, "num_layers": 10**8},
        ]
    ):
        layers = {"num_hidden_layers": 10**8} if "n_layer" in config else {}
        with pytest.raises(ModelError):
            load_model(changed(folder, tmp_path / str(number), **config, **layers))


def test_missing_and_broken_weights(folder, tmp_path):
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if "0" in name and name.endswith("weight"))
    fewer = {key: tensor for key, tensor in weights.items() if key != name}
    with pytest.raises(ModelError):
        load_model(changed(folder, tmp_path / "fewer", weights=fewer))
    bad = {**weights, name: torch.full_like(weights[name], float("nan"))}
    with pytest.raises(ModelError, match="not finite"):
        load_model(changed(folder, tmp_path / "bad", weights=bad))
    cut = changed(folder, tmp_path / "cut") / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-100])
    with pytest.raises(ModelError, match="whole"):
        load_model(cut.parent)


def test_another_architecture_and_a_pickle_are_refused(folder, tmp_path):
    with pytest.raises(ModelError, match="mamba"):
        load_model(changed(folder, tmp_path / "mamba", model_type="mamba"))
    pickled = changed(folder, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickle"):
        load_model(pickled)


def test_the_papers_shape_is_ours(tokenizer, tmp_path):
    """As the published models are: 16 heads, a context of 2048; transformers leaves its defaults out of the file."""
    from transformers import GPTNeoConfig, GPTNeoForCausalLM

    shape = {"hidden_size": 64, "num_layers": 2, "attention_types": [[["global", "local"], 1]]}
    theirs = GPTNeoForCausalLM(GPTNeoConfig(vocab_size=tokenizer.vocab_size, **shape)).eval()
    theirs.save_pretrained(tmp_path / "neo")
    tokenizer.save(tmp_path / "neo" / "tokenizer.json")
    model = load_model(tmp_path / "neo")
    assert isinstance(model, TinyTransformer)
    assert (model.spec.name, model.cfg.n_ctx) == ("l2_h64_a16", 2048)
    tokens = torch.randint(0, tokenizer.vocab_size, (1, 400))
    with torch.no_grad():
        assert (model(tokens) - theirs(tokens).logits).abs().max() < BOUND
    assert find_model(tmp_path / "neo").kind == "transformers"
