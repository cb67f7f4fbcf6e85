"""A model whose neurons were set by hand, and what is said of each.

Attention writes nothing, so that a neuron can only know the token and the position:

- ``loud``: fires at pronouns, and raises what most often follows them;
- ``silent``: fires as the loud one does, and writes nothing: a candidate that must not become a role;
- ``early``: fires at the beginning of a story, whatever the token;
- ``dead``: never above zero.

Axes: vocab, d_model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from tslens.audit.planted_neurons import NeuronCase, NeuronFindings, Truth, tokens_of
from tslens.audit.report import POSITIVE, Check
from tslens.corpus.text_tokenizer import TextTokenizer
from tslens.corpus.tokenizer import StoryTokenizer
from tslens.model.spec import ModelSpec
from tslens.model.transformer import TinyTransformer
from tslens.probes.neurons.classify import classify_neurons
from tslens.probes.neurons.sample import Tokens
from tslens.probes.neurons.token_labels import names_with
from tslens.types import NeuronRole, Story

LOUD, SILENT, EARLY, DEAD = range(4)
PRONOUN_DIM, PLACE_DIM = 0, 1  # dimensions of the residual stream with a meaning
PRONOUN_LABELS = ("pos_pron", "subject_pronoun", "antecedent")
EARLY_LABELS = ("early_in_story", "part_opening")
MOSTLY = 0.8  # share of a word's tokens that are pronouns


def hand_set_model(tokens: Tokens, tokenizer: StoryTokenizer, *, seed: int) -> TinyTransformer:
    """The model. ``tokens``: of stories with gold labels, which say what pronouns are and what follows them."""
    model = TinyTransformer(
        ModelSpec.from_name("l1_h32"), tokenizer.vocab_size, seed=seed, tokenizer=tokenizer
    )
    is_pronoun = tokens.flags[:, names_with(()).index("pos_pron")]
    count = np.bincount(tokens.token, minlength=tokenizer.vocab_size)
    share = np.bincount(tokens.token, is_pronoun, tokenizer.vocab_size) / np.maximum(count, 1)
    following = tokens.next[is_pronoun & (tokens.next >= 0)]
    most = np.argsort(-np.bincount(following, minlength=tokenizer.vocab_size))[:8]
    with torch.no_grad():
        block, embed = model.blocks[0], model.embed.W_E
        embed.normal_(std=0.3, generator=torch.Generator().manual_seed(seed))
        embed[:, [PRONOUN_DIM, PLACE_DIM]] = 0
        embed[np.flatnonzero(share >= MOSTLY).tolist(), PRONOUN_DIM] = 3
        model.pos_embed.W_pos.zero_()
        place = torch.arange(len(model.pos_embed.W_pos))
        model.pos_embed.W_pos[:, PLACE_DIM] = 2 * (1 - place / 60).clamp(min=-1)
        block.attn.W_O.zero_()
        block.mlp.W_in.zero_()
        block.mlp.W_out.zero_()
        block.mlp.W_in[PRONOUN_DIM, [LOUD, SILENT]] = 1
        block.mlp.W_in[PLACE_DIM, EARLY] = 1
        block.mlp.b_in[DEAD] = -20
        block.mlp.W_out[LOUD] = embed[most.tolist()].mean(0)
    return model.eval()


def audit_hand_set_neurons(
    stories: Sequence[Story], tokenizer: TextTokenizer, *, seed: int
) -> NeuronFindings:
    """Read the model, and check what is said of its neurons."""
    assert isinstance(tokenizer, StoryTokenizer)
    tokens = tokens_of(stories, tokenizer, n_ctx=512, seed=seed)
    model = hand_set_model(tokens, tokenizer, seed=seed)
    roles = classify_neurons(model, stories, seed=seed, exclude=(), n_explain=len(stories)).roles
    loud, silent, early, dead = (roles[neuron] for neuron in (LOUD, SILENT, EARLY, DEAD))
    truths: list[tuple[Truth, NeuronRole]] = [
        ("lexical", loud), ("silent", silent), ("positional", early), ("dead", dead)
    ]  # fmt: skip
    checks = {
        "the loud neuron is a role, lexical": loud.status == "role"
        and loud.role in PRONOUN_LABELS
        and loud.basis == "lexical",
        "the silent neuron is a candidate and no role": silent.status == "candidate"
        and silent.role in PRONOUN_LABELS,
        "the early neuron is positional": early.status in POSITIVE
        and early.role in EARLY_LABELS
        and early.basis == early.kind == "positional",
        "the dead neuron is dead": dead.status == "no" and dead.kind == "dead",
        "no other neuron is anything": all(role.status == "no" for role in roles[DEAD + 1 :]),
    }
    return NeuronFindings(
        tuple(NeuronCase("hand-set", truth, role.role or "", role.auroc, role) for truth, role in truths),
        tuple(Check("hand-set", name, "at least", 1.0, float(holds), 1) for name, holds in checks.items()),
    )
