"""Activations of a sample as 16-bit codes in the order of their values, and what histograms of codes tell exactly.

An activation is rounded to float16, whose bits, read as a number, stand in the order of the values. A neuron then has
65,536 possible values at most, so that ranks, areas under the curve and average precision come from counts: no sorting,
ties in the middle as scikit-learn has them, and two bytes a neuron and token.

Axes: token (of the sample), neuron, label, code.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt16

N_CODES = 1 << 16
_LARGEST = 65504.0  # of float16

Codes = UInt16[np.ndarray, "token neuron"]


def encode(activation: Float[np.ndarray, "..."]) -> UInt16[np.ndarray, "..."]:
    """Codes of activations; greater values have greater codes. What float16 cannot hold is clipped."""
    half = torch.from_numpy(activation).clamp(-_LARGEST, _LARGEST).half() + 0.0  # -0 becomes 0
    bits = half.view(torch.int16)
    found: np.ndarray = torch.where(bits < 0, ~bits, bits | -0x8000).numpy().view(np.uint16)
    return found


def decode(codes: UInt16[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Activations of codes, float32."""
    bits = np.where(codes >> 15, codes & 0x7FFF, ~codes).astype(np.uint16)
    return bits.view(np.float16).astype(np.float32)


def below(codes: UInt16[np.ndarray, " token"]) -> Float[np.ndarray, " code"]:
    """Share of tokens with a smaller code, plus half of those with the same, for every code."""
    counts = np.bincount(codes, minlength=N_CODES)
    return (np.cumsum(counts) - 0.5 * counts) / max(len(codes), 1)


def areas(
    codes: Codes, labels: Bool[np.ndarray, "token label"], neurons: Sequence[int] | None = None
) -> Float[np.ndarray, "neuron label"]:
    """Area under the receiver operating characteristic of each neuron for each label.

    The probability that a labelled token has a higher activation than one that is not, ties counted half. NaN where
    all tokens or none have the label. ``neurons``: some of them, in this order.
    """
    n_tokens, n_labelled = len(labels), labels.sum(0).astype(float)
    flags = labels.astype(np.float32)
    chosen = range(codes.shape[1]) if neurons is None else neurons
    found = np.empty((len(chosen), labels.shape[1]))
    for i, neuron in enumerate(chosen):
        of_neuron = codes[:, neuron]
        place = below(of_neuron)[of_neuron].astype(np.float32)
        found[i] = place @ flags
    with np.errstate(divide="ignore", invalid="ignore"):
        # mean place among all tokens = share of labelled tokens x 1/2 + share of the others x area
        mean = found / n_labelled
        area = (mean * n_tokens - 0.5 * n_labelled) / (n_tokens - n_labelled)
    return np.where((n_labelled > 0) & (n_labelled < n_tokens), area, np.nan)


def average_precision(codes: UInt16[np.ndarray, " token"], label: Bool[np.ndarray, " token"]) -> float:
    """Mean precision over the recall of a label, from the highest activation down; NaN without labelled tokens."""
    everyone = np.bincount(codes, minlength=N_CODES)[::-1]
    labelled = np.bincount(codes[label], minlength=N_CODES)[::-1]
    at = labelled > 0
    if not at.any():
        return float("nan")
    precision = np.cumsum(labelled)[at] / np.cumsum(everyone)[at]
    return float(precision @ labelled[at] / labelled.sum())


def placements(
    codes: UInt16[np.ndarray, " token"], label: Bool[np.ndarray, " token"]
) -> Float[np.ndarray, " token"]:
    """For a labelled token the share of others below it, for another the share of labelled tokens above it.

    Their means over either kind are both the area (Hanley and Hajian-Tilaki 1997).
    """
    other, labelled = below(codes[~label]), below(codes[label])
    return np.where(label, other[codes], 1.0 - labelled[codes])


def influence(
    placement: Float[np.ndarray, " token"], label: Bool[np.ndarray, " token"]
) -> Float[np.ndarray, " token"]:
    """How much each token moves the area of a label, from its placements."""
    found: np.ndarray = (placement - placement[label].mean()) / np.where(label, label.sum(), (~label).sum())
    return found


def error_over_stories(off: Float[np.ndarray, " token"], story: Int[np.ndarray, " token"]) -> float:
    """Standard error of what :func:`influence` adds up to, where tokens of a story are not independent (Obuchowski
    1997). ``story``: number of each token's story, from 0 without gaps.
    """
    per_story = np.bincount(story, off)
    return float(np.sqrt((per_story**2).sum() * len(per_story) / max(len(per_story) - 1, 1)))


def areas_within(
    codes: UInt16[np.ndarray, " token"], label: Bool[np.ndarray, " token"], group: Int[np.ndarray, " token"]
) -> tuple[Float[np.ndarray, " group"], Float[np.ndarray, " group"]]:
    """Area of each group of tokens (0, 1, ... in ``group``) by itself, and its number of pairs; NaN without pairs."""
    order = np.lexsort((codes, group))
    c, g, flag = codes[order], group[order], label[order]
    n_groups = int(g[-1]) + 1 if len(g) else 0
    # ranks within the group, ties in the middle
    first_of_group = np.searchsorted(g, np.arange(n_groups))
    new = np.append(True, (c[1:] != c[:-1]) | (g[1:] != g[:-1])) if len(g) else np.zeros(0, bool)
    run = np.cumsum(new) - 1
    begins = np.flatnonzero(new)
    ends = np.append(begins[1:], len(g))
    rank = ((begins + ends + 1) / 2)[run] - first_of_group[g]
    n = np.bincount(g, minlength=n_groups).astype(float)
    n_labelled = np.bincount(g, flag, n_groups)
    summed = np.bincount(g, np.where(flag, rank, 0.0), n_groups)
    pairs = n_labelled * (n - n_labelled)
    with np.errstate(divide="ignore", invalid="ignore"):
        area = (summed - n_labelled * (n_labelled + 1) / 2) / pairs
    return area, pairs
