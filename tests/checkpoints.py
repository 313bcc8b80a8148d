"""Small random checkpoints of the real architectures, in the on-disk formats of the published repositories.

Each builder writes a folder that ``from_pretrained`` reads like a download: config, safetensors, tokenizer
files, chat template or image processor. The weights are random, so texts are nonsense, but they are the same
nonsense for the same seed. Formats covered: what transformers 4 wrote (image token unknown to config and
processor, ``preprocessor_config.json``) and what transformers 5 writes (image token in both,
``processor_config.json``); one safetensors file and several with an index; chat template inside
``tokenizer_config.json`` and in its own file; and ChatGLM3's, which transformers does not know.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

Layout = Literal["v4", "v5"]

CORPUS = [
    "Give the caption of this picture",
    "Original news text: Mayor Ana Reyes smiles at the opening of the harbour bridge on Monday.",
    "Manipulated news text: Mayor Ana Reyes weeps at the closing of the harbour bridge on Sunday!",
    "Name the words that were changed, and say in one or two English sentences where and how it differs.",
    "In this news text the words between ** and ** were manipulated: a cost of $5 and 30% more, she said.",
    "Describe in one or two English sentences what this text says. A yellow flag, a crowd, a smile.",
]
WORDS = list(dict.fromkeys(word for text in CORPUS for word in text.split()))
IMAGE_SIZE = 28
QUERIES = 4
CONTEXT = 256


def instructblip_llama(folder: Path, layout: Layout = "v5", seed: int = 0, **changes: Any) -> Path:
    """Write an InstructBLIP whose language model is a Llama (as instructblip-vicuna-7b).

    ``changes`` go to the language model's configuration: vLLM on a CPU wants ``head_dim=32``.
    """
    tokenizer = _llama_tokenizer()
    values = dict(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return _instructblip(folder, tokenizer, transformers.LlamaConfig(**(values | changes)), layout, seed)


def instructblip_t5(folder: Path, layout: Layout = "v5", seed: int = 0) -> Path:
    """Write an InstructBLIP whose language model is a gated-GELU T5 (as instructblip-flan-t5-xl)."""
    tokenizer = _t5_tokenizer()
    text = transformers.T5Config(
        vocab_size=len(tokenizer),
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        n_positions=CONTEXT,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        decoder_start_token_id=0,
        bos_token_id=1,
    )
    return _instructblip(folder, tokenizer, text, layout, seed)


def glm(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """Write a ``GlmForCausalLM`` (as glm-4-9b-chat-hf): one file, template inside tokenizer_config.json."""
    config, tokenizer = _glm_parts(transformers.GlmConfig, changes)
    _save(_random(transformers.GlmForCausalLM(config), seed, eos=config.eos_token_id), folder)
    tokenizer.save_pretrained(folder)
    template = folder / "chat_template.jinja"
    _edit(folder / "tokenizer_config.json", chat_template=template.read_text())
    template.unlink()
    old = _old_rope(json.loads((folder / "config.json").read_text()))
    (folder / "config.json").write_text(json.dumps(old | {"torch_dtype": "float32"}))
    return folder


def glm4(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """Write a ``Glm4ForCausalLM`` (as GLM-4-9B-0414): several files and an index, template in its own."""
    config, tokenizer = _glm_parts(transformers.Glm4Config, changes)
    model = _random(transformers.Glm4ForCausalLM(config), seed, eos=config.eos_token_id)
    _save(model, folder, max_shard_size="40KB")
    tokenizer.save_pretrained(folder)
    assert (folder / "model.safetensors.index.json").exists() and (folder / "chat_template.jinja").exists()
    return folder


def _glm_parts(kind: type, changes: dict[str, Any]) -> tuple[Any, Any]:
    tokenizer = glm_tokenizer()
    ids = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|user|>", "<|observation|>"])
    values = dict(
        vocab_size=len(tokenizer) + 5,  # the published models pad their vocabulary as well
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=CONTEXT,
        eos_token_id=ids,
        pad_token_id=ids[0],
    )
    return kind(**(values | changes)), tokenizer


def _instructblip(folder: Path, tokenizer: Any, text: Any, layout: Layout, seed: int) -> Path:
    qformer_tokenizer = _bert_tokenizer()
    vision = transformers.InstructBlipVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=IMAGE_SIZE,
        patch_size=14,
        initializer_range=0.2,
    )
    qformer = transformers.InstructBlipQFormerConfig(
        vocab_size=len(qformer_tokenizer) + 1,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        encoder_hidden_size=32,
    )
    image_processor = transformers.BlipImageProcessor(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})
    if layout == "v5":
        processor = transformers.InstructBlipProcessor(image_processor, tokenizer, qformer_tokenizer, QUERIES)
        text.vocab_size = len(tokenizer)
        image_token = tokenizer.convert_tokens_to_ids("<image>")
    config = transformers.InstructBlipConfig(
        vision_config=vision.to_dict(),
        qformer_config=qformer.to_dict(),
        text_config=text.to_dict(),
        num_query_tokens=QUERIES,
        image_token_index=image_token if layout == "v5" else None,
    )
    eos = [tokenizer.eos_token_id]
    pull = 1.4 if text.model_type == "llama" else 1.7
    _save(_random(transformers.InstructBlipForConditionalGeneration(config), seed, eos, pull), folder)
    if layout == "v5":
        processor.save_pretrained(folder)
        return folder
    tokenizer.save_pretrained(folder)
    qformer_tokenizer.save_pretrained(folder / "qformer_tokenizer")
    image_processor.save_pretrained(folder)
    _edit(folder / "preprocessor_config.json", processor_class="InstructBlipProcessor")
    is_llama = text.model_type == "llama"
    if is_llama:
        # Vicuna declares </s> as start token, as it was trained, whatever tokenizer.json puts first.
        named = {"tokenizer_class": "LlamaTokenizer", "bos_token": "</s>"}
    else:
        named = {"tokenizer_class": "T5Tokenizer", "extra_ids": 0}
    _edit(folder / "tokenizer_config.json", drop=("backend",), **named)
    qformer_file = folder / "qformer_tokenizer" / "tokenizer_config.json"
    _edit(qformer_file, drop=("backend",), tokenizer_class="BertTokenizer")
    _edit(
        folder / "config.json",
        drop=("image_token_index", "dtype"),
        torch_dtype="float32",
        transformers_version="4.31.0",
        use_decoder_only_language_model=is_llama,
        text_config=_old_rope(json.loads((folder / "config.json").read_text())["text_config"]),
    )
    return folder


def _random(model: Any, seed: int, eos: list[int], pull: float = 1.7) -> Any:
    """Fill with weights large enough that texts differ; ``pull`` makes the end likely enough to be met."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.35, generator=generator)
            elif "norm" not in name:
                parameter.normal_(0, 0.05, generator=generator)
        head = model.get_output_embeddings()
        head = model.language_model.get_output_embeddings() if head is None else head
        head.weight[eos] *= pull
    return model.eval()


