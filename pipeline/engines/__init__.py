"""Engines that turn requests into texts, loaded once per process.

``get_engine`` is the only door: it keeps one engine per model configuration, so a worker that writes many
shards loads its model once.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.engines.base import DoesNotFit, Engine, EngineDead, Failure, Request, Result, Sampling

if TYPE_CHECKING:
    from pipeline.config.models import ModelConfig

__all__ = [
    "Engine",
    "EngineDead",
    "Failure",
    "Load",
    "Request",
    "Result",
    "Sampling",
    "close_engines",
    "get_engine",
    "load_count",
    "take_loads",
]

# Read by huggingface_hub when it is first imported, which only the engines do.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Load:
    """A model that was loaded.

    Attributes:
        model: The model's configuration, as JSON.
        started: When, by ``time.monotonic``.
        seconds: How long it took.
    """

    model: str
    started: float
    seconds: float


_lock = threading.Lock()
_engines: dict[str, Engine] = {}
_loads = 0
_unpaid: list[Load] = []


def get_engine(config: ModelConfig) -> Engine:
    """Return this process's engine for ``config``, loading its model on the first call.

    Engines are kept by the whole model configuration; threads that ask for the same one wait for a single
    load.

    Raises:
        UsageError: the model folder is missing or incomplete, the hub id has no revision, the device or the
            engine is not there; the message holds the remedy.
    """
    global _loads
    from pipeline.engines.choice import resolve_engine

    config = resolve_engine(config)
    key = config.model_dump_json()
    with _lock:
        engine = _engines.get(key)
        if engine is None:
            started = time.monotonic()
            log.info("loading model %s (engine %s) ...", config.path or "without weights", config.engine)
            engine = _load(config)
            _loads += 1
            _unpaid.append(Load(key, started, time.monotonic() - started))
            log.info("model ready in %.1f s: %s", _unpaid[-1].seconds, engine)
            _engines[key] = engine
        return engine


def load_count() -> int:
    """Return how many engines this process has loaded so far, closed ones included."""
    return _loads


def take_loads(config: ModelConfig) -> list[Load]:
    """Return the loads of a model that no bill has counted yet; each is returned once."""
    from pipeline.engines.choice import resolve_engine

    key = resolve_engine(config).model_dump_json()
    with _lock:
        mine = [load for load in _unpaid if load.model == key]
        _unpaid[:] = [load for load in _unpaid if load.model != key]
    return mine


def close_engines() -> None:
    """Close every engine of this process and forget it; the next ``get_engine`` loads anew."""
    with _lock:
        _close_all()


def _load(config: ModelConfig) -> Engine:
    """Load a model; where it does not fit beside the others, close those and try once more."""
    try:
        return _build(config)
    except DoesNotFit:
        if not _engines:
            raise
    log.info("no room beside the %d models loaded before; closing them", len(_engines))
    _close_all()
    return _build(config)


def _close_all() -> None:
    """Close all engines, then raise what the first of them raised: no other one keeps its memory for it."""
    errors = []
    while _engines:
        try:
            _engines.popitem()[1].close()
        except BaseException as error:
            errors.append(error)
    for other in errors[1:]:
        log.warning("another model could not be closed either: %s: %s", type(other).__name__, other)
    if errors:
        raise errors[0]


def _build(config: ModelConfig) -> Engine:
    if config.engine == "echo":
        from pipeline.engines.echo import EchoEngine

        return EchoEngine(config)
    if config.engine == "transformers":
        from pipeline.engines.transformers import TransformersEngine

        return TransformersEngine(config)
    if config.engine == "vllm":
        from pipeline.engines.vllm import VllmEngine

        return VllmEngine(config)
    raise AssertionError(f"engine {config.engine!r} is no engine; resolve_engine chooses for auto")
