"""L_MGCA, supervise: the attention map as a prediction of the manipulated cells."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from training.losses.numeric import Count, full, keep, mean_of, mean_per_row


def mgca_supervise_loss(
    scores: Tensor,
    query_guidance: Tensor,
    key_guidance: Tensor,
    *,
    query_mask: Tensor,
    key_mask: Tensor,
    row_mask: Tensor | None = None,
    count: Count = None,
) -> Tensor:
    """Binary cross-entropy of the head-averaged scores against "the query or the key is manipulated".

    A row's loss is the mean over its valid (query, key) cells, summed over rows / count.

    Source: released ASAP, whose target writes the word positions of every sample into all samples, one token
    off, and includes padding; here each row has its own positions and padding takes no part.

    Args:
        scores: (B, h, Q, K) before softmax; -inf is allowed where ``key_mask`` is False.
        query_guidance: (B, Q) bool, the query is manipulated.
        key_guidance: (B, K) bool, the key is manipulated.
        query_mask: (B, Q) bool, the query is not padding.
        key_mask: (B, K) bool, the key is not padding.
        row_mask: (B,) bool, rows that take part; all when None.
        count: Rows to divide by; the local rows that take part when None.

    Returns:
        0-d tensor.
    """
    cells = query_mask[:, :, None] & key_mask[:, None, :]
    if row_mask is not None:
        cells = cells & row_mask[:, None, None]
    logits = full(keep(scores, cells[:, None].expand_as(scores))).mean(1)
    target = (query_guidance[:, :, None] | key_guidance[:, None, :]).to(logits.dtype)
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return mean_of(mean_per_row(loss, cells), row_mask, count)
