"""A model whose weights are set by hand: every head's job is known because somebody wrote it there.

Two layers of four heads of width 32. Parts of the residual stream:

    token     a random direction for each token
    hands     ten clock hands that turn with the position, each at its own speed
    flags     one number each: any token, position 0, closing mark, name, word that is often a subject
    before    empty at first; the previous-token head of layer 0 writes there what token it sees

A head that turns the hands back by one place looks one place back. A head that compares the slow hands alone prefers
what is near, and with a flag it finds the nearest token that has the flag. The induction head of layer 1 compares its
token with ``before`` and writes what it sees, which is what comes next (Elhage et al. 2021), a role. The ``silent``
head looks at subjects and writes nothing, as all others do: whatever it looks at, no role can come of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tslens.audit.report import IDLE, Case, Check, Findings, case_of, most_suspicious, share
from tslens.audit.scanning import scan
from tslens.audit.truth import token_facts
from tslens.corpus.text_tokenizer import TextTokenizer
from tslens.model.attention import Attention
from tslens.model.spec import N_CTX, ModelSpec
from tslens.model.transformer import TinyTransformer
from tslens.probes.base import Probe
from tslens.probes.relation import RelationProbe
from tslens.types import HeadId, Story

SHAPE = ModelSpec.from_name("l2_h128_a4")
TOKEN, HANDS, BEFORE = slice(0, 48), slice(48, 68), slice(76, 108)
ANY, FIRST, CLOSING, NAME, SUBJECT = range(68, 73)
PERIODS = (3.0, 5.0, 7.0, 11.0, 17.0, 29.0, 61.0, 127.0, 251.0, 509.0)  # places for a hand to go round
SLOW = (6, 7, 8, 9)  # hands that tell near from far
N_EXPLAIN = 40  # stories: what writes nothing changes nothing in any of them
WRITTEN = 4.0  # how strongly the induction head writes
OFTEN = 0.5  # share of a token's uses

JOBS = {
    HeadId(0, 0): "previous_token",
    HeadId(0, 1): "duplicate_token",
    HeadId(0, 2): "sentence_end",
    HeadId(0, 3): "name",
    HeadId(1, 0): "induction",
    HeadId(1, 2): "first_token",
}
"""What each head is to be found as."""
WRITES = "induction"
"""The job that the model uses: that head is to have a role."""
SILENT_HEAD, IDLE_HEAD = HeadId(1, 1), HeadId(1, 3)


@dataclass(frozen=True)
class TokenFlags:
    """[vocab] tokens that close sentences, that are (pieces of) names, that are subjects in half of their uses."""

    closing: Bool[np.ndarray, " vocab"]
    name: Bool[np.ndarray, " vocab"]
    subject: Bool[np.ndarray, " vocab"]


def read_flags(stories: Sequence[Story], tokenizer: TextTokenizer) -> TokenFlags:
    """Flags of tokens, counted on stories with gold labels."""
    counts = np.zeros((4, tokenizer.vocab_size))
    for story in stories:
        facts = token_facts(story, tokenizer, n_ctx=N_CTX)
        is_name = np.array([pos == "PROPN" for pos in facts.pos])
        everything = np.ones_like(is_name)
        for index, flag in enumerate((everything, facts.is_closing, is_name, facts.is_subject)):
            np.add.at(counts[index], facts.tokens[flag], 1)
    shares = counts[1:] / np.maximum(counts[0], 1)
    return TokenFlags(*(shares >= OFTEN))


@torch.no_grad()
def hand_set_model(tokenizer: TextTokenizer, flags: TokenFlags, *, seed: int) -> TinyTransformer:
    """The model. ``seed``: of the directions of tokens."""
    model = TinyTransformer(SHAPE, tokenizer.vocab_size, seed=seed)
    model.tokenizer = tokenizer  # type: ignore[assignment]
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        parameter.fill_(1.0 if name.endswith((".w", "ln_final.w")) else 0.0)
    direction = torch.randn(tokenizer.vocab_size, 48, generator=generator)
    model.embed.W_E[:, TOKEN] = 4 * direction / direction.norm(dim=1, keepdim=True)
    for place, flag in ((CLOSING, flags.closing), (NAME, flags.name), (SUBJECT, flags.subject)):
        model.embed.W_E[:, place] = 3.0 * torch.from_numpy(flag).float()
    angle = 2 * torch.pi * torch.arange(N_CTX)[:, None] / torch.tensor(PERIODS)
    model.pos_embed.W_pos[:, HANDS] = torch.stack([angle.cos(), angle.sin()], -1).flatten(1)
    model.pos_embed.W_pos[:, ANY] = 2.0
    model.pos_embed.W_pos[0, FIRST] = 4.0
    mix = torch.randn(48, 32, generator=generator) / 48**0.5
    first, second = (block.attn for block in model.blocks)

    _look_back(first, 0)
    first.W_V[0, TOKEN] = mix
    first.W_O[0, :, BEFORE] = 0.7 * torch.eye(32)
    first.W_Q[1, TOKEN], first.W_K[1, TOKEN] = 0.5 * mix, mix
    _look_at_nearest(first, 2, CLOSING)
    _look_at_nearest(first, 3, NAME)
    second.W_Q[0, TOKEN], second.W_K[0, BEFORE] = mix, torch.eye(32)
    second.W_V[0, TOKEN], second.W_O[0, :, TOKEN] = mix, WRITTEN * mix.T
    _look_at_nearest(second, 1, SUBJECT)
    second.W_Q[2, ANY, 0], second.W_K[2, FIRST, 0] = 2.0, 2.0
    return model.eval()


def _hand(index: int) -> slice:
    """Place of a hand in the residual stream."""
    return slice(HANDS.start + 2 * index, HANDS.start + 2 * index + 2)


def _look_back(attention: Attention, head: int) -> None:
    """Turn every hand back by one place, and compare."""
    for index, period in enumerate(PERIODS):
        turn = 2 * torch.pi / torch.tensor(period)
        own = slice(2 * index, 2 * index + 2)
        attention.W_Q[head, _hand(index), own] = 2 * _rotation(turn)
        attention.W_K[head, _hand(index), own] = torch.eye(2)


def _rotation(turn: Tensor) -> Float[Tensor, "hand hand"]:
    return torch.stack([torch.stack([turn.cos(), -turn.sin()]), torch.stack([turn.sin(), turn.cos()])])


def _look_at_nearest(attention: Attention, head: int, flag: int) -> None:
    """Look at tokens with a flag, the nearer the more; a token's own place is as near as any."""
    attention.W_Q[head, ANY, 0], attention.W_K[head, flag, 0] = 5.0, 1.0
    for index in SLOW:
        own = slice(2 * index - 10, 2 * index - 8)
        attention.W_Q[head, _hand(index), own] = 4 * torch.eye(2)
        attention.W_K[head, _hand(index), own] = torch.eye(2)


