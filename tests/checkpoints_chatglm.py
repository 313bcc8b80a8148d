"""Small random ChatGLM3 checkpoints, in the on-disk format of the published repository."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, Literal

import sentencepiece
import torch
from safetensors.torch import save_file

from tests.checkpoints import CONTEXT, CORPUS, glm_tokenizer


def chatglm3(
    folder: Path, seed: int = 0, tokenizer: Literal["model", "json"] = "model", **changes: Any
) -> Path:
    """Write a ChatGLM3 as the repository chatglm3-6b holds it: names, half precision, two files and an index.

    Transformers has no such model, so the tensors are made by hand. ``tokenizer="model"`` is the published
    form: a SentencePiece vocabulary whose code is not here; ``"json"`` is a converted one with a template.
    """
    folder.mkdir(parents=True)
    pieces, converted = _chatglm_pieces(), glm_tokenizer()
    words = pieces.vocab_size() if tokenizer == "model" else len(converted)
    ends = [2, words + 6] if tokenizer == "model" else [converted.eos_token_id]  # words + 6 is <|user|>
    config = {
        "model_type": "chatglm",
        "architectures": ["ChatGLMModel"],
        "auto_map": {"AutoConfig": "configuration_chatglm.ChatGLMConfig"},
        "add_bias_linear": False,
        "add_qkv_bias": True,
        "apply_query_key_layer_scaling": True,
        "apply_residual_connection_post_layernorm": False,
        "attention_softmax_in_fp32": True,
        "ffn_hidden_size": 96,
        "fp32_residual_connection": False,
        "hidden_size": 64,
        "kv_channels": 32,
        "layernorm_epsilon": 1e-05,
        "multi_query_attention": True,
        "multi_query_group_num": 1,
        "num_attention_heads": 2,
        "num_layers": 2,
        "original_rope": True,
        "padded_vocab_size": words + 16,  # nine control tokens and padding
        "post_layer_norm": True,
        "rmsnorm": True,
        "seq_length": CONTEXT,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "eos_token_id": ends[0],
        "pad_token_id": 0,
    } | changes
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    first, second = _chatglm_tensors(config, seed, ends)
    index = {}
    for number, part in enumerate((first, second), 1):
        name = f"model-{number:05d}-of-00002.safetensors"
        save_file(part, folder / name, metadata={"format": "pt"})
        index |= dict.fromkeys(part, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    if tokenizer == "json":
        converted.save_pretrained(folder)
    else:
        (folder / "tokenizer.model").write_bytes(pieces.serialized_model_proto())
        code = {"AutoTokenizer": ["tokenization_chatglm.ChatGLMTokenizer", None]}
        named = {"tokenizer_class": "ChatGLMTokenizer", "auto_map": code}
        (folder / "tokenizer_config.json").write_text(json.dumps(named))
    return folder


def _chatglm_tensors(
    config: dict[str, Any], seed: int, eos: list[int]
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return the tensors of a ChatGLM3 in two parts, named as published."""
    generator = torch.Generator().manual_seed(seed)
    width, ffn, vocabulary = config["hidden_size"], config["ffn_hidden_size"], config["padded_vocab_size"]
    head = config["kv_channels"]
    attended = (config["num_attention_heads"] + 2 * config["multi_query_group_num"]) * head

    def draw(*shape: int, scale: float = 0.35) -> torch.Tensor:
        return (torch.randn(*shape, generator=generator) * scale).half()

    norm = torch.ones(width, dtype=torch.float16)
    rows = {"transformer.embedding.word_embeddings.weight": draw(vocabulary, width)}
    # A buffer that the published files hold; loaders pass over it.
    rows["transformer.rotary_pos_emb.inv_freq"] = (
        10000 ** (-torch.arange(0, head // 2, 2) / (head // 2)).half()
    )
    layers = {}
    for number in range(config["num_layers"]):
        at = f"transformer.encoder.layers.{number}."
        layers |= {
            at + "input_layernorm.weight": norm.clone(),
            at + "self_attention.query_key_value.weight": draw(attended, width),
            at + "self_attention.query_key_value.bias": draw(attended, scale=0.05),
            at + "self_attention.dense.weight": draw(width, config["num_attention_heads"] * head),
            at + "post_attention_layernorm.weight": norm.clone(),
            at + "mlp.dense_h_to_4h.weight": draw(2 * ffn, width),
            at + "mlp.dense_4h_to_h.weight": draw(width, ffn),
        }
    layers["transformer.encoder.final_layernorm.weight"] = norm.clone()
    output = draw(vocabulary, width)
    output[eos] *= 1.1
    return rows, layers | {"transformer.output_layer.weight": output}


def _chatglm_pieces() -> Any:
    """Return a SentencePiece vocabulary with the published one's options, trained on the corpus."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 20),
        model_writer=model,
        model_type="bpe",
        vocab_size=400,
        byte_fallback=True,
        character_coverage=1.0,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
