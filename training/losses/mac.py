"""Manipulation-aware contrastive loss (MAC)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from training.losses.bank import Bank, info_nce, soft_targets
from training.losses.numeric import Count


def mac_loss(
    image: Tensor,
    text: Tensor,
    image_bank: Bank,
    text_bank: Bank,
    *,
    position: Tensor,
    real: Tensor,
    temperature: float | Tensor,
    alpha: float,
    row_mask: Tensor | None = None,
    count: Count = None,
) -> Tensor:
    """Mean of image-to-text, text-to-image, image-to-image and text-to-text `info_nce`.

    Between image and text only ``orig`` rows have a hard positive: a manipulated image and its text are not
    pulled together. A direction's soft targets are the similarities of the row's own momentum feature of the
    query's modality to the same keys; rows without a hard positive learn from ``alpha`` times these alone.
    Within a modality every row's positive is its own momentum feature, and there are no soft targets.

    Source: HAMMER, L_MAC. Keys and soft targets are not differentiated.

    Args:
        image: (B, E) unit length, online.
        text: (B, E) unit length, online.
        image_bank: N keys, momentum features of images.
        text_bank: N' keys, momentum features of texts.
        position: (B,) int64, index of each row in both banks.
        real: (B,) bool, the row is ``orig``.
        temperature: Positive; float or tensor of one element.
        alpha: Share of the soft targets, 0 to 1.
        row_mask: (B,) bool, rows that take part; all when None.
        count: Rows to divide by; the local rows that take part when None.

    Returns:
        0-d tensor.
    """
    shared: dict[str, Any] = {
        "position": position,
        "temperature": temperature,
        "row_mask": row_mask,
        "count": count,
    }
    losses = []
    for query, own, keys in ((image, image_bank, text_bank), (text, text_bank, image_bank)):
        soft = None
        if alpha > 0:
            soft = soft_targets(own.features[position], keys, position=position, temperature=temperature)
        losses.append(info_nce(query, keys, hard=real, soft=soft, alpha=alpha, **shared))
    losses += [info_nce(image, image_bank, **shared), info_nce(text, text_bank, **shared)]
    return torch.stack(losses).mean()
