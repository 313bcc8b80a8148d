"""Predictions of a model beside the truth, as plain arrays: all that the evaluation reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.vocabulary import FAKE_CLS, IMAGE_TYPES, MANIPULATION_TYPES, TEXT_TYPES
from training.data.files import placed

IGNORED = -100
"""Label of a token that takes no part in text grounding."""

NO_WORD = -1
"""Word index of a token that belongs to no word."""

Array = NDArray[Any]

_PADDING = {"logits_token": 0, "token_label": IGNORED, "token_word": NO_WORD}


@dataclass(frozen=True)
class Predictions:
    """N rows with T token places each.

    Attributes:
        fake_cls: (N,) str, one of the nine classes of DGM4.
        logits_binary: (N, 2) float, real and fake.
        logits_multilabel: (N, 4) float: face_swap, face_attribute, text_swap, text_attribute.
        box_pred_cxcywh: (N, 4) float, over the image, 0 to 1.
        box_true_cxcywh: (N, 4) float, the same; zeros without a box.
        logits_token: (N, T, 2) float, kept and manipulated.
        token_label: (N, T) int: 1 manipulated, 0 kept, `IGNORED` elsewhere.
        token_word: (N, T) int, index of the token's word, `NO_WORD` elsewhere; None when it is not known.
        sample_id: (N,) str, or None.
        index: (N,) int, position of the row in its split, or None.
        image_size: (N, 2) float, width and height of the picture in pixels, or None.
    """

    fake_cls: Array
    logits_binary: Array
    logits_multilabel: Array
    box_pred_cxcywh: Array
    box_true_cxcywh: Array
    logits_token: Array
    token_label: Array
    token_word: Array | None = None
    sample_id: Array | None = None
    index: Array | None = None
    image_size: Array | None = None

    def __len__(self) -> int:
        return len(self.fake_cls)

    @property
    def is_fake(self) -> NDArray[np.bool_]:
        """(N,) bool: any class but ``orig``."""
        return np.asarray(self.fake_cls != "orig", dtype=bool)

    @property
    def types(self) -> NDArray[np.bool_]:
        """(N, 4) bool, the manipulation types of each row in the order of ``logits_multilabel``."""
        return _members(self.fake_cls, MANIPULATION_TYPES)

    @property
    def face_edited(self) -> NDArray[np.bool_]:
        """(N,) bool, the class names a face manipulation."""
        return np.asarray(_members(self.fake_cls, IMAGE_TYPES).any(axis=1))

    @property
    def text_edited(self) -> NDArray[np.bool_]:
        """(N,) bool, the class names a text manipulation."""
        return np.asarray(_members(self.fake_cls, TEXT_TYPES).any(axis=1))

    def arrays(self) -> dict[str, Array]:
        """Return the arrays by name, without the optional ones that are None."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def take(self, rows: Array) -> Predictions:
        """Return the rows chosen by an array of positions or of booleans."""
        return Predictions(**{name: values[rows] for name, values in self.arrays().items()})

    def save(self, path: Path) -> None:
        """Write an npz file that ``load`` and ``python -m training.metrics`` read, whole or not at all."""
        with placed(path) as temporary, temporary.open("wb") as file:
            # Given a path instead of a file, numpy would add a suffix to the name.
            np.savez(file, allow_pickle=False, **self.arrays())


def _members(fake_cls: Array, types: Sequence[str]) -> NDArray[np.bool_]:
    # A look-up per row is several times faster than comparisons of string arrays.
    named = {name: [kind in name.split("&") for kind in types] for name in FAKE_CLS}
    return np.array([named[name] for name in fake_cls.tolist()], dtype=bool).reshape(-1, len(types))


def concat(parts: Sequence[Predictions]) -> Predictions:
    """Join parts row-wise; token places are padded to the longest part.

    An optional array is kept when every part has it. No parts give zero rows.
    """
    if not parts:
        return empty()
    most = max(part.token_label.shape[1] for part in parts)
    joined: dict[str, Array] = {}
    for field in fields(Predictions):
        arrays = [getattr(part, field.name) for part in parts]
        if any(array is None for array in arrays):
            continue
        if field.name in _PADDING:
            arrays = [_pad(array, most, _PADDING[field.name]) for array in arrays]
        joined[field.name] = np.concatenate(arrays)
    return Predictions(**joined)


def empty() -> Predictions:
    """Return predictions without rows."""
    return Predictions(
        fake_cls=np.zeros(0, dtype=str),
        logits_binary=np.zeros((0, 2), np.float32),
        logits_multilabel=np.zeros((0, 4), np.float32),
        box_pred_cxcywh=np.zeros((0, 4), np.float32),
        box_true_cxcywh=np.zeros((0, 4), np.float32),
        logits_token=np.zeros((0, 0, 2), np.float32),
        token_label=np.zeros((0, 0), np.int64),
    )


def _pad(array: Array, most: int, value: int) -> Array:
    missing = most - array.shape[1]
    widths = [(0, 0), (0, missing)] + [(0, 0)] * (array.ndim - 2)
    return np.pad(array, widths, constant_values=value)
