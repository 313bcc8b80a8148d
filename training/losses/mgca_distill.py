"""L_MGCA, distill: guided attention as a target without gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from training.losses.numeric import Count, full, keep, mean_of, mean_per_row


def mgca_distill_loss(
    scores: Tensor,
    guidance: Tensor,
    *,
    query_mask: Tensor,
    key_mask: Tensor,
    row_mask: Tensor | None = None,
    beta: float,
    count: Count = None,
) -> Tensor:
    """Pull attention towards the same attention with ``beta`` added to the scores of guided keys.

    With a = softmax(scores) and g = softmax(scores + beta M_g) over valid keys, a row's loss is the mean over
    heads and valid queries of ``KL(g || a) = sum_k g_k (log g_k - log a_k)``, summed over rows / count. A row
    without guidance, or with guidance on all valid keys, has g = a and a loss of 0.

    Source: seed note, ``softmax(QK^T / sqrt(d) + beta M_g)``, used as a target: in the forward pass it would
    show the label to the model. g is not differentiated, so the gradient at the scores is a - g.

    Args:
        scores: (B, h, Q, K) before softmax, divided by sqrt(d); -inf is allowed where ``key_mask`` is False.
        guidance: (B, K) bool, M_g: the key is manipulated.
        query_mask: (B, Q) bool, the query is not padding.
        key_mask: (B, K) bool, the key is not padding.
        row_mask: (B,) bool, rows that take part; all when None.
        beta: Strength of the guidance.
        count: Rows to divide by; the local rows that take part when None.

    Returns:
        0-d tensor.
    """
    queries = query_mask if row_mask is None else query_mask & row_mask[:, None]
    cells = (queries[:, :, None] & key_mask[:, None, :])[:, None].expand_as(scores)
    flat = full(keep(scores, cells))
    # A row without a valid key must not give an empty softmax; it has no valid cell and adds 0.
    shut = (~key_mask & key_mask.any(1, keepdim=True))[:, None, None, :]
    log_a = flat.masked_fill(shut, -torch.inf).log_softmax(3).masked_fill(shut, 0)
    with torch.no_grad():
        guided = flat + beta * guidance[:, None, None, :]
        log_g = guided.masked_fill(shut, -torch.inf).log_softmax(3)
        g, log_g = log_g.exp(), log_g.masked_fill(shut, 0)
    divergence = (g * (log_g - log_a)).sum(3)
    valid = (queries & key_mask.any(1, keepdim=True))[:, None].expand_as(divergence)
    return mean_of(mean_per_row(divergence, valid), row_mask, count)
