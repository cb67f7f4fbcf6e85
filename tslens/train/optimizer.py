"""The optimizer and the shape of the learning rate."""

from __future__ import annotations

import torch

from tslens.config import TrainConfig
from tslens.model.transformer import TinyTransformer


def make_optimizer(model: TinyTransformer, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019); weight decay on matrices, none on embeddings, norms and biases."""
    named = list(model.named_parameters())
    decayed = [p for name, p in named if name.startswith("blocks") and ".W_" in name]
    other = [p for name, p in named if not (name.startswith("blocks") and ".W_" in name)]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": other, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=(config.beta1, config.beta2), fused=True)


def learning_rate(config: TrainConfig, progress: float) -> float:
    """Rate at a share of the budget, 0 to 1: a line up to the peak, then a line down to zero."""
    if progress < config.warmup:
        return config.learning_rate * progress / config.warmup
    return config.learning_rate * max(0.0, 1 - progress) / (1 - config.warmup)
