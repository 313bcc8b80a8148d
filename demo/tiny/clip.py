"""The tiny CLIP: two towers in open_clip's classes and folder layout, a hundredth of ViT-B/16's parameters.

``open_clip.create_model("local-dir:FOLDER")`` and ``open_clip.get_tokenizer("local-dir:FOLDER")`` open the
saved folder as they open any other in open_clip's format.
"""

# mypy: disable-error-code="import-untyped"

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerFast

from demo.tiny.clip_tokenizer import build_clip_tokenizer, clip_words
from demo.tiny.training import save_checkpoint

CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "open_clip_model.safetensors"


@dataclass(frozen=True, kw_only=True)
class ClipSize:
    """Sizes of the tiny CLIP; lengths in pixels and tokens, widths in features."""

    image_size: int = 64
    patch_size: int = 8
    vision_width: int = 128
    vision_layers: int = 4
    text_width: int = 128
    text_layers: int = 3
    context_length: int = 96
    embed_dim: int = 128
    head_width: int = 32
    mlp_ratio: float = 3.0


def build_clip(size: ClipSize | None = None) -> tuple[open_clip.CustomTextCLIP, PreTrainedTokenizerFast]:
    """Build the untrained towers and their tokenizer; float32, weights from torch's global generator."""
    size = size or ClipSize()
    tokenizer = build_clip_tokenizer(clip_words(), size.context_length)
    config = model_config(size, len(tokenizer))
    config.pop("custom_text")
    return open_clip.CustomTextCLIP(**config), tokenizer


def model_config(size: ClipSize, vocabulary_size: int) -> dict[str, Any]:
    """The `model_cfg` of open_clip's configuration file."""
    return {
        "embed_dim": size.embed_dim,
        "custom_text": True,
        "vision_cfg": {
            "image_size": size.image_size,
            "patch_size": size.patch_size,
            "width": size.vision_width,
            "layers": size.vision_layers,
            "head_width": size.head_width,
            "mlp_ratio": size.mlp_ratio,
        },
        "text_cfg": {
            "context_length": size.context_length,
            "vocab_size": vocabulary_size,
            # A folder's own tokenizer is opened whenever a name stands here, whatever the name.
            "hf_tokenizer_name": "tiny-newsroom",
            "width": size.text_width,
            "heads": size.text_width // size.head_width,
            "layers": size.text_layers,
            "mlp_ratio": size.mlp_ratio,
            "pool_type": "argmax",
        },
    }


def save_clip(
    model: open_clip.CustomTextCLIP, tokenizer: PreTrainedTokenizerFast, size: ClipSize, folder: Path
) -> None:
    """Write a checkpoint in open_clip's format; the folder is the old one or the new one, never a mix."""
    save_checkpoint(_Saved(model, size, len(tokenizer)), tokenizer, folder)


@dataclass(frozen=True)
class _Saved:
    """What `save_checkpoint` expects of a model, in open_clip's format."""

    model: open_clip.CustomTextCLIP
    size: ClipSize
    vocabulary_size: int

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {name: weight.contiguous() for name, weight in self.model.state_dict().items()}

    def save_pretrained(self, folder: Path, state_dict: dict[str, torch.Tensor]) -> None:
        preprocessing = {
            "size": [self.size.image_size, self.size.image_size],
            "mode": "RGB",
            "mean": list(OPENAI_DATASET_MEAN),
            "std": list(OPENAI_DATASET_STD),
            "interpolation": "bicubic",
            "resize_mode": "squash",
        }
        config = {
            "model_cfg": model_config(self.size, self.vocabulary_size),
            "preprocess_cfg": preprocessing,
        }
        (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        save_file(state_dict, folder / WEIGHTS_FILE, metadata={"format": "pt"})
