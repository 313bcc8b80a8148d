"""What several places share: skies, clouds, bright colours."""

from __future__ import annotations

import random

from PIL import Image

from demo.newsroom.canvas import RGB, WHITE, Pen, mix, rgb

CONFETTI = tuple(rgb(c) for c in ("f2545b", "ffd23f", "3f8efc", "ffffff", "f79d4b", "8ad36b"))


def sky(p: Pen, top: RGB, bottom: RGB, until: float = 1.0) -> None:
    """Fills the picture down to `until` with a vertical gradient, and the rest with its last colour."""
    strip = Image.new("RGB", (1, 2))
    strip.putpixel((0, 0), top)
    strip.putpixel((0, 1), bottom)
    width, height = p.image.size
    rows = strip.resize((1, max(2, int(height * until))), Image.Resampling.BILINEAR)
    p.image.paste(bottom, (0, 0, width, height))
    p.image.paste(rows.resize((width, rows.height), Image.Resampling.NEAREST), (0, 0))


def day(rng: random.Random, top: RGB, bottom: RGB) -> tuple[RGB, RGB]:
    """A sky's colours, some way towards evening."""
    late = rng.uniform(0.0, 0.45)
    return mix(top, rgb("5a4a9c"), late), mix(bottom, rgb("ffb27a"), late)


def cloud(p: Pen, x: float, y: float, size: float, colour: RGB = WHITE) -> None:
    """A small flat cloud."""
    for dx, dy, r in ((0, 0, 0.5), (0.55, 0.1, 0.38), (-0.55, 0.12, 0.36), (0.2, -0.22, 0.42)):
        p.ellipse(x + dx * size, y + dy * size, r * size, r * size * 0.8, colour)
