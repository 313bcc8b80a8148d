"""Drawing in local units on a supersampled Pillow image, with see-through colours and smooth curves."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw

RGB = tuple[int, int, int]
Colour = tuple[int, ...]
"""Red, green, blue and, for a see-through colour, alpha: 0 to 255 each."""
Point = tuple[float, float]

WHITE: RGB = (255, 255, 255)


def rgb(code: str) -> RGB:
    """A colour from six hex digits."""
    return int(code[0:2], 16), int(code[2:4], 16), int(code[4:6], 16)


def mix(one: Colour, other: Colour, share: float) -> RGB:
    """`one` with a share of `other`, 0 to 1; alpha is dropped."""
    r, g, b = (round(a + (c - a) * share) for a, c in zip(one[:3], other[:3], strict=True))
    return r, g, b


def darker(colour: Colour, share: float) -> RGB:
    """The colour with a share of a deep blue shadow."""
    return mix(colour, (24, 14, 44), share)


def lighter(colour: Colour, share: float) -> RGB:
    """The colour with a share of warm white."""
    return mix(colour, (255, 250, 238), share)


def clear(colour: Colour, alpha: float) -> Colour:
    """The colour made see-through; alpha 0 (invisible) to 1."""
    return (*colour[:3], round(255 * alpha))


def smooth(points: Sequence[Point], closed: bool = True, steps: int = 5) -> list[Point]:
    """Points on a Catmull-Rom curve through `points`, `steps` per span."""
    count = len(points)
    spans = count if closed else count - 1
    out: list[Point] = []
    for i in range(spans):
        if closed:
            a, b, c, d = (points[(i + j - 1) % count] for j in range(4))
        else:
            a, b, c, d = (points[min(max(i + j - 1, 0), count - 1)] for j in range(4))
        for k in range(steps):
            t = k / steps
            t2, t3 = t * t, t * t * t
            wa, wb = -0.5 * t3 + t2 - 0.5 * t, 1.5 * t3 - 2.5 * t2 + 1
            wc, wd = -1.5 * t3 + 2 * t2 + 0.5 * t, 0.5 * t3 - 0.5 * t2
            out.append(
                (wa * a[0] + wb * b[0] + wc * c[0] + wd * d[0], wa * a[1] + wb * b[1] + wc * c[1] + wd * d[1])
            )
    if not closed:
        out.append(points[-1])
    return out


def arc(x: float, y: float, rx: float, ry: float, start: float, stop: float, steps: int = 12) -> list[Point]:
    """Points on an ellipse between two angles in degrees, clockwise from the right."""
    angles = (math.radians(start + (stop - start) * i / steps) for i in range(steps + 1))
    return [(x + rx * math.cos(t), y + ry * math.sin(t)) for t in angles]


class Pen:
    """Draws shapes given in local units; `at` gives a pen with another origin, size or direction."""

    def __init__(self, image: Image.Image, x: float = 0.0, y: float = 0.0, unit: float = 1.0) -> None:
        """A pen on an RGB image; origin and unit in pixels of that image."""
        self._solid = ImageDraw.Draw(image)
        self._glass = ImageDraw.Draw(image, "RGBA")
        self.image = image
        self.x, self.y, self.unit, self._flip = x, y, unit, 1.0

    def at(self, x: float, y: float, scale: float = 1.0, flip: bool = False) -> Pen:
        """A pen whose origin is the local point (x, y), scaled, and mirrored left to right if `flip`."""
        other = object.__new__(Pen)
        other._solid, other._glass, other.image = self._solid, self._glass, self.image
        other.x, other.y = self.x + x * self.unit * self._flip, self.y + y * self.unit
        other.unit = self.unit * scale
        other._flip = -self._flip if flip else self._flip
        return other

    def _tool(self, fill: Colour) -> ImageDraw.ImageDraw:
        return self._glass if len(fill) == 4 else self._solid

    def _points(self, points: Sequence[Point]) -> list[Point]:
        ox, oy, unit = self.x, self.y, self.unit
        ux = unit * self._flip
        return [(ox + x * ux, oy + y * unit) for x, y in points]

    def _box(self, x1: float, y1: float, x2: float, y2: float) -> tuple[float, float, float, float]:
        (ax, ay), (bx, by) = self._points(((x1, y1), (x2, y2)))
        return min(ax, bx), ay, max(ax, bx), by

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: Colour) -> None:
        """A filled ellipse around (x, y)."""
        self._tool(fill).ellipse(self._box(x - rx, y - ry, x + rx, y + ry), fill=fill)

    def ring(self, x: float, y: float, rx: float, ry: float, fill: Colour, width: float) -> None:
        """The outline of an ellipse."""
        box = self._box(x - rx, y - ry, x + rx, y + ry)
        self._tool(fill).ellipse(box, outline=fill, width=max(1, round(width * self.unit)))

    def polygon(self, points: Sequence[Point], fill: Colour) -> None:
        """A filled polygon."""
        self._tool(fill).polygon(self._points(points), fill=fill)

    def blob(self, points: Sequence[Point], fill: Colour, steps: int = 5) -> None:
        """A filled closed curve through the points."""
        self.polygon(smooth(points, steps=steps), fill)

    def rect(self, x1: float, y1: float, x2: float, y2: float, fill: Colour, radius: float = 0.0) -> None:
        """A filled rectangle with corners rounded by `radius`."""
        box = self._box(x1, y1, x2, y2)
        if radius:
            self._tool(fill).rounded_rectangle(box, radius=radius * self.unit, fill=fill)
        else:
            self._tool(fill).rectangle(box, fill=fill)

    def line(self, points: Sequence[Point], fill: Colour, width: float, round_ends: bool = True) -> None:
        """A line through the points; solid lines have round ends unless told otherwise."""
        pixels = max(1, round(width * self.unit))
        dots = self._points(points)
        self._tool(fill).line(dots, fill=fill, width=pixels, joint="curve" if len(dots) > 2 else None)
        if round_ends and len(fill) == 3 and pixels > 2:
            r = pixels / 2
            for x, y in (dots[0], dots[-1]):
                self._solid.ellipse((x - r, y - r, x + r, y + r), fill=fill)

    def curve(self, points: Sequence[Point], fill: Colour, width: float, steps: int = 5) -> None:
        """A smooth line through the points."""
        self.line(smooth(points, closed=False, steps=steps), fill, width)
