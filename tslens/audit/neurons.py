"""``tslens audit neurons``: does the reading of neurons find what is there, and refuse what is not?

- ``planted``, ``decoys``: activations of which it is known what makes them fire (``planted_neurons``);
- ``hand-set``: a model whose neurons were set by hand (``hand_set_neurons``);
- ``random``: models that learned nothing, fresh and with each tensor of a trained one redrawn;
- ``shifted``: trained models, all labels moved around their stories, again and again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice

import numpy as np

from tslens.audit.hand_set_neurons import audit_hand_set_neurons
from tslens.audit.heads import FIRST_STORY_SEED, audit_stories
from tslens.audit.planted_neurons import NeuronCase, NeuronFindings, audit_planted_neurons, tokens_of
from tslens.audit.report import Audit, Check, Part, share
from tslens.model.load import load_model
from tslens.model.story_model import StoryModel
from tslens.probes.neurons.choice import Halves, TwinNull, choose
from tslens.probes.neurons.classify import N_TWINS, TWIN_STORIES, classify_neurons
from tslens.probes.neurons.reader import Reader
from tslens.probes.neurons.roles import judge_neurons
from tslens.probes.neurons.sample import N_SHIFTS, Sample
from tslens.probes.neurons.stream import labelled_batches, read_neurons
from tslens.probes.neurons.token_labels import names_with, shifted
from tslens.probes.twins import random_twins
from tslens.types import NeuronId, NeuronRole, Story

PARTS: tuple[Part, ...] = ("planted", "hand-set", "random", "shifted")
SMALL_MODEL = "shipped:l1_h128"
RANDOM_MODELS = ("shipped:l1_h64", "shipped:l2_h64")
SHIFTED_MODELS = ("shipped:l1_h64", "shipped:l2_h64")
MOST_RANDOM, MOST_SHIFTED = 0.05, 0.05


@dataclass(frozen=True)
class NeuronAuditSize:
    """How much is run. ``n_stories``: of planted neurons; ``n_set``: of the model set by hand; ``n_random_stories``: of
    each of ``n_random`` models; ``n_shifted_stories``: of each of ``n_shifts`` moves of the labels."""

    n_stories: int
    n_set: int
    n_random: int
    n_random_stories: int
    n_shifts: int
    n_shifted_stories: int


FULL = NeuronAuditSize(300, 150, 40, 60, 100, 60)
QUICK = NeuronAuditSize(150, 80, 4, 40, 6, 40)


NeuronAudit = Audit[NeuronCase]
"""All parts together."""


def n_steps(part: Part, size: NeuronAuditSize) -> int:
    """Steps of progress that a part takes."""
    steps = {"planted": 1, "hand-set": 1, "random": size.n_random, "shifted": size.n_shifts}
    return steps[part]


def audit_neurons(
    *,
    seed: int,
    parts: Sequence[Part] = PARTS,
    size: NeuronAuditSize = FULL,
    progress: Callable[[Part, int], None] = lambda part, n_steps: None,
) -> NeuronAudit:
    """Run parts of the audit; ``progress`` is told the part and how many of its steps are done."""
    n_stories = max(size.n_stories, size.n_set, size.n_random_stories, size.n_shifted_stories)
    stories = audit_stories(n_stories, seed=seed)
    run = {"planted": _planted, "hand-set": _hand_set, "random": _random, "shifted": _shifted}
    found = [run[part](stories, seed, size, partial(progress, part)) for part in parts]
    return NeuronAudit(
        cases=tuple(chain.from_iterable(one.cases for one in found)),
        checks=tuple(chain.from_iterable(one.checks for one in found)),
        seed=seed,
        stories=f"author:{n_stories}:{FIRST_STORY_SEED + seed}",
    )


def _planted(
    stories: Sequence[Story], seed: int, size: NeuronAuditSize, progress: Callable[[int], None]
) -> NeuronFindings:
    model = load_model(SMALL_MODEL)
    assert model.tokenizer is not None
    chosen = stories[: size.n_stories]
    tokens = tokens_of(chosen, model.tokenizer, n_ctx=model.cfg.n_ctx, seed=seed)

    def twins(eligible: np.ndarray) -> TwinNull:
        return TwinNull.of(map(Halves.of, _twins(model, chosen[:TWIN_STORIES], seed)), eligible)

    found = audit_planted_neurons(tokens, twins, seed=seed)
    progress(1)
    return found


def _hand_set(
    stories: Sequence[Story], seed: int, size: NeuronAuditSize, progress: Callable[[int], None]
) -> NeuronFindings:
    tokenizer = load_model(SMALL_MODEL).tokenizer
    assert tokenizer is not None
    found = audit_hand_set_neurons(stories[: size.n_set], tokenizer, seed=seed)
    progress(1)
    return found


def _random(
    stories: Sequence[Story], seed: int, size: NeuronAuditSize, progress: Callable[[int], None]
) -> NeuronFindings:
    """Models that learned nothing, read as if they had; their own twins are drawn by other seeds."""
    cases: list[NeuronCase] = []
    has_role = []
    for number in range(size.n_random):
        trained = load_model(RANDOM_MODELS[number % len(RANDOM_MODELS)])
        kind = ("fresh", "redrawn")[number // len(RANDOM_MODELS) % 2]
        twin = trained.random_twin(kind, seed=1000 * (seed + 1) + number)  # type: ignore[arg-type]
        report = classify_neurons(
            twin,
            stories[: size.n_random_stories],
            seed=seed + number,
            exclude=(),
            n_explain=size.n_random_stories,
        )
        best = report.best_first()[0]
        cases.append(NeuronCase("random", "nothing", best.role or "", 0.5, best))
        has_role.append(cases[-1].is_positive)
        progress(number + 1)
    check = Check("random", "models with a candidate", "at most", MOST_RANDOM, share(has_role), len(has_role))
    return NeuronFindings(tuple(cases), (check,))


def _shifted(
    stories: Sequence[Story], seed: int, size: NeuronAuditSize, progress: Callable[[int], None]
) -> NeuronFindings:
    """A shift counts if it yields any discovery, of any neuron."""
    chosen = stories[: size.n_shifted_stories]
    cases: list[NeuronCase] = []
    has_any = []
    read = {}
    for name in SHIFTED_MODELS:
        model = load_model(name)
        read[name] = (_sample(model, chosen, seed), list(_twins(model, chosen, seed)))
    for number in range(size.n_shifts):
        sample, twins = read[SHIFTED_MODELS[number % len(SHIFTED_MODELS)]]
        roles = _roles_with_moved_labels(sample, twins, seed=seed + number)
        found = [role for role in roles if role.status != "no"]
        has_any.append(bool(found))
        cases += [NeuronCase("shifted", "nothing", role.role or "", 0.5, role) for role in found]
        progress(number + 1)
    check = Check("shifted", "shifts with a discovery", "at most", MOST_SHIFTED, share(has_any), len(has_any))
    return NeuronFindings(tuple(cases), (check,))


def _roles_with_moved_labels(sample: Sample, twins: Sequence[Sample], *, seed: int) -> list[NeuronRole]:
    """As :func:`classify_neurons` reads them, with each story's labels moved."""
    moved = _moved(sample, seed)
    of_twins = [Sample(moved.tokens, twin.codes) for twin in twins]
    halves = Halves.of(moved)
    eligible = halves.eligible()
    null = TwinNull.of([Halves.of(twin) for twin in of_twins], eligible)
    readings = Reader(halves, null, seed=seed).read(choose(halves.first, eligible))
    neurons = [NeuronId(0, column) for column in range(sample.codes.shape[1])]
    return judge_neurons(neurons, names_with(()), [reading.found for reading in readings])


