"""Binary classification loss (BIC)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from training.losses.numeric import Count, full, keep, mean_of


def bic_loss(
    logits: Tensor, is_fake: Tensor, *, row_mask: Tensor | None = None, count: Count = None
) -> Tensor:
    """Cross-entropy of real against fake: ``-log softmax(logits)[is_fake]``, summed over rows / count.

    Source: HAMMER, L_BIC.

    Args:
        logits: (B, 2), real and fake.
        is_fake: (B,) bool.
        row_mask: (B,) bool, rows that take part; all when None.
        count: Rows to divide by; the local rows that take part when None.

    Returns:
        0-d tensor.
    """
    loss = F.cross_entropy(full(keep(logits, row_mask)), is_fake.long(), reduction="none")
    return mean_of(loss, row_mask, count)
