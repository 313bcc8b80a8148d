"""Exporting: one folder with all that inference needs, and nothing else."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from training.engine.files import TEMPORARY_PREFIX, fsync_file, fsync_folder, sha256
from training.errors import TrainingError, UsageError
from training.inference.card import model_card
from training.inference.source import (
    CONFIG,
    FORMAT,
    FORMAT_VERSION,
    LOCAL,
    TOWERS,
    WEIGHTS,
    Source,
    load_model,
    open_source,
    open_tokenizer,
)
from training.model.towers import uses_quick_gelu

TOWERS_CONFIG = "open_clip_config.json"
_PACKAGES = ("torch", "open_clip_torch", "safetensors")
_FROM_TRAINING = ("pretrained", "freeze_towers", "checkpoint_blocks", "box_threshold", "towers")


def save_pretrained(checkpoint: Path | str, folder: Path | str, *, replace: bool = False) -> Path:
    """Write a self-contained folder that `Detector.from_pretrained` opens on any machine, offline.

    It holds ``model.safetensors`` (the model's weights without momentum encoder, queues and optimizer),
    ``config.json``, ``towers/`` (architecture and tokenizer of the towers, no weights) and ``README.md``, a
    model card filled from the run. The folder appears whole or not at all.

    Args:
        checkpoint: A run (its best checkpoint, else its last), a checkpoint, or an exported folder.
        folder: What to write; its parent is made.
        replace: Whether an earlier export there may be replaced.

    Returns:
        ``folder``.

    Raises:
        UsageError: There is no such checkpoint, or ``folder`` holds something else.
        DataError: The checkpoint is damaged.
        TrainingError: The disk refuses.
    """
    source = open_source(checkpoint)
    folder = Path(folder).expanduser()
    _check_target(folder, replace)
    temporary = folder.parent / f"{TEMPORARY_PREFIX}{folder.name}-{uuid.uuid4().hex[:8]}"
    try:
        temporary.mkdir(parents=True)
        try:
            _write(source, temporary)
            _move(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise TrainingError(f"{folder} could not be written: {error}; make room or choose another") from error
    return folder


def _check_target(folder: Path, replace: bool) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UsageError(f"{folder} is a file; give a folder that is to be made")
    if not any(folder.iterdir()):
        return
    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        raise UsageError(f"{folder} holds something else than an export; give a folder that is to be made")
    if not replace:
        raise UsageError(f"{folder} holds an export already; add --replace, or give another folder")


def _write(source: Source, folder: Path) -> None:
    model = load_model(source)
    towers = folder / TOWERS
    towers.mkdir()
    _write_towers(source, towers)
    tensors = {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    described = _described(source, folder)
    _write_json(folder / CONFIG, described)
    card = model_card(source, described, sum(tensor.numel() for tensor in tensors.values()))
    (folder / "README.md").write_text(card, encoding="utf-8")
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(0o644)  # safetensors writes files that only their owner may read
            fsync_file(file)
    fsync_folder(towers)
    fsync_folder(folder)


def _described(source: Source, folder: Path) -> dict[str, Any]:
    config = source.config
    model = config.model.model_dump(mode="json")
    tokenizer = open_tokenizer(source)
    guidance = config.loss.mgca
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": config.name,
        "model": {name: value for name, value in model.items() if name not in _FROM_TRAINING},
        "guidance": {"mode": "bias" if guidance.mode == "bias" else "none", "beta": guidance.beta},
        "text": {"max_words": config.data.max_words, "max_tokens": tokenizer.max_tokens},
        "precision": config.train.precision,
        "thresholds": asdict(source.thresholds),
        "towers_source": towers_source(source),
        "versions": {package: importlib.metadata.version(package) for package in _PACKAGES},
        "weights_sha256": sha256(folder / WEIGHTS),
    }


def towers_source(source: Source) -> dict[str, str | None]:
    """Return name and weights of the towers that training started from, without the machine's folders."""
    if source.exported:
        noted: dict[str, str | None] = json.loads((source.folder / CONFIG).read_text())["towers_source"]
        return noted
    name, weights = source.config.model.towers, source.config.model.pretrained
    if name.startswith(LOCAL):
        return {
            "name": f"a local folder ({Path(name.removeprefix(LOCAL)).name})",
            "weights": "the folder's own",
        }
    if weights is not None and os.sep in weights:
        weights = f"a local file ({Path(weights).name})"
    return {"name": name, "weights": weights}


def _write_towers(source: Source, folder: Path) -> None:
    """Write the towers' architecture and tokenizer in open_clip's own format."""
    import open_clip

    name = source.config.model.towers
    if name.startswith(LOCAL):
        origin = Path(name.removeprefix(LOCAL))
        described = json.loads((origin / TOWERS_CONFIG).read_text(encoding="utf-8"))
    else:
        described = {"model_cfg": open_clip.get_model_config(name), "preprocess_cfg": {}}
        # The towers were built with the activation that the tag was trained with (`build_towers`).
        if uses_quick_gelu(source.config.model.towers, source.config.model.pretrained):
            described["model_cfg"]["quick_gelu"] = True
    if tokenizer := getattr(open_clip.get_tokenizer(name), "tokenizer", None):
        described["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = TOWERS
        tokenizer.save_pretrained(folder)
    _write_json(folder / TOWERS_CONFIG, described)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _move(temporary: Path, folder: Path) -> None:
    old = None
    if folder.is_dir() and any(folder.iterdir()):
        old = temporary.with_name(f"{temporary.name}-old")
        os.rename(folder, old)
    os.rename(temporary, folder)
    fsync_folder(folder.parent)
    if old is not None:
        shutil.rmtree(old)
