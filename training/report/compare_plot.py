"""One panel per figure, one line per variant or run: its mean, its interval, and the single seeds."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from training.report.naming import METRIC_TITLES
from training.report.panels import FAINT, INK, LOSS, SECOND

COLUMNS = 4


@dataclass(frozen=True)
class Mark:
    """A figure of one line, percent.

    Attributes:
        mean: Where the dot stands.
        low: Lower end of the interval; None for none.
        high: Upper end.
        points: Single seeds.
    """

    mean: float
    low: float | None = None
    high: float | None = None
    points: tuple[float, ...] = ()


@dataclass(frozen=True)
class Line:
    """A variant or a run.

    Attributes:
        title: Its label.
        marks: By figure; a figure that it lacks is missing.
        published: Measured elsewhere: drawn hollow and grey.
    """

    title: str
    marks: Mapping[str, Mark] = field(default_factory=dict)
    published: bool = False


def draw(title: str, lines: Sequence[Line], metrics: Sequence[str]) -> bytes:
    """Return the plot as PNG.

    Args:
        title: What it shows.
        lines: From top to bottom.
        metrics: Figures that get a panel, if any line has them.
    """
    shown = [metric for metric in metrics if any(metric in line.marks for line in lines)]
    columns = min(COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    size = (2.6 * columns + 1.6, rows * (0.75 + 0.36 * len(lines)) + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for place, axes in enumerate(grid.flat):
        if place >= len(shown):
            axes.set_axis_off()
            continue
        _panel(axes, shown[place], lines)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=150, facecolor="white", metadata={"Software": None})
    return stream.getvalue()


def _panel(axes: Axes, metric: str, lines: Sequence[Line]) -> None:
    places = range(len(lines))
    for place, line in zip(places, lines, strict=True):
        mark = line.marks.get(metric)
        if mark is None:
            continue
        color = FAINT if line.published else LOSS
        if mark.low is not None and mark.high is not None:
            axes.plot([mark.low, mark.high], [place, place], color=color, linewidth=2, alpha=0.55, zorder=2)
        if len(mark.points) > 1:
            axes.scatter(mark.points, [place] * len(mark.points), s=10, color=SECOND, alpha=0.7, zorder=3)
        axes.plot(
            mark.mean,
            place,
            marker="o",
            markersize=6,
            color=color,
            markerfacecolor="white" if line.published else color,
            zorder=4,
        )
        axes.annotate(
            f"{mark.mean:.1f}",
            (mark.mean, place),
            xytext=(0, 5),
            textcoords="offset points",
            ha="center",
            fontsize=7,
            color=color if line.published else INK,
        )
    axes.set_title(f"{METRIC_TITLES[metric]}, percent", loc="left", fontsize=9, color=INK)
    axes.set_yticks(list(places), [textwrap.fill(line.title, 28) for line in lines], fontsize=7.5, color=INK)
    axes.set_ylim(len(lines) - 0.4, -0.7)
    axes.margins(x=0.12)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.grid(axis="x", color="#E6E6E6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="x", labelsize=7, colors="#555555", length=2)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(4))
