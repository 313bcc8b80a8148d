"""What the two model families have in common: rows with token ids in, rows with generated token ids out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from pipeline.engines.base import Failure, Request


@dataclass(slots=True)
class Row:
    """A request made ready for the model.

    Attributes:
        request: Where it came from.
        ids: Token ids of the prompt for the language model, without image and padding.
        tokens_in: What the language model reads: ``ids`` and, for captions, the image's query tokens.
        qformer_ids: Token ids of the instruction for the Q-Former; empty for chat.
        pixels: float32 [3, height, width], normalised; None for chat and until the image is read.
    """

    request: Request
    ids: list[int]
    tokens_in: int
    qformer_ids: list[int]
    pixels: torch.Tensor | None = None


class Adapter(Protocol):
    """A loaded model of one family."""

    tokenizer: Any
    model: Any
    language: Any
    device: torch.device
    ends: set[int]
    needs_images: bool

    def encode(self, request: Request) -> Row | Failure:
        """Return the tokenised request, or why it cannot be generated."""
        ...

    def preprocess(self, image: Any) -> torch.Tensor:
        """Return the model's input for one RGB image: float32 [3, height, width]."""
        ...

    def generate(self, rows: Sequence[Row]) -> torch.Tensor:
        """Return the generated token ids of a batch: int64 [rows, steps], prompt and start token left out."""
        ...


def check_length(
    tokens: int, new: int, context: int | None, *, what: str = "the model's context"
) -> Failure | None:
    """Return the failure of a prompt that is longer, ``new`` tokens included, than ``context``; else None."""
    if context is None or tokens + new <= context:
        return None
    more = f" and {new} are to be generated" if new else ""
    return Failure(
        "prompt_too_long",
        True,
        f"the prompt has {tokens} tokens{more}, but {what} holds {context}; shorten the text or the template"
        + (", or lower max_new_tokens" if new else ""),
    )


def pad_left(rows: Sequence[list[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and attention mask, int64 [rows, longest] each, padded on the left (decoder-only models)."""
    longest = max(map(len, rows))
    ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    return ids, mask


def pad_right(rows: Sequence[list[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and attention mask, int64 [rows, longest] each, padded on the right (encoders)."""
    longest = max(map(len, rows))
    ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return ids, mask
