"""Geometry of the page's small charts; the templates draw them as SVG."""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

WIDTH, HEIGHT = 300.0, 96.0
"""Drawing area of a histogram in SVG units, labels not counted."""

MOST_BARS = 30
GAP = 1.5
TAIL = 0.995
"""The axis ends at this share of the rows; what lies beyond is gathered in the last bar."""


class Bar(NamedTuple):
    """A bar of a histogram, in SVG units, with the words for its tooltip."""

    x: float
    y: float
    width: float
    height: float
    label: str
    rows: int


class Tick(NamedTuple):
    """A mark below the axis; ``anchor`` is the SVG text-anchor that keeps its label inside."""

    x: float
    label: str
    anchor: str


@dataclass(frozen=True)
class Histogram:
    """A distribution of whole numbers.

    Attributes:
        title: What is counted.
        unit: One of what is counted, e.g. ``word``.
        bars: Its bars, left to right.
        ticks: Marks of the axis.
        median: Value in the middle.
        low: Value that 5% of the rows lie below.
        high: Value that 5% of the rows lie above.
        median_x: Where the median lies on the drawing.
        top: Rows of the tallest bar.
        rows: Rows in all.
    """

    title: str
    unit: str
    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    median: int
    low: int
    high: int
    median_x: float
    top: int
    rows: int


def quantile(counts: Mapping[int, int], share: float) -> int:
    """Return the smallest value that at least ``share`` of the rows do not exceed.

    Args:
        counts: Value to rows, at least one row.
        share: From 0 to 1.
    """
    values = sorted(counts)
    reached = list(accumulate(counts[value] for value in values))
    place = bisect.bisect_left(reached, share * reached[-1])
    return values[min(place, len(values) - 1)]


@dataclass(frozen=True)
class _Scale:
    """Bars of ``step`` whole numbers each, ``number`` of them, from ``first`` on."""

    first: int
    step: int
    number: int

    @property
    def slot(self) -> float:
        """Width of a bar and its gap; few bars stay slim and stand in the middle."""
        return WIDTH / max(self.number, 8)

    def index(self, value: int) -> int:
        """Return the bar of a value."""
        return min((value - self.first) // self.step, self.number - 1)

    def left(self, index: int) -> float:
        """Return the left edge of a bar."""
        return (WIDTH - self.slot * self.number) / 2 + index * self.slot

    def middle(self, index: int) -> float:
        """Return the middle of a bar."""
        return self.left(index) + (self.slot - GAP) / 2

    def label(self, index: int, largest: int) -> str:
        """Return the values of a bar in words."""
        low, high = self.first + index * self.step, self.first + (index + 1) * self.step - 1
        if index == self.number - 1 and largest > high:
            return f"{low} or more"
        return f"{low}" if low == high else f"{low} to {high}"


def histogram(title: str, unit: str, counts: Mapping[int, int]) -> Histogram | None:
    """Return the histogram of value -> rows, or None when there are no rows."""
    rows = sum(counts.values())
    if not rows:
        return None
    first, last, largest = min(counts), quantile(counts, TAIL), max(counts)
    if largest - last < 3:
        last = largest
    # Bars of whole numbers only, so that none is taller because it covers one number more than the others.
    step = -(-(last - first + 1) // MOST_BARS)
    scale = _Scale(first, step, -(-(last - first + 1) // step))
    heights = [0] * scale.number
    for value, count in counts.items():
        heights[scale.index(value)] += count
    top = max(heights)
    bars = []
    for index, count in enumerate(heights):
        # A bar of few rows among many must still be seen.
        height = max(1.5, HEIGHT * count / top) if count else 0.0
        label = scale.label(index, largest)
        bars.append(Bar(scale.left(index), HEIGHT - height, scale.slot - GAP, height, label, count))
    median = quantile(counts, 0.5)
    return Histogram(
        title=title,
        unit=unit,
        bars=tuple(bars),
        ticks=_ticks(scale, bars[-1].label),
        median=median,
        low=quantile(counts, 0.05),
        high=quantile(counts, 0.95),
        median_x=scale.middle(scale.index(median)),
        top=top,
        rows=rows,
    )


def _ticks(scale: _Scale, last: str) -> tuple[Tick, ...]:
    end = Tick(scale.middle(scale.number - 1), last, "middle" if len(last) < 4 else "end")
    if scale.number == 1:
        return (Tick(end.x, last, "middle"),)
    return (Tick(scale.middle(0), f"{scale.first}", "middle"), end)
