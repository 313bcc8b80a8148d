"""Load a checked checkpoint: tokenizer, image processor, model, device, dtype, clean generation settings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import transformers

from pipeline.config.models import GenerationConfig, ModelConfig
from pipeline.engines.base import DoesNotFit
from pipeline.engines.checkpoint import is_old_chatglm, read_json
from pipeline.errors import UsageError


def pick_device(name: str) -> torch.device:
    """Return the device a configuration means; ``auto`` is cuda where there is one, else cpu.

    Raises:
        UsageError: the device is not on this machine.
    """
    cuda = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda:0" if cuda else "cpu")
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count() if cuda else 0
        if (device.index or 0) >= count:
            raise UsageError(f"device: {name} is not here (CUDA devices: {count}); set device: auto or cpu")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("device: mps is not here; set device: auto or cpu")
    return device


def load_model(kind: type, folder: Path, config: ModelConfig, device: torch.device) -> Any:
    """Return the model on its device, in eval mode.

    Args:
        kind: A class with ``from_pretrained``.
        folder: The checked checkpoint folder.
        config: Its ``dtype`` and ``trust_remote_code`` are used; ``auto`` keeps the checkpoint's dtype.
        device: Where the weights go, file by file, without a copy of the whole model in host memory.

    Raises:
        DoesNotFit: the device has too little memory.
        UsageError: the weights do not fit the config, or a tensor is missing (transformers alone would fill
            it with random numbers and go on).
    """
    if not sys.stderr.isatty():
        transformers.utils.logging.disable_progress_bar()
    dtype = config.dtype if config.dtype == "auto" else getattr(torch, config.dtype)
    try:
        model, info = kind.from_pretrained(  # type: ignore[attr-defined]
            folder,
            dtype=dtype,
            device_map={"": device},
            use_safetensors=True,
            trust_remote_code=config.trust_remote_code,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:
        if is_out_of_memory(error):
            raise DoesNotFit(
                f"model {folder} does not fit the memory of {device}: {error}. Free the device, or use "
                f"dtype: bfloat16, a smaller model or a larger device"
            ) from error
        raise UsageError(f"model {folder} cannot be loaded: {type(error).__name__}: {error}") from error
    missing = sorted(info["missing_keys"])
    if missing:
        raise UsageError(
            f"the weights in {folder} lack {len(missing)} tensors that config.json calls for, the first: "
            f"{missing[0]}; config and weights are not of the same model, download both again"
        )
    return model.eval()


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception means that memory ran out, on a device or on the host."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    # Raised as plain RuntimeError by the CPU allocator and by cuBLAS and cuDNN workspaces.
    signs = ("out of memory", "can't allocate memory", "alloc_failed")
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in signs)


def load_part(kind: type, folder: Path, config: ModelConfig, what: str) -> Any:
    """Return a tokenizer or image processor from a folder.

    Raises:
        UsageError: it cannot be loaded; ``what`` names it in the message.
    """
    try:
        return kind.from_pretrained(  # type: ignore[attr-defined]
            folder, trust_remote_code=config.trust_remote_code, local_files_only=True
        )
    except Exception as error:  # tokenizers raise bare Exception on damaged files
        raise UsageError(f"{what} in {folder} cannot be loaded: {type(error).__name__}: {error}") from error


def clean_generation(model: Any, tokenizer: Any, config: GenerationConfig) -> set[int]:
    """Give a language model the run's generation settings, not the checkpoint's; return its end tokens.

    Published checkpoints carry settings of their own (sampling, temperature, length limits) which would be
    mixed in. Of these only the special token ids stay. The end tokens are the checkpoint's and the
    tokenizer's together: chat models end a turn with other tokens than a document.

    Sampling is done by ``pipeline.engines.sampling`` on top of greedy decoding, so ``do_sample`` stays off
    here.
    """
    own = model.generation_config
    ends = _ids(own.eos_token_id) | _ids(tokenizer.eos_token_id)
    if not ends:
        raise UsageError(
            f"the tokenizer and generation_config.json of {model.name_or_path} name no end token"
        )
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(ends)
    model.generation_config = transformers.GenerationConfig(
        max_new_tokens=config.max_new_tokens,
        do_sample=False,
        num_beams=config.num_beams,
        repetition_penalty=config.repetition_penalty,
        eos_token_id=sorted(ends),
        pad_token_id=pad,
        bos_token_id=own.bos_token_id,
        decoder_start_token_id=own.decoder_start_token_id,
        use_cache=True,
    )
    return ends


def checkpoint_ends(folder: Path, config: ModelConfig) -> set[int]:
    """Return the end tokens that a loaded language model would have of its checkpoint, without loading it.

    They stand in generation_config.json; where there is none, and for the language model inside InstructBLIP,
    in the model's configuration.
    """
    if is_old_chatglm(folder):  # a configuration that transformers does not know
        return _ids(read_json(folder / "config.json").get("eos_token_id"))
    whole = load_part(transformers.AutoConfig, folder, config, "the configuration")
    if config.kind == "chat" and (folder / "generation_config.json").is_file():
        return _ids(transformers.GenerationConfig.from_pretrained(folder).eos_token_id)
    model = whole.text_config if config.kind == "instructblip" else whole
    return _ids(transformers.GenerationConfig.from_model_config(model).eos_token_id)


def _ids(value: int | list[int] | None) -> set[int]:
    if value is None:
        return set()
    return set(value) if isinstance(value, list) else {value}
