"""Figures by manipulation: text only, image only, joint (the seed note's table), and the nine classes.

A group's AUC is that of its fakes against **all** ``orig`` rows of the predictions, so the groups share their
negatives. Everything else is counted over the group's own rows. What a group cannot have (an IoU without
edited faces, a word F1 without edited texts, an AUC of ``orig``) is None.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.vocabulary import FAKE_CLS
from training.metrics.binary import area, roc
from training.metrics.fractions import ratio
from training.metrics.predictions import Predictions
from training.metrics.resample import row_sums

Bools = NDArray[np.bool_]
Figures = dict[str, float | int | None]

_COUNTS = ("hits", "calls", "true")
GROUPS = ("text_only", "image_only", "joint")


def by_type(predictions: Predictions) -> dict[str, dict[str, Figures]]:
    """Return ``{"groups": {group: figures}, "classes": {fake_cls: figures}}``.

    Figures: rows; auc; acc, the share of rows called rightly real or fake; word_f1 and tok_f1;
    iou_face_mean, iou_face50 and iou_face75. Fractions, or None.
    """
    wide = predictions.logits_binary.astype(np.float64)
    margin = wide[:, 1] - wide[:, 0]
    face, text = predictions.face_edited, predictions.text_edited
    groups = dict(zip(GROUPS, (text & ~face, face & ~text, face & text), strict=True))
    classes = {name: np.asarray(predictions.fake_cls == name) for name in FAKE_CLS}
    fake, sums = predictions.is_fake, row_sums(predictions)
    return {
        kind: {name: _figures(sums, text, rows, margin, fake) for name, rows in members.items()}
        for kind, members in (("groups", groups), ("classes", classes))
    }


def _figures(
    sums: dict[str, NDArray[Any]], fake_text: Bools, rows: Bools, margin: NDArray[np.float64], fake: Bools
) -> Figures:
    found: Figures = dict.fromkeys(
        ("rows", "auc", "acc", "word_f1", "tok_f1", "iou_face_mean", "iou_face50", "iou_face75")
    )
    found["rows"] = int(rows.sum())
    if not rows.any():
        return found
    found["acc"] = float(sums["correct"][rows].mean())
    against = rows | ~fake
    if fake[rows].any() and not fake.all():
        found["auc"] = area(*roc(margin[against], rows[against]))
    if fake_text[rows].any():
        for prefix in ("word", "tok"):
            hits, calls, true = (float(sums[f"{prefix}_{name}"][rows].sum()) for name in _COUNTS)
            found[f"{prefix}_f1"] = ratio(2 * hits, calls + true)
    boxed = rows & (sums["edited"] > 0)
    if boxed.any():
        overlap = sums["edited_iou"][boxed]
        found["iou_face_mean"] = float(overlap.mean())
        found |= {f"iou_face{percent}": float((overlap > percent / 100).mean()) for percent in (50, 75)}
    return found
