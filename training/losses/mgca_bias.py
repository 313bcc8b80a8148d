"""L_MGCA, bias: the loss of the mask that guides attention at inference."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from training.losses.numeric import Count, full, keep, mean_of, mean_per_row


def mgca_bias_loss(
    mask_logits: Tensor,
    guidance: Tensor,
    *,
    key_mask: Tensor,
    row_mask: Tensor | None = None,
    count: Count = None,
) -> Tensor:
    """Binary cross-entropy of the predicted guidance mask, mean over a row's valid keys.

    Summed over rows / count. In this mode the true mask is added to the scores in training and the predicted
    one at inference, so the prediction itself must be learned.

    Source: seed note, M_g. The guidance is not differentiated.

    Args:
        mask_logits: (B, K), the key is manipulated.
        guidance: (B, K) bool, M_g.
        key_mask: (B, K) bool, the key is not padding.
        row_mask: (B,) bool, rows that take part; all when None.
        count: Rows to divide by; the local rows that take part when None.

    Returns:
        0-d tensor.
    """
    cells = key_mask if row_mask is None else key_mask & row_mask[:, None]
    logits = full(keep(mask_logits, cells))
    loss = F.binary_cross_entropy_with_logits(logits, guidance.to(logits.dtype), reduction="none")
    return mean_of(mean_per_row(loss, cells), row_mask, count)
