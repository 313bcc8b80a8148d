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
from pipeline.engines.loading import clean_generation, load_model, load_part
from pipeline.engines.sampling import row_samplers
from pipeline.errors import UsageError

_MARK = "CONTENT0GOES0HERE"


class ChatAdapter:
    """Answers one user message with the model's chat template."""

    needs_images = False

    def __init__(self, folder: Path, config: ModelConfig, device: torch.device) -> None:
        self.device = device
        self.generation = config.generation
        self.tokenizer = load_part(transformers.AutoTokenizer, folder, config, "the tokenizer")
        if not self.tokenizer.chat_template:
            raise UsageError(
                f"model folder {folder} has no chat template (chat_template.jinja, or chat_template in "
                f"tokenizer_config.json); use a chat model, not a base model"
            )
        self.model = load_model(transformers.AutoModelForCausalLM, folder, config, device)
        self.language = self.model
        self.ends = clean_generation(self.model, self.tokenizer, config.generation)
        self.context: int | None = getattr(self.model.config, "max_position_embeddings", None)
        before, mark, after = self._templated(_MARK).partition(_MARK)
        if not mark:
            raise UsageError(f"the chat template in {folder} drops the user's message; use another model")
        self._before, self._after = self._ids(before), self._ids(after)
        added = self.tokenizer.added_tokens_decoder.values()
        self._special = [str(token) for token in added if token.special]

    def encode(self, request: Request) -> Row | Failure:
        """Return the row of a user message, put into the chat template.

        A news text that happens to contain a control token of the template, such as ``<|user|>``, is read as
        the characters it consists of; it cannot end the message.
        """
        if any(token in request.prompt for token in self._special):
            content = self._ids(request.prompt, split_special_tokens=True)
            ids = self._before + content + self._after
        else:
            ids = self._ids(self._templated(request.prompt))
        too_long = check_length(len(ids), self.generation.max_new_tokens, self.context)
        return too_long or Row(request, ids, len(ids), [])

    def preprocess(self, image: Any) -> torch.Tensor:
        """Chat models take no image."""
        raise NotImplementedError("a chat model takes no image")

    @torch.inference_mode()
    def generate(self, rows: Sequence[Row]) -> torch.Tensor:
        """Return the generated token ids: int64 [rows, steps], on the CPU."""
        ids, mask = pad_left([row.ids for row in rows], self.model.generation_config.pad_token_id)
        seeds = [(row.request.seed, row.request.key) for row in rows]
        output = self.model.generate(
            input_ids=ids.to(self.device),
            attention_mask=mask.to(self.device),
            logits_processor=row_samplers(self.generation, seeds, self.device),
        )
        return output[:, ids.shape[1] :].cpu()

    def _templated(self, content: str) -> str:
        message = [{"role": "user", "content": content}]
        return self.tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False)

    def _ids(self, text: str, **options: Any) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, **options)["input_ids"]
