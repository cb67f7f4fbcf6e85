"""Next-token loss without ever holding all logits, and the loss of a model on stories."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tslens.model.batches import IGNORED, collate, cut_by_length
from tslens.model.transformer import TinyTransformer

CHUNK = 512  # positions whose logits exist at once: 8 MB at 4,096 tokens, which stays in a CPU's cache


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of ``x @ W_E.T``; the gradient is formed chunk by chunk in the forward pass.

    For each chunk: logits, softmax in place, minus one at the target: that is the gradient of the logits, from
    which those of ``x`` and ``W_E`` follow by one product each. Only chunk x vocabulary numbers exist at once.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, W_E: Tensor, targets: Tensor) -> Tensor:
        dx, dW = torch.empty_like(x), torch.zeros_like(W_E)
        total = x.new_zeros(())
        for first in range(0, len(x), CHUNK):
            part, target = x[first : first + CHUNK], targets[first : first + CHUNK, None]
            probs = part @ W_E.T
            top = probs.amax(1, keepdim=True)
            at_target = probs.gather(1, target)
            probs.sub_(top).exp_()
            norm = probs.sum(1, keepdim=True)
            total += (norm.log() + top - at_target).sum()
            probs.div_(norm).scatter_add_(1, target, probs.new_full(target.shape, -1.0))
            torch.mm(probs, W_E, out=dx[first : first + CHUNK])
            dW.addmm_(probs.T, part)
        ctx.save_for_backward(dx.div_(len(x)), dW.div_(len(x)))
        return total / len(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        dx, dW = ctx.saved_tensors
        return dx * grads[0], dW * grads[0], None


def next_token_loss(
    model: TinyTransformer, tokens: Int[Tensor, "story pos"], targets: Int[Tensor, "story pos"]
) -> Float[Tensor, ""]:
    """Mean loss in nats over the targets that are not ``IGNORED``, with gradient."""
    kept = (targets != IGNORED).flatten()
    final = model.final_residual(tokens).flatten(0, 1)[kept]
    loss: Tensor = _ChunkedCrossEntropy.apply(final, model.embed.W_E, targets.flatten()[kept])
    return loss


@dataclass(frozen=True)
class LossReport:
    """Loss of a model on stories. ``nats``: summed over ``n_targets``, the end tokens included; ``n_bytes``: UTF-8."""

    nats: float
    n_targets: int
    n_bytes: int

    @property
    def loss_nats(self) -> float:
        """Mean loss in nats per token."""
        return self.nats / self.n_targets

    @property
    def bits_per_byte(self) -> float:
        """Total loss in bits over the bytes of the text: comparable across tokenizers."""
        return self.nats / math.log(2) / self.n_bytes


@torch.no_grad()
def loss_per_target(
    model: TinyTransformer, stories: Sequence[np.ndarray], *, batch_tokens: int = 8192
) -> list[np.ndarray]:
    """Loss in nats of every target of each story, ``story[1:]``."""
    lengths = np.array([len(story) - 1 for story in stories])
    losses: list[np.ndarray] = [np.empty(0)] * len(stories)
    for index in cut_by_length(lengths, batch_tokens):
        batch = collate([stories[i] for i in index])
        kept = batch.targets != IGNORED
        device = model.embed.W_E.device
        final = model.final_residual(batch.tokens.to(device))[kept.to(device)]
        targets = batch.targets[kept].to(device)
        parts = [
            torch.nn.functional.cross_entropy(
                model.unembed(final[i : i + CHUNK]), targets[i : i + CHUNK], reduction="none"
            )
            for i in range(0, len(final), CHUNK)
        ]
        flat = torch.cat(parts).cpu().double().numpy()
        for story, part in zip(index, np.split(flat, np.cumsum(lengths[index])[:-1]), strict=True):
            losses[story] = part
    return losses


def evaluate(
    loss_of: Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]],
    stories: Iterable[np.ndarray],
    n_bytes_of_token: np.ndarray,
    *,
    group: int = 256,
) -> LossReport:
    """Loss of anything that gives one per target (a model, an n-gram) on ``[<|endoftext|>, t1, ...]`` sequences.

    Streams: holds ``group`` stories at a time. Raises ValueError if there is no story.
    """
    nats, n_targets, n_bytes = 0.0, 0, 0
    waiting: list[np.ndarray] = []

    def flush() -> None:
        nonlocal nats, n_targets, n_bytes
        for story, losses in zip(waiting, loss_of(waiting), strict=True):
            nats += float(losses.sum())
            n_targets += len(losses)
            n_bytes += int(n_bytes_of_token[story[1:]].sum())
        waiting.clear()

    for story in stories:
        waiting.append(np.asarray(story))
        if len(waiting) == group:
            flush()
    if waiting:
        flush()
    if not n_targets:
        raise ValueError("no story to evaluate on")
    return LossReport(nats, n_targets, n_bytes)
