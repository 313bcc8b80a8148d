"""Sampling in which a row's tokens do not depend on the rows it shares a batch with.

``transformers`` draws the tokens of a whole batch from one random state, so with it a text would depend on
the batch. Here every row owns a stream of uniform numbers that follows from (seed, key); each step turns one
of them into a token by inverting the row's cumulative distribution. What is left is float rounding, as with
greedy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from pipeline.config.models import GenerationConfig


def row_samplers(
    config: GenerationConfig, rows: Sequence[tuple[int, str]], device: torch.device
) -> LogitsProcessorList:
    """Return the processors that make greedy decoding pick sampled tokens; empty when ``do_sample`` is off.

    Args:
        config: Temperature, top_k, top_p, and ``max_new_tokens``, which bounds the streams.
        rows: (seed, key) per row of the batch, in the batch's order.
        device: Where the scores live.
    """
    processors = LogitsProcessorList()
    if not config.do_sample:
        return processors
    if config.temperature != 1.0:
        processors.append(TemperatureLogitsWarper(config.temperature))
    if config.top_k:
        processors.append(TopKLogitsWarper(config.top_k))
    if config.top_p < 1.0:
        processors.append(TopPLogitsWarper(config.top_p))
    streams = np.stack([_uniforms(seed, key, config.max_new_tokens) for seed, key in rows])
    processors.append(_InverseSampler(torch.from_numpy(streams).to(device)))
    return processors


def row_seed(seed: int, key: str) -> int:
    """Return the number below 2**63 that seeds a row's random stream in an engine that draws itself."""
    return int.from_bytes(_digest(seed, key)[:8], "big") >> 1


def _uniforms(seed: int, key: str, count: int) -> np.ndarray:
    digest = _digest(seed, key)
    return np.random.default_rng(int.from_bytes(digest[:16], "big")).random(count, dtype=np.float32)


def _digest(seed: int, key: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{key}".encode()).digest()


class _InverseSampler(LogitsProcessor):
    """Leaves, in each row, only the token at the row's next uniform number in the cumulative distribution."""

    def __init__(self, streams: torch.Tensor) -> None:
        self.streams = streams  # float32 [rows, max_new_tokens] in [0, 1)
        self.step = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Map scores [rows, vocabulary] to zeros at one token per row and -inf elsewhere."""
        reached = scores.float().softmax(-1).cumsum(-1)
        # Scaled by the sum, which rounding leaves near 1; side right, so that no token of probability 0 is
        # hit.
        target = self.streams[:, self.step : self.step + 1] * reached[:, -1:]
        chosen = torch.searchsorted(reached, target, right=True).clamp_(max=scores.shape[-1] - 1)
        self.step += 1
        return torch.full_like(scores, -torch.inf).scatter_(1, chosen, 0.0)
