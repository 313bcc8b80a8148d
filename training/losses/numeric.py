"""What every loss shares: precision, masking that NaN cannot pass, and the division by a count."""

from __future__ import annotations

import torch
from torch import Tensor

Count = float | Tensor | None
"""What a sum over local rows is divided by; None stands for the number of local rows that take part."""


def full(x: Tensor) -> Tensor:
    """Return ``x`` in float32, or as it is when it is wider."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def similarity(a: Tensor, b: Tensor) -> Tensor:
    """Return the inner products of ``a`` (..., n, E) and ``b`` (..., m, E): (..., n, m), at least float32.

    Autocast is off in here: divided by a temperature of 0.07, bfloat16 would be wrong by 0.05 and more.
    """
    with torch.autocast(device_type=a.device.type, enabled=False):
        return full(a) @ full(b).transpose(-1, -2)


def keep(x: Tensor, mask: Tensor | None) -> Tensor:
    """Return ``x`` with zeros where ``mask`` (the leading dimensions of ``x``) is False.

    Masking the input and not only the result matters: a gradient of 0 times an infinite derivative is NaN.
    """
    if mask is None:
        return x
    return torch.where(mask.reshape(*mask.shape, *[1] * (x.dim() - mask.dim())), x, 0.0)


def over_count(total: Tensor, count: float | Tensor) -> Tensor:
    """Return ``total / count``, and an exact 0 that is still part of the graph where the count is 0."""
    if not isinstance(count, Tensor):
        return total / count if count > 0 else total * 0
    some = count > 0
    return torch.where(some, total / torch.where(some, count, 1), total * 0)


def mean_of(values: Tensor, mask: Tensor | None, count: Count) -> Tensor:
    """Return the sum of ``values`` where ``mask`` holds over ``count``; None: over how many those are."""
    if count is None:
        count = values.numel() if mask is None else mask.sum()
    return over_count(keep(values, mask).sum(), count)


def mean_per_row(values: Tensor, cells: Tensor) -> Tensor:
    """Return the mean over the True cells of each row, (B,); 0 for a row without any.

    Args:
        values: (B, ...), finite.
        cells: bool of the same shape.
    """
    return keep(values, cells).flatten(1).sum(1) / cells.flatten(1).sum(1).clamp(min=1)
