"""Learning curves of a run as one picture: losses, validation, learning rates and speed.

``python -m training.report.curves --run RUN --to curves.png``
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from training.errors import DataError, TrainingError, UsageError
from training.report.panels import (
    INK,
    LOSS,
    PACE,
    Panel,
    dress,
    rates_panel,
    smoothed_panel,
    validation_panel,
)
from training.report.runlog import Series, read_log

COLUMNS = 4
PANEL, HEADING = 1.75, 0.3
"""Heights in inches."""

LOSSES = {
    "bic": "real or fake (BIC)",
    "mlc": "types (MLC)",
    "box_l1": "box, L1",
    "box_giou": "box, GIoU",
    "tmg": "words (TMG)",
    "mac": "contrast (MAC)",
    "cap": "captions (LMA)",
    "exp": "explanations (LMA)",
    "ied": "explanation head (IED)",
    "mgca": "guided attention (MGCA)",
    "mgca_mask": "guidance mask (MGCA)",
    "pmm": "patches (PMM)",
}
"""Titles of the terms, in the order of the objective."""

VALIDATIONS = {
    "auc": "AUC",
    "map": "mAP",
    "word_f1": "word F1",
    "iou_face_mean": "face IoU",
}


def draw_curves(log: Path, to: Path) -> None:
    """Draw the learning curves of a log.

    Args:
        log: RUN/log.jsonl.
        to: The picture, .png or .svg.

    Raises:
        DataError: The log cannot be read or holds nothing to draw.
        UsageError: The picture's suffix is another, or it cannot be written.
    """
    if to.suffix.lower() not in (".png", ".svg"):
        raise UsageError(f"{to}: a picture ends in .png or .svg")
    series = read_log(log)
    sections = [
        (
            "Losses before their weights: each record faint, the mean of its neighbours bold",
            _loss_panels(series),
        ),
        ("Validation, percent; a circle marks the best", _validation_panels(series)),
        ("Learning rate and speed", _pace_panels(series)),
    ]
    sections = [(title, panels) for title, panels in sections if panels]
    if not sections:
        raise DataError(f"{log} holds no loss/, val/, lr/ or speed/ values to draw")
    last = max(float(steps[-1]) for steps, _ in series.values())
    figure = _figure(sections, last, _headline(log, series, last))
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(to, dpi=160, facecolor="white")
    except OSError as error:
        raise UsageError(f"{to} cannot be written: {error.strerror}; choose another --to") from error


def _headline(log: Path, series: dict[str, Series], last: float) -> str:
    epochs = f", epoch {series['epoch'][1][-1]:.3g}" if "epoch" in series else ""
    return f"Learning curves of {log.resolve().parent.name}: {last:,.0f} optimizer steps{epochs}"


def _loss_panels(series: dict[str, Series]) -> list[Panel]:
    names = [key.removeprefix("loss/") for key in series if key.startswith("loss/")]
    order = list(LOSSES)
    names.sort(key=lambda name: order.index(name) if name in order else len(order))
    return [smoothed_panel(LOSSES.get(name, name), series[f"loss/{name}"], LOSS) for name in names]


def _validation_panels(series: dict[str, Series]) -> list[Panel]:
    found = [(title, series[f"val/{name}"]) for name, title in VALIDATIONS.items() if f"val/{name}" in series]
    return [validation_panel(title, line) for title, line in found]


def _pace_panels(series: dict[str, Series]) -> list[Panel]:
    rates = {key.removeprefix("lr/"): line for key, line in series.items() if key.startswith("lr/")}
    panels: list[Panel] = [rates_panel(rates)] if rates else []
    if "speed/samples_per_s" in series:
        panels.append(smoothed_panel("rows per second", series["speed/samples_per_s"], PACE, floor=True))
    return panels


def _figure(sections: list[tuple[str, list[Panel]]], last: float, headline: str) -> Figure:
    heights: list[float] = []
    for _, panels in sections:
        heights += [HEADING] + [PANEL] * -(-len(panels) // COLUMNS)
    figure = Figure(figsize=(11, 0.5 + sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(headline, x=0.008, ha="left", fontsize=12, fontweight="bold", color=INK)
    # One grid for all sections keeps every panel of a column equally wide.
    grid = figure.add_gridspec(len(heights), COLUMNS, height_ratios=heights)
    row = 0
    for title, panels in sections:
        heading = figure.add_subplot(grid[row, :])
        heading.set_axis_off()
        heading.text(0, 0.2, title, transform=heading.transAxes, fontsize=9.5, color="#555555")
        for number, panel in enumerate(panels):
            axes = figure.add_subplot(grid[row + 1 + number // COLUMNS, number % COLUMNS])
            panel(axes)
            dress(axes, max(last, 1.0))
        row += 1 + -(-len(panels) // COLUMNS)
    return figure


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the curves of one run and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.report.curves", description="Draw the learning curves of a training run."
    )
    parser.add_argument("--run", type=Path, required=True, help="the run's folder, which holds log.jsonl")
    parser.add_argument("--to", type=Path, required=True, metavar="F.png", help="the picture, .png or .svg")
    args = parser.parse_args(argv)
    try:
        draw_curves(args.run / "log.jsonl", args.to)
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(args.to)
    return 0


if __name__ == "__main__":
    sys.exit(main())
