"""Fusion: patches and tokens attend to each other, layer by layer, in both directions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from training.config.sections import FusionConfig
from training.model.attention import Block
from training.model.outputs import Features, Fused
from training.model.towers import Towers


class Fusion(nn.Module):
    """Layers of a text block (tokens query patches) and an image block (patches query tokens).

    Both blocks of a layer read the other side as the layer found it. A learned position per patch tells the
    fused patches where they are, whatever the image tower keeps of it. One vector per side collects the whole
    image and the whole text; it starts from the towers' joint vectors and their agreement, so that every
    patch and token can read from the first layer on how far image and text fit.
    """

    def __init__(self, towers: Towers, config: FusionConfig) -> None:
        super().__init__()
        width = config.width
        patches = towers.grid[0] * towers.grid[1]
        self.patch_in = nn.Sequential(nn.LayerNorm(towers.patch_width), nn.Linear(towers.patch_width, width))
        self.token_in = nn.Sequential(nn.LayerNorm(towers.token_width), nn.Linear(towers.token_width, width))
        self.image_in = nn.Linear(2 * towers.joint, width)
        self.text_in = nn.Linear(2 * towers.joint, width)
        self.patch_position = nn.Parameter(0.02 * torch.randn(patches, width))
        self.collect_image = nn.Parameter(0.02 * torch.randn(width))
        self.collect_text = nn.Parameter(0.02 * torch.randn(width))

        def blocks() -> nn.ModuleList:
            return nn.ModuleList(
                [Block(width, config.heads, config.mlp_ratio, config.dropout) for _ in range(config.layers)]
            )

        self.text_blocks = blocks()
        self.image_blocks = blocks()
        self.text_norm = nn.LayerNorm(width)
        self.image_norm = nn.LayerNorm(width)
        self.recompute = False

    def forward(
        self,
        features: Features,
        *,
        patch_bias: Tensor | None = None,
        token_bias: Tensor | None = None,
        with_scores: bool = False,
    ) -> Fused:
        """Fuse.

        Args:
            features: Of the towers; the joint vectors join through the collecting vectors.
            patch_bias: (B, P) float added to every token's scores over the patches (guided attention).
            token_bias: (B, T) float added to every patch's scores over the tokens.
            with_scores: Return the last layer's scores, as L_MGCA needs them.
        """
        agreement = features.agreement
        image_start = self.collect_image + self.image_in(torch.cat([features.image, agreement], dim=-1))
        text_start = self.collect_text + self.text_in(torch.cat([features.text, agreement], dim=-1))
        v = torch.cat([image_start[:, None], self.patch_in(features.patches) + self.patch_position], dim=1)
        t = torch.cat([text_start[:, None], self.token_in(features.tokens)], dim=1)
        token_mask = nn.functional.pad(features.token_mask, (1, 0), value=True)
        patch_bias, token_bias = (_with_collector(bias) for bias in (patch_bias, token_bias))
        scores: tuple[Tensor | None, Tensor | None] = (None, None)
        last = len(self.text_blocks) - 1
        for layer, (text_block, image_block) in enumerate(
            zip(self.text_blocks, self.image_blocks, strict=True)
        ):
            wanted = with_scores and layer == last
            t_next, text_scores = self._run(text_block, t, v, token_mask, None, patch_bias, wanted)
            v_next, image_scores = self._run(image_block, v, t, None, token_mask, token_bias, wanted)
            t, v, scores = t_next, v_next, (text_scores, image_scores)
        t, v = self.text_norm(t), self.image_norm(v)
        text_scores, image_scores = scores
        return Fused(
            image=v[:, 0],
            patches=v[:, 1:],
            text=t[:, 0],
            tokens=t[:, 1:],
            # The collecting vectors ask for no word or patch, but as keys they take part of the attention.
            text_to_image=None if text_scores is None else text_scores[:, :, 1:],
            image_to_text=None if image_scores is None else image_scores[:, :, 1:],
        )

    def _run(self, block: nn.Module, *args: Tensor | bool | None) -> tuple[Tensor, Tensor | None]:
        if self.recompute and self.training:
            result: tuple[Tensor, Tensor | None] = checkpoint(block, *args, use_reentrant=False)
            return result
        return block(*args)


def _with_collector(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else nn.functional.pad(bias, (1, 0))
