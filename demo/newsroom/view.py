"""How a scene is photographed: picture size, framing, light, compression; and where the head ends up."""

from __future__ import annotations

import random
from dataclasses import dataclass

from demo.newsroom.cast import Person

Box = tuple[int, int, int, int]
"""x1, y1, x2, y2 in pixels; x2 and y2 are exclusive."""

# Widths and heights in pixels; smaller pictures are more frequent because large ones cost the most time.
SIZES: tuple[tuple[int, int], ...] = (
    (256, 256),
    (288, 224),
    (288, 256),
    (256, 304),
    (320, 240),
    (320, 256),
    (320, 288),
    (304, 352),
    (352, 256),
    (384, 288),
    (400, 320),
    (448, 320),
    (512, 384),
    (640, 448),
)
_SIZE_WEIGHTS = (6, 6, 6, 5, 7, 6, 5, 4, 6, 5, 3, 2, 1, 1)

# Reach of a head from the centre of the face in half face widths: left = right, top, bottom. Hair included.
REACH: dict[str, tuple[float, float, float]] = {
    "long": (1.58, 1.63, 2.4),
    "short-woman": (1.48, 1.64, 1.27),
    "short-man": (1.21, 1.66, 1.27),
    "curly": (1.74, 1.89, 1.33),
    "tied-up": (1.21, 2.28, 1.27),
    "bald": (1.21, 1.26, 1.27),
}
OVAL = (1.06, 1.2, 1.32)
"""Reach of the face itself, without hair and ears, in the same units."""
BEARD_REACH = 1.55


@dataclass(frozen=True, slots=True)
class View:
    """Framing of one picture; lengths in pixels.

    Attributes:
        width: Picture width.
        height: Picture height.
        cx: Horizontal centre of the face.
        cy: Vertical centre of the face.
        unit: Half of the width of the face.
        side: 1 when the thing is held on the right of the picture, -1 on the left.
        light: -1 (light from the left) to 1 (from the right).
        warmth: -1 (cold) to 1 (warm) tint.
        quality: JPEG quality, 60 to 95.
        backdrop: Seed of the details of the background.
    """

    width: int
    height: int
    cx: float
    cy: float
    unit: float
    side: int
    light: float
    warmth: float
    quality: int
    backdrop: int


def choose_view(rng: random.Random) -> View:
    """Draws the framing of a picture at random."""
    width, height = rng.choices(SIZES, _SIZE_WEIGHTS)[0]
    side = rng.choice((-1, 1))
    unit = max(rng.uniform(0.165, 0.2) * min(width, height * 1.05), 0.128 * width)
    return View(
        width=width,
        height=height,
        cx=width * (0.5 - side * rng.uniform(0.0, 0.1)),
        cy=height * rng.uniform(0.40, 0.44),
        unit=unit,
        side=side,
        light=rng.uniform(-1.0, 1.0),
        warmth=rng.uniform(-1.0, 1.0),
        quality=rng.randint(60, 95),
        backdrop=rng.getrandbits(32),
    )


def hair_shape(person: Person) -> str:
    """Key of `REACH`: the hair style, told apart by cut where one word names two cuts."""
    return f"short-{person.gender}" if person.hair_style == "short" else person.hair_style


def _clip(view: View, side: float, top: float, bottom: float) -> Box:
    u = view.unit
    return (
        max(0, int(view.cx - side * u)),
        max(0, int(view.cy - top * u)),
        min(view.width, int(view.cx + side * u) + 1),
        min(view.height, int(view.cy + bottom * u) + 1),
    )


def face_box(view: View) -> Box:
    """Box of the face without hair."""
    return _clip(view, *OVAL)


def head_box(view: View, *people: Person) -> Box:
    """Smallest box that holds the head, with hair and beard, of each of `people` in this framing."""
    reach = [REACH[hair_shape(p)] for p in people]
    bottom = max([r[2] for r in reach] + [BEARD_REACH for p in people if p.beard])
    return _clip(view, max(r[0] for r in reach), max(r[1] for r in reach), bottom)
