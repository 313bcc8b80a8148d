"""Image and text tower of an open_clip model, with their patch and token features."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from open_clip.transformer import TextTransformer, VisionTransformer, text_global_pool
from torch import Tensor, nn

from training.errors import UsageError

log = logging.getLogger(__name__)

LOCAL = "local-dir:"


class Towers(nn.Module):
    """The two encoders of a CLIP model.

    Attributes:
        joint: E, width of the joint space.
        patch_width: Dv, width of patch features.
        token_width: Dt, width of token features.
        grid: (rows, columns) of patches.
        context_length: Most tokens of a text.
    """

    def __init__(self, clip: nn.Module) -> None:
        super().__init__()
        visual: Any = clip.visual
        text: Any = clip.text
        visual.output_tokens = True
        self.visual = visual
        self.text = text
        self.joint: int = visual.output_dim
        self.patch_width: int = visual.conv1.out_channels
        self.token_width: int = text.width
        self.grid: tuple[int, int] = tuple(visual.grid_size)
        self.context_length: int = text.context_length

    def encode_image(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images.

        Args:
            image: (B, 3, H, W) float, CLIP-normalised.

        Returns:
            (B, E) unit length, and patch features (B, P, Dv), row-major over the grid.
        """
        pooled, patches = self.visual(image)
        return nn.functional.normalize(pooled.float(), dim=-1), patches

    def encode_text(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Encode texts.

        Args:
            tokens: (B, T) int64, 0 where padded; T at most ``context_length``.

        Returns:
            (B, E) unit length, and token features (B, T, Dt).
        """
        text: Any = self.text
        length = tokens.shape[1]
        # open_clip's own forward takes texts of the full context length only; most are a third of it.
        x = text.token_embedding(tokens) + text.positional_embedding[:length]
        mask = None if text.attn_mask is None else text.attn_mask[:length, :length]
        features = text.ln_final(text.transformer(x, attn_mask=mask))
        pooled = text_global_pool(features, tokens, text.pool_type, eos_token_id=text.eos_id)
        projection = text.text_projection
        if isinstance(projection, nn.Linear):
            pooled = projection(pooled)
        elif projection is not None:
            pooled = pooled @ projection
        return nn.functional.normalize(pooled.float(), dim=-1), features

    def checkpoint_blocks(self) -> None:
        """Recompute the blocks' activations in the backward pass."""
        self.visual.set_grad_checkpointing(True)
        self.text.set_grad_checkpointing(True)


def build_towers(name: str, pretrained: str | None, image_size: int, *, weights: bool = True) -> Towers:
    """Build the towers.

    Args:
        name: open_clip model name, or ``local-dir:FOLDER`` in open_clip's own format.
        pretrained: open_clip tag or weights file; None: the folder's weights, else random ones.
        image_size: Side of the image in pixels; position embeddings are interpolated to it.
        weights: False: the architecture alone, for weights that are loaded later; no file is opened for them.

    Raises:
        UsageError: The name, tag, folder or file does not exist, or the towers are not plain transformers.
    """
    import open_clip

    if name.startswith(LOCAL):
        folder = Path(name.removeprefix(LOCAL))
        if not (folder / "open_clip_config.json").is_file():
            raise UsageError(
                f"model.towers: {folder} has no open_clip_config.json; give a folder written by open_clip, "
                "or a model name such as ViT-B-16"
            )
    elif name not in open_clip.list_models():
        import difflib

        near = ", ".join(difflib.get_close_matches(name, open_clip.list_models(), 3)) or "ViT-B-16"
        raise UsageError(f"model.towers: open_clip has no model {name!r}; nearest: {near}")
    elif not weights:
        pass
    elif pretrained is None:
        log.warning("model.pretrained is not set: the towers of %s start from random weights", name)
    elif not Path(pretrained).is_file() and pretrained not in open_clip.list_pretrained_tags_by_model(name):
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
        raise UsageError(
            f"model.pretrained: {pretrained!r} is neither a file nor a tag of {name}; its tags: {tags}"
        )
    root = logging.getLogger()
    try:
        if not weights:
            root.addFilter(_not_random)
        clip = open_clip.create_model(
            name,
            # open_clip fetches a tag's file even with load_weights=False.
            pretrained=None if name.startswith(LOCAL) or not weights else pretrained,
            load_weights=weights,
            force_custom_text=True,
            force_image_size=image_size,
            force_quick_gelu=uses_quick_gelu(name, pretrained),
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(
            f"model: {name} with {pretrained!r} cannot be loaded: {error}; where there is no network, give a "
            "local file: --set model.pretrained=FILE"
        ) from None
    finally:
        root.removeFilter(_not_random)
    if not _plain(clip):
        raise UsageError(
            f"model.towers: {name} is not a pair of plain transformers with patch and token features; "
            "take a ViT such as ViT-B-16"
        )
    return Towers(clip)


def uses_quick_gelu(name: str, pretrained: str | None) -> bool:
    """Tell whether a tag's weights were trained with QuickGELU; open_clip itself would only warn."""
    import open_clip

    if pretrained is None or pretrained not in open_clip.list_pretrained_tags_by_model(name):
        return pretrained == "openai"
    return bool(open_clip.get_pretrained_cfg(name, pretrained).get("quick_gelu", False))


def _not_random(record: logging.LogRecord) -> bool:
    """Drop open_clip's warnings that the towers have no weights, where weights are loaded next."""
    return "weights" not in record.getMessage()


def _plain(clip: nn.Module) -> bool:
    """Tell whether both towers have the parts that `Towers` reads."""
    visual, text = getattr(clip, "visual", None), getattr(clip, "text", None)
    if not isinstance(visual, VisionTransformer) or not isinstance(text, TextTransformer):
        return False
    return visual.attn_pool is None and text.cls_emb is None and not text.use_pad_mask


def padding_mask(tokens: Tensor) -> Tensor:
    """Return (B, T) bool, True on real tokens; ``tokens`` is (B, T) int64, 0 where padded.

    Every row keeps its first token, so that attention over a row without a text stays defined.
    """
    mask = tokens != 0
    first = torch.zeros_like(mask)
    first[:, 0] = True
    return mask | first
