"""More than one process: each takes a share of the rows of every batch, and all take the same step.

``torchrun --nproc-per-node 2 -m tslens train ...`` starts them; their gradients are averaged by
DistributedDataParallel, over gloo on CPUs and NCCL on GPUs. The process of rank 0 writes the run folder and decides
for all when the run ends; the others follow what it says before every step.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
import torch.distributed.nn  # now: imported by DistributedDataParallel, its defaults would hold the group
from torch import nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class World:
    """The processes of a run. ``rank``: of this one; ``size``: how many there are."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes the run folder."""
        return self.rank == 0

    def share(self, rows: np.ndarray) -> np.ndarray:
        """The rows of a batch that this process takes; may be none."""
        return rows[self.rank :: self.size]

    def agreed(self, *values: float) -> tuple[float, ...]:
        """What rank 0 says, in every process."""
        if self.size == 1:
            return values
        told = torch.tensor(values, dtype=torch.float64, device=_device_of_backend())
        dist.broadcast(told, src=0)
        return tuple(told.tolist())

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            dist.barrier()

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """The mean of a number over all processes, in every process."""
        if self.size == 1:
            return value
        total = value.detach().clone()
        dist.all_reduce(total)
        return total / self.size

    def together(self, module: nn.Module) -> nn.Module:
        """The module, with gradients averaged over the processes in the backward pass."""
        return DistributedDataParallel(module, forward_sync_buffers=False) if self.size > 1 else module


def own_device(device: str) -> str:
    """The GPU of this process on its machine, where torchrun started several; else the device as it is."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if device == "cuda" and "LOCAL_RANK" in os.environ else device


@contextmanager
def joined(device: str) -> Iterator[World]:
    """Join the processes that torchrun started; a world of one where it started none."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield World(dist.get_rank(), size)
        dist.barrier()  # nobody leaves while another still reads from it
    finally:
        gc.collect()  # of DistributedDataParallel, which holds the group: threads of gloo that outlive Python abort
        dist.destroy_process_group()


def _device_of_backend() -> str:
    return f"cuda:{torch.cuda.current_device()}" if dist.get_backend() == "nccl" else "cpu"
