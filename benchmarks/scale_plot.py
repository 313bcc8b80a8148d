"""The plot of ``docs/scale.md``: cost per sample and peak memory by the length of the tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402

INK, FAINT = "#222222", "#bbbbbb"
COLOURS = ("#0b6e99", "#7a4fa3", "#5aa7c7", "#b59ad0", "#b5482b", "#3a7d44", "#8a8a8a")
MARKS = ("o", "s", "o", "s", "^", "D", "v")


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Write the plot as SVG.

    Args:
        results: As ``benchmarks.scale`` saves them.
        path: The file.
    """
    plt.rcParams.update({"font.size": 9, "svg.hashsalt": "scale", "axes.edgecolor": INK})
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.9))
    titles = list(dict.fromkeys(result["operation"] for result in results))
    for title, colour, mark in zip(titles, COLOURS, MARKS, strict=False):
        mine = [result for result in results if result["operation"] == title]
        rows = [result["rows"] for result in mine]
        look = {"color": colour, "marker": mark, "markersize": 4.5, "linewidth": 1.3, "label": title}
        axes[0].plot(rows, [result["seconds"] for result in mine], **look)
        axes[1].plot(rows, [1e6 * result["processor_seconds"] / result["rows"] for result in mine], **look)
        axes[2].plot(rows, [result["peak_mb"] for result in mine], **look)
    axes[0].axhline(10, color=FAINT, linestyle="--", linewidth=1)
    axes[0].annotate("target at 10 million: 10 s", (1e4, 11), color="#666666", fontsize=8)
    axes[2].annotate("target, above this axis: 1,000 MB", (1e4, 325), color="#666666", fontsize=8)
    starts = [result["start_mb"] for result in results]
    names = (
        "wall seconds, best run",
        "processor microseconds per sample",
        f"peak memory, MB (imports: {min(starts):.0f} to {max(starts):.0f})",
    )
    for axis, name in zip(axes, names, strict=True):
        axis.set_xscale("log")
        axis.set_title(name, fontsize=9.5, loc="left")
        axis.set_xlabel("samples")
        axis.grid(True, which="major", color="#eeeeee")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yscale("log")
    axes[1].set_yscale("log")
    axes[2].set_ylim(0, 350)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=4, frameon=False)
    figure.tight_layout(rect=(0, 0.13, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    plt.close(figure)
