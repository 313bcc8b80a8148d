"""The few collectives the trainer needs; all of them are the identity in a single process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from training.errors import TrainingError
from training.failures import share

T = TypeVar("T")


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return this process's number, 0 to world size - 1."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def from_first(make: Callable[[], T]) -> T:
    """Return on every process what process 0 makes; an error of it is raised on all of them.

    Args:
        make: Called on process 0 only; what it returns is pickled. No collective inside.

    Raises:
        TrainingError: Process 0 failed; marked as shared.
    """
    if world_size() == 1:
        return make()
    told: list[Any] = [None, None]
    own: Exception | None = None
    if rank() == 0:
        try:
            told[0] = make()
        except Exception as error:
            own, told[1] = error, _told(error)
    dist.broadcast_object_list(told)
    if own is not None:
        raise share(own)
    if told[1] is not None:
        kind, message = told[1]
        raise share(kind(message))
    value: T = told[0]
    return value


def all_succeed(work: Callable[[], T]) -> T:
    """Return what each process makes for itself; where one fails, all of them raise its error.

    Otherwise the others would wait for it in the next collective. Returns when every process has called it.

    Args:
        work: Called on every process. No collective inside.

    Raises:
        TrainingError: A process failed; marked as shared. It names the process unless that is 0.
    """
    if world_size() == 1:
        return work()
    own: Exception | None = None
    found: Any = None
    try:
        found = work()
    except Exception as error:
        own = error
    told: list[Any] = [None] * world_size()
    dist.all_gather_object(told, None if own is None else _told(own))
    failed = next((number for number, each in enumerate(told) if each is not None), None)
    if failed is None:
        value: T = found
        return value
    if own is not None and not isinstance(own, TrainingError | OSError):
        raise own  # a fault of the code: its traceback is wanted
    kind, message = told[failed]
    raise share(kind(f"rank {failed}: {message}" if failed else message)) from own


def everywhere(flag: bool) -> bool:
    """Tell whether a flag is set on every process."""
    if world_size() == 1:
        return flag
    flags: list[Any] = [None] * world_size()
    dist.all_gather_object(flags, flag)
    return all(flags)


def _told(error: Exception) -> tuple[type[TrainingError], str]:
    if isinstance(error, TrainingError):
        return type(error), str(error)
    if isinstance(error, OSError):
        return TrainingError, f"{error.filename or 'a file'}: {error.strerror or error}"
    return TrainingError, f"{type(error).__name__}: {error}"


@torch.no_grad()
def all_vectors(vector: Tensor) -> Tensor:
    """Return (W, n): the same-sized vector (n,) of every process, in rank order."""
    if world_size() == 1:
        return vector[None]
    parts = [torch.empty_like(vector) for _ in range(world_size())]
    dist.all_gather(parts, vector.contiguous())
    return torch.stack(parts)


@torch.no_grad()
def gather_rows(rows: Tensor, sizes: list[int]) -> Tensor:
    """Gather rows of all processes in rank order, without gradient.

    Args:
        rows: (n, ...) of this process; n may differ between processes.
        sizes: n of every process.

    Returns:
        (sum of sizes, ...).
    """
    if world_size() == 1:
        return rows.detach()
    most = max(sizes)
    as_bytes = rows.dtype == torch.bool
    sent = rows.detach().to(torch.uint8) if as_bytes else rows.detach()
    padded = sent.new_zeros((most, *sent.shape[1:]))
    padded[: len(sent)] = sent
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    whole = torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])
    return whole.bool() if as_bytes else whole


@torch.no_grad()
def mean_over_processes(values: Tensor) -> Tensor:
    """Return the mean of a tensor over all processes."""
    if world_size() == 1:
        return values.detach()
    values = values.detach().clone()
    dist.all_reduce(values)
    return values / world_size()
