"""How figures are called in tables and plots."""

from __future__ import annotations

METRIC_TITLES = {
    "auc": "AUC",
    "acc": "ACC",
    "map": "mAP",
    "word_f1": "word F1",
    "tok_f1": "token F1",
    "iou_mean": "IoU, all rows",
    "iou_face_mean": "IoU, face-edited rows",
}
"""By the names of `training.metrics.evaluate`, in the order of tables."""

PUBLISHED_NOTE = (
    "The published figures were measured on DGM4. They are comparable with ours only where ours come from "
    "DGM4's test split too; their text F1 is per token and their IoU over all rows."
)
"""Belongs beside every table that shows published figures."""
