"""The state that a run resumes from: weights, optimizer moments, counters and the place in the data.

All that is random in a run is a function of its seed and of counters, so there is no generator to keep. The state
before is kept too: where the newest file is torn, the run goes on from there and takes the lost steps again.

A state may be of somebody else's run. All of it is held against this one (shapes, kinds of number, ranges) before any
of it is taken over; rates and betas are never taken from it.
"""

from __future__ import annotations

import io
import math
import os
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tslens.config import TrainConfig
from tslens.errors import RunError
from tslens.files import atomic_write
from tslens.model.transformer import TinyTransformer
from tslens.reading import checked
from tslens.run_folder import RunFolder
from tslens.train.optimizer import Optimizers

PICKLE_BYTES = 1 << 20  # of the names and shapes in a state: forty times those of our largest model
_MOMENTS = {"AdamW": {"step", "exp_avg", "exp_avg_sq"}, "Muon": {"momentum"}}  # of each weight, by optimizer


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


def load_state(
    run: RunFolder, model: TinyTransformer, optimizers: Optimizers, config: TrainConfig
) -> Counters:
    """Put the newest whole state into model and optimizer. ``config``: of the run.

    A torn file is passed over with a warning. Raises RunError if no state is whole, or if it is none that this run can
    have had: then model and optimizer are as they were.
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
            counters = _counters(state["counters"], config, model.cfg.n_ctx)
            weights = dict(model.named_parameters())
            if set(state["model"]) != set(weights):
                raise ValueError("its weights have other names")
            for name, parameter in weights.items():
                _check_like(state["model"][name], parameter, name)
            moments = {
                type(one).__name__: _moments(state["optimizer"], one, counters.step) for one in optimizers.all
            }
            optimizers.load_moments(moments)
            with torch.no_grad():
                for name, parameter in weights.items():
                    parameter.copy_(state["model"][name])
        except Exception as error:  # what stands in a foreign file may be anything
            what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            before = run.state_before.exists() and path == run.state
            raise RunError(
                f"{path} holds no state of this run: {what}.",
                "Remove it, and --resume takes the state before it; or train anew, into another --out."
                if before
                else "Restore it, or train anew, into another --out.",
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
        parts = whole.infolist()
        if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
            raise ValueError("it is packed, so that it could unfold to any size")
        if sum(part.file_size for part in parts) > path.stat().st_size:
            raise ValueError("its parts are longer than the file")
        if any(part.filename.endswith(".pkl") and part.file_size > PICKLE_BYTES for part in parts):
            raise ValueError(f"its names and shapes are longer than {PICKLE_BYTES:,} bytes")
        broken = whole.testzip()
    if broken is not None:
        raise ValueError(f"{broken} does not have its checksum")
    state: dict = torch.load(path, weights_only=True, map_location=str(device))
    return state


# Whether a state can be one of a run ----------------------------------------------------------------------------


def _counters(found: Mapping[str, Any], config: TrainConfig, n_ctx: int) -> Counters:
    """Counters that a run with these settings can have. Raises ValueError or TypeError for others."""
    if set(found) != {field.name for field in fields(Counters)}:
        raise ValueError("its counters have other names")
    best = found["best_nats"]
    checked(
        Counters(**{**found, "best_nats": 0.0 if best == math.inf else best})
    )  # none was measured: infinity
    counters = Counters(**found)
    most = math.ceil(config.amount) if config.budget == "steps" else 2**63 - 1
    limits = {
        "step": most,
        "epoch": counters.step,
        "batch": counters.step,
        "n_tokens": counters.step * max(config.batch_tokens, n_ctx),
        "loss_steps": counters.step,
        **dict.fromkeys(("seconds", "best_nats", "loss_sum"), math.inf),
    }
    for name, limit in limits.items():
        if not 0 <= found[name] <= limit:
            raise ValueError(f"{name} is {str(found[name])[:40]}, not 0 to {limit}")
    return counters


def _check_like(found: Any, wanted: Tensor, name: str) -> None:
    """Raise ValueError for what is no dense tensor of finite numbers like the one that is wanted."""
    if not isinstance(found, Tensor) or found.layout != torch.strided:
        raise ValueError(f"{name} is no tensor of numbers")
    if found.shape != wanted.shape or found.dtype != wanted.dtype or found.device.type != wanted.device.type:
        shown = (f"{one.dtype} of shape {tuple(one.shape)}".removeprefix("torch.") for one in (found, wanted))
        raise ValueError(f"{name} is {' and not '.join(shown)}")
    if not bool(found.isfinite().all()):
        raise ValueError(f"{name} has numbers that are not finite")


def _moments(found: Mapping[str, Any], optimizer: torch.optim.Optimizer, step: int) -> dict[int, Any]:
    """Copies of the moments of each weight after a step, by its number. Raises ValueError for others."""
    kind = type(optimizer).__name__
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments = found[kind]["state"]
    if set(moments) != (set(range(len(parameters))) if step else set()):
        raise ValueError(f"the moments of {kind} are not those of each weight")
    for number, parameter in enumerate(parameters):
        if step and set(moments[number]) != _MOMENTS[kind]:
            raise ValueError(f"the moments of {kind} have other names")
        for name, moment in moments[number].items() if step else ():
            if name != "step":
                _check_like(moment, parameter, f"{name} of weight {number}")
            elif not (isinstance(moment, Tensor) and moment.shape == () and 0 < float(moment) <= step):
                raise ValueError(f"the moments of weight {number} are of another step")
            if name == "exp_avg_sq" and bool((moment < 0).any()):
                raise ValueError(f"{name} of weight {number} has numbers below zero")
    return {number: {name: one.clone() for name, one in row.items()} for number, row in moments.items()}
