"""The optimizer: Muon for the matrices of the blocks, Adam for embeddings, norms and biases; one schedule.

Muon (Jordan et al. 2024): the momentum of a matrix is replaced by about the nearest orthogonal matrix, so that every
direction moves alike.

1. Take the heads of W_Q, W_K, W_V and W_O together, as the one matrix they are; turn tall matrices on their side.
2. Stack those of equal shape, of all layers, and iterate x <- a x + (b x x' + c (x x')^2) x five times: an odd
   polynomial of the singular values that drives each towards 1. The coefficients of each iteration are the best for
   what the one before leaves (Polar Express: Amsel et al. 2025).
3. Step by sqrt(outputs / inputs) of the layer, at least 1 (after Jordan et al. 2024).

The gradient of an embedding is sparse: Adam takes a long second moment for it and hardly any first one. Its rate is
for width 256 and goes with 1 / sqrt(width), as width 64 wanted twice that of width 256. Matrices have one rate at all
widths. Rates were tried at widths 64 and 256 only.

Products are in the precision of the run. What each choice is worth: ``training/LOG.md``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from tslens.config import TrainConfig
from tslens.model.transformer import TinyTransformer

REFERENCE_WIDTH = 256  # of the embedding's rate
_POLAR_EXPRESS = (  # with room for rounding: what ends a little above 1 must not be driven away from it
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
_MATRIX_OF = {
    "W_Q": ("h d e", "d (h e)"),
    "W_K": ("h d e", "d (h e)"),
    "W_V": ("h d e", "d (h e)"),
    "W_O": ("h e d", "(h e) d"),
}


def orthogonalise(matrices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """About the nearest matrices with orthonormal rows or columns (singular values 0.8 to 1.2): [... rows columns].

    ``dtype``: of the products.
    """
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if is_tall else matrices
    x = (x / (x.norm(dim=(-2, -1), keepdim=True) * 1.02 + 1e-6)).to(dtype)
    for a, b, c in _POLAR_EXPRESS:
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    x = x.to(matrices.dtype)
    return x.mT if is_tall else x


class Muon(torch.optim.Optimizer):
    """Steps along the orthogonalised Nesterov momentum. ``leaves``: name of each parameter, as in ``W_Q``."""

    def __init__(
        self,
        parameters: list[Tensor],
        leaves: list[str],
        *,
        momentum: float,
        decay: float,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(parameters, {"lr": 0.0, "momentum": momentum, "decay": decay})
        self.leaves, self.dtype = leaves, dtype

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step for every parameter."""
        for group in self.param_groups:
            stacks: dict[tuple[int, int], list[tuple[Tensor, str, Tensor]]] = defaultdict(list)
            for leaf, parameter in zip(self.leaves, group["params"], strict=True):
                state = self.state[parameter]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                matrix = as_matrix(parameter.grad.lerp(state["momentum"], group["momentum"]), leaf)
                wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT
                stacks[(wide.shape[0], wide.shape[1])].append((parameter, leaf, wide))
            for same_shape in stacks.values():
                found = orthogonalise(torch.stack([wide for _, _, wide in same_shape]), self.dtype)
                for (parameter, leaf, _), direction in zip(same_shape, found, strict=True):
                    parameter.mul_(1 - group["lr"] * group["decay"])
                    rows, columns = as_matrix(parameter, leaf).shape
                    scale = max(1.0, columns / rows) ** 0.5
                    step = direction if rows <= columns else direction.mT
                    parameter.add_(as_parameter(step, leaf, parameter), alpha=-group["lr"] * scale)


def as_matrix(parameter: Tensor, leaf: str) -> Tensor:
    """The matrix [inputs outputs] that a parameter is: its heads side by side."""
    heads, joined = _MATRIX_OF.get(leaf, ("a b", "a b"))
    return rearrange(parameter, f"{heads} -> {joined}")


def as_parameter(matrix: Tensor, leaf: str, like: Tensor) -> Tensor:
    """Inverse of :func:`as_matrix`."""
    heads, joined = _MATRIX_OF.get(leaf, ("a b", "a b"))
    sizes = {"h": like.shape[0]} if leaf in _MATRIX_OF else {}
    return rearrange(matrix, f"{joined} -> {heads}", **sizes)


class Optimizers:
    """The optimizers of a recipe, as one: Muon and Adam side by side, or AdamW alone."""

    def __init__(self, model: TinyTransformer, config: TrainConfig) -> None:
        kinds: dict[str, list[tuple[str, Tensor]]] = {"matrix": [], "embedding": [], "vector": []}
        for name, parameter in model.named_parameters():
            kind = (
                "embedding"
                if name == "embed.W_E"
                else "matrix"
                if name.startswith("blocks") and ".W_" in name
                else "vector"
            )
            kinds[kind].append((name.rsplit(".", 1)[-1], parameter))
        parameters = {kind: [parameter for _, parameter in named] for kind, named in kinds.items()}
        scale = (REFERENCE_WIDTH / model.cfg.d_model) ** 0.5 if config.optimizer == "muon" else 1.0
        rates = {
            "embedding": config.learning_rate * scale,
            "vector": config.vector_learning_rate if config.optimizer == "muon" else config.learning_rate,
            "matrix": config.learning_rate,
        }
        self.all: list[torch.optim.Optimizer] = []
        by_adam = ["embedding", "vector"] if config.optimizer == "muon" else ["embedding", "vector", "matrix"]
        self.all.append(
            torch.optim.AdamW(
                [
                    {
                        "params": parameters[kind],
                        "peak": rates[kind],
                        "weight_decay": config.weight_decay if kind == "matrix" else 0.0,
                    }
                    for kind in by_adam
                ],
                lr=0.0,
                betas=(config.beta1, config.beta2),
                fused=True,
            )
        )
        if config.optimizer == "muon":
            muon = Muon(
                parameters["matrix"],
                [leaf for leaf, _ in kinds["matrix"]],
                momentum=config.momentum,
                decay=config.weight_decay,
                dtype=getattr(torch, config.precision),
            )
            muon.param_groups[0]["peak"] = config.matrix_learning_rate
            self.all.append(muon)

    def step(self, share: float) -> None:
        """One step at a share of the peak rates, then gradients to zero."""
        for optimizer in self.all:
            for group in optimizer.param_groups:
                group["lr"] = share * group["peak"]
            optimizer.step()
            optimizer.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """The states of all."""
        return {type(optimizer).__name__: optimizer.state_dict() for optimizer in self.all}

    def load_moments(self, moments: Mapping[str, Mapping[int, Any]]) -> None:
        """Take over what each optimizer keeps of each weight, by its number; rates and betas stay as they are."""
        for optimizer in self.all:
            own = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": moments[type(optimizer).__name__], "param_groups": own})


def schedule(config: TrainConfig, progress: float) -> float:
    """Share of the peak rates at a share of the budget, 0 to 1: a line up, then a line down to zero, or constant."""
    if progress < config.warmup:
        return progress / config.warmup
    if config.decay == "constant":
        return 1.0
    return max(0.0, 1 - progress) / (1 - config.warmup)