def _save(model: Any, folder: Path, **options: Any) -> None:
    # Published checkpoints sample by default; the engine must not take that over.
    target = getattr(model, "language_model", model).generation_config
    target.update(do_sample=True, temperature=0.8, top_p=0.8)
    model.generation_config.update(do_sample=True, temperature=0.8, top_p=0.8)
    model.save_pretrained(folder, **options)


def _llama_tokenizer() -> Any:
    """Llama's format: byte-fallback BPE over text whose spaces are U+2581, a BOS put before every prompt."""
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary, merges = _merges([f"▁{word}" for word in WORDS], special)
    raw = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True)
    )
    raw.add_special_tokens(special[:3])
    raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    raw.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    raw.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<unk>"
    )


def _t5_tokenizer() -> Any:
    """T5's format: unigram pieces, an end token after every prompt."""
    special = ["<pad>", "</s>", "<unk>"]
    letters = sorted({letter for word in WORDS for letter in word} | {"▁"})
    pieces = [(f"▁{word}", -5.0) for word in WORDS] + [(letter, -10.0) for letter in letters]
    raw = Tokenizer(models.Unigram([(token, 0.0) for token in special] + pieces, unk_id=2))
    raw.add_special_tokens(special)
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    raw.decoder = decoders.Metaspace()
    raw.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="</s>", unk_token="<unk>", pad_token="<pad>", model_max_length=512
    )


def _bert_tokenizer() -> Any:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = sorted({word.lower().strip(".,:*$%!") for word in WORDS} - {""})
    letters = sorted({letter for word in words for letter in word} | set(".,:*$%!{}"))
    pieces = dict.fromkeys([*special, *letters, *(f"##{letter}" for letter in letters), *words])
    raw = Tokenizer(models.WordPiece({piece: n for n, piece in enumerate(pieces)}, unk_token="[UNK]"))
    raw.normalizer = normalizers.BertNormalizer(lowercase=True)
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.decoder = decoders.WordPiece()
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
    tokenizer.add_tokens([AddedToken("[DEC]", special=True)], special_tokens=True)
    return tokenizer


def glm_tokenizer() -> Any:
    """GLM-4's format: byte-level BPE, chat roles as special tokens, padding on the left."""
    split = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words = dict.fromkeys(piece for text in CORPUS for piece, _ in split.pre_tokenize_str(text))
    vocabulary, merges = _merges(list(words), sorted(pre_tokenizers.ByteLevel.alphabet()))
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    raw.pre_tokenizer = split
    raw.decoder = decoders.ByteLevel()
    roles = ["<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"]
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|endoftext|>", "[gMASK]", "<sop>", *roles],
        padding_side="left",
    )
    tokenizer.chat_template = (
        "[gMASK]<sop>{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}"
        "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
    )
    return tokenizer


def _merges(words: list[str], first: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return a BPE vocabulary and merges that build each word letter by letter.

    The trainers of ``tokenizers`` break ties differently from run to run; these checkpoints must not.
    """
    letters = sorted({letter for word in words for letter in word})
    steps = dict.fromkeys((word[:end], word[end]) for word in words for end in range(1, len(word)))
    pieces = dict.fromkeys([*first, *letters, *(left + right for left, right in steps)])
    return {piece: number for number, piece in enumerate(pieces)}, list(steps)


def _old_rope(config: dict[str, Any]) -> dict[str, Any]:
    """Write the rotary settings as transformers 4 did: separate keys at the top level."""
    rope = config.pop("rope_parameters", None) or {}
    config.pop("dtype", None)
    return config | {key: value for key, value in rope.items() if key != "rope_type"}


def _edit(path: Path, drop: tuple[str, ...] = (), **values: Any) -> None:
    content = {k: v for k, v in json.loads(path.read_text()).items() if k not in drop} | values
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False))
