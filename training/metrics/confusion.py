"""Which manipulation is taken for which: one call per side, and the nine classes that follow.

The image is called edited when the larger of its two logits is at least 0, and so is the text; the larger
logit names the type. Any two calls make one of the nine classes, so each row has exactly one predicted class.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.vocabulary import FAKE_CLS, IMAGE_TYPES, TEXT_TYPES
from training.metrics.predictions import Predictions

Ints = NDArray[np.integer]

NONE = "none"


def confusion(predictions: Predictions) -> dict[str, Any]:
    """Return ``{side: {"labels": [...], "counts": [[...]]}}`` for image, text and classes.

    ``counts[i][j]`` is the number of rows of true label i that were called label j.
    """
    logits, types = predictions.logits_multilabel, predictions.types
    found: dict[str, Any] = {}
    for side, start, names in (("image", 0, IMAGE_TYPES), ("text", len(IMAGE_TYPES), TEXT_TYPES)):
        stop = start + len(names)
        true = np.where(types[:, start:stop].any(axis=1), 1 + types[:, start:stop].argmax(axis=1), 0)
        found[side] = {
            "labels": [NONE, *names],
            "counts": _counts(true, _called(logits[:, start:stop]), 1 + len(names)),
        }
    number = {name: k for k, name in enumerate(FAKE_CLS)}
    true = np.array([number[name] for name in predictions.fake_cls.tolist()], dtype=np.int64)
    guess = np.array([number[name] for name in predicted_classes(predictions)], dtype=np.int64)
    found["classes"] = {"labels": list(FAKE_CLS), "counts": _counts(true, guess, len(FAKE_CLS))}
    return found


def predicted_classes(predictions: Predictions) -> list[str]:
    """Return the predicted class of each row, one of the nine."""
    logits = predictions.logits_multilabel
    image, text = _called(logits[:, : len(IMAGE_TYPES)]), _called(logits[:, len(IMAGE_TYPES) :])
    names = {}
    for i, kind in enumerate((NONE, *IMAGE_TYPES)):
        for t, other in enumerate((NONE, *TEXT_TYPES)):
            names[i, t] = "&".join(name for name in (kind, other) if name != NONE) or "orig"
    return [names[pair] for pair in zip(image.tolist(), text.tolist(), strict=True)]


def _called(logits: NDArray[np.floating]) -> Ints:
    return np.where((logits >= 0).any(axis=1), 1 + logits.argmax(axis=1), 0)


def _counts(true: Ints, guess: Ints, size: int) -> list[list[int]]:
    return np.bincount(true * size + guess, minlength=size * size).reshape(size, size).tolist()
