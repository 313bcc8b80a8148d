"""The things people hold, each drawn around the hand at (0, 0) for the right side of the picture.

Local unit: half the width of the face.
"""

from __future__ import annotations

from collections.abc import Callable

from demo.newsroom.canvas import WHITE, Pen, arc, clear, darker, lighter, mix, rgb, smooth

GOLD = rgb("f5b921")
INK = rgb("23202e")


def trophy(p: Pen) -> None:
    """A golden cup with two handles on a dark foot."""
    for side in (-1, 1):
        p.ring(side * 0.5, -0.95, 0.3, 0.32, darker(GOLD, 0.15), 0.11)
    p.polygon([(-0.12, -0.4), (0.12, -0.4), (0.2, 0.1), (-0.2, 0.1)], darker(GOLD, 0.2))
    cup = [(-0.6, -1.4), (0.6, -1.4), (0.55, -0.85), (0.3, -0.45), (-0.3, -0.45), (-0.55, -0.85)]
    p.polygon(cup, GOLD)
    p.polygon([(0.2, -1.4), (0.6, -1.4), (0.55, -0.85), (0.3, -0.45), (0.1, -0.45)], darker(GOLD, 0.18))
    p.ellipse(0, -1.4, 0.62, 0.13, lighter(GOLD, 0.35))
    p.ellipse(0, -1.39, 0.48, 0.08, darker(GOLD, 0.35))
    p.polygon([(-0.42, -1.2), (-0.28, -1.2), (-0.24, -0.7), (-0.34, -0.75)], lighter(GOLD, 0.7))
    p.rect(-0.42, 0.06, 0.42, 0.34, rgb("5a3524"), 0.05)
    p.rect(-0.2, 0.13, 0.2, 0.26, GOLD)


def microphone(p: Pen) -> None:
    """A reporter's microphone with a red cube."""
    p.polygon([(-0.13, -0.5), (0.13, -0.5), (0.09, 0.75), (-0.09, 0.75)], INK)
    p.ellipse(0, -1.05, 0.44, 0.48, rgb("5c6370"))
    p.ellipse(-0.05, -1.1, 0.36, 0.4, rgb("8b93a1"))
    for i in (-0.2, 0.0, 0.2):
        p.line([(i - 0.22, -1.3 + abs(i) * 0.4), (i + 0.16, -0.78 - abs(i) * 0.3)], rgb("5c6370"), 0.035)
        p.line([(i + 0.2, -1.32 + abs(i) * 0.4), (i - 0.18, -0.8 - abs(i) * 0.3)], rgb("5c6370"), 0.035)
    p.ellipse(-0.17, -1.25, 0.1, 0.1, rgb("dfe4ec"))
    p.rect(-0.36, -0.66, 0.36, -0.22, rgb("d8232f"), 0.05)
    p.rect(0.12, -0.66, 0.36, -0.22, rgb("a81824"), 0.05)
    for y in (-0.52, -0.4):
        p.line([(-0.24, y), (0.02, y)], WHITE, 0.06)


def book(p: Pen) -> None:
    """A thick closed book with a blue cover and a golden star."""
    cover = rgb("2458b8")
    p.polygon([(-0.62, -1.12), (0.52, -1.28), (0.72, 0.2), (-0.46, 0.4)], darker(cover, 0.45))
    p.polygon([(-0.56, -1.06), (0.64, -1.2), (0.78, 0.14), (-0.4, 0.32)], rgb("f7efda"))
    p.polygon([(-0.7, -1.16), (0.5, -1.32), (0.64, 0.06), (-0.54, 0.24)], cover)
    p.polygon([(-0.7, -1.16), (-0.54, -1.18), (-0.38, 0.22), (-0.54, 0.24)], darker(cover, 0.3))
    p.line([(-0.36, -1.06), (0.38, -1.16), (0.49, -0.06), (-0.25, 0.06), (-0.36, -1.06)], GOLD, 0.05)
    star = []
    for i in range(10):
        radius = 0.27 if i % 2 == 0 else 0.11
        star.append(arc(0.06, -0.56, radius, radius, -90 + 36 * i, -90 + 36 * i, 1)[0])
    p.polygon(star, GOLD)


