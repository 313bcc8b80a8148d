"""Faces: skin, features and the six expressions.

Local unit: half the width of the face; origin: its centre.
"""

from __future__ import annotations

from demo.newsroom.canvas import WHITE, Pen, Point, arc, clear, darker, lighter, mix, rgb
from demo.newsroom.cast import Person

SKIN = (rgb("fbdcc6"), rgb("f3c6a0"), rgb("dda56e"), rgb("b47b4b"), rgb("7f4e30"))
HAIR = {
    "black": rgb("1f1c28"),
    "brown": rgb("7a4526"),
    "blond": rgb("f2cf62"),
    "red": rgb("d5481a"),
    "grey": rgb("b4bac4"),
}
LIPS_WOMAN, LIPS_MAN = rgb("c22a3f"), rgb("9c3f3a")
MOUTH, TONGUE = rgb("5c0f1c"), rgb("ee6a7a")
TEAR, TEAR_LIGHT = rgb("4fb4f2"), rgb("d5f1ff")
INK = rgb("2a1d24")


def outline(person: Person) -> list[Point]:
    """The contour of a face, rounder for women and squarer at the jaw for men."""
    jaw = 0.72 if person.gender == "woman" else 0.84
    chin = 0.3 if person.gender == "woman" else 0.42
    right = [(0.62, -1.08), (0.95, -0.6), (1.0, -0.05), (0.95, 0.45), (jaw, 0.88), (chin, 1.17)]
    return [(0.0, -1.22), *right, (0.0, 1.22), *_mirrored(right)]


def skin_of(person: Person) -> tuple[int, int, int]:
    """The person's skin tone."""
    return SKIN[person.skin]


def brow_colour(person: Person) -> tuple[int, int, int]:
    """Brows: the hair, darkened enough to read on the skin."""
    return darker(HAIR[person.hair_colour], 0.15 if person.hair_colour == "black" else 0.45)


def face(p: Pen, person: Person, expression: str, light: float) -> None:
    """Draws ears, face, beard and features; hair and glasses come later.

    Args:
        p: Pen at the centre of the face.
        person: Whose face.
        expression: A key of `EXPRESSIONS`.
        light: -1 (from the left) to 1 (from the right).
    """
    skin = skin_of(person)
    shade = mix(skin, rgb("7a2a2a"), 0.22)
    for side in (-1, 1):
        p.ellipse(side * 1.0, 0.02, 0.17, 0.27, mix(skin, shade, 0.4))
        p.ellipse(side * 1.02, 0.03, 0.08, 0.15, shade)
    contour = outline(person)
    p.blob(contour, skin)
    # The side away from the light lies in shadow.
    dark = -1 if light > 0 else 1
    far = [(0.55, -1.1), (0.98, -0.55), (1.0, 0.0), (0.94, 0.45), (0.7, 0.9), (0.3, 1.18)]
    far += [(0.68, 0.6), (0.8, 0.0)]
    p.blob([(dark * x, y) for x, y in far], clear(shade, 0.55))
    blush = 0.5 if expression in ("shout", "laugh") else 0.32
    for side in (-1, 1):
        p.ellipse(
            side * 0.6, 0.3, 0.23, 0.16, clear(rgb("f0605a"), blush * (0.9 if person.skin < 3 else 0.5))
        )
    if person.beard:
        _beard(p, person)
    _nose(p, shade, skin, dark)
    _eyes(p, person, expression, skin)
    _brows(p, person, expression)
    _mouth(p, person, expression)
    if expression == "weep":
        _tears(p)
    if person.gender == "woman":
        for side in (-1, 1):
            p.ellipse(side * 1.02, 0.34, 0.09, 0.09, rgb("f5b921"))


def _beard(p: Pen, person: Person) -> None:
    hair = HAIR[person.hair_colour]
    right = [(1.02, -0.1), (1.02, 0.45), (0.84, 1.0), (0.45, 1.42)]
    inner = [(-0.84, 0.0), (-0.74, 0.35), (-0.42, 0.4), (0.0, 0.36), (0.42, 0.4), (0.74, 0.35), (0.84, 0.0)]
    p.blob([*right, (0, 1.5), *[(-x, y) for x, y in reversed(right)], *inner], hair, steps=4)
    p.curve([(-0.5, 1.05), (-0.2, 1.3), (0.2, 1.3), (0.5, 1.05)], lighter(hair, 0.2), 0.05)


