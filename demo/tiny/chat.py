"""The tiny GLM chat model: `GlmForCausalLM` with the chat template of GLM-4, under a million parameters.

`AutoTokenizer` and `AutoModelForCausalLM` open the saved folder as they open ``THUDM/glm-4-9b-chat-hf``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import GlmConfig, GlmForCausalLM, PreTrainedTokenizerFast

from demo.tiny.tokenizers import build_tokenizer, fast_tokenizer

END = "<|user|>"  # GLM ends its turn by announcing the next speaker
SPECIAL_TOKENS = (
    "<|endoftext|>",
    "[gMASK]",
    "<sop>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
    "<unk>",
)
CHAT_TEMPLATE = (
    "[gMASK]<sop>"
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


@dataclass(frozen=True, kw_only=True)
class ChatSize:
    """Sizes of the tiny GLM; widths in features."""

    width: int = 128
    layers: int = 4
    heads: int = 4
    head_width: int = 32
    inner_width: int = 256


def build_chat(
    words: Sequence[str], size: ChatSize | None = None
) -> tuple[GlmForCausalLM, PreTrainedTokenizerFast]:
    """Build the untrained model and its tokenizer.

    Args:
        words: Every word that gets a token of its own: those of the news texts, the prompts and the
            explanations.
        size: Layer sizes; the shipped ones when None.

    Returns:
        A float32 model with random weights (torch's global generator), and a tokenizer with the chat
        template.
    """
    size = size or ChatSize()
    tokenizer = fast_tokenizer(
        build_tokenizer(words, SPECIAL_TOKENS), pad_token="<|endoftext|>", eos_token="<|endoftext|>"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    stops = [
        tokenizer.convert_tokens_to_ids(token) for token in ("<|endoftext|>", "<|user|>", "<|observation|>")
    ]
    config = GlmConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.width,
        intermediate_size=size.inner_width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        head_dim=size.head_width,
        max_position_embeddings=4096,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        attention_bias=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=stops,
        dtype="float32",
    )
    return GlmForCausalLM(config), tokenizer
