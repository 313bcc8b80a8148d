"""The tables of the page as rows of cells, and what may be said about comparing them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.metrics.bootstrap import interval_of
from training.report.page.type_intervals import Spans
from training.report.page.worlds import World
from training.report.published import BY_TYPE, MAIN, METRICS

COLUMNS = {
    "auc": "AUC",
    "acc": "accuracy",
    "map": "mAP",
    "tok_f1": "token F1",
    "iou_mean": "IoU, all rows",
    "word_f1": "word F1",
    "iou_face_mean": "IoU, edited faces",
}
"""Columns of the main table; those in `METRICS` are published for other models too."""

GROUP_COLUMNS = {"auc": "AUC", "acc": "accuracy", "tok_f1": "token F1", "word_f1": "word F1",
                 "iou_face_mean": "IoU"}  # fmt: skip

OPERATING = {
    "fpr_1": "at most 1% false alarms",
    "fpr_5": "at most 5% false alarms",
    "fpr_10": "at most 10% false alarms",
    "tpr_95": "at least 95% of the fakes",
    "best_f1": "largest F1",
    "argmax": "the verdict: fake above real",
}

SETTINGS = (
    "model.towers", "model.image_size", "model.fusion.layers", "model.fusion.width", "model.box_threshold",
    "data.max_words", "loss.lma.text", "loss.mgca.mode", "loss.pmm.mode", "loss.pmm.hnp",
    "loss.dgm.box_on_negatives", "train.epochs", "train.max_steps", "train.batch_size", "train.precision",
    "train.seed",
)  # fmt: skip
"""Keys of the configuration that the page shows at once; the whole of it can be unfolded."""

LEAST_DGM4_ROWS = 40_000
"""DGM4 has some 230,000 rows, about 50,000 of them in its test split: fewer rows are not that split."""


@dataclass(frozen=True)
class Cell:
    """A figure, ready to print.

    Attributes:
        text: The figure in percent, or a dash.
        note: Its interval, or empty.
    """

    text: str
    note: str = ""


@dataclass(frozen=True)
class TableRow:
    """A row of a table: ``ours`` rows are set off from published ones."""

    name: str
    cells: tuple[Cell, ...]
    ours: bool = False
    source: str = ""


def comparison(metrics: Mapping[str, Any], world: World) -> tuple[bool, str]:
    """Return whether the published figures may be comparable at all, and the sentence that says it.

    Args:
        metrics: Of the evaluation.
        world: What the evaluated pictures say that the data are.
    """
    name = Path(metrics["data"]).name
    rows, split = metrics["rows"], metrics["split"]
    start = "The published figures are on DGM4's test split"
    if split != "test":
        return False, f"{start}; these are on the {split} split of {name}. They are not comparable."
    if world == "newsroom":
        return False, (
            f"{start}; these are on {rows:,} rows of {name}, which is the synthetic newsroom world, drawn by "
            "a program. They stand side by side to show what is measured, and are not comparable."
        )
    if metrics.get("limit") is not None:
        limited = f"these are on the first {rows:,} rows of {name}"
        return False, f"{start}; {limited}. They are not comparable."
    if rows < LEAST_DGM4_ROWS or world != "dgm4":
        return False, (
            f"{start} (about 50,000 rows); these are on {rows:,} rows of {name}, which is another data set. "
            "They stand side by side to show what is measured, and are not comparable."
        )
    return True, f"{start}; these are on {rows:,} rows of {name}. They are comparable only if {name} is DGM4."


def main_table(metrics: Mapping[str, Any], name: str) -> list[TableRow]:
    """Return this model first, then the published ones."""
    ours = tuple(Cell(figure(metrics[key]), span(interval_of(metrics["intervals"], key))) for key in COLUMNS)
    published = [
        TableRow(
            row.name,
            tuple(
                Cell("–" if key not in METRICS or key not in row.figures else f"{row.figures[key]:.2f}")
                for key in COLUMNS
            ),
            source=row.source,
        )
        for row in MAIN
    ]
    return [TableRow(name, ours, ours=True), *published]


def group_table(metrics: Mapping[str, Any], spans: Spans) -> list[TableRow]:
    """Return text only, image only and joint, each followed by the published figures of ASAP.

    Args:
        metrics: Of the evaluation.
        spans: By group and figure, the ends of its interval.
    """
    rows = []
    for key, figures in metrics["by_type"]["groups"].items():
        label = key.replace("_only", " only")
        cells = _with_spans(figures, spans.get(key, {}))
        rows.append(TableRow(f"{label}, {figures['rows']:,} rows", cells, ours=True))
        published = BY_TYPE[key].figures
        # Every row of the groups that have an IoU has a box: over all rows and over edited faces are one.
        given = {"auc": published.get("auc"), "tok_f1": published.get("tok_f1"),
                 "iou_face_mean": published.get("iou_mean")}  # fmt: skip
        shown = (given.get(name) for name in GROUP_COLUMNS)
        values = tuple(Cell("–" if value is None else f"{value:.2f}") for value in shown)
        rows.append(TableRow("ASAP, published", values, source=BY_TYPE[key].source))
    return rows


def class_table(metrics: Mapping[str, Any], spans: Spans) -> list[tuple[str, int, tuple[Cell, ...]]]:
    """Return class, rows and cells of the nine classes; arguments as for `group_table`."""
    return [
        (name, figures["rows"], _with_spans(figures, spans.get(name, {})))
        for name, figures in metrics["by_type"]["classes"].items()
    ]


def _with_spans(figures: Mapping[str, Any], spans: Mapping[str, tuple[float, float]]) -> tuple[Cell, ...]:
    return tuple(Cell(figure(figures[name]), span(spans.get(name))) for name in GROUP_COLUMNS)


def operating_table(metrics: Mapping[str, Any]) -> list[tuple[str, str, tuple[str, ...]]]:
    """Return description, threshold and the rates of each operating point."""
    rows = []
    for key, label in OPERATING.items():
        point = metrics["operating_points"][key]
        threshold = point["threshold"]
        shown = "none" if threshold is None else f"{threshold:.4f}"
        values = tuple(figure(point[name], 1) for name in ("fpr", "tpr", "precision", "f1", "acc"))
        rows.append((label, shown, values))
    return rows


def settings(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the keys of `SETTINGS` that the configuration has, with their values."""
    flat = dict(flattened(config))
    return [(key, flat[key]) for key in SETTINGS if key in flat]


def flattened(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return dotted keys and values of a configuration."""
    found: list[tuple[str, str]] = []
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found += flattened(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", _shown(value)))
    return found


def figure(value: float | None, digits: int = 2) -> str:
    """Return a fraction in percent without the sign, a dash for None."""
    return "–" if value is None else f"{100 * value:.{digits}f}"


def span(ends: tuple[float, float] | None) -> str:
    """Return an interval in percent, empty for None."""
    return "" if ends is None else f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}"


def _shown(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
