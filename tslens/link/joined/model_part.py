"""One model of a report: what is known of it, as far as it was measured, and where each figure comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tslens.grading.results import GradedModel
from tslens.link.joined.samples import Sample
from tslens.link.map_report import MapReport
from tslens.types import HeadScore, NeuronRole


@dataclass(frozen=True)
class Origin:
    """Where results come from. ``file``: their name; ``record``: command, seed, version, data, as their file says."""

    file: str
    record: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class ModelPart:
    """A model and its results; None where one was not measured.

    ``label``: as results name it. ``n_parameters``: trained, shared ones once. ``validation_bits``, ``ngram_bits``:
    bits per byte where it was trained, of the model and of the 4-gram. ``heads``, ``neurons``: with their headers.
    ``grades``: texts with grades by a judge. ``samples``: some of these texts, read again token by token.
    ``origins``: by the name of the part. ``lacks``: what was not measured, with the command that measures it.
    """

    label: str
    n_layers: int
    d_model: int
    n_heads: int
    n_parameters: int
    validation_bits: float | None
    ngram_bits: float | None
    heads: tuple[Mapping[str, Any], Sequence[HeadScore]] | None
    neurons: tuple[Mapping[str, Any], Sequence[NeuronRole]] | None
    map: MapReport | None
    grades: GradedModel | None
    samples: Sequence[Sample]
    origins: Mapping[str, Origin]
    lacks: Mapping[str, str]

    @property
    def name(self) -> str:
        """Short, for tables: without what most models share."""
        return self.label.removeprefix("shipped:").removesuffix("@seed0")
