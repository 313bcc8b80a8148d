"""Where a model comes from: an exported folder, a checkpoint, or a run."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from training.config.sections import Config
from training.data.tokens import WordTokenizer
from training.engine.checkpoint import pointed
from training.engine.files import sha256
from training.engine.tensors import check_tensors, read_tensors
from training.errors import DataError, TrainingError, UsageError
from training.inference.verdict import Thresholds
from training.model import AsapModel, build_model

FORMAT = "asap-detector"
FORMAT_VERSION = 1
CONFIG, WEIGHTS, TOWERS = "config.json", "model.safetensors", "towers"
LOCAL = "local-dir:"
_TRAINING_ONLY = "explanation_head."


@dataclass(frozen=True)
class Source:
    """A trained model that can be opened.

    Attributes:
        folder: The exported folder or the checkpoint.
        config: What the model is built from; of an exported folder only what inference reads is set.
        thresholds: Of the verdicts.
        exported: ``folder`` was written by `save_pretrained`.
    """

    folder: Path
    config: Config
    thresholds: Thresholds
    exported: bool

    @property
    def weights(self) -> Path:
        """The file of weights."""
        return self.folder / WEIGHTS

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights that inference needs, on the CPU.

        Raises:
            DataError: The file is missing, is no safetensors file, or has changed since it was written.
        """
        if not self.weights.is_file():
            raise DataError(f"{self.weights} is missing; copy the whole folder again")
        wanted = _recorded_hash(self.folder)
        if wanted is not None and sha256(self.weights) != wanted:
            raise DataError(
                f"{self.weights} has changed since it was written (SHA-256); copy or export it again"
            )
        found = read_tensors(self.weights)
        return {name: tensor for name, tensor in found.items() if not name.startswith(_TRAINING_ONLY)}


def open_source(path: Path | str) -> Source:
    """Find what to open.

    Args:
        path: An exported folder, a checkpoint's folder, or a run's: its best checkpoint, else its last.

    Raises:
        UsageError: There is nothing of the kind.
        DataError: It is damaged.
    """
    path = Path(path).expanduser()
    if path.is_file():
        raise UsageError(f"{path} is a file; give the folder of a run, of a checkpoint or of an export")
    if (path / CONFIG).is_file():
        return _exported(path)
    folder = path
    if not (path / "state.json").is_file():
        found = _pointed(path) if path.is_dir() else None
        if found is None:
            what = "holds no model" if path.is_dir() else "does not exist"
            raise UsageError(
                f"{path} {what}; give a run (make train makes one), a checkpoint in it, or an exported folder"
            )
        folder = found
    tree = _json(folder / "state.json").get("config")
    config = _checked(tree, folder / "state.json")
    return Source(folder, config, Thresholds(box=_box_threshold(config)), exported=False)


def open_tokenizer(source: Source) -> WordTokenizer:
    """Return the tokenizer of the model's towers.

    Raises:
        UsageError: There is no such tokenizer.
        DataError: The files of a folder's tokenizer are damaged.
    """
    towers = source.config.model.towers
    try:
        return WordTokenizer(towers, source.config.data.max_tokens)
    except TrainingError:
        raise
    except Exception as error:  # tokenizer libraries raise KeyError, TypeError, plain Exception and more
        if not towers.startswith(LOCAL):
            raise
        raise DataError(
            f"{towers.removeprefix(LOCAL)}: the tokenizer's files are damaged ({type(error).__name__}: "
            f"{error}); copy or export the folder again"
        ) from error


def load_model(source: Source) -> AsapModel:
    """Build the model and load its weights; nothing else is read or fetched.

    Returns:
        The model on the CPU, in evaluation mode, without what only training uses.

    Raises:
        UsageError: The towers' architecture cannot be built.
        DataError: The weights do not fit it, or the picture's size does not fit the patches.
    """
    # The guided forward pass of mode bias belongs to the predictions; attention scores and the head that
    # reads explanations do not.
    mode = "bias" if source.config.loss.mgca.mode == "bias" else "none"
    loss = source.config.loss
    loss = loss.model_copy(
        update={
            "mgca": loss.mgca.model_copy(update={"mode": mode}),
            "lma": loss.lma.model_copy(update={"ied": 0.0}),
        }
    )
    model = build_model(source.config.model_copy(update={"loss": loss}), weights=False)
    tensors = source.tensors()
    check_tensors(tensors, model.state_dict(), source.weights)
    _check_patches(source, tensors)
    model.load_state_dict(tensors)
    return model.eval().requires_grad_(False)


def _check_patches(source: Source, tensors: dict[str, Tensor]) -> None:
    """Refuse a size that leaves part of a patch: the shapes of the weights would not tell it."""
    size = source.config.model.image_size
    patches = [t.shape[-1] for name, t in tensors.items() if name.endswith("visual.conv1.weight")]
    if patches and size % patches[0]:
        raise DataError(
            f"{source.folder}: model.image_size is {size}, no multiple of a patch's {patches[0]} pixels; put "
            "back the size that the model was trained with"
        )


def _pointed(run: Path) -> Path | None:
    try:
        return pointed(run, "best") or pointed(run, "last")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{run}: the pointer to its checkpoint is damaged ({type(error).__name__}: {error}); give the "
            "checkpoint's own folder"
        ) from None


def _exported(folder: Path) -> Source:
    file = folder / CONFIG
    tree = _json(file)
    if tree.get("format") != FORMAT:
        raise DataError(f"{file}: not written by training/export.py (format {tree.get('format')!r})")
    if tree.get("format_version") != FORMAT_VERSION:
        raise DataError(
            f"{file}: format version {tree.get('format_version')!r}, this version reads {FORMAT_VERSION}; "
            "export the checkpoint again with this version, or use the version that wrote it"
        )
    try:
        thresholds = Thresholds(**{f.name: float(tree["thresholds"][f.name]) for f in fields(Thresholds)})
        towers = f"{LOCAL}{(folder / TOWERS).resolve()}"
        config = {
            "name": tree["name"],
            "model": {**tree["model"], "towers": towers, "pretrained": None},
            "data": tree["text"],
            "loss": {"mgca": tree["guidance"]},
            "train": {"precision": tree["precision"]},
        }
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file} is damaged ({type(error).__name__}: {error}); export again") from None
    return Source(folder, _checked(config, file), thresholds, exported=True)


def _checked(tree: Any, file: Path) -> Config:
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(f"{file}: {where}: {first['msg']}; it was written by another version") from None


def _json(file: Path) -> dict[str, Any]:
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}") from None
    if not isinstance(tree, dict):
        raise DataError(f"{file} holds no JSON object")
    return tree


def _recorded_hash(folder: Path) -> str | None:
    """Return the SHA-256 that was noted when the weights were written."""
    listing = folder / "files.json"
    if listing.is_file():
        entry = _json(listing).get(WEIGHTS)
        if not isinstance(entry, dict) or "sha256" not in entry:
            raise DataError(f"{listing} is damaged: no SHA-256 of {WEIGHTS}; copy the checkpoint again")
        return str(entry["sha256"])
    noted = _json(folder / CONFIG).get("weights_sha256") if (folder / CONFIG).is_file() else None
    return None if noted is None else str(noted)


def _box_threshold(config: Config) -> float:
    """Return what evaluation uses: a box head trained on zero boxes says itself where there is none."""
    return 0.0 if config.loss.dgm.box_on_negatives else config.model.box_threshold
