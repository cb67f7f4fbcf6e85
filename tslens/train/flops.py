"""Floating-point operations of training: what a model needs for a token, what a device could do, and the share used.

A product of two matrices counts two operations (multiply, add) for each pair of numbers. The backward pass costs twice
the forward pass. Attention counts the keys that a query really has. Norms, softmax, embeddings and the optimizer are
left out, as is usual (Kaplan et al. 2020, arXiv:2001.08361).
"""

from __future__ import annotations

import time

import numpy as np
import torch
from jaxtyping import Int

from tslens.model.spec import WINDOW, ModelSpec

PASSES = 3  # forward, and backward at twice its cost

PEAK_FLOPS: dict[str, dict[str, float]] = {
    "H100 PCIe": {"bfloat16": 756e12, "float32": 51e12},
    "H100 NVL": {"bfloat16": 835e12, "float32": 60e12},
    "H200": {"bfloat16": 989e12, "float32": 67e12},
    "H100": {"bfloat16": 989e12, "float32": 67e12},
    "A100": {"bfloat16": 312e12, "float32": 19.5e12},
    "L40S": {"bfloat16": 362e12, "float32": 91.6e12},
    "L4": {"bfloat16": 121e12, "float32": 30.3e12},
    "A10G": {"bfloat16": 70e12, "float32": 35e12},
    "V100": {"float32": 15.7e12},
    "T4": {"float32": 8.1e12},
}
"""Dense peak in FLOP/s by a part of the device's name and the precision of products, from NVIDIA's data sheets. V100
and T4 have no bfloat16. The first name that is found counts."""


def params_in_products(spec: ModelSpec, d_vocab: int) -> int:
    """Weights that every token is multiplied with: the matrices of the blocks, and the unembedding."""
    return spec.n_layers * (4 * spec.d_model**2 + 2 * spec.d_model * spec.d_mlp) + d_vocab * spec.d_model


def mean_keys(lengths: Int[np.ndarray, " story"], window: int | None = None) -> float:
    """Keys that a position attends to, the mean over all positions of all stories.

    ``lengths``: positions of each story. Position t, from 1, has t keys, or ``window`` at most.
    """
    n = lengths.astype(np.float64)
    inside = n if window is None else np.minimum(n, window)
    beyond = n - inside
    return float((inside * (inside + 1) / 2 + beyond * (window or 0)).sum() / n.sum())


def flops_per_token(spec: ModelSpec, d_vocab: int, lengths: Int[np.ndarray, " story"]) -> float:
    """Operations to train on one token: 6 x weights in products + 12 x d_model x keys, summed over the layers.

    A layer's attention takes 4 x d_model x keys forward (scores, then values), three times that with the backward
    pass. ``keys``: mean number that a position attends to (:func:`mean_keys`), at most 256 in layers 1, 3, ...
    """
    keys = sum(mean_keys(lengths, WINDOW if spec.is_local(i) else None) for i in range(spec.n_layers))
    return PASSES * (2 * params_in_products(spec, d_vocab) + 4 * spec.d_model * keys)


def mfu(flops_per_token: float, tokens_per_second: float, peak_flops: float) -> float:
    """Model FLOPs utilisation: share of the peak that goes into operations which the model needs, 0 to 1.

    Source: Chowdhery et al. 2022, PaLM (arXiv:2204.02311), section 4.1.
    """
    return flops_per_token * tokens_per_second / peak_flops


def peak_of(device_name: str, precision: str) -> float | None:
    """Peak in FLOP/s of a GPU by its name, as in ``NVIDIA A100-SXM4-80GB``; None where it is not known."""
    words = device_name.replace("-", " ").lower().split()
    for name, peaks in PEAK_FLOPS.items():
        if all(part in words for part in name.lower().split()):
            return peaks.get(precision)
    return None


def device_peak(device: str, precision: str) -> float | None:
    """Peak in FLOP/s of ``cpu`` (measured, a quarter of a second) or ``cuda`` (by its name); None where not known."""
    if device == "cpu":
        return matmul_flops("cpu", precision)
    return peak_of(torch.cuda.get_device_name(device), precision) if device.startswith("cuda") else None


def matmul_flops(device: str, precision: str, *, seconds: float = 0.2) -> float:
    """FLOP/s that products of two square matrices of a precision reach on a device, the best of those tried."""
    size, dtype = 4096 if device.startswith("cuda") else 1024, getattr(torch, precision)
    a, b = (torch.full((size, size), 0.5, device=device, dtype=dtype) for _ in range(2))
    best, begin = float("inf"), time.perf_counter()
    torch.mm(a, b)
    while best == float("inf") or time.perf_counter() - begin < seconds:
        before = time.perf_counter()
        product = torch.mm(a, b)
        product[0, 0].item()  # waits for a GPU
        best = min(best, time.perf_counter() - before)
    return 2 * size**3 / best
