"""L_exp: texts, or images, against the explanations of their manipulation."""

from __future__ import annotations

from torch import Tensor

from training.losses.bank import Bank, info_nce
from training.losses.numeric import Count


def exp_loss(
    anchor: Tensor,
    explanation: Tensor,
    anchor_bank: Bank,
    explanation_bank: Bank,
    *,
    position: Tensor,
    mask: Tensor,
    temperature: float | Tensor,
    count: Count = None,
) -> Tensor:
    """Mean of anchor-to-explanation and explanation-to-anchor `info_nce`.

    A row without an explanation is no query, and its explanation key is not valid in the bank.

    Source: seed note, L_LMA = L_cap + L_exp, with the text as anchor. Released ASAP anchors explanations at
    the image and has positives on ``orig`` rows only: pass image features and a mask without the other rows.
    Keys are not differentiated.

    Args:
        anchor: (B, E) unit length, online features of the texts (or images).
        explanation: (B, E) unit length, online; any value where ``mask`` is False.
        anchor_bank: N keys, momentum features of what the anchor is.
        explanation_bank: N' keys, momentum features of explanations.
        position: (B,) int64, index of each row in both banks.
        mask: (B,) bool, the row has an explanation that takes part.
        temperature: Positive; float or tensor of one element.
        count: Rows of the mask to divide by; the local ones when None.

    Returns:
        0-d tensor.
    """
    to_explanation = info_nce(
        anchor, explanation_bank, position=position, temperature=temperature, row_mask=mask, count=count
    )
    to_anchor = info_nce(
        explanation, anchor_bank, position=position, temperature=temperature, row_mask=mask, count=count
    )
    return (to_explanation + to_anchor) / 2
