"""Models of one layer whose heads were set by hand to produce known classes of next tokens.

Eight heads of width 32. Parts of the residual stream:

    token     a random direction for each token
    hands     clock hands that turn with the position
    reads     for each head one number: how often its class comes next, or next but one, after the token
    classes   for each head one number: whether the token is of its class; as the unembedding is the embedding, what is
              written here raises these tokens
    any       one number, the same at every position
    balance   two numbers that make all embeddings of one length

A head turns the hands back by no place or by one, so that it looks at the token itself or at the one before, reads its
number there and writes it for its class. An ``even`` head reads *any*, and so raises its class everywhere alike; an
``idle`` one writes nothing. A head that ``copies`` reads half of the token direction and writes it back, one that
``forbids`` writes its negative. Heads that are ``faint`` write a class so that its value is about 0.15 to 0.5 nats,
those ``below`` so that it is half of the floor. Classes and counts come from the labels by character offsets, not
through the code that is audited.

Axes: vocab, job (of a model, one a head), pos.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float

from tslens.audit.hand_set import PERIODS
from tslens.audit.truth import TokenFacts
from tslens.corpus.text_tokenizer import TextTokenizer
from tslens.model.attention import Attention
from tslens.model.spec import N_CTX, ModelSpec
from tslens.model.transformer import TinyTransformer
from tslens.probes.production.classes import COPYING, ClassKind

SHAPE = ModelSpec.from_name("l1_h256_a8")
TOKEN, HANDS, READS, CLASSES = slice(0, 64), slice(64, 84), slice(96, 104), slice(104, 112)
ANY, BALANCE = 112, (113, 114)
SHARP = 0.2  # of the hands: how sharply a head looks at one place
OFTEN = 0.5  # share of a token's uses in which it is of a class

Truth = Literal["produces", "faint", "below", "copies", "forbids", "even", "idle"]


@dataclass(frozen=True)
class Job:
    """What one head was set to.

    ``kind``, ``name``: its class, a part of speech or a word, or copying. ``written``: what it writes for a share of
    one. ``back``: 0 where it reads the token itself, 1 where it reads the one before. ``token``: of a word, its id.
    """

    kind: ClassKind
    name: str
    written: float
    back: int = 0
    truth: Truth = "produces"
    token: int = -1

    def is_in(self, facts: TokenFacts) -> Bool[np.ndarray, " pos"]:
        """Which tokens of a row are of the class; none where it is copying."""
        if self.kind == "word":
            return facts.tokens == self.token
        return np.array([pos == self.name for pos in facts.pos])


PARTS = ("NOUN", "VERB", "PUNCT", "DET", "PRON", "ADP", "PROPN", "AUX")
BACK_PARTS = ("NOUN", "VERB", "PROPN", "PRON")
FAINT = (("NOUN", 0.019), ("VERB", 0.034), ("PUNCT", 0.05), ("ADP", 0.1))
BELOW = (("DET", 0.011), ("AUX", 0.01))
COPIED = 0.025  # times what is read of a token: about 0.2 nats
N_WORDS = 4
MOST_OF_PART = 2 / 3


def jobs_of_models(facts: Sequence[TokenFacts], tokenizer: TextTokenizer) -> list[tuple[Job, ...]]:
    """Four models: parts of speech; words, and parts read one back; faint ones and copying; decoys.

    The words are the most frequent ones that are no more than two thirds of a part of speech: against others of their
    part the others could hardly be told.
    """
    counts = Counter(
        (token, one.pos[i]) for one in facts for i, token in enumerate(one.tokens.tolist()) if one.is_word[i]
    )
    of_part = Counter(pos for one in facts for pos in one.pos)
    tokens = [token for (token, pos), n in counts.most_common() if n <= MOST_OF_PART * of_part[pos]][:N_WORDS]
    words = [
        Job("word", name, 1.0, token=token)
        for name, token in zip(tokenizer.token_strings(tokens), tokens, strict=True)
    ]
    return [
        tuple(Job("part", part, 0.2) for part in PARTS),
        (*words, *(Job("part", part, 1.0, back=1) for part in BACK_PARTS)),
        (
            *(Job("part", part, written, truth="faint") for part, written in FAINT),
            *(Job("part", part, written, truth="below") for part, written in BELOW),
            Job("copying", COPYING, COPIED, truth="copies"),
            Job("copying", COPYING, -COPIED, truth="forbids"),
        ),
        (
            *(Job("part", part, 0.5, truth="even") for part in PARTS[:6]),
            *(Job("part", part, 0.0, truth="idle") for part in PARTS[6:]),
        ),
    ]


@torch.no_grad()
def producing_model(
    jobs: Sequence[Job], facts: Sequence[TokenFacts], tokenizer: TextTokenizer, *, seed: int
) -> TinyTransformer:
    """The model of some jobs. ``facts``: of the stories that shares are counted on. ``seed``: of token directions."""
    model = TinyTransformer(SHAPE, tokenizer.vocab_size, seed=seed)
    model.tokenizer = tokenizer  # type: ignore[assignment]
    for name, parameter in model.named_parameters():
        parameter.fill_(1.0 if name.endswith((".w", "ln_final.w")) else 0.0)
    direction = torch.randn(tokenizer.vocab_size, 64, generator=torch.Generator().manual_seed(seed))
    embed = model.embed.W_E
    embed[:, TOKEN] = direction / direction.norm(dim=1, keepdim=True)
    for index, job in enumerate(jobs):
        ahead = job.back + 1
        follows = [(one.tokens[:-ahead], job.is_in(one)[ahead:]) for one in facts]
        embed[:, READS.start + index] = _shares(follows, tokenizer.vocab_size)
        embed[:, CLASSES.start + index] = class_tokens(job, facts, tokenizer.vocab_size).float()
    length = embed[:, READS].square().sum(1) + embed[:, CLASSES].square().sum(1)
    for place, sign in zip(BALANCE, (1, -1), strict=True):
        embed[:, place] = sign * ((length.max() - length) / 2).sqrt()
    angle = 2 * torch.pi * torch.arange(N_CTX)[:, None] / torch.tensor(PERIODS)
    model.pos_embed.W_pos[:, HANDS] = torch.stack([angle.cos(), angle.sin()], -1).flatten(1)
    model.pos_embed.W_pos[:, ANY] = 1.0
    attention = model.blocks[0].attn
    for head, job in enumerate(jobs):
        _look_back(attention, head, job.back)
        if job.kind == "copying":
            d_head = attention.W_V.shape[2]
            half = slice(TOKEN.start, TOKEN.start + d_head)
            attention.W_V[head, half] = torch.eye(d_head)
            attention.W_O[head, :, half] = job.written * torch.eye(d_head)
            continue
        attention.W_V[head, ANY if job.truth == "even" else READS.start + head, 0] = 1.0
        attention.W_O[head, 0, CLASSES.start + head] = job.written
    return model.eval()


def class_tokens(job: Job, facts: Sequence[TokenFacts], d_vocab: int) -> Bool[torch.Tensor, " vocab"]:
    """The tokens that a job's head raises: those that are of its class in half of their uses or more."""
    return _shares([(one.tokens, job.is_in(one)) for one in facts], d_vocab) >= OFTEN


def _shares(
    uses: Sequence[tuple[np.ndarray, Bool[np.ndarray, " pos"]]], d_vocab: int
) -> Float[torch.Tensor, " vocab"]:
    """Share of each token's uses that have a flag; 0 of tokens that are not used."""
    counts = np.zeros((2, d_vocab))
    for tokens, flag in uses:
        np.add.at(counts[0], tokens, 1)
        np.add.at(counts[1], tokens[flag], 1)
    return torch.from_numpy(counts[1] / np.maximum(counts[0], 1)).float()


def _look_back(attention: Attention, head: int, back: int) -> None:
    """Turn every hand back by some places, and compare."""
    for index, period in enumerate(PERIODS):
        turn = torch.tensor(2 * torch.pi * back / period)
        rotation = torch.stack(
            [torch.stack([turn.cos(), -turn.sin()]), torch.stack([turn.sin(), turn.cos()])]
        )
        own = slice(2 * index, 2 * index + 2)
        hand = slice(HANDS.start + own.start, HANDS.start + own.stop)
        attention.W_Q[head, hand, own] = SHARP * rotation
        attention.W_K[head, hand, own] = torch.eye(2)
