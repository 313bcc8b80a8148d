"""The momentum encoder: a slow copy of the model that gives keys and soft targets."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from training.model.asap import AsapModel
from training.model.outputs import ModelOutput


class MomentumEncoder(nn.Module):
    """An exponential moving average of a model's weights (He et al., MoCo, 2020; used by ALBEF and HAMMER).

    Args:
        model: The model to follow; its weights are copied.
        momentum: Share of the old average kept at each `update`.
    """

    def __init__(self, model: AsapModel, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.model = copy.deepcopy(model)
        # Guided training would show the momentum model the label; its own words and patches suffice.
        self.model.requires_grad_(False)
        self.model.with_scores = False
        self.model.eval()

    def train(self, mode: bool = True) -> MomentumEncoder:
        """Stay in evaluation mode: targets have no dropout."""
        return super().train(False)

    @torch.no_grad()
    def update(self, model: AsapModel) -> None:
        """Move the average towards ``model``; called once per optimizer step, after it."""
        mine, theirs = list(self.model.parameters()), list(model.parameters())
        torch._foreach_lerp_([p.data for p in mine], [p.detach() for p in theirs], 1.0 - self.momentum)
        for own, other in zip(self.model.buffers(), model.buffers(), strict=True):
            own.copy_(other)

    @torch.no_grad()
    def forward(
        self, image: Tensor, text: Tensor, caption: Tensor | None, explanation: Tensor | None
    ) -> ModelOutput:
        """Return the momentum model's outputs; arguments as in `AsapModel.forward`."""
        output: ModelOutput = self.model(image, text, caption, explanation)
        return output
