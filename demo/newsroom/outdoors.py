"""Places under the sky.

Local unit: the height of the picture; x runs from 0 to the aspect ratio `a`, y from 0 (top) to 1.
"""

from __future__ import annotations

import random

from demo.newsroom.backdrop import CONFETTI, cloud, day, sky
from demo.newsroom.canvas import WHITE, Pen, arc, clear, darker, mix, rgb


def stadium(p: Pen, a: float, rng: random.Random) -> None:
    """Evening match: floodlights, a stand full of people, striped grass."""
    sky(p, rgb("16245c"), rgb("5a6fc0"), 0.4)
    p.polygon([(0, 0.26), (a / 2, 0.34), (a, 0.26), (a, 0.66), (0, 0.66)], rgb("39406e"))
    p.polygon([(0, 0.22), (a / 2, 0.31), (a, 0.22), (a, 0.28), (a / 2, 0.36), (0, 0.28)], rgb("dfe4f2"))
    for row in range(6):
        y = 0.37 + row * 0.048
        x = rng.uniform(0, 0.04)
        while x < a:
            p.ellipse(x, y + rng.uniform(-0.006, 0.006), 0.017, 0.019, rng.choice(CONFETTI))
            x += rng.uniform(0.04, 0.062)
    for x in (0.13 * a, 0.87 * a):
        p.rect(x - 0.012, 0.1, x + 0.012, 0.4, rgb("aab2cc"))
        p.ellipse(x, 0.08, 0.17, 0.13, clear(rgb("fff8d0"), 0.3))
        p.rect(x - 0.1, 0.02, x + 0.1, 0.13, rgb("51597f"), 0.01)
        for i in range(4):
            for j in range(2):
                p.ellipse(x - 0.072 + i * 0.048, 0.05 + j * 0.05, 0.019, 0.019, rgb("fffbe0"))
    p.rect(0, 0.63, a, 0.69, rgb("f2f4fa"))
    for i in range(7):
        x = i * a / 7
        p.rect(x, 0.64, x + a / 9, 0.68, rng.choice(CONFETTI[:3]))
    for i in range(8):
        p.rect(i * a / 8, 0.69, (i + 1) * a / 8, 1.0, rgb("2f9e44") if i % 2 else rgb("46b95c"))
    p.line([(0, 0.77), (a, 0.77)], WHITE, 0.014)


def parliament(p: Pen, a: float, rng: random.Random) -> None:
    """A domed building with columns and wide steps."""
    sky(p, *day(rng, rgb("5fb4ee"), rgb("d4eefb")), 0.6)
    for _ in range(3):
        cloud(p, rng.uniform(0, a), rng.uniform(0.05, 0.2), rng.uniform(0.06, 0.1))
    stone, shade = rgb("f6ead0"), rgb("cdb891")
    m = a * rng.uniform(0.45, 0.55)
    p.rect(m - 0.02, -0.02, m + 0.006, 0.1, rgb("70604a"))
    p.polygon(arc(m, 0.26, 0.2, 0.21, 180, 360, 16), rgb("6fae9d"))
    p.rect(m - 0.22, 0.24, m + 0.22, 0.32, stone)
    p.polygon([(m - 0.72 * a, 0.42), (m, 0.26), (m + 0.72 * a, 0.42)], shade)
    p.polygon([(m - 0.6 * a, 0.41), (m, 0.285), (m + 0.6 * a, 0.41)], stone)
    p.rect(0, 0.41, a, 0.46, stone)
    p.rect(0, 0.455, a, 0.47, shade)
    p.rect(0, 0.47, a, 0.86, rgb("a8906a"))
    count = 7
    for i in range(count):
        x = (i + 0.5) * a / count
        w = a / count * 0.28
        p.rect(x - w, 0.47, x + w, 0.86, stone)
        p.rect(x + w * 0.3, 0.47, x + w, 0.86, shade)
        p.rect(x - w * 1.35, 0.46, x + w * 1.35, 0.495, stone)
        p.rect(x - w * 1.35, 0.82, x + w * 1.35, 0.86, stone)
    for i in range(4):
        p.rect(0, 0.86 + 0.035 * i, a, 0.9 + 0.035 * i, mix(stone, shade, 0.25 * i))


