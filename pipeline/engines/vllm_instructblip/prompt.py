"""What vLLM's engine is given for one caption: token ids, the picture, the instruction for the Q-Former.

For the engine around vLLM::

    prompts = CaptionPrompts(folder)                  # once per model
    ids, tokens_in = prompts.encode(prompt)           # tokens_in counts the image's query tokens
    too_long = prompts.refusal(prompt, max_new_tokens)
    engine.add_request(key, caption_request(prompts, prompt, image), sampling)

Nothing here imports vLLM.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import transformers

from pipeline.engines.adapter import check_length
from pipeline.engines.base import Failure
from pipeline.engines.start_token import corrected_start
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from PIL import Image

# The key in mm_processor_kwargs under which the instruction reaches the Q-Former. vLLM shows a multimodal
# processor the picture and these arguments, never the prompt, and makes both part of its cache's key.
QFORMER_TEXT = "qformer_text"


class CaptionPrompts:
    """Turns instructions into the token ids that the transformers engine would feed.

    Attributes:
        queries: Tokens that a picture takes in the language model's context.
        context: Tokens the language model's context holds, query tokens included; None without a limit.
        qformer_context: Tokens of an instruction that the Q-Former can read.
        vocabulary: Rows of the language model's embedding table.
    """

    def __init__(self, folder: Path) -> None:
        """Read the tokenizers and the configuration of a checked checkpoint folder.

        Raises:
            UsageError: a part cannot be loaded, or the language model is an encoder-decoder (Flan-T5).
        """
        config = _load(transformers.AutoConfig, folder, "the configuration")
        reason = unsupported(config)
        if reason is not None:
            raise UsageError(f"model folder {folder}: {reason}")
        self.tokenizer = _load(transformers.AutoTokenizer, folder, "the tokenizer")
        self.qformer_tokenizer = _load(
            transformers.AutoTokenizer, folder / "qformer_tokenizer", "the Q-Former's tokenizer"
        )
        self.queries: int = config.num_query_tokens
        self.context: int | None = getattr(config.text_config, "max_position_embeddings", None)
        self.qformer_context: int = config.qformer_config.max_position_embeddings
        self.vocabulary: int = config.text_config.vocab_size
        self._start = corrected_start(self.tokenizer)
        # A run has one instruction, or one per row; either way this is small.
        self._encoded = lru_cache(maxsize=1024)(self._encode)
        self.qformer_tokens = lru_cache(maxsize=1024)(self._qformer_tokens)

    def encode(self, prompt: str) -> tuple[list[int], int]:
        """Return the instruction's token ids for the language model, and all tokens it will read.

        The ids are without the picture; the second number counts its query tokens as well.

        Raises:
            ValueError: a token has no row in the embedding table (tokenizer and weights do not belong
                together); looked up, it would take vLLM's engine down with all its other requests.
        """
        ids = self._encoded(prompt)
        if max(ids, default=0) >= self.vocabulary:
            raise ValueError(
                f"the prompt's token {self.tokenizer.convert_ids_to_tokens(max(ids))!r} has id {max(ids)}, "
                f"but the language model knows ids below {self.vocabulary} only; take that text out of the "
                f"prompt, or the tokenizer that the weights were trained with"
            )
        return list(ids), self.queries + len(ids)

    def refusal(self, prompt: str, max_new_tokens: int) -> Failure | None:
        """Return why ``prompt`` is too long, in the transformers engine's words; None when it is not."""
        return check_length(self.encode(prompt)[1], max_new_tokens, self.context) or check_length(
            self.qformer_tokens(prompt), 0, self.qformer_context, what="the Q-Former"
        )

    def _encode(self, prompt: str) -> tuple[int, ...]:
        ids: list[int] = self.tokenizer(prompt)["input_ids"]
        if self._start is not None:
            ids[0] = self._start
        return tuple(ids)

    def _qformer_tokens(self, prompt: str) -> int:
        return len(self.qformer_tokenizer(prompt)["input_ids"])


def caption_request(adapter: CaptionPrompts, prompt: str, image: Image.Image) -> dict[str, Any]:
    """Return the prompt that ``LLM.generate`` and ``LLMEngine.add_request`` take for one caption.

    The token ids are the instruction's alone: vLLM puts the picture's placeholders in front of them.

    Args:
        adapter: The model's prompts.
        prompt: The instruction, already rendered.
        image: An RGB picture of any size.
    """
    return {
        "prompt_token_ids": adapter.encode(prompt)[0],
        "multi_modal_data": {"image": image},
        "mm_processor_kwargs": {QFORMER_TEXT: prompt},
    }


def unsupported(config: Any) -> str | None:
    """Return why vLLM cannot run an InstructBLIP of this configuration, with the remedy; None if it can.

    Args:
        config: A ``transformers.InstructBlipConfig``.
    """
    text = config.text_config
    if config.use_decoder_only_language_model and not text.is_encoder_decoder:
        return None
    return (
        f"this InstructBLIP's language model is of type {text.model_type}, an encoder-decoder, and vLLM runs "
        f"decoder-only ones (Vicuna, Llama) here; use engine: transformers for it, or "
        f"Salesforce/instructblip-vicuna-7b"
    )


def _load(kind: Any, folder: Path, what: str) -> Any:
    try:
        return kind.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # tokenizers raise bare Exception on damaged files
        raise UsageError(f"{what} in {folder} cannot be loaded: {type(error).__name__}: {error}") from error
