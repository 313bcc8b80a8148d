"""The panels of the learning curves: each draws one quantity into its axes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from training.report.runlog import Series

# Okabe and Ito's colours, told apart by every kind of colour vision and by their lightness in print.
LOSS, VALIDATION, PACE, SECOND = "#0072B2", "#007A5A", "#6B3F86", "#C04E00"
COLORS = (PACE, SECOND, LOSS, VALIDATION)
INK, FAINT = "#222222", "#8A8A8A"

Panel = Callable[[Axes], None]


def smoothed_panel(title: str, line: Series, color: str, *, floor: bool = False) -> Panel:
    """Return a panel with the raw line faint, the smoothed one bold and its last value at the end.

    Args:
        title: With the unit, if it has one.
        line: Steps and values.
        color: Of line and label.
        floor: Start the axis at 0.
    """

    def draw(axes: Axes) -> None:
        steps, values = line
        smooth = smoothed(values)
        axes.plot(steps, values, color=color, alpha=0.25, linewidth=0.8)
        axes.plot(steps, smooth, color=color, linewidth=1.6)
        _label_end(axes, steps[-1], smooth[-1], _digits(smooth[-1]), color)
        _title(axes, title)
        # The first steps of a fresh head can be far off; they must not flatten the rest.
        low, high = np.percentile(values, [0, 99.5]) if len(values) > 50 else (values.min(), values.max())
        low, high = min(low, smooth.min()), max(high, smooth[1:].max() if len(smooth) > 1 else high)
        low = 0.0 if floor else low
        margin = 0.06 * (high - low) or 0.5
        axes.set_ylim(low if floor else low - margin, high + margin)

    return draw


def validation_panel(title: str, line: Series) -> Panel:
    """Return a panel in percent with every validation, the best one ringed.

    Args:
        title: Name of the figure.
        line: Steps and fractions.
    """

    def draw(axes: Axes) -> None:
        steps, values = line[0], 100 * line[1]
        # The newest of equals: a flat line has its mark at the end.
        best = len(values) - 1 - int(np.argmax(values[::-1]))
        axes.plot(steps, values, color=VALIDATION, linewidth=1.6, marker="o", markersize=2.6, clip_on=False)
        axes.plot(
            steps[best],
            values[best],
            marker="o",
            markersize=6,
            markerfacecolor="none",
            color=VALIDATION,
            clip_on=False,
        )
        _label_end(axes, steps[-1], values[-1], f"{values[-1]:.1f}", VALIDATION)
        _title(axes, title)
        axes.set_title(f"best {values[best]:.1f}", loc="right", color=VALIDATION, fontsize=7.5)
        margin = 0.08 * float(np.ptp(values)) or 1.0
        axes.set_ylim(values.min() - margin, values.max() + 2 * margin)

    return draw


def rates_panel(rates: dict[str, Series]) -> Panel:
    """Return a panel with the learning rate of each group of weights, named on its line."""

    def draw(axes: Axes) -> None:
        top = max(float(values.max()) for _, values in rates.values())
        power = math.floor(math.log10(top)) if top > 0 else 0
        for (name, (steps, values)), color in zip(rates.items(), COLORS, strict=False):
            scaled = values / 10.0**power
            # Near the middle the lines are far apart, and the name stays inside the panel.
            place = int(np.searchsorted(steps, 0.4 * (steps[0] + steps[-1])))
            rising = values[min(place + 1, len(values) - 1)] > values[place]
            axes.plot(steps, scaled, color=color, linewidth=1.6)
            axes.annotate(
                name,
                (steps[place], scaled[place]),
                xytext=(-2 if rising else 2, 4),
                textcoords="offset points",
                ha="right" if rising else "left",
                color=color,
                fontsize=8,
            )
        _title(axes, f"learning rate, in 1e{power}")
        axes.set_ylim(0, 1.2 * top / 10.0**power or 1)

    return draw


def smoothed(values: NDArray[np.float64], share: float = 0.03) -> NDArray[np.float64]:
    """Return the mean of each value and its neighbours; the window is a share of the series.

    Centred, so the line is not late as an exponential mean is. At the start the window shrinks on both sides
    alike, because a steep first descent would bend a lopsided one; at the end only its right side does,
    because one noisy value would be read as the result.

    Args:
        values: (n,).
        share: The window's length over n.
    """
    half = int(share * len(values) / 2 + 0.5)
    if half == 0:
        return values
    total = np.concatenate([[0.0], np.cumsum(values)])
    place = np.arange(len(values))
    reach = np.minimum(half, place)
    stop = np.minimum(place + reach, len(values) - 1) + 1
    start = place - reach
    return np.asarray((total[stop] - total[start]) / (stop - start))


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=9, color=INK)


def _label_end(axes: Axes, x: float, y: float, text: str, color: str) -> None:
    axes.annotate(
        text,
        (x, y),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        color=color,
        fontsize=8,
        fontweight="bold",
        annotation_clip=False,
    )


def dress(axes: Axes, last: float) -> None:
    """Give a panel the common look.

    Args:
        axes: After its lines are drawn.
        last: The run's last step, so that all panels share their x axis.
    """
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.grid(axis="y", color="#E6E6E6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=7, colors="#555555", length=2)
    axes.set_xlim(0, last)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(_thousands))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlabel("step", fontsize=7, color="#555555", labelpad=1)


def _digits(value: float) -> str:
    return f"{value:#.3g}".rstrip(".") if 1e-3 <= abs(value) < 1000 else f"{value:.3g}"


def _thousands(value: float, _: int | None = None) -> str:
    return f"{value / 1000:g}k" if abs(value) >= 1000 else f"{value:g}"
