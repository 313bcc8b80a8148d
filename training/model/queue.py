"""A queue of momentum features: further negatives from earlier batches."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FeatureQueue(nn.Module):
    """A ring of the newest features, with their content ids.

    Slots that were never filled are not valid: random vectors are never negatives. Any batch size fits, also
    one that does not divide the size; of a batch larger than the queue the newest rows stay.

    Args:
        size: Slots; 0 makes an empty queue.
        width: E, width of a feature.
        contents: K, content ids per feature.
    """

    def __init__(self, size: int, width: int, contents: int = 1) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("features", torch.zeros(size, width))
        shape = (size,) if contents == 1 else (size, contents)
        self.register_buffer("ids", torch.full(shape, -1, dtype=torch.int64))
        self.register_buffer("filled", torch.zeros(1, dtype=torch.int64))
        self.register_buffer("next_slot", torch.zeros(1, dtype=torch.int64))

    features: Tensor
    ids: Tensor
    filled: Tensor
    next_slot: Tensor

    @property
    def valid(self) -> Tensor:
        """(size,) bool, slots that hold a feature."""
        return torch.arange(self.size, device=self.filled.device) < self.filled

    @torch.no_grad()
    def enqueue(self, features: Tensor, ids: Tensor) -> None:
        """Add rows, oldest slots first; called once per optimizer step with the whole effective batch.

        Args:
            features: (N, E) unit length.
            ids: (N,) int64 content ids; (N, K) for several contents.
        """
        if self.size == 0 or not len(features):
            return
        features, ids = features[-self.size :], ids[-self.size :]
        slots = (self.next_slot + torch.arange(len(features), device=features.device)) % self.size
        self.features[slots] = features.to(self.features.dtype)
        self.ids[slots] = ids
        self.next_slot.copy_((self.next_slot + len(features)) % self.size)
        self.filled.copy_((self.filled + len(features)).clamp(max=self.size))
