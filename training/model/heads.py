"""Heads on the fused features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.model.outputs import Features, Fused


def mlp(inner: int, outer: int) -> nn.Sequential:
    """Return linear, GELU, linear: (..., inner) -> (..., outer)."""
    return nn.Sequential(nn.Linear(inner, inner), nn.GELU(), nn.Linear(inner, outer))


class PairHead(nn.Module):
    """Logits of the whole pair.

    Reads the collected image and text, the strongest patch and token, and how far the towers' own vectors of
    image and text agree, dimension by dimension: a mismatch shows there before the fusion has learned it.
    """

    def __init__(self, width: int, joint: int, classes: int) -> None:
        super().__init__()
        self.agreement = nn.Linear(joint, width)
        self.norm = nn.LayerNorm(5 * width)
        self.mlp = nn.Sequential(nn.Linear(5 * width, width), nn.GELU(), nn.Linear(width, classes))

    def forward(self, fused: Fused, features: Features) -> Tensor:
        """Return (B, classes) float32."""
        lowest = torch.finfo(fused.tokens.dtype).min
        tokens = fused.tokens.masked_fill(~features.token_mask[..., None], lowest)
        parts = [fused.image, fused.text, fused.patches.amax(dim=1), tokens.amax(dim=1)]
        parts.append(self.agreement(features.agreement.to(fused.image.dtype)))
        logits: Tensor = self.mlp(self.norm(torch.cat(parts, dim=-1)))
        return logits.float()


class BoxHead(nn.Module):
    """One box per image from an attention over patches: what it saw there, and where it looked.

    The attention's mean position and spread over the grid go into the regression, so the head learns a
    correction to a place that is already known instead of a map from features to coordinates.
    """

    def __init__(self, width: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 1))
        rows, columns = grid
        y, x = torch.meshgrid(
            (torch.arange(rows) + 0.5) / rows, (torch.arange(columns) + 0.5) / columns, indexing="ij"
        )
        self.register_buffer("places", torch.stack([x, y], dim=-1).view(-1, 2), persistent=False)
        self.norm = nn.LayerNorm(2 * width)
        last = nn.Linear(width, 4)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.correct = nn.Sequential(nn.Linear(2 * width + 4, width), nn.GELU(), last)

    def forward(self, fused: Fused) -> Tensor:
        """Return (B, 4) float32 cxcywh over the image, 0 to 1."""
        weights = self.score(fused.patches).float().softmax(dim=1)
        places: Tensor = self.places  # type: ignore[assignment]
        centre = (weights * places).sum(dim=1)
        spread = (weights * (places - centre[:, None]).square()).sum(dim=1).clamp_min(1e-6).sqrt()
        seen = (weights.to(fused.patches.dtype) * fused.patches).sum(dim=1)
        joined = self.norm(torch.cat([fused.image, seen], dim=-1))
        geometry = torch.cat([centre, spread], dim=-1)
        change = self.correct(torch.cat([joined, geometry.to(joined.dtype)], dim=-1)).float()
        # A spread of a uniform side is side / sqrt(12).
        start = torch.cat([centre, spread * 12**0.5], dim=-1).clamp(1e-3, 1 - 1e-3)
        return torch.sigmoid(torch.logit(start) + change)


class PatchHead(nn.Module):
    """Per patch: a logit of being manipulated, and the embedding that L_PMM compares."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.logit = nn.Linear(width, 1)
        self.embed = mlp(width, dim)

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, P) and unit-length embeddings (B, P, d)."""
        logits: Tensor = self.logit(patches)
        embedding = nn.functional.normalize(self.embed(patches).float(), dim=-1)
        return logits.squeeze(-1).float(), embedding
