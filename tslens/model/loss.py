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
from tslens.model.story_model import StoryModel

CHUNK = 512  # positions whose logits exist at once: 8 MB at 4,096 tokens, which stays in a CPU's cache
GPU_CHUNK = 8192


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Summed cross-entropy of ``x @ W_E.T``; the gradient is formed chunk by chunk in the forward pass.

    For each chunk: logits, softmax in place, minus one at the target: that is the gradient of the logits, from
    which those of ``x`` and ``W_E`` follow by one product each. Only chunk x vocabulary numbers exist at once.
    Products are in the precision of ``x``, softmax and sums in that of ``W_E``.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, W_E: Tensor, targets: Tensor) -> Tensor:
        weight, kept = W_E.to(x.dtype), (targets != IGNORED)[:, None]
        target_of = targets.clamp(min=0)[:, None]
        dx, dW = torch.empty_like(x), torch.zeros_like(W_E)
        total = W_E.new_zeros(())
        chunk = GPU_CHUNK if x.is_cuda else CHUNK
        for first in range(0, len(x), chunk):
            place = slice(first, first + chunk)
            part, target = x[place], target_of[place]
            probs = (part @ weight.T).to(W_E.dtype)
            top = probs.amax(1, keepdim=True)
            at_target = probs.gather(1, target)
            probs.sub_(top).exp_()
            norm = probs.sum(1, keepdim=True)
            total += ((norm.log() + top - at_target) * kept[place]).sum()
            probs.div_(norm).scatter_add_(1, target, probs.new_full(target.shape, -1.0))
            gradient = probs.to(x.dtype)
            torch.mm(gradient, weight, out=dx[place])
            if x.dtype == W_E.dtype:
                dW.addmm_(gradient.T, part * kept[place])
            else:
                dW += gradient.T @ (part * kept[place])
        ctx.save_for_backward(dx.mul_(kept), dW)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        dx, dW = ctx.saved_tensors
        return dx * grads[0], dW * grads[0], None


def summed_loss(
    final: Float[Tensor, "story pos d_model"],
    W_E: Float[Tensor, "d_vocab d_model"],
    targets: Int[Tensor, "story pos"],
) -> Float[Tensor, ""]:
    """Loss in nats, summed over the targets that are not ``IGNORED``, of what the unembedding reads; with gradient."""
    device = final.device.type
    if torch.is_autocast_enabled(device):
        final = final.to(torch.get_autocast_dtype(device))
    with torch.autocast(device, enabled=False):
        loss: Tensor = _ChunkedCrossEntropy.apply(final.flatten(0, 1), W_E, targets.flatten())
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
    model: StoryModel, stories: Sequence[np.ndarray], *, batch_tokens: int = 8192
) -> list[np.ndarray]:
    """Loss in nats of every target of each story, ``story[1:]``."""
    lengths = np.array([len(story) - 1 for story in stories])
    losses: list[np.ndarray] = [np.empty(0)] * len(stories)
    for index in cut_by_length(lengths, batch_tokens):
        batch = collate([stories[i] for i in index])
        kept = batch.targets != IGNORED
        device = model.device
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
