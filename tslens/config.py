"""Settings: frozen, with a unit under each field, unknown keys refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from tslens.errors import UsageError

Precision = Literal["auto", "float32", "bfloat16", "float64"]

_ADAMW: dict[str, Any] = {
    "optimizer": "adamw",
    "learning_rate": 1e-3,
    "weight_decay": 0.1,
    "beta1": 0.9,
    "beta2": 0.95,
    "batch_tokens": 2048,
}
RECIPES: dict[str, dict[str, Any]] = {
    "muon": {},
    "adamw": _ADAMW,
    "paper": {
        **_ADAMW,
        "learning_rate": 5e-4,
        "warmup": 0.0,
        "decay": "constant",
    },
}
"""What each recipe changes in the settings. ``paper``: the rate, decay and betas that the 33M model's card names
(Eldan and Li 2023), constant; ``adamw``: the same with a rate that rises and falls."""


@dataclass(frozen=True)
class TrainConfig:
    """What decides the weights of a run, apart from the data.

    ``model``: name, see ``ModelSpec``. ``budget``, ``amount``: what ends the run, and when: optimizer steps,
    training tokens or minutes of training. ``seed``: of weights and data order. ``recipe``: name in ``RECIPES`` that
    gave the settings. ``optimizer``: ``muon`` (Muon for the matrices of the blocks, Adam for the rest) or ``adamw``.
    ``batch_tokens``: padded tokens of a step. ``matrix_learning_rate``, ``momentum``: Muon's. ``learning_rate``:
    Adam's, of the embedding at width 256 (``adamw``: of everything, at any width); ``vector_learning_rate``: of
    positions, norms and biases, with ``muon``; ``beta1``, ``beta2``: Adam's. ``weight_decay``: of the matrices of
    the blocks. ``warmup``: share of the budget in which rates rise from zero to their peaks. ``decay``: then they
    fall along a line to zero, or stay (``constant``). ``clip``: largest norm of the gradient. ``precision``: of
    products; weights, sums and optimizer are float32 (``float64``: everything, for tests); ``auto``: bfloat16 where
    the device has products of it. ``compile``: by ``torch.compile``.
    """

    model: str
    budget: Literal["steps", "tokens", "minutes"]
    amount: float
    seed: int
    vocab_size: int = 4096
    recipe: str = "muon"
    optimizer: Literal["muon", "adamw"] = "muon"
    batch_tokens: int = 1024
    matrix_learning_rate: float = 0.012
    momentum: float = 0.9
    weight_decay: float = 0.01
    learning_rate: float = 1e-2
    vector_learning_rate: float = 2e-3
    warmup: float = 0.02
    decay: Literal["linear", "constant"] = "linear"
    beta1: float = 0.6
    beta2: float = 0.9995
    clip: float = 1.0
    precision: Precision = "auto"
    compile: bool = False

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise UsageError(
                    f'{name} cannot be "{getattr(self, name)}".',
                    f"Choose one of: {', '.join(map(str, allowed))}.",
                )
        for name, (low, high) in _LIMITS.items():
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


_CHOICES: dict[str, tuple[Any, ...]] = {
    "budget": ("steps", "tokens", "minutes"),
    "recipe": tuple(RECIPES),
    "optimizer": ("muon", "adamw"),
    "decay": ("linear", "constant"),
    "precision": ("auto", "float32", "bfloat16", "float64"),
    "compile": (False, True),
}
_LIMITS = {
    "seed": (0, 2**63 - 1),
    "vocab_size": (257, 65_536),
    "batch_tokens": (1, 2**31),
    "matrix_learning_rate": (0, math.inf),
    "momentum": (0, 1),
    "weight_decay": (0, math.inf),
    "learning_rate": (0, math.inf),
    "vector_learning_rate": (0, math.inf),
    "warmup": (0, 1),
    "beta1": (0, 1),
    "beta2": (0, 1),
    "clip": (0, math.inf),
    "amount": (-math.inf, math.inf),
}


def train_config(
    saved: Mapping[str, Any] | None,
    *,
    recipe: str | None = None,
    steps: int | None = None,
    tokens: int | None = None,
    minutes: float | None = None,
    **given: Any,
) -> TrainConfig:
    """Settings from what a user gave: the rest from a run that is resumed (``saved``), else from the recipe.

    Without any budget it is 10 minutes, without a recipe ``muon``. Raises UsageError for two budgets at once, or for
    a recipe that there is not.
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
    if recipe is not None:
        if recipe not in RECIPES:
            raise UsageError(f'There is no recipe "{recipe}".', f"Choose one of: {', '.join(RECIPES)}.")
        if base.get("recipe") != recipe:
            base |= {"recipe": recipe, **RECIPES[recipe]}
    chosen = {key: value for key, value in given.items() if value is not None}
    if "matrix_learning_rate" in chosen and base.get("optimizer", "muon") != "muon":
        raise UsageError(
            "--matrix-learning-rate is Muon's.", "Give --learning-rate, which is of everything here."
        )
    for name, amount in named.items() or ({} if saved else {"minutes": 10.0}).items():
        chosen |= {"budget": name, "amount": float(amount)}
    return TrainConfig.from_json(base | chosen)