def _moved(sample: Sample, seed: int) -> Sample:
    """Labels of each story moved around it, by anything; those of the null moved on from there.

    By anything, not by a tenth to nine tenths: only then have the labels that were moved twice the same law as those
    that were moved once. Else neurons that like a place in the story differ between the two.
    """
    tokens = sample.tokens
    _, begins = np.unique(tokens.story, return_index=True)
    rng = np.random.default_rng([seed, 0x5F1])
    flags, further = np.empty_like(tokens.flags), np.empty_like(tokens.shifted)
    for begin, end in zip(begins, [*begins[1:], len(tokens)], strict=True):
        flags[begin:end] = np.roll(tokens.flags[begin:end], rng.integers(end - begin), axis=0)
        further[:, begin:end] = shifted(flags[begin:end], N_SHIFTS, rng)
    return Sample(replace(tokens, flags=flags, shifted=further), sample.codes)


def _twins(model: StoryModel, stories: Sequence[Story], seed: int) -> Iterator[Sample]:
    for twin in islice(random_twins(model, seed=seed), N_TWINS):
        yield _sample(twin, stories, seed)


def _sample(model: StoryModel, stories: Sequence[Story], seed: int) -> Sample:
    """All tokens of the stories, by story and position."""
    assert model.tokenizer is not None
    batches = list(labelled_batches(stories, model.tokenizer, n_ctx=model.cfg.n_ctx, seed=seed))
    return read_neurons(model, batches, sample_tokens=sum(len(batch.tokens) for batch in batches)).sample