def _nose(p: Pen, shade: tuple[int, int, int], skin: tuple[int, int, int], dark: int) -> None:
    p.polygon([(dark * 0.06, -0.02), (dark * 0.2, 0.3), (0, 0.35)], clear(shade, 0.5))
    p.curve([(-0.15, 0.27), (-0.06, 0.36), (0.06, 0.36), (0.15, 0.27)], darker(shade, 0.25), 0.055)
    p.ellipse(-dark * 0.05, 0.2, 0.05, 0.07, lighter(skin, 0.5))


_IRIS = (rgb("4a6fa5"), rgb("5b7f4c"), rgb("6a4325"), rgb("3b2416"))


def _eyes(p: Pen, person: Person, expression: str, skin: tuple[int, int, int]) -> None:
    woman = person.gender == "woman"
    lid = 0.075 if woman else 0.055
    iris = _IRIS[2 + person.skin % 2] if person.skin > 1 else _IRIS[len(person.first) % 3]
    for side in (-1, 1):
        e = p.at(side * 0.42, -0.12, flip=side < 0)
        if expression == "laugh":
            e.curve([(-0.25, 0.09), (-0.12, -0.1), (0.1, -0.1), (0.25, 0.08)], INK, 0.1)
            continue
        if expression == "weep":
            e.ellipse(0, 0, 0.25, 0.16, mix(skin, rgb("7a2a2a"), 0.15))
            e.curve([(-0.25, -0.02), (-0.1, 0.12), (0.12, 0.12), (0.26, 0.0)], INK, 0.09)
            continue
        tall = {"shout": 0.26, "calm": 0.21, "frown": 0.19}.get(expression, 0.23)
        e.ellipse(0, 0, 0.27, tall, WHITE)
        e.ellipse(0, 0.01, 0.16, min(0.17, tall), iris)
        e.ellipse(0, 0.01, 0.085, 0.09, INK)
        e.ellipse(0.055, -0.06, 0.045, 0.045, WHITE)
        if expression == "frown":
            e.polygon(arc(0, -0.02, 0.29, tall + 0.03, 180, 360, 8), mix(skin, rgb("7a2a2a"), 0.18))
            e.line([(-0.27, -0.02), (0.27, -0.02)], INK, lid)
        elif expression == "calm":
            e.polygon([*arc(0, 0, 0.29, tall + 0.03, 205, 335, 8)], skin)
            e.curve([(-0.28, -0.02), (-0.12, -0.12), (0.12, -0.12), (0.28, -0.04)], INK, lid)
        else:
            e.curve([(-0.28, 0.0), (-0.12, -tall), (0.12, -tall), (0.28, -0.02)], INK, lid)
        if woman:
            e.line([(0.25, -0.05), (0.37, -0.15)], INK, 0.06)


_BROWS: dict[str, list[Point]] = {
    # Inner end, middle, outer end; y relative to the eye.
    "smile": [(-0.24, -0.34), (0.02, -0.46), (0.3, -0.34)],
    "laugh": [(-0.24, -0.4), (0.02, -0.54), (0.3, -0.4)],
    "calm": [(-0.26, -0.34), (0.02, -0.37), (0.3, -0.32)],
    "frown": [(-0.3, -0.16), (0.0, -0.31), (0.3, -0.33)],
    "weep": [(-0.28, -0.54), (0.0, -0.4), (0.3, -0.24)],
    "shout": [(-0.34, -0.18), (0.0, -0.4), (0.32, -0.58)],
}


def _brows(p: Pen, person: Person, expression: str) -> None:
    width = 0.1 if person.gender == "woman" else 0.14
    if expression == "shout":
        width += 0.03
    for side in (-1, 1):
        p.at(side * 0.42, -0.12, flip=side < 0).curve(_BROWS[expression], brow_colour(person), width)


