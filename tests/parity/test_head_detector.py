"""TransformerLens' own tools take our model as it is, and its head detector gives our "mul" column."""

import numpy as np
import pytest
import torch
from transformer_lens import head_detector, patching
from transformer_lens.ActivationCache import ActivationCache
from transformer_lens.model_protocol import TransformerLensModel, TransformerLensModelWithWeights

from tslens.probes.base import find_probes
from tslens.probes.scan import score_heads
from tslens.types import Story

PATTERNS = {
    "previous_token": "previous_token_head",
    "duplicate_token": "duplicate_token_head",
}


def test_the_model_satisfies_the_protocols(tiny_model):
    assert isinstance(tiny_model, TransformerLensModel)
    assert isinstance(tiny_model, TransformerLensModelWithWeights)


@pytest.mark.parametrize("probe", PATTERNS)
def test_mul_equals_the_head_detector_on_stories(tiny_model, stories, probe):
    chosen = [*stories[:35], Story("A kite.")]  # the last has no token twice: it counts as zero
    theirs = head_detector.detect_head(tiny_model, [s.text for s in chosen], PATTERNS[probe])
    ours = {s.head: s.mul for s in score_heads(tiny_model, chosen, probes=[probe], seed=0).scores}
    assert len(ours) == 8
    for head, mul in ours.items():
        assert mul == pytest.approx(float(theirs[head.layer, head.index]), abs=1e-5)


def test_mul_equals_the_head_detector_on_repeated_random_tokens(tiny_model, stories):
    """The detector reads text, so the sequences of the induction probe are handed to it as tokens."""
    probe = find_probes()["induction"]
    size = {"d_vocab": tiny_model.cfg.d_vocab, "start_id": tiny_model.tokenizer.start_id, "n_ctx": 512}
    batches = list(probe.own_batches(**size, seed=0, batch_tokens=1024))
    sequences = [
        torch.from_numpy(batch.tokens[row, : batch.length[row]])[None]
        for batch in batches
        for row in range(len(batch.length) // 2)
    ]
    detected = []
    for tokens in sequences:
        pattern = head_detector.get_induction_head_detection_pattern(tokens)
        _, cache = tiny_model.run_with_cache(tokens, remove_batch_dim=True)
        detected.append(
            head_detector.detect_head(_FixedTokens(tiny_model, tokens), "-", pattern, cache=cache)
        )
    theirs = torch.stack(detected).mean(0)
    for score in score_heads(tiny_model, stories[:35], probes=["induction"], seed=0).scores:
        assert score.mul == pytest.approx(float(theirs[score.head.layer, score.head.index]), abs=1e-5)


class _FixedTokens:
    """A model that reads given tokens whatever the text."""

    def __init__(self, model, tokens):
        self.cfg, self.tokens = model.cfg, tokens

    def to_tokens(self, *args, **kwargs):
        return self.tokens

    def run_with_cache(self, *args, **kwargs):
        raise NotImplementedError

    run_with_hooks = run_with_cache


def test_the_cache_is_transformer_lens_own(tiny_model):
    _, cache = tiny_model.run_with_cache("Tom found a ball.")
    assert isinstance(cache, ActivationCache)
    stack, labels = cache.decompose_resid(return_labels=True)
    final = cache["resid_post", 1]
    assert torch.allclose(stack.sum(0), final, atol=1e-4)
    assert labels[0] == "embed"


def test_activation_patching_restores_what_corruption_broke(tiny_model):
    clean = tiny_model.to_tokens("Tom found a ball in the park.")
    corrupted = clean.clone()
    corrupted[0, 1] = (clean[0, 1] + 7) % tiny_model.cfg.d_vocab
    clean_logits, cache = tiny_model.run_with_cache(clean)
    target = int(clean_logits[0, -1].argmax())

    def metric(logits):
        return logits[0, -1, target]

    patched = patching.get_act_patch_resid_pre(tiny_model, corrupted, cache, metric)
    assert patched.shape == (2, clean.shape[1])
    changed = np.flatnonzero((clean != corrupted)[0].numpy())
    # before layer 0 only the changed places differ: patching them all is the clean run
    assert len(changed) == 1
    assert float(patched[0, changed[0]]) == pytest.approx(float(metric(clean_logits).detach()), abs=1e-4)
