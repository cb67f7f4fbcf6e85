"""Planted neurons: activations of which it is known what makes them fire, read in place of a model's.

``contextual``: normal noise, and more at the tokens of a gold label, so that on all tokens, and so on those whose word
does not decide the label, the area under the curve is the one asked for. ``lexical``: the same, but the label is
thrown anew for each token with the share that it has among the tokens of the word: it is as often right for every
word, and knows nothing of the token at hand. ``positional``: falls with the position, whatever the token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import norm

from tslens.audit.report import POSITIVE, Check, Part, share
from tslens.corpus.text_tokenizer import TextTokenizer
from tslens.labels import STORY_PARTS
from tslens.probes.neurons.choice import Halves, TwinNull, choose
from tslens.probes.neurons.codes import encode
from tslens.probes.neurons.reader import AMBIGUOUS, AMBIGUOUS_COUNT, Reader
from tslens.probes.neurons.roles import judge_neurons
from tslens.probes.neurons.sample import Sample, Tokens
from tslens.probes.neurons.stream import joined, labelled_batches
from tslens.probes.neurons.token_labels import names_with
from tslens.types import NeuronId, NeuronRole, Story

Truth = Literal["contextual", "lexical", "positional", "silent", "dead", "nothing"]
AREAS = (0.75, 0.9, 0.97)
CLEAR = 0.9
RECALL, REFUSED = 0.95, 0.95
LEAST_AMBIGUOUS = 200  # tokens with a label whose word does not decide it: in fewer nothing can be planted
DRAWS = 2
PLACES = ("early_in_story", "late_in_story", *(f"part_{part}" for part in STORY_PARTS))
"""Labels that are places in the story: a neuron that follows one may be called positional."""


@dataclass(frozen=True)
class NeuronCase:
    """One neuron and what was said of it. ``truth``: what it is; ``label``, ``area``: what was planted."""

    part: Part
    truth: Truth
    label: str
    area: float
    said: NeuronRole

    @property
    def is_positive(self) -> bool:
        """Whether it was said to have a role."""
        return self.said.status in POSITIVE

    def to_json(self) -> dict[str, Any]:
        """The case as plain JSON types."""
        plain = {name: getattr(self, name) for name in ("part", "truth", "label", "area")}
        return {**plain, "said": self.said.to_json()}


@dataclass(frozen=True)
class NeuronFindings:
    """What a part of the audit of neurons found."""

    cases: tuple[NeuronCase, ...]
    checks: tuple[Check, ...]


def tokens_of(stories: Sequence[Story], tokenizer: TextTokenizer, *, n_ctx: int, seed: int) -> Tokens:
    """All tokens of stories with gold labels, by story and position."""
    batches = labelled_batches(stories, tokenizer, n_ctx=n_ctx, seed=seed)
    tokens = joined([batch.tokens for batch in batches])
    return tokens.select(np.lexsort((tokens.pos, tokens.story)))


def word_shares(tokens: Tokens) -> Float[np.ndarray, "token label"]:
    """Share of each label among all tokens of the same word."""
    _, word = np.unique(tokens.token, return_inverse=True)
    n = np.bincount(word)
    counts = np.stack([np.bincount(word, flag) for flag in tokens.flags.T.astype(float)], 1)
    shares: np.ndarray = counts[word] / n[word][:, None]
    return shares


def planted(
    tokens: Tokens,
    shares: Float[np.ndarray, "token label"],
    label: int,
    truth: Truth,
    area: float,
    rng: np.random.Generator,
) -> Float[np.ndarray, " token"]:
    """Activation [token] of one planted neuron."""
    gain = 2**0.5 * float(norm.ppf(area))
    noise = rng.standard_normal(len(tokens))
    if truth == "positional":
        place = np.log2(tokens.pos + 1.0)
        falls: np.ndarray = noise - gain * (place - place.mean()) / place.std()
        return falls
    fires = tokens.flags[:, label]
    if truth == "lexical":
        fires = rng.random(len(tokens)) < shares[:, label]
    found: np.ndarray = noise + gain * fires
    return found


def plantable(tokens: Tokens, shares: Float[np.ndarray, "token label"]) -> list[int]:
    """Labels that many tokens have whose word does not decide them."""
    counts = np.bincount(tokens.token)[tokens.token]
    open_ = (shares >= AMBIGUOUS[0]) & (shares <= AMBIGUOUS[1]) & (counts >= 2 * AMBIGUOUS_COUNT)[:, None]
    n = (open_ & tokens.flags).sum(0)
    return np.flatnonzero(n >= LEAST_AMBIGUOUS).tolist()


def audit_planted_neurons(
    tokens: Tokens,
    twins: Callable[[Bool[np.ndarray, " label"]], TwinNull],
    *,
    seed: int,
    areas: Sequence[float] = AREAS,
    draws: int = DRAWS,
    progress: Callable[[], None] = lambda: None,
) -> NeuronFindings:
    """Plant, read, and check: labels found, contextual ones called so, decoys called what they are.

    ``twins``: the null of random neurons, for the labels that can be read.
    """
    shares, names = word_shares(tokens), names_with(())
    labels = plantable(tokens, shares)
    rng = np.random.default_rng([seed, 0x91A])
    plans = [
        (truth, label, area)
        for truth in ("contextual", "lexical")
        for label in labels
        for area in areas
        for _ in range(draws)
    ]
    early = names.index("early_in_story")
    plans += [("positional", early, area) for area in areas for _ in range(10 * draws)]
    codes = np.empty((len(tokens), len(plans)), dtype=np.uint16)
    for column, (truth, label, area) in enumerate(plans):
        codes[:, column] = encode(planted(tokens, shares, label, truth, area, rng))  # type: ignore[arg-type]
    roles = read_sample(Sample(tokens, codes), twins, seed=seed)
    progress()
    cases = [
        NeuronCase("decoys" if truth != "contextual" else "planted", truth, names[label], area, said)  # type: ignore[arg-type]
        for (truth, label, area), said in zip(plans, roles, strict=True)
    ]
    return NeuronFindings(tuple(cases), tuple(_checks(cases)))


def read_sample(
    sample: Sample, twins: Callable[[Bool[np.ndarray, " label"]], TwinNull], *, seed: int
) -> list[NeuronRole]:
    """Roles of the neurons of a sample."""
    halves = Halves.of(sample)
    eligible = halves.eligible()
    reader = Reader(halves, twins(eligible), seed=seed)
    found = [reading.found for reading in reader.read(choose(halves.first, eligible))]
    neurons = [NeuronId(0, index) for index in range(sample.codes.shape[1])]
    return judge_neurons(neurons, names_with(()), found)


def _checks(cases: Sequence[NeuronCase]) -> Iterator[Check]:
    def of(truth: Truth) -> list[NeuronCase]:
        return [case for case in cases if case.truth == truth and case.area == CLEAR]

    true = of("contextual")
    found = [case.is_positive and case.said.role == case.label for case in true]
    yield Check("planted", f"labels found at area {CLEAR:g}", "at least", RECALL, share(found), len(found))
    told = [case for case in true if case.label not in PLACES]
    called = [case.said.basis == "contextual" for case in told if case.said.basis is not None]
    note = f"of {len(told)} the others are no discovery"
    yield Check("planted", "called contextual", "at least", RECALL, share(called), len(called), note)
    decoys: tuple[Truth, Truth] = ("lexical", "positional")
    for truth in decoys:
        made = [case for case in cases if case.truth == truth]  # at all areas
        called = [case.said.basis == truth for case in made if case.said.basis is not None]
        note = f"of {len(made)} the others are no discovery"
        yield Check("decoys", f"called {truth}", "at least", REFUSED, share(called), len(called), note)
