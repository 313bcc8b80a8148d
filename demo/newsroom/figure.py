"""The body below the head: neck, shoulders, clothes, arm and hand.

Local unit: half the width of the face; origin: the centre of the face.
"""

from __future__ import annotations

from demo.newsroom.canvas import WHITE, Pen, clear, darker, lighter, mix, rgb
from demo.newsroom.cast import Person
from demo.newsroom.face import skin_of

CLOTHES = {
    "blue": rgb("3b78d8"),
    "green": rgb("3f9b57"),
    "red": rgb("cf3a3f"),
    "yellow": rgb("eebd35"),
    "purple": rgb("7d4fb5"),
    "teal": rgb("2a9d9a"),
    "orange": rgb("ec7f2b"),
    "navy": rgb("2c3a66"),
}
SUITS = frozenset({"mayor", "senator", "minister", "lawyer", "judge"})
COATS = frozenset({"doctor", "scientist", "chef"})


def body(p: Pen, person: Person, light: float) -> None:
    """Draws neck and clothes; they stay as they are when the face is swapped."""
    colour = CLOTHES[person.clothes]
    skin = skin_of(person)
    wide = 2.05 if person.gender == "man" else 1.8
    right = [(0.5, 1.52), (wide * 0.75, 1.78), (wide, 2.35), (wide + 0.22, 5.0)]
    torso = [*[(-x, y) for x, y in reversed(right)], *right]
    outer = WHITE if person.role in COATS else colour
    p.polygon([(x + 0.1, y + 0.08) for x, y in torso], clear((10, 8, 30), 0.22))
    p.blob(torso, outer if outer != WHITE else rgb("eef1f6"), steps=4)
    dark = -1 if light > 0 else 1
    flank = [
        (dark * wide * 0.62, 1.9),
        (dark * wide, 2.4),
        (dark * (wide + 0.2), 5.0),
        (dark * wide * 0.8, 5.0),
    ]
    p.polygon(flank, clear(darker(outer, 0.6), 0.3))
    p.polygon([(-0.44, 0.7), (0.44, 0.7), (0.5, 1.66), (0.0, 2.0), (-0.5, 1.66)], skin)
    shade = clear(mix(skin, rgb("5a1a22"), 0.45), 0.6)
    p.blob([(-0.46, 0.95), (0.46, 0.95), (0.44, 1.3), (0.0, 1.56), (-0.44, 1.3)], shade)
    if person.role in SUITS:
        _suit(p, colour, person)
    elif person.role in COATS:
        _coat(p, colour)
    else:
        _jumper(p, colour)


def _suit(p: Pen, colour: tuple[int, int, int], person: Person) -> None:
    p.polygon([(-0.52, 1.56), (0, 2.0), (0.52, 1.56), (0.42, 2.2), (0, 3.4), (-0.42, 2.2)], rgb("fbfbff"))
    if person.gender == "man":
        tie = rgb("c8342f") if person.clothes != "red" else rgb("24305e")
        p.polygon(
            [(-0.13, 1.98), (0.13, 1.98), (0.17, 2.18), (0.26, 3.2), (0, 3.5), (-0.26, 3.2), (-0.17, 2.18)],
            tie,
        )
        p.polygon([(-0.13, 1.98), (0.13, 1.98), (0.1, 2.18), (-0.1, 2.18)], darker(tie, 0.3))
    for side in (-1, 1):
        p.polygon(
            [(side * 0.5, 1.5), (side * 0.72, 1.66), (side * 0.6, 2.3), (0, 3.6), (side * 0.34, 2.3)],
            darker(colour, 0.3),
        )
        p.polygon([(side * 0.46, 1.5), (side * 0.56, 1.62), (side * 0.3, 2.08), (0, 1.92)], WHITE)


def _coat(p: Pen, colour: tuple[int, int, int]) -> None:
    p.polygon([(-0.52, 1.56), (0, 2.1), (0.52, 1.56), (0.62, 2.2), (0.3, 5), (-0.3, 5), (-0.62, 2.2)], colour)
    for side in (-1, 1):
        p.polygon(
            [(side * 0.5, 1.5), (side * 0.82, 1.7), (side * 0.74, 2.4), (side * 0.2, 3.6)], rgb("d5dae4")
        )
    p.polygon([(-0.5, 1.6), (0.5, 1.6), (0.0, 2.12)], lighter(colour, 0.25))


def _jumper(p: Pen, colour: tuple[int, int, int]) -> None:
    p.blob(
        [
            (-0.62, 1.56),
            (-0.5, 1.62),
            (0, 2.0),
            (0.5, 1.62),
            (0.62, 1.56),
            (0.5, 1.95),
            (0, 2.24),
            (-0.5, 1.95),
        ],
        darker(colour, 0.28),
    )
    p.curve([(-0.66, 1.9), (-0.4, 2.18), (0, 2.36), (0.4, 2.18), (0.66, 1.9)], lighter(colour, 0.25), 0.07)


def arm(p: Pen, person: Person, hand: tuple[float, float]) -> None:
    """Draws the sleeve from the right shoulder to the hand; mirror the pen for the left."""
    colour = rgb("eef1f6") if person.role in COATS else CLOTHES[person.clothes]
    x, y = hand
    p.line([(1.5, 3.6), (x, y + 0.25)], darker(colour, 0.35), 0.74)
    p.line([(1.5, 3.56), (x - 0.02, y + 0.25)], darker(colour, 0.1), 0.64)


def fist(p: Pen, person: Person, hand: tuple[float, float]) -> None:
    """Draws the hand that grips the thing, over the thing."""
    skin = skin_of(person)
    edge = mix(skin, rgb("5a1a22"), 0.4)
    x, y = hand
    p.ellipse(x, y + 0.02, 0.3, 0.28, edge)
    p.ellipse(x, y, 0.27, 0.25, skin)
    for i in range(3):
        p.curve([(x - 0.24, y - 0.08 + 0.11 * i), (x - 0.05, y - 0.12 + 0.11 * i)], edge, 0.035)
