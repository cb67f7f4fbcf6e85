"""Settings: frozen, with a unit under each field, unknown keys refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from tslens.errors import UsageError


@dataclass(frozen=True)
class TrainConfig:
    """What decides the weights of a run, apart from the data.

    ``model``: name, see ``ModelSpec``. ``budget``, ``amount``: what ends the run, and when: optimizer steps,
    training tokens or minutes of training. ``seed``: of weights and data order. ``batch_tokens``: padded tokens a
    step. ``matrix_learning_rate``, ``momentum``, ``weight_decay``: Muon's, for the matrices of the blocks.
    ``learning_rate``, ``beta1``, ``beta2``: AdamW's, for embeddings, norms and biases. ``warmup``: share of the
    budget in which both rates rise from zero to their peaks; then they fall along a line to zero. ``clip``: largest
    norm of the gradient.
    """

    model: str
    budget: Literal["steps", "tokens", "minutes"]
    amount: float
    seed: int
    vocab_size: int = 4096
    batch_tokens: int = 2048
    matrix_learning_rate: float = 0.012
    momentum: float = 0.95
    weight_decay: float = 0.01
    learning_rate: float = 6e-3
    warmup: float = 0.02
    beta1: float = 0.9
    beta2: float = 0.95
    clip: float = 1.0

    def __post_init__(self) -> None:
        limits = {
            "seed": (0, 2**63 - 1),
            "vocab_size": (257, 65_536),
            "batch_tokens": (1, 2**31),
            "matrix_learning_rate": (0, math.inf),
            "momentum": (0, 1),
            "weight_decay": (0, math.inf),
            "learning_rate": (0, math.inf),
            "warmup": (0, 1),
            "beta1": (0, 1),
            "beta2": (0, 1),
            "clip": (0, math.inf),
            "amount": (-math.inf, math.inf),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not isinstance(value, int | float) or not math.isfinite(value) or not low <= value <= high:
                raise UsageError(
                    f"{name} cannot be {value}.", f"Give a number from {low:g} to {high:g}, and finite."
                )
        if not self.amount > 0:
            raise UsageError(
                f"A budget of {self.amount:g} {self.budget} trains nothing.", "Give a number above zero."
            )

    def to_json(self) -> dict[str, Any]:
        """The settings as plain JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Inverse of :meth:`to_json`. Raises UsageError on a key that is no setting."""
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise UsageError(f'"{unknown[0]}" is no setting of a training run.', "Remove or correct it.")
        try:
            return cls(**values)
        except TypeError as error:
            raise UsageError(
                f"The settings are incomplete: {error}.", "Restore config.json, or train anew."
            ) from error


def train_config(
    saved: Mapping[str, Any] | None,
    *,
    steps: int | None = None,
    tokens: int | None = None,
    minutes: float | None = None,
    **given: Any,
) -> TrainConfig:
    """Settings from what a user gave: the rest from a run that is resumed (``saved``), else the defaults.

    Without any budget it is 10 minutes. Raises UsageError for two budgets at once.
    """
    budgets = {"steps": steps, "tokens": tokens, "minutes": minutes}
    named = {name: amount for name, amount in budgets.items() if amount is not None}
    if len(named) > 1:
        raise UsageError(f"Two budgets were given: {' and '.join(named)}.", "Give one of them.")
    if saved is not None and not isinstance(saved, Mapping):
        raise UsageError(
            "The config.json of the run holds no settings.", "Restore it, or train into another --out."
        )
    base = {
        key: value for key, value in (saved or {}).items() if key in {f.name for f in fields(TrainConfig)}
    }
    chosen = {key: value for key, value in given.items() if value is not None}
    for name, amount in named.items() or ({} if saved else {"minutes": 10.0}).items():
        chosen |= {"budget": name, "amount": float(amount)}
    return TrainConfig.from_json(base | chosen)
