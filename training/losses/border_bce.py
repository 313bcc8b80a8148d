"""Patch loss with the border of the region as negatives."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from training.losses.numeric import Count, full, keep, mean_of


def border_labels(region: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return (B, P) int8: 1 in the region, 0 on its 4-neighbours outside it, -1 elsewhere (ignored).

    Args:
        region: (B, P) bool, row by row over the grid.
        grid: Rows and columns of patches, their product is P.
    """
    inside = region.unflatten(1, grid)
    padded = F.pad(inside, (1, 1, 1, 1))
    near = padded[:, :-2, 1:-1] | padded[:, 2:, 1:-1] | padded[:, 1:-1, :-2] | padded[:, 1:-1, 2:]
    labels = torch.full(inside.shape, -1, dtype=torch.int8, device=region.device)
    return labels.masked_fill(near, 0).masked_fill(inside, 1).flatten(1)


def border_bce_loss(
    patch_logits: Tensor,
    region: Tensor,
    grid: tuple[int, int],
    *,
    row_mask: Tensor | None = None,
    count: Count = None,
) -> Tensor:
    """Binary cross-entropy of the patch logits, mean over the labelled patches (`border_labels`).

    Source: released ASAP, which averages over ignored patches too and so scales the gradient by the labelled
    share. A row without a region has no labelled patch.

    Args:
        patch_logits: (B, P), the patch is manipulated.
        region: (B, P) bool, row by row over the grid.
        grid: Rows and columns of patches.
        row_mask: (B,) bool, rows that take part; all when None.
        count: Labelled *patches* to divide by; those of the local rows that take part when None.

    Returns:
        0-d tensor.
    """
    labels = border_labels(region, grid)
    active = labels >= 0
    if row_mask is not None:
        active = active & row_mask[:, None]
    logits = full(keep(patch_logits, active))
    loss = F.binary_cross_entropy_with_logits(logits, (labels == 1).to(logits.dtype), reduction="none")
    return mean_of(loss, active, count)
