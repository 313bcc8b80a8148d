"""Reads predictions from a file, and refuses what cannot be scored, naming array, row and value."""

from __future__ import annotations

import zipfile
from dataclasses import fields
from pathlib import Path

import numpy as np

from schemas.vocabulary import FAKE_CLS
from training.errors import DataError
from training.metrics.predictions import IGNORED, NO_WORD, Array, Predictions

MOST_WORDS = 1_000_000
"""Word indices go up to it; no text has as many words, and row times word still fits 64 bits."""


def load(path: Path) -> tuple[Predictions, list[str]]:
    """Read an npz file and check it.

    Returns:
        The predictions, and the names of arrays in the file that are not read.

    Raises:
        DataError: The file is missing or no npz file, lacks an array, or `check` finds a fault.
    """
    known = {field.name for field in fields(Predictions)}
    optional = {"token_word", "sample_id", "index", "image_size"}
    if not path.is_file():
        raise DataError(f"{path} is no file; --predictions takes an npz file")
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path} is no npz file; write it with numpy.savez")
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name in sorted(known - optional) if name not in archive.files]
            if missing:
                raise DataError(f"{path} lacks {', '.join(missing)}; it has {', '.join(archive.files)}")
            arrays = {name: archive[name] for name in archive.files if name in known}
            unread = [name for name in archive.files if name not in known]
    except DataError:
        raise
    except Exception as error:  # a damaged file gives zlib.error, EOFError, TokenError, MemoryError and more
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise DataError(
            f"{path} cannot be read as an npz file of plain arrays ({reason}); write it with numpy.savez, "
            "strings as a numpy string array"
        ) from error
    predictions = Predictions(**arrays)
    try:
        check(predictions)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    return predictions, unread


def check(predictions: Predictions) -> None:
    """Raise DataError, naming array, row and value, when the predictions cannot be scored."""
    if predictions.fake_cls.ndim != 1:
        raise DataError(f"fake_cls has shape {predictions.fake_cls.shape}; one class per row is needed")
    rows = len(predictions)
    if predictions.token_label.ndim != 2:
        raise DataError(f"token_label has shape {predictions.token_label.shape}; rows x tokens is needed")
    places = predictions.token_label.shape[1]
    shapes: dict[str, tuple[int, ...]] = {
        "fake_cls": (rows,),
        "logits_binary": (rows, 2),
        "logits_multilabel": (rows, 4),
        "box_pred_cxcywh": (rows, 4),
        "box_true_cxcywh": (rows, 4),
        "logits_token": (rows, places, 2),
        "token_label": (rows, places),
        "token_word": (rows, places),
        "sample_id": (rows,),
        "index": (rows,),
        "image_size": (rows, 2),
    }
    for name, array in predictions.arrays().items():
        if array.shape != shapes[name]:
            raise DataError(
                f"{name} has shape {array.shape}, not {shapes[name]}: fake_cls has {rows} rows and "
                f"token_label {places} token places"
            )
        kinds, meaning = _kinds(name)
        if array.dtype.kind not in kinds:
            raise DataError(f"{name} has type {array.dtype}; it must hold {meaning}")
    _check_values(predictions)


def _kinds(name: str) -> tuple[str, str]:
    if name in ("fake_cls", "sample_id"):
        return "U", "strings of a numpy string type"
    if name.startswith(("logits", "box", "image_size")):
        return "fiu", "numbers"
    return "iu", "whole numbers"


def _check_values(predictions: Predictions) -> None:
    label = predictions.token_label
    _refuse(
        np.array([name not in FAKE_CLS for name in predictions.fake_cls.tolist()], dtype=bool),
        "fake_cls",
        predictions.fake_cls,
        f"one of {', '.join(FAKE_CLS)} is needed",
    )
    for name in ("logits_binary", "logits_multilabel", "box_pred_cxcywh", "box_true_cxcywh"):
        values = getattr(predictions, name)
        bad = ~np.isfinite(values).all(axis=1)
        _refuse(bad, name, values, "every value must be finite; a diverged model cannot be scored")
    _refuse(
        ~((label == 0) | (label == 1) | (label == IGNORED)).all(axis=1),
        "token_label",
        label,
        f"0, 1 or {IGNORED} is needed",
    )
    # Logits of padding may be anything: nothing reads them.
    finite = np.isfinite(predictions.logits_token)
    bad = ~(finite[..., 0] & finite[..., 1] | (label == IGNORED)).all(axis=1)
    _refuse(bad, "logits_token", predictions.logits_token, "every labelled token needs finite logits")
    word = predictions.token_word
    if word is not None:
        _refuse(
            np.asarray(((word < NO_WORD) | (word > MOST_WORDS)).any(axis=1)),
            "token_word",
            word,
            f"a word's index is {NO_WORD} (no word) to {MOST_WORDS:,}",
        )
    box = predictions.box_true_cxcywh
    # Annotated boxes may reach a little over the border; boxes in pixels go far beyond it.
    _refuse(
        np.asarray(((box < -1) | (box > 2)).any(axis=1)),
        "box_true_cxcywh",
        box,
        "centre, width and height are shares of the image, 0 to 1",
    )


def _refuse(bad: Array, name: str, values: Array, remedy: str) -> None:
    rows = np.flatnonzero(bad)
    if len(rows):
        others = f" (and {len(rows) - 1} more rows)" if len(rows) > 1 else ""
        value = np.array2string(values[rows[0]], threshold=8, precision=4)
        raise DataError(f"{name}, row {rows[0]}{others}: {value}; {remedy}")
