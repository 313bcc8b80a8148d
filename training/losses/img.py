"""Box grounding losses (IMG): L1 and GIoU."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_convert, generalized_box_iou_loss

from training.losses.numeric import Count, full, keep, mean_of


def img_l1_loss(
    pred: Tensor, target: Tensor, *, row_mask: Tensor | None = None, count: Count = None
) -> Tensor:
    """Sum of the absolute differences of the four coordinates, summed over rows / count.

    Source: HAMMER, L_IMG (first part). The target is not differentiated.

    Args:
        pred: (B, 4) cxcywh over the image, 0 to 1.
        target: (B, 4) cxcywh; zeros for "no box".
        row_mask: (B,) bool, rows that take part (those with a box; also the others if a zero box is to be
            learned); all when None.
        count: Rows to divide by; the local rows that take part when None.

    Returns:
        0-d tensor.
    """
    pred = full(keep(pred, row_mask))
    loss = (pred - keep(target.detach(), row_mask).to(pred.dtype)).abs().sum(1)
    return mean_of(loss, row_mask, count)


def img_giou_loss(
    pred: Tensor, target: Tensor, *, row_mask: Tensor | None = None, count: Count = None
) -> Tensor:
    """``1 - GIoU`` of predicted and true box, summed over rows / count.

    A row whose target has no area adds 0 but stays in the count: GIoU says nothing about such a box, and the
    L1 loss pulls the prediction to it. (The released code drops the GIoU of the whole batch then.)

    Source: HAMMER, L_IMG (second part); GIoU of Rezatofighi et al. 2019. The target is not differentiated.

    Args:
        pred: (B, 4) cxcywh over the image, 0 to 1.
        target: (B, 4) cxcywh; zeros for "no box".
        row_mask: (B,) bool, rows that take part; all when None.
        count: Rows to divide by; the local rows that take part when None.

    Returns:
        0-d tensor.
    """
    rows = pred.new_ones(len(pred), dtype=torch.bool) if row_mask is None else row_mask
    has_area = rows & (target[:, 2:] > 0).all(1)
    pred = full(keep(pred, has_area))
    # The whole image stands in for targets left out, whose value does not matter as long as it is finite.
    whole = pred.new_tensor([0.5, 0.5, 1.0, 1.0])
    true = torch.where(has_area[:, None], target.detach().to(pred.dtype), whole)
    loss = generalized_box_iou_loss(box_convert(pred, "cxcywh", "xyxy"), box_convert(true, "cxcywh", "xyxy"))
    return mean_of(keep(loss, has_area), rows, count)
