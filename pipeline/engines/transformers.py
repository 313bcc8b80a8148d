"""The engine that runs checkpoints with Hugging Face transformers, in batches, on one device."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch

from pipeline.config.models import ModelConfig
from pipeline.engines.adapter import Adapter, Row
from pipeline.engines.base import EngineDead, Failure, Request, Result, one_result_each
from pipeline.engines.batching import BatchSize, Trouble, run_batches
from pipeline.engines.chat import ChatAdapter
from pipeline.engines.checkpoint import checkpoint_folder
from pipeline.engines.images import load_pixels, read_ahead
from pipeline.engines.instructblip import InstructBlipAdapter
from pipeline.engines.loading import is_out_of_memory, pick_device
from pipeline.stopwatch import Stopwatch

log = logging.getLogger(__name__)


class TransformersEngine:
    """Generates texts with a model of ``transformers``; safe to share between threads.

    Rows are sorted by prompt length, longest first, so that batches hold little padding and the largest comes
    first. A row's text depends on its batch by float rounding only.
    """

    def __init__(self, config: ModelConfig) -> None:
        folder = checkpoint_folder(config)
        device = pick_device(config.device)
        family = InstructBlipAdapter if config.kind == "instructblip" else ChatAdapter
        self.config = config
        self.adapter: Adapter = family(folder, config, device)
        self.size = BatchSize(config.batch_size)
        self._waited = Stopwatch()
        self._lock = threading.Lock()

    def __str__(self) -> str:
        name, dtype = type(self.adapter.model).__name__, str(self.adapter.language.dtype)
        return f"{name} on {self.adapter.device}, {dtype.removeprefix('torch.')}"

    @property
    def waited_s(self) -> float:
        """Seconds in which the model had nothing to do because no picture was read yet."""
        return self._waited.seconds

    def generate(self, requests: Sequence[Request]) -> Iterator[Result]:
        """Yield one result per request, as batches are done.

        Raises:
            EngineDead: the device does not answer any more.
        """
        return one_result_each(requests, self._generate(requests))

    def close(self) -> None:
        """Give the model's memory back."""
        with self._lock:
            del self.adapter
            gc.collect()
            _empty_cache()

    def _generate(self, requests: Sequence[Request]) -> Iterator[Result]:
        rows = []
        for request in requests:
            row = self._encode(request)
            if isinstance(row, Failure):
                yield Result.failed(request.key, row)
            else:
                rows.append(row)
        rows.sort(key=lambda row: -len(row.ids))
        failed: list[Result] = []
        batches = run_batches(
            self._with_images(rows, failed), self.size, self._run, self._judge, _empty_cache
        )
        for row, ids, trouble, why in batches:
            yield from _drain(failed)
            row.pixels = None  # all rows of a call stay referenced until it ends
            if ids is not None:
                yield self._result(row, ids)
            else:
                yield Result.failed(row.request.key, _row_failure(row, trouble, why), row.tokens_in)
        yield from _drain(failed)

    def _encode(self, request: Request) -> Row | Failure:
        if not request.prompt.strip():
            return Failure("empty_prompt", True, f"the prompt of {request.key!r} has no text")
        try:
            # Tokenizers hold state while they encode, so threads take turns here too.
            with self._lock:
                return self.adapter.encode(request)
        except Exception as error:  # one odd text must not end the run
            return Failure("engine_error", True, f"tokenising failed: {type(error).__name__}: {error}")

    def _with_images(self, rows: list[Row], failed: list[Result]) -> Iterator[Row]:
        """Yield the rows whose image can be read; put the results of the others in ``failed``."""
        if not self.adapter.needs_images:
            yield from rows
            return
        load = partial(_load, preprocess=self.adapter.preprocess)
        threads = self.config.decode_threads
        window = max(2 * self.config.batch_size, threads + 1)
        for row, pixels in read_ahead(rows, load, threads, window, self._waited):
            if isinstance(pixels, Failure):
                failed.append(Result.failed(row.request.key, pixels, row.tokens_in))
            else:
                row.pixels = pixels
                yield row

    def _run(self, rows: Sequence[Row]) -> list[list[int]]:
        with self._lock:
            return self.adapter.generate(rows).tolist()

    def _result(self, row: Row, ids: list[int]) -> Result:
        end = next((place for place, token in enumerate(ids) if token in self.adapter.ends), None)
        kept = ids if end is None else ids[:end]
        text = self.adapter.tokenizer.decode(kept, skip_special_tokens=True).strip()
        reason = "length" if end is None else "stop"
        return Result(row.request.key, text, reason, row.tokens_in, len(kept))

    def _judge(self, error: Exception) -> Trouble:
        if is_out_of_memory(error):
            return "out_of_memory"
        if not answers(self.adapter.device):
            raise EngineDead(
                f"the device {self.adapter.device} stopped answering ({type(error).__name__}: {error}). "
                f"Nothing is lost: run the same command again to go on from the last finished shard"
            ) from error
        return "engine_error"


def answers(device: torch.device) -> bool:
    """Return whether a device still computes; after some CUDA errors every further call fails."""
    try:
        return torch.ones(1, device=device).sum().item() == 1.0
    except Exception as error:
        log.warning("%s does not answer: %s: %s", device, type(error).__name__, error)
        return False


def _load(row: Row, preprocess: Any) -> Any:
    return load_pixels(row.request, preprocess)


def _row_failure(row: Row, trouble: Trouble | None, why: str) -> Failure:
    if trouble == "out_of_memory":
        message = f"a prompt of {row.tokens_in} tokens alone did not fit the device: {why}"
        return Failure("out_of_memory", False, f"{message}. Use a larger device or a smaller dtype")
    return Failure("engine_error", False, why)


def _drain(results: list[Result]) -> Iterator[Result]:
    while results:
        yield results.pop()


def _empty_cache() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
