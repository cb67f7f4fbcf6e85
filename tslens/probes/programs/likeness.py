"""How like two attention patterns are: pure functions on rows, usable with any cache.

Axes: key is the last axis of both; each row sums to 1 over it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

SMALLEST = 1e-30  # inside logarithms only


def intersection_over_union(
    pattern: Float[Tensor, "*query key"], other: Float[Tensor, "*query key"]
) -> Float[Tensor, "*query"]:
    """Weighted intersection over union of two rows: sum of the lesser over sum of the greater (Jaccard; Ruzicka).

    Range 0 to 1, 1 for equal rows. With t the total variation distance it is (1 - t) / (1 + t).
    """
    lesser = torch.minimum(pattern, other).sum(-1)
    return lesser / (pattern.sum(-1) + other.sum(-1) - lesser)


def jensen_shannon(
    pattern: Float[Tensor, "*query key"], other: Float[Tensor, "*query key"]
) -> Float[Tensor, "*query"]:
    """Jensen-Shannon distance of two rows: root of the divergence to base 2 (Endres and Schindelin 2003).

    Range 0 (equal) to 1 (no key in common).
    """
    return _distance(pattern, other, _plogp(pattern))


def divergence(
    pattern: Float[Tensor, "*query key"], program: Float[Tensor, "*query key"]
) -> Float[Tensor, "*query"]:
    """KL(pattern || program) in nats: what the program lacks to say the pattern. Zero where they are equal."""
    return _divergence(pattern, program, _plogp(pattern))


@dataclass(frozen=True)
class Likeness:
    """All three for each row: ``iou``, ``distance`` (Jensen-Shannon), ``divergence`` (nats)."""

    iou: Float[Tensor, "*query"]
    distance: Float[Tensor, "*query"]
    divergence: Float[Tensor, "*query"]

    @classmethod
    def of(cls, pattern: Float[Tensor, "*query key"], program: Float[Tensor, "*query key"]) -> Likeness:
        """Of a pattern and of what a program gives."""
        own = _plogp(pattern)
        return cls(
            intersection_over_union(pattern, program),
            _distance(pattern, program, own),
            _divergence(pattern, program, own),
        )


def _plogp(rows: Tensor) -> Tensor:
    return (rows * rows.clamp(min=SMALLEST).log()).sum(-1)


def _divergence(pattern: Tensor, program: Tensor, own: Tensor) -> Tensor:
    return (own - (pattern * program.clamp(min=SMALLEST).log()).sum(-1)).clamp(min=0)


def _distance(pattern: Tensor, other: Tensor, own: Tensor) -> Tensor:
    middle = (pattern + other) / 2
    bits = ((own + _plogp(other)) / 2 - _plogp(middle)) / math.log(2)
    return bits.clamp(0, 1).sqrt()
