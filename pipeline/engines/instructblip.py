"""InstructBLIP on a decoder-only language model (Llama, Vicuna) or an encoder-decoder one (Flan-T5).

The image's query features are put in front of the instruction's embeddings here, as Dai et al. (2023,
arXiv:2305.06500, section 2) describe, instead of through a placeholder token. Placeholder ids differ between
the formats of transformers 4 and 5 (the older has none); the features in front are the same in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from pipeline.config.models import ModelConfig
from pipeline.engines.adapter import Row, check_length, pad_left, pad_right
from pipeline.engines.base import Failure, Request
from pipeline.engines.loading import clean_generation, load_model, load_part
from pipeline.engines.sampling import row_samplers
from pipeline.engines.start_token import corrected_start


class InstructBlipAdapter:
    """Writes one text per image and instruction."""

    needs_images = True

    def __init__(self, folder: Path, config: ModelConfig, device: torch.device) -> None:
        self.device = device
        self.generation = config.generation
        self.tokenizer = load_part(transformers.AutoTokenizer, folder, config, "the tokenizer")
        self.qformer_tokenizer = load_part(
            transformers.AutoTokenizer, folder / "qformer_tokenizer", config, "the Q-Former's tokenizer"
        )
        self.image_processor = load_part(
            transformers.AutoImageProcessor, folder, config, "the image processor"
        )
        self.model = load_model(transformers.InstructBlipForConditionalGeneration, folder, config, device)
        self.language = self.model.language_model
        self.decoder_only = not self.language.config.is_encoder_decoder
        self.ends = clean_generation(self.language, self.tokenizer, config.generation)
        self.start = corrected_start(self.tokenizer) if self.decoder_only else None
        self.queries: int = self.model.config.num_query_tokens
        text = self.language.config
        # T5 has relative positions and no hard limit; n_positions is the length it was trained with.
        self.context: int | None = getattr(
            text, "max_position_embeddings", getattr(text, "n_positions", None)
        )
        self.qformer_context: int = self.model.config.qformer_config.max_position_embeddings

    def encode(self, request: Request) -> Row | Failure:
        """Return the row of an instruction, tokenised for the language model and for the Q-Former."""
        ids = self.tokenizer(request.prompt)["input_ids"]
        if self.start is not None:
            ids[0] = self.start
        qformer_ids = self.qformer_tokenizer(request.prompt)["input_ids"]
        tokens = self.queries + len(ids)
        new = self.generation.max_new_tokens if self.decoder_only else 0
        too_long = check_length(tokens, new, self.context) or check_length(
            len(qformer_ids), 0, self.qformer_context, what="the Q-Former"
        )
        return too_long or Row(request, ids, tokens, qformer_ids)

    def preprocess(self, image: Any) -> torch.Tensor:
        """Return float32 [3, height, width]: an RGB image resized and normalised as the checkpoint says."""
        return self.image_processor(image, return_tensors="pt")["pixel_values"][0]

    @torch.inference_mode()
    def generate(self, rows: Sequence[Row]) -> torch.Tensor:
        """Return the generated token ids: int64 [rows, steps], on the CPU."""
        embeds, mask = self._inputs(rows)
        requests = [row.request for row in rows]
        output = self.language.generate(
            inputs_embeds=embeds,
            attention_mask=mask,
            logits_processor=row_samplers(self.generation, requests, self.device),
        ).cpu()
        # Given embeddings, a decoder-only model returns the new tokens alone; T5 puts its start token first.
        return output if self.decoder_only else output[:, 1:]

    def _inputs(self, rows: Sequence[Row]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return embeddings [rows, longest, width] and mask [rows, longest]: image first, then text."""
        pixels = torch.stack([row.pixels for row in rows if row.pixels is not None])
        qformer_ids, qformer_mask = pad_right(
            [row.qformer_ids for row in rows], self.qformer_tokenizer.pad_token_id or 0
        )
        features = self.model.get_image_features(
            pixels.to(self.device, self.model.vision_model.dtype),
            qformer_input_ids=qformer_ids.to(self.device),
            qformer_attention_mask=qformer_mask.to(self.device),
            return_dict=True,
        ).pooler_output
        pad = self.language.generation_config.pad_token_id
        padded = pad_left if self.decoder_only else pad_right
        ids, mask = padded([[pad] * self.queries + row.ids for row in rows], pad)
        embeds = self.language.get_input_embeddings()(ids.to(self.device)).clone()
        first = mask.argmax(1)  # where a row begins after its padding
        places = first[:, None] + torch.arange(self.queries)
        embeds[torch.arange(len(rows))[:, None], places] = features.to(embeds.device, embeds.dtype)
        return embeds, mask.to(self.device)
