"""The Q-Former that reads an instruction (Dai et al. 2023, arXiv:2305.06500, section 2.3).

vLLM has the Q-Former of BLIP-2, which reads the picture alone; its parts are used where they fit. What is
added: word and position embeddings for the instruction, self-attention over queries and instruction together
under a mask for padding, and a feed-forward part of its own for the instruction.

All of it is replicated on every rank of a tensor parallel group: its 190 M parameters are 2% of a 7 B model,
and its 12 heads would not divide by 8 ranks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from transformers import InstructBlipQFormerConfig
from vllm.model_executor.models.blip2 import (
    Blip2QFormerIntermediate,
    Blip2QFormerMultiHeadAttention,
    Blip2QFormerOutput,
    Blip2QFormerSelfOutput,
)


class QFormerHeads(Blip2QFormerMultiHeadAttention):
    """Multi-head attention with a mask, which BLIP-2's lacks."""

    def forward(self, hidden: torch.Tensor, source: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Return [rows, length, width].

        Args:
            hidden: What asks: [rows, length, width].
            source: What is read: [rows, places, source width].
            mask: True where a place may be read: bool [rows, 1, 1, places]; None when all may.
        """
        query, key, value = (
            self.transpose_for_scores(layer)
            for layer in (self.query(hidden), self.key(source), self.value(source))
        )
        read = nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, scale=self.scaling
        )
        return read.transpose(1, 2).flatten(2)


class QFormerAttention(nn.Module):
    """Attention, projection, residual and norm."""

    def __init__(self, config: InstructBlipQFormerConfig, *, across: bool = False) -> None:
        """Build the layers; ``across`` reads the vision tower's features instead of the own sequence."""
        super().__init__()
        self.attention = QFormerHeads(config, quant_config=None, cache_config=None, is_cross_attention=across)
        self.output = Blip2QFormerSelfOutput(config)

    def forward(self, hidden: torch.Tensor, source: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Return [rows, length, width]; the arguments are those of ``QFormerHeads``."""
        attended: torch.Tensor = self.output(self.attention(hidden, source, mask), hidden)
        return attended


class QFormerLayer(nn.Module):
    """Self-attention over queries and instruction, then each part its own way.

    The queries also read the picture, in every ``cross_attention_frequency``-th layer.
    """

    def __init__(self, config: InstructBlipQFormerConfig, index: int) -> None:
        super().__init__()
        self.attention = QFormerAttention(config)
        self.crossattention: QFormerAttention | None = None
        if index % config.cross_attention_frequency == 0:
            self.crossattention = QFormerAttention(config, across=True)
        self.intermediate = Blip2QFormerIntermediate(config)
        self.output = Blip2QFormerOutput(config)
        self.intermediate_query = Blip2QFormerIntermediate(config)
        self.output_query = Blip2QFormerOutput(config)

    def forward(
        self, hidden: torch.Tensor, mask: torch.Tensor, image: torch.Tensor, queries: int
    ) -> torch.Tensor:
        """Return [rows, queries + longest, width].

        Args:
            hidden: Queries, then instruction: [rows, queries + longest, width].
            mask: bool [rows, 1, 1, queries + longest].
            image: The vision tower's features: [rows, patches + 1, vision width].
            queries: How many places in front are queries.
        """
        hidden = self.attention(hidden, hidden, mask)
        asked, said = hidden[:, :queries], hidden[:, queries:]
        if self.crossattention is not None:
            asked = self.crossattention(asked, image, None)
        asked = self.output_query(self.intermediate_query(asked), asked)
        said = self.output(self.intermediate(said), said)
        return torch.cat([asked, said], dim=1)


class QFormerEmbeddings(nn.Module):
    """Queries as they are, words with their positions, one norm over both."""

    def __init__(self, config: InstructBlipQFormerConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, ids: torch.Tensor, query_tokens: torch.Tensor) -> torch.Tensor:
        """Return [rows, queries + longest, width] of ids [rows, longest] and queries [1, queries, width]."""
        places = torch.arange(ids.shape[1], device=ids.device)
        words = self.word_embeddings(ids) + self.position_embeddings(places)
        queries = query_tokens.expand(len(ids), -1, -1)
        embedded: torch.Tensor = self.layernorm(torch.cat([queries, words], dim=1))
        return embedded


class QFormerLayers(nn.Module):
    """The layers under the name that checkpoints give them."""

    def __init__(self, config: InstructBlipQFormerConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(QFormerLayer(config, index) for index in range(config.num_hidden_layers))


class QFormer(nn.Module):
    """Reads a picture with an instruction in mind, into a fixed number of features."""

    def __init__(self, config: InstructBlipQFormerConfig) -> None:
        super().__init__()
        self.embeddings = QFormerEmbeddings(config)
        self.encoder = QFormerLayers(config)

    def forward(
        self, ids: torch.Tensor, mask: torch.Tensor, query_tokens: torch.Tensor, image: torch.Tensor
    ) -> torch.Tensor:
        """Return the features of the queries: [rows, queries, width].

        Args:
            ids: Instructions, padded on the right: int64 [rows, longest].
            mask: 1 for a token, 0 for padding: int64 [rows, longest].
            query_tokens: The learned queries: [1, queries, width].
            image: The vision tower's features: [rows, patches + 1, vision width].
        """
        queries = query_tokens.shape[1]
        hidden = self.embeddings(ids, query_tokens)
        readable = nn.functional.pad(mask.bool(), (queries, 0), value=True)[:, None, None, :]
        for layer in self.encoder.layer:
            hidden = layer(hidden, readable, image, queries)
        return hidden[:, :queries]


def padded(rows: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
    """Return rows of differing lengths as one tensor [rows, longest], filled up with 0 on the right.

    vLLM stacks a batch's rows itself where their lengths are equal.
    """
    if isinstance(rows, torch.Tensor):
        return rows
    return nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
