"""Where the face was edited: IoU as published, and over face-edited rows only.

Source: the published protocol (HAMMER's evaluation): mean IoU over all rows, thresholds 0.5, 0.75 and 0.95
exclusive. Where the true box has x1 = 0, the IoU is 1 if all four predicted corners are under 1e-4; otherwise
the ordinary IoU stands, which is 0 for a zero box. A model that always predicts a zero box therefore scores
the share of rows without one, about 46.5 % on DGM4; the figures over face-edited rows do not have that floor.

Ours corrects two things: which rows count (face-edited only, without the rule for rows without a box), and
what of a box counts (its part in the image). iou_face_mean has both, iou_mean neither;
iou_face_mean_unclamped has only the first and iou_mean_clamped only the second.

Defined values: 0/0 is 0.0. A face-edited row without a true box is left out of the face figures; without any
such row they are 0.0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]

NEARLY_ZERO = np.float32(1e-4)


def corners(cxcywh: Floats) -> Floats:
    """Return (N, 4) boxes x1, y1, x2, y2 of boxes given as centre, width and height."""
    half = cxcywh[:, 2:] * cxcywh.dtype.type(0.5)
    return np.concatenate([cxcywh[:, :2] - half, cxcywh[:, :2] + half], axis=1)


def iou(first: Floats, second: Floats) -> Floats:
    """Return (N,) intersection over union of the boxes of each row, 0.0 where the union is empty.

    Args:
        first: (N, 4) corners.
        second: (N, 4) corners.
    """
    sides = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
    inter = np.clip(sides, 0, None).prod(axis=1)
    union = _area(first) + _area(second) - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)


def _area(box: Floats) -> Floats:
    return (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])


def published_iou(predicted: Floats, true: Floats) -> Floats:
    """Return (N,) IoU with the published rule for rows without a box.

    Args:
        predicted: (N, 4) cxcywh.
        true: (N, 4) cxcywh, zeros without a box.
    """
    overlap = iou(corners(predicted.astype(np.float32)), corners(true.astype(np.float32)))
    return np.where(found_empty(predicted, true), 1, overlap)


def found_empty(predicted: Floats, true: Floats) -> Bools:
    """Return (N,), the published rule: the true box starts at x = 0 and the predicted one is nearly zero.

    Args:
        predicted: (N, 4) cxcywh.
        true: (N, 4) cxcywh, zeros without a box.
    """
    # In the published precision: whether x1 is exactly 0, and the 1e-4, depend on it.
    guess, truth = corners(predicted.astype(np.float32)), corners(true.astype(np.float32))
    return np.asarray((truth[:, 0] == 0) & (guess < NEARLY_ZERO).all(axis=1))


def clamped_iou(predicted: Floats, true: Floats) -> Floats:
    """Return (N,) IoU of the parts of both boxes that lie in the image.

    Args:
        predicted: (N, 4) cxcywh.
        true: (N, 4) cxcywh.
    """
    guess = np.clip(corners(predicted.astype(np.float64)), 0, 1)
    # A negative width swaps the corners; such a box covers nothing.
    guess[:, 2:] = np.maximum(guess[:, :2], guess[:, 2:])
    return iou(guess, np.clip(corners(true.astype(np.float64)), 0, 1))


def box_metrics(predicted: Floats, true: Floats, face_edited: Bools, notes: list[str]) -> dict[str, float]:
    """Return the IoU figures as fractions.

    iou_mean, iou50, iou75, iou95 (published), iou_mean_clamped, iou_face_mean, iou_face50, iou_face75 and
    iou_face_mean_unclamped.

    Args:
        predicted: (N, 4) cxcywh over the image, 0 to 1.
        true: (N, 4) cxcywh, zeros without a box.
        face_edited: (N,), the row's class names a face manipulation.
        notes: Receives a sentence for each value that is defined rather than measured.
    """
    everywhere = published_iou(predicted, true)
    has_box = (true[:, 2:] > 0).all(axis=1)
    rows = face_edited & has_box
    boxless = int((face_edited & ~has_box).sum())
    if boxless:
        notes.append(f"{boxless} face-edited rows have no true box: left out of the iou_face figures")
    if not rows.any():
        notes.append("no face-edited row: the iou_face figures are set to 0")
    inside = clamped_iou(predicted, true)
    edited = inside[rows]
    whole = iou(corners(predicted[rows].astype(np.float64)), corners(true[rows].astype(np.float64)))
    found = {"iou_mean": _mean(everywhere)}
    found |= {f"iou{percent}": _mean(everywhere > percent / 100) for percent in (50, 75, 95)}
    found["iou_mean_clamped"] = _mean(np.where(found_empty(predicted, true), 1, inside))
    found["iou_face_mean"] = _mean(edited)
    found |= {f"iou_face{percent}": _mean(edited > percent / 100) for percent in (50, 75)}
    return found | {"iou_face_mean_unclamped": _mean(whole)}


def _mean(values: NDArray[np.generic]) -> float:
    return float(values.mean(dtype=np.float64)) if len(values) else 0.0
