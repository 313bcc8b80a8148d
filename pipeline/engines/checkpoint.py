"""Find a checkpoint folder and check it before anything is loaded, so that faults are named in seconds."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from pipeline.config.models import ModelConfig
from pipeline.errors import UsageError

_HUB_FILES = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]

OLD_CHATGLM = "chatglm"
"""``model_type`` of ChatGLM3 and of GLM-4 before it came to transformers."""


def checkpoint_folder(config: ModelConfig) -> Path:
    """Return the checked folder of a model, downloading a pinned hub id into the hub's cache first.

    Raises:
        UsageError: no such folder and no revision; the hub does not answer; a file is missing, cut short or
            of an unsupported format. The message names the folder, the file and the remedy.
    """
    folder = Path(config.path or "")
    if not folder.is_dir():
        if config.revision is None:
            raise UsageError(not_found(folder))
        folder = _from_hub(config, [*_HUB_FILES, "*.py"] if config.trust_remote_code else _HUB_FILES)
    _check_files(folder, config)
    return folder


def not_found(folder: Path) -> str:
    """Return the message for a model folder that is not there, with both ways to get one."""
    hub_id = "/".join(folder.parts[-2:])
    if folder.exists():
        return f"model path {folder} is a file; give the folder that holds config.json"
    return (
        f"model folder {folder} does not exist. Put the checkpoint there, e.g. with "
        f"`hf download <repository> --local-dir {folder} --exclude '*.bin'`. If {hub_id!r} is meant as a hub "
        f"id, pin it with `revision: <commit hash>`, without which the weights could change between two runs"
    )


def checkpoint_config(config: ModelConfig) -> dict[str, Any]:
    """Return a model's config.json, of a hub id without downloading the weights.

    Raises:
        UsageError: as ``checkpoint_folder``.
    """
    folder = Path(config.path or "")
    if not folder.is_dir():
        if config.revision is None:
            raise UsageError(not_found(folder))
        folder = _from_hub(config, ["config.json"])
    return read_json(folder / "config.json")


def _from_hub(config: ModelConfig, patterns: list[str]) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            huggingface_hub.snapshot_download(
                str(config.path), revision=config.revision, allow_patterns=patterns
            )
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise UsageError(
            f"hub model {config.path} at revision {config.revision} cannot be had: {error}. Check the id, "
            f"the revision and the connection, or download it elsewhere and set path to the folder"
        ) from error


def _check_files(folder: Path, config: ModelConfig) -> None:
    model_type = read_json(folder / "config.json").get("model_type")
    if model_type == OLD_CHATGLM and config.engine == "transformers":
        raise UsageError(
            f"model folder {folder} holds a ChatGLM checkpoint of the old format (model_type {OLD_CHATGLM}), "
            f"which transformers runs only with code of the checkpoint that no longer fits it. Use engine: "
            f"vllm, which has this model itself, or a GLM-4 preset (glm-4-9b-chat, glm-4-9b-0414)"
        )
    if (model_type == "instructblip") != (config.kind == "instructblip"):
        raise UsageError(
            f"model folder {folder} has model_type {model_type!r} in config.json, but the configuration says "
            f"kind: {config.kind}; set the kind that fits, or another path"
        )
    _one_of(folder, "tokenizer.json", "tokenizer.model", "spiece.model")
    if config.kind == "instructblip":
        _one_of(folder, "preprocessor_config.json", "processor_config.json")
        # Without this folder transformers would take the language model's tokenizer in silence.
        _one_of(folder, "qformer_tokenizer/tokenizer.json", "qformer_tokenizer/vocab.txt")
    _check_weights(folder)


def is_old_chatglm(folder: Path) -> bool:
    """Return whether a checkpoint is of the ChatGLM format that only vLLM runs."""
    return read_json(folder / "config.json").get("model_type") == OLD_CHATGLM


def _one_of(folder: Path, *names: str) -> None:
    if not any((folder / name).is_file() for name in names):
        raise UsageError(
            f"model folder {folder} has no {' or '.join(names)}; the download is not complete, run it again"
        )


def _check_weights(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    names: list[str] = []
    # In the order in which transformers looks for them.
    if (folder / "model.safetensors").is_file():
        names = ["model.safetensors"]
    elif index.is_file():
        names = sorted(set(read_json(index).get("weight_map", {}).values()))
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise UsageError(
                f"model folder {folder} lacks {', '.join(missing)} of the {len(names)} weight files that "
                f"{index.name} names; the download is not complete, run it again"
            )
    if not names:
        other = sorted(path.name for path in folder.glob("*.bin")) or ["no weight file at all"]
        raise UsageError(
            f"model folder {folder} has no model.safetensors but {other[0]}. Only safetensors are loaded, "
            f"since .bin files can run code: take a revision that has safetensors, or convert the model with "
            f"save_pretrained"
        )
    for name in names:
        _check_safetensors(folder / name)


def _check_safetensors(path: Path) -> None:
    """Compare a file's size with what its header announces: cut downloads are found without reading."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        if head.startswith(b"version "):
            raise UsageError(
                f"{path} is a Git LFS pointer, not the weights; run `git lfs pull` in its folder"
            )
        try:
            header = json.loads(file.read(length)) if 0 < length <= size else None
            ends = [v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"] if header else []
        except (ValueError, KeyError, TypeError, AttributeError):
            header, ends = None, []
    expected = 8 + length + max(ends, default=0)
    if header is None or size != expected:
        announced = f"{expected} by its header" if header is not None else "its header is damaged"
        raise UsageError(f"{path} is damaged: {size} bytes, {announced}; delete it and download it again")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file of a checkpoint.

    Raises:
        UsageError: the file is missing or is not a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"model folder {path.parent} has no {path.name}; give the folder of a checkpoint as transformers "
            f"saves it, or complete the download"
        ) from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not JSON: {error}; download it again") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path} does not hold a JSON object; download it again")
    return content
