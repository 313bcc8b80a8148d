"""Hair: one shape behind the head and one in front per style.

Local unit: half the width of the face; origin: its centre.
"""

from __future__ import annotations

from demo.newsroom.canvas import Pen, Point, clear, darker, lighter
from demo.newsroom.cast import Person
from demo.newsroom.face import HAIR, skin_of
from demo.newsroom.view import hair_shape


def _mirror(points: list[Point]) -> list[Point]:
    return [(-x, y) for x, y in points]


def hair_behind(p: Pen, person: Person) -> None:
    """What hangs behind neck and shoulders."""
    colour = darker(HAIR[person.hair_colour], 0.3)
    shape = hair_shape(person)
    if shape == "long":
        right = [(0.9, -1.35), (1.36, -0.7), (1.38, 0.2), (1.5, 1.2), (1.52, 2.1), (1.0, 2.36)]
        p.blob([(0, -1.6), *right, (0, 2.2), *reversed(_mirror(right))], colour)
    elif shape == "short-woman":
        right = [(0.85, -1.3), (1.32, -0.6), (1.42, 0.2), (1.4, 0.8), (1.0, 1.12)]
        p.blob([(0, -1.55), *right, (0, 0.9), *reversed(_mirror(right))], colour)
    elif shape == "curly":
        for x, y, r in _curls(person):
            p.ellipse(x, y, r, r, colour)
    elif shape == "tied-up":
        base = HAIR[person.hair_colour]
        p.ellipse(0, -1.68, 0.6, 0.56, colour)
        p.ellipse(-0.04, -1.72, 0.53, 0.48, base)
        p.curve([(-0.36, -1.66), (-0.1, -1.98), (0.3, -1.86)], lighter(base, 0.28), 0.08)
        p.curve([(-0.2, -1.5), (0.08, -1.72), (0.36, -1.62)], colour, 0.07)


def _curls(person: Person) -> list[tuple[float, float, float]]:
    ring: list[tuple[float, float, float]] = [(0.0, -1.4, 0.46), (0.55, -1.25, 0.46), (1.0, -0.88, 0.44)]
    ring += [(1.22, -0.4, 0.4)]
    if person.gender == "woman":
        ring += [(1.3, 0.1, 0.4), (1.26, 0.58, 0.38), (1.12, 0.95, 0.34)]
    return ring + [(-x, y, r) for x, y, r in ring if x]


def hair_in_front(p: Pen, person: Person, light: float) -> None:
    """Fringe, parting and the locks beside the face; a shine for bald heads."""
    base = HAIR[person.hair_colour]
    dark, bright = darker(base, 0.25), lighter(base, 0.35 if person.hair_colour != "black" else 0.2)
    lit = 1 if light > 0 else -1
    shape = hair_shape(person)
    if shape == "bald":
        skin = skin_of(person)
        p.ellipse(lit * 0.34, -0.92, 0.28, 0.14, clear(lighter(skin, 0.8), 0.75))
        return
    if shape == "curly":
        fringe = [(0.0, -1.12, 0.36), (0.48, -1.04, 0.36), (0.86, -0.72, 0.3), (-0.48, -1.04, 0.36)]
        fringe += [(-0.86, -0.72, 0.3), (0.24, -1.42, 0.4), (-0.26, -1.42, 0.4), (0.72, -1.26, 0.36)]
        fringe += [(-0.72, -1.26, 0.36), (1.08, -0.5, 0.26), (-1.08, -0.5, 0.26)]
        for x, y, r in fringe:
            p.ellipse(x, y, r, r, base)
        strands = (
            (0.1, -1.5),
            (0.62, -1.28),
            (-0.5, -1.36),
            (0.9, -0.8),
            (-0.9, -0.8),
            (-0.15, -1.1),
            (0.42, -0.98),
        )
        for x, y in strands:
            tone = dark if x * lit < 0 else bright
            p.curve([(x - 0.14, y + 0.08), (x, y - 0.08), (x + 0.14, y + 0.06)], tone, 0.06)
        return
    if shape == "long":
        p.blob(
            [(0.1, -1.56), (0.85, -1.34), (1.28, -0.7), (1.26, 0.3), (1.36, 1.3), (1.3, 2.1), (1.02, 1.7)]
            + [(1.02, 0.9), (0.98, 0.0), (0.78, -0.62), (0.35, -0.98), (-0.12, -1.12)],
            base,
        )
        p.blob(
            [
                (0.2, -1.56),
                (-0.8, -1.38),
                (-1.28, -0.7),
                (-1.26, 0.3),
                (-1.36, 1.3),
                (-1.3, 2.1),
                (-1.02, 1.7),
            ]
            + [(-1.02, 0.9), (-0.98, 0.0), (-0.86, -0.5), (-0.5, -0.86), (0.1, -1.1)],
            base,
        )
        for side in (-1, 1):
            tone = bright if side == lit else dark
            p.curve(
                [(side * 0.5, -1.3), (side * 1.0, -0.8), (side * 1.12, 0.1), (side * 1.2, 1.2)], tone, 0.08
            )
    elif shape == "short-woman":
        p.blob(
            [(0.3, -1.56), (1.0, -1.2), (1.34, -0.5), (1.36, 0.4), (1.26, 0.92), (1.0, 0.98), (1.0, 0.2)]
            + [
                (0.9, -0.4),
                (0.5, -0.62),
                (-0.3, -0.72),
                (-0.9, -0.5),
                (-1.0, 0.2),
                (-1.0, 0.98),
                (-1.26, 0.92),
            ]
            + [(-1.36, 0.4), (-1.34, -0.5), (-1.0, -1.2), (-0.3, -1.56)],
            base,
        )
        p.curve([(-0.95, -0.62), (-0.4, -1.0), (0.2, -1.1)], dark, 0.06)
        p.curve([(lit * 0.5, -1.36), (lit * 1.02, -0.9), (lit * 1.18, -0.2)], bright, 0.09)
        p.curve([(lit * 1.2, 0.1), (lit * 1.18, 0.6)], bright, 0.07)
    elif shape == "short-man":
        p.blob(
            [
                (-1.06, -0.1),
                (-1.14, -0.7),
                (-0.86, -1.24),
                (-0.3, -1.5),
                (0.4, -1.62),
                (0.94, -1.34),
                (1.16, -0.8),
            ]
            + [
                (1.06, -0.1),
                (0.94, -0.5),
                (0.74, -0.84),
                (0.2, -0.88),
                (-0.4, -0.98),
                (-0.82, -0.78),
                (-0.94, -0.4),
            ],
            base,
        )
        p.curve([(-0.6, -1.08), (-0.1, -1.26), (0.4, -1.16)], dark, 0.07)
        p.curve([(lit * 0.1, -1.42), (lit * 0.6, -1.34), (lit * 0.94, -1.0)], bright, 0.09)
    else:
        p.blob(
            [
                (-1.06, 0.0),
                (-1.12, -0.6),
                (-0.84, -1.16),
                (0, -1.42),
                (0.84, -1.16),
                (1.12, -0.6),
                (1.06, 0.0),
            ]
            + [(0.94, -0.45), (0.6, -0.84), (0, -1.0), (-0.6, -0.84), (-0.94, -0.45)],
            base,
        )
        for x in (-0.5, 0.0, 0.5):
            p.curve(
                [(x * 1.4, -0.86), (x * 1.0, -1.16), (x * 0.3, -1.34)], dark if x * lit <= 0 else bright, 0.06
            )
