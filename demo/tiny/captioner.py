"""The tiny InstructBLIP: classes and folder layout of the real one, a five-thousandth of its parameters.

A ViT looks at the picture, a Q-Former that also reads the instruction turns the patches into a few query
vectors, and a Llama writes the caption after them. `InstructBlipProcessor.from_pretrained` and
`InstructBlipForConditionalGeneration.from_pretrained` open the saved folder as they open
``Salesforce/instructblip-vicuna-7b``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import (
    BlipImageProcessor,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
    InstructBlipQFormerConfig,
    InstructBlipVisionConfig,
    LlamaConfig,
)

from demo.tiny.tokenizers import build_tokenizer, fast_tokenizer

INSTRUCTION = "Give the caption of this picture"  # the text of prompt template caption-v1
PARAPHRASES = (
    "Write the caption of this picture.",
    "Give a caption for this image",
    "Describe this picture",
    "What does this picture show?",
    "A short image description:",
)
SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<unk>", "<image>")


@dataclass(frozen=True, kw_only=True)
class CaptionerSize:
    """Sizes of the tiny InstructBLIP; lengths in pixels, widths in features."""

    image_size: int = 96
    patch_size: int = 12
    vision_width: int = 128
    vision_layers: int = 4
    query_tokens: int = 8
    qformer_width: int = 128
    qformer_layers: int = 2
    language_width: int = 128
    language_layers: int = 2
    head_width: int = 32


def build_captioner(
    words: Sequence[str], size: CaptionerSize | None = None
) -> tuple[InstructBlipForConditionalGeneration, InstructBlipProcessor]:
    """Build the untrained model and its processor.

    Args:
        words: Every word that captions use; the words of the instructions are added.
        size: Layer sizes; the shipped ones when None.

    Returns:
        A float32 model with random weights (torch's global generator), and the processor that feeds it.
    """
    size = size or CaptionerSize()
    instruction_words = " ".join((INSTRUCTION, *PARAPHRASES)).split()
    tokenizer = fast_tokenizer(
        build_tokenizer([*words, *instruction_words], SPECIAL_TOKENS),
        begin="<s>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
    )
    qformer_tokenizer = fast_tokenizer(
        build_tokenizer(instruction_words, SPECIAL_TOKENS),
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
    )
    side = {"height": size.image_size, "width": size.image_size}
    processor = InstructBlipProcessor(
        BlipImageProcessor(size=side), tokenizer, qformer_tokenizer, num_query_tokens=size.query_tokens
    )
    model = InstructBlipForConditionalGeneration(_config(size, processor))
    with torch.no_grad():
        # The class starts all queries at zero, for weights that will be loaded; equal queries learn slowly.
        model.query_tokens.normal_(0.0, 0.02)
    return model, processor


def _config(size: CaptionerSize, processor: InstructBlipProcessor) -> InstructBlipConfig:
    tokenizer = processor.tokenizer
    language = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.language_width,
        intermediate_size=2 * size.language_width,
        num_hidden_layers=size.language_layers,
        num_attention_heads=size.language_width // size.head_width,
        num_key_value_heads=size.language_width // size.head_width,
        head_dim=size.head_width,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )
    vision = InstructBlipVisionConfig(
        hidden_size=size.vision_width,
        intermediate_size=2 * size.vision_width,
        num_hidden_layers=size.vision_layers,
        num_attention_heads=size.vision_width // size.head_width,
        image_size=size.image_size,
        patch_size=size.patch_size,
        initializer_range=0.02,
    )
    qformer = InstructBlipQFormerConfig(
        vocab_size=len(processor.qformer_tokenizer),
        hidden_size=size.qformer_width,
        intermediate_size=2 * size.qformer_width,
        num_hidden_layers=size.qformer_layers,
        num_attention_heads=size.qformer_width // size.head_width,
        cross_attention_frequency=1,
        encoder_hidden_size=size.vision_width,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=processor.qformer_tokenizer.pad_token_id,
    )
    return InstructBlipConfig(
        vision_config=vision,
        qformer_config=qformer,
        text_config=language,
        num_query_tokens=size.query_tokens,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=True,
        dtype="float32",
    )