def harbour(p: Pen, a: float, rng: random.Random) -> None:
    """Blue water, sailing boats, a striped lighthouse, a wooden quay."""
    sky(p, *day(rng, rgb("4fb3e8"), rgb("cdeffc")), 0.5)
    cloud(p, rng.uniform(0.2, 0.8) * a, 0.1, 0.09)
    p.rect(0, 0.5, a, 0.9, rgb("1878b4"))
    for _ in range(16):
        x, y = rng.uniform(0, a), rng.uniform(0.53, 0.85)
        p.line([(x, y), (x + rng.uniform(0.05, 0.12), y)], rgb("7cc8ee"), 0.009)
    left = rng.random() < 0.5
    h = 0.13 * a if left else 0.87 * a
    p.blob([(h - 0.2, 0.55), (h - 0.1, 0.47), (h + 0.1, 0.47), (h + 0.2, 0.55)], rgb("77705f"))
    for i in range(5):
        y1, y2 = 0.17 + i * 0.062, 0.232 + i * 0.062
        w1, w2 = 0.05 + i * 0.006, 0.056 + i * 0.006
        p.polygon([(h - w1, y1), (h + w1, y1), (h + w2, y2), (h - w2, y2)], WHITE if i % 2 else rgb("e0393b"))
    p.rect(h - 0.04, 0.1, h + 0.04, 0.17, rgb("ffe27a"))
    p.polygon([(h - 0.06, 0.1), (h, 0.05), (h + 0.06, 0.1)], rgb("e0393b"))
    b = 0.84 * a if left else 0.16 * a
    for x, s, code in ((b, 1.0, "ffffff"), (b + (-0.3 if left else 0.3) * a, 0.6, "ffd9a0")):
        p.polygon(
            [(x - 0.12 * s, 0.56), (x + 0.13 * s, 0.56), (x + 0.08 * s, 0.63), (x - 0.08 * s, 0.63)],
            rgb("8c2f2a"),
        )
        p.line([(x, 0.56), (x, 0.56 - 0.34 * s)], rgb("5b3a25"), 0.012)
        p.polygon([(x + 0.012, 0.54), (x + 0.012, 0.56 - 0.33 * s), (x + 0.13 * s, 0.54)], rgb(code))
        p.polygon(
            [(x - 0.012, 0.54), (x - 0.012, 0.56 - 0.29 * s), (x - 0.1 * s, 0.54)], darker(rgb(code), 0.12)
        )
    for _ in range(3):
        x, y = rng.uniform(0.05, 0.95) * a, rng.uniform(0.06, 0.3)
        p.line([(x - 0.03, y - 0.012), (x, y), (x + 0.03, y - 0.012)], rgb("4a5563"), 0.008)
    wood = rgb("a9713f")
    p.rect(0, 0.86, a, 1, wood)
    for i in range(9):
        p.line([(i * a / 8, 0.86), ((i - 4) * a / 7 + a / 2, 1.0)], darker(wood, 0.35), 0.008)


