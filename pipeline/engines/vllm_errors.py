"""What vLLM says when it does not start, turned into one message with the remedy in this project's words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pipeline.config.models import ModelConfig
from pipeline.engines.base import DoesNotFit
from pipeline.errors import UsageError

_ERROR_LINE = re.compile(r"(?:^|[\s\](])((?:[A-Za-z_.]*(?:Error|Exception)): .+)$")

_LONGEST = 400

# The cause is one of the texts that vLLM's own code raises; the first that fits decides.
_NO_ROOM = (
    "less than desired GPU memory utilization",
    "out of memory",
    "can't allocate memory",
    "less than requested memory for kv",
)
_CACHE_TOO_SMALL = (
    "No available memory for the cache blocks",
    "larger than the available KV cache memory",
    "Cannot auto-fit max_model_len",
)
_UNKNOWN_MODEL = ("are not supported for now", "is not supported by vLLM", "Transformers does not recognize")
_TOO_LONG = ("greater than the derived max_model_len",)
_PARTS = ("divisible by tensor parallel size", "is not divisible by", "Not enough allowed NUMA nodes")
_QUANTIZATION = ("quantization",)


def start_error(message: str, log: Sequence[str], config: ModelConfig, folder: Path) -> UsageError:
    """Return the error of a start that failed.

    Args:
        message: What the process sent, or why it sent nothing.
        log: Its last lines; with tensor parallel the cause stands only there, as a worker's error.
        config: The model's configuration.
        folder: The checkpoint folder.
    """
    text = "\n".join([message, *log])
    cause = root_cause(message, log)
    options, head = config.vllm, f"vLLM cannot serve {folder}: {cause}. "
    if _says(text, _CACHE_TOO_SMALL):
        room = (
            f"raise vllm.kv_cache_gib ({options.kv_cache_gib:g})"
            if options.kv_cache_gib is not None
            else "set vllm.kv_cache_gib (1 on a CPU), or on a GPU raise vllm.gpu_memory_utilization "
            f"({options.gpu_memory_utilization:g})"
        )
        return UsageError(f"{head}The attention cache is too small: {room}, or lower vllm.max_model_len")
    if _says(text, _NO_ROOM):
        return DoesNotFit(
            f"{head}Free the device, lower vllm.gpu_memory_utilization ({options.gpu_memory_utilization:g}) "
            f"or vllm.kv_cache_gib, or use dtype: bfloat16, vllm.tensor_parallel_size or a larger device"
        )
    if _says(text, _UNKNOWN_MODEL):
        return UsageError(f"{head}This vLLM does not know the model; set engine: transformers")
    if _says(text, _TOO_LONG):
        return UsageError(f"{head}Lower vllm.max_model_len ({options.max_model_len}) or leave it out")
    if _says(text, _PARTS):
        return UsageError(
            f"{head}Set another vllm.tensor_parallel_size than {options.tensor_parallel_size}: it has to "
            f"divide the model's attention heads"
        )
    if options.quantization is not None and _says(text.lower(), _QUANTIZATION):
        return UsageError(
            f"{head}Set a vllm.quantization other than {options.quantization!r} that fits the checkpoint and "
            f"this device, or leave it out"
        )
    return UsageError(f"{head}Its log is shown with -v; engine: transformers runs without it")


def ran_out_of_memory(why: str) -> bool:
    """Return whether a process died because a device's memory ran out, by what it said."""
    return _says(why.lower(), ("outofmemoryerror", "out of memory", "can't allocate memory", "alloc_failed"))


def root_cause(message: str, log: Sequence[str]) -> str:
    """Return the innermost error of a message, or the last one in the log where that says more; one line."""
    last = message.split("\ncaused by ")[-1]
    # Of these two vLLM says itself that the cause is elsewhere.
    if "background process" in last or "while it was loading" in last:
        found = [match[1] for line in log if (match := _ERROR_LINE.search(line))]
        last = next((line for line in reversed(found) if "background process" not in line), last)
    # Pydantic puts an envelope around vLLM's sentence, and one sentence lists some hundred architectures.
    if (match := re.search(r"Value error, (.*) \[type=", last, re.DOTALL)) is not None:
        last = f"ValueError: {match[1]}"
    last = " ".join(last.partition("Supported architectures:")[0].split())
    return (last if len(last) <= _LONGEST else last[: _LONGEST - 4] + " ...").rstrip(".")


def _says(text: str, signs: Sequence[str]) -> bool:
    return any(sign in text for sign in signs)
