"""Tiny open_clip towers in open_clip's own local format, built once per test run."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789$%@'-.,!?\u2019\u201c\u201d\u2013[]/\""


def tiny_towers(folder: Path, *, image_size: int = 32, patch: int = 8, width: int = 16) -> str:
    """Write random towers of width 16 with a letter tokenizer; returns the name for ``model.towers``."""
    folder.mkdir(parents=True, exist_ok=True)
    pieces = ["<pad>", "<unk>", "<s>", *LETTERS, *("##" + c for c in LETTERS), "</s>"]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        clean_up_tokenization_spaces=False,
    ).save_pretrained(folder)
    sizes = {
        "embed_dim": width,
        "vision_cfg": {
            "image_size": image_size, "layers": 2, "width": width, "patch_size": patch, "head_width": 8
        },
        "text_cfg": {
            "context_length": 96, "vocab_size": len(pieces), "width": width, "heads": 2, "layers": 2,
            "hf_tokenizer_name": str(folder),
        },
    }  # fmt: skip
    torch.manual_seed(0)
    clip = open_clip.CLIP(**sizes)
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": sizes, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}})
    )
    save_file(clip.state_dict(), folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"
