"""Correlations from running sums: of all neurons of two models, after a turn of the basis, and over resampled stories.

Axes: token, x and y (columns that are correlated), neuron, layer, story, moment (sums of x, y, x squared, y squared,
x y), pair.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

N_MOMENTS = 5
_CHUNK = 128  # pairs whose replicates are in memory at once


class Covariances:
    """Running sums of two sets of columns over tokens: products of a batch in float32, their sum in float64.

    Columns should have been shifted to a mean near zero.
    """

    def __init__(self, n_x: int, n_y: int) -> None:
        self.n = 0
        self.x, self.xx = torch.zeros(2, n_x, dtype=torch.float64)
        self.y, self.yy = torch.zeros(2, n_y, dtype=torch.float64)
        self.xy = torch.zeros(n_x, n_y, dtype=torch.float64)

    def add(self, x: Float[Tensor, "token x"], y: Float[Tensor, "token y"]) -> None:
        """Add the tokens of a batch."""
        self.n += len(x)
        self.x += x.sum(0)
        self.y += y.sum(0)
        self.xx += x.square().sum(0)
        self.yy += y.square().sum(0)
        self.xy += x.T @ y

    def covariance(self) -> Float[np.ndarray, "x y"]:
        """Of every two columns."""
        found: np.ndarray = (self.xy / self.n - torch.outer(self.x, self.y) / self.n**2).numpy()
        return found

    def correlation(self) -> Float[np.ndarray, "x y"]:
        """Pearson's; 0 where a column does not vary."""
        var_x, var_y = (s2 / self.n - (s / self.n) ** 2 for s, s2 in ((self.x, self.xx), (self.y, self.yy)))
        return scaled(self.covariance(), var_x.numpy(), var_y.numpy())


def scaled(
    covariance: Float[np.ndarray, "x y"], var_x: Float[np.ndarray, " x"], var_y: Float[np.ndarray, " y"]
) -> Float[np.ndarray, "x y"]:
    """Correlations of covariances; 0 where a column does not vary."""
    size = np.sqrt(np.outer(np.maximum(var_x, 0), np.maximum(var_y, 0)))
    return np.divide(covariance, size, out=np.zeros_like(size), where=size > 1e-12)


def random_rotation(n: int, rng: np.random.Generator) -> Float[np.ndarray, "n n"]:
    """An orthogonal matrix, all equally likely (Haar; Mezzadri 2007)."""
    q, r = np.linalg.qr(rng.standard_normal((n, n)))
    signs: np.ndarray = np.sign(np.diag(r))
    return q * signs


def rotated_correlation(
    covariance: Float[np.ndarray, "x y"],
    var_x: Float[np.ndarray, " x"],
    within: Sequence[Float[np.ndarray, "y_layer y_layer"]],
    rotations: Sequence[Float[np.ndarray, "y_layer y_layer"]],
) -> Float[np.ndarray, "x y"]:
    """Correlations after the columns y of each layer are turned, from covariances alone.

    ``within``: covariances of y within each layer; with R a layer's rotation, cov(x, yR) = cov(x, y) R and
    cov(yR) = R' cov(y) R.
    """
    parts, begin = [], 0
    for block, rotation in zip(within, rotations, strict=True):
        turned = covariance[:, begin : begin + len(block)] @ rotation
        variance = ((block @ rotation) * rotation).sum(0)
        parts.append(scaled(turned, var_x, variance))
        begin += len(block)
    return np.concatenate(parts, 1)


def story_moments(
    x: Float[Tensor, "token pair"], y: Float[Tensor, "token pair"], n_tokens: Sequence[int]
) -> Float[Tensor, "story moment pair"]:
    """Sums over the tokens of each story, which stand one after the other; ``n_tokens``: how many each has."""
    products = (x, y, x.square(), y.square(), x * y)
    return torch.stack([torch.stack([part.sum(0) for part in one.split(n_tokens)]) for one in products], 1)


def bootstrap_correlations(
    moments: Float[np.ndarray, "story moment pair"],
    n_tokens: Float[np.ndarray, " story"],
    weights: Float[np.ndarray, "replicate story"],
) -> Float[np.ndarray, "replicate pair"]:
    """Correlations over all tokens of resampled stories; row 0 is the sample. 0 where a column does not vary."""
    found = np.empty((len(weights), moments.shape[2]))
    n = (weights @ n_tokens)[:, None]
    for begin in range(0, moments.shape[2], _CHUNK):
        part = moments[:, :, begin : begin + _CHUNK]
        summed = weights @ part.reshape(len(part), -1)
        x, y, xx, yy, xy = np.moveaxis(summed.reshape(len(weights), N_MOMENTS, -1), 1, 0) / n
        size = np.sqrt(np.maximum(xx - x**2, 0) * np.maximum(yy - y**2, 0))
        found[:, begin : begin + _CHUNK] = np.divide(
            xy - x * y, size, out=np.zeros_like(size), where=size > 1e-12
        )
    return found
