"""Pictures and instructions into tensors, a picture's placeholders into the prompt, as vLLM asks for it.

What ``transformers.InstructBlipProcessor`` gives is given here by the checkpoint's image processor and
Q-Former tokenizer themselves. The class as a whole is not used: made for a checkpoint of transformers 4, it
adds an ``<image>`` token to the tokenizer that the weights know nothing of.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, BatchFeature, InstructBlipConfig
from vllm.config.multimodal import MultiModalDummyOptions
from vllm.inputs import MultiModalDataDict
from vllm.multimodal.inputs import MultiModalFieldConfig, MultiModalKwargsItems
from vllm.multimodal.parse import MultiModalDataItems
from vllm.multimodal.processing import (
    BaseDummyInputsBuilder,
    BaseMultiModalProcessor,
    BaseProcessingInfo,
    ProcessorInputs,
    PromptIndexTargets,
    PromptInsertion,
    PromptUpdate,
)
from vllm.transformers_utils.processor import cached_image_processor_from_config

from pipeline.engines.vllm_instructblip.prompt import QFORMER_TEXT, unsupported


class InstructBlipProcessingInfo(BaseProcessingInfo):
    """What vLLM's input processing has to know about a checkpoint."""

    def get_hf_config(self) -> InstructBlipConfig:
        """Return the checkpoint's configuration.

        Raises:
            ValueError: the language model is an encoder-decoder; the message names the engine to use.
        """
        config = self.ctx.get_hf_config(InstructBlipConfig)
        reason = unsupported(config)
        if reason is not None:
            raise ValueError(reason)
        return config

    def get_supported_mm_limits(self) -> Mapping[str, int | None]:
        """Return that a prompt has one picture: the model was trained with one."""
        return {"image": 1}

    def get_mm_max_tokens_per_item(self, seq_len: int, mm_counts: Mapping[str, int]) -> Mapping[str, int]:
        """Return the placeholders of a picture; its size does not matter."""
        return {"image": self.get_hf_config().num_query_tokens}

    @cached_property
    def placeholder(self) -> int:
        """The token id that holds a picture's places in the prompt.

        vLLM keeps the places as positions, so the id is never looked up in its own right and may also occur
        in a text. It has to be one that the embedding table holds, since vLLM refuses others: the image token
        where the checkpoint has one (transformers 5), else the padding (transformers 4).
        """
        config = self.get_hf_config()
        text = config.text_config
        for candidate in (config.image_token_index, text.pad_token_id):
            if candidate is not None and 0 <= candidate < text.vocab_size:
                return int(candidate)
        return 0

    @cached_property
    def image_processor(self) -> Any:
        """The checkpoint's image processor, as the transformers engine loads it."""
        return cached_image_processor_from_config(self.ctx.model_config)

    @cached_property
    def qformer_tokenizer(self) -> Any:
        """The checkpoint's tokenizer of the Q-Former: a folder inside the checkpoint."""
        model = self.ctx.model_config
        # As the transformers engine opens it; only a hub id needs the detour.
        local = Path(model.model) / "qformer_tokenizer"
        if local.is_dir():
            return AutoTokenizer.from_pretrained(local)
        return AutoTokenizer.from_pretrained(
            model.model, subfolder="qformer_tokenizer", revision=model.revision
        )

    @cached_property
    def _tokenised(self) -> Callable[[str], torch.Tensor]:
        # Prompts may be prepared in several threads, and tokenizers hold state while they encode. Most runs
        # have one instruction for all pictures.
        lock = threading.Lock()

        @lru_cache(maxsize=1024)
        def tokenise(text: str) -> torch.Tensor:
            with lock:
                ids: torch.Tensor = self.qformer_tokenizer(text, return_tensors="pt")["input_ids"][0]
            return ids

        return tokenise

    def instruction_ids(self, text: object) -> torch.Tensor:
        """Return an instruction's token ids for the Q-Former: int64 [length], neither padded nor cut.

        Raises:
            ValueError: there is no instruction, or it is longer than the Q-Former can read. Unchecked, its
                positions would index beyond a table and take the engine down with all its requests.
        """
        if not isinstance(text, str):
            raise ValueError(
                f"InstructBLIP reads the instruction in its Q-Former as well: give every prompt "
                f'mm_processor_kwargs={{"{QFORMER_TEXT}": <the instruction>}}, got {text!r}'
            )
        ids = self._tokenised(text)
        limit = self.get_hf_config().qformer_config.max_position_embeddings
        if len(ids) > limit:
            raise ValueError(
                f"the instruction has {len(ids)} tokens, but the Q-Former holds {limit}; shorten it"
            )
        return ids


