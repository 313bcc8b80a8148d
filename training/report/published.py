"""Published figures on DGM4, in percent, for the reference columns of our tables.

Metrics carry the names of `training.metrics.evaluate`: ``tok_f1`` (text F1, per token) and ``iou_mean`` (over
all rows). A figure that was not published is missing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

METRICS = ("auc", "acc", "map", "tok_f1", "iou_mean")
"""Columns of the main table, in order."""


@dataclass(frozen=True)
class PublishedRow:
    """One row of a published table.

    Attributes:
        name: As the table prints it.
        figures: Percent by metric.
        source: Where it was printed, and what must be known to compare it.
    """

    name: str
    figures: dict[str, float] = field(default_factory=dict)
    source: str = "ASAP, CVPR 2025, as summarised"


CSCL = "CSCL, trained on train + val, other tokenizer"


def _row(
    name: str, *values: float | None, metrics: tuple[str, ...], source: str | None = None
) -> PublishedRow:
    figures = {metric: value for metric, value in zip(metrics, values, strict=True) if value is not None}
    return PublishedRow(name, figures) if source is None else PublishedRow(name, figures, source)


MAIN = (
    _row("DGM4 baseline", 91.56, 84.90, 85.03, 70.15, 74.82, metrics=METRICS),
    _row("MFCLIP", 92.47, 85.88, 86.51, 71.68, 75.63, metrics=METRICS),
    _row("HAMMER", 93.19, 86.39, 86.22, 71.35, 76.45, metrics=METRICS, source="its own table, CVPR 2023"),
    _row("HAMMER", 93.09, 86.42, 87.20, 72.22, 76.10, metrics=METRICS, source="as ASAP's summary has it"),
    _row("ASAP", 94.38, 87.71, 88.53, 76.52, 77.35, metrics=METRICS),
    _row("CSCL", 96.34, None, 92.48, 76.62, 84.07, metrics=METRICS, source=CSCL),
)
"""The main table."""

_GROUP = ("auc", "tok_f1", "iou_mean")

BY_TYPE = {
    "text_only": _row("text only", 95.12, 79.83, None, metrics=_GROUP),
    "image_only": _row("image only", 93.67, None, 78.91, metrics=_GROUP),
    "joint": _row("joint", 94.45, 73.72, 75.23, metrics=_GROUP),
}
"""ASAP by manipulation, keyed as `training.metrics.by_type` names the groups."""

_MODULES = ("auc", "acc", "tok_f1", "iou_mean")

MODULES = {
    "baseline": _row("baseline", 93.16, 86.01, 72.05, 75.88, metrics=_MODULES),
    "lma": _row("+ LMA", 94.28, 87.30, 75.41, 76.72, metrics=_MODULES),
    "lma_mgca": _row("+ LMA + MGCA", 94.40, 87.55, 76.18, 77.10, metrics=_MODULES),
    "full": _row("+ LMA + MGCA + PMM", 94.38, 87.71, 76.52, 77.35, metrics=_MODULES),
}
"""The ablation of the modules, by variant."""

LMA_TEXT = {
    "none": _row("without LMA", 93.16, 72.05, 75.88, metrics=_GROUP),
    "caption": _row("caption only", 93.85, 74.12, 76.30, metrics=_GROUP),
    "explanation": _row("explanation only", 93.72, 73.88, 76.15, metrics=_GROUP),
    "both": _row("caption + explanation", 94.28, 75.41, 76.72, metrics=_GROUP),
}
"""The ablation of LMA's texts, by ``loss.lma.text``."""

HNP = {
    "on": _row("hard negatives", 77.35, metrics=("iou_mean",)),
    "off": _row("random negatives", 76.92, metrics=("iou_mean",)),
}
"""The ablation of hard negative mining."""