def flowers(p: Pen) -> None:
    """A bunch of bright flowers in paper."""
    leaf = rgb("3f9b45")
    for x in (-0.5, -0.2, 0.15, 0.48):
        p.line([(x * 0.2, 0.2), (x, -0.9)], darker(leaf, 0.2), 0.07)
    for x, y in ((-0.62, -0.62), (0.62, -0.66), (0.02, -0.55)):
        p.ellipse(x, y, 0.2, 0.13, leaf)
    p.polygon([(-0.5, -0.5), (0.5, -0.5), (0.14, 0.55), (-0.14, 0.55)], rgb("fdf3e3"))
    p.polygon([(0.1, -0.5), (0.5, -0.5), (0.14, 0.55), (0.0, 0.55)], rgb("e6d3b6"))
    heads = (
        (-0.52, -0.95, "ff5fa2"),
        (0.5, -1.0, "ff5fa2"),
        (-0.02, -0.72, "ffffff"),
        (-0.2, -1.28, "ffd23f"),
        (0.25, -1.36, "c05cf0"),
        (0.02, -1.03, "ff5fa2"),
    )
    for x, y, code in heads:
        petal = rgb(code)
        for angle in range(0, 360, 72):
            dx, dy = arc(0, 0, 0.15, 0.15, angle + x * 90, angle + x * 90, 1)[0]
            p.ellipse(x + dx, y + dy, 0.135, 0.135, petal)
        p.ellipse(x, y, 0.1, 0.1, rgb("f59a1b") if code != "ffd23f" else rgb("8a4b12"))


def umbrella(p: Pen) -> None:
    """An open umbrella in turquoise and yellow, held up beside the head."""
    wood, teal, yellow = rgb("6b4a33"), rgb("12b5b0"), rgb("ffd84a")
    x, y = 0.62, -2.2
    p.line([(x, y), (-0.06, 0.3)], wood, 0.09)
    p.curve([(-0.06, 0.3), (-0.1, 0.55), (0.08, 0.66), (0.22, 0.5)], wood, 0.1)
    c = p.at(x, y)
    c.line([(0.06, -1.02), (0, -0.8)], INK, 0.08)
    for radius, colour in ((1.14, teal), (0.74, yellow), (0.28, teal)):
        c.polygon(arc(0, 0, radius, 0.92, 180, 360, 16), colour)
    for x1, x2, colour in (
        (-1.14, -0.74, teal),
        (-0.74, -0.28, yellow),
        (-0.28, 0.28, teal),
        (0.28, 0.74, yellow),
        (0.74, 1.14, teal),
    ):
        c.ellipse((x1 + x2) / 2, 0, (x2 - x1) / 2, 0.1, darker(colour, 0.3))
    c.polygon([*arc(0, 0, 1.14, 0.92, 285, 360, 10), (0.55, 0)], clear((10, 30, 60), 0.14))


def dog(p: Pen) -> None:
    """A brown puppy with a white muzzle, carried on the arm."""
    coat = rgb("b5713a")
    p.blob([(-0.55, 0.55), (-0.6, -0.2), (0, -0.5), (0.6, -0.2), (0.6, 0.6), (0, 0.8)], coat)
    p.ellipse(0.02, 0.2, 0.3, 0.4, rgb("fbf1e2"))
    p.ellipse(0, -0.72, 0.6, 0.55, coat)
    p.ellipse(0.26, -0.84, 0.28, 0.3, darker(coat, 0.25))
    for side in (-1, 1):
        ear = [(0.34, -1.16), (0.66, -1.2), (0.86, -0.6), (0.68, -0.3), (0.5, -0.7)]
        p.blob([(x * side, y) for x, y in ear], darker(coat, 0.5))
        p.ellipse(side * 0.24, -0.82, 0.12, 0.13, WHITE)
        p.ellipse(side * 0.23, -0.8, 0.085, 0.1, INK)
        p.ellipse(side * 0.23 - 0.03, -0.84, 0.03, 0.03, WHITE)
    p.ellipse(0, -0.48, 0.32, 0.25, rgb("fbf1e2"))
    p.ellipse(0, -0.28, 0.11, 0.16, rgb("f2748c"))
    p.ellipse(0, -0.58, 0.15, 0.11, INK)
    p.rect(-0.36, -0.24, 0.36, -0.12, rgb("d8232f"), 0.05)
    p.ellipse(0, -0.08, 0.1, 0.1, GOLD)
    for side in (-1, 1):
        p.ellipse(side * 0.3, 0.55, 0.18, 0.15, rgb("fbf1e2"))


