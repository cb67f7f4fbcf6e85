"""The records that pass between the parts: frozen, plain data, no tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

Position = Literal["word", "before"]
Status = Literal["role", "candidate", "unclear", "no"]
Basis = Literal["positional", "lexical", "contextual"]
NeuronKind = Literal["dead", "positional", "token", "n-gram", "suppressing", "mixed"]


@dataclass(frozen=True)
class Story:
    """One story.

    ``text``: normalised text, paragraphs separated by one newline (see ``corpus.stories.normalise``).
    ``extra``: the other fields of the line it came from (source, words, labels of a user).
    """

    text: str
    extra: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def digest(self) -> int:
        """64-bit hash of the text: decides the split, seeds what is drawn per story, marks training stories."""
        return int.from_bytes(hashlib.blake2b(self.text.encode(), digest_size=8).digest(), "little")


@dataclass(frozen=True, slots=True)
class Clause:
    """One clause by its units: main verb, head of its subject, head of its direct object (None: it has none).

    A clause whose verb shares the subject of an earlier one ("she ran and fell") names that subject.
    """

    action: int
    subject: int | None = None
    object: int | None = None


@dataclass(frozen=True)
class Labels:
    """What is known of each unit (word or mark) of one story; ``tslens.labels`` defines the scheme.

    ``made_by``: "author" for gold, else annotator and parser with their versions. Per unit: ``pos``, ``lemma``
    (small letters), ``clause`` (index in ``clauses``, -1 none), ``mention`` (entity, -1 none), ``antecedent`` (unit,
    -1 none), ``quote`` (stretch of direct speech, -1 none), ``story_part``.
    ``protagonist``: entity, None where nobody is. ``introduction``: units. ``topics``: lemmas, best first.
    """

    made_by: str
    pos: tuple[str, ...]
    lemma: tuple[str, ...]
    clause: tuple[int, ...]
    clauses: tuple[Clause, ...]
    mention: tuple[int, ...]
    antecedent: tuple[int, ...]
    protagonist: int | None
    introduction: tuple[int, ...]
    topics: tuple[str, ...]
    quote: tuple[int, ...]
    story_part: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON types; a clause is ``[action, subject, object]``."""
        row = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**row, "clauses": [[c.action, c.subject, c.object] for c in self.clauses]}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Labels:
        """Inverse of :meth:`to_json`. Raises KeyError or TypeError for another record."""
        fields: dict[str, Any] = {name: row[name] for name in cls.__dataclass_fields__}
        fields |= {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        fields["clauses"] = tuple(Clause(*clause) for clause in row["clauses"])
        return cls(**fields)


@dataclass(frozen=True, order=True)
class HeadId:
    """One attention head, printed ``L0H3``."""

    layer: int
    index: int

    def __str__(self) -> str:
        return f"L{self.layer}H{self.index}"

    @classmethod
    def parse(cls, text: str) -> HeadId:
        """Read ``L0H3``. Raises UsageError on anything else."""
        return cls(*_layer_and_index(text, "H", "attention head", "L0H3 (layer 0, head 3)"))


@dataclass(frozen=True, order=True)
class NeuronId:
    """One MLP neuron, printed ``L0N117``."""

    layer: int
    index: int

    def __str__(self) -> str:
        return f"L{self.layer}N{self.index}"

    @classmethod
    def parse(cls, text: str) -> NeuronId:
        """Read ``L0N117``. Raises UsageError on anything else."""
        return cls(*_layer_and_index(text, "N", "neuron", "L0N117 (layer 0, neuron 117)"))


def _layer_and_index(text: str, letter: str, what: str, example: str) -> tuple[int, int]:
    import re

    from tslens.errors import UsageError

    found = re.fullmatch(rf"[Ll](\d+)[{letter}{letter.lower()}](\d+)", text.strip())
    if not found:
        raise UsageError(f'"{text}" is no {what}.', f"Write it as in {example}.")
    return int(found[1]), int(found[2])


@dataclass(frozen=True)
class HeadScore:
    """What one probe says of one head at one position (``docs/methods.md``).

    ``value``, ``low``, ``high``: mean attention and its 95% interval, probabilities from 0 to 1.
    ``mul``: TransformerLens' score on the same tokens, None where the probe has no such pattern.
    ``nulls``: value that each null would give. ``excess``: value minus the largest null.
    ``excess_low``: lower end of its interval, corrected over heads x probes x positions.
    ``p``: corrected p-value of "no excess". ``cause``: effects by intervention (``probes.cause.Cause``), or None.
    ``value_all``: for relations, the value over all queries, the most frequent offset included.
    ``excess_halves``, ``value_halves``: on either half of the stories, None where a half has no query. ``n_stories``:
    stories with a query. ``lexical``: the value that token identities and distance alone give by a fitted predictor;
    ``lexical_limit``: what they would give if it were fitted on endless stories; None where not asked.
    ``beside``: other scores of the row (``probes.beside``), or None.
    """

    head: HeadId
    probe: str
    position: Position
    value: float
    low: float
    high: float
    mul: float | None
    nulls: Mapping[str, float]
    excess: float
    excess_low: float
    p: float
    status: Status
    basis: Basis | None
    cause: Mapping[str, float] | None
    value_all: float | None
    excess_halves: tuple[float | None, float | None]
    n_stories: int
    value_halves: tuple[float | None, float | None] = (None, None)
    lexical: float | None = None
    lexical_limit: float | None = None
    beside: Mapping[str, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """The row as plain JSON types."""
        return {**asdict(self), "head": str(self.head), "nulls": dict(self.nulls)}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> HeadScore:
        """Inverse of :meth:`to_json`."""
        halves = {name: tuple(row.get(name, (None, None))) for name in ("excess_halves", "value_halves")}
        fields = {**row, "head": HeadId.parse(row["head"]), **halves}
        return cls(**fields)


@dataclass(frozen=True)
class NeuronRole:
    """What makes one neuron fire (``docs/methods.md``).

    ``role``: the label (``probes.neurons.token_labels``) that it chose on one half of the stories, None where it is
    higher at none; all else is read on the other half. ``auroc``, ``low``, ``high``: area under the curve of the label
    by its activation, 95% interval. ``auroc_low``: lower end corrected for the selection among neurons.
    ``precision``: average precision. ``variance``: share of the activation's variance that the label explains;
    ``variance_beyond_token``: beyond the mean of each word; below zero where the label lowers it.
    ``nulls``: areas of moved labels ("shifted"), of the random twins' 95th percentile ("twins"); and, which are no
    gate but decide the basis, of its own mean for the word ("tokens"), for the pair of words ("bigrams"), and at the
    position ("positions").
    ``excess``: area minus the larger of "shifted" and "twins". ``p``: of no excess, corrected over neurons (false
    discovery rate). ``within_word``: area among tokens of the same word, where the word does not decide the label
    (``n_ambiguous`` tokens); None where there are no such pairs.
    ``kind``: what sort of neuron it is, whatever its role (``probes.neurons.kinds``). ``explained``: shares of the
    variance of its activation that its means for each word ("token"), pair of words ("bigram"), position explain.
    ``writes``: what it raises and lowers (``probes.neurons.writes``). ``cause``: effects of its ablation
    (``probes.neurons.cause``), None where not asked: of candidates only.
    """

    neuron: NeuronId
    role: str | None
    auroc: float
    low: float
    high: float
    auroc_low: float
    precision: float
    variance: float
    variance_beyond_token: float
    nulls: Mapping[str, float]
    excess: float
    p: float
    status: Status
    basis: Basis | None
    within_word: float | None = None
    n_ambiguous: int = 0
    kind: NeuronKind = "mixed"
    explained: Mapping[str, float] | None = None
    writes: Mapping[str, Any] | None = None
    cause: Mapping[str, float] | None = None

    @classmethod
    def none(cls, neuron: NeuronId) -> NeuronRole:
        """A neuron that is higher at the tokens of no label."""
        return cls(neuron, None, 0.5, 0.5, 0.5, 0.5, 0.0, 0.0, 0.0, {}, 0.0, 1.0, "no", None)

    def to_json(self) -> dict[str, Any]:
        """The row as plain JSON types."""
        return {**asdict(self), "neuron": str(self.neuron), "nulls": dict(self.nulls)}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> NeuronRole:
        """Inverse of :meth:`to_json`."""
        return cls(**{**row, "neuron": NeuronId.parse(row["neuron"])})


@dataclass(frozen=True)
class Graded:
    """One text that a judge was given. ``prompt``: what the model was given; ``completion``: how it went on.

    ``prompt_id``: texts of one prompt are one cluster. ``sample``: number of the completion of its prompt. ``seed``: it
    was drawn with, None where nobody knows. ``instructions``: what the story was asked to have, None where nothing was.
    ``repeat``: 0, or which further time the same text was given, to see how far a judge agrees with itself.
    ``ended``: whether its writer closed it, before a limit of tokens did; None where nobody knows.
    """

    prompt: str
    completion: str
    prompt_id: str
    sample: int
    seed: int | None = None
    instructions: Mapping[str, Any] | None = None
    repeat: int = 0
    ended: bool | None = None

    @property
    def key(self) -> str:
        """Its name among the texts of one model, as in ``b07/3`` or ``b07/3 again 1``."""
        again = f" again {self.repeat}" if self.repeat else ""
        return f"{self.prompt_id}/{self.sample}{again}"


@dataclass(frozen=True)
class Grade:
    """What a judge gave: grades from 0 to 10, a letter for the age (A to F).

    ``assessment``: in words, if there is. ``intervals``: 95% prediction interval by criterion, None where the judge
    gives none. ``flags``: what is odd about the text, as "speaks to the judge".
    """

    graded: Graded
    grammar: float
    creativity: float
    consistency: float
    plot: float
    age_group: str
    assessment: str | None = None
    intervals: Mapping[str, tuple[float, float]] | None = None
    flags: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The row as plain JSON types."""
        row = asdict(self)
        return {**row.pop("graded"), **row}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Grade:
        """Inverse of :meth:`to_json`."""
        names = set(Graded.__dataclass_fields__)
        graded = Graded(**{name: value for name, value in row.items() if name in names})
        fields = {name: value for name, value in row.items() if name not in names}
        if fields.get("intervals") is not None:
            fields["intervals"] = {name: tuple(ends) for name, ends in fields["intervals"].items()}
        return cls(graded, **{**fields, "flags": tuple(fields.get("flags", ()))})


@dataclass(frozen=True)
class GradeFailure:
    """A text without a grade: never a zero. ``reason``: one of ``llm.calls.Reason``; ``detail``: what was seen."""

    graded: Graded
    reason: str
    detail: str

    def to_json(self) -> dict[str, Any]:
        """The row as plain JSON types."""
        row = asdict(self)
        return {**row.pop("graded"), **row}


@dataclass(frozen=True)
class Provenance:
    """Where a result comes from.

    ``data_sha256``: of the story file, or of the settings of the offline author. ``seconds``: wall clock.
    """

    command: str
    version: str
    seed: int
    data: str
    data_sha256: str
    started: str
    seconds: float
    python: str
    torch: str
    platform: str

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON types."""
        return asdict(self)
