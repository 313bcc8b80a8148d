"""The figures of an evaluation as a table for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SECTIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "real or fake": (("auc", "AUC"), ("acc", "accuracy"), ("eer", "equal error rate")),
    "types": (
        ("map", "mAP"),
        ("cf1", "CF1"),
        ("cp", "CP"),
        ("cr", "CR"),
        ("of1", "OF1"),
        ("op", "OP"),
        ("or_", "OR"),
        ("f1_face_swap", "F1 face swap"),
        ("f1_face_attribute", "F1 face attribute"),
        ("f1_text_swap", "F1 text swap"),
        ("f1_text_attribute", "F1 text attribute"),
    ),
    "box, all rows (published)": (
        ("iou_mean", "mean IoU"),
        ("iou50", "IoU > 0.50"),
        ("iou75", "IoU > 0.75"),
        ("iou95", "IoU > 0.95"),
        ("iou_mean_clamped", "mean, clamped"),
    ),
    "box, face-edited rows": (
        ("iou_face_mean", "mean IoU"),
        ("iou_face50", "IoU > 0.50"),
        ("iou_face75", "IoU > 0.75"),
        ("iou_face_mean_unclamped", "mean, unclamped"),
    ),
    "tokens (published)": (
        ("tok_f1", "F1"),
        ("tok_precision", "precision"),
        ("tok_recall", "recall"),
        ("tok_acc", "accuracy"),
    ),
    "words": (
        ("word_f1", "F1"),
        ("word_precision", "precision"),
        ("word_recall", "recall"),
        ("word_acc", "accuracy"),
    ),
}


def render(result: Mapping[str, Any]) -> str:
    """Return the figures as a table for people, in percent."""
    lines = [f"{result['rows']:,} rows, figures in percent"]
    for title, names in SECTIONS.items():
        lines += ["", title]
        lines += [f"  {label:<18}{100 * result[name]:7.2f}" for name, label in names]
    lines += ["", f"score (mean of AUC, mAP, word F1, face IoU) {100 * result['score']:.2f}"]
    columns = (("rows", "rows"), ("auc", "AUC"), ("acc", "accuracy"), ("word_f1", "word F1"),
               ("iou_face_mean", "face IoU"))  # fmt: skip
    lines += ["", "by manipulation (AUC: the group's fakes against all orig rows)"]
    lines.append(f"  {'':<30}" + "".join(f"{label:>10}" for _, label in columns))
    for members in result["by_type"].values():
        for name, figures in members.items():
            cells = "".join(f"{_cell(key, figures[key]):>10}" for key, _ in columns)
            lines.append(f"  {name.replace('_only', ' only'):<30}{cells}")
    return "\n".join([*lines, *(f"note: {note}" for note in result["notes"])])


def _cell(key: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if key == "rows" else f"{100 * value:.2f}"