def market(p: Pen, a: float, rng: random.Random) -> None:
    """Striped awnings over crates of fruit."""
    sky(p, rgb("ffd79a"), rgb("ffb877"))
    p.rect(0, 0.3, a, 0.66, rgb("9a5f3a"))
    stripes = 10
    for half, code in ((0, "e23b3b"), (1, "2f9e55")):
        x0 = half * a / 2
        for i in range(stripes // 2):
            w = a / stripes
            colour = rgb(code) if i % 2 == 0 else rgb("fff8ea")
            x = x0 + i * w
            p.polygon([(x, 0.08), (x + w, 0.08), (x + w, 0.26), (x, 0.26)], colour)
            p.ellipse(x + w / 2, 0.26, w / 2, 0.045, colour)
    p.rect(0, 0.06, a, 0.09, rgb("7a4a2a"))
    for i in range(12):
        x = (i + 0.5) * a / 12
        p.ellipse(x, 0.36 + 0.02 * ((i * 5) % 3), 0.015, 0.015, rgb("fff2b0"))
    fruits = ("ff8c1a", "d92b2b", "8cc63f", "ffd84a", "8e44ad", "ff8c1a")
    for i in range(6):
        x1, x2 = i * a / 6 + 0.01, (i + 1) * a / 6 - 0.01
        fruit = rgb(fruits[(i + rng.randrange(6)) % 6])
        r = (x2 - x1) / 7
        for row in range(3):
            for j in range(3):
                x = x1 + (x2 - x1) * (j + 0.5 + 0.25 * (row % 2)) / 3.3
                p.ellipse(x, 0.72 - row * r * 1.3, r, r, darker(fruit, 0.25))
                p.ellipse(x - 0.006, 0.715 - row * r * 1.3, r * 0.8, r * 0.8, fruit)
        p.rect(x1, 0.73, x2, 0.88, rgb("c8904f"))
        p.rect(x1, 0.79, x2, 0.805, rgb("8a5a2c"))
    p.rect(0, 0.88, a, 1, rgb("7d6a58"))


def mountains(p: Pen, a: float, rng: random.Random) -> None:
    """Snow-capped peaks over pines."""
    sky(p, *day(rng, rgb("7fb2f0"), rgb("ffe3d0")), 0.6)
    p.ellipse(rng.choice((0.1, 0.9)) * a, 0.12, 0.07, 0.07, rgb("fff0a8"))
    for x, top, w, code in (
        (0.5, 0.2, 0.5, "8f97c9"),
        (0.14, 0.16, 0.42, "646ca8"),
        (0.86, 0.12, 0.46, "565e9c"),
    ):
        x, top = x * a + rng.uniform(-0.04, 0.04), top + rng.uniform(-0.03, 0.05)
        w *= max(a, 1.0)
        rock = rgb(code)
        p.polygon([(x - w, 0.78), (x, top), (x + w, 0.78)], rock)
        p.polygon([(x, top), (x + w, 0.78), (x + 0.15 * w, 0.78)], darker(rock, 0.25))
        d = 0.17
        snow = [(x, top), (x + w * d / 0.6, top + d), (x + 0.06, top + d * 0.75), (x + 0.02, top + d * 1.1)]
        p.polygon([*snow, (x - 0.05, top + d * 0.8), (x - w * d / 0.6, top + d)], WHITE)
    p.blob(
        [(-0.2, 0.74), (a * 0.3, 0.66), (a * 0.7, 0.72), (a + 0.2, 0.64), (a + 0.2, 1.1), (-0.2, 1.1)],
        rgb("5aa04e"),
    )
    for i in range(9):
        x = (i + rng.uniform(0.1, 0.9)) * a / 9
        y, s = 0.72 + rng.uniform(0, 0.1), rng.uniform(0.7, 1.2)
        pine = mix(rgb("1f5c3a"), rgb("2f7d4a"), rng.random())
        p.rect(x - 0.01, y, x + 0.01, y + 0.05, rgb("5b3a25"))
        for j in range(3):
            w, t = (0.075 - 0.016 * j) * s, y - 0.055 * j * s
            p.polygon([(x - w, t), (x, t - 0.1 * s), (x + w, t)], pine)


def street(p: Pen, a: float, rng: random.Random) -> None:
    """A row of painted houses, a lamp, a road with a white line."""
    sky(p, *day(rng, rgb("a8d4f5"), rgb("eef6fb")), 0.4)
    paints = [rgb(c) for c in ("e8735a", "f2b84b", "6fa8c9", "d98fb0", "8fbf7f", "c9a27a")]
    rng.shuffle(paints)
    x, i = -rng.uniform(0, 0.1), 0
    while x < a:
        w, top = rng.uniform(0.24, 0.32), rng.uniform(0.08, 0.22)
        wall = paints[i % 6]
        p.rect(x, top, x + w, 0.78, wall)
        p.polygon([(x - 0.015, top), (x + w / 2, top - 0.11), (x + w + 0.015, top)], darker(wall, 0.45))
        for row in range(3):
            for col in range(2):
                wx, wy = x + w * (0.16 + 0.42 * col), top + 0.06 + row * 0.16
                p.rect(wx - 0.01, wy - 0.01, wx + 0.085, wy + 0.11, WHITE)
                p.rect(wx, wy, wx + 0.075, wy + 0.1, rgb("ffe9a0") if rng.random() < 0.4 else rgb("4f7391"))
        p.rect(x + w - 0.012, top, x + w, 0.78, darker(wall, 0.3))
        x, i = x + w, i + 1
    p.rect(0, 0.74, a, 0.82, rgb("c9c5bd"))
    p.rect(0, 0.82, a, 1, rgb("565a63"))
    for i in range(6):
        p.rect(i * a / 5 - 0.06, 0.9, i * a / 5 + 0.06, 0.92, WHITE)
    lamp = rng.choice((0.07, 0.93)) * a
    p.rect(lamp - 0.011, 0.2, lamp + 0.011, 0.82, rgb("2a2f38"))
    p.ellipse(lamp, 0.17, 0.1, 0.1, clear(rgb("fff3b0"), 0.35))
    p.ellipse(lamp, 0.17, 0.045, 0.055, rgb("fff3b0"))
    p.polygon([(lamp - 0.06, 0.13), (lamp, 0.08), (lamp + 0.06, 0.13)], rgb("2a2f38"))
