"""One number to choose checkpoints by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PARTS = ("auc", "map", "word_f1", "iou_face_mean")
"""One figure per task, none of which a constant answer can raise far."""


def score(metrics: Mapping[str, Any]) -> float:
    """Return the mean of the four tasks' figures.

    Choosing by AUC alone, as the released code does, ignores grounding.
    """
    return sum(float(metrics[name]) for name in PARTS) / len(PARTS)