def football(p: Pen) -> None:
    """A white football with black patches."""
    p.ellipse(0, -0.4, 0.76, 0.76, rgb("c9ccd6"))
    p.ellipse(-0.06, -0.45, 0.69, 0.69, rgb("fbfbfd"))
    p.polygon(arc(-0.05, -0.42, 0.27, 0.27, -90, 198, 4), INK)
    for angle in range(-90, 270, 72):
        seam = [
            arc(-0.05, -0.42, 0.27, 0.27, angle, angle, 1)[0],
            arc(0, -0.4, 0.54, 0.54, angle, angle, 1)[0],
        ]
        p.line(seam, INK, 0.05)
        rim = arc(0, -0.4, 0.74, 0.74, angle - 20, angle + 20, 3)
        p.polygon([*rim, *arc(0, -0.4, 0.52, 0.52, angle + 9, angle - 9, 1)], INK)


def newspaper(p: Pen) -> None:
    """A folded newspaper with a masthead, a picture and columns of grey lines."""
    paper = rgb("f3f1ea")
    p.polygon([(-0.7, -1.22), (0.74, -1.1), (0.66, 0.5), (-0.78, 0.38)], rgb("aaa89f"))
    p.polygon([(-0.76, -1.28), (0.68, -1.16), (0.6, 0.44), (-0.84, 0.32)], paper)
    p.polygon([(-0.65, -1.15), (0.57, -1.05), (0.555, -0.84), (-0.66, -0.94)], INK)
    p.polygon([(-0.67, -0.8), (-0.06, -0.75), (-0.09, -0.2), (-0.7, -0.25)], rgb("8d99a8"))
    hills = [(-0.69, -0.42), (-0.4, -0.6), (-0.25, -0.45), (-0.08, -0.55), (-0.09, -0.2), (-0.7, -0.25)]
    p.polygon(hills, INK)
    for i in range(5):
        y = -0.68 + i * 0.12
        p.line([(0.06, y), (0.52, y + 0.04)], rgb("6d6b70"), 0.045, False)
    for i in range(4):
        y = -0.1 + i * 0.12
        p.line([(-0.7, y), (-0.12, y + 0.05)], rgb("6d6b70"), 0.045, False)
        p.line([(0.04, y + 0.06), (0.5, y + 0.1)], rgb("6d6b70"), 0.045, False)


def guitar(p: Pen) -> None:
    """An acoustic guitar with its neck up beside the head."""
    wood = rgb("e0862b")
    p.polygon([(0.28, -2.5), (0.5, -2.42), (0.12, -0.6), (-0.1, -0.66)], rgb("4a2b1b"))
    p.polygon([(0.24, -2.86), (0.62, -2.74), (0.54, -2.36), (0.26, -2.44)], rgb("2c1a12"))
    for dx, dy in ((0.18, -2.74), (0.2, -2.56), (0.66, -2.6), (0.64, -2.44)):
        p.ellipse(dx, dy, 0.06, 0.06, rgb("e8e8ee"))
    body = [(-0.1, -0.95), (0.42, -0.8), (0.42, -0.3), (0.5, 0.1), (0.42, 0.6), (-0.1, 0.78), (-0.66, 0.5)]
    body += [(-0.72, 0.0), (-0.48, -0.38), (-0.48, -0.76)]
    p.blob(body, darker(wood, 0.45))
    p.blob([(x * 0.88 - 0.02, y * 0.9 - 0.03) for x, y in body], wood)
    p.ellipse(-0.07, -0.2, 0.25, 0.25, rgb("3a2014"))
    p.ring(-0.07, -0.2, 0.29, 0.29, rgb("fbe0a8"), 0.045)
    p.polygon([(-0.36, 0.36), (0.1, 0.44), (0.08, 0.53), (-0.38, 0.45)], rgb("3a2014"))
    for i in range(3):
        p.line([(0.34 + i * 0.06, -2.4), (-0.22 + i * 0.1, 0.42)], rgb("f7ead2"), 0.018, False)


