"""The model: vision tower, Q-Former, projection, language model.

vLLM's own parts are the vision tower of the BLIP family and the language model (any that vLLM knows by the
checkpoint's text configuration: Llama for Vicuna), which bring tensor parallelism, quantisation and, for the
language model, pipeline parallelism with them. Replicated on every rank are the Q-Former, its queries and the
projection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from vllm.config import VllmConfig
from vllm.model_executor.models.blip import BlipVisionModel
from vllm.model_executor.models.interfaces import (
    MultiModalEmbeddings,
    SupportsMultiModal,
    SupportsPP,
    SupportsQuant,
)
from vllm.model_executor.models.utils import init_vllm_registered_model, maybe_prefix
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.sequence import IntermediateTensors

from pipeline.engines.vllm_instructblip.processing import (
    InstructBlipDummyInputs,
    InstructBlipMultiModalProcessor,
    InstructBlipProcessingInfo,
)
from pipeline.engines.vllm_instructblip.prompt import unsupported
from pipeline.engines.vllm_instructblip.qformer import QFormer, padded
from pipeline.engines.vllm_instructblip.weights import load_checkpoint


@MULTIMODAL_REGISTRY.register_processor(
    InstructBlipMultiModalProcessor,
    info=InstructBlipProcessingInfo,
    dummy_inputs=InstructBlipDummyInputs,
)
class InstructBlipForConditionalGeneration(nn.Module, SupportsMultiModal, SupportsPP, SupportsQuant):
    """Writes a text about a picture, following an instruction."""

    # vLLM's, which the type checker does not follow.
    _mark_tower_model: Callable[..., AbstractContextManager[None]]
    _mark_language_model: Callable[..., AbstractContextManager[None]]

    @classmethod
    def get_placeholder_str(cls, modality: str, i: int) -> str | None:
        """Return None: a picture has no sign of its own in the prompt's text, it always comes first."""
        if modality == "image":
            return None
        raise ValueError(f"InstructBLIP reads images only, not {modality}")

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        """Build the parts for this rank, without weights.

        Raises:
            ValueError: the language model is an encoder-decoder; the message names the engine to use.
        """
        super().__init__()
        config = vllm_config.model_config.hf_config
        reason = unsupported(config)
        if reason is not None:
            raise ValueError(reason)
        self.config = config
        width = config.qformer_config.hidden_size
        with self._mark_tower_model(vllm_config, "image"):
            self.vision_model = BlipVisionModel(
                config.vision_config, vllm_config.quant_config, prefix=maybe_prefix(prefix, "vision_model")
            )
            self.qformer = QFormer(config.qformer_config)
            self.language_projection = nn.Linear(width, config.text_config.hidden_size)
        self.query_tokens = nn.Parameter(torch.zeros(1, config.num_query_tokens, width))
        with self._mark_language_model(vllm_config):
            self.language_model = init_vllm_registered_model(
                vllm_config,
                prefix=maybe_prefix(prefix, "language_model"),
                hf_config=config.text_config,
                architectures=_architectures(config.text_config),
            )
        self.make_empty_intermediate_tensors = self.language_model.make_empty_intermediate_tensors

    def embed_multimodal(self, **kwargs: Any) -> MultiModalEmbeddings:
        """Return the pictures' features for the language model: [pictures, queries, text width].

        Args:
            **kwargs: What the processor made of each picture, batched by vLLM: ``pixel_values`` [pictures, 3,
                height, width]; ``qformer_input_ids`` and ``qformer_attention_mask``, int64 [pictures,
                length], or a list of [length] where instructions differ in length.
        """
        pixels = kwargs.get("pixel_values")
        if pixels is None:
            return []
        features = self.qformer(
            padded(kwargs["qformer_input_ids"]),
            padded(kwargs["qformer_attention_mask"]),
            self.query_tokens,
            self.vision_model(pixels),
        )
        projected: torch.Tensor = self.language_projection(features)
        return projected

    def forward(
        self,
        input_ids: torch.Tensor | None,
        positions: torch.Tensor,
        intermediate_tensors: IntermediateTensors | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs: object,
    ) -> torch.Tensor | IntermediateTensors:
        """Return hidden states [tokens, text width] of all requests' tokens in a row.

        vLLM has put the features of ``embed_multimodal`` into ``inputs_embeds`` at the placeholders.
        """
        if intermediate_tensors is not None:  # a later pipeline rank goes on from these
            inputs_embeds = None
        hidden: torch.Tensor | IntermediateTensors = self.language_model(
            input_ids, positions, intermediate_tensors, inputs_embeds=inputs_embeds
        )
        return hidden

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor | None:
        """Return the language model's logits [tokens, vocabulary]; None on ranks that have none."""
        logits: torch.Tensor | None = self.language_model.compute_logits(hidden_states)
        return logits

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """Load a checkpoint's tensors; return the names of the parameters that were set.

        Raises:
            ValueError: a tensor is missing or unexpected; the message names it.
        """
        return load_checkpoint(self, weights)


def _architectures(text: Any) -> list[str]:
    """Return the language model's class name, which not every version of transformers writes down."""
    return text.architectures or [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[text.model_type]]
