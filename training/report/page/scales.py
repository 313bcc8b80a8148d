"""Geometry of the page's plots; a template draws them as SVG and style sheets colour them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

WIDTH, HEIGHT = 360, 286
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 10, 42
"""Margins of the drawing area in SVG units."""

MOST_POINTS = 300


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: its place in SVG units and its label."""

    at: float
    label: str


@dataclass(frozen=True)
class Mark:
    """One thing drawn in a plot.

    Attributes:
        shape: ``path``, ``rect``, ``dot`` or ``text``.
        kind: Class of the element, which decides its colours.
        d: Of a path.
        x: Of the others, in SVG units.
        y: Likewise.
        width: Of a rectangle; radius of a dot.
        height: Of a rectangle.
        label: Text, or the tooltip of the other shapes.
        anchor: ``start``, ``middle`` or ``end`` of a text.
    """

    shape: str
    kind: str
    d: str = ""
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0
    height: float = 0.0
    label: str = ""
    anchor: str = "start"


@dataclass(frozen=True)
class Plot:
    """A plot with axes.

    Attributes:
        name: Used in ids.
        title: Above the plot.
        summary: What it shows, in a sentence with figures; also the text alternative.
        x_label: With the unit.
        y_label: With the unit.
        x_ticks: Along the lower edge.
        y_ticks: Along the left edge.
        marks: In drawing order.
        legend: Class of a mark and what it means.
    """

    name: str
    title: str
    summary: str
    x_label: str
    y_label: str
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    marks: Sequence[Mark] = ()
    legend: Sequence[tuple[str, str]] = field(default=())


@dataclass(frozen=True)
class Frame:
    """The mapping of values to SVG units: x from 0 to 1, y from 0 to ``top``."""

    top: float = 1.0

    def x(self, value: float) -> float:
        """Return the place of a value from 0 to 1."""
        return round(LEFT + (WIDTH - LEFT - RIGHT) * float(value), 1)

    def y(self, value: float) -> float:
        """Return the height of a value from 0 to ``top``."""
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * float(value) / self.top, 1)

    def path(self, xs: Floats, ys: Floats) -> str:
        """Return a path through points; those that could not be told apart are left out."""
        keep = thinned(xs, ys / self.top)
        places = zip(xs[keep].tolist(), ys[keep].tolist(), strict=True)
        return "M" + "L".join(f"{self.x(x)} {self.y(y)}" for x, y in places)

    def line(self, kind: str, *ends: tuple[float, float]) -> Mark:
        """Return a straight line through points."""
        xs, ys = (np.array(values, dtype=np.float64) for values in zip(*ends, strict=True))
        return Mark("path", kind, d=self.path(xs, ys))

    def bar(self, kind: str, left: float, right: float, value: float, label: str) -> Mark:
        """Return a bar from the x axis up; one that is not nothing can be seen."""
        height = max(round(self.y(0) - self.y(value), 1), 1.0 if value > 0 else 0.0)
        x, end = self.x(left) + 0.5, self.x(right) - 0.5
        return Mark(
            "rect", kind, x=x, y=self.y(0) - height, width=round(end - x, 1), height=height, label=label
        )

    def dot(self, kind: str, x: float, y: float, radius: float, label: str) -> Mark:
        """Return a filled circle."""
        return Mark("dot", kind, x=self.x(x), y=self.y(y), width=round(radius, 1), label=label)

    def text(self, kind: str, x: float, y: float, label: str, anchor: str = "start", drop: float = 0) -> Mark:
        """Return a label at a point, ``drop`` units below it."""
        return Mark("text", kind, x=self.x(x), y=self.y(y) + drop, label=label, anchor=anchor)

    def x_ticks(self, step: float = 0.2) -> list[Tick]:
        """Return ticks in percent, 0 to 100."""
        return [Tick(self.x(v), f"{100 * v:.0f}") for v in np.arange(0, 1 + step / 2, step).tolist()]

    def y_ticks(self) -> list[Tick]:
        """Return four to six ticks in percent."""
        step = _step(self.top)
        return [
            Tick(self.y(v), f"{100 * v:g}") for v in np.arange(0, self.top * 1.001, step).round(6).tolist()
        ]


def ceiling(value: float) -> float:
    """Return a round value at or a little above a share, for the top of an axis."""
    step = _step(max(value, 0.005))
    return min(float(np.ceil(value / step - 1e-9) * step), 1.0) if value > 0 else step


def thinned(xs: Floats, ys: Floats) -> NDArray[np.int64]:
    """Return positions of at most `MOST_POINTS` points that the eye takes for the same curve.

    Points are taken evenly along the curve's length, both in units of the plot, so corners stay.
    """
    if len(xs) <= MOST_POINTS:
        return np.arange(len(xs))
    length = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(xs)) + np.abs(np.diff(ys)))])
    wanted = np.linspace(0, length[-1], MOST_POINTS)
    return np.unique(np.searchsorted(length, wanted).clip(0, len(xs) - 1))


def _step(top: float) -> float:
    for step in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1):
        if top / step <= 6:
            return step
    return 0.2
