"""A Ray cluster: connected or started, and shared out among the cells of a grid.

Ray is imported here only. A cluster that is started here has no dashboard, sends no statistics, listens on the loopback
address and ends with the grid.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tslens.errors import RunError, UsageError

CONNECT_SECONDS = 10.0
OBJECT_STORE_BYTES = 80 * 2**20  # all that passes through it are settings and records
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # its name aside: listen on the loopback address only
}


@dataclass(frozen=True)
class Share:
    """What each cell gets. ``workers``: cells at once. ``cpus``, ``gpus``: of each; one CPU or less is one thread."""

    workers: int
    cpus: float
    gpus: float


def share_of_cluster(
    resources: dict[str, float],
    *,
    largest_node: float,
    workers: int | None,
    gpu_fraction: float | None,
    device: str,
) -> Share:
    """How many cells run at once, and what each gets of the ``resources`` (``CPU``, ``GPU``) of a cluster.

    ``largest_node``: CPUs of its largest machine, which a cell must fit into. Raises UsageError for a GPU where there
    is none.
    """
    n_cpus, n_gpus = resources.get("CPU", 1.0), resources.get("GPU", 0.0)
    wants_gpu = device.startswith("cuda") or (device == "auto" and (n_gpus > 0 or gpu_fraction is not None))
    if wants_gpu and not n_gpus:
        raise UsageError(
            "The Ray cluster has no GPU.", "Leave out --gpu-fraction, and --device or give it cpu."
        )
    if not wants_gpu:
        n = workers or max(1, int(n_cpus))
        return Share(n, _cpus(n_cpus, n, largest_node), 0.0)
    gpus = gpu_fraction or 1.0
    room = max(1, int(n_gpus) * int(1 / gpus + 1e-6))
    n = min(workers or room, room)
    return Share(n, _cpus(n_cpus, n, largest_node), gpus)


def _cpus(n_cpus: float, workers: int, largest_node: float) -> float:
    share = min(n_cpus / workers, largest_node)
    return float(int(share)) if share >= 1 else int(share * 1000) / 1000  # rounded down, so that all fit


@contextmanager
def cluster(address: str | None) -> Iterator[Any]:
    """Ray, connected: to a cluster at an address, or to one of this machine that ends with the block.

    Raises UsageError where Ray is not installed, RunError where no cluster answers.
    """
    with _environment(_SETTINGS if address is None else {}):
        ray = _import_ray()
        try:
            _connect(ray, address)
            yield ray
        finally:
            ray.shutdown()


def _connect(ray: Any, address: str | None) -> None:
    where: dict[str, Any] = {"address": address}
    if address is None:
        where = {"address": "local", "num_cpus": _n_cores(), "include_dashboard": False}
        where["object_store_memory"] = OBJECT_STORE_BYTES
    try:
        _check_answers(address)
        ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ray.exceptions.RpcError) as error:
        raise RunError(
            f"No Ray cluster answers {f'at {address}' if address else 'here'}: {' '.join(str(error).split())[:200]}.",
            "Start one with: ray start --head; or leave out --address.",
        ) from error
    ray._private.worker._worker_logs_enabled = False  # else a lost worker is told on standard output


def _check_answers(address: str | None) -> None:
    """Raise OSError at once where nothing listens at ``HOST:PORT``: Ray itself would try for minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()


@contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    """The environment with these settings, for the processes that start in the block."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise UsageError(
            "Ray is not installed.", "Install it with: pip install 'tinystories-lens[ray]'"
        ) from error
    return ray


def _n_cores() -> int:
    """Cores that this process may use, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
