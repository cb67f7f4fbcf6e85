"""The state that a run resumes from: weights, optimizer moments, counters and the place in the data.

All that is random in a run is a function of its seed and of counters, so there is no generator to keep. The state
before is kept too: where the newest file is torn, the run goes on from there and takes the lost steps again.
"""

from __future__ import annotations

import io
import math
import os
import warnings
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from tslens.errors import RunError
from tslens.files import atomic_write
from tslens.model.transformer import TinyTransformer
from tslens.run_folder import RunFolder
from tslens.train.optimizer import Optimizers


@dataclass
class Counters:
    """Where a run stands.

    ``batch``: batches used of the current ``epoch``. ``seconds``: trained so far. ``best_nats``: the lowest loss
    on the first validation stories so far. ``loss_sum``, ``loss_steps``: training losses since the last row of metrics.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    n_tokens: int = 0
    seconds: float = 0.0
    best_nats: float = math.inf
    loss_sum: float = 0.0
    loss_steps: int = 0


def save_state(run: RunFolder, model: TinyTransformer, optimizers: Optimizers, counters: Counters) -> None:
    """Write the state, whole or not at all; the one that was the newest becomes the one before."""
    buffer = io.BytesIO()
    state = {
        "model": dict(model.named_parameters()),
        "optimizer": optimizers.state_dict(),
        "counters": asdict(counters),
    }
    torch.save(state, buffer)
    with atomic_write(run.state, "wb") as file:
        file.write(buffer.getbuffer())
        file.flush()
        os.fsync(file.fileno())
        if run.state.exists():
            run.state.replace(run.state_before)


def load_state(run: RunFolder, model: TinyTransformer, optimizers: Optimizers) -> Counters:
    """Put the newest whole state into model and optimizer.

    A torn file is passed over with a warning. Raises RunError if no state is whole, or if it is of another model.
    """
    torn: dict[Path, str] = {}
    for path in (run.state, run.state_before):
        if not path.is_file():  # killed between the two renames of a save
            continue
        try:
            state = _read(path, model.cfg.device)
        except Exception as error:  # zipfile and torch raise many kinds on a torn or foreign file
            torn[path] = f"{path.name}: {error}"
            continue
        try:
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    parameter.copy_(state["model"][name])
            optimizers.load_state_dict(state["optimizer"])
            counters = Counters(**state["counters"])
        except Exception as error:
            raise RunError(
                f"{path} holds no state of this run ({error}).", "Train anew, into another --out."
            ) from error
        if torn:
            warnings.warn(
                f"{run.state} is torn ({torn[run.state]}); the run goes on from the state before, "
                f"after step {counters.step}.",
                stacklevel=2,
            )
        for broken in torn:  # so that the next save does not put it in the place of the whole one
            broken.unlink(missing_ok=True)
        return counters
    raise RunError(
        f"{run.path} holds no whole state ({'; '.join(torn.values()) or 'none is there'}).",
        "Train anew, into another --out.",
    )


def has_state(run: RunFolder) -> bool:
    """Whether there is a state to resume from."""
    return run.state.exists() or run.state_before.exists()


def _read(path: Path, device: object) -> dict:
    """The state in a file, each of its parts held against its checksum. Raises one of many errors if torn."""
    with zipfile.ZipFile(path) as whole:
        if any(part.compress_type != zipfile.ZIP_STORED for part in whole.infolist()):
            raise ValueError("it is packed, so that it could unfold to any size")
        broken = whole.testzip()
    if broken is not None:
        raise ValueError(f"{broken} does not have its checksum")
    state: dict = torch.load(path, weights_only=True, map_location=str(device))
    return state
