"""Places under a roof.

Local unit: the height of the picture; x runs from 0 to the aspect ratio `a`, y from 0 (top) to 1.
"""

from __future__ import annotations

import random

from demo.newsroom.backdrop import CONFETTI, sky
from demo.newsroom.canvas import WHITE, Pen, arc, clear, darker, lighter, rgb


def school(p: Pen, a: float, rng: random.Random) -> None:
    """A classroom: chalkboard with sums, coloured bunting, a globe."""
    sky(p, rgb("fbeec2"), rgb("f5dfa0"))
    frame, board = rgb("a86a35"), rgb("2d6b4f")
    p.rect(0.04 * a, 0.12, 0.96 * a, 0.64, frame, 0.015)
    p.rect(0.065 * a, 0.15, 0.935 * a, 0.61, board)
    chalk = rgb("eef7ee")

    def stroke(x: float, y: float, s: float, *paths: tuple[tuple[float, float], ...]) -> None:
        for path in paths:
            p.line([(x + u * s, y + v * s) for u, v in path], chalk, 0.014)

    s = 0.09
    x0, y0 = 0.1 * a, 0.2 + rng.uniform(0, 0.04)
    stroke(x0, y0, s, ((0, 1), (0.4, 0), (0.8, 1)), ((0.18, 0.6), (0.62, 0.6)))
    stroke(
        x0 + 0.11,
        y0,
        s,
        ((0, 0), (0, 1), (0.5, 0.9), (0.5, 0.55), (0, 0.48), (0.45, 0.3), (0.4, 0.05), (0, 0)),
    )
    y1 = y0 + 0.17
    stroke(x0, y1, s, ((0, 0.2), (0.3, 0), (0.55, 0.25), (0, 1), (0.6, 1)))
    stroke(x0 + 0.08, y1, s, ((0.2, 0.5), (0.8, 0.5)), ((0.5, 0.2), (0.5, 0.8)))
    stroke(x0 + 0.17, y1, s, ((0.2, 0), (0.2, 1)))
    x2 = 0.78 * a
    p.ring(x2 + 0.05, y0 + 0.07, 0.07, 0.07, chalk, 0.012)
    stroke(x2, y0 + 0.18, s, ((0, 1), (0.6, 0), (1.2, 1), (0, 1)))
    for i in range(9):
        x = i * a / 9
        p.polygon(
            [(x, 0.0), (x + a / 9, 0.0), (x + a / 18, 0.09)], CONFETTI[i % 6] if i % 6 != 3 else rgb("b36be0")
        )
    p.rect(0, 0.7, a, 1, rgb("c98d4e"))
    p.rect(0, 0.69, a, 0.72, rgb("8e5a2b"))
    g = 0.13 * a if rng.random() < 0.5 else 0.87 * a
    p.rect(g - 0.012, 0.66, g + 0.012, 0.74, rgb("6b4423"))
    p.ellipse(g, 0.6, 0.085, 0.085, rgb("3f8efc"))
    p.blob([(g - 0.05, 0.56), (g, 0.54), (g + 0.02, 0.6), (g - 0.02, 0.65)], rgb("55b85a"))
    p.blob([(g + 0.03, 0.6), (g + 0.07, 0.59), (g + 0.05, 0.65)], rgb("55b85a"))
    p.rect(g - 0.07, 0.73, g + 0.07, 0.755, rgb("6b4423"))


def hospital(p: Pen, a: float, rng: random.Random) -> None:
    """A bright ward: red cross, monitor, curtain, drip, bed."""
    sky(p, rgb("eafaf6"), rgb("d0eee8"))
    p.rect(0, 0.72, a, 1, rgb("9fc9c4"))
    p.rect(0, 0.7, a, 0.73, rgb("5fa8a0"))
    left = rng.random() < 0.5
    c = 0.15 * a if left else 0.85 * a
    p.rect(c - 0.12, 0.08, c + 0.12, 0.32, WHITE, 0.03)
    p.rect(c - 0.035, 0.11, c + 0.035, 0.29, rgb("e02b3a"))
    p.rect(c - 0.09, 0.165, c + 0.09, 0.235, rgb("e02b3a"))
    o = 0.82 * a if left else 0.18 * a
    p.rect(0, 0.015, a, 0.035, rgb("8aa9ab"))
    edge = a if left else 0.0
    toward = -1 if left else 1
    for i in range(4):
        x = edge + toward * i * 0.05
        p.rect(
            min(x, x + toward * 0.05),
            0.03,
            max(x, x + toward * 0.05),
            0.78,
            rgb("53b9b0") if i % 2 else rgb("7fd3ca"),
        )
    m = o + toward * 0.08
    p.rect(m - 0.012, 0.2, m + 0.012, 0.8, rgb("8b99a6"))
    p.rect(m - 0.12, 0.3, m + 0.12, 0.5, rgb("4b5866"), 0.02)
    p.rect(m - 0.1, 0.32, m + 0.1, 0.48, rgb("10231f"))
    beat = [(-0.1, 0.4), (-0.05, 0.4), (-0.03, 0.34), (0.0, 0.46), (0.02, 0.4), (0.1, 0.4)]
    p.line([(m + x, y) for x, y in beat], rgb("4dff88"), 0.012)
    b = c
    p.rect(b - 0.3, 0.62, b + 0.3, 0.7, WHITE, 0.02)
    p.rect(b - 0.24, 0.56, b - 0.04, 0.64, rgb("f7fbff"), 0.03)
    p.rect(b - 0.32, 0.66, b + 0.32, 0.76, rgb("6fb4e8"), 0.02)
    p.rect(b - 0.33, 0.5, b - 0.3, 0.88, rgb("8b99a6"))
    p.rect(b + 0.3, 0.56, b + 0.33, 0.88, rgb("8b99a6"))


