"""Multi-label classification loss of the manipulation types (MLC)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from training.losses.numeric import Count, full, keep, mean_of


def mlc_loss(logits: Tensor, types: Tensor, *, row_mask: Tensor | None = None, count: Count = None) -> Tensor:
    """Binary cross-entropy, mean over the four types, summed over rows / count.

    Source: HAMMER, L_MLC.

    Args:
        logits: (B, 4): face_swap, face_attribute, text_swap, text_attribute.
        types: (B, 4), 1 for the types of the row; all 0 for ``orig``.
        row_mask: (B,) bool, rows that take part; all when None.
        count: Rows to divide by; the local rows that take part when None.

    Returns:
        0-d tensor.
    """
    logits = full(keep(logits, row_mask))
    loss = F.binary_cross_entropy_with_logits(logits, types.to(logits.dtype), reduction="none").mean(1)
    return mean_of(loss, row_mask, count)
