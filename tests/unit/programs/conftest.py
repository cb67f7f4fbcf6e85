"""What the tests of programs share: labelled stories, and a model whose patterns are programs."""

import numpy as np
import pytest
import torch

import tslens
from tslens.model.spec import ModelSpec
from tslens.model.transformer import TinyTransformer
from tslens.probes.base import Calibration, choose_probes, find_probes
from tslens.probes.batch import batch_of_stories
from tslens.probes.programs.fit import fit_programs
from tslens.probes.programs.pattern import (
    with_step,
)
from tslens.probes.programs.roles import Role, RoleText
from tslens.probes.programs.score import score_programs
from tslens.probes.units import LabelNeeds
from tslens.types import HeadId, HeadScore

N_CTX = 512
UNLABELLED = ["previous_token", "duplicate_token", "sentence_end", "first_token", "distance_3_4", "induction"]


@pytest.fixture(scope="module")
def gold():
    return list(tslens.read_stories("author:60"))


@pytest.fixture(scope="module")
def gold_batch(gold, tokenizer):
    return batch_of_stories(gold[:6], tokenizer, n_ctx=N_CTX, labels=LabelNeeds(scheme=True))


@pytest.fixture(scope="module")
def gold_text(gold_batch, tokenizer):
    return RoleText.of(gold_batch, labelled_probes(), calibration(tokenizer))


def labelled_probes():
    return [probe for probe in find_probes().values() if not probe.labels.users]


def calibration(tokenizer):
    return Calibration(np.arange(tokenizer.vocab_size))


# A model whose patterns are programs ------------------------------------------------------------------------


class Made(TinyTransformer):
    """A model whose patterns are given by a function of tokens; its random twins attend as their weights say."""

    made = None

    def attention_patterns(self, tokens, scratch=None):
        if self.made is None:
            yield from super().attention_patterns(tokens, scratch)
        else:
            yield from self.made(tokens.cpu())


def planted(tokens):
    """Two layers of four heads: copies over distance, distance, even, noise; the same in the second layer."""
    n_rows, n_pos = tokens.shape
    pos = torch.arange(n_pos)
    distance = pos[:, None] - pos
    causal = distance >= 0
    near = (-0.3 * distance).masked_fill(~causal, float("-inf")).softmax(-1).expand(n_rows, -1, -1)
    even = (causal / causal.sum(-1, keepdim=True)).expand(n_rows, -1, -1)
    copies = (tokens[:, :, None] == tokens[:, None]) & (distance > 0) & (pos > 0)
    copying = with_step(near.reshape(-1, 1, n_pos), copies.reshape(-1, n_pos), torch.tensor([0.7]))
    generator = torch.Generator().manual_seed(int(tokens.sum()))
    noise = (
        (3 * torch.randn(n_rows, n_pos, n_pos, generator=generator))
        .masked_fill(~causal, float("-inf"))
        .softmax(-1)
    )
    layer = torch.stack([copying.view(n_rows, n_pos, n_pos), near, even, noise], 1)
    return [layer.clone(), layer.flip(1).clone()]


@pytest.fixture(scope="module")
def made(tokenizer):
    model = Made(ModelSpec.from_name("l2_h64"), tokenizer.vocab_size, seed=5, tokenizer=tokenizer)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".W_" in name:
                parameter.mul_(6)
    model.made = planted
    return model.eval()


@pytest.fixture(scope="module")
def texts(stories, tokenizer):
    probes = choose_probes(UNLABELLED)
    batches = [batch_of_stories(stories[i : i + 10], tokenizer, n_ctx=N_CTX) for i in range(0, 40, 10)]
    return [RoleText.of(batch, probes, calibration(tokenizer)) for batch in batches]


POSITIONAL = frozenset(Role(name, "word") for name in UNLABELLED if find_probes()[name].basis == "positional")


@pytest.fixture(scope="module")
def fits(made, texts):
    return fit_programs(made, texts, POSITIONAL)


@pytest.fixture(scope="module")
def report(made, stories):
    labelled = [
        head_score(HeadId(0, 0), "duplicate_token", "role"), head_score(HeadId(0, 1), "previous_token", "candidate"),
    ]  # fmt: skip
    return score_programs(
        made, stories, seed=0, probes=UNLABELLED, scores=labelled, n_tokens=20, n_swap=0, exclude=()
    )


@pytest.fixture(scope="session")
def score_of():
    """Makes a row of a head by a probe."""
    return head_score


def head_score(head, probe, status, excess=0.3, position="word"):
    return HeadScore(
        head,
        probe,
        position,
        0.5,
        0.4,
        0.6,
        None,
        {},
        excess,
        0.2,
        0.001,
        status,
        None,
        None,
        None,
        (0.3, 0.3),
        60,
    )