# The audit --------------------------------------------------------------------------------------------------


def audit_hand_set(
    stories: Sequence[Story],
    tokenizer: TextTokenizer,
    probes: Sequence[Probe],
    *,
    seed: int,
    n_explain: int = N_EXPLAIN,
    progress: Callable[[], None] = lambda: None,
) -> Findings:
    """Whether heads are found as what they are, the one that writes with a role, the silent one as a candidate only.

    ``stories``: with gold labels; on the first ``n_explain`` the causes of candidates are measured. Jobs whose probe is
    not among ``probes`` are not asked about.
    """
    model = hand_set_model(tokenizer, read_flags(stories, tokenizer), seed=seed)
    scores = scan(model, stories, probes, seed=seed, n_explain=n_explain).scores
    progress()
    cases: list[Case] = []
    for head, job in JOBS.items():
        cases += [
            case_of("hand-set", job, score)
            for score in scores
            if (score.head, score.probe, score.position) == (head, job, "word")
        ]
    names = {probe.name for probe in probes}
    found = {case.truth: case.is_positive for case in cases}  # a job without a row is not found either
    jobs = [found.get(job, False) for job in JOBS.values() if job in names]
    missed = ", ".join(job for job in JOBS.values() if job in names and not found.get(job, False))
    writes = [case.status == "role" for case in cases if case.truth == WRITES]
    related = {probe.name for probe in probes if isinstance(probe, RelationProbe)}
    silent_rows = [score for score in scores if score.head == SILENT_HEAD and score.probe in related]
    silent = case_of("hand-set", "silent", most_suspicious(silent_rows))
    idle = case_of("hand-set", IDLE, most_suspicious([score for score in scores if score.head == IDLE_HEAD]))
    no_role = [case.status != "role" for case in (silent, idle)]
    checks = (
        Check(
            "hand-set",
            "heads found",
            "at least",
            1.0,
            share(jobs),
            len(jobs),
            f"not found: {missed}" if missed else "",
        ),
        Check(
            "hand-set",
            "silent head a candidate",
            "at least",
            1.0,
            share([silent.is_positive]),
            1,
            f"for {silent.probe}" if silent.is_positive else "so its cause was never asked about",
        ),
        *(
            [Check("hand-set", "writing head a role", "at least", 1.0, share(writes), len(writes))]
            if WRITES in names
            else []
        ),
        Check("hand-set", "silent and idle no role", "at least", 1.0, share(no_role), len(no_role)),
        Check("hand-set", "idle head refused", "at least", 1.0, share([not idle.is_positive]), 1),
    )
    return Findings((*cases, silent, idle), checks)
