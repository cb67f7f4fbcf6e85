"""Models of which it is known what carries a capability: one planted head, no part at all, or nothing to carry.

Two layers of four heads of width 64; nothing is trained. Parts of the residual stream, most of them two places that
hold a number and its negative, so that no mean of a LayerNorm reaches it:

    meaning   of a word that has one: plus or minus
    flag      of every word that has a meaning, whichever
    any       large, at every position: what LayerNorms divide by hardly depends on what is written
    common    how common a token is; the last LayerNorm's bias makes logits of it
    whims     what every head and MLP writes, and none reads; pronouns and verbs have it, plus or minus
    plain     a random direction for each token

1. Embedding and unembedding are one matrix, so a token would follow itself. Every head looks at the tokens that are
   like the last one, itself before all, and writes against them into ``plain``, and so does every MLP: each of them
   costs loss when it is ablated.
2. Into ``whims`` each writes something random of what it saw, which moves "she" against "he" and "were" against "was":
   an ablation shifts the difference of every pair, and no such shift knows what is right.
3. Words that have a meaning are alike but for the signs of ``meaning`` and ``whims``. With "he" and "she" exchanged
   throughout a text, what the carrier writes is reversed, and what all others write stays the same to a percent (at
   these words LayerNorms divide by a little more or less).

``carried``: pronouns mean a gender, and one head, drawn from the seed, looks at all of them before, evenly, and writes
what they mean, which is where the unembedding finds pronouns again. The readout ``changed_pronoun`` is that head's
alone. ``spread``: verbs of one ("was") and of several ("were") mean a number, and so do the tokens that mostly stand
before them; the readout ``agreement`` goes straight from embedding to unembedding, and no part carries it. ``none``:
pronouns mean a gender, and no head looks at them.

Axes: vocab, d_model, d_head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Literal, get_args

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from tslens.corpus.tokenizer import StoryTokenizer
from tslens.errors import DataError
from tslens.link.ngram_null import training_texts
from tslens.model.attention import Attention
from tslens.model.spec import ModelSpec
from tslens.model.transformer import MLP, TinyTransformer
from tslens.types import HeadId

PlantedKind = Literal["carried", "spread", "none"]
PLANTED_KINDS: tuple[PlantedKind, ...] = get_args(PlantedKind)

SHAPE = ModelSpec.from_name("l2_h64")
MEANING, FLAG, ANY, COMMON = [0, 1], [2, 3], [4, 5], [6, 7]  # a number and its negative
WHIMS, PLAIN = slice(8, 16), slice(16, 64)
N_WHIMS, N_PLAIN = 8, 48
PLAIN_DEVIATION, WHIM_DEVIATION = 0.45, 0.25  # of the numbers of a token
CONSTANT = 8.0  # in ``any``
PER_NAT = 0.1  # in ``common``, for a nat of log share: little beside ``any``
LIKING = (0.3, 0.55)  # of each layer: deviation of what its heads compare tokens by
HEAD_TAKES, MLP_TAKES = 0.8, 0.4  # how much a head, an MLP writes against what it reads
HEAD_WHIM, MLP_WHIM = 0.7, 0.3  # how much of it goes to ``whims``
WRITTEN = 0.9  # by the carrier, for what it sees
N_COUNTED = 300  # stories in which tokens are counted
LEAST_COUNTED = 3  # times that a token stands before a verb with a number

_GENDERS = {1: "she her hers herself", -1: "he him his himself"}
_VERBS = {1: "were are have do", -1: "was is has does"}
_SIGNS = torch.tensor([1.0, -1.0])


@dataclass(frozen=True, eq=False)
class Planted:
    """A model and its truth. ``readout``: that it was made for; ``none`` does not pass it.

    ``carrier``: the one head that carries it, None if there is none.
    """

    kind: PlantedKind
    model: TinyTransformer
    readout: str
    carrier: HeadId | None


@torch.no_grad()
def plant_capability(kind: PlantedKind, *, tokenizer: StoryTokenizer, seed: int) -> Planted:
    """A model of a kind, in float32. ``seed``: of all its weights and of where its carrier is.

    ``carried`` and ``none`` of one seed differ in the carrier alone. ``tokenizer``: one that has "he" and "she", "was"
    and "were" as single tokens, as those of stories do; raises DataError for another.
    """
    genders, numbers = genders_of(tokenizer), numbers_of(tokenizer)
    if {-1.0, 1.0} - set(genders) or {-1.0, 1.0} - set(numbers):
        raise DataError(
            "This tokenizer has no single tokens for pronouns and verbs.",
            "Use the tokenizer of a shipped model.",
        )
    model = TinyTransformer(SHAPE, tokenizer.vocab_size, seed=seed, tokenizer=tokenizer)
    for name, parameter in model.named_parameters():
        parameter.fill_(1.0 if name.endswith(".w") else 0.0)
    generator = torch.Generator().manual_seed(seed)
    carrier = HeadId(
        *(int(torch.randint(n, (), generator=generator)) for n in (SHAPE.n_layers, SHAPE.n_heads))
    )
    _embed(
        model,
        meanings=torch.from_numpy(numbers if kind == "spread" else genders),
        shares=torch.from_numpy(shares_of(tokenizer)),
        asked=torch.from_numpy(genders + _marked(tokenizer, _VERBS)),
        generator=generator,
    )
    for layer, block in enumerate(model.blocks):
        _take_back_by_heads(block.attn, LIKING[layer], generator)
        _take_back_by_neurons(block.mlp, generator)
    if kind == "carried":
        _carry(model.blocks[carrier.layer].attn, carrier.index)
    return Planted(
        kind,
        model.eval(),
        "agreement" if kind == "spread" else "changed_pronoun",
        carrier if kind == "carried" else None,
    )


# Weights ----------------------------------------------------------------------------------------------------


def _embed(
    model: TinyTransformer,
    *,
    meanings: Float[Tensor, " vocab"],
    shares: Float[Tensor, " vocab"],
    asked: Float[Tensor, " vocab"],
    generator: torch.Generator,
) -> None:
    """``shares``: of all text. ``asked``: signs of the words that a readout may ask for."""
    W_E, means = model.embed.W_E, meanings != 0
    shares = torch.where(means, shares[means].mean(), shares)
    W_E[:, PLAIN] = PLAIN_DEVIATION * torch.randn(len(W_E), N_PLAIN, generator=generator)
    W_E[means] = W_E[means][0]  # the first of them lends its direction to all
    W_E[:, COMMON] = PER_NAT * shares.log().float()[:, None] * _SIGNS
    whim = torch.randn(N_WHIMS, generator=generator)
    W_E[:, WHIMS] = WHIM_DEVIATION * asked.float()[:, None] * (whim - whim.mean()) / whim.std()
    W_E[:, MEANING] = meanings.float()[:, None] * _SIGNS
    W_E[:, FLAG] = means.float()[:, None] * _SIGNS
    model.pos_embed.W_pos[:, ANY] = CONSTANT * _SIGNS
    for place in (FLAG, ANY, COMMON):  # they predict nothing
        model.ln_final.w[place] = 0.0
    model.ln_final.b[COMMON] = _SIGNS / (2 * PER_NAT)


def _take_back_by_heads(attention: Attention, liking: float, generator: torch.Generator) -> None:
    n_heads, d_head = SHAPE.n_heads, SHAPE.d_head
    likings = liking * torch.randn(n_heads, N_PLAIN, d_head, generator=generator)
    seen = torch.randn(n_heads, N_PLAIN, d_head, generator=generator) / N_PLAIN**0.5
    attention.W_Q[:, PLAIN], attention.W_K[:, PLAIN], attention.W_V[:, PLAIN] = likings, likings, seen
    attention.W_O[:, :, PLAIN] = -HEAD_TAKES * rearrange(seen, "head d_model d_head -> head d_head d_model")
    attention.W_O[:, :, WHIMS] = HEAD_WHIM * torch.randn(n_heads, d_head, N_WHIMS, generator=generator)


def _take_back_by_neurons(mlp: MLP, generator: torch.Generator) -> None:
    seen = torch.randn(N_PLAIN, SHAPE.d_mlp, generator=generator)
    whims = torch.randn(SHAPE.d_mlp, N_WHIMS, generator=generator)
    mlp.W_in[PLAIN], mlp.W_out[:, PLAIN] = seen, -MLP_TAKES / SHAPE.d_mlp * seen.T
    mlp.W_out[:, WHIMS] = MLP_WHIM / SHAPE.d_mlp**0.5 * whims


def _carry(attention: Attention, index: int) -> None:
    """Look at all words that have a meaning, and write it, besides the whims of what is seen there."""
    attention.W_Q[index], attention.W_K[index] = 0.0, 0.0
    attention.W_Q[index, ANY, 0] = _SIGNS
    attention.W_K[index, FLAG, 0] = _SIGNS
    attention.W_V[index, :, 0], attention.W_O[index, 0] = 0.0, 0.0
    attention.W_V[index, MEANING, 0] = _SIGNS / 2
    attention.W_O[index, 0, MEANING] = WRITTEN * _SIGNS


# Words ------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def genders_of(tokenizer: StoryTokenizer) -> Float[np.ndarray, " vocab"]:
    """1 for tokens that are "she" in any case, -1 for "he", else 0."""
    return _marked(tokenizer, _GENDERS)


@lru_cache(maxsize=4)
def numbers_of(tokenizer: StoryTokenizer) -> Float[np.ndarray, " vocab"]:
    """1 for "were" and its like and for tokens that mostly stand before them, -1 for "was" and its like, else 0."""
    verbs = _marked(tokenizer, _VERBS)
    balance, count = np.zeros(len(verbs)), np.zeros(len(verbs))
    for tokens in _counted(tokenizer):
        following = verbs[tokens[1:]]
        np.add.at(balance, tokens[:-1], following)
        np.add.at(count, tokens[:-1], np.abs(following))
    before = np.where(count >= LEAST_COUNTED, np.sign(balance), 0.0)
    found: np.ndarray = np.where(verbs != 0, verbs, before)
    return found


@lru_cache(maxsize=4)
def shares_of(tokenizer: StoryTokenizer) -> Float[np.ndarray, " vocab"]:
    """How much of the text of stories each token is; one that is never seen counts as half of one that is, once."""
    counts = np.full(tokenizer.vocab_size, 0.5)
    for tokens in _counted(tokenizer):
        np.add.at(counts, tokens[1:], 1)
    shares: np.ndarray = counts / counts.sum()
    return shares


@lru_cache(maxsize=4)
def _counted(tokenizer: StoryTokenizer) -> list[Int[np.ndarray, " token"]]:
    return [tokenizer.encode_story(text) for text in training_texts(N_COUNTED)]


def _marked(tokenizer: StoryTokenizer, words: Mapping[int, str]) -> Float[np.ndarray, " vocab"]:
    """The sign of each word at its token: as it stands and with a capital, after a blank and without one."""
    found = np.zeros(tokenizer.vocab_size)
    for sign, listed in words.items():
        for blank, word in product(("", " "), listed.split()):
            for form in (word, word.capitalize()):
                ids = tokenizer.encode(blank + form)
                if len(ids) == 1:
                    found[ids[0]] = sign
    return found
