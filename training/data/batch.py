"""What the loader hands to the model: one batch of rows as tensors."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor

IGNORED = -100
"""Label of a token that takes no part in text grounding."""

NO_WORD = -1
"""Word index of a token that belongs to no word (begin, end, padding)."""


@dataclass(frozen=True)
class Batch:
    """B rows. Texts are padded with 0 to the longest of the batch, T for the news texts, T' for the others.

    Attributes:
        index: (B,) int64, position of each row in the joined rows of its split.
        image: (B, 3, H, W) float32, normalised with CLIP's mean and deviation.
        text: (B, T) int64 token ids: begin, the tokens of each word, end, padding.
        text_word: (B, T) int64, index into the sample's ``words`` per token, `NO_WORD` elsewhere.
        caption: (B, T') int64 token ids, all 0 where there is none.
        caption_mask: (B,) bool, the row has a caption.
        explanation: (B, T') int64 token ids, all 0 where there is none.
        explanation_mask: (B,) bool, the row has an explanation.
        labelled: (B,) bool, the row's annotations may be used.
        is_fake: (B,) bool.
        types: (B, 4) float32, 1 for face_swap, face_attribute, text_swap, text_attribute.
        box: (B, 4) float32, cxcywh over the (possibly flipped) image, 0 to 1; zeros without a box.
        has_box: (B,) bool.
        word_labels: (B, T) int64, 1 on tokens of manipulated words, 0 of other words, `IGNORED` elsewhere.
        image_id: (B,) int64, hash of the image's content: equal images have equal ids.
        text_id: (B,) int64, hash of the text.
        caption_id: (B,) int64, hash of the caption's token ids, -1 where there is none.
        explanation_id: (B,) int64, hash of the explanation's token ids, -1 where there is none.
        size: (B, 2) float32, width and height of the original image in pixels.
        words: (B,) int64, words of the text before any is dropped.
    """

    index: Tensor
    image: Tensor
    text: Tensor
    text_word: Tensor
    caption: Tensor
    caption_mask: Tensor
    explanation: Tensor
    explanation_mask: Tensor
    labelled: Tensor
    is_fake: Tensor
    types: Tensor
    box: Tensor
    has_box: Tensor
    word_labels: Tensor
    image_id: Tensor
    text_id: Tensor
    caption_id: Tensor
    explanation_id: Tensor
    size: Tensor
    words: Tensor

    def __len__(self) -> int:
        return len(self.index)

    def to(self, device: torch.device | str) -> Self:
        """Return the batch with every tensor on ``device``."""
        return replace(
            self,
            **{f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)},
        )

    def pin_memory(self) -> Self:
        """Return the batch in pinned memory (called by the DataLoader)."""
        return replace(self, **{f.name: getattr(self, f.name).pin_memory() for f in fields(self)})
