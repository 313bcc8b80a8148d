"""Chat models (the GLM family and any other decoder-only model with a chat template)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from pipeline.config.models import ModelConfig
from pipeline.engines.adapter import Row, check_length, pad_left
from pipeline.engines.base import Failure, Request
from pipeline.engines.chat_prompts import TemplatePrompts
from pipeline.engines.loading import clean_generation, load_model
from pipeline.engines.sampling import row_samplers


class ChatAdapter:
    """Answers one user message with the model's chat template."""

    needs_images = False

    def __init__(self, folder: Path, config: ModelConfig, device: torch.device) -> None:
        self.device = device
        self.generation = config.generation
        self.prompts = TemplatePrompts(folder, config)
        self.tokenizer = self.prompts.tokenizer
        self.model = load_model(transformers.AutoModelForCausalLM, folder, config, device)
        self.language = self.model
        self.ends = clean_generation(self.model, self.tokenizer, config.generation)
        self.context: int | None = getattr(self.model.config, "max_position_embeddings", None)

    def encode(self, request: Request) -> Row | Failure:
        """Return the row of a user message, put into the chat template."""
        ids = self.prompts.encode(request.prompt)
        too_long = check_length(len(ids), self.generation.max_new_tokens, self.context)
        return too_long or Row(request, ids, len(ids), [])

    def preprocess(self, image: Any) -> torch.Tensor:
        """Chat models take no image."""
        raise NotImplementedError("a chat model takes no image")

    @torch.inference_mode()
    def generate(self, rows: Sequence[Row]) -> torch.Tensor:
        """Return the generated token ids: int64 [rows, steps], on the CPU."""
        ids, mask = pad_left([row.ids for row in rows], self.model.generation_config.pad_token_id)
        requests = [row.request for row in rows]
        output = self.model.generate(
            input_ids=ids.to(self.device),
            attention_mask=mask.to(self.device),
            logits_processor=row_samplers(self.generation, requests, self.device),
        )
        return output[:, ids.shape[1] :].cpu()
