"""Checkpoints of about 100 million random parameters, in the formats of the demo's models.

Their texts are nonsense of a fixed length: the row of the output head that belongs to the end token is zero,
and among random others its logit is never the largest.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
import transformers

DEMO = Path(__file__).resolve().parents[1] / "demo" / "models"


def write_glm(folder: Path) -> Path:
    """Write a ``GlmForCausalLM`` of about 100 million parameters with the demo's tokenizer and template."""
    config = transformers.GlmConfig.from_pretrained(DEMO / "glm")
    config.update(
        dict(
            hidden_size=768,
            intermediate_size=2304,
            num_hidden_layers=14,
            num_attention_heads=12,
            num_key_value_heads=4,
            head_dim=64,
            tie_word_embeddings=False,
        )
    )
    _copy_all_but_weights(DEMO / "glm", folder)
    _save(transformers.GlmForCausalLM(config), config.eos_token_id, folder)
    return folder


def write_instructblip(folder: Path) -> Path:
    """Write an InstructBLIP on a Llama, about 100 million parameters, 224 px, with the demo's tokenizers.

    Vision tower, Q-Former and language model share them about as in instructblip-vicuna-7b (12 : 2 : 86).
    """
    config = transformers.InstructBlipConfig.from_pretrained(DEMO / "instructblip")
    config.vision_config.update(
        dict(
            hidden_size=384,
            intermediate_size=1536,
            num_hidden_layers=7,
            num_attention_heads=6,
            image_size=224,
            patch_size=16,
        )
    )
    config.qformer_config.update(
        dict(
            hidden_size=256,
            intermediate_size=1024,
            num_hidden_layers=2,
            num_attention_heads=4,
            encoder_hidden_size=384,
        )
    )
    config.text_config.update(
        dict(
            hidden_size=768,
            intermediate_size=2048,
            num_hidden_layers=12,
            num_attention_heads=12,
            num_key_value_heads=12,
            head_dim=64,
            tie_word_embeddings=False,
        )
    )
    config.num_query_tokens = 32
    config.tie_word_embeddings = False
    _copy_all_but_weights(DEMO / "instructblip", folder)
    _save(
        transformers.InstructBlipForConditionalGeneration(config), [config.text_config.eos_token_id], folder
    )
    processor = transformers.InstructBlipProcessor.from_pretrained(DEMO / "instructblip")
    processor.image_processor.size = {"height": 224, "width": 224}
    processor.num_query_tokens = 32
    processor.save_pretrained(folder)
    return folder


def parameters(folder: Path) -> int:
    """Return the number of weights in a checkpoint folder."""
    from safetensors import safe_open

    total = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            total += sum(torch.Size(tensors.get_slice(name).get_shape()).numel() for name in tensors.keys())
    return total


def _copy_all_but_weights(source: Path, folder: Path) -> None:
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors"), dirs_exist_ok=True)


def _save(model: Any, ends: list[int], folder: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.05, generator=generator)
        language = getattr(model, "language_model", model)
        language.get_output_embeddings().weight[ends] = 0
    model.float().save_pretrained(folder)
