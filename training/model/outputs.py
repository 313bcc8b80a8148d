"""What the model returns, every intermediate by name."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Features:
    """What the towers return; E is the towers' joint width, Dv and Dt their own widths.

    Attributes:
        image: (B, E) unit length, whole image.
        patches: (B, P, Dv), before fusion.
        text: (B, E) unit length.
        tokens: (B, T, Dt), before fusion.
        token_mask: (B, T) bool, token is not padding.
        caption: (B, E) unit length, or None when captions were not encoded.
        explanation: (B, E) unit length, or None.
        explanation_tokens: (B, T', Dt), or None.
        explanation_token_mask: (B, T') bool, or None.
    """

    image: Tensor
    patches: Tensor
    text: Tensor
    tokens: Tensor
    token_mask: Tensor
    caption: Tensor | None = None
    explanation: Tensor | None = None
    explanation_tokens: Tensor | None = None
    explanation_token_mask: Tensor | None = None

    @property
    def agreement(self) -> Tensor:
        """(B, E), product of image and text dimension by dimension, times E: about 1 where they agree."""
        return self.image * self.text * self.image.shape[-1]


@dataclass(frozen=True)
class Fused:
    """What the fusion returns; D is its width, h its heads.

    Attributes:
        image: (B, D), whole image after fusion.
        patches: (B, P, D).
        tokens: (B, T, D).
        text: (B, D), whole text after fusion.
        text_to_image: (B, h, T, 1 + P), scores of the last layer before softmax: queries tokens, keys the
            collecting vector of the image, then the patches.
        image_to_text: (B, h, P, 1 + T), the other direction; -inf on padded tokens.
    """

    image: Tensor
    patches: Tensor
    tokens: Tensor
    text: Tensor
    text_to_image: Tensor | None = None
    image_to_text: Tensor | None = None


@dataclass(frozen=True)
class ModelOutput:
    """Everything the losses and the evaluation read.

    Attributes:
        features: The towers' features.
        fused: The fused features and attention scores.
        binary: (B, 2) logits, real and fake.
        types: (B, 4) logits: face_swap, face_attribute, text_swap, text_attribute.
        box: (B, 4) cxcywh over the image, 0 to 1.
        words: (B, T, 2) logits per token, kept and manipulated.
        patch_logits: (B, P) logits, patch is manipulated.
        patch_embedding: (B, P, d) unit length, compared by L_PMM.
        explanation_binary: (B, 2) logits of the real/fake head on image + explanation, or None.
        unguided_words: (B, T, 2) logits that guided attention predicts its word mask from, or None.
    """

    features: Features
    fused: Fused
    binary: Tensor
    types: Tensor
    box: Tensor
    words: Tensor
    patch_logits: Tensor
    patch_embedding: Tensor
    explanation_binary: Tensor | None = None
    unguided_words: Tensor | None = None
