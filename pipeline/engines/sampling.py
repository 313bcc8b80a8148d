"""Sampling in which a row's tokens do not depend on the rows it shares a batch with.

``transformers`` draws the tokens of a whole batch from one random state, so with it a text would depend on
the batch. Here every row owns a stream of uniform numbers that follows from (seed, key, attempt); each step
turns one of them into a token by inverting the row's cumulative distribution. What is left is float rounding,
as with greedy.
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
from pipeline.engines.base import Request, Sampling


def row_samplers(
    config: GenerationConfig, requests: Sequence[Request], device: torch.device
) -> LogitsProcessorList:
    """Return the processors that make greedy decoding pick sampled tokens; empty when no row is sampled.

    Args:
        config: Temperature, top_k, top_p, and ``max_new_tokens``, which bounds the streams.
        requests: The rows of the batch, in its order; a row's own ``sampling`` goes before ``config``.
        device: Where the scores live.
    """
    places: dict[Sampling | None, list[int]] = {}
    for place, request in enumerate(requests):
        places.setdefault(request.sampling, []).append(place)
    if len(places) == 1:
        return _processors(config, requests, device)
    parts = []
    for mine in places.values():
        processors = _processors(config, [requests[place] for place in mine], device)
        if processors:
            parts.append((torch.tensor(mine, device=device), processors))
    return LogitsProcessorList([_ByRow(parts)])


def _processors(
    config: GenerationConfig, requests: Sequence[Request], device: torch.device
) -> LogitsProcessorList:
    """Return the processors of rows that are all sampled in the same way."""
    processors = LogitsProcessorList()
    own = requests[0].sampling
    if own is None and not config.do_sample:
        return processors
    temperature, top_p = (config.temperature, config.top_p) if own is None else (own.temperature, own.top_p)
    if temperature != 1.0:
        processors.append(TemperatureLogitsWarper(temperature))
    if config.top_k:
        processors.append(TopKLogitsWarper(config.top_k))
    if top_p < 1.0:
        processors.append(TopPLogitsWarper(top_p))
    streams = np.stack([_uniforms(request, config.max_new_tokens) for request in requests])
    processors.append(_InverseSampler(torch.from_numpy(streams).to(device)))
    return processors


def row_seed(request: Request) -> int:
    """Return the number below 2**63 that seeds a row's random stream in an engine that draws itself."""
    return int.from_bytes(_digest(request)[:8], "big") >> 1


def _uniforms(request: Request, count: int) -> np.ndarray:
    digest = _digest(request)
    return np.random.default_rng(int.from_bytes(digest[:16], "big")).random(count, dtype=np.float32)


def _digest(request: Request) -> bytes:
    parts = [str(request.seed), request.key]
    if request.attempt:
        parts.append(str(request.attempt))
    return hashlib.sha256("\0".join(parts).encode()).digest()


class _ByRow(LogitsProcessor):
    """Applies to each group of a batch's rows the processors of that group."""

    def __init__(self, parts: Sequence[tuple[torch.Tensor, LogitsProcessorList]]) -> None:
        self.parts = parts  # (rows of the batch as int64 [rows], their processors)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Map scores [rows, vocabulary]; rows of no group stay as they are."""
        out = scores.clone()
        for rows, processors in self.parts:
            out[rows] = processors(input_ids[rows], scores[rows])
        return out


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
