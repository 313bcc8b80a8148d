"""Text grounding loss per token (TMG)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from training.losses.numeric import Count, full, keep, mean_of


def tmg_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    soft: Tensor | None = None,
    alpha: float = 0.0,
    row_mask: Tensor | None = None,
    count: Count = None,
) -> Tensor:
    """Mean over labelled tokens of ``(1 - alpha) CE(label) + alpha CE(softmax(soft))``.

    Every labelled token weighs the same, so a long text weighs more than a short one.

    Source: HAMMER, L_TMG with momentum distillation. ``soft`` is not differentiated.

    Args:
        logits: (B, T, 2), kept and manipulated.
        labels: (B, T) int64, 0 or 1; a negative label (-100) takes no part.
        soft: (B, T, 2) logits of the momentum model, or None: then alpha counts as 0.
        alpha: Share of the soft targets.
        row_mask: (B,) bool, rows that take part; all when None.
        count: Labelled *tokens* to divide by; those of the local rows that take part when None.

    Returns:
        0-d tensor.
    """
    active = labels >= 0
    if row_mask is not None:
        active = active & row_mask[:, None]
    log_p = full(keep(logits, active)).log_softmax(2)
    loss = -log_p.gather(2, labels.clamp(min=0)[:, :, None])[:, :, 0]
    if soft is not None:
        target = F.softmax(full(keep(soft.detach(), active)), dim=2)
        loss = (1 - alpha) * loss - alpha * (target * log_p).sum(2)
    return mean_of(loss, active, count)
