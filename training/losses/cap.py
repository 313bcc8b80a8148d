"""L_cap: images against their captions."""

from __future__ import annotations

from torch import Tensor

from training.losses.bank import Bank, info_nce
from training.losses.numeric import Count


def cap_loss(
    image: Tensor,
    caption: Tensor,
    image_bank: Bank,
    caption_bank: Bank,
    *,
    position: Tensor,
    mask: Tensor,
    temperature: float | Tensor,
    count: Count = None,
) -> Tensor:
    """Mean of image-to-caption and caption-to-image `info_nce`.

    A caption describes the pixels that are shown, so every row with a caption has a positive, manipulated or
    not. A row without one is no query, and its caption key is not valid in the bank.

    Source: seed note, L_LMA = L_cap + L_exp. Keys are not differentiated.

    Args:
        image: (B, E) unit length, online.
        caption: (B, E) unit length, online; any value where ``mask`` is False.
        image_bank: N keys, momentum features of images.
        caption_bank: N' keys, momentum features of captions.
        position: (B,) int64, index of each row in both banks.
        mask: (B,) bool, the row has a caption.
        temperature: Positive; float or tensor of one element.
        count: Rows with a caption to divide by; the local ones when None.

    Returns:
        0-d tensor.
    """
    to_caption = info_nce(
        image, caption_bank, position=position, temperature=temperature, row_mask=mask, count=count
    )
    to_image = info_nce(
        caption, image_bank, position=position, temperature=temperature, row_mask=mask, count=count
    )
    return (to_caption + to_image) / 2