class InstructBlipDummyInputs(BaseDummyInputsBuilder[InstructBlipProcessingInfo]):
    """The largest input there is, for vLLM's measurement of memory before it starts."""

    def get_dummy_text(self, mm_counts: Mapping[str, int]) -> str:
        """Return no text: the placeholders come without one."""
        return ""

    def get_dummy_mm_data(
        self, seq_len: int, mm_counts: Mapping[str, int], mm_options: MultiModalDummyOptions
    ) -> MultiModalDataDict:
        """Return pictures of the size that all pictures are resized to."""
        size = self.info.get_hf_config().vision_config.image_size
        images = self._get_dummy_images(
            width=size, height=size, num_images=mm_counts.get("image", 0), overrides=mm_options.get("image")
        )
        return {"image": images}

    def longest_instruction(self) -> str:
        """Return an instruction that fills the Q-Former's context: one word piece per letter."""
        specials = self.info.qformer_tokenizer.num_special_tokens_to_add()
        return " ".join("a" * (self.info.get_hf_config().qformer_config.max_position_embeddings - specials))


class InstructBlipMultiModalProcessor(BaseMultiModalProcessor[InstructBlipProcessingInfo]):
    """One picture and its instruction into the model's keyword arguments.

    The instruction is found in the prompt's ``mm_processor_kwargs``. vLLM's processor cache and encoder cache
    have these arguments in their keys, so one picture with two instructions is two entries.
    """

    dummy_inputs: InstructBlipDummyInputs
    requires_tokenizer = False

    def get_dummy_inputs(
        self, seq_len: int, mm_counts: Mapping[str, int], mm_options: MultiModalDummyOptions
    ) -> ProcessorInputs:
        """Return the dummy pictures together with a dummy instruction."""
        inputs = super().get_dummy_inputs(seq_len, mm_counts, mm_options)
        return replace(inputs, hf_processor_mm_kwargs={QFORMER_TEXT: self.dummy_inputs.longest_instruction()})

    def _call_hf_processor(
        self, hf_data: Mapping[str, object], hf_kwargs: Mapping[str, object]
    ) -> BatchFeature:
        ids = self.info.instruction_ids(hf_kwargs.get(QFORMER_TEXT))

        def process(images: Any, return_tensors: str) -> BatchFeature:
            pixels = self.info.image_processor(images, return_tensors=return_tensors)["pixel_values"]
            return BatchFeature(
                {
                    "pixel_values": pixels,
                    "qformer_input_ids": ids.expand(len(pixels), -1),
                    "qformer_attention_mask": torch.ones_like(ids).expand(len(pixels), -1),
                }
            )

        # Through vLLM's own door, which casts to the model's dtype.
        return self.info.ctx.call_hf_processor(process, hf_data)

    def _get_mm_fields_config(
        self, hf_inputs: BatchFeature, hf_processor_mm_kwargs: Mapping[str, object]
    ) -> Mapping[str, MultiModalFieldConfig]:
        return {
            name: MultiModalFieldConfig.batched("image")
            for name in ("pixel_values", "qformer_input_ids", "qformer_attention_mask")
        }

    def _get_prompt_updates(
        self,
        mm_items: MultiModalDataItems,
        hf_processor_mm_kwargs: Mapping[str, object],
        out_mm_kwargs: MultiModalKwargsItems,
    ) -> Sequence[PromptUpdate]:
        # The picture comes before the start token too, as in training.
        places = [self.info.placeholder] * self.info.get_hf_config().num_query_tokens
        return [PromptInsertion("image", PromptIndexTargets.start(), places)]