def courtroom(p: Pen, a: float, rng: random.Random) -> None:
    """Wood panels, golden scales, lamps."""
    wood = rgb("8a4f2a")
    sky(p, rgb("6b3a1f"), rgb("8a4f2a"))
    panels = 5
    for i in range(panels):
        x1, x2 = i * a / panels + 0.015, (i + 1) * a / panels - 0.015
        p.rect(x1, 0.05, x2, 0.56, darker(wood, 0.25))
        p.rect(x1 + 0.018, 0.07, x2 - 0.018, 0.54, lighter(wood, 0.14))
        p.rect(x1 + 0.03, 0.085, x2 - 0.03, 0.525, wood)
    gold = rgb("f4c542")
    left = rng.random() < 0.5
    for c in (0.17 * a, 0.83 * a) if a > 1.15 else ((0.15 * a,) if left else (0.85 * a,)):
        p.line([(c, 0.14), (c, 0.46)], gold, 0.02)
        p.line([(c - 0.11, 0.2), (c + 0.11, 0.17)], gold, 0.018)
        p.rect(c - 0.06, 0.45, c + 0.06, 0.475, gold)
        p.ellipse(c, 0.14, 0.022, 0.022, gold)
        for s, y in ((-0.11, 0.2), (0.11, 0.17)):
            p.line([(c + s, y), (c + s - 0.055, y + 0.13)], gold, 0.008)
            p.line([(c + s, y), (c + s + 0.055, y + 0.13)], gold, 0.008)
            p.polygon(arc(c + s, y + 0.125, 0.07, 0.05, 0, 180, 8), gold)
    p.rect(0, 0.56, a, 0.6, lighter(wood, 0.3))
    p.rect(0, 0.6, a, 0.9, darker(wood, 0.35))
    for i in range(14):
        x = (i + 0.5) * a / 14
        p.rect(x - 0.018, 0.62, x + 0.018, 0.86, lighter(wood, 0.1))
    p.rect(0, 0.86, a, 0.9, lighter(wood, 0.3))
    p.rect(0, 0.9, a, 1.0, rgb("3f6b4a"))


def theatre(p: Pen, a: float, rng: random.Random) -> None:
    """Red curtains, spotlights, a wooden stage."""
    sky(p, rgb("1c1030"), rgb("43235a"), 0.8)
    aim = a * rng.uniform(0.35, 0.65)
    for x in (0.3 * a, 0.7 * a):
        p.polygon(
            [(x - 0.02, 0), (x + 0.02, 0), (aim + 0.32, 0.85), (aim - 0.32, 0.85)], clear(rgb("fff3c0"), 0.14)
        )
    for _ in range(14):
        p.ellipse(rng.uniform(0.2, 0.8) * a, rng.uniform(0.15, 0.6), 0.006, 0.006, rgb("ffe9a8"))
    red = rgb("c2182b")
    folds = 5
    for side in (0, 1):
        for i in range(folds):
            w = 0.27 * a / folds
            x = i * w if side == 0 else a - (i + 1) * w
            p.rect(x, 0.0, x + w, 0.84, red if i % 2 else darker(red, 0.35))
            p.rect(x + w * 0.3, 0.0, x + w * 0.5, 0.84, lighter(red, 0.18) if i % 2 else red)
        x = 0.27 * a if side == 0 else 0.73 * a
        p.line([(x, 0.1), (x, 0.84)], rgb("f4c542"), 0.012)
        p.rect(0 if side == 0 else 0.72 * a, 0.55, 0.28 * a if side == 0 else a, 0.585, rgb("f4c542"))
    for i in range(6):
        x = (i + 0.5) * a / 6
        p.ellipse(x, 0.03, a / 11, 0.115, rgb("f4c542"))
        p.ellipse(x, 0.02, a / 11, 0.105, red if i % 2 else darker(red, 0.2))
    floor = rgb("b9783f")
    p.rect(0, 0.84, a, 1, floor)
    for y in (0.88, 0.92, 0.96):
        p.line([(0, y), (a, y)], darker(floor, 0.3), 0.006)
    p.ellipse(aim, 0.9, 0.4, 0.05, clear(rgb("fff3c0"), 0.35))
