"""Draws a scene: the place, the person, the thing, the light."""

from __future__ import annotations

import random

import numpy as np
from PIL import Image, ImageChops

from demo.newsroom.canvas import Pen
from demo.newsroom.face import face, glasses
from demo.newsroom.figure import arm, body, fist
from demo.newsroom.hair import hair_behind, hair_in_front
from demo.newsroom.places import DRAW_PLACE
from demo.newsroom.scene import Scene
from demo.newsroom.things import THINGS
from demo.newsroom.view import View

SUPERSAMPLING = 2
HAND = (1.62, 2.3)
"""Where the hand is, in half face widths from the centre of the face, for a thing held on the right."""


def _light(image: Image.Image, view: View) -> Image.Image:
    """Darkens the corners and the side away from the light, and tints the whole."""
    grid = np.linspace(-1.0, 1.0, 9, dtype=np.float32)
    x, y = grid[None, :], grid[:, None]
    shade = 1.0 - 0.13 * np.clip(x * x + y * y - 0.5, 0, None) + 0.05 * view.light * x - 0.05
    tint = np.array([1.0 + 0.04 * view.warmth, 1.0, 1.0 - 0.05 * view.warmth], dtype=np.float32)
    mask = np.clip(shade[..., None] * tint * 255.0, 0, 255).astype(np.uint8)
    return ImageChops.multiply(image, Image.fromarray(mask).resize(image.size, Image.Resampling.BILINEAR))


def draw(scene: Scene, view: View) -> Image.Image:
    """Draws a scene in a framing.

    Args:
        scene: What to show.
        view: Picture size, position of the head, light.

    Returns:
        An RGB image of `view.width` x `view.height` pixels. Two scenes that differ in the face or expression
        only give pictures that are equal outside `head_box` of the faces.
    """
    k = SUPERSAMPLING
    image = Image.new("RGB", (view.width * k, view.height * k))
    place = Pen(image, unit=view.height * k)
    DRAW_PLACE[scene.place](place, view.width / view.height, random.Random(view.backdrop))

    p = Pen(image, view.cx * k, view.cy * k, view.unit * k)
    near, far = scene.named, scene.looks
    hair_behind(p, far)
    body(p, near, view.light)
    face(p, far, scene.expression, view.light)
    hair_in_front(p, far, view.light)
    glasses(p, far)
    hand = p.at(0, 0, flip=view.side < 0)
    arm(hand, near, HAND)
    THINGS[scene.object](hand.at(*HAND))
    fist(hand, near, HAND)
    return _light(image.reduce(k), view)