def cake(p: Pen) -> None:
    """A pink birthday cake with candles on a plate."""
    pink, cream = rgb("ff8fb8"), rgb("fff4ea")
    p.ellipse(0, 0.16, 0.95, 0.17, rgb("bfc6d4"))
    p.ellipse(0, 0.12, 0.92, 0.15, rgb("eef1f7"))
    p.rect(-0.7, -0.5, 0.7, 0.1, rgb("9a5a34"))
    p.ellipse(0, 0.1, 0.7, 0.13, rgb("9a5a34"))
    p.rect(-0.7, -0.24, 0.7, -0.12, cream)
    p.rect(-0.7, -0.62, 0.7, -0.38, pink)
    for i in range(6):
        p.ellipse(-0.58 + i * 0.232, -0.38, 0.12, 0.13 + 0.05 * (i % 2), pink)
    p.ellipse(0, -0.62, 0.7, 0.15, lighter(pink, 0.45))
    for i, code in enumerate(("4aa8ff", "ffd23f", "5fd068", "b57bff")):
        x = -0.42 + i * 0.28
        p.rect(x - 0.05, -1.08, x + 0.05, -0.62, rgb(code))
        p.ellipse(x, -1.2, 0.11, 0.16, clear(rgb("ffb02e"), 0.6))
        p.ellipse(x, -1.17, 0.06, 0.1, rgb("ffe066"))


def balloon(p: Pen) -> None:
    """A red balloon on a string, floating beside the head."""
    red = rgb("e8232f")
    p.curve([(0, 0.3), (0.12, -0.3), (0.2, -0.8), (0.5, -1.3)], rgb("f5f2ea"), 0.045)
    b = p.at(0.45, -0.1)
    b.polygon([(-0.1, -1.1), (0.26, -1.1), (0.08, -1.3)], darker(red, 0.25))
    shape = [(0.08, -1.22), (-0.55, -1.7), (-0.6, -2.35), (0.08, -2.85), (0.76, -2.35), (0.71, -1.7)]
    b.blob(shape, darker(red, 0.22))
    b.blob([(x * 0.87 - 0.03, y * 0.93 - 0.17) for x, y in shape], red)
    b.blob([(-0.36, -2.05), (-0.38, -2.35), (-0.16, -2.6), (-0.18, -2.3)], mix(red, WHITE, 0.75))


def flag(p: Pen) -> None:
    """A waving flag in orange, white and blue on a pole."""
    p.line([(0.3, -2.95), (-0.08, 0.75)], rgb("7a5230"), 0.1)
    p.ellipse(0.31, -3.0, 0.11, 0.11, GOLD)
    wave = ((0.0, 0.0), (0.5, -0.16), (1.0, 0.08), (1.5, -0.08))
    for i, code in enumerate(("f2762e", "ffffff", "2b4fc7")):
        top = [(x + 0.3 - 0.045 * i, -2.85 + 0.48 * i + dy) for x, dy in smooth(wave, closed=False, steps=4)]
        p.polygon([*top, *[(x - 0.045, y + 0.49) for x, y in reversed(top)]], rgb(code))
    p.polygon([(0.68, -3.0), (0.98, -2.9), (0.86, -1.46), (0.56, -1.56)], clear((20, 20, 60), 0.13))


THINGS: dict[str, Callable[[Pen], None]] = {
    "trophy": trophy,
    "microphone": microphone,
    "book": book,
    "flowers": flowers,
    "umbrella": umbrella,
    "dog": dog,
    "football": football,
    "newspaper": newspaper,
    "guitar": guitar,
    "cake": cake,
    "balloon": balloon,
    "flag": flag,
}
