"""The model: towers, fusion, heads. At inference it sees the image and the text, nothing else."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from training.config.sections import TEMPERATURES, Config
from training.model.fusion import Fusion
from training.model.heads import BoxHead, PairHead, PatchHead, mlp
from training.model.outputs import Features, Fused, ModelOutput
from training.model.towers import Towers, build_towers, padding_mask


class AsapModel(nn.Module):
    """CLIP towers, bidirectional fusion, and the heads of the five tasks.

    Source: the seed note's architecture; the heads' tasks are those of HAMMER.

    Args:
        towers: From `build_towers`.
        config: The run's configuration.
    """

    def __init__(self, towers: Towers, config: Config) -> None:
        super().__init__()
        width = config.model.fusion.width
        mgca = config.loss.mgca
        self.towers = towers
        self.fusion = Fusion(towers, config.model.fusion)
        self.binary_head = PairHead(width, towers.joint, 2)
        self.types_head = PairHead(width, towers.joint, 4)
        self.box_head = BoxHead(width, towers.grid)
        self.words_head = nn.Sequential(nn.LayerNorm(width), mlp(width, 2))
        self.patch_head = PatchHead(width, config.model.patch_dim)
        self.explanation_head = PairHead(width, towers.joint, 2) if config.loss.lma.ied > 0 else None
        # 1-d, because sharded training cannot split a 0-d parameter.
        self.log_temperature = nn.Parameter(torch.tensor([config.contrast.temperature]).log())
        self.guided = mgca.mode == "bias"
        self.beta = mgca.beta
        self.with_scores = mgca.mode in ("distill", "supervise")
        if config.model.freeze_towers:
            towers.requires_grad_(False)
        if config.model.checkpoint_blocks:
            towers.checkpoint_blocks()
            self.fusion.recompute = True

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches."""
        return self.towers.grid

    def temperature(self) -> Tensor:
        """Return the learned temperature, (1,)."""
        return self.log_temperature.exp()

    @torch.no_grad()
    def bound_temperature(self) -> None:
        """Bring the temperature back within `TEMPERATURES`; call after each optimizer step.

        Clamped in the forward pass instead, it would get no gradient outside and never return.
        """
        low, high = TEMPERATURES
        self.log_temperature.clamp_(math.log(low), math.log(high))

    def forward(
        self,
        image: Tensor,
        text: Tensor,
        caption: Tensor | None = None,
        explanation: Tensor | None = None,
        *,
        patch_guidance: Tensor | None = None,
        token_guidance: Tensor | None = None,
        guided_rows: Tensor | None = None,
        fuse_explanation: bool = False,
    ) -> ModelOutput:
        """Run the model. Predictions depend on ``image`` and ``text`` only, unless guidance is given.

        Args:
            image: (B, 3, H, W) float, CLIP-normalised.
            text: (B, T) int64 token ids, 0 where padded.
            caption: (B, T') int64 for L_cap, encoded in one pass with the text.
            explanation: (B, T'') int64 for L_exp, likewise.
            patch_guidance: (B, P) bool, M_g over patches; training in mode ``bias`` only.
            token_guidance: (B, T) bool, M_g over tokens; likewise.
            guided_rows: (B,) bool, rows whose guidance is given; the others take the predicted mask.
            fuse_explanation: Also fuse image and explanation for the released code's extra head.
        """
        features = self.encode(image, text, caption, explanation)
        fused = self.fusion(features, with_scores=self.with_scores)
        patch_logits, embedding = self.patch_head(fused.patches)
        first_words = None
        if self.guided:
            first_words = self.words_head(fused.tokens).float()
            patch_bias, token_bias = self._biases(
                patch_logits, first_words, patch_guidance, token_guidance, guided_rows
            )
            fused = self.fusion(features, patch_bias=patch_bias, token_bias=token_bias)
            _, embedding = self.patch_head(fused.patches)
        return ModelOutput(
            features=features,
            fused=fused,
            binary=self.binary_head(fused, features),
            types=self.types_head(fused, features),
            box=self.box_head(fused),
            words=self.words_head(fused.tokens).float(),
            patch_logits=patch_logits,
            patch_embedding=embedding,
            explanation_binary=self._explanation_logits(features) if fuse_explanation else None,
            unguided_words=first_words,
        )

    def encode(
        self, image: Tensor, text: Tensor, caption: Tensor | None = None, explanation: Tensor | None = None
    ) -> Features:
        """Run the towers; all texts go through the text tower as one batch. Arguments as in `forward`."""
        pooled, patches = self.towers.encode_image(image)
        texts = [t for t in (text, caption, explanation) if t is not None]
        longest = max(t.shape[1] for t in texts)
        padded = [nn.functional.pad(t, (0, longest - t.shape[1])) for t in texts]
        pooled_texts, tokens = self.towers.encode_text(torch.cat(padded))
        parts = list(zip(pooled_texts.chunk(len(texts)), tokens.chunk(len(texts)), strict=True))
        caption_part = parts[1] if caption is not None else None
        explanation_part = parts[-1] if explanation is not None else None
        return Features(
            image=pooled,
            patches=patches,
            text=parts[0][0],
            tokens=parts[0][1][:, : text.shape[1]],
            token_mask=padding_mask(text),
            caption=caption_part[0] if caption_part else None,
            explanation=explanation_part[0] if explanation_part else None,
            explanation_tokens=_cut(explanation_part, explanation),
            explanation_token_mask=None if explanation is None else padding_mask(explanation),
        )

    def _biases(
        self,
        patch_logits: Tensor,
        word_logits: Tensor,
        patch_guidance: Tensor | None,
        token_guidance: Tensor | None,
        guided_rows: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Return beta M_g over patches (B, P) and over tokens (B, T), predicted where it is not given."""
        patches = patch_logits.detach().sigmoid()
        tokens = word_logits.detach().softmax(dim=-1)[..., 1]
        if patch_guidance is not None and token_guidance is not None and guided_rows is not None:
            given = guided_rows[:, None]
            patches = torch.where(given, patch_guidance.to(patches.dtype), patches)
            tokens = torch.where(given, token_guidance.to(tokens.dtype), tokens)
        return self.beta * patches, self.beta * tokens

    def _explanation_logits(self, features: Features) -> Tensor | None:
        if self.explanation_head is None or features.explanation is None:
            return None
        if features.explanation_tokens is None or features.explanation_token_mask is None:
            return None
        told = Features(
            image=features.image,
            patches=features.patches,
            text=features.explanation,
            tokens=features.explanation_tokens,
            token_mask=features.explanation_token_mask,
        )
        fused: Fused = self.fusion(told)
        logits: Tensor = self.explanation_head(fused, told)
        return logits


def _cut(part: tuple[Tensor, Tensor] | None, tokens: Tensor | None) -> Tensor | None:
    return None if part is None or tokens is None else part[1][:, : tokens.shape[1]]


def build_model(config: Config, *, weights: bool = True) -> AsapModel:
    """Build the model of a configuration, towers loaded.

    Args:
        config: The run's configuration.
        weights: False: towers without their pretrained weights, for a state that is loaded later.

    Raises:
        UsageError: The towers cannot be loaded.
    """
    model = config.model
    towers = build_towers(model.towers, model.pretrained, model.image_size, weights=weights)
    return AsapModel(towers, config)
