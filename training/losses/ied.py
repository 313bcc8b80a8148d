"""Real/fake loss of the head on image + explanation (IED)."""

from __future__ import annotations

from torch import Tensor

from training.losses.bic import bic_loss
from training.losses.numeric import Count


def ied_loss(logits: Tensor, is_fake: Tensor, *, mask: Tensor, count: Count = None) -> Tensor:
    """Cross-entropy of real against fake from image and explanation, on rows that have an explanation.

    Source: released ASAP, its extra head. It feeds the sample's own text where the explanation is missing;
    here such rows are left out.

    Args:
        logits: (B, 2), real and fake; any value where ``mask`` is False.
        is_fake: (B,) bool.
        mask: (B,) bool, the row has an explanation (and a label).
        count: Rows of the mask to divide by; the local ones when None.

    Returns:
        0-d tensor.
    """
    return bic_loss(logits, is_fake, row_mask=mask, count=count)