def _mouth(p: Pen, person: Person, expression: str) -> None:
    lips = LIPS_WOMAN if person.gender == "woman" else LIPS_MAN
    if person.beard:
        lips = rgb("d9766b")
    elif person.skin >= 3:
        lips = rgb("a3343f")
    m = p.at(0, 0.72)
    if expression == "smile":
        right = [(0.3, -0.06), (0.56, -0.16), (0.3, 0.2)]
        m.blob([(0, -0.03), *right, (0, 0.27), *_mirrored(right)], lips)
        right = [(0.24, -0.01), (0.46, -0.09), (0.24, 0.1)]
        m.blob([(0, 0.01), *right, (0, 0.14), *_mirrored(right)], WHITE)
    elif expression == "laugh":
        m.polygon([(-0.6, -0.2), (0.6, -0.2), *arc(0, -0.2, 0.6, 0.62, 0, 180, 14)], lips)
        m.polygon([(-0.52, -0.15), (0.52, -0.15), *arc(0, -0.15, 0.52, 0.5, 0, 180, 14)], MOUTH)
        m.ellipse(0, 0.22, 0.26, 0.13, TONGUE)
        m.polygon([(-0.51, -0.15), (0.51, -0.15), (0.44, 0.03), (-0.44, 0.03)], WHITE)
    elif expression == "calm":
        m.ellipse(0, 0.05, 0.26, 0.09, mix(lips, rgb("f2a59a"), 0.35))
        m.curve([(-0.34, -0.02), (-0.1, 0.02), (0.1, 0.02), (0.34, -0.02)], darker(lips, 0.35), 0.07)
    elif expression == "frown":
        tone = lips if person.beard else MOUTH if person.skin >= 3 else darker(lips, 0.3)
        m.curve([(-0.47, 0.23), (-0.26, 0.0), (0.0, -0.08), (0.26, 0.0), (0.47, 0.23)], tone, 0.15)
        m.curve([(-0.14, 0.26), (0, 0.22), (0.14, 0.26)], clear(INK, 0.25), 0.05)
    elif expression == "weep":
        upper = [(-0.36, 0.24), (-0.2, -0.1), (0, -0.15), (0.2, -0.1), (0.36, 0.24)]
        m.blob([*upper, (0.18, 0.14), (0, 0.12), (-0.18, 0.14)], MOUTH)
        m.curve(upper, lips, 0.08)
    else:
        right = [(0.42, -0.2), (0.46, 0.2), (0.28, 0.4)]
        m.blob([(0, -0.3), *right, (0, 0.43), *_mirrored(right)], lips)
        right = [(0.35, -0.14), (0.38, 0.18), (0.22, 0.33)]
        m.blob([(0, -0.23), *right, (0, 0.35), *_mirrored(right)], MOUTH)
        right = [(0.17, -0.2), (0.34, -0.14), (0.32, -0.02)]
        m.polygon([*right, *_mirrored(right)], WHITE)
        m.ellipse(0, 0.24, 0.2, 0.09, TONGUE)


def _mirrored(right: list[Point]) -> list[Point]:
    """The left half of a closed contour: `right` mirrored, backwards."""
    return [(-x, y) for x, y in reversed(right)]


def _tears(p: Pen) -> None:
    for side in (-1, 1):
        t = p.at(side * 0.46, 0.0, flip=side < 0)
        drop = [(-0.1, 0.05), (0.1, 0.05), (0.2, 0.5), (0.17, 0.8), (0.02, 0.86), (-0.12, 0.7), (-0.08, 0.4)]
        t.blob(drop, TEAR)
        t.blob([(-0.02, 0.12), (0.03, 0.12), (0.06, 0.5), (0.0, 0.7), (-0.04, 0.5)], TEAR_LIGHT)


def glasses(p: Pen, person: Person) -> None:
    """Draws the person's glasses, if any, over hair and face."""
    if not person.glasses:
        return
    frame = (
        rgb("1c1c24") if person.hair_colour in ("blond", "grey", "red") or person.skin < 3 else rgb("e8d9b0")
    )
    for side in (-1, 1):
        p.ellipse(side * 0.44, -0.1, 0.38, 0.34, clear(rgb("cfeaff"), 0.25))
        p.ring(side * 0.44, -0.1, 0.42, 0.38, frame, 0.1)
        p.line([(side * 0.84, -0.14), (side * 1.02, -0.2)], frame, 0.09)
        p.line([(side * 0.44 - 0.2, 0.0), (side * 0.44 + 0.02, -0.3)], clear(WHITE, 0.55), 0.06)
    p.curve([(-0.07, -0.12), (0, -0.17), (0.07, -0.12)], frame, 0.09)
