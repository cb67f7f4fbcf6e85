"""The state that a run resumes from: weights, optimizer moments, counters and the place in the data.

All that is random in a run is a function of its seed and of counters, so there is no generator to keep.
"""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from tslens.errors import RunError
from tslens.files import atomic_write
from tslens.model.transformer import TinyTransformer
from tslens.train.optimizer import Optimizers


@dataclass
class Counters:
    """Where a run stands. ``batch``: batches used of the current ``epoch``. ``seconds``: trained so far."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    n_tokens: int = 0
    seconds: float = 0.0


def save_state(path: Path, model: TinyTransformer, optimizers: Optimizers, counters: Counters) -> None:
    """Write the state, whole or not at all."""
    buffer = io.BytesIO()
    state = {
        "model": dict(model.named_parameters()),
        "optimizer": optimizers.state_dict(),
        "counters": asdict(counters),
    }
    torch.save(state, buffer)
    with atomic_write(path, "wb") as file:
        file.write(buffer.getbuffer())


def load_state(path: Path, model: TinyTransformer, optimizers: Optimizers) -> Counters:
    """Put a saved state into model and optimizer. Raises RunError if the file is broken or of another model."""
    try:
        state = torch.load(path, weights_only=True, map_location=model.cfg.device)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(state["model"][name])
        optimizers.load_state_dict(state["optimizer"])
        return Counters(**state["counters"])
    except Exception as error:  # torch.load raises many kinds on a torn or foreign file
        raise RunError(
            f"{path} holds no state of this run ({error}).", "Train anew into another --out."
        ) from error
