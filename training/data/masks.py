"""Boxes on the grid of patches that the model sees."""

from __future__ import annotations

import torch
from torch import Tensor

_TOUCH = 1e-5  # of a patch; a box that ends on a patch's edge must not reach over it by rounding


def patch_mask(box: Tensor, has_box: Tensor, grid: tuple[int, int]) -> Tensor:
    """Mark the patches that overlap a box; touching at an edge is no overlap.

    Args:
        box: (B, 4) float cxcywh over the image, 0 to 1.
        has_box: (B,) bool; rows without one get no mark.
        grid: Rows and columns of patches.

    Returns:
        (B, P) bool, row-major over the grid.
    """
    rows, columns = grid
    cx, cy, w, h = box.double().unbind(-1)
    down = _overlap(cy - h / 2, cy + h / 2, rows)
    along = _overlap(cx - w / 2, cx + w / 2, columns)
    both = down[:, :, None] & along[:, None, :] & has_box[:, None, None]
    return both.flatten(1)


def _overlap(low: Tensor, high: Tensor, cells: int) -> Tensor:
    """Return (B, cells) bool: the open interval from low to high meets the open cell."""
    start = torch.arange(cells, device=low.device, dtype=low.dtype)
    return (low[:, None] * cells < start + 1 - _TOUCH) & (high[:, None] * cells > start + _TOUCH)
