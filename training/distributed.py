"""The few collectives the trainer needs; all of them are the identity in a single process."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return this process's number, 0 to world size - 1."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


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
