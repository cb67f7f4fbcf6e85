"""From evidence to grades: a base for each criterion, less what the likeliest fault costs.

Evidence is read as its cube root (rates of faults are zero in most texts and large in few), standardised and cut at
``CUT`` deviations. A base is linear in it, and so are the log odds of each fault, so a grade can be taken apart into
what speaks for and against a text. How it is fitted is told in ``grading.local.fit``.

Axes: text, evidence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Self

import numpy as np
from jaxtyping import Float

from tslens.errors import ModelError
from tslens.grading.expected import EXPECTED
from tslens.grading.rubric import AGE_GROUPS

FILE = "local_heads.json"
CUT = 4.0  # deviations
LOWEST, HIGHEST = 0.0, 10.0


@dataclass(frozen=True, eq=False)
class Head:
    """Linear in the evidence: ``row @ weights + bias``."""

    weights: Float[np.ndarray, " evidence"]
    bias: float

    def says(self, rows: Float[np.ndarray, "text evidence"]) -> Float[np.ndarray, " text"]:
        """What it makes of each text."""
        return rows @ self.weights + self.bias

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types; weights are rounded to six places."""
        return {"weights": np.round(self.weights, 6).tolist(), "bias": round(self.bias, 6)}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        """Inverse of :meth:`to_json`."""
        return cls(np.array(row["weights"]), row["bias"])


class Detector(Head):
    """Of one fault; what it says are log odds."""

    def probability(self, rows: Float[np.ndarray, "text evidence"]) -> Float[np.ndarray, " text"]:
        """How likely the fault is in each text."""
        return np.asarray(0.5 + 0.5 * np.tanh(self.says(rows) / 2))


def likeliest_fault(
    name: str, detectors: Mapping[str, Detector], rows: Float[np.ndarray, "text evidence"]
) -> Float[np.ndarray, " text"]:
    """Probability of the likeliest of the faults that hit a criterion; zero where none does."""
    found = [one.probability(rows) for kind, one in detectors.items() if EXPECTED[kind].criterion == name]
    return np.max(found, axis=0) if found else np.zeros(len(rows))


@dataclass(frozen=True, eq=False)
class Heads:
    """``evidence``: names, in the order of the columns. ``centre``, ``scale``: of their cube roots.

    ``bases``: by criterion, and "age" (0 for group A to 5 for F). ``detectors``: by kind of fault. ``points``: what a
    sure fault costs. ``reach``: half of the 95% prediction interval of each criterion, by the errors on graded texts
    that were left out of the fit.
    """

    version: int
    evidence: tuple[str, ...]
    centre: Float[np.ndarray, " evidence"]
    scale: Float[np.ndarray, " evidence"]
    bases: Mapping[str, Head]
    detectors: Mapping[str, Detector]
    points: float
    reach: Mapping[str, float]

    def standardised(self, rows: Sequence[Mapping[str, float]]) -> Float[np.ndarray, "text evidence"]:
        """Evidence of each text, ready for the heads."""
        unknown = [name for name in self.evidence if rows and name not in rows[0]]
        if unknown:
            raise ModelError(
                f'The local judge\'s tables ask for evidence that is not measured: "{unknown[0]}".',
                "Install tslens anew, or fit them again: python training/local_judge_heads.py",
            )
        values = np.array([[row[name] for name in self.evidence] for row in rows], dtype=float)
        return standardise(values, self.centre, self.scale)

    def raw(self, name: str, rows: Float[np.ndarray, "text evidence"]) -> Float[np.ndarray, " text"]:
        """What a criterion is given before it is cut to the scale of grades."""
        return self.bases[name].says(rows) - self.points * likeliest_fault(name, self.detectors, rows)

    def grades(self, name: str, rows: Float[np.ndarray, "text evidence"]) -> Float[np.ndarray, " text"]:
        """Grades from 0 to 10."""
        return np.clip(self.raw(name, rows), LOWEST, HIGHEST)

    def ages(self, rows: Float[np.ndarray, "text evidence"]) -> list[str]:
        """Age groups, A to F."""
        letters = list(AGE_GROUPS)
        places = np.clip(np.rint(self.bases["age"].says(rows)), 0, len(letters) - 1).astype(int)
        return [letters[place] for place in places]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            "version": self.version,
            "evidence": list(self.evidence),
            "centre": np.round(self.centre, 6).tolist(),
            "scale": np.round(self.scale, 6).tolist(),
            "bases": {name: one.to_json() for name, one in self.bases.items()},
            "detectors": {kind: one.to_json() for kind, one in self.detectors.items()},
            "points": self.points,
            "reach": {name: round(one, 4) for name, one in self.reach.items()},
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        """Inverse of :meth:`to_json`."""
        return cls(
            row["version"],
            tuple(row["evidence"]),
            np.array(row["centre"]),
            np.array(row["scale"]),
            {name: Head.from_json(one) for name, one in row["bases"].items()},
            {kind: Detector.from_json(one) for kind, one in row["detectors"].items()},
            row["points"],
            row["reach"],
        )


def standardise(
    values: Float[np.ndarray, "text evidence"],
    centre: Float[np.ndarray, " evidence"],
    scale: Float[np.ndarray, " evidence"],
) -> Float[np.ndarray, "text evidence"]:
    """Cube roots of evidence in deviations, cut."""
    return np.clip((np.cbrt(values) - centre) / scale, -CUT, CUT)


@cache
def load_heads() -> Heads:
    """The heads of the package."""
    text = (resources.files("tslens") / "assets/grading" / FILE).read_text(encoding="utf-8")
    return Heads.from_json(json.loads(text))
