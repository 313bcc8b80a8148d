"""All places by name."""

from __future__ import annotations

import random
from collections.abc import Callable

from demo.newsroom.canvas import Pen
from demo.newsroom.indoors import courtroom, hospital, school, theatre
from demo.newsroom.outdoors import harbour, market, mountains, parliament, stadium, street

Place = Callable[[Pen, float, random.Random], None]
"""Draws a place: a pen whose unit is the height of the picture, the aspect ratio, the seed of the details."""

DRAW_PLACE: dict[str, Place] = {
    "stadium": stadium,
    "parliament": parliament,
    "harbour": harbour,
    "school": school,
    "hospital": hospital,
    "market": market,
    "mountains": mountains,
    "street": street,
    "courtroom": courtroom,
    "theatre": theatre,
}
